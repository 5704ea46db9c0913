"""Covariance, correlation and slope of two inputs over windows, and the slope over its rows."""

from __future__ import annotations

import math

from assay.features.definition.builder import Builder
from assay.features.definition.opcodes import PAIR_WIDTH, TREND_WIDTH, Opcode
from assay.features.definition.operators.promise import FULL, NumericClass, Operator

_WITHIN = Opcode.COVARIANCE_WITHIN - Opcode.COVARIANCE


def _together(builder: Builder, value: int, other: int) -> int:
    """A value, missing where the other one is."""
    valid = builder.emit(Opcode.VALID, a=other)
    return builder.emit(Opcode.WHERE, a=valid, b=value, c=builder.constant(math.nan))


def _pair(
    builder: Builder,
    fixed: Opcode,
    x: int,
    y: int,
    rows: int,
    window: int,
    min_count: int | None,
) -> int:
    x, y = _together(builder, x, y), _together(builder, y, x)
    sums = builder.emit(Opcode.PAIR_PREFIX, a=x, b=y, before=0.0, width=PAIR_WIDTH)
    for offset in range(PAIR_WIDTH):
        # At least one earlier row: a running sum continues from it.
        builder.reads_back(sums + offset, window)
    for node in (x, y):
        builder.reads_back(node, window - 1)  # for windows that are reduced from scratch
    if rows < 0:
        least = window if min_count is None else min_count
        return builder.emit(fixed, a=x, b=sums, c=y, k=window, scalar=float(least))
    # A negative number says: all rows of the window, and at least two.
    least = -2 if min_count is None else min_count
    within = Opcode(fixed + _WITHIN)
    return builder.emit(within, a=x, b=sums, c=y, k=window, m=rows, scalar=float(least))


def _covariance(
    builder: Builder, x: int, y: int, rows: int = -1, *, window: int, min_count: int | None
) -> int:
    return _pair(builder, Opcode.COVARIANCE, x, y, rows, window, min_count)


def _correlation(
    builder: Builder, x: int, y: int, rows: int = -1, *, window: int, min_count: int | None
) -> int:
    return _pair(builder, Opcode.CORRELATION, x, y, rows, window, min_count)


def _beta(
    builder: Builder, x: int, y: int, rows: int = -1, *, window: int, min_count: int | None
) -> int:
    return _pair(builder, Opcode.SLOPE, x, y, rows, window, min_count)


def _slope(builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None) -> int:
    sums = builder.emit(Opcode.TREND_PREFIX, a=x, before=0.0, width=TREND_WIDTH)
    for offset in range(TREND_WIDTH):
        builder.reads_back(sums + offset, window)
    builder.reads_back(x, window - 1)  # for windows that are reduced from scratch
    if rows < 0:
        least = window if min_count is None else min_count
        return builder.emit(Opcode.TREND, a=x, b=sums, k=window, m=least)
    least = -2 if min_count is None else min_count
    return builder.emit(Opcode.TREND_WITHIN, a=x, b=sums, c=rows, k=window, m=least)


_STATE = "17 * window, shared by all windows over the same two inputs"
_PAIRS = FULL.replace("valid rows", "rows where both are valid") + ", or fewer than 2"
_METHOD = (
    "from exact integer sums where all values of the window are below 2**24 in magnitude and both "
    "variances are at least 2**-56, else from two passes over the window in a fixed order"
)

OPERATORS = (
    Operator(
        "rolling_cov",
        NumericClass.TOLERANCE,
        _PAIRS,
        _covariance,
        reach="window - 1",
        state=_STATE,
        unit="u * unit of the other",
        formula="sum((x - mean(x)) * (y - mean(y))) / (n - 1)",
        note="error <= 2e-9 of the product of the deviations; " + _METHOD,
    ),
    Operator(
        "rolling_corr",
        NumericClass.TOLERANCE,
        _PAIRS + ", or either is constant",
        _correlation,
        reach="window - 1",
        state=_STATE,
        unit="1",
        formula="cov(x, y) / (std(x) * std(y)), within [-1, 1]",
        source="Pearson (1895)",
        note="error <= 4e-9; " + _METHOD,
    ),
    Operator(
        "rolling_beta",
        NumericClass.TOLERANCE,
        _PAIRS + ", or the other is constant",
        _beta,
        reach="window - 1",
        state=_STATE,
        unit="u / unit of the other",
        formula="cov(x, y) / var(y): the slope of the least squares line of x on y",
        note="error <= 4e-9 of std(x) / std(y); " + _METHOD,
    ),
    Operator(
        "rolling_slope",
        NumericClass.TOLERANCE,
        FULL + ", or fewer than 2",
        _slope,
        reach="window - 1",
        state="13 * window, shared by all windows over the same input",
        unit="u per row",
        formula="cov(x, r) / var(r), r counting the rows of the window, valid or not",
        note="error <= 2e-9 of std(x) / std(r); from exact integer sums where all values of the "
        "window are below 2**24 in magnitude and the line is flat or changes by 2**-31 or more "
        "over it, else from two passes in a fixed order",
    ),
)
