"""The log as a table, and the catalogue beside it: a change of both is one transaction.

1. The lock is an advisory one, held by the connection that changes; the server releases it when
   that connection ends, however it ends.
2. :meth:`PostgresLedger.append` inserts the entry's line and applies it to the catalogue in one
   transaction. Nothing is ever to be replayed, except where the catalogue has another layout.
3. A connection that is lost while its transaction commits leaves the question whether it has
   happened. It is asked of the log on another connection, under the lock.

The log's table is only ever added to: a trigger refuses anything else. That keeps accidents out;
who owns the database can still change it, and the chain and the signed heads say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from assay.adapters.postgres.address import PostgresAddress
from assay.adapters.postgres.connection import (
    PostgresDatabase,
    PostgresRows,
    check_server,
    connect,
)
from assay.adapters.postgres.faults import explain
from assay.errors import AssayError, ConfigurationError, Conflict, Tampered, Unavailable
from assay.registry.catalogue import Catalogue
from assay.registry.desk_mark import DeskMark
from assay.registry.index_layout import FORMAT
from assay.registry.ledger import applied_head, replay
from assay.registry.log import EMPTY, Entry, LogHead, chained

_LOG = (
    """
CREATE TABLE log (seq BIGINT PRIMARY KEY, line BYTEA NOT NULL, size BIGINT NOT NULL)
""",
    """
CREATE FUNCTION refuse_change_of_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log of a registry is only ever added to';
END $$
""",
    """
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON log
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_log()
""",
)
_GUARDS = """
SELECT count(*) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
WHERE c.relname = 'log' AND c.relnamespace = current_schema()::regnamespace
  AND t.tgname = 'only_added_to' AND t.tgenabled IN ('O', 'A')
