"""What one run over several views found, and the words that its reports share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assay.domain.instants import Instant, render
from assay.domain.verdicts import Verdict
from assay.orchestration.parity.advice import advice_on
from assay.orchestration.parity.proving import ViewProof


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
