"""Does the index hold what follows from the log, row by row, and nothing else?

The index is made again from the log, in memory, and both are compared. So a row that was edited,
put there or removed behind the registry's back is named, in whatever database it stands.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import takewhile
from typing import Any, TypeAlias

from assay.errors import AssayError, Tampered
from assay.registry.catalogue import Catalogue
from assay.registry.file_ledger import SQLITE
from assay.registry.index_layout import TABLES, Rows
from assay.registry.ledger import Ledger
from assay.registry.log import EMPTY, LogHead

_Found: TypeAlias = dict[tuple[Any, ...], tuple[Any, ...]]
_MOST = 20
"""Differences that are named of one table; the rest is counted."""


def compare_with_log(ledger: Ledger) -> Iterator[str]:
    """What the index holds otherwise than the log says, in words; nothing where there is no index.

    An index that is behind the log is compared with the part that it has applied.

    Raises
    ------
    Tampered: the log itself does not verify, or the index cannot be read.
    """
    applied = ledger.catalogue.applied()
    if applied is None:
        return
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        oracle = Catalogue(_Memory(connection))
        connection.execute("BEGIN")  # one transaction, not one for each row
        _replay(oracle, connection, ledger, applied)
        for table, (key, columns) in TABLES.items():
            expected = _by_key(oracle.rows(table), columns, key)
            try:
                found = _by_key(ledger.catalogue.rows(table), columns, key)
            except AssayError as error:
                yield f"table {table} cannot be read: {error.message}"
                continue
            differences = list(_differences(table, key, columns, expected, found))
            yield from differences[:_MOST]
            if len(differences) > _MOST:
                yield f"table {table}: {len(differences) - _MOST} further rows"


def _replay(
    oracle: Catalogue, connection: sqlite3.Connection, ledger: Ledger, applied: LogHead
) -> None:
    head, described = oracle.create(connection), None
    entries = ledger.entries_after(EMPTY)
    for entry, after in takewhile(lambda found: found[0].seq <= applied.seq, entries):
        if oracle.apply(connection, entry):
            described = entry.seq
        head = after
    oracle.set_applied(connection, head, described)


def _by_key(
    rows: Iterator[tuple[Any, ...]], columns: tuple[str, ...], key: tuple[str, ...]
) -> _Found:
    places = [columns.index(name) for name in key]
    found: _Found = {}
    for row in rows:
        at = tuple(row[place] for place in places)
        # A second row of one key can only stand where the key is no longer enforced.
        while at in found:
            at = (*at, "again")
        found[at] = row
    return found


def _differences(
    table: str, key: tuple[str, ...], columns: tuple[str, ...], expected: _Found, found: _Found
) -> Iterator[str]:
    for at, row in expected.items():
        name = f"table {table}, row {' '.join(map(str, at))}" if key else f"table {table}"
        if at not in found:
            yield f"{name}: removed"
        elif found[at] != row:
            for column, here, there in zip(columns, found[at], row, strict=True):
                if here != there:
                    yield f"{name}: {column} is {_short(here)}, by the log {_short(there)}: edited"
    for at in found.keys() - expected.keys():
        yield f"table {table}, row {' '.join(map(_short, at))}: follows from no entry of the log"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


class _Memory:
    """A database that is gone when it was compared with."""

    dialect = SQLITE

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def exists(self) -> bool:
        """It is."""
        return True

    @contextmanager
    def read(self) -> Iterator[Rows]:
        """The one connection."""
        try:
            yield self._connection
        except sqlite3.DatabaseError as error:
            raise Tampered(f"the log does not make an index: {error}") from error
