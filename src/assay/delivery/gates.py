"""Evidence in, verdicts out: a pure function over a policy.

A gate passes or fails only on a finite value from a large enough sample. Everything else is
INDETERMINATE and says why: evidence that is missing, undefined, too small, too old, from a replay
that does not count, about another version, against another champion than today's, or there twice
with different content.
The value decides, not its interval: a rule that anyone can check by hand. When the interval reaches
across the threshold the reason says so, for the people who approve.

Laws, held by property tests, for evidence with one record per name as the registry keeps it:

* taking evidence away never promotes, and never turns a refusal into anything but NOT_YET;
* the order of gates and of evidence does not matter; neither does evidence that no gate asks for;
* no missing, NaN or infinite number is ever PASS or FAIL;
* making a gate hard never promotes; making evidence older never promotes;
* every set of evidence has an answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from assay.delivery.policy import Gate, Policy, Replayed, Rule, Untraced, WithoutChampion
from assay.domain.canonical import content_hash
from assay.domain.evidence import Evidence
from assay.domain.instants import NANOS_PER_SECOND, Instant, render
from assay.domain.verdicts import GateResult, Outcome, Severity, Verdict, decide

_DAY = 86_400 * NANOS_PER_SECOND
NO_CHAMPION = "waived while the line has no champion to compare with"


@dataclass(frozen=True, slots=True)
class Champion:
    """The version in production that a candidate is held against, with its own evidence."""

    version: str
    digest: str
    evidence: tuple[Evidence, ...] = ()


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


def evaluate(
    policy: Policy,
    name: str,
    evidence: Iterable[Evidence],
    *,
    now: Instant | None = None,
    champion: Champion | None = None,
    digest: str | None = None,
) -> GateReport:
    """Judge a candidate's evidence under the gates for a kind of model or a named policy.

    Evidence that no gate asks for is ignored. The order of ``evidence`` does not matter.

    Parameters
    ----------
    now: the moment of judging; without it no gate with ``expires_days`` can decide.
    champion: the version in production, None while the line has none.
    digest: SHA-256 of the candidate; a record that says it is about another one decides nothing.
        None trusts the caller that all of it is about the candidate.

    Raises
    ------
    NotFound: the policy has no gates for ``name``.
    ContractViolation: a piece of evidence holds something that is not JSON.
    """
    gates = policy.gates(name)
    documents = _by_name(evidence)
    applied = [gate for gate in gates if gate.enabled and not _waived(gate, champion)]
    theirs = {} if champion is None else _by_name(champion.evidence)
    judging = _Judging(now, champion, theirs, digest, policy.untraced)
    results = tuple(
        judging.judge(gate, list(documents.get(gate.evidence, {}).values())) for gate in applied
    )
    return GateReport(
        policy=name,
        policy_digest=policy.digest,
        evidence_digest=content_hash(
            sorted(digest for same in documents.values() for digest in same)
        ),
        results=results,
        switched_off=tuple(
            SwitchedOff(
                gate.name, gate.evidence, gate.severity, gate.why or "" if not gate.enabled
                else NO_CHAMPION,
            )
            for gate in gates
            if gate not in applied
        ),
        outcome=decide(results),
    )  # fmt: skip


def _by_name(evidence: Iterable[Evidence]) -> dict[str, dict[str, Evidence]]:
    """By name the distinct records, each under its digest."""
    found: dict[str, dict[str, Evidence]] = {}
    for given in evidence:
        # Made anew: a number that was put in behind the record's back is looked at again.
        piece = replace(given)
        found.setdefault(piece.name, {}).setdefault(content_hash(piece.to_json()), piece)
    return found


def _waived(gate: Gate, champion: Champion | None) -> bool:
    return (
        champion is None
        and gate.against_champion
        and gate.without_champion is WithoutChampion.WAIVE
    )


@dataclass(frozen=True, slots=True)
class _Judging:
    """What all gates of one report are judged in the light of."""

    now: Instant | None
    champion: Champion | None
    theirs: dict[str, dict[str, Evidence]]
    digest: str | None
    untraced: Untraced

    def judge(self, gate: Gate, pieces: list[Evidence]) -> GateResult:
        if len(pieces) != 1:
            reason = (
                f"no evidence named {gate.evidence}"
                if not pieces
                else f"{len(pieces)} different records of {gate.evidence}: which counts is not "
                "clear"
            )
            return _result(gate, None, None, Verdict.INDETERMINATE, reason)
        (piece,) = pieces
        problem = (
            _unusable(gate, piece)
            or self._without_origin(piece)
            or _about_another(piece, self.digest)
            or self._expired(gate, piece)
            or self._other_champion(piece)
        )
        if problem is not None:
            return _result(gate, piece, piece.value, Verdict.INDETERMINATE, problem)
        value, beside = piece.value, ""
        assert value is not None
        if gate.compare is not None:
            difference = self._difference(gate, piece, value)
            if isinstance(difference, str):
                return _result(gate, piece, None, Verdict.INDETERMINATE, difference)
            value, beside = difference
        passes = gate.holds(value)
        reason = f"{_shown(value, gate)} {_verb(gate, passes=passes)}{beside}"
        if "in_words" in piece.details:
            reason += f": {piece.details['in_words']}"
        if gate.compare is None and _straddles(gate, piece):
            low, high = piece.interval or (math.nan, math.nan)
            level = piece.details.get("level")
            share = f"{level:.0%} " if isinstance(level, float) else ""
            reason += f"; its {share}interval [{low:.4g}, {high:.4g}] reaches across the threshold"
        return _result(gate, piece, value, Verdict.PASS if passes else Verdict.FAIL, reason)

    def _without_origin(self, piece: Evidence) -> str | None:
        if piece.provenance is not None or self.untraced is Untraced.ALLOW:
            return None
        return "recorded without saying what it was taken from, which this policy does not count"

    def _expired(self, gate: Gate, piece: Evidence) -> str | None:
        if gate.expires_days is None:
            return None
        if piece.provenance is None:
            return f"it expires after {gate.expires_days:g} days, and has no time of measurement"
        if self.now is None:
            return f"it expires after {gate.expires_days:g} days, and the time now is not known"
        at = piece.provenance.measured_at
        if at > self.now:
            return f"it says that it was measured at {render(at)}, which has not come yet"
        if self.now - at > gate.expires_days * _DAY:
            return f"measured at {render(at)}, expired after {gate.expires_days:g} days"
        return None

    def _other_champion(self, piece: Evidence) -> str | None:
        # Records of before that was kept do not say against whom.
        if piece.provenance is None or piece.provenance.champion_digest is None:
            return None
        if self.champion is None:
            return f"measured against {piece.provenance.champion}, which is not in production"
        if piece.provenance.champion_digest != self.champion.digest:
            return (
                f"measured against {piece.provenance.champion}, in production is "
                f"{self.champion.version}"
            )
        return None

    def _difference(self, gate: Gate, piece: Evidence, value: float) -> tuple[float, str] | str:
        """The value minus the champion's, and both in words; or why they do not compare."""
        if self.champion is None:
            return "the line has no champion to compare with"
        same = list(self.theirs.get(gate.evidence, {}).values())
        whose = f"the champion {self.champion.version}"
        if len(same) != 1:
            return f"{whose} has {len(same) or 'no'} records of {gate.evidence}: expected one"
        (other,) = same
        problem = _unusable(gate, other) or _about_another(other, self.champion.digest)
        if problem is not None or other.value is None:
            return f"{whose}: {problem}"
        if piece.provenance is None or other.provenance is None:
            return f"whether {whose} was measured on the same data is not recorded"
        if piece.provenance.convention_id != other.provenance.convention_id:
            return f"{whose} was measured by another convention, {other.provenance.convention_id}"
        snapshots = piece.provenance.snapshots
        if not snapshots or snapshots != other.provenance.snapshots:
            return f"{whose} was measured on other data: expected the same snapshots"
        difference = value - other.value
        if not math.isfinite(difference):
            return f"the difference from {whose} overflowed"
        return difference, f" {self.champion.version} ({value:.6g} and {other.value:.6g})"


