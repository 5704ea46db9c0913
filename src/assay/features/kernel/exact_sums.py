"""Sums of floats that are exact, whatever the floats and in whatever order they come.

An accumulator is 68 integers in base 2**32 that together hold a multiple of 2**-1074, the unit of
which every finite float is a whole number. Adding a float adds its 53 bits to three of them;
integer sums are exact in any order. The sum is rounded once, to the nearest float, ties to even.
After Neal (2015, "Fast exact summation using small and large superaccumulators"), with chunks of 32
bits.

Bars need this where windows do not: the volume of a day does not fit the range in which the shorter
sums of :mod:`~assay.features.kernel.moments` are exact.

An accumulator holds 2**29 floats before an integer could overflow; :func:`settle` makes them small
again.
"""

from __future__ import annotations

from assay.features.kernel.elementwise import finite, step
from assay.features.kernel.words import float_of, get_word, put_word, word_of

CHUNKS = 68
_LOW = (1 << 32) - 1
_FRACTION = (1 << 52) - 1
_SMALLEST = -1074  # the exponent of the unit
_LARGEST_SCALE = 962  # 62 bits times a higher power of two are no float


@step
def accumulate(state: int, at: int, value: float) -> None:
    """Add a finite float to the accumulator at ``at``."""
    word = word_of(value)
    exponent = (word >> 52) & 0x7FF
    fraction = word & _FRACTION
    if exponent > 0:
        fraction |= _FRACTION + 1
        exponent -= 1
    chunk, shift = at + (exponent >> 5), exponent & 31
    low, high = (fraction & _LOW) << shift, (fraction >> 32) << shift
    sign = -1 if word < 0 else 1
    put_word(state, chunk, get_word(state, chunk) + sign * (low & _LOW))
    middle = (low >> 32) + (high & _LOW)
    put_word(state, chunk + 1, get_word(state, chunk + 1) + sign * middle)
    put_word(state, chunk + 2, get_word(state, chunk + 2) + sign * (high >> 32))


@step
def settle(state: int, at: int) -> None:
    """Carry: every integer but the last one comes to lie in [0, 2**32); the sum stays."""
    carry = 0
    for i in range(CHUNKS - 1):
        word = get_word(state, at + i) + carry
        put_word(state, at + i, word & _LOW)
        carry = word >> 32
    put_word(state, at + CHUNKS - 1, get_word(state, at + CHUNKS - 1) + carry)


@step
def negate(state: int, at: int) -> None:
    """Minus the sum."""
    for i in range(CHUNKS):
        put_word(state, at + i, -get_word(state, at + i))


@step
def power_of_two(exponent: int) -> float:
    """2**exponent for -1022 to 1023."""
    power: float = float_of((exponent + 1023) << 52)
    return power


@step
def rounded_sum(state: int, at: int) -> float:
    """The sum as the nearest float; NaN where no float is as large. Settles the accumulator."""
    settle(state, at)
    if get_word(state, at + CHUNKS - 1) < 0:
        negate(state, at)
        magnitude = _rounded_magnitude(state, at)
        negate(state, at)
        settle(state, at)
        return -magnitude
    return _rounded_magnitude(state, at)


@step
def _rounded_magnitude(state: int, at: int) -> float:
    """A sum that is not negative, rounded."""
    settle(state, at)
    top = CHUNKS - 1
    while top > 0 and get_word(state, at + top) == 0:
        top -= 1
    first = get_word(state, at + top)
    if first == 0:
        return 0.0
    # The 62 highest bits, the last of them set where anything below is: the processor rounds an
    # integer to the nearest float, ties to even, and so sees a tie only where there is one.
    second = get_word(state, at + top - 1) if top > 0 else 0
    third = get_word(state, at + top - 2) if top > 1 else 0
    missing = 62 - ((word_of(float(first)) >> 52) - 1022)
    if missing <= 32:
        window = (first << missing) | (second >> (32 - missing))
        below = (second & ((1 << (32 - missing)) - 1)) | third
    else:
        window = (first << missing) | (second << (missing - 32)) | (third >> (64 - missing))
        below = third & ((1 << (64 - missing)) - 1)
    for i in range(top - 2):
        below |= get_word(state, at + i)
    if below != 0:
        window |= 1
    scale = 32 * top - missing + _SMALLEST
    if scale > _LARGEST_SCALE:
        return finite(float(window) * power_of_two(1023))
    if scale < -1022:
        # Below 2**-961 the sum has at most 53 bits above the unit or was rounded already: exact.
        return (float(window) * power_of_two(-200)) * power_of_two(scale + 200)
    return finite(float(window) * power_of_two(scale))
