"""A version's recorded evidence under its gates, against the champion of the moment."""

from __future__ import annotations

from assay.delivery.gates import Champion, GateReport, evaluate
from assay.delivery.policy import Policy
from assay.domain.verdicts import Outcome, Severity, Verdict
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
        digest=registry.get(name, version).digest,
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


def require_promotable(registry: ModelRegistry, policy: Policy, record: GateRecord) -> None:
    """Refuse a version whose recorded evidence does not pass the gates now, whatever was recorded.

    Evidence may have expired since, and a record of verdicts is only what somebody wrote down: the
    gates that apply now are asked once more.

    Raises
    ------
    PromotionGateError: another set of gates applies, or they do not say PROMOTABLE.
    """
    name, version = record.name, record.version
    chosen = gate_set(registry, policy, name, version)
    again = "then approve again"
    if record.policy != chosen:
        raise PromotionGateError(
            f"{name} {version} was judged by the gates of {record.policy or 'nobody'}, now those "
            f"of {chosen} apply",
            hint=f"assay gates check {name} {version}, {again}",
        )
    report = evaluate(
        policy,
        chosen,
        registry.evidence(name, version),
        now=registry.now(),
        champion=held_against(registry, name, version),
        digest=record.version_digest,
    )
    if report.outcome is not Outcome.PROMOTABLE:
        stopped = "; ".join(
            f"{one.name}: {one.reason}"
            for one in report.results
            if one.severity is Severity.HARD and one.verdict is not Verdict.PASS
        )
        raise PromotionGateError(
            f"{name} {version} passed its gates and would not now: "
            f"{stopped or 'no hard gate is switched on'}",
            hint=f"assay gates check {name} {version}, {again}",
        )
