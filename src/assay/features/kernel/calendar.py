"""Calendar inputs from event times: one class, used by both drivers.

Offsets come from :mod:`zoneinfo` (its data version is part of the build fingerprint). Weekday
arithmetic is exact integer arithmetic on local dates. Sessions come from the tables of the view.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, NANOS_PER_SECOND, Instant, render
from assay.errors import ContractViolation
from assay.features.definition.calendars import SessionTable
from assay.features.definition.views import FeatureView

_DAY = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Moments:
    """A table of sessions as arrays."""

    def __init__(self, table: SessionTable) -> None:
        self.table = table
        self.opens = np.array(table.opens, dtype=np.int64)
        self.closes = np.array(table.closes, dtype=np.int64)
        self.half = self.closes - self.opens < table.usual

    def numbers(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each moment the number of the last session that has opened, from 0.

        Raises
        ------
        ContractViolation: a moment lies before the first session or after what the table covers.
        """
        covers_to = self.table.covers_to
        outside = np.flatnonzero((times < self.opens[0]) | (times >= covers_to))
        if outside.size:
            raise ContractViolation(
                f"event time {render(int(times[outside[0]]))}: calendar {self.table.name} knows "
                f"sessions from {render(self.table.opens[0])} to {render(covers_to)}",
                hint="make the calendar for a longer range; the manifest changes with it",
            )
        found: NDArray[np.int64] = np.searchsorted(self.opens, times, side="right") - 1
        return found

    def fill(self, row: NDArray[np.float64], what: str, numbers: NDArray[np.int64]) -> None:
        """What one kind of input says about the sessions of these numbers."""
        if what == "half_day":
            row[:] = self.half[numbers]
            return
        words = {"session": numbers, "opens": self.opens, "closes": self.closes}[what]
        row.view(np.int64)[:] = words if what == "session" else words[numbers]


class CalendarInputs:
    """Calendar inputs of certain kinds.

    Kinds of the local date: month_start, month_end, quarter_end (1 or 0), day_of_week (0 for
    Monday), day_number (days since 1970-01-01). Kinds of the last session of calendar NAME that has
    opened: session:NAME (its number), opens:NAME, closes:NAME (nanoseconds UTC; these three as
    int64 bits), half_day:NAME (1 or 0).
    """

    def __init__(
        self, kinds: tuple[str, ...], timezone: str, tables: Iterable[SessionTable] = ()
    ) -> None:
        self.kinds = kinds
        self._timezone = timezone
        self._tables = {table.name: _Moments(table) for table in tables}

    @classmethod
    def of(cls, view: FeatureView) -> CalendarInputs:
        """Those that a view's first program reads."""
        return cls(view.plan.calendar, view.timezone, view.calendars)

    def at(self, event_times: NDArray[np.int64]) -> NDArray[np.float64]:
        """One row per kind, one column per event time.

        Raises
        ------
        ContractViolation: a time lies outside of what a table of sessions covers.
        """
        made = np.empty((len(self.kinds), event_times.size))
        days, back = self._days(event_times)
        for row, kind in zip(made, self.kinds, strict=True):
            what, _, name = kind.partition(":")
            if name:
                self._tables[name].fill(row, what, self._tables[name].numbers(event_times))
            else:
                row[:] = np.array([_of_day(day)[kind] for day in days]).take(back)
        return made

    def around(self, event_time: Instant) -> tuple[NDArray[np.float64], Instant, Instant]:
        """The same for one event time, and the stretch of time (from, to) for which it stays so.

        The stretch is the part of the local day that lies between two openings of sessions, or the
        moment alone where the clock changes on that day.
        """
        made = np.empty(len(self.kinds))
        start, end = MIN_INSTANT, MAX_INSTANT
        flags: dict[str, float] = {}
        if any(":" not in kind for kind in self.kinds):
            flags, start, end = _day_around(event_time, self._timezone)
        moment = np.array([event_time])
        for index, kind in enumerate(self.kinds):
            what, _, name = kind.partition(":")
            if not name:
                made[index] = flags[kind]
                continue
            numbers = self._tables[name].numbers(moment)
            self._tables[name].fill(made[index : index + 1], what, numbers)
            table, number = self._tables[name].table, int(numbers[0])
            start = max(start, table.opens[number])
            end = min(end, (*table.opens[number + 1 : number + 2], table.covers_to)[0])
        return made, start, end

    def _days(self, event_times: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64]]:
        if all(":" in kind for kind in self.kinds):
            return [], np.empty(0, dtype=np.int64)
        return _distinct(local_days(event_times, self._timezone))


