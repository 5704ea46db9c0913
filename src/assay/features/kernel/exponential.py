"""Exponentials and powers, computed from their mathematics, for the reason given in
:mod:`~assay.features.kernel.logarithm`.

``exp``. ``x = k log(2) + r`` with ``|r| <= log(2) / 2``, ``k log(2)`` in two parts of which the
first is exact; ``exp(r)`` by its series up to ``r**14`` (the first term left out is below 2**-58),
with the rounding errors of ``r`` and of ``1 + r`` carried along; then multiplication by ``2**k``.
Error below 1 ulp (measured against 60-digit decimals in the tests), 1.5 ulp where the result is
subnormal.

``power``. ``exp(y log(x))`` with the logarithm as an unevaluated pair of floats. The relative error
is below ``2**-52 + |y log(x)| * 2**-58``.
"""

from __future__ import annotations

from assay.features.kernel.elementwise import LARGEST, NAN, finite, step
from assay.features.kernel.logarithm import LN2_HIGH, LN2_LOW, reduced
from assay.features.kernel.moments import two_product, two_sum
from assay.features.kernel.words import float_of, get, put

_PER_LN2 = 1.4426950408889634  # 1 / log(2)
_ROUNDER = 1.5 * 2.0**52  # adding and taking it away rounds to a whole number, ties to even
_UNDERFLOW, _OVERFLOW = -746.0, 710.0
_FACTORIALS = [1.0]
for _n in range(1, 15):
    _FACTORIALS.append(_FACTORIALS[-1] * _n)  # exact: 14! is below 2**53
_E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10, _E11, _E12, _E13, _E14 = (
    1.0 / _FACTORIALS[n] for n in range(2, 15)
)
_T3, _T5, _T7, _T9, _T11, _T13, _T15, _T17, _T19, _T21, _T23 = (2.0 / n for n in range(3, 25, 2))


@step
def exponential(x: float, low: float) -> float:
    """``exp(x + low)`` for a ``low`` that is small beside ``x``; NaN where that is not finite."""
    if not (x < _OVERFLOW):  # NaN as well
        return NAN
    if x < _UNDERFLOW:
        return 0.0
    k = (x * _PER_LN2 + _ROUNDER) - _ROUNDER
    high = x - k * LN2_HIGH
    rest = k * LN2_LOW - low
    r = high - rest
    r_low = (high - r) - rest
    q = r * (_E12 + r * (_E13 + r * _E14))
    q = r * (_E8 + r * (_E9 + r * (_E10 + r * (_E11 + q))))
    q = r * (_E4 + r * (_E5 + r * (_E6 + r * (_E7 + q))))
    q = r * r * (_E2 + r * (_E3 + q))
    total, error = two_sum(1.0, r)
    value = total + (error + (q + r_low * total))
    exponent = int(k)
    # In two halves: 2**k alone may be out of range where the result is not.
    half = exponent >> 1
    value *= float_of((half + 1023) << 52)
    return finite(value * float_of((exponent - half + 1023) << 52))


@step
def logarithm_pair(x: float) -> tuple[float, float]:
    """``log(x)`` of a positive number as an unevaluated sum, to about 2**-59 of its size."""
    f, scale = reduced(x)
    denominator, denominator_low = two_sum(2.0, f)
    s = f / denominator
    product, error = two_product(s, denominator)
    s_low = ((f - product) - error - s * denominator_low) / denominator
    z = s * s
    tail = z * (_T21 + z * _T23)
    tail = z * (_T17 + z * (_T19 + tail))
    tail = z * (_T13 + z * (_T15 + tail))
    tail = z * (_T9 + z * (_T11 + tail))
    tail = z * (_T5 + z * (_T7 + tail))
    tail = s * (z * (_T3 + tail))
    total, error = two_sum(scale * LN2_HIGH, 2.0 * s)
    return two_sum(total, error + (2.0 * s_low + (tail + scale * LN2_LOW)))


@step
def powered(x: float, y: float) -> float:
    """``x**y``; NaN for a negative ``x`` unless ``y`` is whole, and for zero to a negative one."""
    if not ((abs(x) <= LARGEST) & (abs(y) <= LARGEST)):
        return NAN
    if y == 0.0 or x == 1.0:  # the error term of a huge power times log(1) is no number
        return 1.0
    if x == 0.0:
        return 0.0 if y > 0.0 else NAN
    negative = x < 0.0
    odd = False
    if negative:
        # From 2**53 on every float is even.
        if abs(y) < 9007199254740992.0:
            whole = int(y)
            if float(whole) != y:
                return NAN
            odd = (whole & 1) == 1
        x = -x
    high, low = logarithm_pair(x)
    product, error = two_product(high, y)
    if abs(product) > 800.0:  # the error term of a huge product may be no number
        error, low = 0.0, 0.0
    value = exponential(product, error + low * y)
    return -value if odd else value


@step
def exp(state: int, out: int, a: int, count: int) -> None:
    """Exponentials of ``count`` rows."""
    for i in range(count):
        put(state, out + i, exponential(get(state, a + i), 0.0))


@step
def power(state: int, out: int, a: int, scalar: float, count: int) -> None:
    """Powers of ``count`` rows."""
    for i in range(count):
        put(state, out + i, powered(get(state, a + i), scalar))
