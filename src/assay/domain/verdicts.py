"""PASS, FAIL, INDETERMINATE, and the one function that decides.

The algebra is closed and fails safe. Over the hard gates of a policy:

* any FAIL              -> REFUSED
* all PASS, at least one -> PROMOTABLE
* anything else         -> NOT_YET (missing, NaN, degenerate or too little data never promotes)

Soft gates warn and never change the outcome. Laws: adding a hard gate never turns REFUSED into
anything else and never turns NOT_YET into PROMOTABLE; the order of gates does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What one gate says."""

    PASS = "PASS"
    FAIL = "FAIL"
    INDETERMINATE = "INDETERMINATE"


class Severity(StrEnum):
    """Whether a gate blocks (hard) or warns (soft)."""

    HARD = "hard"
    SOFT = "soft"


class Outcome(StrEnum):
    """What the gates together say about a candidate."""

    PROMOTABLE = "PROMOTABLE"
    REFUSED = "REFUSED"
    NOT_YET = "NOT_YET"


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's verdict with everything a reader needs to check it by hand.

    ``threshold`` is the rule in words and numbers, for example ``"<= 0.1"``.
    """

    name: str
    severity: Severity
    value: float | None
    threshold: str
    verdict: Verdict
    sample_size: int
    convention: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "severity": str(self.severity),
            "value": self.value,
            "threshold": self.threshold,
            "verdict": str(self.verdict),
            "sample_size": self.sample_size,
            "convention": self.convention,
            "reason": self.reason,
        }


def decide(results: Iterable[GateResult]) -> Outcome:
    """The outcome of a set of gate results. Pure; see the module docstring for the algebra."""
    hard = [result.verdict for result in results if result.severity is Severity.HARD]
    if Verdict.FAIL in hard:
        return Outcome.REFUSED
    if hard and all(verdict is Verdict.PASS for verdict in hard):
        return Outcome.PROMOTABLE
    return Outcome.NOT_YET