def local_days(event_times: NDArray[np.int64], timezone: str) -> NDArray[np.int64]:
    """Local dates as days since 1970-01-01."""
    seconds = event_times // NANOS_PER_SECOND
    days, back = _distinct(seconds // _DAY)
    found = [_offset_throughout(day * _DAY, _DAY, timezone) for day in days]
    changes = np.array([offset is None for offset in found], dtype=bool)
    offsets = np.array([offset or 0 for offset in found], dtype=np.int64).take(back)
    # Days on which the clock changes: each of their moments is looked up by itself.
    rows = np.flatnonzero(changes.take(back))
    moments, which = np.unique(seconds[rows], return_inverse=True)
    exact = [_offset_at(moment, timezone) for moment in moments.tolist()]
    offsets[rows] = np.array(exact, dtype=np.int64).take(which)
    local: NDArray[np.int64] = (seconds + offsets) // _DAY
    return local


def _day_around(event_time: Instant, timezone: str) -> tuple[dict[str, float], Instant, Instant]:
    """What the local date says, and from when to when: the day, or the moment alone where the clock
    changes on it.
    """
    second = event_time // NANOS_PER_SECOND
    offset = _offset_at(second, timezone)
    day = (second + offset) // _DAY
    start, end = event_time, event_time + 1
    if _offset_throughout(day * _DAY - offset, _DAY, timezone) == offset:
        start = (day * _DAY - offset) * NANOS_PER_SECOND
        end = start + _DAY * NANOS_PER_SECOND
    return _of_day(day), start, end


def _distinct(values: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64]]:
    """The distinct values, and for each row the position of its value among them."""
    # Times ascend within an entity, so equal values stand together: sort runs, not rows.
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]][: values.size])
    unique, back = np.unique(values[starts], return_inverse=True)
    lengths = np.diff(np.r_[starts, values.size])
    return unique.tolist(), np.repeat(back, lengths)


@lru_cache(maxsize=65_536)
def _offset_throughout(start: int, seconds: int, timezone: str) -> int | None:
    """The offset of a stretch of at most a day: no zone changes its clock twice within one."""
    first = _offset_at(start, timezone)
    return first if _offset_at(start + seconds - 1, timezone) == first else None


def _offset_at(second: int, timezone: str) -> int:
    """Seconds to add to UTC, exact to the second."""
    zone = ZoneInfo(timezone)
    offset = (_EPOCH + timedelta(seconds=second)).astimezone(zone).utcoffset()
    assert offset is not None
    return offset.days * _DAY + offset.seconds


@lru_cache(maxsize=65_536)
def _of_day(day: int) -> dict[str, float]:
    date = _EPOCH.date() + timedelta(days=day)
    weekday = date.weekday()
    following = date + timedelta(days=max(1, 7 - weekday) if weekday >= 4 else 1)
    previous = date - timedelta(days=weekday + 3 if weekday == 0 else max(1, weekday - 4))
    works = weekday < 5
    ends = works and following.month != date.month
    return {
        "month_start": float(works and previous.month != date.month),
        "month_end": float(ends),
        "quarter_end": float(ends and date.month % 3 == 0),
        "day_of_week": float(weekday),
        "day_number": float(day),
    }
