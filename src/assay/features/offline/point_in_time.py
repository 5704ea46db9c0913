"""The point-in-time join: for every (entity, moment), the features that were known then.

The answer is exactly :func:`assay.domain.order.as_of`: the largest version in the total order
(event time, known time, source rank, sequence) with event time <= T and known time <= T.

1. A version is eligible from the later of its two times. Sorted by that moment, the best version
   so far in the total order is a running maximum; versions that never lead are dropped.
2. What remains rises in both eligibility and order, so one binary search per row finds its answer.
3. Time-to-live is judged at the row's own moment: a stale answer is no answer.
4. Feature columns are gathered once, at the end, by row number.

A row of the spine gives exactly one row of the result, in the same place. No order of the input
is trusted: tables may be unsorted, entities may be missing on either side.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import Instant
from assay.domain.order import ORDER_COLUMNS
from assay.errors import ConfigurationError, ContractViolation, LookAhead
from assay.features.offline.sessions import SessionCalendar

NOTHING: Final = -1
"""The row of an answer that does not exist."""
_Integers = NDArray[np.int64]


class Knowledge(StrEnum):
    """Which version of history a join shows.

    ``as_known``: what the system knew at each row's moment; what an online process saw.
    ``as_corrected``: what is known at the cut-off about the facts that were visible at each row's
    moment. Visible means that some version was known then: a correction changes the value of a
    fact, never the moment from which it could be used.
    """

    AS_KNOWN = "as_known"
    AS_CORRECTED = "as_corrected"


@dataclass(frozen=True, slots=True)
class TimeToLive:
    """For how long a fact may be used after it happened: in nanoseconds or in sessions.

    In sessions, a fact is stale when more than so many sessions lie in (event time, T]. Exactly
    one of the two is given.
    """

    nanos: int | None = None
    sessions: int | None = None

    def __post_init__(self) -> None:
        if (self.nanos is None) == (self.sessions is None):
            raise ConfigurationError(
                f"time to live: nanos {self.nanos}, sessions {self.sessions}, expected one of them"
            )
        if (self.nanos or 0) < 0 or (self.sessions or 0) < 0:
            raise ConfigurationError("time to live: expected zero or more")


class JoinedTable(Protocol):
    """What a join needs to know of a table besides its rows; see :class:`FeatureTable`."""

    @property
    def name(self) -> str: ...
    @property
    def features(self) -> tuple[str, ...]: ...
    @property
    def snapshot_id(self) -> str: ...
    @property
    def manifest_hash(self) -> str: ...
    @property
    def entity(self) -> str: ...
    @property
    def ttl(self) -> TimeToLive | None: ...
    @property
    def stale_column(self) -> str:
        """Name of the Boolean column that says that an answer existed but had gone stale."""
        ...


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Feature rows of one view, with what is needed to name and rebuild them.

    Attributes
    ----------
    name: the table in the lake, for example ``gold/fx_core``.
    frame: column ``entity``, the four columns of the total order (int64; nulls are refused) and
        the feature columns. All versions, in any order.
    features: names of the columns to join.
    snapshot_id, manifest_hash: which state of which definition the rows are.
    ttl: None means that an answer never goes stale.
    """

    name: str
    frame: pl.DataFrame
    features: tuple[str, ...]
    snapshot_id: str
    manifest_hash: str
    entity: str = "instrument"
    ttl: TimeToLive | None = None

    def __post_init__(self) -> None:
        require_columns(self.name, self.frame, (self.entity, *ORDER_COLUMNS, *self.features))

    @property
    def stale_column(self) -> str:
        """Name of the Boolean column that says that an answer existed but had gone stale."""
        return stale_column(self.name)


def stale_column(table: str) -> str:
    """The name of a table's stale column: ``stale.fx_core`` for ``gold/fx_core``."""
    return f"stale.{table.rpartition('/')[2]}"


