"""Arithmetic, comparison and logic of one row."""

from __future__ import annotations

import math
from typing import NoReturn, Self

from assay.errors import DefinitionError
from assay.features.definition.operations.tree import Tree, node, number


class Arithmetic(Tree):
    """Operators that look at the current row alone."""

    __slots__ = ()

    def __add__(self, other: Self | float) -> Self:
        return node(type(self), "add", self, other)

    def __radd__(self, other: Self | float) -> Self:
        return node(type(self), "add", other, self)

    def __sub__(self, other: Self | float) -> Self:
        return node(type(self), "sub", self, other)

    def __rsub__(self, other: Self | float) -> Self:
        return node(type(self), "sub", other, self)

    def __mul__(self, other: Self | float) -> Self:
        return node(type(self), "mul", self, other)

    def __rmul__(self, other: Self | float) -> Self:
        return node(type(self), "mul", other, self)

    def __truediv__(self, other: Self | float) -> Self:
        return node(type(self), "div", self, other)

    def __rtruediv__(self, other: Self | float) -> Self:
        return node(type(self), "div", other, self)

    def __neg__(self) -> Self:
        return node(type(self), "neg", self)

    def abs(self) -> Self:
        """Absolute value."""
        return node(type(self), "abs", self)

    def sign(self) -> Self:
        """-1, 0 or 1."""
        return node(type(self), "sign", self)

    def sqrt(self) -> Self:
        """Square root; missing for a negative value."""
        return node(type(self), "sqrt", self)

    def log(self) -> Self:
        """Natural logarithm; missing for zero and negative values."""
        return node(type(self), "log", self)

    def exp(self) -> Self:
        """``e`` to the power of the value; missing where that overflows."""
        return node(type(self), "exp", self)

    def __pow__(self, exponent: float) -> Self:
        """The value to a constant power.

        Missing for zero to a negative power, and for a negative number to a power that is not
        whole.
        """
        return node(type(self), "power", self, exponent=number("power", exponent))

    def __rpow__(self, base: float) -> NoReturn:
        """Refused: a constant to the power of an expression is an exponential."""
        constant = number("power", base)
        raise DefinitionError(
            f"{base!r} ** {self!r}: the exponent must be a number",
            hint=f"({self!r} * {math.log(constant)!r}).exp()" if constant > 0.0 else None,
        )

    def clip(self, lower: float | None = None, upper: float | None = None) -> Self:
        """The value, but no less than ``lower`` and no more than ``upper``."""
        if lower is None and upper is None:
            raise DefinitionError("clip without a bound", hint="give lower=, upper= or both")
        if lower is not None and upper is not None and lower > upper:
            raise DefinitionError(f"clip({lower}, {upper}): expected lower <= upper")
        result = self
        if lower is not None:
            result = node(type(self), "max", result, lower)
        if upper is not None:
            result = node(type(self), "min", result, upper)
        return result

    # Comparison and logic: 1 for true, 0 for false, missing when an operand is missing.
    def __lt__(self, other: Self | float) -> Self:
        return node(type(self), "lt", self, other)

    def __le__(self, other: Self | float) -> Self:
        return node(type(self), "le", self, other)

    def __gt__(self, other: Self | float) -> Self:
        return node(type(self), "lt", other, self)

    def __ge__(self, other: Self | float) -> Self:
        return node(type(self), "le", other, self)

    def eq(self, other: Self | float) -> Self:
        """1 where both are equal, else 0."""
        return node(type(self), "eq", self, other)

    def ne(self, other: Self | float) -> Self:
        """1 where the two differ, else 0."""
        return node(type(self), "not", self.eq(other))

    def __and__(self, other: Self | float) -> Self:
        return node(type(self), "and", self, other)

    def __or__(self, other: Self | float) -> Self:
        return node(type(self), "or", self, other)

    def __invert__(self) -> Self:
        return node(type(self), "not", self)

    def __bool__(self) -> NoReturn:
        raise DefinitionError(
            "an expression has no truth value while it is being written",
            hint="use & | ~ instead of and, or, not; where(condition, a, b) instead of if; "
            "(a < x) & (x < b) instead of a < x < b",
        )

    def is_valid(self) -> Self:
        """1 where there is a value, 0 where it is missing."""
        return node(type(self), "is_valid", self)

    def fill_missing(self, value: float) -> Self:
        """The value, or ``value`` where it is missing."""
        return node(type(self), "fill_missing", self, value=number("fill_missing", value))
