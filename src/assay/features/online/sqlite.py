"""The online store in one SQLite file: survives kill -9, read by other processes meanwhile."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock, local
from typing import Any

from assay.domain.instants import Instant
from assay.errors import ContractViolation, Unavailable
from assay.features.online.store import (
    MAX_VERSIONS,
    RowMemory,
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
    "SELECT packed FROM online_rows WHERE view = {view} AND entity = {entity}{visible} "
    "ORDER BY event_time DESC, known_time DESC, source_rank DESC, sequence DESC LIMIT 1"
)
_ONE = _NEWEST.format(view="?", entity="?", visible="")
_ONE_VISIBLE = _NEWEST.format(
    view="?", entity="?", visible=" AND event_time <= ? AND known_time <= ?"
)
_EACH = (
    "WITH asked(place, entity) AS (VALUES {asked}) SELECT place, ({newest}) FROM asked "
    "ORDER BY place"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_AT_ONCE = 500  # entities in one query
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
# From one entity to the next by a seek: listing costs the same however long histories are.
_ENTITIES = """
WITH RECURSIVE listed(entity) AS (
    SELECT min(entity) FROM online_rows WHERE view = ?1 AND entity > ?2
    UNION ALL
    SELECT (SELECT min(entity) FROM online_rows WHERE view = ?1 AND entity > listed.entity)
    FROM listed WHERE listed.entity IS NOT NULL LIMIT ?3
)
SELECT entity FROM listed WHERE entity IS NOT NULL
"""
_PAGE = 1_000  # entities that are listed at once
_DROP = "DELETE FROM online_rows WHERE view = ? AND entity = ?"
_DROPPED_AT_ONCE = 100  # entities in one transaction: a feed that writes beside it waits no longer
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
        self._memory = RowMemory()
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
        if len(entities) != 1:
            return self.read_views({view: entities}, as_of)[view]
        # The most frequent read, written out: it costs little more than a bare lookup.
        (entity,) = entities
        connection = self._reader()
        try:
            if as_of is None:
                row = connection.execute(_ONE, (view, entity)).fetchone()
            else:
                row = connection.execute(_ONE_VISIBLE, (view, entity, as_of, as_of)).fetchone()
        except UnicodeEncodeError:
            return [None]  # a name without UTF-8 cannot have been written
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error
        return [None if row is None else self._memory.unpack(view, entity, row[0])]

    def read_views(
        self, asked: Mapping[str, Sequence[str]], as_of: Instant | None = None
    ) -> dict[str, list[StoredRow | None]]:
        """See :meth:`assay.features.online.store.OnlineStore.read_views`."""
        connection = self._reader()
        parts = [
            (view, entities[start : start + _AT_ONCE])
            for view, entities in asked.items()
            for start in range(0, len(entities), _AT_ONCE)
        ]
        found: dict[str, list[bytes | None]] = {view: [] for view in asked}
        try:
            if len(parts) > 1:
                connection.execute("BEGIN")  # one state of the store for all queries
            for view, entities in parts:
                found[view] += _newest(connection, view, entities, as_of)
            if len(parts) > 1:
                connection.execute("COMMIT")
        except UnicodeEncodeError:
            with suppress(sqlite3.Error):
                connection.rollback()
            return self._read_writable(asked, as_of)
        except sqlite3.DatabaseError as error:
            with suppress(sqlite3.Error):
                connection.rollback()
            raise self._explain(error) from error
        return {
            view: self._memory.unpack_all(view, asked[view], packed)
            for view, packed in found.items()
        }

    def _read_writable(
        self, asked: Mapping[str, Sequence[str]], as_of: Instant | None
    ) -> dict[str, list[StoredRow | None]]:
        """The same without names that have no UTF-8: under them nothing can have been written."""
        writable = {
            # No entity is called "".
            view: ["" if _SURROGATE.search(name) else name for name in entities]
            for view, entities in asked.items()
            if not _SURROGATE.search(view)
        }
        found = self.read_views(writable, as_of)
        return {view: found.get(view, [None] * len(entities)) for view, entities in asked.items()}

    def history(self, view: str, entity: str) -> list[StoredRow]:
        """See :meth:`assay.features.online.store.OnlineStore.history`."""
        return [unpack_row(entity, data) for (data,) in self._all(_HISTORY, view, entity)]

    def entities(self, view: str) -> Iterator[str]:
        """See :meth:`assay.features.online.store.OnlineStore.entities`."""
        page = [""]  # no entity is called so
        while page:
            page = [name for (name,) in self._all(_ENTITIES, view, page[-1], _PAGE)]
            yield from page

    def views(self) -> tuple[str, ...]:
        """Names of the views that have rows, sorted."""
        return tuple(name for (name,) in self._all(_VIEWS))

    def drop(self, view: str) -> int:
        """See :meth:`assay.features.online.store.OnlineStore.drop`.

        The file does not shrink; what is written next takes the room.
        """
        entities = list(self.entities(view))
        for start in range(0, len(entities), _DROPPED_AT_ONCE):
            with self._file.write() as connection:
                for entity in entities[start : start + _DROPPED_AT_ONCE]:
                    connection.execute(_DROP, (view, entity))
        return len(entities)

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            self._closed = True
            for connection in self._readers:
                connection.close()
            self._readers.clear()

    def _all(self, query: str, *values: str | int) -> list[tuple[Any]]:
        try:
            return self._reader().execute(query, values).fetchall()
        except UnicodeEncodeError:
            return []  # a name without UTF-8 cannot have been written
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


def _newest(
    connection: sqlite3.Connection, view: str, entities: Sequence[str], as_of: Instant | None
) -> list[bytes | None]:
    query = _query(len(entities), as_of is not None)
    # The second parameter is not used where everything is visible.
    return [data for _, data in connection.execute(query, (view, as_of, *entities)).fetchall()]


@lru_cache(maxsize=256)
def _query(count: int, as_of: bool) -> str:
    """One statement for all entities: each costs less than a statement of its own."""
    visible = " AND event_time <= ?2 AND known_time <= ?2" if as_of else ""
    newest = _NEWEST.format(view="?1", entity="asked.entity", visible=visible)
    asked = ", ".join(f"({place}, ?{place + 3})" for place in range(count))
    return _EACH.format(asked=asked, newest=newest)
