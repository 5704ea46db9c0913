"""How long ago something was: rows and seconds since a condition held, the last valid value."""

from __future__ import annotations

from assay.features.kernel.elementwise import NAN, step
from assay.features.kernel.words import get, get_word, put, put_word

_NANOS = 1e9


@step
def rows_since(state: int, out: int, a: int, k: int, rows: int) -> None:
    """Rows since ``a`` was true (a number other than 0), at most ``k``, as int64.

    The count of the row before the first new one is at ``out - 1``; before all rows it is ``k`` or
    more.
    """
    since = get_word(state, out - 1)
    for i in range(rows):
        x = get(state, a + i)
        happened = (x == x) & (x != 0.0)  # noqa: PLR0124 - not NaN
        since = 0 if happened else min(since + 1, k)
        put_word(state, out + i, since)


@step
def row_at(state: int, out: int, a: int, since: int, k: int, rows: int) -> None:
    """The value of ``a`` as many rows ago as ``since`` says, NaN from ``k`` on."""
    for i in range(rows):
        back = get_word(state, since + i)
        put(state, out + i, get(state, a + i - back) if back < k else NAN)


@step
def counted(state: int, out: int, since: int, k: int, rows: int) -> None:
    """An int64 as a float, NaN from ``k`` on."""
    for i in range(rows):
        back = get_word(state, since + i)
        put(state, out + i, float(back) if back < k else NAN)


@step
def seconds_since(state: int, out: int, times: int, since: int, k: int, rows: int) -> None:
    """Seconds from the row that ``since`` says to the current one, NaN from ``k`` rows on.

    The difference in nanoseconds is exact; its quotient is rounded once.
    """
    for i in range(rows):
        back = get_word(state, since + i)
        if back < k:
            elapsed = get_word(state, times + i) - get_word(state, times + i - back)
            put(state, out + i, float(elapsed) / _NANOS)
        else:
            put(state, out + i, NAN)


@step
def earlier(state: int, out: int, a: int, b: int, rows: int) -> None:
    """1 where the int64 of ``a`` is smaller than that of ``b``, else 0."""
    for i in range(rows):
        put(state, out + i, 1.0 if get_word(state, a + i) < get_word(state, b + i) else 0.0)


@step
def seconds_between(state: int, out: int, a: int, b: int, rows: int) -> None:
    """Seconds from the time of ``b`` to that of ``a``, rounded once."""
    for i in range(rows):
        elapsed = get_word(state, a + i) - get_word(state, b + i)
        put(state, out + i, float(elapsed) / _NANOS)
