"""Rolling count, sum, mean and variance by exact accumulators.

The idea. A value ``x`` with ``|x| < 2**24`` is rounded once to a multiple of 2**-64 and written as
two integers (limbs), its square as three down to 2**-86. :func:`prefix` keeps running sums of those
limbs; the sum over the last ``k`` rows is the difference of two running sums. Integer sums are
exact in any order and modulo 2**64, so a window's value is a pure function of the window's content:
the row at which the run began, the chunking and everything before the window cancel to the last
bit. One prefix serves all windows over the same values.

Limb sizes. The top limb of either sum is below 2**44, so that 131,072 rows stay below 2**62. Limbs
are taken by adding 1.5 * 2**52 units of the limb: the sum's low mantissa bits are then the integer,
rounded half to even.

The variance is ``(n * S2 - S1**2) / (n (n - 1))`` in double-double arithmetic. It is accepted when
it is at least 2**-56 and at least 2**-70 of the mean square; then its relative error is below
2**-30. Otherwise (and when a value is out of range) the window is reduced from scratch, in a fixed
order, about a value of the window. Which of the two happens is decided by exact sums, hence by the
window alone.

The splitting of a product into two floats is Dekker's (1971, "A floating-point technique for
extending the available precision"), two-sum is Knuth's (The Art of Computer Programming, volume 2,
section 4.2.2).

The measured error of the standard deviation against exact rational arithmetic stands in the
decision record on the kernel.
"""

from __future__ import annotations

import struct

from assay.features.definition.opcodes import EXACT_RANGE
from assay.features.kernel.elementwise import NAN, finite, step
from assay.features.kernel.words import (
    float_of,
    get,
    get_word,
    put,
    put_word,
    word_of,
    wrapping_add,
    wrapping_sub,
)

_Q_HIGH, _Q_LOW = 2.0**-20, 2.0**-64  # units of the limbs of x
_Q_SQ_HIGH, _Q_SQ_MID, _Q_SQ_LOW = 2.0**4, 2.0**-41, 2.0**-86  # and of x squared
_M_HIGH, _M_LOW = 1.5 * 2.0**52 * _Q_HIGH, 1.5 * 2.0**52 * _Q_LOW
_M_SQ_HIGH, _M_SQ_MID, _M_SQ_LOW = (
    1.5 * 2.0**52 * _Q_SQ_HIGH,
    1.5 * 2.0**52 * _Q_SQ_MID,
    1.5 * 2.0**52 * _Q_SQ_LOW,
)
_SPLITTER = 134_217_729.0  # 2**27 + 1
_OUT_OF_RANGE = 1 << 32  # counts: valid values in the low half, those out of range in the high
_MASK_32 = (1 << 32) - 1
_MASK_44 = (1 << 44) - 1
_MASK_45 = (1 << 45) - 1
_SMALLEST_VARIANCE = 2.0**-56
_SMALLEST_RATIO = 2.0**-70
_NEVER = 1 << 40  # more valid values than any window holds
_FROM_SCRATCH = -1.0  # no variance is negative


def _bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


_B_HIGH, _B_LOW = _bits(_M_HIGH), _bits(_M_LOW)
_B_SQ_HIGH, _B_SQ_MID, _B_SQ_LOW = _bits(_M_SQ_HIGH), _bits(_M_SQ_MID), _bits(_M_SQ_LOW)


