"""Order statistics of windows: quantiles and ranks, from the window's values kept in order.

The values stand in blocks, each a ring of a power of two of words, all full but the last. The value
of any rank is one addition and a mask away. To replace one value by another, those between the two
ranks shift by one: within the two outer blocks word by word, through each block between them by
turning its ring by one. With blocks of about the square root of the window that costs the square
root too, and finding a value is a binary search.

Zeros have no sign here: the window's content alone has to decide every bit, and equal values are
exchanged freely.
"""

from __future__ import annotations

from assay.features.definition.opcodes import ORDERED_METHODS
from assay.features.kernel.elementwise import NAN, finite, step
from assay.features.kernel.moments import needed
from assay.features.kernel.words import get, get_word, put, put_word

HELD, ROWS = 0, 1  # own words: values in order, rows that they come from; then rings, then blocks
RINGS = 2
LARGEST = 1.7976931348623157e308

_LOWER, _HIGHER, _MIDPOINT, _NEAREST = (
    ORDERED_METHODS.index(name) for name in ("lower", "higher", "midpoint", "nearest")
)


@step
def _slot(own: int, values: int, bits: int, rank: int) -> int:
    """Where the value of a rank stands, counted in words from ``own``."""
    mask = (1 << bits) - 1
    block = rank >> bits
    head: int = get_word(own, RINGS + block)
    return values + (block << bits) + ((head + rank) & mask)


@step
def _below(own: int, values: int, bits: int, count: int, x: float) -> int:
    """How many of the values are smaller than ``x``."""
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if get(own, _slot(own, values, bits, middle)) < x:
            low = middle + 1
        else:
            high = middle
    return low


@step
def _not_above(own: int, values: int, bits: int, count: int, x: float) -> int:
    """How many of the values are at most ``x``."""
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if get(own, _slot(own, values, bits, middle)) <= x:
            low = middle + 1
        else:
            high = middle
    return low


@step
def _shift_down(own: int, values: int, bits: int, first: int, last: int) -> None:
    """Within one block, the values of ranks ``first + 1`` to ``last`` take the rank before."""
    mask = (1 << bits) - 1
    block = first >> bits
    place, head = values + (block << bits), get_word(own, RINGS + block)
    for rank in range(first, last):
        put(own, place + ((head + rank) & mask), get(own, place + ((head + rank + 1) & mask)))


@step
def _shift_up(own: int, values: int, bits: int, first: int, last: int) -> None:
    """Within one block, the values of ranks ``first`` to ``last - 1`` take the rank after."""
    mask = (1 << bits) - 1
    block = first >> bits
    place, head = values + (block << bits), get_word(own, RINGS + block)
    for rank in range(last, first, -1):
        put(own, place + ((head + rank) & mask), get(own, place + ((head + rank - 1) & mask)))


@step
def _move_hole(own: int, values: int, bits: int, hole: int, target: int) -> None:
    """The place of rank ``hole`` is free; let that of rank ``target`` be free instead."""
    mask = (1 << bits) - 1
    block, last = hole >> bits, target >> bits
    if block < last:
        _shift_down(own, values, bits, hole, (block << bits) + mask)
        while block < last:
            # The first value of the next ring becomes the last of this one.
            head, following = get_word(own, RINGS + block), get_word(own, RINGS + block + 1)
            put(
                own,
                values + (block << bits) + ((head + mask) & mask),
                get(own, values + ((block + 1) << bits) + (following & mask)),
            )
            block += 1
            if block < last:
                put_word(own, RINGS + block, (following + 1) & mask)
        _shift_down(own, values, bits, last << bits, target)
    elif block > last:
        _shift_up(own, values, bits, block << bits, hole)
        while block > last:
            # The last value of the ring before becomes the first of this one.
            head, before = get_word(own, RINGS + block), get_word(own, RINGS + block - 1)
            put(
                own,
                values + (block << bits) + (head & mask),
                get(own, values + ((block - 1) << bits) + ((before + mask) & mask)),
            )
            block -= 1
            if block > last:
                put_word(own, RINGS + block, (before + mask) & mask)
        _shift_up(own, values, bits, target, (last << bits) + mask)
    elif hole < target:
        _shift_down(own, values, bits, hole, target)
    else:
        _shift_up(own, values, bits, target, hole)


