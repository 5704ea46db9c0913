"""Skewness and kurtosis of windows, by exact accumulators.

Beside the running sums of :mod:`~assay.features.kernel.moments` there are finer ones of second to
fourth powers: every power is taken exactly, as a few floats, and each of them is added to limbs
2**45 apart, down to 2**-131, 2**-150 and 2**-126. The sums of a window are exact differences, hence
a pure function of its content.

The central moments are evaluated in double-double arithmetic about the rounded mean. That is
accepted where the deviation is at least 2**-22 and at least 2**-16 of the level: then what cancels
leaves a relative error below 2**-30. Otherwise the window is reduced from scratch, in a fixed
order, about its newest value.
"""

from __future__ import annotations

import math
import struct

from assay.features.definition.opcodes import EXACT_RANGE, POWER_WIDTH, Opcode
from assay.features.kernel.elementwise import NAN, finite, step
from assay.features.kernel.moments import (
    needed,
    prefix,
    rounded,
    scale_of,
    two_product,
    two_sum,
    window_sum,
)
from assay.features.kernel.words import (
    get,
    get_word,
    put,
    put_word,
    word_of,
    wrapping_add,
    wrapping_sub,
)

_SKEWNESS = int(Opcode.SKEWNESS)
_COUNTS = 5
# Of second, third and fourth powers: the first node of a group, how many limbs, and their units.
_FIRST, _LIMBS = (6, 10, 15), (4, 5, 5)
_UNITS = (
    (2.0**4, 2.0**-41, 2.0**-86, 2.0**-131, 0.0),
    (2.0**30, 2.0**-15, 2.0**-60, 2.0**-105, 2.0**-150),
    (2.0**54, 2.0**9, 2.0**-36, 2.0**-81, 2.0**-126),
)
_MAGIC = tuple(tuple(1.5 * 2.0**52 * unit for unit in units) for units in _UNITS)
_BITS = tuple(
    tuple(int(struct.unpack("<q", struct.pack("<d", one))[0]) for one in row) for row in _MAGIC
)
_SQUARE, _CUBE, _QUARTIC = 0, 1, 2
_MASK_32, _MASK_45 = (1 << 32) - 1, (1 << 45) - 1
_SMALLEST_VARIANCE = 2.0**-44
_SMALLEST_RATIO = 2.0**-32


@step
def _add(state: int, first: int, stride: int, value: float, power: int) -> None:
    """Add a float to the limbs of a power, in the group that begins at ``first``."""
    rest = value
    for limb in range(_LIMBS[power]):
        magic = _MAGIC[power][limb]
        shifted = rest + magic
        place = first + (_FIRST[power] + limb) * stride
        gain = word_of(shifted) - _BITS[power][limb]
        put_word(state, place, wrapping_add(get_word(state, place), gain))
        rest = rest - (shifted - magic)


@step
def power_prefix(state: int, x: int, first: int, stride: int, rows: int) -> None:
    """Extend the twenty running sums that begin at ``first`` by the values at ``x``."""
    prefix(
        state,
        x,
        first,
        first + stride,
        first + 2 * stride,
        first + 3 * stride,
        first + 4 * stride,
        first + _COUNTS * stride,
        rows,
    )
    for i in range(rows):
        raw = get(state, x + i)
        value = rounded(raw if abs(raw) < EXACT_RANGE else 0.0)
        square, square_low = two_product(value, value)
        for node in range(_FIRST[0], POWER_WIDTH):
            place = first + node * stride + i
            put_word(state, place, get_word(state, place - 1))
        at = first + i
        _add(state, at, stride, square, _SQUARE)
        _add(state, at, stride, square_low, _SQUARE)
        for part in (square, square_low):
            product, error = two_product(value, part)
            _add(state, at, stride, product, _CUBE)
            _add(state, at, stride, error, _CUBE)
        for a, b in (
            (square, square),
            (square, 2.0 * square_low),
            (square_low, square_low),
        ):
            product, error = two_product(a, b)
            _add(state, at, stride, product, _QUARTIC)
            _add(state, at, stride, error, _QUARTIC)


@step
def _limb(state: int, at: int, k: int) -> int:
    difference: int = wrapping_sub(get_word(state, at), get_word(state, at - k))
    return difference


@step
def _power_sum(state: int, first: int, stride: int, k: int, power: int) -> tuple[float, float]:
    """The sum of a power over a window as a pair."""
    carry = 0
    high, low = 0.0, 0.0
    # From the lowest limb up, so that carries are known.
    for limb in range(_LIMBS[power] - 1, -1, -1):
        unit = _UNITS[power][limb]
        whole = _limb(state, first + (_FIRST[power] + limb) * stride, k) + carry
        carry = whole >> 45
        if limb == 0:
            high, error = two_sum(high, float(whole & _MASK_32) * unit)
            low += error
            high, error = two_sum(high, float(whole >> 32) * (4294967296.0 * unit))
        else:
            high, error = two_sum(high, float(whole & _MASK_45) * unit)
        low += error
    return two_sum(high, low)


@step
def _times(a: float, a_low: float, b: float, b_low: float) -> tuple[float, float]:
    """The product of two pairs."""
    product, error = two_product(a, b)
    return two_sum(product, error + (a * b_low + a_low * b))


