"""The embedded offline store: snapshot tables of the lake, cut into months or years.

A fragment is a part of the lake's table, ``2024-03.000002``. What the snapshot holds is written
into the metadata of the lake's snapshot, under :data:`ROWS`; the lake's own id names the files, the
store's id names the rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import polars as pl

from assay.domain.canonical import canonical_bytes
from assay.domain.clock import Clock
from assay.domain.instants import Instant
from assay.errors import Conflict, ContractViolation
from assay.features.offline.partitioned_store import (
    Fragment,
    PartitionedStore,
    State,
)
from assay.features.offline.partitions import Period
from assay.features.offline.store import OfflineSnapshot, Partition
from assay.lake.lake import Lake
from assay.lake.snapshots import Snapshot, SnapshotFile
from assay.storage.locks import FileLock

ROWS: Final = "assay.rows"
_NOTHING: Final = "nothing.000000"  # the part of a table that has columns and no rows


class ParquetStore(PartitionedStore):
    """Tables under ``root``, the folder of a :class:`~assay.lake.lake.Lake`.

    Tables that other code committed to the lake are refused: they have no fragments.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        *,
        entity: str = "instrument",
        period: Period | str = Period.MONTH,
    ) -> None:
        super().__init__(entity=entity, period=period)
        self._lake = Lake(root, clock)

    def tables(self) -> tuple[str, ...]:
        """See :meth:`assay.features.offline.store.OfflineStore.tables`."""
        current = ((name, self._lake.table(name).current()) for name in self._lake.tables())
        return tuple(name for name, found in current if found and ROWS in found.metadata)

    def _turn(self, table: str) -> AbstractContextManager[Any]:
        self._lake.table(table)  # refuses a malformed name before a folder is made for it
        return FileLock(self._lake.root / table / "rows.lock")

    def _current(self, table: str) -> State | None:
        found = self._lake.table(table).current()
        return None if found is None else self._state_of(found)

    def _states(self, table: str, *, newest_first: bool = False) -> Iterator[tuple[State, Instant]]:
        stored = self._lake.table(table)
        entries = stored.history()
        for entry in reversed(entries) if newest_first else entries:
            yield self._state_of(stored.snapshot(entry.snapshot)), entry.committed_at

    def _confirm(self, state: State) -> None:
        for file in state.mark.files:
            if file.part == _NOTHING:  # no partition has it, so nobody else looks at it
                self._lake.table(state.snapshot.table).read_part(file)

    def _load(
        self, table: str, partition: str, fragment: Fragment, columns: list[str]
    ) -> pl.DataFrame:
        part = f"{partition}.{fragment.name}"
        file = SnapshotFile(part, fragment.sha256, "", fragment.rows, fragment.bytes)
        return self._lake.table(table).read_part(file, columns)

    def _publish(
        self,
        base: State | None,
        snapshot: OfflineSnapshot,
        fresh: Mapping[str, pl.DataFrame],
        *,
        replaced: Collection[str],
    ) -> State:
        frames, without = {}, []
        if base is not None:
            without = [f"{p}.{one.name}" for p in replaced for one in base.fragments[p]]
            without += [_NOTHING] if snapshot.partitions else []
        for name, rows in fresh.items():
            taken = base.fragments.get(name, ()) if base else ()
            number = 1 + max((int(one.name) for one in taken), default=0)
            frames[f"{name}.{number:06d}"] = rows
        if not snapshot.partitions:
            frames[_NOTHING] = snapshot.empty()
        record = {
            "entity": self.entity,
            "period": str(self.period),
            "partitions": [[one.name, one.digest, one.rows] for one in snapshot.partitions],
        }
        if ROWS in snapshot.metadata:
            raise ContractViolation(f"table {snapshot.table}: metadata {ROWS!r} is the store's own")
        made = self._lake.table(snapshot.table).revise(
            None if base is None else base.mark,
            frames,
            without=without,
            metadata={**snapshot.metadata, ROWS: canonical_bytes(record).decode()},
        )
        return self._state_of(made)

    def _state_of(self, found: Snapshot) -> State:
        metadata = dict(found.metadata)
        text = metadata.pop(ROWS, None)
        if text is None:
            raise Conflict(
                f"table {found.table} was not written by this store: "
                f"snapshot {found.id} does not say {ROWS}",
                hint="read it with Lake.table, or commit its rows under another name",
            )
        record = json.loads(text)
        if (record["entity"], record["period"]) != (self.entity, self.period):
            raise Conflict(
                f"table {found.table} has entity {record['entity']!r} and one partition per "
                f"{record['period']}, the store {self.entity!r} and {str(self.period)!r}",
                hint=f"open it with entity={record['entity']!r}, period={record['period']!r}",
            )
        partitions = tuple(Partition(*one) for one in record["partitions"])
        snapshot = OfflineSnapshot(found.table, found.schema, partitions, metadata)
        fragments: dict[str, tuple[Fragment, ...]] = {}
        for file in found.files:
            if file.part != _NOTHING:
                name, _, number = file.part.partition(".")
                fragment = Fragment(number, file.sha256, file.rows, file.bytes)
                fragments[name] = (*fragments.get(name, ()), fragment)
        return State(snapshot, fragments, found)
