"""Covariance, correlation and regression slope of two inputs, by exact accumulators.

The running sums of both inputs and of their products are those of
:mod:`~assay.features.kernel.moments`, over rows where both are valid. The numerator
``n * Sxy - Sx * Sy`` comes from a double-double evaluation of exact sums. Its error is at most
2**-100 of ``n * sqrt(Sxx * Syy)`` (Cauchy and Schwarz), so it is accepted where both variances are:
then it is at most 2**-30 of the product of the deviations. Otherwise the window is reduced from
scratch, in a fixed order, about values of the window.
"""

from __future__ import annotations

import math

from assay.features.definition.opcodes import EXACT_RANGE, Opcode
from assay.features.kernel.elementwise import NAN, finite, step
from assay.features.kernel.moments import (
    add_product,
    is_sound,
    needed,
    numerator,
    prefix,
    rounded,
    scale_of,
    two_sum,
    window_square_sum,
    window_sum,
)
from assay.features.kernel.words import get, get_word, put, put_word, wrapping_sub

_COVARIANCE, _CORRELATION = int(Opcode.COVARIANCE), int(Opcode.CORRELATION)
_X, _Y, _XY = 0, 6, 12  # nodes of a group: running sums of x, of y, of their products
_COUNTS = 5
_MASK_32 = (1 << 32) - 1


@step
def pair_prefix(state: int, x: int, y: int, first: int, stride: int, rows: int) -> None:
    """Extend the fifteen running sums that begin at ``first``. Both inputs are valid together."""
    for input_, group in ((x, _X), (y, _Y)):
        at = first + group * stride
        prefix(
            state,
            input_,
            at,
            at + stride,
            at + 2 * stride,
            at + 3 * stride,
            at + 4 * stride,
            at + _COUNTS * stride,
            rows,
        )
    high, mid, low = first + _XY * stride, first + (_XY + 1) * stride, first + (_XY + 2) * stride
    s_high = get_word(state, high - 1)
    s_mid = get_word(state, mid - 1)
    s_low = get_word(state, low - 1)
    for i in range(rows):
        a, b = get(state, x + i), get(state, y + i)
        inside = (abs(a) < EXACT_RANGE) & (abs(b) < EXACT_RANGE)  # false for NaN
        s_high, s_mid, s_low = add_product(
            s_high, s_mid, s_low, rounded(a if inside else 0.0), rounded(b if inside else 0.0)
        )
        put_word(state, high + i, s_high)
        put_word(state, mid + i, s_mid)
        put_word(state, low + i, s_low)


@step
def _scatter(
    state: int, first: int, stride: int, group: int, n: float, k: int
) -> tuple[float, float, float, bool]:
    """Sum of one input as a pair, ``n * Sxx - Sx**2``, and whether that is sound."""
    at = first + group * stride
    total, low = window_sum(state, at, at + stride, k)
    square, square_low = window_square_sum(
        state, at + 2 * stride, at + 3 * stride, at + 4 * stride, k
    )
    gap, left = numerator(n, square, square_low, total, low, total, low)
    return total, low, gap, is_sound(gap, left, n)


@step
def _from_scratch(
    state: int, x: int, y: int, k: int, n: float
) -> tuple[float, float, float, float, float]:
    """Sums of squared distances of x and y and of their products, two passes, oldest first.

    Distances are taken from the newest valid pair, so that they are zero in a constant window. They
    are multiplied by powers of two, which come fourth and fifth: squares must not leave the range.
    """
    x0, y0 = 0.0, 0.0
    for j in range(k):
        value = get(state, x - j)
        if value == value:  # noqa: PLR0124 - not NaN
            x0, y0 = value, get(state, y - j)
            break
    a, a_low, b, b_low, x_most, y_most = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(k):
        value = get(state, x - k + 1 + j)
        if value == value:  # noqa: PLR0124
            dx, dy = value - x0, get(state, y - k + 1 + j) - y0
            x_most, y_most = max(x_most, abs(dx)), max(y_most, abs(dy))
            a, error = two_sum(a, dx)
            a_low += error
            b, error = two_sum(b, dy)
            b_low += error
    x_scale, y_scale = scale_of(x_most), scale_of(y_most)
    a_mean, b_mean = (a + a_low) / n, (b + b_low) / n
    xx, yy, xy, ex, ey = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(k):
        value = get(state, x - k + 1 + j)
        if value == value:  # noqa: PLR0124
            dx = ((value - x0) - a_mean) * x_scale
            dy = ((get(state, y - k + 1 + j) - y0) - b_mean) * y_scale
            xx += dx * dx
            yy += dy * dy
            xy += dx * dy
            ex += dx
            ey += dy
    # The second terms take out what the rounding of the means put in.
    xx, yy = max(xx - ex * ex / n, 0.0), max(yy - ey * ey / n, 0.0)
    return xx, yy, xy - ex * ey / n, x_scale, y_scale


@step
def _scaled(value: float, up: float, down: float) -> float:
    """``value * up / down`` of powers of two, without leaving the range on the way."""
    if (up >= 1.0) == (down >= 1.0):
        return value * (up / down)
    return value * up / down


@step
def comoment(
    opcode: int,
    state: int,
    out: int,
    x: int,
    y: int,
    first: int,
    stride: int,
    k: int,
    least: int,
    windows: int,
    rows: int,
) -> None:
    """Covariance, correlation, or slope of ``x`` on ``y``, over rows where both are valid."""
    counts, others = first + (_X + _COUNTS) * stride, first + (_Y + _COUNTS) * stride
    for i in range(rows):
        length = k if windows < 0 else get_word(state, windows + i)
        back = min(length, k)
        difference = wrapping_sub(get_word(state, counts + i), get_word(state, counts + i - back))
        other = wrapping_sub(get_word(state, others + i), get_word(state, others + i - back))
        valid = difference & _MASK_32
        if valid < needed(least, length, k):
            put(state, out + i, NAN)
            continue
        n = float(valid)
        sx, sx_low, xx, x_sound = _scatter(state, first + i, stride, _X, n, back)
        sy, sy_low, yy, y_sound = _scatter(state, first + i, stride, _Y, n, back)
        at = first + i + _XY * stride
        product, product_low = window_square_sum(state, at, at + stride, at + 2 * stride, back)
        xy, _ = numerator(n, product, product_low, sx, sx_low, sy, sy_low)
        scale, x_scale, y_scale = n, 1.0, 1.0
        if (not (x_sound & y_sound)) or (difference >> 32) > 0 or (other >> 32) > 0:
            xx, yy, xy, x_scale, y_scale = _from_scratch(state, x + i, y + i, back, n)
            scale = 1.0
        if opcode == _COVARIANCE:
            value = _scaled(xy / (scale * (n - 1.0)), 1.0 / x_scale, y_scale)
        elif opcode == _CORRELATION:
            value = xy / (math.sqrt(xx) * math.sqrt(yy))
            # Rounding alone goes beyond what a correlation can be.
            value = min(max(value, -1.0), 1.0) if value == value else value  # noqa: PLR0124
        else:
            value = _scaled(xy / yy, y_scale, x_scale)
        put(state, out + i, finite(value))
