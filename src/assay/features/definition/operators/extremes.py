"""The smallest and largest values of windows."""

from __future__ import annotations

import math

from assay.features.definition.builder import Builder
from assay.features.definition.opcodes import Opcode
from assay.features.definition.operators.moments import if_enough
from assay.features.definition.operators.ordered import quantile
from assay.features.definition.operators.promise import FULL, NumericClass, Operator

_LARGEST = 1.7976931348623157e308


def extreme(builder: Builder, opcode: Opcode, x: int, window: int, before: float) -> int:
    """The extreme of ``window`` rows as that of two overlapping stretches of 2**j rows."""
    stretch, node = 1, x
    while 2 * stretch <= window:
        builder.reads_back(node, stretch)
        node = builder.emit(opcode, a=node, b=node, k=stretch, before=before)
        stretch *= 2
    if stretch == window:
        return node
    builder.reads_back(node, window - stretch)
    return builder.emit(opcode, a=node, b=node, k=window - stretch, before=before)


def _min(builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None) -> int:
    return _rolling(builder, Opcode.MIN_LAG, x, rows, window, min_count, _LARGEST)


def _max(builder: Builder, x: int, rows: int = -1, *, window: int, min_count: int | None) -> int:
    return _rolling(builder, Opcode.MAX_LAG, x, rows, window, min_count, -_LARGEST)


def _rolling(
    builder: Builder,
    opcode: Opcode,
    x: int,
    rows: int,
    window: int,
    min_count: int | None,
    neutral: float,
) -> int:
    if rows >= 0:
        q = 0.0 if opcode is Opcode.MIN_LAG else 1.0
        return quantile(
            builder, x, rows, window=window, min_count=min_count, q=q, interpolation="lower"
        )
    if min_count is None:
        return extreme(builder, opcode, x, window, math.nan)
    filled = builder.emit(Opcode.FILL, a=x, scalar=neutral, before=neutral)
    node = extreme(builder, opcode, filled, window, neutral)
    return if_enough(builder, node, x, rows, window=window, min_count=min_count)


_DOUBLING = (
    "window (extremes over 1, 2, 4, ... rows), shared by all windows over the input; over time or "
    "sessions 2 * window"
)

OPERATORS = (
    Operator("rolling_min", NumericClass.EXACT, FULL, _min, reach="window - 1", state=_DOUBLING),
    Operator("rolling_max", NumericClass.EXACT, FULL, _max, reach="window - 1", state=_DOUBLING),
)
