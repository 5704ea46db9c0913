"""Ticks into bars: the only implementation, for history and stream.

The idea. A bar is a block of words that is a pure function of the *set* of its ticks: which tick is
first or last is decided by the total order, extremes and counts do not depend on order, and sums
are exact (:mod:`~assay.features.kernel.exact_sums`). The block also keeps the ticks themselves, so
that a tick that comes twice is seen, and a revision of a tick takes the place of what it revises:
the bar is then folded again from its ticks before it is next read.

A tick is a record of words: event time, source rank, sequence, known time, then its values. Of the
ticks with the same first three words the one with the largest known time counts. Where two with the
same known time differ, neither is newer, and the one with the larger values (compared as numbers,
column by column) counts, whichever comes first; they are counted as conflicts.

Versions. Ticks come in the order of their known times. A tick is due when the bar may first be read
with it: when the bar is complete, or when the tick becomes known, whichever is later. Once the
clock has passed that, the bar is issued with it, if it has no version yet or one of its values has
changed by a bit.

Block: the header; per column a cell (valid values; key and value of the first, then of the last;
highest; lowest); an accumulator per column that is summed; the values last issued; the records in
the order of their arrival; an open-addressing table of their numbers. Sizes are in a *layout*, an
array of words made by :mod:`~assay.features.kernel.bar_machine`.
"""

from __future__ import annotations

from assay.features.definition.bars import KINDS
from assay.features.kernel.elementwise import LARGEST, NAN, copy_words, step
from assay.features.kernel.exact_sums import accumulate, rounded_sum
from assay.features.kernel.words import (
    get,
    get_word,
    put,
    put_word,
    word_of,
    wrapping_add,
    wrapping_mul,
)

TICKS, CAPACITY, IS_STALE, VERSIONS, DUE = range(5)
HEADER = 5
CELL = 11
_VALID, _FIRST, _FIRST_VALUE, _LAST, _LAST_VALUE, _HIGHEST, _LOWEST = 0, 1, 4, 5, 8, 9, 10
KEY = 4
"""Words of a record before its values."""

# Words of a layout: columns, aggregates, where accumulators, issued values and records begin; then
# per column the position of its accumulator or -1; then per aggregate its kind and column (or -1).
L_COLUMNS, L_AGGREGATES, L_SUMS, L_ISSUED, L_RECORDS = range(5)
L_HEADER = 5

# Words of a segment, one bar's share of a call: address of the block, first record, record after
# the last, when the bar is complete, until when ticks count, whether the block begins afresh.
SEGMENT = 6
# Words of an issued row before its values: segment, known time, version.
ROW = 3
NOTHING_DUE = -(2**63)

TAKEN, DUPLICATES, CORRECTIONS, CONFLICTS, TOO_LATE = range(5)
COUNTS = 5

_FIRST_KIND, _LAST_KIND, _HIGHEST_KIND, _, _TOTAL, _MEAN, _COUNT = range(len(KINDS))


@step
def _hash(records: int, record: int) -> int:
    mixed = wrapping_mul(get_word(records, record), -7_046_029_254_386_353_131)
    mixed = wrapping_mul(
        wrapping_add(mixed ^ (mixed >> 29), get_word(records, record + 1)),
        -4_417_276_706_812_531_889,
    )
    mixed = wrapping_mul(
        wrapping_add(mixed ^ (mixed >> 32), get_word(records, record + 2)),
        -7_046_029_254_386_353_131,
    )
    mixed = mixed ^ (mixed >> 29)
    return int(mixed)


@step
def _is_before(records: int, record: int, state: int, key: int) -> bool:
    """Whether the key of a record is smaller than the key at a place."""
    for i in range(3):
        ours: int = get_word(records, record + i)
        theirs: int = get_word(state, key + i)
        if ours != theirs:
            return ours < theirs
    return False


