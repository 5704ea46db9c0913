"""Exponentially weighted windows whose weights fall off with time."""

from __future__ import annotations

from assay.features.definition.builder import BEFORE_ALL_TIMES, EVENT_TIME, Builder
from assay.features.definition.opcodes import Opcode
from assay.features.definition.operators.moments import where_enough
from assay.features.definition.operators.promise import FULL, NumericClass, Operator

TILES = 16
"""Tiles in a horizon; the oldest one begins up to a tile's length before it."""

_WIDTH = 5


def _ewm_mean(
    builder: Builder, x: int, *, halflife: int, horizon: int, window: int, min_count: int | None
) -> int:
    return _merged(builder, Opcode.DECAYED_MEAN, x, halflife, horizon, window, min_count, 1)


def _ewm_std(
    builder: Builder, x: int, *, halflife: int, horizon: int, window: int, min_count: int | None
) -> int:
    return _merged(builder, Opcode.DECAYED_STD, x, halflife, horizon, window, min_count, 2)


def _merged(
    builder: Builder,
    opcode: Opcode,
    x: int,
    halflife: int,
    horizon: int,
    window: int,
    min_count: int | None,
    least: int,
) -> int:
    times = builder.load_bits(EVENT_TIME)
    length = max(1, -(-horizon // TILES))
    ordinals = builder.emit(Opcode.TILE, a=times, m=length, before=BEFORE_ALL_TIMES)
    builder.reads_back(ordinals, window)
    rows = builder.emit(Opcode.ROWS_WITHIN, a=ordinals, k=window, m=TILES + 1, before=0.0)
    builder.reads_back(rows, 1)
    sums = builder.emit(
        Opcode.DECAY, a=x, b=times, c=ordinals, scalar=float(halflife), before=0.0, width=_WIDTH
    )
    for offset in range(_WIDTH):
        builder.reads_back(sums + offset, window)
    builder.reads_back(times, window)
    node = builder.emit(opcode, a=sums, b=times, c=rows, k=window, scalar=float(halflife))
    return where_enough(builder, node, x, rows, window=window, min_count=min_count, least=least)


_NOTE = (
    "bitwise from the rows since the beginning of the oldest of 17 tiles of horizon / 16, counted "
    "from the epoch; older rows would weigh at most 2**-(horizon / halflife)"
)
_RANGE = "missing as well where all weights, or sums of squares, leave the range of floats"
_MEAN_ERROR = f"error <= 1e-9 of the weighted mean of absolute values; {_RANGE}; {_NOTE}"
_STD_ERROR = (
    "error <= 1e-9 of the deviation and 1e-12 of the weighted mean of absolute values; "
    f"{_RANGE}; {_NOTE}"
)
_STATE = "9 * max_rows"
_SOURCE = "West 1979; Chan, Golub and LeVeque 1983"

OPERATORS = (
    Operator(
        "ewm_mean_in_time",
        NumericClass.TOLERANCE,
        FULL,
        _ewm_mean,
        reach="window",
        state=_STATE,
        formula="sum of 2**-(age / halflife) * x over the sum of the weights of valid rows",
        source=_SOURCE,
        note=_MEAN_ERROR,
    ),
    Operator(
        "ewm_std_in_time",
        NumericClass.TOLERANCE,
        FULL + ", or fewer than 2",
        _ewm_std,
        reach="window",
        state=_STATE,
        formula="sqrt(S / W * W**2 / (W**2 - V)); S: weighted squared distances from the weighted "
        "mean, W and V: sums of weights and of their squares",
        source=_SOURCE,
        note=_STD_ERROR,
    ),
)
