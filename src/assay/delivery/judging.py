"""A version's recorded evidence under its gates, against the champion of the moment."""

from __future__ import annotations

from assay.delivery.gates import Champion, GateReport, evaluate
from assay.delivery.policy import Policy
from assay.domain.verdicts import Severity, Verdict
from assay.registry import GateRecord, ModelRegistry, PromotionGateError
from assay.registry.records import evidence_digest


def gate_set(registry: ModelRegistry, policy: Policy, name: str, version: str) -> str:
    """Which set of gates judges a version now: its kind's, or a policy that it names.

    A version that names a policy of its own, such as a baseline, is judged by that while the line
    has no champion: whoever comes later has somebody to beat, whatever it calls itself.

    Raises
    ------
    NotFound: no such version, or the policy has no such gates.
    """
    metadata = registry.metadata(name, version)
    is_first = held_against(registry, name, version) is None
    chosen = (is_first and metadata.policy) or metadata.kind
    policy.gates(chosen)
    return chosen


def held_against(registry: ModelRegistry, name: str, version: str) -> Champion | None:
    """The version in production that a candidate is held against; None while there is no other."""
    champion = registry.current(name)
    if champion is None or champion.version == registry.get(name, version).version:
        return None
    return Champion(champion.version, champion.digest, registry.evidence(name, champion.version))


def judge(
    registry: ModelRegistry, policy: Policy, name: str, version: str, *, initiated_by: str
) -> GateReport:
    """Judge a version's recorded evidence under :func:`gate_set`, and record the verdicts."""
    evidence = registry.evidence(name, version)
    report = evaluate(
        policy,
        gate_set(registry, policy, name, version),
        evidence,
        now=registry.now(),
        champion=held_against(registry, name, version),
    )
    registry.record_gates(
        name,
        version,
        report.results,
        report.outcome,
        report.policy_digest,
        initiated_by=initiated_by,
        policy=report.policy,
        switched_off=[gate.name for gate in report.switched_off],
        judged_evidence=evidence_digest(evidence),
    )
    return report


def require_unexpired(registry: ModelRegistry, policy: Policy, record: GateRecord) -> None:
    """Refuse a version whose gates passed on evidence that has expired since.

    Raises
    ------
    PromotionGateError: a hard gate of the record passed and could not be decided now.
    """
    sets = {**policy.kinds, **policy.named}
    passed = {one.name for one in record.results if one.verdict is Verdict.PASS}
    expiring = {
        gate.name
        for gate in sets.get(record.policy, ())
        if gate.expires_days is not None and gate.severity is Severity.HARD and gate.name in passed
    }
    if not expiring:
        return
    name, version = record.name, record.version
    again = evaluate(
        policy,
        record.policy,
        registry.evidence(name, version),
        now=registry.now(),
        champion=held_against(registry, name, version),
    )
    stopped = [
        f"{one.name}: {one.reason}"
        for one in again.results
        if one.name in expiring and one.verdict is not Verdict.PASS
    ]
    if stopped:
        raise PromotionGateError(
            f"{name} {version} passed its gates and would not now: {'; '.join(stopped)}",
            hint=f"assay gates check {name} {version}, then approve again",
        )
