"""The catalogue: an index over the log in an SQL database, which answers questions quickly.

It holds nothing of its own. Every row follows from the log's entries, applied in order by
:meth:`Catalogue.apply`, both when an event happens and when the index is built anew; so an index
that was dropped and rebuilt has the same rows, in whatever database. The database itself enforces
that a model has at most one version in production.

Its tables, and what databases differ in, are in :mod:`~assay.registry.index_layout`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from assay.domain.canonical import canonical_bytes
from assay.domain.instants import Instant, render
from assay.domain.versions import SemanticVersion, Stage
from assay.errors import Tampered
from assay.registry.index_layout import FORMAT, TABLES, Database, Rows, statements
from assay.registry.lifecycle import MOVES, EventOutcome, EventType, stage_changes
from assay.registry.log import EMPTY, Entry, LogHead

VERSION_COLUMNS = (
    "name, version, kind, stage, digest, author, baseline, created_at, registered_at,"
    " registered_seq, stage_at"
)
_VERSIONS_AT = """
SELECT v.name, v.version, v.kind, s.stage, v.digest, v.author, v.baseline, v.created_at,
       v.registered_at, v.registered_seq, s.at
FROM versions v JOIN stages s ON s.name = v.name AND s.version = v.version
WHERE s.seq = (SELECT max(seq) FROM stages t
               WHERE t.name = v.name AND t.version = v.version AND t.at <= ?)
