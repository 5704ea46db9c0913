"""A changed policy over past versions, from what was recorded: which verdicts would be others.

Each version is judged as it was when it last was: with the evidence of that moment, at that time,
against the champion of then. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from assay.delivery.gates import Champion, GateReport, evaluate
from assay.delivery.policy import Policy
from assay.domain.evidence import Evidence
from assay.domain.instants import Instant, render
from assay.domain.verdicts import Outcome, Verdict
from assay.errors import NotFound
from assay.registry import Entry, EventType, GateRecord, ModelRegistry


@dataclass(frozen=True, slots=True)
class GateChange:
    """One gate whose verdict would be another; None where a policy does not ask it."""

    gate: str
    before: Verdict | None
    after: Verdict | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {
            "gate": self.gate,
            "before": None if self.before is None else str(self.before),
            "after": None if self.after is None else str(self.after),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Rejudged:
    """One version under the changed policy.

    ``after`` is None where the changed policy has no such set of gates; ``problem`` says so.
    """

    name: str
    version: str
    judged_at: Instant
    policy: str
    before: Outcome
    after: Outcome | None
    changes: tuple[GateChange, ...]
    problem: str | None = None

    @property
    def differs(self) -> bool:
        return self.before is not self.after or bool(self.changes)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "judged_at": render(self.judged_at),
            "policy": self.policy,
            "before": str(self.before),
            "after": None if self.after is None else str(self.after),
            "changes": [change.to_json() for change in self.changes],
            "problem": self.problem,
        }


def dry_run(
    registry: ModelRegistry, policy: Policy, name: str | None = None
) -> tuple[Rejudged, ...]:
    """Judge every version that gates ever judged under another policy, by name and number.

    Parameters
    ----------
    name: one model only; every model when None.

    Raises
    ------
    NotFound: no such model.
    """
    if name is not None:
        registry.check_model(name)
    names = registry.names() if name is None else (name,)
    return tuple(one for model in names for one in _of_model(registry, policy, model))


def _of_model(registry: ModelRegistry, policy: Policy, name: str) -> Iterable[Rejudged]:
    history = registry.history(name)
    versions = registry.list(name)
    by_digest = {record.digest: record.version for record in versions}
    for record in versions:
        judged = [
            entry
            for entry in history
            if entry.type is EventType.GATE and entry.to_version == record.version
        ]
        if not judged:
            continue
        entry = judged[-1]
        then = GateRecord.from_json(entry.evidence["report"])
        champion = None
        against = by_digest.get(then.champion_digest)
        if against is not None and against != record.version:
            evidence = _evidence_at(history, against, entry.seq)
            champion = Champion(against, then.champion_digest, evidence)
        evidence = _evidence_at(history, record.version, entry.seq)
        try:
            now = evaluate(
                policy,
                then.policy,
                evidence,
                now=entry.at,
                champion=champion,
                digest=record.digest,
            )
        except NotFound as error:
            yield Rejudged(
                name, record.version, entry.at, then.policy, then.outcome, None, (), error.message
            )
        else:
            changes = tuple(_changes(then, now))
            yield Rejudged(
                name, record.version, entry.at, then.policy, then.outcome, now.outcome, changes
            )


def _evidence_at(history: Iterable[Entry], version: str, seq: int) -> tuple[Evidence, ...]:
    """A version's measurements as they stood at an entry of the log, the latest of each name."""
    found: dict[str, Evidence] = {}
    for entry in history:
        if entry.type is EventType.EVIDENCE and entry.to_version == version and entry.seq < seq:
            for item in entry.evidence["evidence"]:
                found[item["name"]] = Evidence.from_json(item)
    return tuple(found[key] for key in sorted(found))


def _changes(then: GateRecord, now: GateReport) -> Iterable[GateChange]:
    old = {result.name: result for result in then.results}
    new = {result.name: result for result in now.results}
    off = {gate.name: gate.why for gate in now.switched_off}
    for gate in dict.fromkeys((*old, *new)):
        before, after = old.get(gate), new.get(gate)
        if after is None:
            reason = f"not asked: {off[gate]}" if gate in off else "not in this policy"
            yield GateChange(gate, None if before is None else before.verdict, None, reason)
        elif before is None or before.verdict is not after.verdict:
            severity = f"{after.severity}, {after.reason}"
            yield GateChange(
                gate, None if before is None else before.verdict, after.verdict, severity
            )
        elif before.severity is not after.severity:
            reason = f"{before.severity} before, {after.severity} now"
            yield GateChange(gate, before.verdict, after.verdict, reason)
