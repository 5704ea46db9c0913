"""What may be collected: versions whose files nobody will need, and why the others stay.

Collecting removes a version's files. Its entry, metadata in evidence, gates, approvals and every
answer about the past stay in the log for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.domain.instants import Instant, render
from assay.domain.verdicts import Outcome
from assay.domain.versions import Stage
from assay.errors import ContractViolation
from assay.registry.catalogue import VersionRecord
from assay.registry.reading import RegistryReader

NANOS_PER_DAY = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Retention:
    """How long the files of a version stay after it came into a stage, in days.

    ``rollbacks``: so many versions that were in production before, of each model, stay whatever
    their age.
    """

    staged_days: int = 180
    failed_days: int = 180
    archived_days: int = 730
    rollbacks: int = 3

    def __post_init__(self) -> None:
        if min(self.staged_days, self.failed_days, self.archived_days) < 1 or self.rollbacks < 1:
            raise ContractViolation(
                f"retention {self}: expected at least one day for each stage and one version to "
                "roll back to"
            )

    def days(self, stage: Stage) -> int:
        return {
            Stage.STAGED: self.staged_days,
            Stage.FAILED: self.failed_days,
            Stage.ARCHIVED: self.archived_days,
        }[stage]


@dataclass(frozen=True, slots=True)
class Holding:
    """One version and why its files stay; ``collect`` where nothing keeps them."""

    version: VersionRecord
    why: str
    collect: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.version.name,
            "version": self.version.version,
            "stage": str(self.version.stage),
            "digest": self.version.digest,
            "collect": self.collect,
            "why": self.why,
        }


@dataclass(frozen=True)
class Inventory:
    """Decides for every version that still has its files.

    Parameters
    ----------
    references: (model, version) -> who else needs it, such as a server that has it loaded.
    """

    registry: RegistryReader
    retention: Retention
    now: Instant
    references: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def holdings(self) -> tuple[Holding, ...]:
        """One for each version, by name and number; those that were collected are left out."""
        return tuple(holding for name in self.registry.names() for holding in self._of_model(name))

    def holding(self, record: VersionRecord) -> Holding | None:
        """The one of a version, decided anew; None where it was collected meanwhile."""
        found = (one for one in self._of_model(record.name) if one.version == record)
        return next(found, None)

    def _of_model(self, name: str) -> list[Holding]:
        versions = self.registry.list(name)
        needed = self._needed_for_rollback(name)
        baselines = [record.version for record in versions if record.baseline]
        decided = []
        for record in versions:
            if self.registry.collected(record) is not None:
                continue
            decided.append(self._decide(record, needed, baselines[-1:]))
        return decided

    def _decide(
        self, record: VersionRecord, needed: frozenset[str], baseline: list[str]
    ) -> Holding:
        held = self.registry.held(record)
        if record.stage is Stage.PRODUCTION:
            return Holding(record, f"in production since {render(record.stage_at)}")
        if held is not None:
            return Holding(
                record, f"held by {held.initiated_by} since {render(held.at)}: {held.reason}"
            )
        reference = self.references.get((record.name, record.version))
        if reference is not None:
            return Holding(record, reference)
        if record.version in needed:
            return Holding(record, "a rollback can return to it")
        if record.version in baseline:
            return Holding(record, "the model's newest baseline")
        if record.stage is Stage.STAGED:
            report = self.registry.gate_record(record.name, record.version)
            if report is not None and report.outcome is Outcome.PROMOTABLE:
                return Holding(record, "its gates say that it may be promoted")
        days = self.retention.days(record.stage)
        age = (self.now - record.stage_at) // NANOS_PER_DAY
        if age < days:
            return Holding(record, f"{record.stage} for {age} days, kept for {days}")
        why = f"{record.stage} for {age} days, kept for {days}"
        return Holding(record, why, collect=True)

    def _needed_for_rollback(self, name: str) -> frozenset[str]:
        """The versions that were in production last and are archived now."""
        earlier: dict[str, None] = {}
        for version in reversed(self.registry.productions(name)):
            if version is not None and self.registry.get(name, version).stage is Stage.ARCHIVED:
                earlier.setdefault(version)
        return frozenset(list(earlier)[: self.retention.rollbacks])