@step
def _advance(state: int, x: int, own: int, values: int, bits: int, length: int) -> int:
    """Let the window end at ``x`` and have ``length`` rows; how many values it holds."""
    count: int = get_word(own, HELD)
    rows: int = get_word(own, ROWS)
    new = get(state, x) + 0.0
    wanted = new == new  # noqa: PLR0124 - not NaN
    while rows + 1 > length:
        old = get(state, x - rows) + 0.0
        rows -= 1
        if old != old:  # noqa: PLR0124
            continue
        hole = _below(own, values, bits, count, old)
        if wanted and rows + 1 == length:
            target = _below(own, values, bits, count, new)
            target -= 1 if target > hole else 0
            _move_hole(own, values, bits, hole, target)
            put(own, _slot(own, values, bits, target), new)
            wanted = False
        else:
            _move_hole(own, values, bits, hole, count - 1)
            count -= 1
    if wanted:
        target = _below(own, values, bits, count, new)
        _move_hole(own, values, bits, count, target)
        put(own, _slot(own, values, bits, target), new)
        count += 1
    put_word(own, HELD, count)
    put_word(own, ROWS, rows + 1)
    return count


@step
def _between(low: float, high: float, part: float, method: int) -> float:
    """A value between two neighbours, ``part`` of the way from the lower one."""
    if part == 0.0 or method == _LOWER:
        return low
    if method == _HIGHER:
        return high
    if method == _MIDPOINT:
        # The sum first: halves of the smallest numbers would be rounded, each for itself.
        total = low + high
        return 0.5 * total if abs(total) <= LARGEST else 0.5 * low + 0.5 * high
    if method == _NEAREST:
        return low if part <= 0.5 else high
    width = high - low
    return low + width * part if width <= LARGEST else low * (1.0 - part) + high * part


@step
def quantile(
    state: int, out: int, x: int, own: int, k: int, packed: int, q: float, windows: int, rows: int
) -> None:
    """The ``q``-th quantile of every window, between two values by the method in ``packed``."""
    method, bits, least = packed & 7, (packed >> 3) & 31, packed >> 8
    values = RINGS + (k >> bits) + 1
    for i in range(rows):
        length = k if windows < 0 else get_word(state, windows + i)
        count = _advance(state, x + i, own, values, bits, min(length, k))
        # A window of so many rows is full only when so many have come.
        if count == 0 or count < needed(least, length, k):
            put(state, out + i, NAN)
            continue
        position = float(count - 1) * q
        rank = int(position)
        low = get(own, _slot(own, values, bits, rank))
        high = get(own, _slot(own, values, bits, min(rank + 1, count - 1)))
        put(state, out + i, finite(_between(low, high, position - float(rank), method)))


@step
def rank(
    state: int, out: int, x: int, own: int, k: int, packed: int, windows: int, rows: int
) -> None:
    """The mean rank of the newest value among those of its window, from 1; divided by their number
    where the method in ``packed`` says so.
    """
    percent, bits, least = packed & 7, (packed >> 3) & 31, packed >> 8
    values = RINGS + (k >> bits) + 1
    for i in range(rows):
        length = k if windows < 0 else get_word(state, windows + i)
        count = _advance(state, x + i, own, values, bits, min(length, k))
        value = get(state, x + i) + 0.0
        if value != value or count < needed(least, length, k):  # noqa: PLR0124
            put(state, out + i, NAN)
            continue
        smaller = _below(own, values, bits, count, value)
        upto = _not_above(own, values, bits, count, value)
        place = 0.5 * float(smaller + 1 + upto)
        put(state, out + i, place / float(count) if percent == 1 else place)
