"""What a view computes as a graph: every distinct value once, with what is promised about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from assay.features.definition.compiler import reaches
from assay.features.definition.expressions import col
from assay.features.definition.operations.tree import Parameter, Tree
from assay.features.definition.operators import OPERATORS, NumericClass
from assay.features.definition.operators.promise import WINDOWS
from assay.features.definition.views import FeatureView
from assay.features.definition.windows import length_in_words

_CLASSES: Final = tuple(NumericClass)
_INLINE: Final = ("lit", *WINDOWS)
_CROSS_SECTION: Final = "cs_"
_NANOS: Final = ("halflife", "horizon", "within")
"""Parameters that are lengths of time where they are whole numbers."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value per row: a column, or what an operator makes of other values.

    Attributes
    ----------
    name: of the column, of the first feature that it is, or a number of its own.
    formula: the operator with what it reads, constants and windows written out.
    operator: its name.
    reads: names of the values that it reads.
    own_class: the numeric class of the operator; numeric: the weakest of that and of all below.
    look_back: earlier rows that it depends on: with so many before it, a row is warmed up.
    across: whether it reads other entities.
    features: names of the features that it is.
    """

    name: str
    formula: str
    operator: str
    reads: tuple[str, ...]
    own_class: NumericClass
    numeric: NumericClass
    look_back: int
    across: bool
    features: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "formula": self.formula,
            "operator": self.operator,
            "reads": list(self.reads),
            "own_class": str(self.own_class),
            "class": str(self.numeric),
            "look_back": self.look_back,
            "across": self.across,
            "features": list(self.features),
        }


def graph_of(view: FeatureView) -> tuple[Value, ...]:
    """The values of a view, each after those that it reads."""
    features: dict[str, list[str]] = {}
    for name, expression in view.features.items():
        features.setdefault(expression.identity, []).append(name)
    reach, across = reaches(view.features)
    names: dict[str, str] = {}
    classes: dict[str, NumericClass] = {}
    found: list[Value] = []
    taken, numbers, inlined = set(view.columns), count(1), set[str]()
    for item in _in_order(_roots(view)):
        operator, told = OPERATORS[item.operator], features.get(item.identity, [])
        classes[item.identity] = max(
            [operator.numeric, *(classes[one.identity] for one in item.inputs)],
            key=_CLASSES.index,
        )
        if item.operator in _INLINE and not told:
            names[item.identity] = _inline(item)
            inlined.add(item.identity)
            continue
        if item.operator == "col":
            name = str(item.parameter("name"))
        else:
            free = [feature for feature in told if feature not in taken]
            name = free[0] if free else f"#{next(numbers)}"
        names[item.identity] = name
        reads = [names[one.identity] for one in item.inputs if one.identity not in inlined]
        if view.members is not None and item.operator.startswith(_CROSS_SECTION):
            reads.append(view.members)
        found.append(
            Value(
                name=name,
                formula=_formula(item, names),
                operator=item.operator,
                reads=tuple(dict.fromkeys(reads)),
                own_class=operator.numeric,
                numeric=classes[item.identity],
                look_back=reach.get(item.identity, 0),
                across=item.identity in across,
                features=tuple(told),
            )
        )
    return tuple(found)


def _roots(view: FeatureView) -> list[Tree]:
    """The features; before them the column that says who is a member, where that is read."""
    roots: list[Tree] = list(view.features.values())
    if view.members is not None and view.members in view.columns:
        return [col(view.members), *roots]
    return roots


def windows_of(view: FeatureView) -> tuple[str, ...]:
    """The windows of a view in words, those of rows first."""
    rows: set[int] = set()
    others: set[str] = set()
    for item in _in_order(view.features.values()):
        if item.operator in WINDOWS:
            others.add(_inline(item))
        elif isinstance(length := item.parameter("window"), int):
            horizon = item.parameter("horizon")
            if isinstance(horizon, int):
                others.add(_within(horizon, length))
            elif not any(one.operator in WINDOWS for one in item.inputs):
                rows.add(length)
    return (*(f"{length} rows" for length in sorted(rows)), *sorted(others))


def _in_order(roots: Any) -> Iterator[Tree]:
    """Every distinct expression below the roots, inputs first."""
    seen: set[str] = set()
    # A loop of its own: a chain of thousands of operators must not exhaust Python's stack.
    pending: list[tuple[Tree, bool]] = [(root, False) for root in reversed(list(roots))]
    while pending:
        item, inputs_done = pending.pop()
        if item.identity in seen:
            continue
        if inputs_done:
            seen.add(item.identity)
            yield item
            continue
        pending.append((item, True))
        pending.extend((one, False) for one in reversed(item.inputs))


def _inline(item: Tree) -> str:
    if item.operator == "lit":
        return f"{item.parameter('value')!r}"
    if item.operator == "time_window":
        return _within(item.parameter("nanos"), item.parameter("max_rows"))
    sessions = item.parameter("sessions")
    kind = "session" if sessions == 1 else "sessions"
    most = f"at most {item.parameter('max_rows'):,} rows"
    return f"{sessions} {kind} of {item.parameter('calendar')} ({most})"


def _within(nanos: Parameter, most: Parameter) -> str:
    assert isinstance(nanos, int)
    return f"{length_in_words(nanos)} (at most {most:,} rows)"


def _formula(item: Tree, names: dict[str, str]) -> str:
    if item.operator == "col":
        return f"column {item.parameter('name')}"
    # The most rows of a window of time stand there as its length, and with the window itself.
    timed = any(one.operator in WINDOWS for one in item.inputs)
    parameters = [
        f"{name}={_written(name, value)}"
        for name, value in item.parameters
        if value is not None and not (timed and name == "window")
    ]
    operands = [names[one.identity] for one in item.inputs]
    return f"{item.operator}({', '.join([*operands, *parameters])})"


def _written(name: str, value: Parameter) -> str:
    if name in _NANOS and isinstance(value, int):
        return length_in_words(value)
    if isinstance(value, str) and "\n" in value:
        return value.strip().splitlines()[0].removeprefix("def ").rstrip(":")
    return str(value)
