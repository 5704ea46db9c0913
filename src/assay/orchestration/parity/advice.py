"""What to do about a finding, in the words of whoever is on duty."""

from __future__ import annotations

from assay.domain.verdicts import Verdict
from assay.orchestration.parity.proving import OnlineSide, ViewProof


def advice_on(proof: ViewProof) -> tuple[str, ...]:
    """What to do about one view, the most urgent first; never empty."""
    verdict, report, found = proof.judgement.verdict, proof.report, proof.comparison
    if verdict is Verdict.INDETERMINATE:
        return (f"Nothing of {proof.view} was compared: choose a horizon that holds rows.",)
    stored = proof.side is OnlineSide.STORE
    other = stored and proof.in_use != proof.manifest
    if other and [*found.foreign] == [proof.in_use] and not found.refused:
        words = (
            f"Nothing of {proof.view} could be proven: all others than the canary read manifest "
            f"{str(proof.in_use)[:12]}, and the desk defines {proof.manifest[:12]}. Bring the "
            "definition back and compare again, or let all take the new one: "
            f"`assay features promote {proof.view}`."
        )
        return (words,)
    said: list[str] = []
    differing = report.bitwise_equal < report.values_compared
    if verdict is Verdict.FAIL and stored:
        said.append(
            "Stop predicting on what cannot be trusted: `assay kill`. `assay kill --off` switches "
            "on again."
        )
        said.append(
            "Copy the online store's file and this report before anything is changed: they are "
            "the evidence."
        )
    if found.refused:
        said.append(
            "The store keeps rows whose bytes are not what was written. Suspect the disk, or "
            "someone who wrote past the store; fill a new store from the facts and compare again."
        )
    if found.foreign:
        said.append(
            "Rows under another manifest were computed by another definition. Where it was changed "
            "on purpose, compare from the change on (`--from`); otherwise find what still runs it."
        )
    complete = report.missing == report.extra == 0 and not found.refused
    if found.answers is not None and found.answers.wrong and complete:
        said.append(
            "The store keeps the right rows and gives them at the wrong moments: they are filed "
            "under another time than they say. A row that is served before it was known is "
            "look-ahead. Fill a new store from the facts."
        )
    if report.missing and stored:
        said.append(
            "Rows that are missing online were never written or were lost. The feed may be behind "
            "the facts, or its store may keep fewer versions than the horizon needs."
        )
    if report.extra and stored:
        said.append(
            "Rows that history does not know came from facts that the lake does not hold, or from "
            "another writer. See that one feed alone writes to this store."
        )
    if differing and stored:
        said.append(
            "Values that differ under the same manifest: look at the worst rows. One feature alone "
            "points at its operator or its step function; all features of some rows at other "
            "facts; the last bits everywhere at another build (`assay doctor`)."
        )
    if verdict is Verdict.FAIL and not stored:
        said.append(
            "The two drivers do not agree on the same facts. Do not promote anything that reads "
            f"{proof.view}: build its features again (`assay features build {proof.view}`) and "
            "compare once more; if it stays, check the build (`assay doctor`)."
        )
    if verdict is Verdict.PASS:
        said.append(
            f"Nothing: {proof.view} is what the policy asks for."
            + (
                " Some bits differ, which the policy allows: look at the worst rows."
                if differing
                else ""
            )
        )
    return tuple(said)
