"""The online store in one SQLite file: survives kill -9, read by other processes meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from threading import Lock, local
from typing import Any

from assay.domain.instants import Instant
from assay.errors import ContractViolation, Unavailable
from assay.features.online.store import (
    MAX_VERSIONS,
    StoredRow,
    conflicting,
    pack_row,
    unpack_row,
)
from assay.storage.sqlite import SqliteFile

# One tree, ordered as the total order: the newest row is one seek, whatever the history's length.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS online_rows (
    view TEXT NOT NULL, entity TEXT NOT NULL,
    event_time INTEGER NOT NULL, known_time INTEGER NOT NULL,
    source_rank INTEGER NOT NULL, sequence INTEGER NOT NULL,
    packed BLOB NOT NULL,
    PRIMARY KEY (view, entity, event_time, known_time, source_rank, sequence)
) WITHOUT ROWID
"""
_NEWEST = (
    "SELECT packed FROM online_rows WHERE view = ? AND entity = ? "
    "ORDER BY event_time DESC, known_time DESC, source_rank DESC, sequence DESC LIMIT 1"
)
_VISIBLE = (
    "SELECT packed FROM online_rows WHERE view = ? AND entity = ? "
    "AND event_time <= ? AND known_time <= ? "
    "ORDER BY event_time DESC, known_time DESC, source_rank DESC, sequence DESC LIMIT 1"
)
_HISTORY = (
    "SELECT packed FROM online_rows WHERE view = ? AND entity = ? "
    "ORDER BY event_time, known_time, source_rank, sequence"
)
_INSERT = "INSERT OR IGNORE INTO online_rows VALUES (?, ?, ?, ?, ?, ?, ?)"
_HELD = (
    "SELECT packed FROM online_rows WHERE view = ? AND entity = ? "
    "AND event_time = ? AND known_time = ? AND source_rank = ? AND sequence = ?"
)
_TRIM = """
DELETE FROM online_rows WHERE view = ?1 AND entity = ?2
AND (event_time, known_time, source_rank, sequence) < (
    SELECT event_time, known_time, source_rank, sequence FROM online_rows
    WHERE view = ?1 AND entity = ?2
    ORDER BY event_time DESC, known_time DESC, source_rank DESC, sequence DESC
    LIMIT 1 OFFSET ?3)
"""
_VIEWS = "SELECT DISTINCT view FROM online_rows ORDER BY view"


class SqliteStore:
    """Packed rows in a SQLite file, at most ``max_versions`` for each entity of a view.

    A batch is one transaction and is on the disk when :meth:`write` returns. Each thread that
    reads keeps a read-only connection until :meth:`close`: opening one costs more than ten reads.
    Open the store after a fork, not before.
    """

    def __init__(self, path: Path, *, max_versions: int = MAX_VERSIONS) -> None:
        if max_versions < 1:
            raise ContractViolation(f"max_versions {max_versions}: expected at least one")
        self._file = SqliteFile(path)
        self._max_versions = max_versions
        self._mine = local()
        self._readers: list[sqlite3.Connection] = []
        self._lock = Lock()
        self._closed = False
        if not self._has_table():
            with self._file.write() as connection:
                connection.execute(_SCHEMA)

    def write(self, view: str, rows: Iterable[StoredRow]) -> int:
        """See :meth:`assay.features.online.store.OnlineStore.write`."""
        packed = [(row, (view, row.entity, *row.key), pack_row(view, row)) for row in rows]
        if not packed:
            return 0
        self._refuse_closed()
        added = 0
        with self._file.write() as connection:
            for row, key, data in packed:
                if connection.execute(_INSERT, (*key, data)).rowcount:
                    added += 1
                elif connection.execute(_HELD, key).fetchone()[0] != data:
                    raise conflicting(view, row)
            for entity in sorted({row.entity for row, _, _ in packed}):
                connection.execute(_TRIM, (view, entity, self._max_versions - 1))
        return added

    def read(
        self, view: str, entities: Sequence[str], as_of: Instant | None = None
    ) -> list[StoredRow | None]:
        """See :meth:`assay.features.online.store.OnlineStore.read`."""
        query, rest = (_NEWEST, ()) if as_of is None else (_VISIBLE, (as_of, as_of))
        several = len(entities) > 1
        connection = self._reader()
        try:
            execute = connection.execute
            if several:
                execute("BEGIN")  # one state of the store for all entities
            found = [_first(execute, query, (view, entity, *rest)) for entity in entities]
            if several:
                execute("COMMIT")
        except sqlite3.DatabaseError as error:
            with suppress(sqlite3.Error):
                connection.rollback()
            raise self._explain(error) from error
        return [
            None if data is None else unpack_row(entity, data[0])
            for entity, data in zip(entities, found, strict=True)
        ]

    def history(self, view: str, entity: str) -> list[StoredRow]:
        """See :meth:`assay.features.online.store.OnlineStore.history`."""
        return [unpack_row(entity, data) for (data,) in self._all(_HISTORY, view, entity)]

    def views(self) -> tuple[str, ...]:
        """Names of the views that have rows, sorted."""
        return tuple(name for (name,) in self._all(_VIEWS))

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            self._closed = True
            for connection in self._readers:
                connection.close()
            self._readers.clear()

    def _all(self, query: str, *values: str) -> list[tuple[Any]]:
        try:
            return self._reader().execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if connection is None or self._closed:
            with self._lock:
                self._refuse_closed()
                connection = self._mine.connection = self._file.open_reader()
                self._readers.append(connection)
        return connection

    def _explain(self, error: sqlite3.DatabaseError) -> Exception:
        # Another thread may have closed the store in the middle of a read.
        return self._closed_now() if self._closed else self._file.explain(error)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise self._closed_now()

    def _closed_now(self) -> Unavailable:
        return Unavailable(f"online store {self._file.path} is closed")

    def _has_table(self) -> bool:
        if not self._file.path.exists():
            return False
        query = "SELECT 1 FROM sqlite_master WHERE name = 'online_rows'"
        with closing(self._file.open_reader()) as connection:
            try:
                return connection.execute(query).fetchone() is not None
            except sqlite3.DatabaseError as error:
                raise self._file.explain(error) from error


def _first(execute: Any, query: str, values: tuple[str | Instant, ...]) -> tuple[bytes] | None:
    try:
        row: tuple[bytes] | None = execute(query, values).fetchone()
    except UnicodeEncodeError:  # such a name cannot have been written
        return None
    return row
