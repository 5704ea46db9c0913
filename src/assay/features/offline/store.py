"""The port of offline stores: every version of every row, and every earlier state of a table.

Laws (one suite in :mod:`assay.testing.offline_store` holds every store to them):

1. Writing a row again changes nothing; other content at its place in the total order is refused.
2. A batch is stored whole or not at all, whatever instant its writer dies at.
3. A snapshot's id follows from its table's name, schema, metadata and rows alone: the same rows in
   one batch or in many, in any order, in any store with the same partitions, have the same id.
4. Every snapshot stays readable. Compaction changes files, never an id or an answer; columns that
   are added change neither the rows nor the answers of snapshots before.
5. What is read was checked against what was written; a changed byte is named, never served.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import polars as pl
from polars.datatypes import DataType

from assay.domain.canonical import content_hash
from assay.domain.instants import Instant
from assay.errors import NotFound
from assay.lake.snapshots import HistoryEntry

COLUMN_TYPES: Final[Mapping[str, type[DataType]]] = {
    str(dtype()): dtype
    for dtype in (
        pl.Boolean,
        pl.Int8,
        pl.Int16,
        pl.Int32,
        pl.Int64,
        pl.Float32,
        pl.Float64,
        pl.String,
        pl.Date,
    )
}
"""The types that a column may have, by name: those that every store keeps bit for bit."""

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Partition:
    """The rows of one calendar month or year (UTC, by event time) in one snapshot.

    Attributes
    ----------
    name: ``2024-03`` or ``2024``.
    digest: :func:`assay.lake.digest.frame_digest` of the rows, sorted by entity and total order.
    """

    name: str
    digest: str
    rows: int


@dataclass(frozen=True, slots=True)
class OfflineSnapshot:
    """One immutable state of a table; equal content has an equal :attr:`id`.

    Attributes
    ----------
    schema: type by column; entity and the total order come first.
    partitions: in the order of time, without empty ones.
    metadata: short texts that belong to the content, for example the hash of a manifest.
    """

    table: str
    schema: Mapping[str, str]
    partitions: tuple[Partition, ...]
    metadata: Mapping[str, str]

    @property
    def id(self) -> str:
        """SHA-256 of the canonical form of everything above."""
        return content_hash(
            {
                "format": _FORMAT,
                "table": self.table,
                "schema": [[name, dtype] for name, dtype in self.schema.items()],
                "partitions": [[one.name, one.digest, one.rows] for one in self.partitions],
                "metadata": dict(self.metadata),
            }
        )

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.partitions)

    def empty(self) -> pl.DataFrame:
        """No rows, with the columns of the snapshot."""
        types: dict[str, Any] = {name: COLUMN_TYPES[dtype] for name, dtype in self.schema.items()}
        return pl.DataFrame(schema=types)


@dataclass(frozen=True, slots=True)
class Verification:
    """What :meth:`OfflineStore.verify` has read and found as it was written."""

    snapshots: int
    files: int
    rows: int
    bytes: int


class OfflineStore(Protocol):
    """Versions of rows by table. Several processes may read and write; writers take turns.

    Attributes
    ----------
    entity: name of the column that says whose row it is.
    """

    entity: str

    def commit(
        self, table: str, rows: pl.DataFrame, *, metadata: Mapping[str, str] | None = None
    ) -> OfflineSnapshot:
        """Add ``rows`` to the table, all or none; return the snapshot that is current then.

        Parameters
        ----------
        table: ``<layer>/<name>``, for example ``gold/fx_core``. The first commit makes it.
        rows: the entity column, the four columns of the total order (integers, no nulls) and
            values of :data:`COLUMN_TYPES`. Any order of rows and columns.
        metadata: replaces that of the snapshot before; None keeps it.

        Raises
        ------
        Conflict: a row stands where another one with different content does.
        ContractViolation: the columns are not those of the table, or a key is null.
        NotFound: the table's name is malformed.
        """
        ...

    def add_columns(
        self,
        table: str,
        columns: Mapping[str, str],
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> OfflineSnapshot:
        """Add columns at the end; rows that are stored have null there, and keep it.

        Every file is written once more, the table is in memory for it. Columns that are there
        with the same type are passed over, so a call that was killed is made again.

        Parameters
        ----------
        columns: type by name, of :data:`COLUMN_TYPES`.
        metadata: replaces that of the snapshot before; None keeps it.

        Raises
        ------
        NotFound: there is no such table. ContractViolation: a column is there with another type,
        or the type is none that every store keeps.
        """
        ...

    def snapshot(self, table: str, identifier: str | None = None) -> OfflineSnapshot:
        """The snapshot with this id; None means the current one.

        Raises
        ------
        NotFound: there is no such table or snapshot.
        """
        ...

    def history(self, table: str) -> list[HistoryEntry]:
        """Which snapshots were current, and since when, oldest first. Unknown table: empty."""
        ...

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
        """Rows of a snapshot (None: the current one), sorted by entity and total order.

        Parameters
        ----------
        columns: None means all; a selection comes in the order of the table.
        since, until: event times from ``since`` up to, not including, ``until``.
        known_by: rows known later do not exist.

        Raises
        ------
        NotFound: there is no such table, snapshot or column.
        Tampered: a file is missing or has changed; names it.
        """
        ...

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
        """What :meth:`read` gives, one partition at a time, in the order of time.

        Each frame is sorted by entity and total order; no two hold the same event time. All of
        them belong to one snapshot, and one is in memory at a time.
        """
        ...

    def compact(self, table: str) -> int:
        """Put what lies in several files of a partition into one; how many files fewer are read.

        Files of older states stay, so that these stay readable.
        """
        ...

    def verify(self, table: str) -> Verification:
        """Read every file of every snapshot and compare it with what was written.

        Raises
        ------
        Tampered: a file is missing or has changed; names it.
        """
        ...

    def tables(self) -> tuple[str, ...]:
        """Names of the tables that have a snapshot, sorted."""
        ...


def snapshot_at(store: OfflineStore, table: str, moment: Instant) -> OfflineSnapshot:
    """The snapshot that was current at ``moment`` by the clock of the commits.

    Raises
    ------
    NotFound: nothing had been committed by then.
    """
    entries = [entry for entry in store.history(table) if entry.committed_at <= moment]
    if not entries:
        raise NotFound(f"table {table} had no snapshot at {moment}")
    return store.snapshot(table, entries[-1].snapshot)
