"""The port of online stores: the newest rows of each entity, and when they are too old to serve.

Laws (one suite in :mod:`assay.testing.online_store` holds every store to them): the answer at a
moment is the largest visible version by (event time, known time, source rank, sequence), whatever
the order of writing; writing a row again changes nothing; a batch is written whole or not at all;
values come back with the bits that went in.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from assay.domain.instants import Instant, render
from assay.domain.order import VersionKey
from assay.errors import (
    ConfigurationError,
    Conflict,
    ContractViolation,
    IncompatibleVersion,
    Tampered,
)
from assay.features.definition.views import FeatureView, Sessions, TimeToLive

ROW_LAYOUT = 1
"""Changes when the bytes of a stored row change their meaning."""

MAX_VERSIONS = 1_000
"""Rows that a store keeps per entity unless it is told otherwise."""

# Layout and CRC-32 of what follows; four times eight bytes of the order; the manifest's hash.
_HEADER = struct.Struct("<HxxIqqqq32s")
_CHECKED, _PLACED = struct.Struct("<HxxI"), struct.Struct("<qqqq32s")  # the same in two parts
_COVERED = _CHECKED.size
_new_tuple = tuple.__new__


class StoredRow(NamedTuple):
    """One computed row of a view.

    Attributes
    ----------
    event_time, known_time, source_rank, sequence: the place in the total order of versions.
    manifest: hash of the manifest that the values were computed under, 64 hexadecimal digits.
    values: float64, in the order of the view's features; missing ones NaN.

    Two rows are equal when all of it is, the values by their bits.
    """

    entity: str
    event_time: Instant
    known_time: Instant
    source_rank: int
    sequence: int
    manifest: str
    values: NDArray[np.float64]

    @property
    def key(self) -> VersionKey:
        """The position in the total order."""
        return VersionKey(self.event_time, self.known_time, self.source_rank, self.sequence)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredRow):
            return NotImplemented
        same = tuple(self[:6]) == tuple(other[:6])
        return same and self.values.tobytes() == other.values.tobytes()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.entity, self.key))


class OnlineStore(Protocol):
    """Versions of rows by view and entity. All methods may be called from several threads."""

    def write(self, view: str, rows: Iterable[StoredRow]) -> int:
        """Add rows, all or none; how many of them the store did not hold before.

        A row that is older than the newest of its entity is kept as history and never hides it.

        Raises
        ------
        Conflict: a row stands where another one with different content does.
        ContractViolation: a row is malformed.
        """
        ...

    def read(
        self, view: str, entities: Sequence[str], as_of: Instant | None = None
    ) -> list[StoredRow | None]:
        """The newest row of each entity, in the order asked, None where there is none.

        With ``as_of``, rows whose event or known time is later are not visible. The answers belong
        to one state of the store: a batch is seen whole or not at all.
        """
        ...

    def read_views(
        self, asked: Mapping[str, Sequence[str]], as_of: Instant | None = None
    ) -> dict[str, list[StoredRow | None]]:
        """The newest rows of several views, each for its own entities, in one round trip.

        The answers are those of one :meth:`read` for each view, and belong to one state of the
        store. Where views lie on several machines, the answers of each view belong to one state of
        its own.
        """
        ...

    def history(self, view: str, entity: str) -> list[StoredRow]:
        """The versions kept for an entity, oldest first: what could have been served, and when."""
        ...

    def entities(self, view: str) -> Iterable[str]:
        """Names of the entities that have rows of a view, each once, in the order of code points.

        They may be fetched in pages while the caller goes through them; what is written or dropped
        meanwhile may be among them or not.
        """
        ...

    def views(self) -> tuple[str, ...]:
        """Names of the views that have rows, sorted."""
        ...

    def drop(self, view: str) -> int:
        """Remove all rows of a view; how many entities had some.

        Not in one step: who reads or writes the view meanwhile finds any part of it. A view
        without rows is left as it is. After a call that was killed, the view is listed as long as
        it has rows, and another call removes the rest.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections; the store is not used afterwards."""
        ...


class SessionCount(Protocol):
    """Counts sessions, as the calendar of sessions of the offline side does."""

    def count_between(self, after: NDArray[np.int64], upto: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many sessions lie in each interval ``(after, upto]``."""
        ...

    def count(self, after: Instant, upto: Instant) -> int:
        """The same for one interval."""
        ...


