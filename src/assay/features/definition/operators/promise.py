"""What an operator promises, and how it becomes instructions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from assay.features.definition.operations.tree import Tree

WINDOWS = ("time_window", "session_window")
"""Operators whose value is the number of rows in a window: read at the current row only."""


class NumericClass(StrEnum):
    """How a result relates to the number it stands for."""

    EXACT = "exact"
    BITWISE = "bitwise"
    TOLERANCE = "tolerance"


@dataclass(frozen=True, slots=True)
class Operator:
    """What one operator promises.

    Attributes
    ----------
    name: as in expressions and manifests.
    numeric: the numeric class.
    missing: when the result is missing (NaN).
    lower: writes the instructions; called with the builder, the nodes of the inputs, and the
        parameters by name; gives the node of the result.
    reach: earlier rows that the result depends on, besides those of its inputs: a number, or the
        parameter that gives it and what is taken off, such as ``window - 1``.
    state: words of state for one entity, besides the history of its inputs.
    unit: the unit of the result, given the unit u of the first input.
    across: whether it reads other entities at the same event time (second stage).
    version: changes when any bit of any result changes.
    formula: what is computed, where the name does not say it.
    source: where the formula or method comes from.
    note: accuracy, method and range.
    """

    name: str
    numeric: NumericClass
    missing: str
    lower: Callable[..., int] = field(repr=False, compare=False)
    reach: str = "0"
    state: str = "0"
    unit: str = "u"
    across: bool = False
    version: int = 1
    formula: str = ""
    source: str = ""
    note: str = ""

    def look_back(self, expression: Tree) -> int:
        """Earlier rows that this operator itself adds to the look-back of its inputs."""
        name, _, less = self.reach.partition(" - ")
        if name.isdigit():
            return int(name)
        value = expression.parameter(name)
        assert isinstance(value, int)
        return value - int(less or 0)

    def to_json(self) -> dict[str, Any]:
        """Everything but the code."""
        return {
            name: str(value) if isinstance(value, NumericClass) else value
            for name in self.__slots__
            if name != "lower"
            for value in (getattr(self, name),)
        }


ANY = "any operand is missing"
FULL = (
    "fewer valid rows in the window than min_count (default: all of them), or more rows than "
    "max_rows"
)