@step
def _fold(layout: int, state: int, records: int, record: int) -> None:
    """Take one tick into the cells and accumulators."""
    for column in range(get_word(layout, L_COLUMNS)):
        value = get(records, record + KEY + column)
        if value != value:  # noqa: PLR0124 - NaN
            continue
        cell = HEADER + CELL * column
        valid = get_word(state, cell + _VALID)
        put_word(state, cell + _VALID, valid + 1)
        if valid == 0 or _is_before(records, record, state, cell + _FIRST):
            copy_words(state, cell + _FIRST, records, record, 3)
            put(state, cell + _FIRST_VALUE, value)
        if valid == 0 or not _is_before(records, record, state, cell + _LAST):
            copy_words(state, cell + _LAST, records, record, 3)
            put(state, cell + _LAST_VALUE, value)
        if valid == 0 or value > get(state, cell + _HIGHEST):
            put(state, cell + _HIGHEST, value)
        if valid == 0 or value < get(state, cell + _LOWEST):
            put(state, cell + _LOWEST, value)
        accumulator = get_word(layout, L_HEADER + column)
        if accumulator >= 0:
            accumulate(state, accumulator, value)


@step
def _fold_again(layout: int, state: int) -> None:
    """Cells and accumulators from the records, after one of them was revised."""
    records = get_word(layout, L_RECORDS)
    width = KEY + get_word(layout, L_COLUMNS)
    for word in range(HEADER, get_word(layout, L_ISSUED)):
        put_word(state, word, 0)
    for tick in range(get_word(state, TICKS)):
        _fold(layout, state, state, records + width * tick)
    put_word(state, IS_STALE, 0)


@step
def begin(layout: int, state: int, capacity: int) -> None:
    """An empty bar with room for ``capacity`` ticks, a power of two."""
    records = get_word(layout, L_RECORDS)
    width = KEY + get_word(layout, L_COLUMNS)
    for word in range(records):
        put_word(state, word, 0)
    table = records + width * capacity
    for slot in range(2 * capacity):
        put_word(state, table + slot, 0)
    put_word(state, CAPACITY, capacity)
    put_word(state, DUE, NOTHING_DUE)


@step
def _is_newer(state: int, own: int, records: int, record: int, columns: int) -> bool:
    """Whether a record takes the place of one with the same key and other values."""
    known: int = get_word(state, own + 3)
    arrived: int = get_word(records, record + 3)
    if known != arrived:
        return arrived > known
    for column in range(columns):
        ours = get(state, own + KEY + column)
        theirs = get(records, record + KEY + column)
        if theirs > ours or (ours != ours and theirs == theirs):  # noqa: PLR0124 - NaN is least
            return True
        if theirs < ours or (theirs != theirs and ours == ours):  # noqa: PLR0124
            return False
    return False


@step
def add(layout: int, state: int, records: int, record: int, counts: int) -> bool:
    """Take a tick; whether it changed the set of ticks. There must be room for it.

    A value that is not finite is missing, and -0.0 is 0.0: equal values have equal bits.
    """
    columns = get_word(layout, L_COLUMNS)
    width = KEY + columns
    own, capacity = get_word(layout, L_RECORDS), get_word(state, CAPACITY)
    for word in range(record + KEY, record + width):
        value = get(records, word) + 0.0
        put(records, word, value if abs(value) <= LARGEST else NAN)
    table, mask = own + width * capacity, 2 * capacity - 1
    slot = _hash(records, record) & mask
    while get_word(state, table + slot) != 0:
        place = own + width * (get_word(state, table + slot) - 1)
        if (
            get_word(state, place) == get_word(records, record)
            and get_word(state, place + 1) == get_word(records, record + 1)
            and get_word(state, place + 2) == get_word(records, record + 2)
        ):
            same = True
            for word in range(KEY, width):
                if get_word(state, place + word) != get_word(records, record + word):
                    same = False
            known, arrived = get_word(state, place + 3), get_word(records, record + 3)
            if same:
                put_word(counts, DUPLICATES, get_word(counts, DUPLICATES) + 1)
                put_word(state, place + 3, max(known, arrived))
                return False
            if known == arrived:
                put_word(counts, CONFLICTS, get_word(counts, CONFLICTS) + 1)
            else:
                put_word(counts, CORRECTIONS, get_word(counts, CORRECTIONS) + 1)
            if not _is_newer(state, place, records, record, columns):
                return False
            copy_words(state, place + 3, records, record + 3, width - 3)
            put_word(state, IS_STALE, 1)
            return True
        slot = (slot + 1) & mask
    ticks = get_word(state, TICKS)
    put_word(state, table + slot, ticks + 1)
    copy_words(state, own + width * ticks, records, record, width)
    put_word(state, TICKS, ticks + 1)
    put_word(counts, TAKEN, get_word(counts, TAKEN) + 1)
    if get_word(state, IS_STALE) == 0:
        _fold(layout, state, records, record)
    return True