@dataclass(frozen=True, slots=True)
class ServedView:
    """What reading needs to know about a view: the name of its rows, and how long they live."""

    name: str
    ttl: TimeToLive


@dataclass(frozen=True, slots=True)
class Reading:
    """A row as of a moment.

    Attributes
    ----------
    row: the newest one that had happened and was known.
    age: nanoseconds from its event time to the moment.
    sessions: sessions in (event time, moment], None where the view's time to live is a duration.
    stale: whether the age exceeds the time to live; exactly the time to live is not stale.
    """

    row: StoredRow
    age: int
    sessions: int | None
    stale: bool


def read_as_of(
    store: OnlineStore,
    view: FeatureView | ServedView,
    entities: Sequence[str],
    moment: Instant,
    *,
    calendar: SessionCount | None = None,
) -> list[Reading | None]:
    """What could be served at a moment, in the order asked; None where nothing was visible.

    The same rule as the point-in-time join of training sets: visible by both times, stale by the
    event time. A stale row is given and says so; refusing it is the caller's decision.

    Parameters
    ----------
    calendar: needed when the view's time to live counts sessions.

    Raises
    ------
    ConfigurationError: the view counts sessions and there is no calendar.
    """
    return readings_of(view, store.read(view.name, entities, moment), moment, calendar=calendar)


def readings_of(
    view: FeatureView | ServedView,
    rows: Sequence[StoredRow | None],
    moment: Instant,
    *,
    calendar: SessionCount | None = None,
) -> list[Reading | None]:
    """Rows that were read as of a moment, with their ages; as :func:`read_as_of` gives them.

    Raises
    ------
    ConfigurationError: the view counts sessions and there is no calendar.
    """
    if not isinstance(view.ttl, Sessions):
        limit = view.ttl.nanos
        return [
            None if row is None else Reading(row, age := moment - row.event_time, None, age > limit)
            for row in rows
        ]
    if calendar is None:
        raise ConfigurationError(
            f"view {view.name}: a time to live of {view.ttl.count} sessions needs a calendar",
            hint="pass calendar=SessionCalendar.of(market)",
        )
    if len(rows) == 1:  # the most frequent read, without arrays
        (row,) = rows
        if row is None:
            return [None]
        count = calendar.count(row.event_time, moment)
        return [Reading(row, moment - row.event_time, count, count > view.ttl.count)]
    events = np.array([moment if row is None else row.event_time for row in rows], dtype=np.int64)
    counts = calendar.count_between(events, np.full_like(events, moment)).tolist()
    return [
        None if row is None else Reading(row, moment - row.event_time, n, n > view.ttl.count)
        for row, n in zip(rows, counts, strict=True)
    ]


def pack_row(view: str, row: StoredRow) -> bytes:
    """The bytes of a row without its entity: header, then the values, little endian.

    Raises
    ------
    ContractViolation: values that are not one dimension of float64, an entity without a name or
        with characters that have no UTF-8, a manifest that is no hash, times outside int64.
    """
    _, event_time, known_time, source_rank, sequence, manifest, values = row
    if values.dtype != np.float64 or values.ndim != 1:
        raise ContractViolation(
            f"{_where(view, row)}: values {values.dtype}{list(values.shape)}, expected float64[n]"
        )
    try:
        if not row.entity.encode():
            raise ContractViolation(f"{_where(view, row)}: expected a name of the entity")
        digest = _digest(manifest)
        body = _PLACED.pack(event_time, known_time, source_rank, sequence, digest)
    except UnicodeEncodeError:
        raise ContractViolation(f"{_where(view, row)}: the name has no UTF-8 form") from None
    except struct.error as error:
        raise ContractViolation(f"{_where(view, row)}: {error}, in {tuple(row.key)}") from None
    except ValueError:
        raise ContractViolation(
            f"{_where(view, row)}: manifest {manifest!r}, expected 64 hexadecimal digits"
        ) from None
    body += values.astype("<f8", copy=False).tobytes()
    return _CHECKED.pack(ROW_LAYOUT, zlib.crc32(body)) + body


