"""Evidence for a staged version, recorded, and the gates' verdicts over it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.delivery.gates import GateReport, evaluate
from assay.delivery.judging import gate_set, held_against, judge
from assay.delivery.policy import Gate, Policy
from assay.domain.evidence import Evidence
from assay.domain.instants import NANOS_PER_SECOND, Instant
from assay.orchestration.desk import Desk
from assay.orchestration.evidence import Measured, measure
from assay.orchestration.progress import Progress

_DAY = 86_400 * NANOS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was measured about a version and what the gates say."""

    name: str
    version: str
    evidence: tuple[Evidence, ...]
    gates: GateReport

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "evidence": [item.to_json() for item in self.evidence],
            "gates": self.gates.to_json(),
        }


def judge_version(
    desk: Desk, name: str, version: str, *, initiated_by: str, progress: Progress
) -> Judgement:
    """Measure a version's evidence on its own out-of-sample record, record it, apply the gates.

    It is compared with the version in production now, on the rows that both predicted out of
    sample. What came out as it is recorded is not recorded again before it expires, so that
    approvals of the report stay good.

    Raises
    ------
    NotFound: the version or its training run is unknown.
    Tampered: the version or its run is not what was recorded.
    """
    registry = desk.registry
    evidence = _measured(desk, name, version, desk.policy, progress)
    registry.record_evidence(name, version, evidence, initiated_by=initiated_by)
    progress.event(f"{name} {version}: applying the gates")
    report = judge(registry, desk.policy, name, version, initiated_by=initiated_by)
    return Judgement(name, version, tuple(evidence), report)


def assess_version(
    desk: Desk, name: str, version: str, policy: Policy, *, progress: Progress
) -> Judgement:
    """What :func:`judge_version` would say under another policy; nothing is recorded.

    Evidence that others recorded about the version counts as it is recorded.
    """
    registry = desk.registry
    evidence = _measured(desk, name, version, policy, progress)
    after = {piece.name: piece for piece in (*registry.evidence(name, version), *evidence)}
    report = evaluate(
        policy,
        gate_set(registry, policy, name, version),
        after.values(),
        now=registry.now(),
        champion=held_against(registry, name, version),
        digest=registry.get(name, version).digest,
    )
    return Judgement(name, version, tuple(evidence), report)


def _measured(
    desk: Desk, name: str, version: str, policy: Policy, progress: Progress
) -> list[Evidence]:
    registry = desk.registry
    progress.event(f"{name} {version}: measuring evidence")
    opened = registry.open_version(name, version)
    gates = policy.gates(gate_set(registry, policy, name, opened.version))
    champion = held_against(registry, name, opened.version)
    theirs = None if champion is None else registry.open_version(name, champion.version)
    wanted = {gate.evidence for gate in gates if gate.enabled}
    return _kept(
        measure(desk, Measured.of(desk, opened, theirs), progress, wanted=wanted),
        registry.evidence(name, opened.version),
        gates,
        registry.now(),
    )


def _kept(
    evidence: Iterable[Evidence],
    recorded: Sequence[Evidence],
    gates: Sequence[Gate],
    now: Instant,
) -> list[Evidence]:
    """The recorded measurement where the new one says the same and the old one still counts."""
    known = {piece.name: piece for piece in recorded}
    kept = []
    for piece in evidence:
        old = known.get(piece.name)
        same = old is not None and _undated(old) == _undated(piece)
        ends = [g.expires_days for g in gates if g.evidence == piece.name and g.expires_days]
        if old is not None and same and old.provenance is not None:
            age = now - old.provenance.measured_at
            kept.append(old if all(age <= days * _DAY for days in ends) else piece)
        else:
            kept.append(piece)
    return kept


def _undated(piece: Evidence) -> dict[str, Any]:
    if piece.provenance is None:
        return piece.to_json()
    # A commit of the desk's files changes no number: these come from the recorded run.
    traced = replace(piece.provenance, measured_at=0, commit=None)
    return replace(piece, provenance=traced).to_json()