@step
def _place(kind: int) -> int:
    """Where in a cell the first, last, highest or lowest value is."""
    if kind == _FIRST_KIND:
        return _FIRST_VALUE
    if kind == _LAST_KIND:
        return _LAST_VALUE
    return _HIGHEST if kind == _HIGHEST_KIND else _LOWEST


@step
def _value(layout: int, state: int, aggregate: int) -> float:
    at = L_HEADER + get_word(layout, L_COLUMNS) + 2 * aggregate
    kind, column = get_word(layout, at), get_word(layout, at + 1)
    if column < 0:
        return float(get_word(state, TICKS))
    cell = HEADER + CELL * column
    valid = get_word(state, cell + _VALID)
    if kind == _COUNT:
        return float(valid)
    if valid == 0:
        return NAN
    if kind < _TOTAL:
        value: float = get(state, cell + _place(kind))
        return value
    total = rounded_sum(state, get_word(layout, L_HEADER + column))
    return total / float(valid) if kind == _MEAN else total


@step
def _issue(layout: int, state: int, segment: int, rows: int, row: int) -> int:
    """Write what is due as a row, if it says something new; how many rows there are then."""
    if get_word(state, IS_STALE) == 1:
        _fold_again(layout, state)
    aggregates, issued = get_word(layout, L_AGGREGATES), get_word(layout, L_ISSUED)
    at = (ROW + aggregates) * row
    versions = get_word(state, VERSIONS)
    is_new = versions == 0
    for aggregate in range(aggregates):
        value = _value(layout, state, aggregate)
        is_new |= word_of(value) != get_word(state, issued + aggregate)
        put(rows, at + ROW + aggregate, value)
    due = get_word(state, DUE)
    put_word(state, DUE, NOTHING_DUE)
    if not is_new:
        return row
    put_word(rows, at, segment)
    put_word(rows, at + 1, due)
    put_word(rows, at + 2, versions)
    copy_words(state, issued, rows, at + ROW, aggregates)
    put_word(state, VERSIONS, versions + 1)
    return row + 1


@step
def advance(
    layout: int, segments: int, count: int, records: int, clock: int, rows: int, counts: int
) -> int:
    """Take each segment's records, in the order of known times; how many rows were issued.

    What is due before ``clock`` is issued. ``rows`` has room for one row per segment, one per
    record that is due after its bar was complete, and one more. Layout, segments, records, rows and
    counts are addresses.
    """
    width = KEY + get_word(layout, L_COLUMNS)
    row = 0
    for segment in range(count):
        at = SEGMENT * segment
        state = get_word(segments, at)
        complete, until = get_word(segments, at + 3), get_word(segments, at + 4)
        capacity = get_word(segments, at + 5)
        if capacity > 0:
            begin(layout, state, capacity)
        for tick in range(get_word(segments, at + 1), get_word(segments, at + 2)):
            record = width * tick
            known = get_word(records, record + 3)
            if known > until:
                put_word(counts, TOO_LATE, get_word(counts, TOO_LATE) + 1)
                continue
            due = max(complete, known)
            pending = get_word(state, DUE)
            if pending != NOTHING_DUE and pending < due:
                row = _issue(layout, state, segment, rows, row)
            if add(layout, state, records, record, counts):
                put_word(state, DUE, due)
        pending = get_word(state, DUE)
        if pending != NOTHING_DUE and pending < clock:
            row = _issue(layout, state, segment, rows, row)
    return row


@step
def restore(layout: int, state: int, capacity: int, records: int, count: int, counts: int) -> None:
    """A bar of these ticks, as they were kept; header words about versions are the caller's."""
    begin(layout, state, capacity)
    width = KEY + get_word(layout, L_COLUMNS)
    for tick in range(count):
        add(layout, state, records, width * tick, counts)
