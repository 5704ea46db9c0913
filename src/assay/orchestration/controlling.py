"""The controller of champion and challengers: reads what is known, and takes one step per model.

Every decision is a line of ``artifacts/delivery/decisions.jsonl`` with all that it rested on and
the SHA-256 of the line before; what changes something is an entry of the registry's log as well,
which names the decision.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from assay.delivery.approvals import count_approvals
from assay.delivery.canary import CanaryPolicy, expired
from assay.delivery.controller import (
    Action,
    ChallengerState,
    RetrainConfig,
    Situation,
    Step,
    next_step,
    next_steps,
)
from assay.delivery.deployments import end_canary, start_canary, start_shadow, stop_shadow
from assay.delivery.judging import judge
from assay.delivery.promotion import promote
from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.domain.evidence import Evidence
from assay.domain.instants import NANOS_PER_SECOND, Instant, render
from assay.domain.verdicts import Outcome, Severity, Verdict
from assay.domain.versions import Stage
from assay.errors import AssayError, Conflict, NotFound, Tampered
from assay.orchestration.challengers import (
    ChallengerFiles,
    compare_shadow,
    look_at_canary,
    record_shadow,
    watch_canary,
    write_card,
)
from assay.orchestration.desk import Desk
from assay.registry import EventType, GateRecord, VersionRecord
from assay.registry.deployments import Deployments, deployments_of
from assay.registry.records import evidence_digest
from assay.storage.files import append_line, drop_torn_tail, last_line
from assay.storage.locks import FileLock

DECISIONS = Path("artifacts/delivery/decisions.jsonl")
_GENESIS = "0" * 64
_RECORDED_FOR = 5 * 86_400 * NANOS_PER_SECOND
"""Evidence of a shadow expires after seven days in a new desk's policy."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided about a model, and what came of it.

    ``step`` is None where there is only waiting, ``seq`` the entry of the registry's log;
    ``problem`` is why the step could not be taken.
    """

    situation: Situation
    steps: tuple[Step, ...]
    step: Step | None
    decision: str
    seq: int | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.situation.model,
            "steps": [one.to_json() for one in self.steps],
            "step": None if self.step is None else self.step.to_json(),
            "decision": self.decision,
            "seq": self.seq,
            "problem": self.problem,
        }


def situation_of(desk: Desk, files: ChallengerFiles, name: str, policy: CanaryPolicy) -> Situation:
    """What is known about a model, its champion and its challengers.

    Challengers are the staged versions that were registered after the champion, and whatever runs.
    """
    registry = desk.registry
    champion = registry.current(name)
    now = deployments_of(registry, name)
    head = registry.latest(1)
    running = {*now.shadows, *([now.canary.version] if now.canary else [])}
    challengers = tuple(
        _challenger(desk, files, record, champion, now, policy)
        for record in registry.list(name)
        if record.version in running
        or (
            record.stage is Stage.STAGED
            and registry.is_model(record)
            and (champion is None or record.semantic > champion.semantic)
        )
    )
    return Situation(
        name, champion.version if champion else None, head[-1].seq if head else 0, challengers
    )


def plan(
    desk: Desk, files: ChallengerFiles, name: str, config: RetrainConfig, policy: CanaryPolicy
) -> tuple[Situation, tuple[Step, ...]]:
    """The next step of every challenger; nothing is done."""
    situation = situation_of(desk, files, name, policy)
    return situation, next_steps(situation, config)


def take_step(
    desk: Desk,
    files: ChallengerFiles,
    name: str,
    config: RetrainConfig,
    policy: CanaryPolicy,
    *,
    initiated_by: str,
) -> Decided:
    """Decide what is next for a model, record the decision with its inputs, and do it.

    A step that is refused leaves everything as it was, and is recorded as refused.
    """
    situation, steps = plan(desk, files, name, config, policy)
    step = next_step(situation, config)
    decision = _record(
        desk,
        {
            "event": "decided",
            "model": name,
            "by": initiated_by,
            "situation": situation.to_json(),
            "config": _document(config),
            "canary_policy": _document(policy),
            "steps": [one.to_json() for one in steps],
            "step": None if step is None else step.to_json(),
        },
    )
    if step is None:
        return Decided(situation, steps, None, decision)
    try:
        seq = _do(desk, files, step, policy, initiated_by, decision, situation.head)
    except AssayError as error:
        _record(desk, {"event": "refused", "model": name, "decision": decision,
                       "problem": error.message})  # fmt: skip
        return Decided(situation, steps, step, decision, problem=error.message)
    _record(desk, {"event": "done", "model": name, "decision": decision, "seq": seq})
    return Decided(situation, steps, step, decision, seq)


def decisions(desk: Desk) -> Iterator[dict[str, Any]]:
    """The recorded decisions, oldest first, each held against the one before.

    Raises
    ------
    Tampered: a line was changed, removed or put in between.
    """
    path = desk.layout.root / DECISIONS
    before = _GENESIS
    if not path.exists():
        return
    for number, raw in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        document = json.loads(raw)
        if document.get("previous") != before:
            raise Tampered(f"{path}, line {number}, does not follow the line before it")
        before = sha256_hex(raw)
        yield document


@dataclass(frozen=True, slots=True)
class PastDecision:
    """A recorded decision, for people: ``step`` such as ``1.2.0 start_shadow``, or ``wait``.

    ``outcome`` is ``done``, ``refused``, or ``unknown`` where the process ended in between.
    """

    decision: str
    at: str
    by: str
    model: str
    step: str
    outcome: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def decided(desk: Desk) -> list[PastDecision]:
    """The decisions with what came of each, oldest first.

    Raises
    ------
    Tampered: a line was changed, removed or put in between.
    """
    found: dict[str, PastDecision] = {}
    for line in decisions(desk):
        if line["event"] == "decided":
            key = sha256_hex(canonical_bytes(line))
            step = line["step"]
            found[key] = PastDecision(
                key, line["at"], line["by"], line["model"],
                "wait" if step is None else f"{step['version']} {step['action']}",
                "" if step is None else "unknown",
                "; ".join(reason for one in ([step] if step else line["steps"])
                          for reason in one["reasons"]),
            )  # fmt: skip
            continue
        before = found.get(line["decision"])
        if before is not None:
            reason = line.get("problem") or before.reason
            found[before.decision] = replace(before, outcome=line["event"], reason=reason)
    return list(found.values())


# -- reading ------------------------------------------------------------------------------------


def _challenger(
    desk: Desk,
    files: ChallengerFiles,
    record: VersionRecord,
    champion: VersionRecord | None,
    now: Deployments,
    policy: CanaryPolicy,
) -> ChallengerState:
    registry = desk.registry
    name, version = record.name, record.version
    evidence = {one.name: one for one in registry.evidence(name, version)}
    report = _fresh_report(desk, record, champion)
    is_canary = now.canary is not None and now.canary.version == version
    verdict, why, over = None, "", False
    if is_canary and now.canary is not None:
        look = look_at_canary(desk, files, name, policy)
        verdict, why = look.finding.verdict, look.finding.reason
        over = expired(policy, since=now.canary.since, now=registry.now())
    hours = None
    if version in now.shadows:
        try:
            found = compare_shadow(desk, files, name, version)
            hours = None if found.replayed else found.stable_hours
        except NotFound:
            hours = None
    ended = registry.history(name, types=(EventType.CANARY_END,))
    return ChallengerState(
        version=version,
        digest=record.digest,
        kind=record.kind,
        in_shadow=version in now.shadows,
        shadow_hours=hours,
        shadow_recorded=_is_recorded(evidence.get("shadow_stable_hours"), champion, registry.now()),
        outcome=None if report is None else report.outcome,
        refused_by=() if report is None else _stopped(report),
        sharpe_improvement=_value(evidence.get("sharpe_vs_champion")),
        drawdown_worsening=_value(evidence.get("max_drawdown_vs_champion")),
        is_canary=is_canary,
        canary=verdict,
        canary_reason=why,
        canary_over=over,
        canaries_ended=sum(entry.to_version == version for entry in ended),
        approved=report is not None
        and report.outcome is Outcome.PROMOTABLE
        and count_approvals(
            registry, name, version, report.digest, now=registry.now(), access=desk.access
        ).sufficient,
    )


def _fresh_report(
    desk: Desk, record: VersionRecord, champion: VersionRecord | None
) -> GateRecord | None:
    """The gates' verdicts, where they are about today's evidence, champion and policy."""
    report = desk.registry.gate_record(record.name, record.version)
    if report is None:
        return None
    evidence = evidence_digest(desk.registry.evidence(record.name, record.version))
    same = (
        report.evidence_digest == evidence
        and report.champion_digest == (champion.digest if champion else "")
        and report.policy_digest == desk.policy.digest
    )
    return report if same else None


def _is_recorded(piece: Evidence | None, champion: VersionRecord | None, now: Instant) -> bool:
    """Whether the shadow beside this champion is evidence that will not expire soon."""
    if piece is None or piece.provenance is None or champion is None or piece.value is None:
        return False
    fresh = now - piece.provenance.measured_at < _RECORDED_FOR
    return fresh and piece.provenance.champion_digest == champion.digest


def _stopped(report: GateRecord) -> tuple[str, ...]:
    return tuple(
        f"{one.name} {one.verdict}"
        for one in report.results
        if one.severity is Severity.HARD and one.verdict is not Verdict.PASS
    )


def _value(piece: Evidence | None) -> float | None:
    return None if piece is None else piece.value


# -- acting -------------------------------------------------------------------------------------


def _do(
    desk: Desk,
    files: ChallengerFiles,
    step: Step,
    policy: CanaryPolicy,
    by: str,
    decision: str,
    head: int,
) -> int | None:
    registry, name, version = desk.registry, step.model, step.version
    reason = f"{step.reason} (decision {decision[:12]})"
    if step.action is Action.START_SHADOW:
        entry = start_shadow(
            registry, name, version, initiated_by=by, reason=reason, monotonic=time.monotonic
        )
    elif step.action is Action.STOP_SHADOW:
        entry = stop_shadow(registry, name, version, initiated_by=by, reason=reason)
    elif step.action is Action.START_CANARY:
        entry = start_canary(
            registry, name, version, share=float(step.details["share"]), initiated_by=by,
            reason=reason, monotonic=time.monotonic,
        )  # fmt: skip
    elif step.action is Action.END_CANARY:
        look = watch_canary(desk, files, name, policy, initiated_by=by)
        if not look.ended:
            if look.canary.revision > head:
                raise Conflict(f"the canary of {name} that was to end is over: another began")
            end_canary(
                registry, name, initiated_by=by, reason=reason, revision=look.canary.revision
            )
            write_card(desk, look, ended=True)
        return registry.latest(1)[-1].seq
    elif step.action is Action.RECORD_SHADOW:
        record_shadow(desk, compare_shadow(desk, files, name, version), initiated_by=by)
        judge(registry, desk.policy, name, version, initiated_by=by)
        return registry.latest(1)[-1].seq
    else:
        # The log says that it was promoted; only its scorecard says what was seen of it until then.
        write_card(desk, look_at_canary(desk, files, name, policy))
        promote(
            registry, name, version, initiated_by=by, clock=desk.clock, monotonic=time.monotonic,
            reason=reason, policy=desk.policy, promotions_log=desk.layout.promotions,
            access=desk.access,
        )  # fmt: skip
        return registry.latest(1)[-1].seq
    return entry.seq


def _record(desk: Desk, document: dict[str, Any]) -> str:
    """Append a decision; the SHA-256 of its line."""
    path = desk.layout.root / DECISIONS
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        drop_torn_tail(path)
        before = last_line(path)
        line = {
            "at": render(desk.clock.now()),
            "previous": sha256_hex(before) if before else _GENESIS,
            **document,
        }
        encoded = canonical_bytes(line)
        append_line(path, encoded)
    return sha256_hex(encoded)


def _document(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}
