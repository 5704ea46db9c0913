"""Connections to PostgreSQL: opened for a registry, found fit for it, noticed when they drop."""

from __future__ import annotations

import os
import select
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

import psycopg

from assay.adapters.postgres.address import PostgresAddress
from assay.adapters.postgres.faults import explain
from assay.errors import ConfigurationError, Unavailable
from assay.registry.index_layout import Dialect, Rows

OLDEST = 120_000
"""The oldest server, as it numbers itself."""

POSTGRES = Dialect(
    integer="BIGINT",
    text='TEXT COLLATE "C"',
    clustered="",
    find_table="SELECT 1 FROM pg_catalog.pg_tables"
    " WHERE schemaname = current_schema() AND tablename = ?",
)

# A peer that vanished without a word is given up after half a minute, on both sides; a holder of
# the lock too.
_ALIVE: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "connect_timeout": 10,
}
_SESSION = (
    "-c lock_timeout=30s -c synchronous_commit=on -c client_min_messages=error "
    "-c idle_in_transaction_session_timeout=60s -c tcp_keepalives_idle=10 "
    "-c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    # The catalogue fits into memory: an index that has the order is read sooner than rows sorted.
    "-c random_page_cost=1.1"
)


class PostgresRows:
    """A connection that takes the catalogue's statements, whose values stand as ``?``."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Any:
        """Run one statement."""
        text = statement.replace("?", "%s") if values else statement
        return self._connection.execute(text.encode(), values or None, binary=True)


def connect(address: PostgresAddress) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection whose statements each are a transaction unless one is begun.

    Raises
    ------
    Unavailable: no server answers. ConfigurationError: it refuses the user or the password.
    """
    try:
        return psycopg.connect(
            **address.arguments(),
            **_ALIVE,
            application_name="assay",
            options=f"{_SESSION} -c search_path={address.schema}",
            autocommit=True,
        )
    except psycopg.Error as error:
        # Not chained: the client's own words may name the user.
        raise explain(error, address) from None


def check_server(connection: psycopg.Connection[tuple[Any, ...]], address: PostgresAddress) -> None:
    """Refuse a server that a registry must not write to.

    Raises
    ------
    ConfigurationError: it is too old, does not store UTF-8, or says that something is written
        before it is, or a pooler drops the session's settings. Unavailable: it is a replica.
    """
    row = connection.execute(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
        " current_setting('server_encoding'), current_setting('fsync'), pg_is_in_recovery(),"
        " current_setting('search_path')"
    ).fetchone()
    assert row is not None
    number, version, encoding, fsync, replica, path = row
    if path != address.schema:
        raise ConfigurationError(
            f"PostgreSQL at {address} looks for tables in {path!r}: what stands in between drops "
            "the settings of a session",
            hint="connect to the server itself; a pooler that lends sessions out by transaction "
            "cannot hold the lock of a registry either",
        )
    if number < OLDEST:
        raise ConfigurationError(f"PostgreSQL at {address} is {version}: expected 12 or later")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"PostgreSQL at {address} stores text as {encoding}: expected UTF8",
            hint="createdb --encoding UTF8 --template template0 NAME",
        )
    if fsync != "on":
        raise ConfigurationError(
            f"PostgreSQL at {address} runs with fsync={fsync}: what it says is recorded can be lost"
        )
    if replica:
        raise Unavailable(
            f"PostgreSQL at {address} is a replica and takes no writes",
            hint="name the primary server",
        )


class PostgresDatabase:
    """One schema as the :class:`~assay.registry.index_layout.Database` of a catalogue.

    It keeps one connection for reading, which threads take in turn; a process that was forked
    opens its own.
    """

    dialect = POSTGRES

    def __init__(self, address: PostgresAddress) -> None:
        self._address = address
        self._turn = RLock()
        self._kept: dict[int, psycopg.Connection[tuple[Any, ...]]] = {}
        self._close = weakref.finalize(self, _close_own, self._kept)

    def exists(self) -> bool:
        """A server that is named is there."""
        return True

    @contextmanager
    def read(self) -> Iterator[Rows]:
        """The kept connection; a new one where the server has dropped it since."""
        with self._turn:
            connection = self._open()
            try:
                yield PostgresRows(connection)
            except psycopg.Error as error:
                raise explain(error, self._address) from error

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        with self._turn:
            _close_own(self._kept)

    def _open(self) -> psycopg.Connection[tuple[Any, ...]]:
        process = os.getpid()
        connection = self._kept.get(process)
        if connection is not None and not connection.closed:
            # An idle server says nothing: what can be read is its farewell.
            farewell = select.poll()
            farewell.register(connection.fileno(), select.POLLIN)
            if not farewell.poll(0):
                return connection
            connection.close()
        connection = self._kept[process] = connect(self._address)
        return connection


def _close_own(kept: dict[int, psycopg.Connection[tuple[Any, ...]]]) -> None:
    """Close what this process has opened; a parent's connection is the parent's to end."""
    connection = kept.pop(os.getpid(), None)
    if connection is not None:
        connection.close()
