"""Calendar inputs from event times: one function, used by both drivers.

Offsets come from :mod:`zoneinfo` (its data version is part of the build fingerprint). Weekday
arithmetic is exact integer arithmetic on local dates.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from assay.domain.instants import NANOS_PER_SECOND

_DAY = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def calendar_inputs(
    kinds: tuple[str, ...], event_times: NDArray[np.int64], timezone: str
) -> NDArray[np.float64]:
    """One row per kind, one column per event time.

    Kinds: month_start, month_end, quarter_end (1 or 0), day_of_week (0 for Monday), day_number
    (days since 1970-01-01); all of the local date in ``timezone``.
    """
    days, back = _distinct(local_days(event_times, timezone))
    values = np.array([[_of_day(day)[kind] for day in days] for kind in kinds], dtype=np.float64)
    return values.reshape(len(kinds), len(days)).take(back, axis=1)


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


def calendar_around(
    kinds: tuple[str, ...], event_time: int, timezone: str
) -> tuple[tuple[float, ...], int, int]:
    """The same for one event time, and the stretch of time (from, to) for which it stays so.

    The stretch is the local day where the clock does not change on it, else the moment alone.
    """
    second = event_time // NANOS_PER_SECOND
    offset = _offset_at(second, timezone)
    day = (second + offset) // _DAY
    start, end = event_time, event_time + 1
    if _offset_throughout(day * _DAY - offset, _DAY, timezone) == offset:
        start = (day * _DAY - offset) * NANOS_PER_SECOND
        end = start + _DAY * NANOS_PER_SECOND
    flags = _of_day(day)
    return tuple([flags[kind] for kind in kinds]), start, end


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
