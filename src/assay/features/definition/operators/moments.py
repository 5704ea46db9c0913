"""Counts, sums, means and variances of windows, from exact accumulators."""

from __future__ import annotations

import math

from assay.features.definition.builder import Builder
from assay.features.definition.opcodes import PREFIX_WIDTH, Opcode
from assay.features.definition.operators.promise import FULL, NumericClass, Operator


def prefix(builder: Builder, x: int, window: int) -> int:
    """The first of the six nodes of running sums over ``x``, for windows up to ``window``."""
    node = builder.emit(Opcode.PREFIX, a=x, before=0.0, width=PREFIX_WIDTH)
    for offset in range(PREFIX_WIDTH):
        # At least one earlier row: a running sum continues from it.
        builder.reads_back(node + offset, window)
    return node


def count(
    builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None = None
) -> int:
    """Valid rows in the window; ``rows`` is the node of its length where that varies."""
    assert min_count is None  # a count is never missing for want of values
    sums = prefix(builder, x, window)
    if rows < 0:
        return builder.emit(Opcode.COUNT, a=x, b=sums, k=window)
    return builder.emit(Opcode.COUNT_WITHIN, a=x, b=sums, c=rows, k=window)


def if_enough(
    builder: Builder, node: int, x: int, rows: int, *, window: int, min_count: int
) -> int:
    """A node, or missing where fewer than ``min_count`` rows of the window are valid."""
    found = count(builder, x, rows, window=window)
    enough = builder.emit(Opcode.LE, a=builder.constant(float(min_count)), b=found)
    return builder.emit(Opcode.WHERE, a=enough, b=node, c=builder.constant(math.nan))


def where_enough(
    builder: Builder,
    node: int,
    x: int,
    rows: int,
    *,
    window: int,
    min_count: int | None,
    least: int,
) -> int:
    """A node, or missing where a moment of the window that needs ``least`` values would be.

    Decided by counts: a mean of valid values may be missing because their sum overflows.
    """
    if rows < 0 or min_count is not None:
        wanted = window if min_count is None else max(min_count, least)
        return if_enough(builder, node, x, rows, window=window, min_count=wanted)
    found = count(builder, x, rows, window=window)
    held = builder.emit(Opcode.COUNTED, b=rows, k=window + 1)
    wanted = builder.emit(Opcode.MAX, a=held, b=builder.constant(float(least)))
    enough = builder.emit(Opcode.LE, a=wanted, b=found)
    return builder.emit(Opcode.WHERE, a=enough, b=node, c=builder.constant(math.nan))


def _moment(
    builder: Builder,
    fixed: Opcode,
    x: int,
    rows: int,
    window: int,
    min_count: int | None,
    least: int = 1,
) -> int:
    builder.reads_back(x, window - 1)  # for windows that are reduced from scratch
    sums = prefix(builder, x, window)
    if rows < 0:
        enough = window if min_count is None else max(min_count, least)
        return builder.emit(fixed, a=x, b=sums, k=window, m=enough)
    # A negative number says: all rows of the window, and at least so many.
    enough = -least if min_count is None else max(min_count, least)
    within = Opcode(fixed + Opcode.SUM_WITHIN - Opcode.SUM)
    return builder.emit(within, a=x, b=sums, c=rows, k=window, m=enough)


def _sum(builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None) -> int:
    return _moment(builder, Opcode.SUM, x, rows, window, min_count)


def mean(builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None) -> int:
    """The mean of a window."""
    return _moment(builder, Opcode.MEAN, x, rows, window, min_count)


def _var(builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None) -> int:
    return _moment(builder, Opcode.VAR, x, rows, window, min_count, least=2)


def deviation(
    builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None
) -> int:
    """The sample standard deviation of a window."""
    variance = _var(builder, x, rows, window=window, min_count=min_count)
    return builder.emit(Opcode.SQRT, a=variance)


def _zscore(builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None) -> int:
    center = mean(builder, x, rows, window=window, min_count=min_count)
    scale = deviation(builder, x, rows, window=window, min_count=min_count)
    return builder.emit(Opcode.DIV, a=builder.emit(Opcode.SUB, a=x, b=center), b=scale)


_BITWISE, _TOLERANCE = NumericClass.BITWISE, NumericClass.TOLERANCE
_SUMS = "6 * window, shared by all windows over the same input"
_METHOD = (
    "exact integer sums where all values of the window are below 2**24 in magnitude (quantum "
    "2**-64), else compensated sums over the window in a fixed order"
)

OPERATORS = (
    Operator(
        "rolling_count",
        NumericClass.EXACT,
        "more rows than max_rows",
        count,
        reach="window - 1",
        state=_SUMS,
        unit="rows",
    ),
    Operator("rolling_sum", _BITWISE, FULL, _sum, reach="window - 1", state=_SUMS, note=_METHOD),
    Operator("rolling_mean", _BITWISE, FULL, mean, reach="window - 1", state=_SUMS, note=_METHOD),
    Operator(
        "rolling_var",
        _TOLERANCE,
        FULL + ", or fewer than 2",
        _var,
        reach="window - 1",
        state=_SUMS,
        unit="u**2",
        note="relative error <= 2e-9; " + _METHOD,
    ),
    Operator(
        "rolling_std",
        _TOLERANCE,
        FULL + ", or fewer than 2",
        deviation,
        reach="window - 1",
        state=_SUMS,
        note="relative error <= 1e-9; " + _METHOD,
    ),
    Operator(
        "zscore",
        _TOLERANCE,
        FULL + ", fewer than 2, the row itself is missing, or the window is constant",
        _zscore,
        reach="window - 1",
        state=_SUMS,
        unit="1",
        formula="(x - rolling_mean) / rolling_std",
        note="from rolling_mean and rolling_std",
    ),
)
