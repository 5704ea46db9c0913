"""What every offline store of files does: merge, name, select, compact and verify.

A partition's rows lie in one or more *fragments*, files that are never changed. A commit adds a
fragment to each partition that gets rows and touches no other; compaction puts the fragments of a
partition into one. A backend says how fragments are stored and how a list of them becomes current
in one step; everything else is here, so that two backends cannot differ in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import polars as pl

from assay.domain.canonical import canonical_bytes
from assay.domain.instants import Instant
from assay.domain.order import ORDER_COLUMNS
from assay.errors import ContractViolation, NotFound, Tampered, did_you_mean
from assay.features.offline.partitions import (
    Period,
    added_columns,
    bounds,
    by_partition,
    canonical_rows,
    merge,
)
from assay.features.offline.store import COLUMN_TYPES, OfflineSnapshot, Partition, Verification
from assay.lake.digest import frame_digest
from assay.lake.snapshots import HistoryEntry


@dataclass(frozen=True, slots=True)
class Fragment:
    """One file with rows of one partition, sorted by entity and total order.

    Attributes
    ----------
    name: by which the backend finds it within its partition.
    """

    name: str
    sha256: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class State:
    """A snapshot, and where its rows lie.

    Attributes
    ----------
    fragments: by the name of their partition.
    mark: what the backend knows the state by.
    """

    snapshot: OfflineSnapshot
    fragments: Mapping[str, tuple[Fragment, ...]]
    mark: Any

    def partitions(self, since: Instant | None, until: Instant | None) -> list[Partition]:
        """Those that can hold event times from ``since`` up to, not including, ``until``."""
        kept = []
        for partition in self.snapshot.partitions:
            first, last = bounds(partition.name)
            if (since is None or last >= since) and (until is None or first < until):
                kept.append(partition)
        return kept


class PartitionedStore(ABC):
    """The port :class:`~assay.features.offline.store.OfflineStore` over files.

    Parameters
    ----------
    entity: name of the column that says whose row it is.
    period: ``month`` or ``year``: how much history one partition holds.
    """

    def __init__(self, *, entity: str = "instrument", period: Period | str = Period.MONTH) -> None:
        self.entity = entity
        self.period = Period(period)
        # Where the rows of a snapshot lie never stops being true: no file is changed or removed.
        self._found: dict[tuple[str, str], State] = {}

    def commit(
        self, table: str, rows: pl.DataFrame, *, metadata: Mapping[str, str] | None = None
    ) -> OfflineSnapshot:
        """See :meth:`assay.features.offline.store.OfflineStore.commit`."""
        with self._turn(table):
            base = self._current(table)
            before = base.snapshot if base else None
            rows = canonical_rows(table, rows, self.entity, before.schema if before else None)
            schema = {name: str(dtype) for name, dtype in rows.schema.items()}
            partitions = {one.name: one for one in before.partitions} if before else {}
            fresh = {}
            for name, part in by_partition(rows, self.period).items():
                stored = (
                    self._rows(table, base, name) if base and name in partitions else part.clear()
                )
                added, together = merge(table, self.entity, stored, part)
                if added.height:
                    fresh[name] = added
                    partitions[name] = Partition(name, frame_digest(together), together.height)
            made = OfflineSnapshot(
                table=table,
                schema=schema,
                partitions=tuple(partitions[name] for name in sorted(partitions)),
                metadata=_texts(table, metadata, before),
            )
            if before is None or made != before:
                self._publish(base, made, fresh, replaced=())
        return made

    def add_columns(
        self,
        table: str,
        columns: Mapping[str, str],
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> OfflineSnapshot:
        """See :meth:`assay.features.offline.store.OfflineStore.add_columns`."""
        with self._turn(table):
            base = self._current(table)
            if base is None:
                raise NotFound(f"table {table} is empty: nothing has been committed yet")
            before = base.snapshot
            added = added_columns(table, before.schema, columns)
            if not added:
                return before
            nulls = [pl.lit(None, COLUMN_TYPES[kind]).alias(name) for name, kind in added.items()]
            fresh = {
                one.name: self._checked_rows(base, one).with_columns(nulls)
                for one in before.partitions
            }
            made = OfflineSnapshot(
                table=table,
                schema={**before.schema, **added},
                partitions=tuple(
                    Partition(name, frame_digest(rows), rows.height) for name, rows in fresh.items()
                ),
                metadata=_texts(table, metadata, before),
            )
            self._publish(base, made, fresh, replaced=tuple(fresh))
        return made

    def snapshot(self, table: str, identifier: str | None = None) -> OfflineSnapshot:
        """See :meth:`assay.features.offline.store.OfflineStore.snapshot`."""
        return self._state(table, identifier).snapshot

    def history(self, table: str) -> list[HistoryEntry]:
        """See :meth:`assay.features.offline.store.OfflineStore.history`."""
        entries: list[HistoryEntry] = []
        for state, committed_at in self._states(table):
            identifier = state.snapshot.id
            if not entries or entries[-1].snapshot != identifier:  # compaction is no new state
                entries.append(HistoryEntry(identifier, committed_at))
        return entries

    def read(
        self,
        table: str,
        snapshot: str | None = None,
        *,
        columns: Collection[str] | None = None,
        entities: Collection[str] | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
        known_by: Instant | None = None,
    ) -> pl.DataFrame:
        """See :meth:`assay.features.offline.store.OfflineStore.read`."""
        state = self._state(table, snapshot)
        chosen = _chosen(state.snapshot, columns)
        keys = [self.entity, *ORDER_COLUMNS]
        needed = [name for name in state.snapshot.schema if name in {*chosen, *keys}]
        parts = list(self._scan(state, needed, entities, since, until, known_by))
        if len(parts) > 1:
            rows = pl.concat(parts, rechunk=True).sort(keys, maintain_order=True)
        else:
            rows = parts[0] if parts else state.snapshot.empty()
        return rows.select(chosen)

    def scan(
        self,
        table: str,
        snapshot: str | None = None,
        *,
        columns: Collection[str] | None = None,
        entities: Collection[str] | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
        known_by: Instant | None = None,
    ) -> Iterator[pl.DataFrame]:
        """See :meth:`assay.features.offline.store.OfflineStore.scan`."""
        state = self._state(table, snapshot)
        chosen = _chosen(state.snapshot, columns)
        return self._scan(state, chosen, entities, since, until, known_by)

    def compact(self, table: str) -> int:
        """See :meth:`assay.features.offline.store.OfflineStore.compact`."""
        fewer = 0
        with self._turn(table):
            state = self._current(table)
            if state is None:
                raise NotFound(f"table {table} is empty: nothing has been committed yet")
            for partition in state.snapshot.partitions:
                # One partition at a time: memory does not grow with the table.
                count = len(state.fragments[partition.name])
                if count > 1:
                    rows = self._checked_rows(state, partition)
                    name = partition.name
                    state = self._publish(state, state.snapshot, {name: rows}, replaced=(name,))
                    fewer += count - 1
        return fewer

    def verify(self, table: str) -> Verification:
        """See :meth:`assay.features.offline.store.OfflineStore.verify`."""
        seen: set[str] = set()
        files: dict[str, Fragment] = {}
        rows = 0
        snapshots = set()
        for state, _ in self._states(table):
            self._confirm(state)
            snapshots.add(state.snapshot.id)
            for partition in state.snapshot.partitions:
                fragments = state.fragments[partition.name]
                # The same content in other files is read again: each file is looked at.
                place = "/".join([partition.name, partition.digest, *(f.sha256 for f in fragments)])
                if place not in seen:
                    seen.add(place)
                    rows += self._checked_rows(state, partition).height
                files.update((fragment.sha256, fragment) for fragment in fragments)
        if not snapshots:
            raise NotFound(f"table {table} is empty: nothing has been committed yet")
        size = sum(fragment.bytes for fragment in files.values())
        return Verification(len(snapshots), len(files), rows, size)

    @abstractmethod
    def tables(self) -> tuple[str, ...]:
        """See :meth:`assay.features.offline.store.OfflineStore.tables`."""

    @abstractmethod
    def _turn(self, table: str) -> AbstractContextManager[None]:
        """The writer's turn at this table; ends what a killed writer began.

        Raises
        ------
        NotFound: the name is malformed.
        """

    @abstractmethod
    def _current(self, table: str) -> State | None:
        """What is current, None before the first commit."""

    @abstractmethod
    def _states(self, table: str, *, newest_first: bool = False) -> Iterator[tuple[State, Instant]]:
        """All states in order with the moment of their commit; compaction repeats a snapshot."""

    def _confirm(self, state: State) -> None:  # noqa: B027 - a backend may have nothing to ask
        """Refuse a state that the backend's own books contradict.

        Raises
        ------
        Tampered: they do.
        """

    @abstractmethod
    def _load(
        self, table: str, partition: str, fragment: Fragment, columns: list[str]
    ) -> pl.DataFrame:
        """The rows of a fragment, its bytes checked before any of them is decoded."""

    @abstractmethod
    def _publish(
        self,
        base: State | None,
        snapshot: OfflineSnapshot,
        fresh: Mapping[str, pl.DataFrame],
        *,
        replaced: Collection[str],
    ) -> State:
        """Make the state current that follows from ``base``, in one step.

        Parameters
        ----------
        fresh: a new fragment per partition.
        replaced: partitions whose other fragments no longer belong to the state.
        """

    def _state(self, table: str, identifier: str | None) -> State:
        if identifier is None:
            current = self._current(table)
            if current is None:
                raise NotFound(f"table {table} is empty: nothing has been committed yet")
            return current
        known = self._found.get((table, identifier))
        if known is not None:
            return known
        # Backwards: what is asked for is mostly recent, and the last state has the fewest files.
        for state, _ in self._states(table, newest_first=True):
            if state.snapshot.id == identifier:
                self._confirm(state)
                self._found[table, identifier] = state
                return state
        raise NotFound(f"table {table} has no snapshot {identifier}")

    def _scan(
        self,
        state: State,
        columns: list[str],
        entities: Collection[str] | None,
        since: Instant | None,
        until: Instant | None,
        known_by: Instant | None,
    ) -> Iterator[pl.DataFrame]:
        for partition in state.partitions(since, until):
            first, last = bounds(partition.name)
            conditions = []
            if entities is not None:
                wanted = pl.Series(sorted(entities), dtype=pl.String)
                conditions.append(pl.col(self.entity).is_in(wanted.implode()))
            # A partition that lies inside as a whole is not filtered: that would copy it.
            if since is not None and since > first:
                conditions.append(pl.col("event_time") >= since)
            if until is not None and until <= last:
                conditions.append(pl.col("event_time") < until)
            if known_by is not None:
                conditions.append(pl.col("known_time") <= known_by)
            tested = {name for condition in conditions for name in condition.meta.root_names()}
            needed = [name for name in state.snapshot.schema if name in {*columns, *tested}]
            rows = self._rows(state.snapshot.table, state, partition.name, needed)
            if conditions:
                kept = rows.select(pl.all_horizontal(conditions)).to_series()
                rows = rows if kept.all() else rows.filter(kept)  # mostly all: no copy then
            if rows.height:
                yield rows.select(columns)

    def _rows(
        self, table: str, state: State, partition: str, columns: list[str] | None = None
    ) -> pl.DataFrame:
        """The rows of a partition, sorted by entity and total order."""
        columns = list(state.snapshot.schema) if columns is None else columns
        fragments = state.fragments[partition]
        if len(fragments) == 1:
            return self._load(table, partition, fragments[0], columns)
        keys = [self.entity, *ORDER_COLUMNS]
        needed = [name for name in state.snapshot.schema if name in {*columns, *keys}]
        parts = [self._load(table, partition, one, needed) for one in fragments]
        return pl.concat(parts, rechunk=True).sort(keys, maintain_order=True).select(columns)

    def _checked_rows(self, state: State, partition: Partition) -> pl.DataFrame:
        table = state.snapshot.table
        rows = self._rows(table, state, partition.name)
        if frame_digest(rows) != partition.digest:
            raise Tampered(
                f"partition {partition.name} of table {table} does not hold the rows "
                f"of snapshot {state.snapshot.id}"
            )
        return rows


def _chosen(snapshot: OfflineSnapshot, columns: Collection[str] | None) -> list[str]:
    if columns is None:
        return list(snapshot.schema)
    for name in columns:
        if name not in snapshot.schema:
            raise NotFound(
                f"table {snapshot.table} has no column {name!r}",
                hint=did_you_mean(name, snapshot.schema),
            )
    return [name for name in snapshot.schema if name in set(columns)]


def _texts(
    table: str, metadata: Mapping[str, str] | None, before: OfflineSnapshot | None
) -> Mapping[str, str]:
    if metadata is None:
        return before.metadata if before else {}
    for name, text in metadata.items():
        if type(text) is not str:
            raise ContractViolation(f"table {table}: metadata {name!r} is {text!r}, expected text")
    canonical_bytes(dict(metadata))  # refuses names that are no text
    return dict(metadata)


def with_fragments(
    base: State | None, replaced: Collection[str], fresh: Mapping[str, Fragment]
) -> dict[str, tuple[Fragment, ...]]:
    """The fragments of the state that follows from ``base``."""
    fragments = dict(base.fragments) if base else {}
    for name in replaced:
        fragments.pop(name, None)
    for name, fragment in fresh.items():
        fragments[name] = (*fragments.get(name, ()), fragment)
    return fragments
