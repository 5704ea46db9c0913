"""The page's stylesheet and its one small script.

Colours are those of Okabe and Ito, chosen so that people with any colour vision tell them apart;
series differ in their dashes and verdicts in their marks too. The script adds a reading of the
lines under the pointer and is not needed to read the page. Neither contains the characters that
would need escaping inside a document.
"""

from __future__ import annotations

from typing import Final

CSS: Final = """
:root{color-scheme:light dark;--bg:#f4f6f8;--card:#fff;--ink:#17202b;--muted:#55606e;--edge:#d8dee6;
--grid:#e4e8ed;--s1:#0072b2;--s2:#d55e00;--s3:#6b7785;--s4:#009e73;--s5:#a8487f;
--pass:#00664b;--passbg:#e0f3ec;--fail:#9a3600;--failbg:#fde9dc;--open:#604d00;--openbg:#faf0c8;
--live:#0072b2}
@media (prefers-color-scheme:dark){:root{--bg:#0f141a;--card:#171d25;--ink:#e7ecf2;--muted:#a5b0bd;
--edge:#2d3743;--grid:#27303a;--s1:#56b4e9;--s2:#f2994a;--s3:#93a0ae;--s4:#3ecf9f;--s5:#e29bc4;
--pass:#6fdcb5;--passbg:#10352a;--fail:#ffb184;--failbg:#43210d;--open:#f0d76e;--openbg:#3a3108;
--live:#56b4e9}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
.page{max-width:1280px;margin:0 auto;padding:28px 24px 56px}
h1,h2,h3,h4,p,ul,ol,dl,figure{margin:0}
h1{font-size:2.1rem;line-height:1.2;letter-spacing:-.01em}
h2{font-size:1.45rem;margin:44px 0 4px}
h3{font-size:1.15rem;margin:26px 0 10px}
h4{font-size:1.05rem;line-height:1.35}
section p.intro,footer p{color:var(--muted);max-width:75ch;margin-bottom:14px}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
overflow-wrap:anywhere}
.eyebrow{text-transform:uppercase;letter-spacing:.08em;font-size:.8rem;color:var(--muted)}
.muted,.empty,.stage{color:var(--muted)}
.stage{font-weight:400;font-size:.9rem}
nav ul{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;padding:0;margin:18px 0 0;
border-top:1px solid var(--edge);padding-top:12px}
a{color:var(--s1)}
.card{background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:18px 20px;
min-width:0}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,170px),1fr));
gap:12px 20px;margin-top:16px}
.facts dt{font-size:.85rem;color:var(--muted)}
.facts dd{margin:0;font-weight:600;font-size:1.05rem;line-height:1.35}
.facts .pass{color:var(--pass)}.facts .fail{color:var(--fail)}.facts .open{color:var(--open)}
.headlines{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:18px;
margin-top:22px}
.headlines .card{border-left:6px solid var(--s3);font-size:1.02rem}
.headlines .card.live{border-left-color:var(--live)}
.headlines p+p{margin-top:10px}
.who{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 12px}
.name{font-size:1.35rem;font-weight:700}.which{font-size:1.35rem;color:var(--muted)}
.badge,.verdict{display:inline-block;border-radius:6px;padding:1px 9px;font-size:.85rem;
font-weight:650;white-space:nowrap}
.badge.live{background:var(--live);color:var(--card)}
.badge.idle{border:1.5px solid var(--s3);color:var(--muted)}
.verdict.pass{background:var(--passbg);color:var(--pass)}
.verdict.fail{background:var(--failbg);color:var(--fail)}
.verdict.open{background:var(--openbg);color:var(--open)}
.lead{font-size:1.12rem}
.because{color:var(--fail);margin:8px 0;font-weight:550}
.versions{display:grid;gap:18px}
.version .muted{margin-top:2px;font-size:.95rem}
table{border-collapse:collapse;width:100%;font-size:.95rem}
th{text-align:left;font-weight:400}
.gates{margin-top:12px}
.gates thead th{font-size:.82rem;color:var(--muted);padding:4px 12px 4px 0}
.gates>tbody>tr>td,.gates>tbody>tr>th{border-top:1px solid var(--edge);padding:8px 12px 8px 0;
vertical-align:top}
.gates>tbody>tr>td{white-space:nowrap}
.gates>tbody>tr>th{width:52%}
details summary{cursor:pointer}
details summary:focus-visible,a:focus-visible{outline:2px solid var(--s1);outline-offset:2px}
.card>details,.card>p+p,.card>dl+p{margin-top:12px}
section>.card+.card{margin-top:16px}
figure details,.aside,footer details{margin-top:12px;font-size:.92rem;color:var(--muted)}
figure details p{margin-top:6px}
.pairs{margin:8px 0;font-size:.88rem}
.pairs th{color:var(--muted);padding:3px 14px 3px 0;vertical-align:top;width:11em}
.pairs th,.pairs td{line-height:1.4}
.pairs td{padding:3px 0;overflow-wrap:anywhere;}
.numbers{margin-top:8px;font-size:.9rem}
.numbers td,.numbers thead th+th{text-align:right}
.numbers td,.numbers th{padding:3px 0 3px 12px;border-top:1px solid var(--edge)}
.numbers th:first-child{padding-left:0;overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:18px}
.panel{display:flex;flex-direction:column}
.panel figcaption{flex:1}
.panel figcaption p{margin-top:4px}
.wide{grid-column:1/-1}
.reasons{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));
gap:0 36px;margin-top:10px;font-size:.95rem}
.reasons div{border-top:1px solid var(--edge);padding:7px 0}
.reasons dt{font-weight:600}.reasons dd{margin:0}
.plot{height:280px;padding:16px 14px 32px 58px;position:relative}
.chart,.lanes{display:block;overflow:visible}
.grid{stroke:var(--grid);stroke-width:1}
.grid.faint{opacity:.6}
.tick{fill:var(--muted);font-size:13px}
.end{text-anchor:end}.middle{text-anchor:middle}
.strong{fill:var(--ink);font-weight:600}
.level{stroke:var(--ink);stroke-width:1.6}.level.b{stroke-dasharray:6 3 1 3}
.area{fill:var(--s3);opacity:.28}
.line{fill:none;stroke-width:2.2;vector-effect:non-scaling-stroke;stroke-linejoin:round}
.line.thin{stroke-width:1.5}
.dashed{stroke-dasharray:7 4}.dotted{stroke-dasharray:2 3.5}.dashdot{stroke-dasharray:8 3 2 3}
.s1{stroke:var(--s1)}.s2{stroke:var(--s2)}.s3{stroke:var(--s3)}.s4{stroke:var(--s4)}
.s5{stroke:var(--s5)}
.dot{fill:var(--card);stroke-width:2.2;stroke-dasharray:none}
.band{fill:var(--s1);opacity:.18}
.bar{fill:var(--s1)}.bar.marked{fill:var(--s2)}
.legend{display:flex;flex-wrap:wrap;gap:2px 18px;list-style:none;padding:0;margin-top:8px;
font-size:.92rem}
.legend li{display:flex;align-items:center;gap:7px}
.swatch{width:26px;height:0;border-top:3px solid var(--s3)}
.swatch.dashed{border-top-style:dashed}.swatch.dotted{border-top-style:dotted}
.swatch.dashdot{border-top-style:dashed}
.swatch.level{border-top:2px solid var(--ink)}.swatch.level.b{border-top-style:dashed}
.swatch.filled{height:12px;border:0;background:var(--s3);opacity:.45}
.swatch.block{height:12px;border:0;background:var(--live)}
.swatch.block.forced{background:var(--s2)}
.swatch.s1{border-color:var(--s1)}.swatch.s2{border-color:var(--s2)}
.swatch.s3{border-color:var(--s3)}.swatch.s4{border-color:var(--s4)}
.swatch.s5{border-color:var(--s5)}
.scroll{overflow-x:auto;padding:10px 2px 2px}
.hint{display:none;font-size:.85rem;color:var(--muted)}
.span{fill:var(--live)}.span.forced{fill:var(--s2)}.span.none{fill:var(--grid)}
.spanlabel{fill:var(--card);font-size:12px;font-weight:650}
text.mark{fill:var(--ink);font-size:15px}
.legend .mark{font-size:1.05rem;min-width:1em;text-align:center}
text.mark.pass{fill:var(--pass)}text.mark.fail{fill:var(--fail)}text.mark.open{fill:var(--open)}
.log{padding-left:2.4em;margin-top:8px;color:var(--ink)}
.log li{padding:3px 0}
.log .when{color:var(--muted)}
.log .fail{color:var(--fail)}.log .pass{color:var(--pass)}
.reading{position:absolute;top:0;right:14px;background:var(--ink);color:var(--card);font-size:13px;
line-height:1.45;padding:5px 9px;border-radius:6px;pointer-events:none;white-space:pre-line;
max-width:90%;z-index:2}
.cursor{stroke:var(--ink);stroke-width:1;opacity:.5}
@media (max-width:720px){
.page{padding:18px 14px 40px}
h1{font-size:1.7rem}
.card{padding:14px 14px}
.plot{height:240px;padding:14px 6px 30px 46px}
.tick{font-size:12px}
.gates>thead{display:none}
.gates,.gates>tbody,.gates>tbody>tr{display:block}
.gates>tbody>tr{border-top:1px solid var(--edge);padding:10px 0;display:flex;flex-wrap:wrap;
gap:3px 16px}
.gates>tbody>tr>td,.gates>tbody>tr>th{display:block;border:0;padding:0;width:auto}
.gates>tbody>tr>td:first-child{flex:0 0 4.8em}
.gates>tbody>tr>th{flex:1 0 calc(100% - 4.8em - 16px);width:0}
.hint{display:block}
.gates td[data-label]::before{content:attr(data-label)": ";color:var(--muted)}
.pairs tr,.pairs th,.pairs td{display:block;width:auto;padding:0}
.pairs tr{padding:5px 0}
.gates .pairs{margin-left:calc(-4.8em - 16px);width:calc(100% + 4.8em + 16px)}
.gates .pairs,.gates .pairs tbody{display:block}
.facts{grid-template-columns:1fr 1fr}
}
@media print{
:root{--bg:#fff;--card:#fff;--ink:#000;--muted:#444;--edge:#bbb;--grid:#ddd}
body{font-size:11pt}.page{max-width:none;padding:0}
nav,.reading{display:none}
.headlines .card,.panel,figure,tr{break-inside:avoid}
.charts{grid-template-columns:1fr 1fr}
h2,h3{break-after:avoid}
.plot{height:190px}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
"""

