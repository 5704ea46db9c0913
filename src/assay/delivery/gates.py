"""Evidence in, verdicts out: a pure function over a policy.

A gate passes or fails only on a finite value from a large enough sample. Everything else is
INDETERMINATE and says why: evidence that is missing, undefined, too small, or there twice with
different content. The value decides, not its interval: a rule that anyone can check by hand. When
the interval reaches across the threshold the reason says so, for the people who approve.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from assay.delivery.policy import Gate, Policy, Rule
from assay.domain.canonical import content_hash
from assay.domain.evidence import Evidence
from assay.domain.verdicts import GateResult, Outcome, Severity, Verdict, decide


@dataclass(frozen=True, slots=True)
class SwitchedOff:
    """A gate that the policy names and does not apply, with the policy's reason."""

    name: str
    evidence: str
    severity: Severity
    why: str

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "evidence": self.evidence,
            "severity": str(self.severity),
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class GateReport:
    """What a policy says about a candidate.

    Attributes
    ----------
    policy: the kind of model or named policy that was applied.
    policy_digest: SHA-256 of the whole policy, see :attr:`Policy.digest`.
    evidence_digest: SHA-256 of all the evidence given, in order of name.
    results: one per gate that is switched on, in the policy's order.
    switched_off: the gates that are not applied.
    outcome: the one decision, from :func:`assay.domain.verdicts.decide`.
    """

    policy: str
    policy_digest: str
    evidence_digest: str
    results: tuple[GateResult, ...]
    switched_off: tuple[SwitchedOff, ...]
    outcome: Outcome

    def to_json(self) -> dict[str, Any]:
        return {
            "policy": self.policy,
            "policy_digest": self.policy_digest,
            "evidence_digest": self.evidence_digest,
            "results": [result.to_json() for result in self.results],
            "switched_off": [gate.to_json() for gate in self.switched_off],
            "outcome": str(self.outcome),
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the report; what a promotion's signature binds."""
        return content_hash(self.to_json())


def evaluate(policy: Policy, name: str, evidence: Iterable[Evidence]) -> GateReport:
    """Judge a candidate's evidence under the gates for a kind of model or a named policy.

    Evidence that no gate asks for is ignored. The order of ``evidence`` does not matter.

    Raises
    ------
    NotFound: the policy has no gates for ``name``.
    ContractViolation: a piece of evidence holds something that is not JSON.
    """
    gates = policy.gates(name)
    documents: dict[str, list[tuple[str, Evidence]]] = {}
    for piece in evidence:
        digest = content_hash(piece.to_json())
        same = documents.setdefault(piece.name, [])
        if all(digest != known for known, _ in same):
            same.append((digest, piece))
    results = tuple(
        _judge(gate, [piece for _, piece in documents.get(gate.evidence, [])])
        for gate in gates
        if gate.enabled
    )
    return GateReport(
        policy=name,
        policy_digest=policy.digest,
        evidence_digest=content_hash(
            sorted(digest for same in documents.values() for digest, _ in same)
        ),
        results=results,
        switched_off=tuple(
            SwitchedOff(gate.name, gate.evidence, gate.severity, gate.why or "")
            for gate in gates
            if not gate.enabled
        ),
        outcome=decide(results),
    )


def _judge(gate: Gate, pieces: list[Evidence]) -> GateResult:
    if len(pieces) != 1:
        reason = (
            f"no evidence named {gate.evidence}"
            if not pieces
            else f"{len(pieces)} different records of {gate.evidence}: which counts is not clear"
        )
        return _result(gate, None, Verdict.INDETERMINATE, reason)
    (piece,) = pieces
    value = piece.value
    if value is None or not math.isfinite(value):
        reason = str(piece.details.get("undefined", "it has no value"))
        return _result(gate, piece, Verdict.INDETERMINATE, f"not measurable: {reason}")
    if piece.sample_size < gate.min_sample:
        reason = f"sample of {piece.sample_size}, at least {gate.min_sample} needed"
        return _result(gate, piece, Verdict.INDETERMINATE, reason)
    passes = gate.holds(value)
    reason = f"{_shown(value, gate)} {_verb(gate, passes=passes)}"
    if "in_words" in piece.details:
        reason += f": {piece.details['in_words']}"
    if _straddles(gate, piece):
        low, high = piece.interval or (math.nan, math.nan)
        level = piece.details.get("level")
        share = f"{level:.0%} " if isinstance(level, float) else ""
        reason += f"; its {share}interval [{low:.4g}, {high:.4g}] reaches across the threshold"
    return _result(gate, piece, Verdict.PASS if passes else Verdict.FAIL, reason)


def _verb(gate: Gate, *, passes: bool) -> str:
    if gate.rule is Rule.EQUALS:
        return gate.condition if passes else gate.condition.replace("equals", "does not equal", 1)
    return f"is {'' if passes else 'not '}{gate.condition}"


def _shown(value: float, gate: Gate) -> str:
    # Rounding for the eye must not tell the opposite of the verdict ("0.1 is not <= 0.1").
    short = f"{value:.6g}"
    return short if gate.holds(float(short)) == gate.holds(value) else repr(value)


def _straddles(gate: Gate, piece: Evidence) -> bool:
    if piece.interval is None or gate.rule is Rule.EQUALS:
        return False
    low, high = piece.interval
    return any(low < bound < high for bound in gate.threshold)


def _result(gate: Gate, piece: Evidence | None, verdict: Verdict, reason: str) -> GateResult:
    value = piece.value if piece is not None else None
    return GateResult(
        name=gate.name,
        severity=gate.severity,
        value=value if value is not None and math.isfinite(value) else None,
        threshold=gate.condition,
        verdict=verdict,
        sample_size=piece.sample_size if piece is not None else 0,
        convention=piece.convention if piece is not None else "",
        reason=reason,
    )
