"""A gate report in words: sentences for a terminal, a table for a document."""

from __future__ import annotations

from assay.delivery.gates import GateReport
from assay.domain.verdicts import GateResult, Outcome, Severity, Verdict

_OUTCOMES = {
    Outcome.PROMOTABLE: "may be promoted: every hard gate passed",
    Outcome.REFUSED: "is refused",
    Outcome.NOT_YET: "may not be promoted yet",
}


def explain(report: GateReport) -> list[str]:
    """The report as sentences: the outcome, what stands in the way, warnings, what was not asked.

    The first sentence is the outcome. Gates that passed are counted, not repeated.
    """
    hard = [result for result in report.results if result.severity is Severity.HARD]
    soft = [result for result in report.results if result.severity is Severity.SOFT]
    sentences = [f"{report.outcome}: the candidate {_OUTCOMES[report.outcome]}."]
    if hard:
        sentences.append(f"Policy {report.policy}: {_tally(hard)} of {len(hard)} hard gates.")
    else:
        sentences.append(
            f"Policy {report.policy} has no hard gate switched on, so it can promote nothing."
        )
    sentences += [
        f"{result.name} {_SAYS[result.verdict]}: {result.reason}."
        for verdict in (Verdict.FAIL, Verdict.INDETERMINATE)
        for result in hard
        if result.verdict is verdict
    ]
    sentences += [
        f"{result.name} passed narrowly: {result.reason}."
        for result in hard
        if result.verdict is Verdict.PASS and "reaches across" in result.reason
    ]
    sentences += [
        f"Warning, {result.name} {_SAYS[result.verdict]}: {result.reason}."
        for result in soft
        if result.verdict is not Verdict.PASS
    ]
    sentences += [
        f"{gate.name} ({gate.severity}) is switched off by this policy: {gate.why.rstrip('.')}."
        for gate in report.switched_off
    ]
    return sentences


_SAYS = {
    Verdict.PASS: "passed",
    Verdict.FAIL: "failed",
    Verdict.INDETERMINATE: "could not be decided",
}


def render(report: GateReport) -> str:
    """The report as Markdown: one row per gate, those switched off last, then the digests."""
    rows = [
        [
            result.name,
            str(result.severity),
            "" if result.value is None else f"{result.value:.6g}",
            result.threshold,
            str(result.verdict),
            str(result.sample_size),
            result.reason,
        ]
        for result in report.results
    ]
    rows += [
        [gate.name, str(gate.severity), "", "", "switched off", "", gate.why]
        for gate in report.switched_off
    ]
    header = ["gate", "severity", "value", "threshold", "verdict", "sample", "reason"]
    table = [header, ["---"] * len(header), *rows]
    lines = [
        f"**{report.outcome}** under policy `{report.policy}`",
        "",
        *("| " + " | ".join(_cell(text) for text in row) + " |" for row in table),
        "",
        f"Policy {report.policy_digest}",
        f"Evidence {report.evidence_digest}",
        f"Report {report.digest}",
        "",
    ]
    conventions = [f"- {result.name}: {result.convention}." for result in report.results]
    return "\n".join([*lines, *(line for line in conventions if not line.endswith(": ."))]) + "\n"


def _cell(text: str) -> str:
    # A cell must stay one cell whatever a reason says.
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _tally(results: list[GateResult]) -> str:
    counts = [
        (sum(result.verdict is verdict for result in results), _SAYS[verdict])
        for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INDETERMINATE)
    ]
    return ", ".join(f"{count} {word}" for count, word in counts if count)
