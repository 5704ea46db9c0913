"""Steps that look at one row, or at one row and one earlier row.

Law of every step here: ``out[i]`` depends on the operands at row ``i`` (and ``i - k``) alone, each
operation is rounded as IEEE 754 says, and nothing is fused or reordered. So the bits are the same
for one row and for a thousand, vectorised or not. Every float written is finite or the one
canonical NaN: a result that overflows is missing, like a division by zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba

from assay.features.definition.opcodes import Opcode
from assay.features.kernel.words import get, get_word, put, put_word

_Step = TypeVar("_Step", bound=Callable[..., Any])


def step(function: _Step) -> _Step:
    """How every step is compiled: no fast-math, no exceptions, and only as part of ``run``."""
    compiled: _Step = numba.njit(
        nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
    )(function)
    return compiled


LARGEST = 1.7976931348623157e308
NAN = math.nan

_ADD, _SUB, _MUL, _DIV, _MAX, _MIN = (
    int(code) for code in (Opcode.ADD, Opcode.SUB, Opcode.MUL, Opcode.DIV, Opcode.MAX, Opcode.MIN)
)
_NEG, _ABS, _SIGN, _SQRT, _NOT, _VALID = (
    int(code)
    for code in (Opcode.NEG, Opcode.ABS, Opcode.SIGN, Opcode.SQRT, Opcode.NOT, Opcode.VALID)
)
_LT, _LE, _EQ, _AND, _OR = (
    int(code) for code in (Opcode.LT, Opcode.LE, Opcode.EQ, Opcode.AND, Opcode.OR)
)
_LAG, _MAX_LAG = int(Opcode.LAG), int(Opcode.MAX_LAG)


@step
def finite(value: float) -> float:
    """``value``, or the canonical NaN when it is not finite."""
    return value if abs(value) <= LARGEST else NAN


@step
def copy_words(target: int, to: int, source: int, start: int, count: int) -> None:
    """Copy ``count`` words; the target may lie before the source in the same block."""
    for i in range(count):
        put_word(target, to + i, get_word(source, start + i))


@step
def load(state: int, out: int, source: int, start: int, count: int) -> None:
    """Copy an input column; what is not finite becomes the canonical NaN."""
    for i in range(count):
        put(state, out + i, finite(get(source, start + i)))


@step
def binary(opcode: int, state: int, out: int, a: int, b: int, count: int) -> None:
    """Arithmetic of two operands."""
    if opcode == _ADD:
        for i in range(count):
            put(state, out + i, finite(get(state, a + i) + get(state, b + i)))
    elif opcode == _SUB:
        for i in range(count):
            put(state, out + i, finite(get(state, a + i) - get(state, b + i)))
    elif opcode == _MUL:
        for i in range(count):
            put(state, out + i, finite(get(state, a + i) * get(state, b + i)))
    elif opcode == _DIV:
        for i in range(count):
            put(state, out + i, finite(get(state, a + i) / get(state, b + i)))
    elif opcode == _MAX:
        for i in range(count):
            put(state, out + i, larger(get(state, a + i), get(state, b + i)))
    elif opcode == _MIN:
        for i in range(count):
            put(state, out + i, smaller(get(state, a + i), get(state, b + i)))


@step
def larger(x: float, y: float) -> float:
    """The larger of two numbers, NaN when either is. Zeros are equal: the second one is taken."""
    chosen = x if x > y else y
    return chosen if x == x else NAN  # noqa: PLR0124 - NaN is the number unequal to itself


@step
def smaller(x: float, y: float) -> float:
    """The smaller of two numbers, NaN when either is."""
    chosen = x if x < y else y
    return chosen if x == x else NAN  # noqa: PLR0124 - as in larger


@step
def unary(opcode: int, state: int, out: int, a: int, count: int) -> None:
    """Functions of one operand."""
    if opcode == _NEG:
        for i in range(count):
            put(state, out + i, finite(-get(state, a + i)))
    elif opcode == _ABS:
        for i in range(count):
            put(state, out + i, finite(abs(get(state, a + i))))
    elif opcode == _SIGN:
        for i in range(count):
            x = get(state, a + i)
            sign = 1.0 if x > 0.0 else (-1.0 if x < 0.0 else 0.0)
            put(state, out + i, sign if x == x else NAN)  # noqa: PLR0124
    elif opcode == _SQRT:
        for i in range(count):
            # The square root is one of IEEE 754's basic operations: correctly rounded everywhere.
            put(state, out + i, finite(math.sqrt(get(state, a + i))))
    elif opcode == _NOT:
        for i in range(count):
            x = get(state, a + i)
            truth = 1.0 if x == 0.0 else 0.0
            put(state, out + i, truth if x == x else NAN)  # noqa: PLR0124
    elif opcode == _VALID:
        for i in range(count):
            x = get(state, a + i)
            put(state, out + i, 1.0 if x == x else 0.0)  # noqa: PLR0124


@step
def fill(state: int, out: int, a: int, scalar: float, count: int) -> None:
    """The value, or the scalar where it is missing."""
    for i in range(count):
        x = get(state, a + i)
        put(state, out + i, x if x == x else scalar)  # noqa: PLR0124


@step
def compare(opcode: int, state: int, out: int, a: int, b: int, count: int) -> None:
    """Comparisons and logic: 1, 0, or NaN when either operand is NaN."""
    for i in range(count):
        x = get(state, a + i)
        y = get(state, b + i)
        if opcode == _LT:
            truth = x < y
        elif opcode == _LE:
            truth = x <= y
        elif opcode == _EQ:
            truth = x == y
        elif opcode == _AND:
            truth = (x != 0.0) & (y != 0.0)
        else:
            truth = (x != 0.0) | (y != 0.0)
        known = (x == x) & (y == y)  # noqa: PLR0124
        put(state, out + i, (1.0 if truth else 0.0) if known else NAN)


@step
def where(state: int, out: int, a: int, b: int, c: int, count: int) -> None:
    """``b`` where ``a`` is true, ``c`` where it is false."""
    for i in range(count):
        condition = get(state, a + i)
        chosen = get(state, b + i) if condition != 0.0 else get(state, c + i)
        put(state, out + i, chosen if condition == condition else NAN)  # noqa: PLR0124


@step
def add_scaled_lag(state: int, out: int, a: int, b: int, k: int, scalar: float, count: int) -> None:
    """A row plus a multiple of an earlier row."""
    for i in range(count):
        put(state, out + i, finite(get(state, a + i) + scalar * get(state, b - k + i)))


@step
def extreme_lag(opcode: int, state: int, out: int, a: int, b: int, k: int, count: int) -> None:
    """``max`` or ``min`` of a row and an earlier row."""
    if opcode == _MAX_LAG:
        for i in range(count):
            put(state, out + i, larger(get(state, a + i), get(state, b - k + i)))
    else:
        for i in range(count):
            put(state, out + i, smaller(get(state, a + i), get(state, b - k + i)))


@step
def latest_lag(state: int, out: int, a: int, b: int, k: int, count: int) -> None:
    """The later of two int64 times."""
    for i in range(count):
        x = get_word(state, a + i)
        y = get_word(state, b - k + i)
        put_word(state, out + i, x if x > y else y)
