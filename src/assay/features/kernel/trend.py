"""The slope of the least squares line over the rows of a window, by exact accumulators.

Rows are counted from 1 at the window's oldest row; rows without a value leave a gap. All sums are
running sums in whole numbers modulo 2**64, weighted by a count of rows that began anywhere: in a
window's difference the beginning cancels exactly. A value is rounded to a multiple of 2**-64 and
written as four limbs of 22 bits, so that the weighted sums of 131,072 rows stay below 2**56.
"""

from __future__ import annotations

import struct

from assay.features.definition.opcodes import EXACT_RANGE
from assay.features.kernel.elementwise import NAN, finite, step
from assay.features.kernel.moments import needed, numerator, two_sum
from assay.features.kernel.words import (
    get,
    get_word,
    put,
    put_word,
    word_of,
    wrapping_add,
    wrapping_mul,
    wrapping_sub,
)

# Nodes of a group: rows so far; valid ones and those out of range; weights and squared weights of
# valid rows; then pairs of a limb and the limb times its weight.
_ROWS, _COUNTS, _WEIGHTS, _SQUARES, _LIMBS = 0, 1, 2, 3, 4
_UNITS = (2.0**2, 2.0**-20, 2.0**-42, 2.0**-64)
_MAGIC = tuple(1.5 * 2.0**52 * unit for unit in _UNITS)
_BITS = tuple(int(struct.unpack("<q", struct.pack("<d", value))[0]) for value in _MAGIC)
# Valid values, those out of range, and those that are no multiple of 2**-64, in one count.
_OUT_OF_RANGE, _ROUNDED = 1 << 20, 1 << 40
_MASK_20 = (1 << 20) - 1
_FLAT = 2.0**-90
_SOUND = 2.0**-34


@step
def trend_prefix(state: int, x: int, first: int, stride: int, rows: int) -> None:
    """Extend the twelve running sums that begin at ``first`` by the values at ``x``."""
    for i in range(rows):
        at = first + i
        raw = get(state, x + i)
        valid = raw == raw  # noqa: PLR0124 - not NaN
        inside = abs(raw) < EXACT_RANGE  # false for NaN
        row = wrapping_add(get_word(state, at - 1), 1)
        put_word(state, at, row)
        weight = row if valid else 0
        flag = _OUT_OF_RANGE if valid and not inside else 0
        _extend(state, at + _WEIGHTS * stride, weight)
        _extend(state, at + _SQUARES * stride, wrapping_mul(weight, row))
        rest = raw if inside else 0.0
        for limb in range(4):
            shifted = rest + _MAGIC[limb]
            value = word_of(shifted) - _BITS[limb]
            rest = rest - (shifted - _MAGIC[limb])
            place = at + (_LIMBS + 2 * limb) * stride
            _extend(state, place, value)
            _extend(state, place + stride, wrapping_mul(value, row))
        flag += _ROUNDED if rest != 0.0 else 0
        _extend(state, at + _COUNTS * stride, (1 if valid else 0) + flag)


@step
def _extend(state: int, at: int, value: int) -> None:
    put_word(state, at, wrapping_add(get_word(state, at - 1), value))


@step
def _since(state: int, at: int, k: int) -> int:
    """What a running sum gained over the last ``k`` rows."""
    difference: int = wrapping_sub(get_word(state, at), get_word(state, at - k))
    return difference


@step
def _add_limb(high: float, low: float, whole: int, unit: float) -> tuple[float, float]:
    """A pair with a limb below 2**56 added in two parts, each of them exact as a float."""
    high, error = two_sum(high, float(whole >> 28) * (268_435_456.0 * unit))
    low += error
    high, error = two_sum(high, float(whole & 268_435_455) * unit)
    return high, low + error


@step
def _totals(
    state: int, first: int, stride: int, k: int, base: int
) -> tuple[float, float, float, float]:
    """Sum of the values, and of the values times rows since ``base``, as pairs."""
    high, low, product, product_low = 0.0, 0.0, 0.0, 0.0
    for limb in range(4):
        place = first + (_LIMBS + 2 * limb) * stride
        whole = _since(state, place, k)
        high, low = _add_limb(high, low, whole, _UNITS[limb])
        weighted = wrapping_sub(_since(state, place + stride, k), wrapping_mul(base, whole))
        product, product_low = _add_limb(product, product_low, weighted, _UNITS[limb])
    high, low = two_sum(high, low)
    product, product_low = two_sum(product, product_low)
    return high, low, product, product_low


@step
def _from_scratch(state: int, x: int, k: int, n: float, mean_row: float) -> float:
    """The slope by two passes, oldest first, about the newest valid value."""
    reference = 0.0
    for j in range(k):
        value = get(state, x - j)
        if value == value:  # noqa: PLR0124
            reference = value
            break
    total, low = 0.0, 0.0
    for j in range(k):
        value = get(state, x - k + 1 + j)
        if value == value:  # noqa: PLR0124
            total, error = two_sum(total, value - reference)
            low += error
    mean = (total + low) / n
    products, squares = 0.0, 0.0
    for j in range(k):
        value = get(state, x - k + 1 + j)
        if value == value:  # noqa: PLR0124
            away = float(j + 1) - mean_row
            products += away * ((value - reference) - mean)
            squares += away * away
    return products / squares


@step
def slope(
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
    """Change per row of the least squares line over every window."""
    for i in range(rows):
        length = k if windows < 0 else get_word(state, windows + i)
        back = min(length, k)
        at = first + i
        counts = _since(state, at + _COUNTS * stride, back)
        valid = counts & _MASK_20
        if valid < needed(least, length, k):
            put(state, out + i, NAN)
            continue
        n = float(valid)
        base = get_word(state, at) - back
        weights = _since(state, at + _WEIGHTS * stride, back)
        squares = _since(state, at + _SQUARES * stride, back)
        # Rows since the window's beginning, and their squares: small whole numbers again.
        twice = wrapping_mul(wrapping_mul(2, base), weights)
        shift = wrapping_mul(base, valid)
        squares = wrapping_add(wrapping_sub(squares, twice), wrapping_mul(base, shift))
        weights = wrapping_sub(weights, shift)
        total, total_low, product, product_low = _totals(state, at, stride, back, base)
        w = float(weights)
        gap, left = numerator(n, product, product_low, w, 0.0, total, total_low)
        spread, _ = numerator(n, float(squares), 0.0, w, 0.0, w, 0.0)
        # A line that looks flat is flat, unless rounding made it so.
        uneven = abs(gap) > _FLAT * abs(left) or (counts >> 40) > 0
        out_of_range = (counts >> 20) & _MASK_20
        if out_of_range > 0 or (abs(gap) < _SOUND * (n * w) and uneven):
            value = _from_scratch(state, x + i, back, n, w / n)
        else:
            value = gap / spread if abs(gap) > _FLAT * abs(left) else 0.0
        put(state, out + i, finite(value))
