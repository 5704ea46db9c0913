"""Holding, collecting and bringing back the files of versions.

Collecting appends its entry first and removes the files after it: dying in between leaves files
that the next collection removes, and never a version that is gone without an entry that says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.domain.instants import render
from assay.errors import Conflict, Refused
from assay.registry.catalogue import VersionRecord
from assay.registry.journal import NewEvent
from assay.registry.keyring import check_identity
from assay.registry.lifecycle import EventType
from assay.registry.log import Entry
from assay.registry.model_registry import ModelRegistry
from assay.registry.retention import Holding, Inventory, Retention
from assay.registry.sealed import SealedFiles, as_it_is, verified
from assay.registry.version_files import collected_error


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did, or would do.

    Attributes
    ----------
    holdings: every version and what was decided about it.
    leftovers: what belongs to no version -> its bytes; removed too.
    freed: bytes. dry_run: whether nothing was removed, and ``freed`` counts the leftovers alone.
    """

    holdings: tuple[Holding, ...]
    leftovers: Mapping[str, int]
    freed: int
    dry_run: bool

    @property
    def collected(self) -> tuple[Holding, ...]:
        return tuple(one for one in self.holdings if one.collect)

    def to_json(self) -> dict[str, Any]:
        return {
            "dry_run": self.dry_run,
            "freed": self.freed,
            "versions": [one.to_json() for one in self.holdings],
            "leftovers": dict(self.leftovers),
        }


def collect(
    registry: ModelRegistry,
    retention: Retention,
    *,
    initiated_by: str,
    references: Mapping[tuple[str, str], str] | None = None,
    dry_run: bool = False,
) -> Collected:
    """Remove the files of versions that nothing keeps, and what killed writers left behind.

    The lock is held for one version at a time, so that nobody waits for a long collection.
    """
    check_identity(initiated_by)
    inventory = Inventory(registry, retention, registry.now(), references or {})
    planned, freed = inventory.holdings(), 0
    holdings = [one for one in planned if dry_run or not one.collect]
    journal = registry.journal
    for one in planned if not dry_run else ():
        if not one.collect:
            continue
        with journal.locked():
            # Somebody may have promoted, held or collected it since.
            holding = inventory.holding(registry.get(*one.version[:2]))
            if holding is None:
                continue
            holdings.append(holding)
            if holding.collect:
                version = holding.version
                journal.append(_event(EventType.COLLECT, version, initiated_by, holding.why))
                freed += journal.artifacts.remove(version.name, version.version, version.digest)
    with journal.locked():
        for version in registry.list():
            if not dry_run and registry.collected(version) is not None:
                freed += journal.artifacts.remove(version.name, version.version, version.digest)
        leftovers = journal.artifacts.leftovers()
        for leftover in leftovers if not dry_run else ():
            journal.artifacts.remove_leftover(leftover)
    holdings.sort(key=lambda one: (one.version.name, one.version.semantic))
    return Collected(tuple(holdings), leftovers, freed + sum(leftovers.values()), dry_run)


def hold(
    registry: ModelRegistry, name: str, version: str, *, initiated_by: str, reason: str
) -> Entry:
    """Keep the files of a version until it is released, whatever its age.

    Raises
    ------
    Conflict: it is held already. NotFound: its files were collected. Refused: no reason was given.
    """
    _require(reason, "a hold")
    with registry.journal.locked():
        record = registry.get(name, version)
        held, collected = registry.held(record), registry.collected(record)
        if held is not None:
            raise Conflict(
                f"{name} {version} is held by {held.initiated_by} since {render(held.at)}"
            )
        if collected is not None:
            raise collected_error(record, collected)
        return registry.journal.append(_event(EventType.HOLD, record, initiated_by, reason))


def release(
    registry: ModelRegistry, name: str, version: str, *, initiated_by: str, reason: str
) -> Entry:
    """Let a version that was held be collected when its time has come.

    Raises
    ------
    Conflict: it is not held. Refused: no reason was given.
    """
    _require(reason, "a release")
    with registry.journal.locked():
        record = registry.get(name, version)
        if registry.held(record) is None:
            raise Conflict(f"{name} {version} is not held")
        return registry.journal.append(_event(EventType.RELEASE, record, initiated_by, reason))


def bring_back(
    registry: ModelRegistry,
    name: str,
    version: str,
    files: Mapping[str, bytes],
    *,
    initiated_by: str,
    reason: str,
) -> Entry | None:
    """Put the files of a version back which were collected, or lost; from a backup.

    None where they are there and whole, and nothing was done.

    Raises
    ------
    Tampered: these are not the files that were registered. Refused: no reason was given.
    """
    _require(reason, "bringing files back")
    journal = registry.journal
    with journal.locked():
        record = registry.get(name, version)
        # Whether it may be served is asked when it is: here it has to be what was registered.
        verified(files, (), name, record.version, record.digest, registry.keyring, vouched=as_it_is)
        if registry.is_whole(record):
            return None
        sealed = SealedFiles(files)
        journal.artifacts.prepare(name, record.version, sealed)
        entry = journal.append(_event(EventType.RESTORE, record, initiated_by, reason))
        if journal.artifacts.is_there(name, record.version, record.digest):
            journal.artifacts.remove(name, record.version, record.digest)
        journal.artifacts.put_in_place(name, record.version, record.digest)
        return entry


def _event(kind: EventType, record: VersionRecord, by: str, reason: str) -> NewEvent:
    return NewEvent(
        kind,
        record.name,
        record.version,
        check_identity(by),
        reason,
        {"version_digest": record.digest},
    )


def _require(reason: str, what: str) -> None:
    if not reason.strip():
        raise Refused(f"{what} needs a reason", hint='--reason "..."')
