"""The offline store over Delta Lake tables."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from assay.adapters.delta.log import PARTITION, CommitLog, DataFile
from assay.domain.canonical import sha256_hex
from assay.domain.clock import Clock
from assay.domain.instants import Instant
from assay.errors import Conflict, ContractViolation, Tampered
from assay.features.offline.partitioned_store import (
    Fragment,
    PartitionedStore,
    State,
    with_fragments,
)
from assay.features.offline.partitions import Period
from assay.features.offline.store import OfflineSnapshot, Partition
from assay.lake.lake import require_table_name
from assay.storage.files import write_atomic
from assay.storage.locks import FileLock


class DeltaStore(PartitionedStore):
    """Each table is a Delta table in ``root/<layer>/<name>``, on a local disk.

    A commit is one version of it; compaction is a version without changed rows. Other readers see
    the columns of the table and :data:`~assay.adapters.delta.log.PARTITION`, the month or year.
    Nothing is ever vacuumed here: a vacuum by hand ends the older snapshots.
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
        self._root = root
        self._clock = clock

    def tables(self) -> tuple[str, ...]:
        """See :meth:`assay.features.offline.store.OfflineStore.tables`."""
        found = (path.parent.parent for path in self._root.glob("*/*/.assay/rows.lock"))
        names = (path.relative_to(self._root).as_posix() for path in found)
        return tuple(sorted(name for name in names if self._log(name).version() >= 0))

    def version(self, table: str, identifier: str | None = None) -> int:
        """The Delta version that holds a snapshot (None: the current one), for other readers.

        Raises
        ------
        NotFound: there is no such table or snapshot.
        """
        return int(self._state(table, identifier).mark)

    @contextmanager
    def _turn(self, table: str) -> Iterator[None]:
        log = self._log(table)
        with FileLock(log.root / ".assay" / "rows.lock"):
            log.repair()
            yield

    def _current(self, table: str) -> State | None:
        log = self._log(table)
        version = log.version()
        if version < 0:
            return None
        log.check()
        state, _ = self._read(table, log, version)
        self._confirm(state)
        return state

    def _states(self, table: str, *, newest_first: bool = False) -> Iterator[tuple[State, Instant]]:
        log = self._log(table)
        log.check()
        versions = range(log.version() + 1)
        for version in reversed(versions) if newest_first else versions:
            yield self._read(table, log, version)

    def _read(self, table: str, log: CommitLog, version: int) -> tuple[State, Instant]:
        record = log.record(version)
        try:
            if (record["entity"], record["period"]) != (self.entity, self.period):
                raise Conflict(
                    f"table {table} has entity {record['entity']!r} and one partition per "
                    f"{record['period']}, the store {self.entity!r} and {str(self.period)!r}",
                    hint=f"open it with entity={record['entity']!r}, period={record['period']!r}",
                )
            partitions = tuple(Partition(*one) for one in record["partitions"])
            schema = dict(record["schema"])
            snapshot = OfflineSnapshot(record["table"], schema, partitions, record["metadata"])
            fragments = {
                name: tuple(Fragment(sha256, sha256, rows, size) for sha256, rows, size in files)
                for name, files in record["files"].items()
            }
            identifier, committed_at = record["snapshot"], record["committed_at"]
        except (KeyError, TypeError, ValueError) as error:
            raise Tampered(f"table {table}: the record of version {version}: {error!r}") from None
        if snapshot.id != identifier or fragments.keys() != {one.name for one in partitions}:
            raise Tampered(f"table {table}: the record of version {version} contradicts itself")
        return State(snapshot, fragments, version), committed_at

    def _confirm(self, state: State) -> None:
        log = self._log(state.snapshot.table)
        log.compare(int(state.mark), _data_files(state.fragments))

    def _load(
        self, table: str, partition: str, fragment: Fragment, columns: list[str]
    ) -> pl.DataFrame:
        path = self._root / table / f"{PARTITION}={partition}" / f"{fragment.sha256}.parquet"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise Tampered(f"file {path} of table {table} is missing") from None
        if sha256_hex(data) != fragment.sha256:
            raise Tampered(f"file {path} of table {table} has changed since it was committed")
        return pl.read_parquet(io.BytesIO(data), columns=columns)

    def _publish(
        self,
        base: State | None,
        snapshot: OfflineSnapshot,
        fresh: Mapping[str, pl.DataFrame],
        *,
        replaced: Collection[str],
    ) -> State:
        if PARTITION in snapshot.schema:
            raise ContractViolation(
                f"table {snapshot.table}: column {PARTITION} is the store's own",
                hint="give the column another name",
            )
        log = self._log(snapshot.table)
        added = {name: self._write(log.root, name, rows) for name, rows in fresh.items()}
        fragments = with_fragments(base, replaced, added)
        before = base.fragments if base else {}
        committed_at = self._clock.now()
        record: dict[str, Any] = {
            "table": snapshot.table,
            "snapshot": snapshot.id,
            "entity": self.entity,
            "period": str(self.period),
            "schema": [[name, kind] for name, kind in snapshot.schema.items()],
            "metadata": dict(snapshot.metadata),
            "partitions": [[one.name, one.digest, one.rows] for one in snapshot.partitions],
            "files": {
                name: [[one.sha256, one.rows, one.bytes] for one in files]
                for name, files in fragments.items()
            },
            "committed_at": committed_at,
        }
        version = log.commit(
            -1 if base is None else int(base.mark),
            snapshot.schema,
            record,
            add=_data_files({name: (one,) for name, one in added.items()}),
            remove=_data_files({name: before[name] for name in replaced}),
            changes_rows=not replaced,
        )
        return State(snapshot, fragments, version)

    def _write(self, root: Path, partition: str, rows: pl.DataFrame) -> Fragment:
        buffer = io.BytesIO()
        rows.rechunk().write_parquet(buffer, compression="zstd", compression_level=3)
        data = buffer.getvalue()
        sha256 = sha256_hex(data)
        write_atomic(root / f"{PARTITION}={partition}" / f"{sha256}.parquet", data)
        return Fragment(sha256, sha256, rows.height, len(data))

    def _log(self, table: str) -> CommitLog:
        require_table_name(table)
        return CommitLog(self._root / table)


def _data_files(fragments: Mapping[str, tuple[Fragment, ...]]) -> list[DataFile]:
    return [
        DataFile(partition, one.sha256, one.rows, one.bytes)
        for partition, files in fragments.items()
        for one in files
    ]
