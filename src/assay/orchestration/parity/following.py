"""The report on online following: JSON for machines, Markdown and a page for people.

``reports/online_following/<date>.json``, ``.md`` and ``.html`` hold the last run of that UTC day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from assay.domain.instants import Instant, render
from assay.domain.order import VersionKey
from assay.domain.verdicts import Verdict
from assay.orchestration.parity.advice import advice_on
from assay.orchestration.parity.proving import OnlineSide, ViewProof

_LAST_DAYS: Final = 31


@dataclass(frozen=True)
class Following:
    """One run over one or several views.

    ``at`` is when it ended, ``enforced`` whether a breach ends the command with 1.
    """

    desk: str
    at: Instant
    enforced: bool
    proofs: tuple[ViewProof, ...]

    @property
    def verdict(self) -> Verdict:
        """FAIL when a view fails, PASS when all pass, otherwise INDETERMINATE."""
        verdicts = {proof.judgement.verdict for proof in self.proofs}
        if Verdict.FAIL in verdicts:
            return Verdict.FAIL
        return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.INDETERMINATE

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do, the most urgent first."""
        said = [one for proof in self.proofs for one in advice_on(proof)]
        return tuple(dict.fromkeys(said))

    def to_json(self) -> dict[str, Any]:
        return {
            "format": 1,
            "desk": self.desk,
            "at": render(self.at),
            "mode": "enforce" if self.enforced else "diagnose",
            "verdict": str(self.verdict),
            "advice": list(self.advice),
            "views": [proof.to_json() for proof in self.proofs],
        }


def markdown_of(following: Following) -> str:
    """The report as Markdown: what was found, what to do, the evidence."""
    mode = "enforcing" if following.enforced else "diagnostic"
    lines = [
        f"# Online following of {_plain(following.desk)}, {render(following.at)[:10]}",
        "",
        f"**{following.verdict}.** Made at {render(following.at)}, {mode}.",
        "",
        *_table(
            ("view", "verdict", "compared with", "from", "to", "rows", "values",
             "equal bit for bit", "largest ULP", "missing", "extra"),
            [_summary(proof) for proof in following.proofs],
        ),
        "",
        "## What to do",
        "",
        *[f"{number}. {one}" for number, one in enumerate(following.advice, start=1)],
    ]  # fmt: skip
    for proof in following.proofs:
        lines += ["", *_view(proof)]
    return "\n".join(lines) + "\n"


def share_of(equal: int, compared: int) -> str:
    """A share in per cent, never rounded up to all of them."""
    if not compared:
        return "nothing compared"
    if equal == compared:
        return "100%"
    return f"{min(100 * equal / compared, 99.999999):.6f}%"


def key_words(key: Sequence[str | int]) -> str:
    """Entity, event time and known time of a row's key, for people."""
    entity, event_time, known_time, *_ = key
    return f"{entity} at {render(int(event_time))}, known {render(int(known_time))}"


def _summary(proof: ViewProof) -> tuple[object, ...]:
    found, report = proof.comparison, proof.report
    horizon = found.horizon.to_json()
    rows = f"{found.offline_rows:,}"
    if found.offline_rows != found.online_rows:
        rows += f" / {found.online_rows:,}"
    return (
        proof.view, f"**{proof.judgement.verdict}**", proof.side,
        horizon["from"] or "the beginning", horizon["to"] or "the end", rows,
        f"{report.values_compared:,}",
        share_of(report.bitwise_equal, report.values_compared), f"{report.largest_ulp:,}",
        f"{report.missing:,}", f"{report.extra:,}",
    )  # fmt: skip


def _view(proof: ViewProof) -> list[str]:
    offline_root, online_root = proof.roots
    lines = [f"## View {proof.view}", "", _how(proof), ""]
    lines += [f"- {_plain(reason)}" for reason in proof.judgement.reasons]
    lines += ["", *_rows_named(proof)] if proof.judgement.reasons else []
    lines += ["### Features", "", *_features(proof), "", _measured(proof), ""]
    lines += [
        "### Roots by day",
        "",
        f"Root over all {len(proof.days):,} days of history: `{offline_root}`  ",
        f"Root over all days of the online side: `{online_root}`",
        "",
        *_days(proof),
    ]
    return lines


def _how(proof: ViewProof) -> str:
    manifest = f"Manifest `{proof.manifest}`, source snapshot `{proof.source}`. "
    if proof.side is OnlineSide.STORE:
        asked = proof.comparison.answers
        said = (
            "Every version that the online store keeps was compared with what was known when, "
            "computed from the facts as they arrived."
        )
        if asked is not None:
            said += (
                f" It was asked {asked.asked:,} times, at every moment at which an answer changes; "
                f"{asked.wrong:,} answers are wrong."
            )
        return manifest + said
    return manifest + (
        "There was no online store to compare with, or it was left aside: the facts were fed one "
        f"by one to the online driver, and compared with gold snapshot `{proof.gold}`."
    )