@step
def _plus(a: float, a_low: float, b: float, b_low: float) -> tuple[float, float]:
    """The sum of two pairs."""
    total, error = two_sum(a, b)
    low, more = two_sum(a_low, b_low)
    total, error = two_sum(total, error + low)
    return two_sum(total, error + more)


@step
def _term(
    total: float,
    total_low: float,
    a: float,
    a_low: float,
    b: float,
    b_low: float,
    coefficient: float,
) -> tuple[float, float]:
    """``total + coefficient * a * b`` of pairs."""
    product, product_low = _times(a, a_low, b, b_low)
    product, product_low = _times(product, product_low, coefficient, 0.0)
    return _plus(total, total_low, product, product_low)


@step
def _central(
    n: float,
    s1: float,
    s1_low: float,
    s2: float,
    s2_low: float,
    s3: float,
    s3_low: float,
    s4: float,
    s4_low: float,
) -> tuple[float, float, float]:
    """Sums of second, third and fourth powers of distances from the mean."""
    c = s1 / n
    c2, c2_low = two_product(c, c)
    c3, c3_low = _times(c2, c2_low, c, 0.0)
    c4, c4_low = _times(c2, c2_low, c2, c2_low)
    # Powers of distances from c, by the binomial theorem. Coefficients come last: three times a
    # float is no float.
    m2, m2_low = _term(s2, s2_low, s1, s1_low, c, 0.0, -2.0)
    m2, m2_low = _term(m2, m2_low, c2, c2_low, n, 0.0, 1.0)
    m3, m3_low = _term(s3, s3_low, s2, s2_low, c, 0.0, -3.0)
    m3, m3_low = _term(m3, m3_low, s1, s1_low, c2, c2_low, 3.0)
    m3, m3_low = _term(m3, m3_low, c3, c3_low, n, 0.0, -1.0)
    m4, m4_low = _term(s4, s4_low, s3, s3_low, c, 0.0, -4.0)
    m4, m4_low = _term(m4, m4_low, s2, s2_low, c2, c2_low, 6.0)
    m4, m4_low = _term(m4, m4_low, s1, s1_low, c3, c3_low, -4.0)
    m4, m4_low = _term(m4, m4_low, c4, c4_low, n, 0.0, 1.0)
    return m2, m3, m4


@step
def _from_scratch(state: int, x: int, k: int, n: float) -> tuple[float, float, float]:
    """The same in two passes, oldest first, of distances multiplied by a power of two.

    It cancels in the results, and keeps fourth powers in range.
    """
    reference = 0.0
    for j in range(k):
        value = get(state, x - j)
        if value == value:  # noqa: PLR0124 - not NaN
            reference = value
            break
    total, low, most = 0.0, 0.0, 0.0
    for j in range(k):
        value = get(state, x - k + 1 + j)
        if value == value:  # noqa: PLR0124
            most = max(most, abs(value - reference))
            total, error = two_sum(total, value - reference)
            low += error
    scale = scale_of(most)
    mean = (total + low) / n
    m2, m3, m4 = 0.0, 0.0, 0.0
    for j in range(k):
        value = get(state, x - k + 1 + j)
        if value == value:  # noqa: PLR0124
            away = ((value - reference) - mean) * scale
            square = away * away
            m2 += square
            m3 += square * away
            m4 += square * square
    return m2, m3, m4


@step
def shape(
    opcode: int,
    state: int,
    out: int,
    x: int,
    first: int,
    stride: int,
    k: int,
    least: int,
    windows: int,
    rows: int,
) -> None:
    """Skewness, or excess kurtosis, of every window, corrected for its bias."""
    for i in range(rows):
        length = k if windows < 0 else get_word(state, windows + i)
        back = min(length, k)
        at = first + i
        counts = _limb(state, at + _COUNTS * stride, back)
        valid = counts & _MASK_32
        if valid < needed(least, length, k):
            put(state, out + i, NAN)
            continue
        n = float(valid)
        s1, s1_low = window_sum(state, at, at + stride, back)
        s2, s2_low = _power_sum(state, at, stride, back, _SQUARE)
        s3, s3_low = _power_sum(state, at, stride, back, _CUBE)
        s4, s4_low = _power_sum(state, at, stride, back, _QUARTIC)
        m2, m3, m4 = _central(n, s1, s1_low, s2, s2_low, s3, s3_low, s4, s4_low)
        sound = (m2 >= _SMALLEST_VARIANCE * n) & (m2 >= _SMALLEST_RATIO * s2)
        if (not sound) or (counts >> 32) > 0:
            m2, m3, m4 = _from_scratch(state, x + i, back, n)
        if opcode == _SKEWNESS:
            ratio = m3 / (m2 * math.sqrt(m2))
            value = ratio * (n * math.sqrt(n - 1.0)) / (n - 2.0)
        else:
            free = (n - 2.0) * (n - 3.0)
            ratio = m4 / (m2 * m2)
            value = ratio * (n * (n + 1.0) * (n - 1.0)) / free
            value -= 3.0 * (n - 1.0) * (n - 1.0) / free
        put(state, out + i, finite(value))
