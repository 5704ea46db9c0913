"""How every SQLite file of the project is opened and written.

* Write-ahead log, ``synchronous=FULL``: a committed transaction survives a power cut.
* One writer at a time, under a :class:`~assay.storage.locks.FileLock` beside the database. SQLite
  3.7.0 to 3.51.2 has a bug that can corrupt a database when two connections write or checkpoint
  at the wrong instant (fixed in 3.51.3), and Python builds bundle versions inside that range.
* Checkpoints happen only while that lock is held: automatic ones are switched off, and readers
  open the file read-only, because the last ordinary connection to close would checkpoint.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.errors import Tampered, Unavailable
from assay.storage.locks import FileLock

MINIMUM = (3, 35, 0)  # RETURNING and partial indexes with the syntax used here
_CHECKPOINT_PAGES = 1_000


class SqliteFile:
    """One SQLite database under the project's policy.

    ``read()`` gives a connection that cannot write; ``write()`` gives a transaction that commits
    when the block ends and rolls back when it raises. Connections are not shared between threads.
    ``open_reader()`` is for many short reads, for which opening would cost more than reading.
    """

    def __init__(self, path: Path) -> None:
        if sqlite3.sqlite_version_info < MINIMUM:
            raise Unavailable(
                f"SQLite {sqlite3.sqlite_version}: expected {'.'.join(map(str, MINIMUM))} or later"
            )
        self.path = path
        self._lock_path = path.with_name(path.name + ".lock")

    def lock(self) -> FileLock:
        """The writer's lock, for a caller that changes more than the database under it."""
        return FileLock(self._lock_path)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for queries; a snapshot when the caller begins a transaction."""
        connection = self._connect_reader()
        try:
            yield connection
        except sqlite3.DatabaseError as error:
            raise self.explain(error) from error
        except UnicodeDecodeError as error:
            cause = _undecodable(error)
            raise self.explain(cause) from cause
        finally:
            connection.close()

    def open_reader(self) -> sqlite3.Connection:
        """A connection like those of :meth:`read`, with plain tuples as rows, which the caller
        keeps, uses in one thread, closes (in any), and whose errors the caller hands to
        :meth:`explain`.
        """
        connection = self._connect_reader(any_thread=True)
        connection.row_factory = None
        return connection

    @contextmanager
    def write(self, *, locked: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction under the writer's lock; ``locked`` says that the caller holds it."""
        if not locked:
            with self.lock(), self.write(locked=True) as connection:
                yield connection
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._connect(mode="rwc")
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
            self._checkpoint(connection)
        except sqlite3.IntegrityError:
            raise  # a constraint spoke: the caller knows what it means
        except sqlite3.DatabaseError as error:
            raise self.explain(error) from error
        except UnicodeDecodeError as error:
            cause = _undecodable(error)
            raise self.explain(cause) from cause
        finally:
            connection.close()

    def _connect_reader(self, *, any_thread: bool = False) -> sqlite3.Connection:
        if not self.path.exists():
            raise Unavailable(f"database {self.path} does not exist")
        return self._connect(mode="ro", any_thread=any_thread)

    def _connect(self, mode: str, *, any_thread: bool = False) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            connection = sqlite3.connect(
                uri,
                uri=True,
                isolation_level=None,
                timeout=30.0,
                check_same_thread=not any_thread,
            )
        except sqlite3.DatabaseError as error:
            raise self.explain(error) from error
        connection.row_factory = sqlite3.Row
        if mode == "ro":
            return connection
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA wal_autocheckpoint=0")
        except sqlite3.DatabaseError as error:
            connection.close()
            raise self.explain(error) from error
        return connection

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        wal = self.path.with_name(self.path.name + "-wal")
        if wal.exists() and wal.stat().st_size > _CHECKPOINT_PAGES * 4096:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def explain(self, error: sqlite3.DatabaseError) -> Exception:
        """What to raise for an error of this database: Unavailable or Tampered."""
        # SQLite calls trouble outside the file operational (full disk, no permission, a lock), and
        # a table that ought to be there as well; the interpreter, text that cannot be read.
        inside = ("no such", "Could not decode")
        if isinstance(error, sqlite3.OperationalError) and not any(
            mark in str(error) for mark in inside
        ):
            return Unavailable(f"database {self.path} cannot be used now: {error}")
        return Tampered(f"database {self.path}: {error}")


def _undecodable(error: UnicodeDecodeError) -> sqlite3.DatabaseError:
    # Text of a damaged file; the interpreter does not always make it an error of the database.
    return sqlite3.DatabaseError(f"it holds text that is no UTF-8: {error.reason}")
