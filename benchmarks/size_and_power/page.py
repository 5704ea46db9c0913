"""The simulations as a page with plots: how often noise passes, how often an edge is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]

INTRO = """# Size and power of every gate

How often noise passes, and how often something real is found, by simulation. Written by `python
-m benchmarks.size_and_power`, from `benchmarks/results/size_and_power.json`. Bars are two
standard errors of the simulation. A dashed line is the level that a test claims, where it claims
one: noise right of it means that the test believes too much.

The default thresholds of a new desk (`configs/gates.yaml`) were chosen from these curves:
`deflated_sharpe` in the form of 2025, because the one of 2014 finds half as many edges; `pbo`
below 0.2, which noise passes in 5 to 8 % of cases and which must not stand alone; `spa` at 0.10,
each resample by its own spread, because the published form believes too much of returns that
crash. No gate alone is a proof. Together they are hard to pass by luck: `assay gates noise`
counts how hard, on a desk's own data.
"""
TITLES = {
    "sharpe_family": "Sharpe ratios, overfitting, data snooping",
    "information": "Information coefficient",
    "forecasts": "Forecast losses and value at risk",
    "calibration": "Probabilities",
    "multiplicity": "Many tests at once",
    "sequential": "Tests that are looked at every day",
    "distances": "Drift",
    "portfolio": "Controls of a backtest",
}
_REAL = (
    *("in one of", "difference 0.5", "difference 1", "difference 2", "daily edge", "edge, daily"),
    *("0.2 against 0.5", "15 % high", "20 % low", "1.5 times", "mean -0.2", "moved by"),
)
"""What the data say when there is something to find."""
_JUDGED = {
    "PSR hac, single": "> 0.95",
    "DSR 2014, raw": "> 0.95",
    "DSR 2025, raw": "> 0.95",
    "DSR 2025, effective": "> 0.95",
    "PBO": "< 0.2",
    "SPA, consistent": "p <= 0.1",
    "StepM": "p <= 0.1",
    "Sharpe difference, bootstrap": "p <= 0.1",
}
"""What a policy judges of the largest family; the table has the rest."""
_WIDTH, _LINE, _LEFT, _RIGHT, _TOP = 960, 20, 570, 40, 34


def render_page(families: Mapping[str, Rows]) -> str:
    """The page in Markdown; the plots lie beside it as ``size-<family>.svg``."""
    parts = [INTRO]
    for family, rows in families.items():
        parts.append(f"\n## {TITLES[family]}\n\n![{TITLES[family]}](size-{family}.svg)\n")
        parts.append("\n| test | data | n | passes if | passes | ± | repetitions |\n")
        parts.append("|---|---|---|---|---|---|---|\n")
        parts += [
            f"| {row['test']} | {row['data']} | {row['n']:,} | {_threshold(row)} "
            f"| {100 * row['pass_rate']:.1f} % | {100 * row['standard_error']:.1f} "
            f"| {row['repetitions']:,} |\n"
            for row in rows
        ]
    return "".join(parts)


def render_plot(title: str, rows: Rows) -> str:
    """One line for each row: its rate with two standard errors, and the claimed level."""
    longest = max(row["n"] for row in rows)
    if any(row["test"] in _JUDGED for row in rows):
        rows = [
            row
            for row in rows
            if _JUDGED.get(row["test"]) == row["threshold"] and row["n"] == longest
        ]
    height = _TOP + _LINE * len(rows) + 30
    span = _WIDTH - _LEFT - _RIGHT
    body = [
        f'<text x="{_LEFT}" y="16" class="h">{_text(title)}: share that passes</text>',
        *(
            f'<line x1="{_at(tick, span):.1f}" x2="{_at(tick, span):.1f}" y1="{_TOP - 8}" '
            f'y2="{height - 26}" class="g"/><text x="{_at(tick, span):.1f}" y="{height - 10}" '
            f'text-anchor="middle">{100 * tick:.0f} %</text>'
            for tick in (0.0, 0.25, 0.5, 0.75, 1.0)
        ),
    ]
    for number, row in enumerate(rows):
        y = _TOP + _LINE * number + 6
        rate, error = row["pass_rate"], 2 * row["standard_error"]
        low, high = _at(max(0.0, rate - error), span), _at(min(1.0, rate + error), span)
        label = f"{row['test']} · {row['data']} · {row['n']:,} · {_threshold(row)}"
        body.append(
            f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{_text(_short(label))}</text>'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" class="e"/>'
            f'<circle cx="{_at(rate, span):.1f}" cy="{y}" r="4" class="{_look(row)}"/>'
        )
        level = claimed_level(row)
        if level is not None:
            x = f"{_at(level, span):.1f}"
            body.append(f'<line x1="{x}" x2="{x}" y1="{y - 8}" y2="{y + 8}" class="l"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img"><title>{_text(title)}</title><style>'
        "svg{background:#fff}text{font:11px sans-serif;fill:#333}"
        ".h{font-weight:bold;font-size:13px}"
        ".g{stroke:#e3e3e3}.e{stroke:#777;stroke-width:2}.l{stroke:#b33;stroke-dasharray:3 2}"
        ".n{fill:#b33}.p{fill:#1f6fb2}</style>" + "".join(body) + "</svg>\n"
    )


def claimed_level(row: Mapping[str, Any]) -> float | None:
    """The share of noise that may pass, for p-values and probabilities on noise."""
    if not is_noise(row):
        return None
    words = _threshold(row).split()
    try:
        bound = float(words[-1])
    except (IndexError, ValueError):
        return None
    if words[0] in {"p", "level"}:
        return bound
    return 1 - bound if words[0] == ">" and str(row["test"]).startswith(("PSR", "DSR")) else None


def is_noise(row: Mapping[str, Any]) -> bool:
    """Whether there is nothing to find in the row's data."""
    data = str(row["data"])
    return not any(real in data for real in _REAL)


def _look(row: Mapping[str, Any]) -> str:
    return "n" if is_noise(row) else "p"


def _threshold(row: Mapping[str, Any]) -> str:
    return str(row["threshold"]) if "threshold" in row else f"p <= {row['level']:g}"


def _at(share: float, span: float) -> float:
    return _LEFT + share * span


def _short(label: str) -> str:
    return label if len(label) <= 98 else label[:95] + "..."


def _text(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