"""


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


def records_of(rows: Iterable[tuple[Any, ...]]) -> tuple[VersionRecord, ...]:
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

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- changing -------------------------------------------------------------------------------

    def applied(self, connection: Rows | None = None) -> LogHead | None:
        """How far the log has been applied; None when there is no catalogue of this layout."""
        found = self.layout(connection)
        return None if found is None or found[0] != FORMAT else found[1]

    def layout(self, connection: Rows | None = None) -> tuple[int, LogHead] | None:
        """The layout that is there, and how far the log has been applied; None without any."""
        if connection is None:
            if not self._database.exists():
                return None
            with self._database.read() as opened:
                return self.layout(opened)
        if not connection.execute(self._database.dialect.find_table, ("applied",)).fetchone():
            return None
        row = connection.execute('SELECT format, seq, hash, at, "offset" FROM applied').fetchone()
        if row is None:
            return None
        # SQLite keeps what it is given, whatever type a column has.
        if [type(value) for value in row] != [int, int, str, int, int]:
            raise Tampered(
                f"the index does not say how far it has come, but {row!r:.100}",
                hint="assay models rebuild makes the index again from the log",
            )
        return row[0], LogHead(row[1], row[2], row[3], row[4])

    def create(self, connection: Rows) -> LogHead:
        """Empty tables, whatever was there before."""
        for table in TABLES:
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in statements(self._database.dialect):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO applied VALUES (?, ?, ?, ?, ?, 0)",
            (FORMAT, EMPTY.seq, EMPTY.hash, EMPTY.at, EMPTY.offset),
        )
        return EMPTY

    def apply(self, connection: Rows, entry: Entry) -> bool:
        """Write the rows that follow from one entry; whether a version came or moved.

        Raises
        ------
        Refused: the lifecycle has no such move.
        """
        connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.seq, entry.at, str(entry.type), entry.model, entry.from_version,
                entry.to_version, entry.initiated_by, str(entry.outcome), entry.reason,
                canonical_bytes(dict(entry.evidence)).decode(), entry.previous, entry.hash,
            ),
        )  # fmt: skip
        if entry.outcome is not EventOutcome.DONE:
            return False
        if entry.type is EventType.REGISTER:
            self._insert_version(connection, entry)
            return True
        if entry.type in MOVES:
            self._move(connection, entry)
            return True
        return False

    def set_applied(self, connection: Rows, head: LogHead, described: int | None) -> None:
        """Remember how far the log has been applied, in the transaction that applied it.

        Parameters
        ----------
        described: the last entry by which a version came or moved; None where none of them did.
        """
        connection.execute(
            'UPDATE applied SET seq = ?, hash = ?, at = ?, "offset" = ?,'
            " described_seq = COALESCE(?, described_seq)",
            (head.seq, head.hash, head.at, head.offset, described),
        )

    def _insert_version(self, connection: Rows, entry: Entry) -> None:
        record = entry.evidence
        version = SemanticVersion.parse(str(entry.to_version))
        connection.execute(
            f"INSERT INTO versions ({VERSION_COLUMNS}, identity, major, minor, patch)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.model, str(version), record["kind"], str(Stage.STAGED), record["digest"],
                record["author"], int(record["baseline"]), record["created_at"], entry.at,
                entry.seq, entry.at, record["identity"], version.major, version.minor,
                version.patch,
            ),
        )  # fmt: skip
        self._stage(connection, entry, str(version), Stage.STAGED)

    def _stage(self, connection: Rows, entry: Entry, version: str, stage: Stage) -> None:
        connection.execute(
            "INSERT INTO stages VALUES (?, ?, ?, ?, ?)",
            (entry.model, version, entry.seq, entry.at, str(stage)),
        )

    def _move(self, connection: Rows, entry: Entry) -> None:
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
                (str(change.stage), entry.at, entry.model, change.version),
            )
            self._stage(connection, entry, change.version, change.stage)
            if change.stage is Stage.PRODUCTION:
                after = change.version
            elif change.version == after:
                after = None
        if after != production:
            connection.execute(
                "INSERT INTO production VALUES (?, ?, ?, ?)",
                (entry.model, entry.seq, entry.at, after),
            )

    # -- reading --------------------------------------------------------------------------------

    def reading(self) -> AbstractContextManager[Rows]:
        """A connection for questions that are asked elsewhere (:mod:`~assay.registry.listing`)."""
        return self._database.read()

    def described_seq(self) -> int:
        """The last entry that registered or moved a version."""
        with self._database.read() as connection:
            return int(connection.execute("SELECT described_seq FROM applied").fetchone()[0])

    def find(self, name: str, version: str, connection: Rows | None = None) -> VersionRecord | None:
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

    def current(self, name: str, connection: Rows | None = None) -> VersionRecord | None:
        """The version in production."""
        return self._one("name = ? AND stage = 'production'", (name,), connection)

    def _one(
        self, where: str, values: tuple[Any, ...], connection: Rows | None
    ) -> VersionRecord | None:
        if connection is None:
            with self._database.read() as opened:
                return self._one(where, values, opened)
        row = connection.execute(
            f"SELECT {VERSION_COLUMNS} FROM versions WHERE {where}", values
        ).fetchone()
        return None if row is None else records_of([row])[0]

    def select(self, name: str | None, stage: Stage | None) -> tuple[VersionRecord, ...]:
        """Versions by name and number, ascending."""
        conditions, values = ["1 = 1"], []
        if name is not None:
            conditions.append("name = ?")
            values.append(name)
        if stage is not None:
            conditions.append("stage = ?")
            values.append(str(stage))
        query = (
            f"SELECT {VERSION_COLUMNS} FROM versions WHERE {' AND '.join(conditions)}"
            " ORDER BY name, major, minor, patch"
        )
        with self._database.read() as connection:
            return records_of(connection.execute(query, values))

    def select_at(
        self, instant: Instant, name: str | None, stage: Stage | None
    ) -> tuple[VersionRecord, ...]:
        """The same as it was at an instant: versions registered by then, in the stages of then."""
        query = _VERSIONS_AT
        values: list[int | str] = [instant]
        for column, value in (("v.name", name), ("s.stage", stage)):
            if value is not None:
                query += f" AND {column} = ?"
                values.append(str(value))
        query += " ORDER BY v.name, v.major, v.minor, v.patch"
        with self._database.read() as connection:
            return records_of(connection.execute(query, values))

    def last_registered(self) -> VersionRecord | None:
        """The version that was registered last, of all models."""
        return self._one("1 = 1 ORDER BY registered_seq DESC LIMIT 1", (), None)

    def names(self) -> tuple[str, ...]:
        """Every model that has a version, in order."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT DISTINCT name FROM versions ORDER BY 1").fetchall()
        return tuple(row[0] for row in rows)

    def has_model(self, name: str) -> bool:
        """Whether a model has a version."""
        with self._database.read() as connection:
            row = connection.execute("SELECT 1 FROM versions WHERE name = ? LIMIT 1", (name,))
            return row.fetchone() is not None

    def champions(self) -> dict[str, str]:
        """Model -> version in production."""
        with self._database.read() as connection:
            # The literal lets SQLite answer from the partial index.
            rows = connection.execute(
                "SELECT name, version FROM versions WHERE stage = 'production' ORDER BY name"
            ).fetchall()
        return {row[0]: row[1] for row in rows}

    def live_at(self, name: str, instant: Instant) -> tuple[str | None, Instant, int] | None:
        """The version in production at an instant, since when, by which entry; None: never yet."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT version, at, seq FROM production WHERE name = ? AND at <= ?"
                " ORDER BY at DESC, seq DESC LIMIT 1",
                (name, instant),
            ).fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def productions(self, name: str) -> tuple[str | None, ...]:
        """What was in production, in order; None where nothing was."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT version FROM production WHERE name = ? ORDER BY at, seq", (name,)
            ).fetchall()
        return tuple(row[0] for row in rows)

    def timeline(self) -> tuple[tuple[str, str | None, Instant, int], ...]:
        """What was in production from when on, by which entry, by model and then in order."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT name, version, at, seq FROM production ORDER BY name, at, seq"
            ).fetchall()
        return tuple(rows)

    def stages(self) -> tuple[tuple[str, str, str, Instant, int], ...]:
        """Every stage that a version has come into: model, version, stage, when, by which entry."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT name, version, stage, at, seq FROM stages ORDER BY seq, stage"
            ).fetchall()
        return tuple(rows)

    def events(
        self,
        name: str | None,
        version: str | None = None,
        types: tuple[EventType, ...] = (),
        *,
        after: int = 0,
        limit: int | None = None,
    ) -> tuple[Entry, ...]:
        """Entries about a model (one version of it, of some types, behind a number), in order.

        ``limit`` is the number of them at most, the first ones.
        """
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
            values.extend(str(kind) for kind in types)
        query = f"SELECT * FROM events WHERE {' AND '.join(conditions)} ORDER BY seq"
        if limit is not None:
            query += f" LIMIT {limit:d}"
        with self._database.read() as connection:
            return tuple(_entry(row) for row in connection.execute(query, values))

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Every row of one of :data:`TABLES` as it stands there, in the order of its columns."""
        columns = ", ".join(f'"{name}"' for name in TABLES[table][1])
        with self._database.read() as connection:
            for row in connection.execute(f"SELECT {columns} FROM {table}"):
                yield tuple(row)

    def dump(self) -> Iterator[str]:
        """Every row as text, in order: two catalogues are equal when their dumps are.

        Of any database: the same log gives the same dump.
        """
        with self._database.read() as connection:
            for table in TABLES:
                for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3"):
                    yield f"{table} {tuple(row)}"