def _unusable(gate: Gate, piece: Evidence) -> str | None:
    """Why a record cannot decide, whoever's it is and whatever the time; None when it can."""
    if piece.value is None:
        return f"not measurable: {piece.details.get('undefined', 'it has no value')}"
    if piece.sample_size < gate.min_sample:
        return f"sample of {piece.sample_size}, at least {gate.min_sample} needed"
    replayed = piece.provenance is not None and piece.provenance.replayed
    if replayed and gate.replayed is Replayed.REFUSE:
        return "measured on a replay, which this policy does not count"
    return None


def _about_another(piece: Evidence, digest: str | None) -> str | None:
    # Records of before that was kept do not say about whom.
    if digest is None or piece.provenance is None or piece.provenance.model_digest == digest:
        return None
    measured = piece.provenance.model_digest[:12]
    return f"measured on the version with digest {measured}, this one is {digest[:12]}"


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


def _result(
    gate: Gate, piece: Evidence | None, value: float | None, verdict: Verdict, reason: str
) -> GateResult:
    return GateResult(
        name=gate.name,
        severity=gate.severity,
        value=value,
        threshold=gate.condition,
        verdict=verdict,
        sample_size=piece.sample_size if piece is not None else 0,
        convention=piece.convention if piece is not None else "",
        reason=reason,
    )