def require_columns(name: str, frame: pl.DataFrame, columns: tuple[str, ...]) -> None:
    """Refuse a frame without these columns, or with nulls in an order column.

    Raises
    ------
    ContractViolation: a column is missing, or a time or rank is null or no integer.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ContractViolation(
            f"table {name} has no column {missing[0]!r}: expected {', '.join(columns)}"
        )
    for column in columns:
        if column in ORDER_COLUMNS:
            if not frame.schema[column].is_integer():
                raise ContractViolation(
                    f"table {name}: column {column} is {frame.schema[column]}, expected an integer"
                )
            if frame[column].null_count():
                raise ContractViolation(f"table {name}: column {column} holds nulls")


def as_of_join(
    spine: pl.DataFrame,
    table: FeatureTable,
    *,
    as_of: str = "as_of",
    knowledge: Knowledge = Knowledge.AS_KNOWN,
    known_at: Instant | None = None,
    calendar: SessionCalendar | None = None,
) -> pl.DataFrame:
    """``spine`` with the features of ``table`` as of each row, and the table's stale column.

    Parameters
    ----------
    spine: one row per answer wanted; column ``table.entity`` and the moment ``as_of`` (int64
        nanoseconds UTC). Any order, duplicates welcome.
    known_at: cut-off: versions known later do not exist. None means all.
    calendar: needed when the table's time-to-live counts sessions.

    Features are null where nothing was visible (stale false) or the answer was stale (stale true).

    Raises
    ------
    ContractViolation: a column is missing or malformed, names collide, or the table holds two
        different rows with one position in the total order.
    LookAhead: a row's moment lies after the cut-off.
    ConfigurationError: the time-to-live counts sessions and there is no calendar.
    """
    join = TableJoin(table, knowledge=knowledge, known_at=known_at, calendar=calendar)
    return join.rows(spine, as_of=as_of)


class TableJoin:
    """:func:`as_of_join` with one table, prepared once for any number of spines.

    Raises
    ------
    ContractViolation: the table holds two different rows with one position in the total order.
    """

    def __init__(
        self,
        table: FeatureTable,
        *,
        knowledge: Knowledge = Knowledge.AS_KNOWN,
        known_at: Instant | None = None,
        calendar: SessionCalendar | None = None,
    ) -> None:
        frame = table.frame
        if known_at is not None and (frame["known_time"] > known_at).any():
            frame = frame.filter(pl.col("known_time") <= known_at)
        self._table, self._known_at, self._calendar = table, known_at, calendar
        self._index = AsOfIndex.of(frame, table, knowledge)
        self._events = frame["event_time"]
        self._features = frame.select(table.features)

    def rows(self, spine: pl.DataFrame, *, as_of: str = "as_of") -> pl.DataFrame:
        """See :func:`as_of_join`."""
        check_spine(spine, self._table, as_of, self._known_at)
        moments = spine[as_of].to_numpy()
        index = self._index.rows(spine[self._table.entity], moments)
        answers = Answers(self._features, self._events.cast(pl.Int64).to_numpy(), index)
        return joined(spine, self._table, answers, moments, self._calendar)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Where the answer of each row lies: row ``index`` of ``features`` and ``events``, -1 none."""

    features: pl.DataFrame
    events: _Integers
    index: _Integers


def joined(
    spine: pl.DataFrame,
    table: JoinedTable,
    answers: Answers,
    moments: _Integers,
    calendar: SessionCalendar | None,
) -> pl.DataFrame:
    """``spine`` beside its answers, those that have gone stale left out."""
    index = answers.index
    stale = np.zeros(len(spine), dtype=np.bool_)
    if table.ttl is not None and len(answers.events):
        found = index != NOTHING
        stale = found & _expired(table.ttl, answers.events[index], moments, calendar)
        index = np.where(stale, NOTHING, index)
    result = spine.with_columns(
        *_gather(answers.features, index).get_columns(), pl.Series(table.stale_column, stale)
    )
    if len(result) != len(spine):
        raise AssertionError(f"{len(spine)} rows in, {len(result)} rows out")
    return result


def _gather(features: pl.DataFrame, index: _Integers) -> pl.DataFrame:
    """The rows at ``index``; where it is -1, a row of nulls."""
    if features.is_empty():
        return features.clear(len(index))
    if len(features) == len(index) and np.array_equal(index, np.arange(len(index))):
        return features
    # Gathering row 0 and masking it afterwards is three times as fast as gathering nulls.
    rows = features[pl.Series(np.maximum(index, 0)).cast(pl.UInt32)]
    found = index != NOTHING
    return rows if found.all() else rows.select(pl.when(pl.Series(found)).then(pl.all()))


