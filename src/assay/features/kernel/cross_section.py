"""Steps across the entities of one event time: the second stage, behind the barrier.

The rows of a call are the entities of one event time in the order of their names, so that sums are
taken in the same order everywhere. Only members take part; a row that is no member, or whose value
is missing, gets NaN.

Behind them stand the latest rows of the entities that the program names, in a fixed order; these
are no members. ``k`` counts from the end, so it says which one whatever the number of rows is.
"""

from __future__ import annotations

import math

from assay.features.kernel.elementwise import NAN, finite, step
from assay.features.kernel.moments import two_sum
from assay.features.kernel.words import get, get_word, put, put_word


@step
def _takes_part(state: int, a: int, members: int, i: int) -> bool:
    value: float = get(state, a + i)
    member: float = get(state, members + i)
    return (value == value) & (member == 1.0)  # noqa: PLR0124


@step
def rank(state: int, out: int, scratch: int, a: int, members: int, count: int) -> None:
    """Percent rank in (0, 1]: rank from 1, ties averaged, over the number of values."""
    n = 0
    for i in range(count):
        if _takes_part(state, a, members, i):
            put(state, scratch + n, get(state, a + i))
            n += 1
    _sort(state, scratch, n)
    for i in range(count):
        result = NAN
        if _takes_part(state, a, members, i):
            value = get(state, a + i)
            below = _count_below(state, scratch, n, value, False)
            up_to = _count_below(state, scratch, n, value, True)
            result = (0.5 * float(below + up_to + 1)) / float(n)
        put(state, out + i, result)


@step
def _sort(state: int, start: int, n: int) -> None:
    """Shell sort with Ciura's gaps: in place and short; a cross-section has at most thousands."""
    for gap in (3937, 1750, 701, 301, 132, 57, 23, 10, 4, 1):
        for i in range(gap, n):
            value = get(state, start + i)
            j = i
            while j >= gap and get(state, start + j - gap) > value:
                put(state, start + j, get(state, start + j - gap))
                j -= gap
            put(state, start + j, value)


@step
def _count_below(state: int, start: int, n: int, value: float, equal_too: bool) -> int:
    """How many of the sorted values are less than ``value`` (or equal to it)."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        found = get(state, start + middle)
        if found < value or (equal_too and found == value):
            low = middle + 1
        else:
            high = middle
    return low


@step
def center(state: int, out: int, a: int, members: int, scale: bool, count: int) -> None:
    """Distance from the mean of the members, in sample standard deviations when ``scale`` is true.

    Everything is measured from the first member's value, so that equal values have distance zero.
    """
    n, reference, total, compensation = 0, 0.0, 0.0, 0.0
    for i in range(count):
        if _takes_part(state, a, members, i):
            if n == 0:
                reference = get(state, a + i)
            total, error = two_sum(total, get(state, a + i) - reference)
            compensation += error
            n += 1
    mean = (total + compensation) / float(n)
    deviation = 1.0
    if scale:
        squares = 0.0
        for i in range(count):
            if _takes_part(state, a, members, i):
                distance = (get(state, a + i) - reference) - mean
                squares += distance * distance
        deviation = math.sqrt(squares / float(n - 1))
    for i in range(count):
        result = NAN
        if _takes_part(state, a, members, i) and deviation > 0.0:
            result = finite(((get(state, a + i) - reference) - mean) / deviation)
        put(state, out + i, result)


@step
def latest(state: int, out: int, a: int, members: int, count: int) -> None:
    """The latest int64 time among the members, or the row's own when that is later or no member."""
    found = False
    last = 0
    for i in range(count):
        if get(state, members + i) == 1.0:
            time = get_word(state, a + i)
            last = max(last, time) if found else time
            found = True
    for i in range(count):
        own = get_word(state, a + i)
        takes_part = get(state, members + i) == 1.0
        put_word(state, out + i, last if takes_part and last > own else own)


@step
def picked(
    state: int, out: int, a: int, times: int, places: int, k: int, within: int, count: int
) -> None:
    """The value of the ``k``-th last row, where that row is at most ``within`` nanoseconds old.

    With ``places`` (not -1), rows that are of the same entity, whose place is ``k``, get NaN.
    """
    value, time = get(state, a + count - k), get_word(state, times + count - k)
    for i in range(count):
        # An entity without rows has the smallest of all times: the age wraps and is negative.
        age = get_word(state, times + i) - time
        takes = (age >= 0) & (age <= within)
        if places >= 0:
            takes = takes & (get(state, places + i) != float(k))
        put(state, out + i, value if takes else NAN)


@step
def latest_picked(state: int, out: int, a: int, b: int, k: int, count: int) -> None:
    """The later of a row's int64 time and that of the ``k``-th last row."""
    theirs = get_word(state, b + count - k)
    for i in range(count):
        own = get_word(state, a + i)
        put_word(state, out + i, max(own, theirs))
