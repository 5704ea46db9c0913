"""The log as a file and the catalogue in SQLite: what a registry has on one machine.

1. A change applies the event to the catalogue inside a transaction: a move that is not allowed
   ends here.
2. It appends the entry to the log and syncs it. From here on the event has happened.
3. It commits the transaction.

Dying before 2 leaves nothing; dying after it leaves the log ahead of the catalogue by a whole
entry, which :meth:`FileLedger.recover` replays. A catalogue that is ahead of the log means that
the log was cut, which is refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from assay.errors import Conflict, Tampered
from assay.registry.catalogue import Catalogue
from assay.registry.chained_file import ChainedFile
from assay.registry.index_layout import Dialect, Rows
from assay.registry.ledger import applied_head, replay
from assay.registry.log import EMPTY, Entry, LogHead, chained
from assay.storage.files import write_atomic
from assay.storage.sqlite import SqliteFile

SQLITE = Dialect(
    integer="INTEGER",
    text="TEXT",
    clustered=" WITHOUT ROWID",
    find_table="SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?",
)


def log_file(root: Path) -> Path:
    """Where a registry keeps its log, if it keeps it in a file."""
    return root / "log" / "events.jsonl"


class SqliteDatabase:
    """An SQLite file as the :class:`~assay.registry.index_layout.Database` of a catalogue."""

    dialect = SQLITE

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def exists(self) -> bool:
        """Whether the file is there."""
        return self._file.path.exists()

    @contextmanager
    def read(self) -> Iterator[Rows]:
        """A connection that cannot write."""
        try:
            with self._file.read() as connection:
                connection.row_factory = None
                yield connection
        except Tampered as error:
            if not isinstance(error.__cause__, sqlite3.DatabaseError):
                raise
            raise Tampered(
                error.message, hint="assay models rebuild makes the index again from the log"
            ) from error.__cause__


class FileLedger:
    """``log/events.jsonl`` and ``registry.db`` in the folder of a registry.

    A :class:`~assay.registry.ledger.Ledger`.

    Parameters
    ----------
    root: the registry's folder; made when something is written.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = SqliteFile(root / "registry.db")
        self.log = ChainedFile(log_file(root))
        self.catalogue = Catalogue(SqliteDatabase(self._file))

    def lock(self) -> AbstractContextManager[None]:
        """Hold the lock file beside the database."""
        return self._held()

    @contextmanager
    def _held(self) -> Iterator[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        with self._file.lock():
            yield

    def is_settled(self) -> bool:
        """Whether the last line is whole and the catalogue has applied it."""
        applied = self.catalogue.applied()
        return applied is not None and not self.log.is_torn() and self.log.head() == applied

    def recover(self) -> None:
        """Finish or drop a torn last line; replay entries that the catalogue has not seen."""
        self.log.repair_tail()
        head = self.log.head()
        applied = applied_head(self.catalogue, head, str(self.log.path))
        if applied != head:
            self._replay(applied)

    def append(self, entry: Entry) -> LogHead:
        """Apply, append and sync, commit."""
        try:
            with self._file.write(locked=True) as connection:
                moved = self.catalogue.apply(connection, entry)
                after = self.log.append(entry)
                self.catalogue.set_applied(connection, after, entry.seq if moved else None)
        except sqlite3.IntegrityError as error:
            raise Conflict(f"the catalogue refuses entry {entry.seq}: {error}") from error
        return after

    def rebuild(self) -> LogHead:
        """Make the catalogue again; a file that is no database any more is removed first."""
        self.log.repair_tail()
        try:
            applied_head(self.catalogue, self.log.head(), str(self.log.path))
            return self._replay(None)
        except Tampered as error:
            if not isinstance(error.__cause__, sqlite3.DatabaseError):
                raise  # the log is at fault, not the index
            for suffix in ("", "-wal", "-shm"):
                self._root.joinpath(f"registry.db{suffix}").unlink(missing_ok=True)
            return self._replay(None)

    def adopt(self, lines: Iterable[bytes]) -> LogHead:
        """Write the file from the lines of another log."""
        if self.head() != EMPTY:
            raise Conflict(f"{self.log.path} has entries of its own: expected an empty log")
        entries = chained(lines, EMPTY, "the log to be taken over")
        data = b"".join(entry.to_line() + b"\n" for entry, _ in entries)
        write_atomic(self.log.path, data)
        return self._replay(None)

    def head(self) -> LogHead:
        """The last entry that ends in a line break."""
        return self.log.head()

    def lines(self) -> Iterator[bytes]:
        """The lines of the file."""
        return self.log.lines()

    def entries_after(self, head: LogHead) -> Iterator[tuple[Entry, LogHead]]:
        """Entries behind a head whose offset is one of this file, or of a copy of it."""
        return self.log.entries_after(head)

    def mark(self) -> Hashable:
        """Which files there are, how large, and when they were written."""
        database = self._file.path
        paths = (self.log.path, database, database.with_name(f"{database.name}-wal"))
        return tuple(_state_of(path) for path in paths)

    def damage(self) -> Iterator[str]:
        """What SQLite finds in its own file, and tables or rules that are not those made here."""
        if not self._file.path.exists():
            return
        asked = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        with closing(sqlite3.connect(":memory:")) as model, self._file.read() as connection:
            # SQLite before 3.42 sees NULLs where a table without row numbers has its key behind
            # other columns. The comparison of rows with the log finds those that are there.
            for (found,) in connection.execute("PRAGMA integrity_check(1000000)"):
                if found != "ok" and not found.startswith("NULL value in "):
                    yield f"{self._file.path.name}: {' '.join(str(found).split())}"
            if self.catalogue.applied() is None:
                return  # another layout, which is made again when the registry is opened
            self.catalogue.create(model)
            expected, found = ({(row[0], row[1]): row[2] for row in each.execute(asked)}
                               for each in (model, connection))  # fmt: skip
        for kind, name in sorted(expected.keys() | found.keys()):
            if expected.get((kind, name)) != found.get((kind, name)):
                yield f"{self._file.path.name}: {kind} {name} is not the one that was made"

    def close(self) -> None:
        """Nothing is kept open."""

    def _replay(self, applied: LogHead | None) -> LogHead:
        with self._file.write(locked=True) as connection:
            return replay(self.catalogue, connection, applied, self.log.entries_after)


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