def _where(view: str, row: StoredRow) -> str:
    return f"row of {row.entity!r} for view {view}"


@lru_cache(maxsize=64)
def _digest(manifest: str) -> bytes:
    """The bytes of a manifest's hash; rows come in thousands that name the same one."""
    digest = bytes.fromhex(manifest)
    if len(digest) != 32 or digest.hex() != manifest:
        raise ValueError
    return digest


_REMEMBERED = 10_000


def unpack_row(
    entity: str,
    data: bytes,
    _unpack: Any = _HEADER.unpack_from,
    _crc: Any = zlib.crc32,
    _size: int = _HEADER.size,
) -> StoredRow:
    """A row from its bytes; the values cannot be written to.

    Raises
    ------
    Tampered: the bytes are not what was written.
    IncompatibleVersion: another build wrote them in another layout.
    """
    if len(data) < _size:
        raise Tampered(f"stored row of {entity!r} is cut short: {len(data)} bytes")
    layout, check, event_time, known_time, rank, sequence, manifest = _unpack(data)
    if layout != ROW_LAYOUT:
        raise IncompatibleVersion(
            f"stored row of {entity!r} has layout {layout}, this build reads {ROW_LAYOUT}",
            hint="write the rows again with this build",
        )
    if _crc(memoryview(data)[_COVERED:]) != check:
        raise Tampered(f"stored row of {entity!r} does not have its checksum")
    values = np.frombuffer(data, "<f8", -1, _size)
    row = (entity, event_time, known_time, rank, sequence, manifest.hex(), values)
    return _new_tuple(StoredRow, row)  # half the time of StoredRow(...), and reads are many


def unpack_rows(entities: Sequence[str], packed: Sequence[bytes | None]) -> list[StoredRow | None]:
    """The rows of several entities from their bytes, None where there are none.

    Raises
    ------
    Tampered, IncompatibleVersion: as :func:`unpack_row`.
    """
    return [
        None if data is None else unpack_row(entity, data)
        for entity, data in zip(entities, packed, strict=True)
    ]


class RowMemory:
    """Rows that were unpacked, by their bytes: most are read many times before another one comes.

    The same bytes give the same object, so that what was made of a row can be found again by it.
    One row for each entity of a view; all are forgotten when there are too many.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], tuple[bytes, StoredRow]] = {}

    def unpack(self, view: str, entity: str, data: bytes) -> StoredRow:
        """See :func:`unpack_row`."""
        held = self._rows.get((view, entity))
        if held is not None and held[0] == data:
            return held[1]
        row = unpack_row(entity, data)
        if len(self._rows) >= _REMEMBERED:
            self._rows.clear()
        self._rows[view, entity] = (data, row)
        return row

    def unpack_all(
        self, view: str, entities: Sequence[str], packed: Sequence[bytes | None]
    ) -> list[StoredRow | None]:
        """See :func:`unpack_rows`."""
        return [
            None if data is None else self.unpack(view, entity, data)
            for entity, data in zip(entities, packed, strict=True)
        ]


def conflicting(view: str, row: StoredRow) -> Conflict:
    """The error for two different rows at one place of the order."""
    return Conflict(
        f"view {view}: {row.entity} at {render(row.event_time)}, known {render(row.known_time)}, "
        f"rank {row.source_rank}, sequence {row.sequence} is stored with other content",
        hint="a row is never rewritten: give a correction a later known time, "
        "and a changed view another name",
    )
