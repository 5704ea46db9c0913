"""The last step of an exponentially weighted variance.

Weighted sums over a horizon of ``h`` rows are built by doubling: the sum over ``2 m`` rows is the
sum over ``m`` rows plus ``decay**m`` times the same sum ``m`` rows ago (``ADD_SCALED_LAG``). That
takes about ``log2(h)`` operations a row, in an order that is fixed relative to the row, so the
value is a pure function of the last ``h`` rows; a recursive update would remember all of history in
its last bits.
"""

from __future__ import annotations

from assay.features.kernel.elementwise import finite, step
from assay.features.kernel.words import get, put

_CANCELLATION = 2.0**-20


@step
def ewm_variance(
    state: int,
    out: int,
    x: int,
    sums: int,
    squares: int,
    weights: int,
    horizon: int,
    decay: float,
    rows: int,
) -> None:
    """Weighted variance about the weighted mean, without correction for the degrees of freedom.

    ``E[x**2] - E[x]**2`` where that is at least 2**-20 of ``E[x**2]`` (relative error below
    2**-30); where it is not, two passes over the horizon about its newest valid value, newest
    first.
    """
    for i in range(rows):
        weight = get(state, weights + i)
        mean = get(state, sums + i) / weight
        mean_square = get(state, squares + i) / weight
        value = mean_square - mean * mean
        if value < _CANCELLATION * mean_square or mean_square == 0.0:
            value = _two_passes(state, x + i, horizon, decay)
        put(state, out + i, finite(value))


@step
def _two_passes(state: int, x: int, horizon: int, decay: float) -> float:
    reference, found = 0.0, False
    weight, total, factor = 0.0, 0.0, 1.0
    for j in range(horizon):
        value = get(state, x - j)
        if value == value:  # noqa: PLR0124
            if not found:
                reference, found = value, True
            weight += factor
            total += factor * (value - reference)
        factor *= decay
    mean = total / weight
    squares, factor = 0.0, 1.0
    for j in range(horizon):
        value = get(state, x - j)
        if value == value:  # noqa: PLR0124
            distance = (value - reference) - mean
            squares += factor * (distance * distance)
        factor *= decay
    return squares / weight
