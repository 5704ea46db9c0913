"""Units of columns and features: what an expression is measured in, and what makes no sense.

A unit is a product of powers of names: ``price``, ``USD/EUR``, ``s``. ``1`` is a number without a
unit. Nothing is said about a column whose unit is not declared: whatever it enters is unknown too,
and is not judged. A plain number in an expression takes the unit of what it stands beside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self, TypeAlias

from assay.errors import DefinitionError
from assay.features.definition.operations.tree import Tree
from assay.features.definition.operators import OPERATORS

_PART = re.compile(r"([*/]?)([A-Za-z%][A-Za-z0-9_%]*|1)(?:\*\*(-?\d+))?")


@dataclass(frozen=True, slots=True)
class Unit:
    """A product of powers of names; empty for a number without a unit."""

    powers: tuple[tuple[str, Fraction], ...] = ()

    @classmethod
    def of(cls, powers: Mapping[str, Fraction]) -> Self:
        return cls(tuple(sorted((name, power) for name, power in powers.items() if power)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``USD/EUR``, ``price*lots`` or ``price**2``.

        Raises
        ------
        DefinitionError: it is none of these.
        """
        powers: dict[str, Fraction] = {}
        at = 0
        written = text.replace(" ", "")
        while at < len(written):
            part = _PART.match(written, at)
            if part is None or (bool(part[1]) != (at > 0)):
                break
            if part[2] != "1":
                power = Fraction(part[3] or 1) * (-1 if part[1] == "/" else 1)
                powers[part[2]] = powers.get(part[2], Fraction(0)) + power
            at = part.end()
        if at < len(written) or not written:
            raise DefinitionError(
                f"unit {text!r}: expected names joined by * and /, such as USD/EUR or price**2, "
                "or 1"
            )
        return cls.of(powers)

    def times(self, other: Unit, power: Fraction | int = 1) -> Unit:
        """The unit of a product with ``other ** power``."""
        made = dict(self.powers)
        for name, own in other.powers:
            made[name] = made.get(name, Fraction(0)) + own * power
        return Unit.of(made)

    def to(self, power: Fraction | int) -> Unit:
        """The unit of a power."""
        return Unit.of({name: own * power for name, own in self.powers})

    def __str__(self) -> str:
        def written(name: str, power: Fraction) -> str:
            if power == 1:
                return name
            return f"{name}**{power}" if power.denominator == 1 else f"{name}**({power})"

        above = "*".join(written(name, power) for name, power in self.powers if power > 0)
        below = "".join(f"/{written(name, -power)}" for name, power in self.powers if power < 0)
        return f"{above or '1'}{below}"


NONE: Final = Unit()
Known: TypeAlias = Unit | None
"""A unit, or None where nothing is known about it."""


def unit_of(root: Tree, columns: Mapping[str, Unit]) -> Known:
    """The unit of an expression's values, None where it is not known.

    Raises
    ------
    DefinitionError: it makes no sense, such as the logarithm of a price or a price times a price.
    """
    found: dict[str, Known] = {}
    # A loop of its own: a chain of thousands of operators must not exhaust Python's stack.
    pending = [(root, False)]
    while pending:
        expression, inputs_done = pending.pop()
        if expression.identity in found:
            continue
        if not inputs_done:
            pending.append((expression, True))
            pending.extend((item, False) for item in expression.inputs)
            continue
        below = [found[item.identity] for item in expression.inputs]
        found[expression.identity] = _unit(expression, below, columns)
    return found[root.identity]


def _unit(expression: Tree, below: list[Known], columns: Mapping[str, Unit]) -> Known:
    name = expression.operator
    if name == "col":
        return columns.get(str(expression.parameter("name")))
    if name == "lit":
        return None
    if name in _RULES:
        return _RULES[name](expression, below)
    return _by_promise(expression, OPERATORS[name].unit, below)


def _by_promise(expression: Tree, promised: str, below: list[Known]) -> Known:
    """The unit that the operator's entry in the table says."""
    own = below[0] if below else None
    other = below[1] if len(below) > 1 else None
    if promised in {"1", "rows", "s"}:
        return Unit.parse(promised)
    if promised.startswith("1 (") or own is None:
        days = expression.parameter("kind") == "day_number"
        return Unit.parse("days" if days else "1") if promised.startswith("1 (") else None
    if promised == "u":
        return own
    if promised == "u**2":
        return own.to(2)
    if promised == "u per row":
        return own.times(Unit.parse("rows"), -1)
    if promised == "u * unit of the other":
        return None if other is None else own.times(other)
    if promised == "u / unit of the other":
        return None if other is None else own.times(other, -1)
    return None


def _same(expression: Tree, below: list[Known]) -> Known:
    known = [unit for unit in below if unit is not None]
    for unit in known[1:]:
        if unit != known[0]:
            raise DefinitionError(
                f"{expression!r}: {expression.operator} of {known[0]} and {unit}",
                hint="bring both to one unit, for example by a return, a ratio or a z-score",
            )
    return known[0] if known else None


def _compared(expression: Tree, below: list[Known]) -> Known:
    _same(expression, below)
    return NONE


def _branches(expression: Tree, below: list[Known]) -> Known:
    return _same(expression, below[1:])


def _product(expression: Tree, below: list[Known]) -> Known:
    left, right = below
    if left is None or right is None:
        return _beside_a_number(expression, below)
    if left == right and left != NONE:
        raise DefinitionError(
            f"{expression!r}: {left} times {right}",
            hint="a return has no unit: x.simple_return(1); a square that is meant is x**2",
        )
    return left.times(right)


def _quotient(expression: Tree, below: list[Known]) -> Known:
    left, right = below
    if left is None or right is None:
        first, second = expression.inputs
        if left is not None and second.operator == "lit":
            return left
        if right is not None and first.operator == "lit":
            return right.to(-1)
        return None
    return left.times(right, -1)


def _beside_a_number(expression: Tree, below: list[Known]) -> Known:
    """The unit of a product with a plain number; of anything else unknown, nothing is known."""
    for unit, other in zip(below, reversed(expression.inputs), strict=True):
        if unit is not None and other.operator == "lit":
            return unit
    return None


def _plain(expression: Tree, below: list[Known]) -> Known:
    if below[0] is not None and below[0] != NONE:
        raise DefinitionError(
            f"{expression!r}: {expression.operator} of {below[0]}, expected a number without a "
            "unit",
            hint="x.log_return(1), or divide by something of the same unit first",
        )
    return NONE


def _root(_: Tree, below: list[Known]) -> Known:
    return None if below[0] is None else below[0].to(Fraction(1, 2))


def _power(expression: Tree, below: list[Known]) -> Known:
    exponent = expression.parameter("exponent")
    if below[0] is None or not isinstance(exponent, int | float):
        return None
    return below[0].to(Fraction(exponent).limit_denominator(1_000))


_RULES: Final[Mapping[str, Callable[[Tree, list[Known]], Known]]] = {
    **dict.fromkeys(("add", "sub", "max", "min"), _same),
    **dict.fromkeys(("lt", "le", "eq"), _compared),
    "where": _branches,
    "mul": _product,
    "div": _quotient,
    "log": _plain,
    "exp": _plain,
    "sqrt": _root,
    "power": _power,
}