def check_spine(
    spine: pl.DataFrame, table: JoinedTable, as_of: str, known_at: Instant | None
) -> None:
    """Refuse a spine that :func:`as_of_join` cannot answer; see there."""
    for column in (table.entity, as_of):
        if column not in spine.columns:
            raise ContractViolation(f"spine has no column {column!r}: found {spine.columns}")
    if spine.schema[as_of] != pl.Int64 or spine[as_of].null_count():
        raise ContractViolation(
            f"spine column {as_of!r} is {spine.schema[as_of]}: expected int64 nanoseconds, no nulls"
        )
    taken = [name for name in (*table.features, table.stale_column) if name in spine.columns]
    if taken:
        raise ContractViolation(
            f"column {taken[0]!r} of table {table.name} exists already",
            hint="give features of different views different names",
        )
    if known_at is not None:
        late = spine[as_of].to_numpy() > known_at
        if late.any():
            raise LookAhead(
                f"{int(late.sum())} rows ask as of a moment after the cut-off {known_at}",
                hint="leave these rows out, or move the cut-off",
            )


def _encode(column: pl.Series) -> tuple[pl.Series, _Integers]:
    """The distinct entities of a column of text, and the position of each row's among them."""
    # Tables mostly lie entity by entity: then comparing neighbours is enough, and hashing is not.
    runs = column.rle_id().cast(pl.Int64)
    heads = column.filter(runs.diff().fill_null(1) != 0)
    if not heads.null_count() and heads.n_unique() == len(heads):
        return heads, runs.to_numpy()
    entities = column.unique().drop_nulls()
    return entities, _codes(column, entities)


def _codes(column: pl.Series, entities: pl.Series) -> _Integers:
    """Position of each entity in ``entities``, -1 for those that are not there."""
    codes = column.cast(pl.Enum(entities), strict=False).to_physical()
    return codes.cast(pl.Int64).fill_null(NOTHING).to_numpy()


def _expired(
    ttl: TimeToLive, events: _Integers, moments: _Integers, calendar: SessionCalendar | None
) -> NDArray[np.bool_]:
    if ttl.nanos is not None:
        # An answer is never of the future, so its age is exact without a sign, and only so: between
        # the ends of int64 lie more nanoseconds than int64 has.
        return (moments - events).view(np.uint64) > ttl.nanos
    if calendar is None:
        raise ConfigurationError(
            f"a time to live of {ttl.sessions} sessions needs a calendar of sessions",
            hint="pass calendar=SessionCalendar.of(market)",
        )
    return calendar.count_between(events, moments) > (ttl.sessions or 0)


@dataclass(frozen=True, slots=True, eq=False)
class AsOfIndex:
    """Which row of a table answers an entity and a moment.

    Attributes
    ----------
    entities: those that have rows.
    """

    entities: pl.Series
    _timeline: _Timeline

    @classmethod
    def of(cls, frame: pl.DataFrame, table: JoinedTable, knowledge: Knowledge) -> Self:
        """The index of ``frame``, rows of ``table``.

        Raises
        ------
        ContractViolation: two different rows have one position in the total order.
        """
        entities, codes = _encode(frame[table.entity].cast(pl.String))
        return cls(entities, _Timeline.of(frame, table, codes, knowledge))

    def rows(self, entities: pl.Series, moments: _Integers) -> _Integers:
        """The row that answers each (entity, moment), :data:`NOTHING` where there is none."""
        return self._timeline.answers(_codes(entities.cast(pl.String), self.entities), moments)


