"""Medians, quantiles and ranks of windows."""

from __future__ import annotations

from assay.features.definition.builder import Builder
from assay.features.definition.opcodes import ORDERED_METHODS, Opcode
from assay.features.definition.operators.promise import FULL, NumericClass, Operator

_RINGS = 2


def quantile(
    builder: Builder,
    x: int,
    rows: int = -1,
    *,
    window: int,
    min_count: int | None,
    q: float,
    interpolation: str,
) -> int:
    """A quantile of a window."""
    method = ORDERED_METHODS.index(interpolation)
    return _ordered(builder, Opcode.QUANTILE, x, rows, window, min_count, method, q)


def _median(builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None) -> int:
    return quantile(
        builder, x, rows, window=window, min_count=min_count, q=0.5, interpolation="midpoint"
    )


def _rank(
    builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None, percent: int
) -> int:
    return _ordered(builder, Opcode.RANK_IN_WINDOW, x, rows, window, min_count, percent, 0.0)


def _ordered(
    builder: Builder,
    fixed: Opcode,
    x: int,
    rows: int,
    window: int,
    min_count: int | None,
    method: int,
    scalar: float,
) -> int:
    """An instruction that keeps the values of its window in blocks of 2**bits."""
    builder.reads_back(x, window)
    bits = 4
    while 1 << (2 * bits) < window:  # near the square root, where both costs are equal
        bits += 1
    if rows < 0:
        least = window if min_count is None else min_count
    else:
        least = -1 if min_count is None else min_count  # a negative number: all rows of the window
    blocks = (window >> bits) + 1
    return builder.emit(
        fixed if rows < 0 else Opcode(fixed + 1),
        a=x,
        c=max(rows, 0),
        k=window,
        m=least << 8 | bits << 3 | method,
        scalar=scalar,
        own=_RINGS + blocks + (blocks << bits),
    )


_NOTE = (
    "the window's values in order, in blocks of about the square root of its length; "
    "a zero has no sign"
)

OPERATORS = (
    Operator(
        "rolling_median",
        NumericClass.BITWISE,
        FULL,
        _median,
        reach="window - 1",
        state="2 * window",
        formula="the middle value, or half the sum of the two in the middle",
        note=_NOTE,
    ),
    Operator(
        "rolling_quantile",
        NumericClass.BITWISE,
        FULL,
        quantile,
        reach="window - 1",
        state="2 * window",
        formula="v[h] + (v[h + 1] - v[h]) * (p - h) for values v[0] <= v[1] <= ..., p = (n - 1) q, "
        "h = floor(p); or as interpolation says",
        source="Hyndman and Fan (1996), Sample quantiles in statistical packages, definition 7",
        note=_NOTE,
    ),
    Operator(
        "rolling_rank",
        NumericClass.BITWISE,
        FULL + ", or the row itself is missing",
        _rank,
        reach="window - 1",
        state="2 * window",
        unit="1",
        formula="smaller values + (equal values + 1) / 2, divided by the number of values where "
        "percent is 1",
        note=_NOTE,
    ),
)
