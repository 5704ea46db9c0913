"""Requests that are sent again get the answer that they had, and proofs are used once.

A client that saw no answer does not know whether its request was done. With a key of its choice in
``Idempotency-Key`` it may ask again: the stored answer comes back, on any server of the desk. The
same key with another request is refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from assay.domain.clock import Clock
from assay.domain.instants import NANOS_PER_SECOND, Instant
from assay.errors import Conflict
from assay.registry_api.problems import Unacceptable
from assay.storage.sqlite import SqliteFile

KEPT_SECONDS = 86_400
ABANDONED_SECONDS = 600
"""A request that was begun and never answered, because its server died, may be sent again then."""

_TABLES = (
    """CREATE TABLE IF NOT EXISTS requests (
        caller TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL,
        begun INTEGER NOT NULL, status INTEGER, body BLOB, PRIMARY KEY (caller, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS proofs (
        nonce TEXT PRIMARY KEY, until INTEGER NOT NULL
    ) WITHOUT ROWID""",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A stored answer."""

    status: int
    body: bytes


class RequestStore:
    """What was answered, in one SQLite file that all servers of a desk share."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._file = SqliteFile(path)
        self._clock = clock

    def begin(self, caller: str, key: str, fingerprint: str) -> Answer | None:
        """Take note of a request; the answer, when it had one before.

        Raises
        ------
        Conflict: it is being answered now. Unacceptable: the key belongs to another request.
        """
        now = self._clock.now()
        with self._write() as connection:
            connection.execute(
                "DELETE FROM requests WHERE begun < ? OR (status IS NULL AND begun < ?)",
                (now - KEPT_SECONDS * NANOS_PER_SECOND, now - ABANDONED_SECONDS * NANOS_PER_SECOND),
            )
            row = connection.execute(
                "SELECT fingerprint, status, body FROM requests WHERE caller = ? AND key = ?",
                (caller, key),
            ).fetchone()
            if row is None:
                connection.execute(
                    "INSERT INTO requests VALUES (?, ?, ?, ?, NULL, NULL)",
                    (caller, key, fingerprint, now),
                )
                return None
        if row["fingerprint"] != fingerprint:
            raise Unacceptable(
                422, "other_request", "this Idempotency-Key was used for another request",
                hint="choose a new key for each request",
            )  # fmt: skip
        if row["status"] is None:
            raise Conflict(
                "a request with this Idempotency-Key is being answered",
                hint="wait, and send it again",
            )
        return Answer(row["status"], row["body"])

    def finish(self, caller: str, key: str, answer: Answer | None) -> None:
        """Keep the answer; None forgets the request, so that it may be sent again."""
        with self._write() as connection:
            if answer is None:
                connection.execute(
                    "DELETE FROM requests WHERE caller = ? AND key = ?", (caller, key)
                )
            else:
                connection.execute(
                    "UPDATE requests SET status = ?, body = ? WHERE caller = ? AND key = ?",
                    (answer.status, answer.body, caller, key),
                )

    def use_proof(self, nonce: str, until: Instant) -> bool:
        """Whether a proof is used for the first time; it is remembered until it has expired."""
        with self._write() as connection:
            connection.execute("DELETE FROM proofs WHERE until < ?", (self._clock.now(),))
            done = connection.execute(
                "INSERT INTO proofs VALUES (?, ?) ON CONFLICT DO NOTHING", (nonce, until)
            )
            return done.rowcount == 1

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        self._file.path.parent.mkdir(parents=True, exist_ok=True)
        with self._file.write() as connection:
            for table in _TABLES:
                connection.execute(table)
            yield connection
