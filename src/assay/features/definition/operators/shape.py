"""Skewness and kurtosis of windows."""

from __future__ import annotations

from assay.features.definition.builder import Builder
from assay.features.definition.opcodes import POWER_WIDTH, Opcode
from assay.features.definition.operators.promise import FULL, NumericClass, Operator

_WITHIN = Opcode.SKEWNESS_WITHIN - Opcode.SKEWNESS


def _shape(
    builder: Builder,
    fixed: Opcode,
    x: int,
    rows: int,
    window: int,
    min_count: int | None,
    needs: int,
) -> int:
    sums = builder.emit(Opcode.POWER_PREFIX, a=x, before=0.0, width=POWER_WIDTH)
    for offset in range(POWER_WIDTH):
        # At least one earlier row: a running sum continues from it.
        builder.reads_back(sums + offset, window)
    builder.reads_back(x, window - 1)  # for windows that are reduced from scratch
    if rows < 0:
        least = window if min_count is None else min_count
        return builder.emit(fixed, a=x, b=sums, k=window, m=least)
    # A negative number says: all rows of the window, and at least so many.
    least = -needs if min_count is None else min_count
    return builder.emit(Opcode(fixed + _WITHIN), a=x, b=sums, c=rows, k=window, m=least)


def _skew(builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None) -> int:
    return _shape(builder, Opcode.SKEWNESS, x, rows, window, min_count, 3)


def _kurt(builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None) -> int:
    return _shape(builder, Opcode.KURTOSIS, x, rows, window, min_count, 4)


_STATE = "21 * window, shared by all windows over the same input"
_METHOD = (
    "from exact integer sums where all values of the window are below 2**24 in magnitude and the "
    "deviation is at least 2**-22 and at least 2**-16 of the level, else from two passes over the "
    "window in a fixed order"
)
_SOURCE = "Joanes and Gill (1998), Comparing measures of sample skewness and kurtosis"

OPERATORS = (
    Operator(
        "rolling_skew",
        NumericClass.TOLERANCE,
        FULL + ", fewer than 3, or the window is constant",
        _skew,
        reach="window - 1",
        state=_STATE,
        unit="1",
        formula="n * sqrt(n - 1) / (n - 2) * m3 / m2**1.5, mk = sum((x - mean)**k)",
        source=_SOURCE + ", G1; as pandas computes it",
        note="error <= 1e-8; " + _METHOD,
    ),
    Operator(
        "rolling_kurt",
        NumericClass.TOLERANCE,
        FULL + ", fewer than 4, or the window is constant",
        _kurt,
        reach="window - 1",
        state=_STATE,
        unit="1",
        formula="(n - 1) / ((n - 2) * (n - 3)) * (n * (n + 1) * m4 / m2**2 - 3 * (n - 1))",
        source=_SOURCE + ", G2: 0 for a normal distribution; as pandas computes it",
        note="relative error of the first term <= 1e-8; " + _METHOD,
    ),
)