@step
def two_sum(a: float, b: float) -> tuple[float, float]:
    """``a + b`` as the rounded sum and its error, exactly."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


@step
def two_product(a: float, b: float) -> tuple[float, float]:
    """``a * b`` as the rounded product and its error, exactly (no fused operation needed)."""
    product = a * b
    scaled = _SPLITTER * a
    a_high = scaled - (scaled - a)
    a_low = a - a_high
    scaled = _SPLITTER * b
    b_high = scaled - (scaled - b)
    b_low = b - b_high
    error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return product, error


@step
def scale_of(largest: float) -> float:
    """A power of two that brings a positive number near 1, so that its powers stay in range."""
    exponent = min(max((word_of(largest) >> 52) & 2047, 1), 2045)
    scale: float = float_of((2046 - exponent) << 52)
    return scale


@step
def rounded(value: float) -> float:
    """A value below 2**24 in magnitude as a multiple of 2**-64."""
    top = (value + _M_HIGH) - _M_HIGH
    return top + (((value - top) + _M_LOW) - _M_LOW)


@step
def add_product(high: int, mid: int, low: int, a: float, b: float) -> tuple[int, int, int]:
    """The three limbs of a running sum with ``a * b`` added, down to 2**-86."""
    product, error = two_product(a, b)
    shifted = product + _M_SQ_HIGH
    high = wrapping_add(high, word_of(shifted) - _B_SQ_HIGH)
    rest = product - (shifted - _M_SQ_HIGH)
    shifted = rest + _M_SQ_MID
    error_shifted = error + _M_SQ_MID
    mid = wrapping_add(mid, (word_of(shifted) - _B_SQ_MID) + (word_of(error_shifted) - _B_SQ_MID))
    rest = (rest - (shifted - _M_SQ_MID)) + (error - (error_shifted - _M_SQ_MID))
    return high, mid, wrapping_add(low, word_of(rest + _M_SQ_LOW) - _B_SQ_LOW)


@step
def prefix(
    state: int,
    x: int,
    high: int,
    low: int,
    sq_high: int,
    sq_mid: int,
    sq_low: int,
    counts: int,
    count: int,
) -> None:
    """Extend the running sums at the six given positions by ``count`` values at ``x``.

    Word ``p - 1`` of each holds the sum before the first new row.
    """
    s_high = get_word(state, high - 1)
    s_low = get_word(state, low - 1)
    s_sq_high = get_word(state, sq_high - 1)
    s_sq_mid = get_word(state, sq_mid - 1)
    s_sq_low = get_word(state, sq_low - 1)
    s_counts = get_word(state, counts - 1)
    for i in range(count):
        raw = get(state, x + i)
        valid = raw == raw  # noqa: PLR0124 - not NaN
        inside = abs(raw) < EXACT_RANGE  # false for NaN
        value = raw if inside else 0.0
        shifted = value + _M_HIGH
        s_high = wrapping_add(s_high, word_of(shifted) - _B_HIGH)
        top = shifted - _M_HIGH
        shifted = (value - top) + _M_LOW
        s_low = wrapping_add(s_low, word_of(shifted) - _B_LOW)
        whole = top + (shifted - _M_LOW)
        s_sq_high, s_sq_mid, s_sq_low = add_product(s_sq_high, s_sq_mid, s_sq_low, whole, whole)
        s_counts = wrapping_add(
            s_counts, (1 if valid else 0) + (_OUT_OF_RANGE if valid & (not inside) else 0)
        )
        put_word(state, high + i, s_high)
        put_word(state, low + i, s_low)
        put_word(state, sq_high + i, s_sq_high)
        put_word(state, sq_mid + i, s_sq_mid)
        put_word(state, sq_low + i, s_sq_low)
        put_word(state, counts + i, s_counts)


@step
def window_sum(state: int, high: int, low: int, k: int) -> tuple[float, float]:
    """The exact sum of a window as an unevaluated pair of floats, from two limbs."""
    upper = wrapping_sub(get_word(state, high), get_word(state, high - k))
    lower = wrapping_sub(get_word(state, low), get_word(state, low - k))
    upper = upper + (lower >> 44)  # carry: the limbs are 2**44 apart
    a = float(upper >> 32) * (4294967296.0 * _Q_HIGH)
    b = float(upper & _MASK_32) * _Q_HIGH
    c = float(lower & _MASK_44) * _Q_LOW
    total, error = two_sum(a, b)
    return two_sum(total, error + c)


@step
def window_square_sum(state: int, high: int, mid: int, low: int, k: int) -> tuple[float, float]:
    """The same for the squares, from three limbs that are 2**45 apart."""
    upper = wrapping_sub(get_word(state, high), get_word(state, high - k))
    middle = wrapping_sub(get_word(state, mid), get_word(state, mid - k))
    lower = wrapping_sub(get_word(state, low), get_word(state, low - k))
    middle = middle + (lower >> 45)
    upper = upper + (middle >> 45)
    a = float(upper >> 32) * (4294967296.0 * _Q_SQ_HIGH)
    b = float(upper & _MASK_32) * _Q_SQ_HIGH
    c = float(middle & _MASK_45) * _Q_SQ_MID
    d = float(lower & _MASK_45) * _Q_SQ_LOW
    total, error = two_sum(a, b)
    total, more = two_sum(total, c)
    return two_sum(total, (error + more) + d)


@step
def numerator(
    n: float,
    product: float,
    product_low: float,
    a: float,
    a_low: float,
    b: float,
    b_low: float,
) -> tuple[float, float]:
    """``n * product - a * b`` of three unevaluated pairs, and ``n * product`` beside it."""
    left, left_low = two_product(n, product)
    left_low += n * product_low
    right, right_low = two_product(a, b)
    right_low += a * b_low + b * a_low
    gap, gap_low = two_sum(left, -right)
    return gap + (gap_low + (left_low - right_low)), left


@step
def is_sound(gap: float, left: float, n: float) -> bool:
    """Whether a variance with this numerator is far enough above its errors; exactness decides."""
    return (gap >= _SMALLEST_VARIANCE * (n * (n - 1.0))) & (gap >= _SMALLEST_RATIO * left)


@step
def scratch_sum(state: int, x: int, k: int) -> float:
    """Sum of the valid values of the window that ends at ``x``, oldest first, compensated."""
    total, compensation = 0.0, 0.0
    for j in range(k):
        value = get(state, x - k + 1 + j)
        if value == value:  # noqa: PLR0124
            total, error = two_sum(total, value)
            compensation += error
    return total + compensation


@step
def scratch_variance(state: int, x: int, k: int, valid: float) -> float:
    """Sample variance of the window that ends at ``x``: two passes about its newest valid value.

    Distances from a value of the window are zero in a constant window and small in a narrow one.
    """
    reference = 0.0
    for j in range(k):
        value = get(state, x - j)
        if value == value:  # noqa: PLR0124
            reference = value
            break
    total, compensation = 0.0, 0.0
    for j in range(k):
        value = get(state, x - k + 1 + j)
        if value == value:  # noqa: PLR0124
            total, error = two_sum(total, value - reference)
            compensation += error
    mean = (total + compensation) / valid
    squares, square_errors, first = 0.0, 0.0, 0.0
    for j in range(k):
        value = get(state, x - k + 1 + j)
        if value == value:  # noqa: PLR0124
            distance = (value - reference) - mean
            squares, error = two_sum(squares, distance * distance)
            square_errors += error
            first += distance
    # The second term takes out what the rounding of the mean put in.
    return (squares + square_errors - first * first / valid) / (valid - 1.0)


@step
def rows_within(state: int, out: int, keys: int, most: int, distance: int, rows: int) -> None:
    """How many rows end a window of ``keys`` (int64, never falling) of length ``distance``.

    Rows whose key is above that of the current row less ``distance``; ``most + 1`` stands for more
    than ``most``. The count before the first new row is at ``out - 1``.
    """
    held = get_word(state, out - 1)
    for i in range(rows):
        oldest = get_word(state, keys + i) - distance
        held = min(held, most) + 1
        while held > 1 and get_word(state, keys + i - held + 1) <= oldest:
            held -= 1
        put_word(state, out + i, held)


@step
def needed(least: int, length: int, k: int) -> int:
    """Valid values that a window of ``length`` rows must have, when it may hold ``k``.

    A negative ``least`` asks for all rows, and for at least ``-least``.
    """
    wanted = least if least >= 0 else max(length, -least)
    return wanted if length <= k else _NEVER


@step
def count(state: int, out: int, counts: int, k: int, windows: int, rows: int) -> None:
    """Valid values among the last ``k`` rows, or as many as ``windows`` says."""
    for i in range(rows):
        length = k if windows < 0 else get_word(state, windows + i)
        back = min(length, k)
        difference = wrapping_sub(get_word(state, counts + i), get_word(state, counts + i - back))
        put(state, out + i, float(difference & _MASK_32) if length <= k else NAN)


@step
def sum_or_mean(
    state: int,
    out: int,
    x: int,
    high: int,
    low: int,
    counts: int,
    k: int,
    least: int,
    mean: bool,
    windows: int,
    rows: int,
) -> None:
    """Rolling sum, or mean when ``mean`` is true; NaN with fewer than ``least`` valid values."""
    irregular = 0
    for i in range(rows):
        length = k if windows < 0 else get_word(state, windows + i)
        back = min(length, k)
        difference = wrapping_sub(get_word(state, counts + i), get_word(state, counts + i - back))
        irregular |= difference >> 32
        valid = difference & _MASK_32
        total, _ = window_sum(state, high + i, low + i, back)
        value = total / float(valid) if mean else total
        put(state, out + i, value if valid >= needed(least, length, k) else NAN)
    if irregular == 0:
        return
    for i in range(rows):
        length = k if windows < 0 else get_word(state, windows + i)
        back = min(length, k)
        difference = wrapping_sub(get_word(state, counts + i), get_word(state, counts + i - back))
        valid = difference & _MASK_32
        if (difference >> 32) > 0 and valid >= needed(least, length, k):
            total = scratch_sum(state, x + i, back)
            put(state, out + i, finite(total / float(valid) if mean else total))


@step
def variance(
    state: int,
    out: int,
    x: int,
    high: int,
    low: int,
    sq_high: int,
    sq_mid: int,
    sq_low: int,
    counts: int,
    k: int,
    least: int,
    windows: int,
    rows: int,
) -> None:
    """Rolling sample variance; NaN with fewer than ``least`` (at least two) valid values."""
    irregular = 0
    for i in range(rows):
        length = k if windows < 0 else get_word(state, windows + i)
        back = min(length, k)
        difference = wrapping_sub(get_word(state, counts + i), get_word(state, counts + i - back))
        n = float(difference & _MASK_32)
        s1, s1_low = window_sum(state, high + i, low + i, back)
        s2, s2_low = window_square_sum(state, sq_high + i, sq_mid + i, sq_low + i, back)
        gap, left = numerator(n, s2, s2_low, s1, s1_low, s1, s1_low)
        value = gap / (n * (n - 1.0))
        accepted = (
            (value >= _SMALLEST_VARIANCE)
            & (gap >= _SMALLEST_RATIO * left)
            & ((difference >> 32) == 0)
        )
        enough = (difference & _MASK_32) >= needed(least, length, k)
        irregular |= 1 if enough & (not accepted) else 0
        put(state, out + i, (value if accepted else _FROM_SCRATCH) if enough else NAN)
    if irregular == 0:
        return
    for i in range(rows):
        if get(state, out + i) == _FROM_SCRATCH:
            back = k if windows < 0 else get_word(state, windows + i)
            difference = wrapping_sub(
                get_word(state, counts + i), get_word(state, counts + i - back)
            )
            valid = float(difference & _MASK_32)
            put(state, out + i, finite(max(scratch_variance(state, x + i, back, valid), 0.0)))
