"""The scorecard of a canary, for people: what is on it, and ``canary_scorecard.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.delivery.canary import RANK_FLOOR, CanaryFinding
from assay.delivery.pair_history import ShadowDay
from assay.delivery.paired import ShadowComparison
from assay.domain.instants import Instant, render
from assay.domain.verdicts import Verdict
from assay.registry.deployments import CanaryDeployment
from assay.storage.files import write_atomic

NAME = "canary_scorecard"
_NOT_MEASURED = "not measured"
HARM, HEALTHY, OPEN = "harm", "within its margin", "open"
DAY_COLUMNS = (
    "day (UTC)", "rows", "pairs", "no answer", "dropped", "mean difference", "kept as",
)  # fmt: skip
TEST_COLUMNS = (
    "test", "mean", "says", "observations", "p of harm", "p of health", "by the policy",
)  # fmt: skip
_MEANT = {
    "failures": "rows without a finite answer",
    "ranks": "rank correlation within blocks, each 0.5 at least",
    "distance": "answers further than a standard deviation",
    "latency": "slow turns",
}
_LIMITS = {
    "failures": ("failures", "failures_margin", 1), "distance": ("far", "far_margin", 1),
    "latency": ("slow", "slow_margin", 1), "ranks": ("rank_correlation", "rank_margin", -1),
}  # fmt: skip
"""Limit and margin of a test in the policy, and on which side of the limit the margin lies."""

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
        entities: list[tuple[str, ...]] = [
            (one.entity, f"{one.pairs:,}", f"{one.errors:,}", _number(one.mean_difference),
             _number(one.opposite))
            for one in found.entities[:20]
        ]  # fmt: skip
        return [
            ("Before and after", ("figure", f"champion {found.champion}",
                                  f"canary {found.challenger}"), figures),
            ("Tests", TEST_COLUMNS, rows_of_tests(self.finding)),
            ("Where they differ most", ("entity", "pairs", "errors", "mean difference",
                                        "opposite side"), entities),
            ("Days", DAY_COLUMNS, rows_of_days(found)),
        ]  # fmt: skip

    def rests(self) -> list[tuple[str, str]]:
        """Names and digests by which this can be found again."""
        one = self.canary
        policy = self.finding.numbers.get("policy", {})
        return [
            (f"canary {one.version}", one.digest),
            ("judged from", f"{render(one.since)}, log entry {one.revision}, by {one.by}"),
            ("inputs: pairs and sums", self.comparison.digest),
            ("policy", ", ".join(f"{name} {value:g}" for name, value in policy.items())),
        ]

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
            *remarks(self.comparison),
            *(f"{what.capitalize()}: {which}." for what, which in self.rests()),
            f"Written {render(self.at)}.",
        ]


def remarks(found: ShadowComparison) -> list[str]:
    """What a reader of a comparison must know of its pairs, in sentences."""
    said = [rests_on(found)]
    if found.incident is not None:
        said.append(f"Hours count from the last incident: {found.incident}.")
    if found.replayed:
        said.append("Some pairs are about moments long before they were made: it is a replay.")
    if found.stale:
        said.append(
            f"{found.stale:,} of {found.rows:,} rows had stale features, which a canary does not "
            "compare."
        )
    if found.distinct < found.kept_pairs / 2:
        said.append(
            f"Among the pairs are {found.distinct:,} different pairs of answers: an input that is "
            "asked again counts again, and adds nothing."
        )
    return said


def rests_on(found: ShadowComparison) -> str:
    """Which pairs the figures of a comparison are of, in a sentence."""
    if not found.summarised:
        return "Every figure is of all pairs since it began."
    kept = (
        "no pairs are kept" if found.kept_since is None
        else f"the {found.kept_pairs:,} pairs kept since {render(found.kept_since)[:19]}Z"
    )  # fmt: skip
    return (
        f"Counts, days and hours are of all {found.rows:,} rows; agreement, latency and entities "
        f"are of {kept}. Of {found.summarised:,} older rows only sums by day are left."
    )


def which_is_better(found: ShadowComparison) -> str:
    """What reported outcomes say, in a sentence; agreement alone says nothing about it."""
    known = found.outcomes
    if known is None:
        return (
            "No outcome of these pairs was reported: the figures say how far the versions agree, "
            "and nothing about which is better."
        )
    said = [_difference("IC", known.ic, known.ic_error)]
    if known.pnl is not None:
        said.append(_difference("return of a unit portfolio", known.pnl, known.pnl_error))
    return (
        f"Against {known.dates:,} dates of reported outcomes, challenger less champion by day: "
        f"{'; '.join(said)}. For reading, and no test."
    )


def _difference(what: str, mean: float, error: float | None) -> str:
    if error is None:
        return f"{what} {mean:+.4g}, of one date"
    clear = "" if abs(mean) > 2 * error else ", which is within two of them of no difference"
    return f"{what} {mean:+.4g}, standard error {error:.2g}{clear}"


def rows_of_days(found: ShadowComparison) -> list[tuple[str, ...]]:
    """The days of a comparison under :data:`DAY_COLUMNS`, the latest first."""
    return [
        (one.day, f"{one.rows:,}", f"{one.pairs:,}", f"{one.without_answer:,}",
         f"{one.dropped:,}", "-" if one.difference is None else f"{one.difference:.4g}", _kept(one))
        for one in reversed(found.days)
    ]  # fmt: skip


def _kept(day: ShadowDay) -> str:
    if day.kept_rows == day.rows:
        return "pairs"
    return "sums only" if not day.kept_rows else f"sums, {day.kept_rows / day.rows:.0%} as pairs"


def rows_of_tests(finding: CanaryFinding) -> list[tuple[str, ...]]:
    """The tests of a finding under :data:`TEST_COLUMNS`, with what each says."""
    level = float(finding.numbers.get("level", 0.0))
    policy = finding.numbers.get("policy", {})
    return [
        _test(name, one, level, policy)
        for name, one in finding.numbers.items()
        if isinstance(one, dict) and "p_harm" in one
    ]


def _test(
    name: str, one: Mapping[str, Any], level: float, policy: Mapping[str, Any]
) -> tuple[str, ...]:
    said = HARM if one["p_harm"] <= level else OPEN
    if said == OPEN and one["p_health"] <= level:
        said = HEALTHY
    mean = one["mean"]
    if name == "ranks" and mean is not None:
        mean = RANK_FLOOR + (1.0 - RANK_FLOOR) * mean  # as the policy has it
    limit, margin, side = _LIMITS[name]
    meant, rule = _MEANT[name], _NOT_MEASURED
    if policy:
        harm = policy[limit]
        rule = f"harm beyond {harm:g}, as good within {harm + side * policy[margin]:g}"
        meant = f"turns slower than {policy['slow_ms']:g} ms" if name == "latency" else meant
    return (
        f"{name}: {meant}", _number(mean), said, f"{one['observations']:,}", _p(one["p_harm"]),
        _p(one["p_health"]), rule,
    )  # fmt: skip


def write_markdown(folder: Path, card: Scorecard) -> Path:
    """Write ``canary_scorecard.md``; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.md"
    write_atomic(path, _markdown(card).encode())
    return path


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


def _number(value: float | None) -> str:
    return _NOT_MEASURED if value is None else f"{value:.4g}"


def _p(value: float) -> str:
    return "< 1e-9" if value < 1e-9 else f"{value:.2g}"


def _outcome(finding: CanaryFinding, name: str) -> str:
    found = finding.numbers.get(name)
    if not isinstance(found, dict) or found.get("value") is None:
        return _NOT_MEASURED
    return f"{found['value']:.4g} over {found['dates']} dates (p of harm {found['p_value']:.2g})"