@dataclass(frozen=True, slots=True, eq=False)
class _Timeline:
    """Per entity, from which moment on which row of the table is the answer.

    ``starts[c]:starts[c + 1]`` are the steps of entity code ``c``; within it ``eligible`` does
    not fall and ``rows`` rises in the total order.
    """

    starts: _Integers
    eligible: _Integers
    rows: _Integers

    @classmethod
    def of(
        cls, frame: pl.DataFrame, table: JoinedTable, codes: _Integers, knowledge: Knowledge
    ) -> _Timeline:
        keys = [codes, *(frame[name].cast(pl.Int64).to_numpy() for name in ORDER_COLUMNS)]
        order = _sorted_order(keys)
        if order is not None:
            keys = [key[order] for key in keys]
        _refuse_ambiguity(frame, table, keys, order)
        entities = int(codes.max(initial=-1)) + 1
        codes, event_times, known_times = keys[:3]
        rows = np.arange(len(codes)) if order is None else order
        eligible = np.maximum(event_times, known_times)
        if knowledge is Knowledge.AS_CORRECTED and len(codes):
            first = _changes([codes, event_times])
            last = np.append(first[1:] - 1, len(codes) - 1)
            codes, eligible, rows = codes[first], eligible[first], rows[last]
        codes, eligible, rows = _leaders(codes, eligible, rows)
        starts = np.searchsorted(codes, np.arange(entities + 1))
        return cls(starts, eligible, rows)

    def answers(self, codes: _Integers, moments: _Integers) -> _Integers:
        """Row of the table that answers each (entity code, moment), -1 where there is none."""
        # numpy sorts short integers by radix, several times as fast as long ones.
        short = codes.astype(np.int16) if len(self.starts) < 2**15 else codes
        by_entity = np.argsort(short, kind="stable")
        bounds = np.searchsorted(short[by_entity], np.arange(len(self.starts)))
        asked = moments[by_entity]
        answers = np.full(len(codes), NOTHING, dtype=np.int64)
        for code in np.flatnonzero(np.diff(bounds)):
            mine = slice(bounds[code], bounds[code + 1])
            steps = slice(self.starts[code], self.starts[code + 1])
            # The row before the first step is "nothing", so that no mask is needed.
            rows = np.append(NOTHING, self.rows[steps])
            answers[mine] = rows[np.searchsorted(self.eligible[steps], asked[mine], side="right")]
        result = np.empty_like(answers)
        result[by_entity] = answers
        return result


def _leaders(
    codes: _Integers, eligible: _Integers, rows: _Integers
) -> tuple[_Integers, _Integers, _Integers]:
    """Only those versions that are the answer from the moment of their eligibility on.

    The input is in the total order within each entity, so a version's position is its rank.
    """
    if not np.any((eligible[1:] < eligible[:-1]) & (codes[1:] == codes[:-1])):
        return codes, eligible, rows
    by_eligibility = np.lexsort((eligible, codes))  # stable: ties stay in the total order
    # Positions of later entities are larger, so one running maximum serves all entities.
    leads = by_eligibility == np.maximum.accumulate(by_eligibility)
    kept = by_eligibility[leads]
    return codes[kept], eligible[kept], rows[kept]


def _sorted_order(keys: list[_Integers]) -> _Integers | None:
    """The permutation that sorts by the keys, first one first; None when they are sorted."""
    tied = np.ones(max(len(keys[0]) - 1, 0), dtype=np.bool_)
    for key in keys:
        if np.any(tied & (key[1:] < key[:-1])):
            return np.lexsort(keys[::-1])
        tied &= key[1:] == key[:-1]
        if not tied.any():  # mostly after entity and event time: the rest cannot matter
            break
    return None


def _changes(keys: list[_Integers]) -> _Integers:
    """Positions at which any of the keys differs from the row before; the first row included."""
    different = np.ones(len(keys[0]), dtype=np.bool_)
    different[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.flatnonzero(different)


def _refuse_ambiguity(
    frame: pl.DataFrame, table: JoinedTable, keys: list[_Integers], order: _Integers | None
) -> None:
    """Two rows with one position in the total order must at least say the same."""
    equal = np.ones(max(len(frame) - 1, 0), dtype=np.bool_)
    for key in keys:
        equal &= key[1:] == key[:-1]
        if not equal.any():
            return
    second = np.flatnonzero(equal) + 1
    rows = np.arange(len(frame)) if order is None else order
    pairs = frame.select(table.entity, *ORDER_COLUMNS, *table.features)
    one, other = pairs[rows[second - 1]], pairs[rows[second]]
    if not one.equals(other):
        position = next(a[:5] for a, b in zip(one.rows(), other.rows(), strict=True) if a != b)
        raise ContractViolation(
            f"table {table.name} has two different rows at one position of the total order: "
            f"{position}",
            hint="deduplicate the table, or give the rows different sequence numbers",
        )
