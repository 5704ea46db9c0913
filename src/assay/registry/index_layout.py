"""The layout of the index: its tables, and where the databases that may hold it differ.

The statements are written once, in the SQL that databases share: a :class:`Database` runs them,
and its :class:`Dialect` has what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

FORMAT = 2
"""The layout of the tables. A catalogue of another layout is rebuilt when it is opened.

1: without the table ``stages``. 2: what is below.
"""

_STATEMENTS = """
CREATE TABLE applied (
    format {integer} NOT NULL, seq {integer} NOT NULL, hash {text} NOT NULL,
    at {integer} NOT NULL, "offset" {integer} NOT NULL, described_seq {integer} NOT NULL
);
CREATE TABLE versions (
    name {text} NOT NULL, version {text} NOT NULL, kind {text} NOT NULL, stage {text} NOT NULL,
    digest {text} NOT NULL, identity {text} NOT NULL, author {text} NOT NULL,
    baseline {integer} NOT NULL, created_at {integer} NOT NULL, registered_at {integer} NOT NULL,
    registered_seq {integer} NOT NULL, stage_at {integer} NOT NULL,
    major {integer} NOT NULL, minor {integer} NOT NULL, patch {integer} NOT NULL,
    PRIMARY KEY (name, major, minor, patch)
){clustered};
CREATE UNIQUE INDEX one_production_per_model ON versions (name) WHERE stage = 'production';
CREATE UNIQUE INDEX versions_by_entry ON versions (registered_seq);
CREATE UNIQUE INDEX one_version_per_content ON versions (name, identity);
CREATE TABLE events (
    seq {integer} PRIMARY KEY, at {integer} NOT NULL, type {text} NOT NULL, model {text} NOT NULL,
    from_version {text}, to_version {text}, initiated_by {text} NOT NULL, outcome {text} NOT NULL,
    reason {text} NOT NULL, evidence {text} NOT NULL, previous {text} NOT NULL, hash {text} NOT NULL
);
CREATE INDEX events_of_a_version ON events (model, to_version, type, seq);
CREATE TABLE production (
    name {text} NOT NULL, seq {integer} NOT NULL, at {integer} NOT NULL, version {text},
    PRIMARY KEY (name, at, seq)
){clustered};
CREATE TABLE stages (
    name {text} NOT NULL, version {text} NOT NULL, seq {integer} NOT NULL, at {integer} NOT NULL,
    stage {text} NOT NULL,
    PRIMARY KEY (name, version, seq)
){clustered}
"""
TABLES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "applied": ((), ("format", "seq", "hash", "at", "offset", "described_seq")),
    "versions": (
        ("name", "major", "minor", "patch"),
        ("name", "version", "kind", "stage", "digest", "identity", "author", "baseline",
         "created_at", "registered_at", "registered_seq", "stage_at", "major", "minor", "patch"),
    ),
    "events": (
        ("seq",),
        ("seq", "at", "type", "model", "from_version", "to_version", "initiated_by", "outcome",
         "reason", "evidence", "previous", "hash"),
    ),
    "production": (("name", "at", "seq"), ("name", "seq", "at", "version")),
    "stages": (("name", "version", "seq"), ("name", "version", "seq", "at", "stage")),
}  # fmt: skip
"""Of each table: the columns of its key, and all columns in their order."""


class Rows(Protocol):
    """A connection to a database, inside a transaction or not."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Any:
        """Run a statement whose values stand as ``?``; its rows are iterated or fetched."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where databases differ in what the catalogue writes.

    Attributes
    ----------
    integer: the type of whole numbers of 64 bits.
    text: the type of text that is compared byte by byte.
    clustered: what stands behind a table whose rows lie in the order of its key.
    find_table: a query that has a row when there is a table of the name ``?``.
    """

    integer: str
    text: str
    clustered: str
    find_table: str


class Database(Protocol):
    """Where a catalogue lives."""

    @property
    def dialect(self) -> Dialect:
        """What it writes differently."""
        ...

    def exists(self) -> bool:
        """Whether there is anything to read from."""
        ...

    def read(self) -> AbstractContextManager[Rows]:
        """A connection for queries, whose rows are tuples.

        Raises
        ------
        Unavailable: it does not answer now. Tampered: it is damaged.
        """
        ...


def statements(dialect: Dialect) -> tuple[str, ...]:
    """What makes the tables in a database of this dialect, one statement after the other."""
    made = _STATEMENTS.format(
        integer=dialect.integer, text=dialect.text, clustered=dialect.clustered
    )
    return tuple(made.split(";"))