SCRIPT: Final = """
(function () {
  var names = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
  function points(path) {
    if (path.points) { return path.points; }
    path.points = path.getAttribute('d').split(/[ML]/).slice(1).map(function (pair) {
      return pair.split(' ').map(Number);
    });
    return path.points;
  }
  document.querySelectorAll('svg.chart[data-x]').forEach(function (svg) {
    var x = svg.getAttribute('data-x').split(' ').map(Number);
    var parts = svg.getAttribute('data-y').split(' ');
    var low = Number(parts[0]), high = Number(parts[1]), unit = svg.getAttribute('data-unit');
    var box = document.createElement('div'), cursor = null;
    box.className = 'reading';
    function value(y) {
      var at = 1 - y / 1000;
      var v = parts[2] ? low * Math.pow(high / low, at) : low + at * (high - low);
      return Number(v.toPrecision(3)).toLocaleString('en') + unit;
    }
    svg.addEventListener('pointermove', function (event) {
      var frame = svg.getBoundingClientRect();
      var at = Math.min(1, Math.max(0, (event.clientX - frame.left) / frame.width));
      var moment = new Date((x[0] + at * (x[1] - x[0])) / 1e6);
      var lines = [moment.getUTCDate() + ' ' + names[moment.getUTCMonth()] + ' '
        + moment.getUTCFullYear()];
      svg.querySelectorAll('path[data-name]').forEach(function (path) {
        var best = points(path).reduce(function (a, b) {
          return Math.abs(a[0] - 1000 * at) > Math.abs(b[0] - 1000 * at) ? b : a;
        });
        lines.push(path.getAttribute('data-name') + ': ' + value(best[1]));
      });
      box.textContent = lines.join(String.fromCharCode(10));
      svg.parentNode.appendChild(box);
      if (!cursor) {
        cursor = document.createElementNS(svg.namespaceURI, 'line');
        cursor.setAttribute('class', 'cursor');
        cursor.setAttribute('y1', '0');
        cursor.setAttribute('y2', '100%');
      }
      cursor.setAttribute('x1', 100 * at + '%');
      cursor.setAttribute('x2', 100 * at + '%');
      svg.appendChild(cursor);
      box.style.right = at > 0.5 ? 'auto' : '14px';
      box.style.left = at > 0.5 ? '60px' : 'auto';
    });
    svg.addEventListener('pointerleave', function () {
      box.remove();
      if (cursor) { cursor.remove(); }
    });
  });
}());
"""
