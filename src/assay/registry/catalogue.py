"""The catalogue: an SQLite index over the log, which answers questions quickly.

It holds nothing of its own. Every row follows from the log's entries, applied in order by
:meth:`Catalogue.apply`, both when an event happens and when the index is built anew; so an index
that was dropped and rebuilt has the same rows. The database itself enforces that a model has at
most one version in production.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from assay.domain.canonical import canonical_bytes
from assay.domain.instants import Instant, render
from assay.domain.versions import SemanticVersion, Stage
from assay.errors import Tampered
from assay.registry.lifecycle import MOVES, EventOutcome, EventType, stage_changes
from assay.registry.log import EMPTY, Entry, LogHead
from assay.storage.sqlite import SqliteFile

FORMAT = 1
"""The layout of the tables. A catalogue of another layout is rebuilt when it is opened."""

_TABLES = """
CREATE TABLE applied (
    format INTEGER NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL,
    at INTEGER NOT NULL, offset INTEGER NOT NULL, described_seq INTEGER NOT NULL
);
CREATE TABLE versions (
    name TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL, stage TEXT NOT NULL,
    digest TEXT NOT NULL, identity TEXT NOT NULL, author TEXT NOT NULL,
    baseline INTEGER NOT NULL, created_at INTEGER NOT NULL, registered_at INTEGER NOT NULL,
    registered_seq INTEGER NOT NULL, stage_at INTEGER NOT NULL,
    major INTEGER NOT NULL, minor INTEGER NOT NULL, patch INTEGER NOT NULL,
    PRIMARY KEY (name, major, minor, patch)
) WITHOUT ROWID;
CREATE UNIQUE INDEX one_production_per_model ON versions (name) WHERE stage = 'production';
CREATE UNIQUE INDEX versions_by_entry ON versions (registered_seq);
CREATE UNIQUE INDEX one_version_per_content ON versions (name, identity);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, type TEXT NOT NULL, model TEXT NOT NULL,
    from_version TEXT, to_version TEXT, initiated_by TEXT NOT NULL, outcome TEXT NOT NULL,
    reason TEXT NOT NULL, evidence TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE INDEX events_of_a_version ON events (model, to_version, type, seq);
