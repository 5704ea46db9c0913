"""Exponentially weighted windows, by doubling."""

from __future__ import annotations

import math

from assay.features.definition.builder import Builder
from assay.features.definition.opcodes import Opcode
from assay.features.definition.operators.moments import if_enough
from assay.features.definition.operators.promise import FULL, NumericClass, Operator


def _decayed_sum(builder: Builder, x: int, decay: float, horizon: int, before: float) -> int:
    """Sum of ``decay**j * x[i-j]`` for ``j`` below ``horizon``."""
    levels, weights = [x], [decay]  # level j sums 2**j rows; weight j is decay**(2**j)
    while 2 ** len(levels) <= horizon:
        level, rows = levels[-1], 2 ** (len(levels) - 1)
        levels.append(_joined(builder, level, level, rows, weights[-1], before))
        weights.append(weights[-1] * weights[-1])
    node, covered, weight = levels[-1], 2 ** (len(levels) - 1), weights[-1]
    for power in range(len(levels) - 2, -1, -1):
        if horizon - covered >= 2**power:
            node = _joined(builder, node, levels[power], covered, weight, before)
            covered += 2**power
            weight *= weights[power]
    return node


def _joined(
    builder: Builder, recent: int, older: int, rows: int, weight: float, before: float
) -> int:
    builder.reads_back(older, rows)
    return builder.emit(
        Opcode.ADD_SCALED_LAG, a=recent, b=older, k=rows, scalar=weight, before=before
    )


def _weights(builder: Builder, x: int, decay: float, horizon: int, min_count: int | None) -> int:
    """Sum of the weights of valid rows: a constant when all rows must be valid."""
    if min_count is None:
        return builder.constant(_sum_of_weights(decay, horizon))
    valid = builder.emit(Opcode.VALID, a=x, before=0.0)
    return _decayed_sum(builder, valid, decay, horizon, 0.0)


def _summands(builder: Builder, x: int, min_count: int | None) -> tuple[int, float]:
    if min_count is None:
        return x, math.nan
    return builder.emit(Opcode.FILL, a=x, scalar=0.0, before=0.0), 0.0


def _ewm_mean(builder: Builder, x: int, *, alpha: float, window: int, min_count: int | None) -> int:
    decay = 1.0 - alpha
    summand, before = _summands(builder, x, min_count)
    mean = builder.emit(
        Opcode.DIV,
        a=_decayed_sum(builder, summand, decay, window, before),
        b=_weights(builder, x, decay, window, min_count),
    )
    return _checked(builder, mean, x, window, min_count)


def _ewm_std(builder: Builder, x: int, *, alpha: float, window: int, min_count: int | None) -> int:
    decay = 1.0 - alpha
    summand, before = _summands(builder, x, min_count)
    square = builder.emit(Opcode.MUL, a=summand, b=summand, before=before)
    weights = _weights(builder, x, decay, window, min_count)
    builder.reads_back(x, window - 1)
    variance = builder.emit(
        Opcode.EWM_VAR,
        a=_decayed_sum(builder, summand, decay, window, before),
        b=_decayed_sum(builder, square, decay, window, before),
        c=weights,
        k=window,
        m=x,
        scalar=decay,
    )
    # Reliability weights: W**2 / (W**2 - V), V the sum of squared weights.
    squared = builder.emit(Opcode.MUL, a=weights, b=weights)
    rest = builder.emit(
        Opcode.SUB, a=squared, b=_weights(builder, x, decay * decay, window, min_count)
    )
    corrected = builder.emit(Opcode.MUL, a=variance, b=builder.emit(Opcode.DIV, a=squared, b=rest))
    deviation = builder.emit(Opcode.SQRT, a=corrected)
    return _checked(builder, deviation, x, window, min_count)


def _checked(builder: Builder, node: int, x: int, window: int, min_count: int | None) -> int:
    if min_count is None:
        return node
    return if_enough(builder, node, x, -1, window=window, min_count=min_count)


def _sum_of_weights(decay: float, horizon: int) -> float:
    total, weight = 0.0, 1.0
    for _ in range(horizon):
        total += weight
        weight *= decay
    return total


OPERATORS = (
    Operator(
        "ewm_mean",
        NumericClass.TOLERANCE,
        FULL,
        _ewm_mean,
        reach="window - 1",
        state="window, twice with min_count",
        formula="sum of (1 - alpha)**j * x[t - j] over the sum of the weights of valid rows",
        note="differs from an infinite horizon by a share (1 - alpha)**window of the weight",
    ),
    Operator(
        "ewm_std",
        NumericClass.TOLERANCE,
        FULL,
        _ewm_std,
        reach="window - 1",
        state="2 * window, 4 times with min_count",
        note="as ewm_mean; relative error <= 1e-9 for values below 1e150 where two rows weigh "
        "within 2**-20 of each other; else the correction for the degrees of freedom cancels",
    ),
)
