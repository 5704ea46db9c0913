"""The natural logarithm, computed from its mathematics.

Why not the mathematics library: two of them differ in the last bit for a few arguments in a
thousand, and a vectorised one differs from the scalar one, so a value would depend on the machine
and on the number of rows.

Method (Tang 1990, "Table-driven implementation of the logarithm function", section 1, without
tables; the same reduction as most public libraries): ``x = 2**e * m`` with ``m`` in [sqrt(1/2),
sqrt(2)), ``f = m - 1``, ``s = f / (2 + f)``, and ``log(m) = log1p(f) = 2 atanh(s)``. With ``2 s = f
- s f`` that is ``f - (f*f/2 - s * (f*f/2 + R))``, where ``R = 2 (s**2/3 + s**4/5 + ...)``. The
series is cut after ``s**22``: the first term left out is below 2**-61 of the result. ``e * log(2)``
is added in two parts, of which the first has so few bits that its product with ``e`` is exact.

Error below 1 ulp (measured against 60-digit decimals over the whole range in the tests).
"""

from __future__ import annotations

from assay.features.kernel.elementwise import LARGEST, NAN, step
from assay.features.kernel.words import float_of, get, put, word_of

_MANTISSA = (1 << 52) - 1
_ONE = 1023 << 52
_SQRT_HALF = 0x3FE6A09E667F3BCD  # bits of sqrt(1/2)
_SMALLEST_NORMAL = 2.2250738585072014e-308
LN2_HIGH = float.fromhex("0x1.62e42feep-1")  # the first 32 bits of log(2)
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")  # the rest, rounded
_C3, _C5, _C7, _C9, _C11, _C13, _C15, _C17, _C19, _C21, _C23 = (2.0 / n for n in range(3, 25, 2))


@step
def reduced(x: float) -> tuple[float, float]:
    """``f`` and ``e`` with ``x = 2**e * (1 + f)`` and ``1 + f`` in [sqrt(1/2), sqrt(2))."""
    tiny = x < _SMALLEST_NORMAL
    word = word_of(x * 18014398509481984.0 if tiny else x)  # subnormals are lifted by 2**54
    # Subtracting the bits of sqrt(1/2) makes the exponent field roll over at sqrt(1/2), not at 1.
    shifted = word - _SQRT_HALF
    exponent = shifted >> 52
    mantissa = float_of((shifted & _MANTISSA) + _SQRT_HALF)
    return mantissa - 1.0, float(exponent - 54 if tiny else exponent)


@step
def natural_logarithm(x: float) -> float:
    """``log(x)`` of a positive number, NaN otherwise."""
    f, scale = reduced(x)
    s = f / (2.0 + f)
    z = s * s
    series = z * (_C21 + z * _C23)
    series = z * (_C17 + z * (_C19 + series))
    series = z * (_C13 + z * (_C15 + series))
    series = z * (_C9 + z * (_C11 + series))
    series = z * (_C5 + z * (_C7 + series))
    series = z * (_C3 + series)
    half = 0.5 * f * f
    result = scale * LN2_HIGH - ((half - (s * (half + series) + scale * LN2_LOW)) - f)
    return result if (x > 0.0) & (x <= LARGEST) else NAN


@step
def log(state: int, out: int, a: int, count: int) -> None:
    """Logarithms of ``count`` rows."""
    for i in range(count):
        put(state, out + i, natural_logarithm(get(state, a + i)))