"""
_RULES = ("one_production_per_model", "one_version_per_content", "versions_by_entry")
_UNIQUE = """
SELECT c.relname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = current_schema()::regnamespace AND i.indisunique AND i.indisvalid
"""
_MOVED = """
SELECT seq, place FROM (
    SELECT seq, size, row_number() OVER w AS place, sum(octet_length(line) + 1) OVER w AS total
    FROM log WINDOW w AS (ORDER BY seq)
) AS numbered WHERE seq <> place OR size <> total ORDER BY seq LIMIT 20
"""
_PAGE = 1_000
_PATIENCE = 5.0
"""Seconds in which a server that dropped a commit may come back and say what became of it."""
_PAUSE = 0.1


class PostgresLedger:
    """A log and a catalogue in one schema of a PostgreSQL database.

    A :class:`~assay.registry.ledger.Ledger`. Connects when it is first asked something.

    Parameters
    ----------
    url: as :class:`~assay.adapters.postgres.address.PostgresAddress` reads it.
    former: where the registry's log was a file; an empty database beside such a file is refused,
        since it would look like a registry without versions.
    desk: whose registry it is. The schema remembers the first one and is refused to any other,
        whose versions have their files elsewhere; None asks nothing.
    mark: the number of the desk's files, which the schema remembers too: a copy of a desk has its
        name. None asks for the name only.
    """

    def __init__(
        self,
        url: str,
        *,
        former: Path | None = None,
        desk: str | None = None,
        mark: DeskMark | None = None,
    ) -> None:
        self.address = PostgresAddress.parse(url)
        self._former = former
        self._desk = desk
        self._mark = mark
        self._is_ours = desk is None
        self._database = PostgresDatabase(self.address)
        self._writer: psycopg.Connection[tuple[Any, ...]] | None = None
        self.catalogue = Catalogue(self._database)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the advisory lock of the schema, on a connection of its own."""
        return self._held()

    @contextmanager
    def _held(self) -> Iterator[None]:
        connection = self._lock()
        self._writer = connection
        try:
            yield
        finally:
            held, self._writer = self._writer, None
            if held is not None:
                held.close()

    def _lock(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = connect(self.address)
        try:
            check_server(connection, self.address)
            connection.execute(
                "SELECT pg_advisory_lock(hashtextextended(%s, 0))",
                (f"assay.registry.{self.address.schema}",),
            )
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error):
                raise explain(error, self.address) from error
            raise
        return connection

    def is_settled(self) -> bool:
        """Whether the catalogue has this layout and has applied the last entry."""
        self._refuse_newer()
        if not self._belongs_here():
            return False
        applied = self.catalogue.applied()
        return applied is not None and applied == self.head()

    def recover(self) -> None:
        """Make tables where there are none; build a catalogue of another layout again."""
        self._refuse_newer()
        self._make_log()
        self._claim()
        head = self.head()
        applied = applied_head(self.catalogue, head, self._where)
        if applied != head:
            self._replay(applied)

    def append(self, entry: Entry) -> LogHead:
        """Insert and apply in one transaction."""
        line, before = entry.to_line(), self.head()
        after = LogHead(entry.seq, entry.hash, entry.at, before.offset + len(line) + 1)

        def change(rows: PostgresRows) -> None:
            rows.execute("INSERT INTO log VALUES (?, ?, ?)", (entry.seq, line, after.offset))
            moved = self.catalogue.apply(rows, entry)
            self.catalogue.set_applied(rows, after, entry.seq if moved else None)

        writer = self._held_writer()
        try:
            self._change(change)
        except Unavailable as error:
            if not writer.closed and not writer.broken:
                raise  # the server said so, and rolled back
            self._find_out(entry, line, error)
        return after

    def rebuild(self) -> LogHead:
        """Make the catalogue again, also from a layout that a newer Assay has made."""
        self._make_log()
        self._claim()
        try:
            applied_head(self.catalogue, self.head(), self._where)
        except Tampered as error:
            if not isinstance(error.__cause__, psycopg.Error):
                raise  # the log is at fault, not the catalogue
        return self._replay(None)

    def adopt(self, lines: Iterable[bytes]) -> LogHead:
        """Take over the whole log of another ledger, line by line, where this one is empty.

        Raises
        ------
        Conflict: this log has entries. Tampered: the other one does not verify.
        """
        self._make_log(adopting=True)
        self._claim()
        if self.head() != EMPTY:
            raise Conflict(f"{self._where} has entries of its own: expected an empty one")

        def fill(rows: PostgresRows) -> None:
            for entry, after in chained(lines, EMPTY, "the log to be taken over"):
                rows.execute(
                    "INSERT INTO log VALUES (?, ?, ?)", (entry.seq, entry.to_line(), after.offset)
                )

        self._change(fill)
        return self._replay(None)

    def head(self) -> LogHead:
        """The last row of the log's table."""
        with self._database.read() as rows:
            if not self._has_log(rows):
                return EMPTY
            row = rows.execute("SELECT line, size FROM log ORDER BY seq DESC LIMIT 1").fetchone()
        if row is None:
            return EMPTY
        try:
            entry = Entry.from_line(row[0])
        except Tampered as error:
            raise Tampered(
                f"last entry of {self._where}: {error.message}",
                hint="assay audit verify says where the log is broken",
            ) from None
        return LogHead(entry.seq, entry.hash, entry.at, row[1])

    def lines(self) -> Iterator[bytes]:
        """The rows in order, each with a line break."""
        return self._lines(0)

    def entries_after(self, head: LogHead) -> Iterator[tuple[Entry, LogHead]]:
        """Entries behind a head, read by their numbers."""
        return chained(self._lines(head.seq), head, self._where)

    def mark(self) -> Hashable:
        """The ends of the log and of what the catalogue has applied."""
        return self.head(), self.catalogue.layout()

    def damage(self) -> Iterator[str]:
        """Rules of the schema that are gone, and lines whose number or place was changed."""
        with self._database.read() as rows:
            if not self._has_log(rows):
                return
            guards = rows.execute(_GUARDS).fetchone()[0]
            rules = {name for (name,) in rows.execute(_UNIQUE).fetchall()}
            moved = rows.execute(_MOVED).fetchall()
            made = self.catalogue.applied(rows) is not None
        if not guards:
            yield "the trigger by which the log is only ever added to is gone or switched off"
        for name in _RULES if made else ():
            if name not in rules:
                yield f"the unique index {name} is gone"
        for number, place in moved:
            yield f"table log, row {number}: its number or size does not fit line {place}: edited"

    def close(self) -> None:
        """Close the connection that reads."""
        self._database.close()

    @property
    def _where(self) -> str:
        return f"the log in {self.address}"

    def _has_log(self, rows: Any) -> bool:
        return rows.execute(self._database.dialect.find_table, ("log",)).fetchone() is not None

    def _lines(self, after: int) -> Iterator[bytes]:
        while True:
            with self._database.read() as rows:
                page = (
                    rows.execute(
                        "SELECT seq, line FROM log WHERE seq > ? ORDER BY seq LIMIT ?",
                        (after, _PAGE),
                    ).fetchall()
                    if self._has_log(rows)
                    else []
                )
            for number, line in page:
                yield line + b"\n"
                after = number
            if len(page) < _PAGE:
                return

    def _refuse_newer(self) -> None:
        """Machines of two releases must not take turns in rebuilding one catalogue."""
        found = self.catalogue.layout()
        if found is not None and found[0] > FORMAT:
            raise Unavailable(
                f"the catalogue in {self.address} has layout {found[0]}, this Assay knows "
                f"{FORMAT}: a newer release has made it",
                hint="pip install --upgrade 'assay[postgres]' on this machine",
            )

    def _make_log(self, *, adopting: bool = False) -> None:
        with self._database.read() as rows:
            if self._has_log(rows):
                return
        former = self._former
        if not adopting and former is not None and former.exists() and former.stat().st_size:
            raise Conflict(
                f"this registry's log is the file {former}, and {self.address} holds none",
                hint="assay models adopt takes it over into the database",
            )

        def make(rows: PostgresRows) -> None:
            # Asked first: who may use a schema that is there may perhaps not make one.
            found = rows.execute(
                "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = ?", (self.address.schema,)
            )
            if found.fetchone() is None:
                rows.execute(f"CREATE SCHEMA {self.address.schema}")
            for statement in _LOG:
                rows.execute(statement)

        self._change(make)

    def claim(self) -> str:
        """Let the schema belong to this desk from now on; the number that both have then.

        For a desk that was renamed or moved, or came back from a copy. The number is a new one:
        whoever else has the old one is refused from now on.

        Raises
        ------
        AssertionError: the ledger was not told which desk this is.
        """
        if self._desk is None or self._mark is None:
            raise AssertionError("a claim without a desk: name it and its mark")
        with self.lock():
            self._make_log()
            number = self._mark.make().number
            self._change(lambda rows: self._write_owner(rows, number))
        self._is_ours = True
        return number

    def _belongs_here(self) -> bool:
        """Whether the schema is known to be this desk's; False where it is nobody's yet.

        Raises
        ------
        ConfigurationError: it is another desk's, or a desk's of which this is a copy.
        """
        if self._is_ours:
            return True
        name, number = self._owner()
        if name is None:
            return False
        if name != self._desk:
            raise ConfigurationError(
                f"{self.address} holds the registry of desk {name!r}, this is desk {self._desk!r}",
                hint="give each desk a schema: ?schema=NAME in registry.catalogue; where a desk "
                "was renamed: assay models claim",
            )
        if self._mark is not None:
            if number is None:  # written down before files had marks
                return False
            self._check_mark(self._mark, number)
        self._is_ours = True
        return True

    def _owner(self) -> tuple[str | None, str | None]:
        """Name and number of the desk that the schema belongs to, as far as they stand there."""
        with self._database.read() as rows:
            if not rows.execute(self._database.dialect.find_table, ("desk",)).fetchone():
                return None, None
            # A schema of an earlier release has no column for the number.
            row = rows.execute("SELECT name, to_jsonb(desk) ->> 'number' FROM desk").fetchone()
        return row or (None, None)

    def _check_mark(self, mark: DeskMark, number: str) -> None:
        found = mark.read()
        if found is not None and (found.number, found.copied_from) == (number, None):
            return
        if found is None or found.number != number:
            other = f"{mark.where} is not where they are"
        else:
            other = f"{mark.where} is a copy of {found.copied_from}"
        raise ConfigurationError(
            f"{self.address} holds the registry of desk {self._desk!r} and belongs to the files of "
            f"one place: {other}",
            hint="give a copy of a desk a schema of its own: ?schema=NAME in registry.catalogue; "
            "where this desk itself was moved or restored: assay models claim",
        )

    def _claim(self) -> None:
        """Write down whose registry this is, where that is not known yet."""
        self._is_ours = self._desk is None  # asked again by whoever writes
        if self._belongs_here():
            return
        number = None
        if self._mark is not None:
            mark = self._mark.read()
            # A copy that begins a schema of its own is another desk from now on.
            known = mark is not None and mark.copied_from is None
            number = mark.number if mark is not None and known else self._mark.make().number
        self._change(lambda rows: self._write_owner(rows, number))
        self._is_ours = True

    def _write_owner(self, rows: PostgresRows, number: str | None) -> None:
        rows.execute("CREATE TABLE IF NOT EXISTS desk (name TEXT NOT NULL)")
        rows.execute("ALTER TABLE desk ADD COLUMN IF NOT EXISTS number TEXT")
        rows.execute("DELETE FROM desk")
        rows.execute("INSERT INTO desk (name, number) VALUES (?, ?)", (self._desk, number))

    def _replay(self, applied: LogHead | None) -> LogHead:
        head = EMPTY

        def change(rows: PostgresRows) -> None:
            nonlocal head
            head = replay(self.catalogue, rows, applied, self.entries_after)

        self._change(change)
        return head

    def _change(self, change: Callable[[PostgresRows], None]) -> None:
        """One transaction on the connection that holds the lock."""
        writer = self._held_writer()
        try:
            # In a pipeline statements without an answer wait for nobody: ten thousand versions
            # would otherwise take as many journeys to the server, several times.
            with writer.pipeline(), writer.transaction():
                change(PostgresRows(writer))
        except psycopg.Error as error:
            raise explain(error, self.address) from error

    def _held_writer(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._writer is None:
            raise AssertionError("a change without the lock: call it inside lock()")
        return self._writer

    def _find_out(self, entry: Entry, line: bytes, lost: AssayError) -> None:
        """After a lost connection: whether the entry was recorded, by asking the log.

        Returns when it was, with the lock held again.
        """
        limit = time.monotonic() + _PATIENCE
        while True:
            try:
                self._writer = self._lock()
                row = self._writer.execute(
                    "SELECT line FROM log WHERE seq = %s", (entry.seq,)
                ).fetchone()
                break
            except (AssayError, psycopg.Error):
                if time.monotonic() > limit:
                    raise Unavailable(
                        f"{lost.message}; whether entry {entry.seq} ({entry.type} of "
                        f"{entry.model} {entry.to_version}) was recorded, only its log can say",
                        hint="when the server is back: assay audit show",
                    ) from lost
                time.sleep(_PAUSE)
        if row is None or row[0] != line:
            raise Unavailable(
                f"{lost.message}; the server is back, and nothing was changed",
                hint="do the same again",
            ) from lost