CREATE TABLE production (
    name TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, version TEXT,
    PRIMARY KEY (name, at, seq)
) WITHOUT ROWID;
"""
_TABLE_NAMES = ("applied", "versions", "events", "production")
_VERSION_COLUMNS = (
    "name, version, kind, stage, digest, author, baseline, created_at, registered_at,"
    " registered_seq, stage_at"
)


class VersionRecord(NamedTuple):
    """One version as the catalogue knows it. Times are nanoseconds since the epoch, UTC."""

    name: str
    version: str
    kind: str
    stage: Stage
    digest: str
    author: str
    baseline: bool
    created_at: Instant
    registered_at: Instant
    registered_seq: int
    stage_at: Instant

    @property
    def semantic(self) -> SemanticVersion:
        return SemanticVersion.parse(self.version)

    def to_json(self) -> dict[str, Any]:
        return self._asdict() | {
            "stage": str(self.stage),
            "created_at": render(self.created_at),
            "registered_at": render(self.registered_at),
            "stage_at": render(self.stage_at),
        }


_STAGES = {str(stage): stage for stage in Stage}


def _records(rows: Iterable[tuple[Any, ...]]) -> tuple[VersionRecord, ...]:
    """Rows whose columns stand in the order of the fields; two of them need another type.

    Spelt out because a list can have ten thousand of them, and this takes a third of the time of
    calling the class.
    """
    new = tuple.__new__
    return tuple(
        [
            new(VersionRecord, (a, b, c, _STAGES[stage], d, e, baseline == 1, f, g, h, i))
            for a, b, c, stage, d, e, baseline, f, g, h, i in rows
        ]
    )


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, at, kind, model, source, target, by, outcome, reason, evidence, previous, digest = row
    return Entry(
        seq, at, EventType(kind), model, source, target, by, EventOutcome(outcome), reason,
        json.loads(evidence), previous, digest,
    )  # fmt: skip


class Catalogue:
    """Reads of the index, and the one way to change it."""

    def __init__(self, path: Path) -> None:
        self.file = SqliteFile(path)

    # -- changing -------------------------------------------------------------------------------

    def applied(self, connection: sqlite3.Connection | None = None) -> LogHead | None:
        """How far the log has been applied; None when there is no catalogue of this layout."""
        if connection is None:
            if not self.file.path.exists():
                return None
            with self.file.read() as opened:
                return self.applied(opened)
        if not connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'applied'"
        ).fetchone():
            return None
        row = connection.execute("SELECT format, seq, hash, at, offset FROM applied").fetchone()
        if row is None or row[0] != FORMAT:
            return None
        return LogHead(row[1], row[2], row[3], row[4])

    def create(self, connection: sqlite3.Connection) -> LogHead:
        """Empty tables, whatever was there before."""
        for table in _TABLE_NAMES:
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in _TABLES.split(";"):
            if statement.strip():
                connection.execute(statement)
        connection.execute(
            "INSERT INTO applied VALUES (?, ?, ?, ?, ?, 0)",
            (FORMAT, EMPTY.seq, EMPTY.hash, EMPTY.at, EMPTY.offset),
        )
        return EMPTY

    def apply(self, connection: sqlite3.Connection, entry: Entry) -> None:
        """The rows that follow from one entry.

        Raises
        ------
        Refused: the lifecycle has no such move.
        """
        connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.seq, entry.at, entry.type, entry.model, entry.from_version,
                entry.to_version, entry.initiated_by, entry.outcome, entry.reason,
                canonical_bytes(dict(entry.evidence)).decode(), entry.previous, entry.hash,
            ),
        )  # fmt: skip
        if entry.outcome is not EventOutcome.DONE:
            return
        if entry.type is EventType.REGISTER:
            self._insert_version(connection, entry)
        elif entry.type in MOVES:
            self._move(connection, entry)

    def set_applied(self, connection: sqlite3.Connection, head: LogHead) -> None:
        """Remember how far the log has been applied, in the transaction that applied it."""
        connection.execute(
            "UPDATE applied SET seq = ?, hash = ?, at = ?, offset = ?",
            (head.seq, head.hash, head.at, head.offset),
        )

    def _insert_version(self, connection: sqlite3.Connection, entry: Entry) -> None:
        record = entry.evidence
        version = SemanticVersion.parse(str(entry.to_version))
        connection.execute(
            f"INSERT INTO versions ({_VERSION_COLUMNS}, identity, major, minor, patch)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.model, str(version), record["kind"], Stage.STAGED, record["digest"],
                record["author"], record["baseline"], record["created_at"], entry.at, entry.seq,
                entry.at, record["identity"], version.major, version.minor, version.patch,
            ),
        )  # fmt: skip
        connection.execute("UPDATE applied SET described_seq = ?", (entry.seq,))

    def _move(self, connection: sqlite3.Connection, entry: Entry) -> None:
        record = self.find(entry.model, str(entry.to_version), connection)
        if record is None:
            raise Tampered(
                f"entry {entry.seq} is about {entry.model} {entry.to_version}, "
                "which was never registered"
            )
        champion = self.current(entry.model, connection)
        production = champion.version if champion else None
        changes = stage_changes(
            entry.type,
            version=record.version,
            stage=record.stage,
            production=production,
            keep=bool(entry.evidence.get("keep", False)),
        )
        after = production
        for change in changes:
            connection.execute(
                "UPDATE versions SET stage = ?, stage_at = ? WHERE name = ? AND version = ?",
                (change.stage, entry.at, entry.model, change.version),
            )
            if change.stage is Stage.PRODUCTION:
                after = change.version
            elif change.version == after:
                after = None
        if after != production:
            connection.execute(
                "INSERT INTO production VALUES (?, ?, ?, ?)",
                (entry.model, entry.seq, entry.at, after),
            )
        connection.execute("UPDATE applied SET described_seq = ?", (entry.seq,))

    # -- reading --------------------------------------------------------------------------------

    def described_seq(self) -> int:
        """The last entry that registered or moved a version."""
        with self.file.read() as connection:
            return int(connection.execute("SELECT described_seq FROM applied").fetchone()[0])

    def find(
        self, name: str, version: str, connection: sqlite3.Connection | None = None
    ) -> VersionRecord | None:
        """One version, by its bare version number."""
        parts = SemanticVersion.parse(version)
        return self._one(
            "name = ? AND major = ? AND minor = ? AND patch = ?",
            (name, parts.major, parts.minor, parts.patch),
            connection,
        )

    def find_identity(self, name: str, identity: str) -> VersionRecord | None:
        """The version of a model that has this content, if one has."""
        return self._one("name = ? AND identity = ?", (name, identity), None)

    def current(
        self, name: str, connection: sqlite3.Connection | None = None
    ) -> VersionRecord | None:
        """The version in production."""
        return self._one("name = ? AND stage = 'production'", (name,), connection)

    def _one(
        self, where: str, values: tuple[Any, ...], connection: sqlite3.Connection | None
    ) -> VersionRecord | None:
        if connection is None:
            with self.file.read() as opened:
                return self._one(where, values, opened)
        row = connection.execute(
            f"SELECT {_VERSION_COLUMNS} FROM versions WHERE {where}", values
        ).fetchone()
        return None if row is None else _records([tuple(row)])[0]

    def select(self, name: str | None, stage: Stage | None) -> tuple[VersionRecord, ...]:
        """Versions by name and number, ascending."""
        conditions, values = ["1"], []
        if name is not None:
            conditions.append("name = ?")
            values.append(name)
        if stage is not None:
            conditions.append("stage = ?")
            values.append(str(stage))
        query = (
            f"SELECT {_VERSION_COLUMNS} FROM versions WHERE {' AND '.join(conditions)}"
            " ORDER BY name, major, minor, patch"
        )
        with self.file.read() as connection:
            connection.row_factory = None
            return _records(connection.execute(query, values))

    def last_registered(self) -> VersionRecord | None:
        """The version that was registered last, of all models."""
        return self._one("1 ORDER BY registered_seq DESC LIMIT 1", (), None)

    def names(self) -> tuple[str, ...]:
        """Every model that has a version, in order."""
        with self.file.read() as connection:
            rows = connection.execute("SELECT DISTINCT name FROM versions ORDER BY 1").fetchall()
        return tuple(row[0] for row in rows)

    def champions(self) -> dict[str, str]:
        """Model -> version in production."""
        with self.file.read() as connection:
            # The literal lets SQLite answer from the partial index.
            rows = connection.execute(
                "SELECT name, version FROM versions WHERE stage = 'production' ORDER BY name"
            ).fetchall()
        return {row[0]: row[1] for row in rows}

    def live_at(self, name: str, instant: Instant) -> tuple[str | None, Instant, int] | None:
        """The version in production at an instant, since when, by which entry; None: never yet."""
        with self.file.read() as connection:
            row = connection.execute(
                "SELECT version, at, seq FROM production WHERE name = ? AND at <= ?"
                " ORDER BY at DESC, seq DESC LIMIT 1",
                (name, instant),
            ).fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def productions(self, name: str) -> tuple[str | None, ...]:
        """What was in production, in order; None where nothing was."""
        with self.file.read() as connection:
            rows = connection.execute(
                "SELECT version FROM production WHERE name = ? ORDER BY at, seq", (name,)
            ).fetchall()
        return tuple(row[0] for row in rows)

    def events(
        self,
        name: str | None,
        version: str | None = None,
        types: tuple[EventType, ...] = (),
        *,
        after: int = 0,
    ) -> tuple[Entry, ...]:
        """Entries about a model (one version of it, of some types, behind a number), in order."""
        conditions: list[str] = ["seq > ?"]
        values: list[int | str] = [after]
        if name is not None:
            conditions.append("model = ?")
            values.append(name)
        if version is not None:
            conditions.append("to_version = ?")
            values.append(version)
        if types:
            conditions.append(f"type IN ({', '.join('?' * len(types))})")
            values.extend(types)
        query = f"SELECT * FROM events WHERE {' AND '.join(conditions)} ORDER BY seq"
        with self.file.read() as connection:
            return tuple(_entry(tuple(row)) for row in connection.execute(query, values))

    def dump(self) -> Iterator[str]:
        """Every row as text, in order: two catalogues are equal when their dumps are."""
        with self.file.read() as connection:
            for table in _TABLE_NAMES:
                for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2"):
                    yield f"{table} {tuple(row)}"
