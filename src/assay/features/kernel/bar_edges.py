"""Where bars begin and end: whole-number arithmetic on the clock changes of a time zone.

Offsets come from :mod:`zoneinfo`, once for each midnight of the years in question; the second of a
change is found by bisection between two of them (no zone changes its clock twice within a day).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from assay.domain.instants import NANOS_PER_SECOND, Instant, parse, render
from assay.errors import ContractViolation
from assay.features.definition.bars import DAY, HOUR, Bars

_Words = NDArray[np.int64]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_SECONDS = 86_400
_YEAR_ZERO = 1970
_BEFORE, _AFTER = 256, 768  # bars around a moment that a feed looks up at once

EARLIEST, LATEST = parse("1750-01-01"), parse("2200-01-01")
"""Event times of ticks lie between them, so that no sum of times overflows."""


class Stretches(NamedTuple):
    """For each moment the bar that holds it, ``start <= moment < end``.

    Where ``is_inside`` is false it is the time between two sessions that holds the moment.
    """

    starts: _Words
    ends: _Words
    is_inside: NDArray[np.bool_]


class BarEdges:
    """The bars of a declaration."""

    def __init__(self, bars: Bars) -> None:
        self._every = bars.every.nanos
        self._offset = 0 if bars.offset is None else bars.offset.nanos
        self._timezone = bars.timezone
        self._table = bars.calendar
        if bars.calendar is not None:
            self._opens = np.array(bars.calendar.opens, dtype=np.int64)
            self._closes = np.array(bars.calendar.closes, dtype=np.int64)
            self._next = np.r_[self._opens[1:], bars.calendar.covers_to]

    def of(self, times: _Words) -> Stretches:
        """The bars that hold these moments.

        Raises
        ------
        ContractViolation: a moment lies outside of what the calendar covers, or of the years for
            which there are bars.
        """
        if not times.size:
            return Stretches(times, times, np.zeros(0, dtype=bool))
        if times.min() < EARLIEST or times.max() >= LATEST:
            wrong = times[np.flatnonzero((times < EARLIEST) | (times >= LATEST))[0]]
            raise ContractViolation(
                f"event time {render(int(wrong))}: expected one between {render(EARLIEST)} and "
                f"{render(LATEST)}",
                hint="event times are nanoseconds since 1970, UTC",
            )
        changes = _changes_around(self._timezone, int(times.min()), int(times.max()))
        whole = HOUR % self._every == 0
        starts, ends = self._short(times, *changes) if whole else self._long(times, *changes)
        if self._table is None:
            return Stretches(starts, ends, np.ones(times.size, dtype=bool))
        return self._within_sessions(times, starts, ends)

    def near(self, time: Instant) -> Stretches:
        """Most of the bars around a moment, by their starts; the one that holds it is among them.

        It is what :meth:`of` says about moments a bar's length apart. A bar that is cut short may
        be missing between them.
        """
        if not EARLIEST <= time < LATEST:
            return self.of(np.array([time], dtype=np.int64))
        steps = np.arange(-_BEFORE, _AFTER, dtype=np.int64) * self._every + time
        first, stop = EARLIEST, LATEST
        if self._table is not None:
            first, stop = max(first, self._table.opens[0]), min(stop, self._table.covers_to)
        known = steps[((steps >= first) & (steps < stop)) | (steps == time)]
        found = self.of(known)
        _, once = np.unique(found.starts, return_index=True)
        return Stretches(found.starts[once], found.ends[once], found.is_inside[once])

    def _short(self, times: _Words, since: _Words, offsets: _Words) -> tuple[_Words, _Words]:
        """Bars that divide an hour: equally long from clock change to clock change."""
        place = np.searchsorted(since, times, side="right") - 1
        starts = times - (times + offsets[place] - self._offset) % self._every
        ends = starts + self._every
        following = np.r_[since[1:], np.iinfo(np.int64).max]
        return np.maximum(starts, since[place]), np.minimum(ends, following[place])

    def _long(self, times: _Words, since: _Words, offsets: _Words) -> tuple[_Words, _Words]:
        """Bars that divide a day: cut when a local clock first shows certain times of day."""
        first, last = int(times.min()) // DAY - 2, int(times.max()) // DAY + 3
        days = np.arange(first, last, dtype=np.int64) * DAY + self._offset
        shown = (days[:, None] + np.arange(0, DAY, self._every)).reshape(-1)
        # From since[i] on the clock shows the time plus offsets[i], until reached[i] is shown. The
        # first stretch in which it comes to show a time is the first one that gets that far; what
        # is never shown, as the clock jumps over it, is passed at the jump.
        reached = np.maximum.accumulate(np.r_[since[1:] + offsets[:-1], np.iinfo(np.int64).max])
        place = np.searchsorted(reached, shown, side="right")
        edges = np.unique(np.maximum(shown - offsets[place], since[place]))
        here = np.searchsorted(edges, times, side="right")
        return edges[here - 1], edges[here]

    def _within_sessions(self, times: _Words, starts: _Words, ends: _Words) -> Stretches:
        table = self._table
        assert table is not None
        outside = np.flatnonzero((times < self._opens[0]) | (times >= table.covers_to))
        if outside.size:
            raise ContractViolation(
                f"event time {render(int(times[outside[0]]))}: calendar {table.name} knows "
                f"sessions from {render(table.opens[0])} to {render(table.covers_to)}",
                hint="make the calendar for a longer range; the digest of the bars changes with it",
            )
        number = np.searchsorted(self._opens, times, side="right") - 1
        closes = self._closes[number]
        is_inside = times < closes
        starts = np.where(is_inside, np.maximum(starts, self._opens[number]), closes)
        ends = np.where(is_inside, np.minimum(ends, closes), self._next[number])
        return Stretches(starts, ends, is_inside)


def _changes_around(timezone: str, first: Instant, last: Instant) -> tuple[_Words, _Words]:
    """From which moments on which offset (nanoseconds) holds, from a year before to one after."""
    years = range(_year_of(first) - 1, _year_of(last) + 2)
    return _changes(timezone, years.start, years.stop)


@lru_cache(maxsize=256)
def _changes(timezone: str, first: int, stop: int) -> tuple[_Words, _Words]:
    opening = (date(first, 1, 1) - _EPOCH.date()).days * _DAY_SECONDS
    found = [(opening, _offset_at(opening, timezone))]
    for year in range(first, stop):
        found += _changes_in_year(timezone, year)
    table = np.array(found, dtype=np.int64) * NANOS_PER_SECOND
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])


@lru_cache(maxsize=4096)
def _changes_in_year(timezone: str, year: int) -> tuple[tuple[int, int], ...]:
    """(second, seconds to add to UTC from then on) of each clock change."""
    start = (date(year, 1, 1) - _EPOCH.date()).days
    stop = (date(year + 1, 1, 1) - _EPOCH.date()).days
    found = []
    before = _offset_at(start * _DAY_SECONDS, timezone)
    for day in range(start, stop):
        low, high = day * _DAY_SECONDS, (day + 1) * _DAY_SECONDS
        after = _offset_at(high, timezone)
        if after == before:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _offset_at(middle, timezone) == before else (low, middle)
        found.append((high, after))
        before = after
    return tuple(found)


def _offset_at(second: int, timezone: str) -> int:
    """Seconds to add to UTC."""
    offset = (_EPOCH + timedelta(seconds=second)).astimezone(ZoneInfo(timezone)).utcoffset()
    assert offset is not None
    return offset.days * _DAY_SECONDS + offset.seconds


def _year_of(moment: Instant) -> int:
    return int(np.datetime64(moment, "ns").astype("datetime64[Y]").astype(int)) + _YEAR_ZERO
