"""From expressions to programs.

1. Every expression is assigned a stage: the second one if it reads other entities (``cs_...``,
   ``of``) anywhere below it.
2. Equal subexpressions become one node; equal instructions become one instruction.
3. The first program computes, entity by entity, all first-stage features and whatever the second
   stage reads.
4. The second program (only where it is needed) computes, event time by event time, the rest and the
   rows' known times. Behind the rows of the event time it finds the latest rows of the entities
   that expressions name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.errors import DefinitionError
from assay.features.definition.builder import (
    BEFORE_ALL_TIMES,
    EVENT_TIME,
    KNOWN_TIME,
    PLACE,
    Builder,
)
from assay.features.definition.expressions import Expression
from assay.features.definition.opcodes import Opcode
from assay.features.definition.operations.tree import Tree
from assay.features.definition.operators import OPERATORS
from assay.features.definition.operators.across import BY_NAME
from assay.features.definition.operators.extremes import extreme
from assay.features.definition.operators.promise import WINDOWS
from assay.features.definition.operators.sessions import SESSION_INPUTS
from assay.features.definition.program import Program


@dataclass(frozen=True, slots=True)
class Plan:
    """What a view computes.

    Attributes
    ----------
    first: the program of one entity.
    second: the program across the entities of one event time, or None.
    handed_on: which outputs of the first program are the inputs of the second.
    columns: columns of the source that the first program reads.
    calendar: kinds of calendar inputs that it reads after those.
    look_back: earlier rows that any value depends on; with that many rows before it, a row has
        the same bits as after years.
    operators: names of the operators in use.
    named: entities whose latest rows the second program reads, sorted.
    """

    first: Program
    second: Program | None
    handed_on: tuple[int, ...]
    columns: tuple[str, ...]
    calendar: tuple[str, ...]
    look_back: int
    operators: tuple[str, ...]
    named: tuple[str, ...] = ()

    @property
    def places(self) -> dict[str, int]:
        """Which row from the end is the latest one of a named entity, the last row being 1."""
        return _places(self.named)

    def to_json(self) -> dict[str, Any]:
        named = {"named": list(self.named)} if self.named else {}
        return {
            "first_stage": self.first.to_json(),
            "second_stage": None if self.second is None else self.second.to_json(),
            "handed_on": list(self.handed_on),
            "look_back": self.look_back,
            "operators": {name: OPERATORS[name].version for name in self.operators},
            **named,
        }


def compile_features(features: Mapping[str, Expression], members: str | None) -> Plan:
    """The plan of a view with these features; ``members`` names the column of the universe.

    Raises
    ------
    DefinitionError: a window or lag over a cross-section, which is not supported.
    """
    analysis = _Analysis(features.values())
    membership = Expression("col", (), (("name", members),)) if members is not None else None
    columns, calendar = analysis.sources(members)
    look_back = max(analysis.reach[expression.identity] for expression in features.values())

    first = Builder(_input_names(columns, calendar))
    # The known time of a row is the latest of all rows that it depends on.
    own_time = first.load_bits(KNOWN_TIME)
    first.store_known_time(
        extreme(first, Opcode.MAX_LAG_BITS, own_time, look_back + 1, BEFORE_ALL_TIMES)
    )
    own = {n: item for n, item in features.items() if item.identity not in analysis.across}
    for name, expression in own.items():
        first.store(name, node_of(first, expression))
    second, handed_on = None, tuple[str, ...]()
    if analysis.across:
        read = {item.identity: item for item in analysis.frontier()}
        if membership is not None:
            read[membership.identity] = membership
        for identity, item in read.items():
            first.store(identity, node_of(first, item))
        handed_on = tuple(read)
        rest = {name: item for name, item in features.items() if name not in own}
        second = _second_stage(rest, handed_on, membership, analysis)
    first_program = first.program()
    return Plan(
        first=first_program,
        second=second,
        handed_on=tuple(first_program.outputs.index(name) for name in (KNOWN_TIME, *handed_on))
        if second is not None
        else (),
        columns=columns,
        calendar=calendar,
        look_back=look_back,
        operators=tuple(sorted(analysis.operators)),
        named=analysis.named(),
    )


def reaches(features: Mapping[str, Expression]) -> tuple[Mapping[str, int], frozenset[str]]:
    """By identity, for every expression below some features: earlier rows that its value depends
    on; and the identities of those that read other entities.
    """
    analysis = _Analysis(features.values())
    return analysis.reach, frozenset(analysis.across)


def _input_names(columns: Sequence[str], calendar: Sequence[str]) -> tuple[str, ...]:
    return (KNOWN_TIME, EVENT_TIME, *columns, *(f"calendar:{kind}" for kind in calendar))


def _places(named: tuple[str, ...]) -> dict[str, int]:
    return {name: len(named) - index for index, name in enumerate(named)}


def _second_stage(
    features: Mapping[str, Expression],
    inputs: tuple[str, ...],
    membership: Expression | None,
    analysis: _Analysis,
) -> Program:
    places = _places(analysis.named())
    second = Builder((KNOWN_TIME, *((EVENT_TIME, PLACE) if places else ()), *inputs))
    second.places = places
    for identity in inputs:
        second.bind(identity, second.load(identity))
    second.members = second.constant(1.0) if membership is None else node_of(second, membership)
    if places and analysis.compares:
        # Rows that are there for being named are no members of anything.
        counts = second.emit(Opcode.VALID, a=second.load(PLACE))
        second.members = second.emit(Opcode.AND, a=counts, b=second.members)
    known = own_time = second.load_bits(KNOWN_TIME)
    if analysis.compares:
        known = second.emit(Opcode.LATEST_BITS, a=own_time, b=second.members)
    for place in places.values():
        known = second.emit(
            Opcode.LATEST_PICKED, a=known, b=own_time, k=place, before=BEFORE_ALL_TIMES
        )
    second.store_known_time(known)
    for name, expression in features.items():
        second.store(name, node_of(second, expression))
    return second.program()


class _Analysis:
    """Stages, reach and sources of all expressions below the given ones."""

    def __init__(self, roots: Any) -> None:
        self.roots: list[Tree] = list(roots)
        self.all: dict[str, Tree] = {}
        self.across: set[str] = set()
        self.reach: dict[str, int] = {}
        self.operators: set[str] = set()
        for root in self.roots:
            self._visit(root)

    def _visit(self, root: Tree) -> None:
        # A loop of its own: a chain of thousands of operators must not exhaust Python's stack.
        pending = [(root, False)]
        while pending:
            expression, inputs_done = pending.pop()
            if expression.identity in self.all:
                continue
            if not inputs_done:
                pending.append((expression, True))
                pending.extend((item, False) for item in expression.inputs)
                continue
            self.all[expression.identity] = expression
            self._note(expression)

    def _note(self, expression: Tree) -> None:
        operator = OPERATORS[expression.operator]
        self.operators.add(operator.name)
        own = operator.look_back(expression)
        below = [item.identity for item in expression.inputs]
        reads_across = any(identity in self.across for identity in below)
        if reads_across and (operator.reach != "0" or operator.name in BY_NAME):
            raise DefinitionError(
                f"{operator.name} over a cross-section: {expression!r} would need the other "
                "entities' rows at earlier event times",
                hint="take the window or lag first, then cs_rank, cs_demean, cs_zscore or of",
            )
        if operator.across or reads_across:
            self.across.add(expression.identity)
        # A window's length is read at the current row alone: nothing is added to its look-back.
        windows = [item.identity for item in expression.inputs if item.operator in WINDOWS]
        values = [identity for identity in below if identity not in windows]
        self.reach[expression.identity] = max(
            own + max((self.reach[identity] for identity in values), default=0),
            *(self.reach[identity] for identity in windows),
            0,
        )

    @property
    def compares(self) -> bool:
        """Whether any value depends on all rows of its event time."""
        return any(OPERATORS[name].across and name not in BY_NAME for name in self.operators)

    def named(self) -> tuple[str, ...]:
        """The entities that are named, sorted."""
        found = {
            str(item.parameter("entity")) for item in self.all.values() if item.operator in BY_NAME
        }
        return tuple(sorted(found))

    def frontier(self) -> list[Tree]:
        """First-stage expressions that the second stage reads directly, constants aside."""
        found: dict[str, Tree] = {}
        for identity in sorted(self.across):
            for item in self.all[identity].inputs:
                if item.identity not in self.across and item.operator != "lit":
                    found[item.identity] = item
        return [found[identity] for identity in sorted(found)]

    def sources(self, members: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of columns and kinds of calendar inputs, sorted."""
        columns = {
            str(item.parameter("name")) for item in self.all.values() if item.operator == "col"
        }
        if members is not None and self.across:
            columns.add(members)
        kinds = {
            str(item.parameter("kind")) for item in self.all.values() if item.operator == "calendar"
        }
        for item in self.all.values():
            read = SESSION_INPUTS.get(item.operator, ())
            kinds |= {f"{what}:{item.parameter('calendar')}" for what in read}
        return tuple(sorted(columns)), tuple(sorted(kinds))


def node_of(builder: Builder, root: Tree) -> int:
    """The node of an expression in a program, written with all that it reads."""
    # A loop of its own: a chain of thousands of operators must not exhaust Python's stack.
    pending = [(root, False)]
    while pending:
        expression, inputs_done = pending.pop()
        if builder.bound(expression.identity) is not None:
            continue
        if not inputs_done:
            pending.append((expression, True))
            pending.extend((item, False) for item in reversed(expression.inputs))
            continue
        operator = OPERATORS[expression.operator]
        operands = [_operand(builder, item, operator.reach) for item in expression.inputs]
        node = operator.lower(builder, *operands, **dict(expression.parameters))
        builder.bind(expression.identity, node)
    return _operand(builder, root, "0")


def _operand(builder: Builder, item: Tree, reach: str) -> int:
    """The node of an input that is already there, for an operator of this reach."""
    found = builder.bound(item.identity)
    assert found is not None
    if item.operator == "lit" and reach != "0":
        # Written row by row: there is no constant before the first row either.
        value = item.parameter("value")
        assert isinstance(value, float)
        return builder.emit(Opcode.FILL, a=builder.constant(math.nan), scalar=value)
    return found