def _measured(proof: ViewProof) -> str:
    return (
        f"Policy: {proof.policy.describe()}. The distance is the first Wasserstein distance "
        "between all values of either side, over all entities together, in units of the standard "
        "deviation of history. A feature that does not vary has no such unit; under the policy of "
        "distributions its values must be equal."
    )


def _features(proof: ViewProof) -> list[str]:
    rows = []
    for one in sorted(proof.report.features, key=lambda one: one.equal - one.compared):
        distance = "does not vary" if one.degenerate else "none"
        if one.wasserstein is not None:
            distance = f"{one.wasserstein:.3g}"
        rows.append(
            (f"`{one.name}`", f"{one.compared:,}", share_of(one.equal, one.compared),
             f"{one.largest_ulp:,}", f"{one.largest_abs:.3g}", distance, f"{one.one_missing:,}",
             f"{one.nan_against_null:,}")
        )  # fmt: skip
    return _table(
        ("feature", "compared", "equal bit for bit", "largest ULP", "largest difference",
         "distance / spread", "one side missing", "NaN against null"),
        rows,
    )  # fmt: skip


def _rows_named(proof: ViewProof) -> list[str]:
    report, found = proof.report, proof.comparison
    lines: list[str] = []
    if report.differences:
        rows = [
            (_plain(key_words(one.key)), f"`{one.feature}`", one.kind, _value(one.offline),
             _value(one.online), "" if one.ulp is None else f"{one.ulp:,}", one.others)
            for one in report.differences
        ]  # fmt: skip
        lines += ["### Rows that differ, the worst first", ""]
        lines += _table(
            ("row", "worst feature", "how", "history", "online", "ULP", "other features"), rows
        )
        lines.append("")
    named = (
        ("Rows missing online", report.missing, report.missing_keys),
        ("Rows online that history does not know", report.extra, report.extra_keys),
        ("Rows under another manifest", sum(found.foreign.values()), found.foreign_keys),
    )
    for title, count, keys in named:
        if count:
            lines += [f"### {title}: {count:,}", ""]
            lines += [f"- {_plain(key_words(key))}" for key in keys]
            lines += [f"- and {count - len(keys):,} more"] if count > len(keys) else []
            lines.append("")
    if found.answers is not None and found.answers.wrong:
        lines += [f"### Wrong answers of the store: {found.answers.wrong:,}", ""]
        lines += [
            f"- {_plain(one.entity)} at {render(one.moment)}: {_version(one.found)} instead of "
            f"{_version(one.expected)}"
            for one in found.answers.first
        ]
        lines.append("")
    if found.refused:
        lines += [f"### Rows that the store cannot give: {len(found.refused):,}", ""]
        for one in found.refused[: len(report.differences) or 20]:
            where = one.entity if one.key is None else key_words(one.key)
            lines.append(f"- {_plain(where)}: {_plain(one.reason)}")
        lines.append("")
    return lines


def _days(proof: ViewProof) -> list[str]:
    different = [day for day in proof.days if not day.equal]
    shown = sorted({*different[:_LAST_DAYS], *proof.days[-_LAST_DAYS:]}, key=lambda day: day.day)
    rows = [
        (
            day.day,
            day.offline_rows,
            day.online_rows,
            f"`{day.offline_root}`",
            "the same" if day.equal else f"`{day.online_root}`",
            "" if day.first is None else f"{day.what}: {_plain(key_words(day.first))}",
        )
        for day in shown
    ]
    said = f"{len(different):,} of {len(proof.days):,} days differ. "
    if len(shown) < len(proof.days):
        said += "The other days are in the JSON file beside this one."
    titles = ("day (UTC)", "rows, history", "rows, online", "root, history", "root, online",
              "first row that differs")  # fmt: skip
    return [said.strip(), "", *_table(titles, rows)]


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return [
        f"| {' | '.join(titles)} |",
        f"|{'|'.join('---' for _ in titles)}|",
        *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows),
    ]


def _version(key: VersionKey | None) -> str:
    if key is None:
        return "nothing"
    return f"the row of {render(key.event_time)}, known {render(key.known_time)}"


def _value(value: float | None) -> str:
    return "missing" if value is None else repr(value)


def _plain(text: str) -> str:
    """Text that is no Markdown: names come from data."""
    escaped = "".join("\\" + one if one in "\\`*_[]<>|#" else one for one in text)
    return " ".join(escaped.split())  # a line break would end the row of a table
