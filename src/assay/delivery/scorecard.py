"""The scorecard of a canary, for people: ``canary_scorecard.md`` and ``.html``."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from assay.delivery.canary import CanaryFinding
from assay.delivery.paired import ShadowComparison
from assay.domain.instants import Instant, render
from assay.domain.verdicts import Verdict
from assay.registry.deployments import CanaryDeployment
from assay.storage.files import write_atomic

NAME = "canary_scorecard"
_NOT_MEASURED = "not measured"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1a1d21}table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{text-align:left;"
    "padding:.35rem .6rem;border-bottom:1px solid #d8dce0;font-variant-numeric:tabular-nums}"
    ".wide{overflow-x:auto}@media(prefers-color-scheme:dark){body{background:#14171a;"
    "color:#e6e8ea}th,td{border-color:#3a4046}}"
)

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Scorecard:
    """A canary at one moment; ``ended`` is whether it ended with this look."""

    model: str
    canary: CanaryDeployment
    finding: CanaryFinding
    comparison: ShadowComparison
    ended: bool
    at: Instant

    @property
    def headline(self) -> str:
        """What came of it, in one sentence."""
        what = {
            Verdict.PASS: "keeps every margin so far; that is no reason to promote it by itself",
            Verdict.FAIL: "does harm",
            Verdict.INDETERMINATE: "is undecided",
        }[self.finding.verdict]
        end = " It was ended; the champion answers for everything." if self.ended else ""
        return f"{self.model} {self.canary.version} {what}.{end}"

    def tables(self) -> list[Table]:
        """Titles, columns and rows."""
        found, live = self.comparison, self.comparison.live
        old, new = found.latency_ms["champion"], found.latency_ms["challenger"]
        figures: list[tuple[str, ...]] = [
            ("latency_p95, ms", _number(old["p95"]), _number(new["p95"])),
            ("psi of predictions", "0", _number(live.psi)),
            ("rank correlation", "1", _number(live.rank_correlation)),
            ("rows without an answer", "0", f"{sum(found.errors.values()):,} of {found.rows:,}"),
            ("ic, daily difference", "0", _outcome(self.finding, "ic")),
            ("pnl of a unit portfolio, daily difference", "0", _outcome(self.finding, "pnl")),
            ("sharpe_delta", _NOT_MEASURED, _NOT_MEASURED),
            ("order_fill_rate", _NOT_MEASURED, _NOT_MEASURED),
        ]
        tests: list[tuple[str, ...]] = [
            (name, _number(one["mean"]), f"{one['observations']:,}", _number(one["p_harm"]),
             _number(one["p_health"]))
            for name, one in self.finding.numbers.items()
            if isinstance(one, dict) and "p_harm" in one
        ]  # fmt: skip
        entities: list[tuple[str, ...]] = [
            (one.entity, f"{one.pairs:,}", f"{one.errors:,}", _number(one.mean_difference),
             _number(one.opposite))
            for one in found.entities[:20]
        ]  # fmt: skip
        return [
            ("Before and after", ("figure", f"champion {found.champion}",
                                  f"canary {found.challenger}"), figures),
            ("Tests", ("test", "mean", "observations", "p of harm", "p of health"), tests),
            ("Where they differ most", ("entity", "pairs", "errors", "mean difference",
                                        "opposite side"), entities),
        ]  # fmt: skip

    def facts(self) -> list[str]:
        """What the canary is."""
        one = self.canary
        numbers = self.finding.numbers
        return [
            (
                f"Share {one.share:.1%} of entities since {render(one.since)}, revision "
                f"{one.revision}, begun by {one.by}."
            ),
            (
                f"{numbers.get('pairs', 0):,} pairs, {numbers.get('answers', 0):,} answers by the "
                f"canary, {numbers.get('fallbacks', 0):,} by the champion in its place."
            ),
            (
                "Every p-value is valid whenever one looks; the level of each test is "
                f"{numbers.get('level', 0.0):.3g}."
            ),
            f"Written {render(self.at)}.",
        ]


def write_scorecard(folder: Path, card: Scorecard) -> Path:
    """Write both files; the path of the page in HTML."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{NAME}.md", _markdown(card).encode())
    page = folder / f"{NAME}.html"
    write_atomic(page, _html(card).encode())
    return page


def _markdown(card: Scorecard) -> str:
    lines = [f"# Canary: {card.model} {card.canary.version}", "",
             f"**{card.finding.verdict}**. {card.headline}", ""]  # fmt: skip
    lines += [f"- {reason}" for reason in card.finding.reasons]
    lines += ["", *(f"{fact}  " for fact in card.facts())]
    for title, columns, rows in card.tables():
        lines += ["", f"## {title}", "", _cells(columns), _cells(["---"] * len(columns))]
        lines += [_cells(row) for row in rows] or [_cells(["none", *[""] * (len(columns) - 1)])]
    return "\n".join(lines) + "\n"


def _cells(values: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(one.replace("|", "\\|").replace("\n", " ") for one in values) + " |"


def _html(card: Scorecard) -> str:
    def row(tag: str, values: tuple[str, ...]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(one)}</{tag}>" for one in values) + "</tr>"

    title = escape(f"Canary: {card.model} {card.canary.version}")
    parts = [
        (
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8" />'
            '<meta name="viewport" content="width=device-width, initial-scale=1" />'
            f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
            f"<p><strong>{card.finding.verdict}</strong>. {escape(card.headline)}</p><ul>"
        ),
        *(f"<li>{escape(reason)}</li>" for reason in card.finding.reasons),
        "</ul>",
        *(f"<p>{escape(fact)}</p>" for fact in card.facts()),
    ]
    for name, columns, rows in card.tables():
        body = "".join(row("td", one) for one in rows)
        parts.append(
            f'<h2>{escape(name)}</h2><div class="wide"><table><thead>{row("th", columns)}</thead>'
            f"<tbody>{body}</tbody></table></div>"
        )
    return "".join(parts) + "</body></html>\n"


def _number(value: float | None) -> str:
    return _NOT_MEASURED if value is None else f"{value:.4g}"


def _outcome(finding: CanaryFinding, name: str) -> str:
    found = finding.numbers.get(name)
    if not isinstance(found, dict) or found.get("value") is None:
        return _NOT_MEASURED
    return f"{found['value']:.4g} over {found['dates']} dates (p of harm {found['p_value']:.2g})"
