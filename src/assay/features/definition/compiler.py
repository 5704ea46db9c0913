"""From expressions to programs.

1. Every expression is assigned a stage: the second one if it reads other entities (``cs_...``)
   anywhere below it.
2. Equal subexpressions become one node; equal instructions become one instruction.
3. The first program computes, entity by entity, all first-stage features and whatever the second
   stage reads.
4. The second program (only where it is needed) computes, event time by event time, the rest and the
   rows' known times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.errors import DefinitionError
from assay.features.definition.expressions import Expression
from assay.features.definition.opcodes import PREFIX_WIDTH, Opcode
from assay.features.definition.operators import OPERATORS
from assay.features.definition.program import Instruction, Node, Program

KNOWN_TIME = "known_time"
_BEFORE_ALL_TIMES = -0.0  # the float whose bits are the smallest int64
_STORED_AT_ONCE = 4
_LARGEST = 1.7976931348623157e308

_SAME_NAME = {
    "add": Opcode.ADD,
    "sub": Opcode.SUB,
    "mul": Opcode.MUL,
    "div": Opcode.DIV,
    "max": Opcode.MAX,
    "min": Opcode.MIN,
    "neg": Opcode.NEG,
    "abs": Opcode.ABS,
    "sign": Opcode.SIGN,
    "sqrt": Opcode.SQRT,
    "log": Opcode.LOG,
    "lt": Opcode.LT,
    "le": Opcode.LE,
    "eq": Opcode.EQ,
    "and": Opcode.AND,
    "or": Opcode.OR,
    "not": Opcode.NOT,
    "where": Opcode.WHERE,
    "is_valid": Opcode.VALID,
}
_ACROSS = {"cs_rank": Opcode.RANK, "cs_demean": Opcode.DEMEAN, "cs_zscore": Opcode.ZSCORE}


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
    """

    first: Program
    second: Program | None
    handed_on: tuple[int, ...]
    columns: tuple[str, ...]
    calendar: tuple[str, ...]
    look_back: int
    operators: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "first_stage": self.first.to_json(),
            "second_stage": None if self.second is None else self.second.to_json(),
            "handed_on": list(self.handed_on),
            "look_back": self.look_back,
            "operators": {name: OPERATORS[name].version for name in self.operators},
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

    first = _Builder(_input_names(columns, calendar))
    first.known_time(look_back)
    own = {n: item for n, item in features.items() if item.identity not in analysis.across}
    for name, expression in own.items():
        first.store(name, first.node_of(expression))
    second, handed_on = None, tuple[str, ...]()
    if analysis.across:
        read = {item.identity: item for item in analysis.frontier()}
        if membership is not None:
            read[membership.identity] = membership
        for identity, expression in read.items():
            first.store(identity, first.node_of(expression))
        handed_on = tuple(read)
        rest = {name: item for name, item in features.items() if name not in own}
        second = _second_stage(rest, handed_on, membership)
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
    )


def _input_names(columns: Sequence[str], calendar: Sequence[str]) -> tuple[str, ...]:
    return (*columns, *(f"calendar:{kind}" for kind in calendar))


def _second_stage(
    features: Mapping[str, Expression], inputs: tuple[str, ...], membership: Expression | None
) -> Program:
    second = _Builder(inputs)
    for identity in inputs:
        second.bind(identity, second.load(identity))
    second.members = (
        second.constant(1.0) if membership is None else second.bound(membership.identity)
    )
    latest = second.emit(Opcode.LATEST_BITS, a=second.load_known_time(), b=second.members)
    second.store_known_time(latest)
    for name, expression in features.items():
        second.store(name, second.node_of(expression))
    return second.program()


class _Analysis:
    """Stages, reach and sources of all expressions below the given ones."""

    def __init__(self, roots: Any) -> None:
        self.roots: list[Expression] = list(roots)
        self.all: dict[str, Expression] = {}
        self.across: set[str] = set()
        self.reach: dict[str, int] = {}
        self.operators: set[str] = set()
        for root in self.roots:
            self._visit(root)

    def _visit(self, root: Expression) -> None:
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

    def _note(self, expression: Expression) -> None:
        operator = OPERATORS[expression.operator]
        self.operators.add(operator.name)
        own = operator.look_back(expression)
        below = [item.identity for item in expression.inputs]
        reads_across = any(identity in self.across for identity in below)
        if reads_across and operator.reach != "0":
            raise DefinitionError(
                f"{operator.name} over a cross-section: {expression!r} would need the other "
                "entities' rows at earlier event times",
                hint="take the window or lag first, then cs_rank, cs_demean or cs_zscore",
            )
        if operator.across or reads_across:
            self.across.add(expression.identity)
        self.reach[expression.identity] = own + max(
            (self.reach[identity] for identity in below), default=0
        )

    def frontier(self) -> list[Expression]:
        """First-stage expressions that the second stage reads directly, constants aside."""
        found: dict[str, Expression] = {}
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
        return tuple(sorted(columns)), tuple(sorted(kinds))


class _Builder:
    """Emits nodes and instructions, each distinct one once."""

    def __init__(self, inputs: tuple[str, ...]) -> None:
        self._inputs = (KNOWN_TIME, *inputs)
        self._outputs: list[str] = [KNOWN_TIME]
        self._stored: list[int] = []
        self._histories: list[int] = []
        self._before: list[float] = []
        self._instructions: list[Instruction] = []
        self._emitted: dict[tuple[Any, ...], int] = {}
        self._constants: dict[str, int] = {}
        self._bound: dict[str, int] = {}
        self.members = -1

    def program(self) -> Program:
        nodes = tuple(
            Node(history, before)
            for history, before in zip(self._histories, self._before, strict=True)
        )
        assert len(self._stored) == len(self._outputs)
        stores = []
        for first in range(0, len(self._stored), _STORED_AT_ONCE):
            group = self._stored[first : first + _STORED_AT_ONCE]
            out, a, b, c = [*group, 0, 0, 0][:_STORED_AT_ONCE]
            stores.append(Instruction(Opcode.STORE, out, a, b, c, k=first, m=len(group)))
        instructions = (*self._instructions, *stores)
        return Program(self._inputs, tuple(self._outputs), nodes, instructions)

    # Nodes.
    def _node(self, before: float = math.nan) -> int:
        self._histories.append(0)
        self._before.append(before)
        return len(self._histories) - 1

    def _reads_back(self, node: int, rows: int) -> None:
        self._histories[node] = max(self._histories[node], rows)

    def constant(self, value: float) -> int:
        """A node that holds ``value`` in every row: no instruction ever writes it."""
        key = value.hex()
        if key not in self._constants:
            self._constants[key] = self._node(before=value)
        return self._constants[key]

    def emit(
        self,
        opcode: Opcode,
        *,
        a: int = 0,
        b: int = 0,
        c: int = 0,
        k: int = 0,
        m: int = 0,
        scalar: float = 0.0,
        before: float = math.nan,
        width: int = 1,
    ) -> int:
        key = (opcode, a, b, c, k, m, scalar.hex(), before.hex())
        if key not in self._emitted:
            out = self._node(before)
            for _ in range(width - 1):
                self._node(before)
            self._instructions.append(Instruction(opcode, out, a, b, c, k, m, scalar))
            self._emitted[key] = out
        return self._emitted[key]

    def store(self, name: str, node: int) -> None:
        self._outputs.append(name)
        self._stored.append(node)

    def load(self, name: str) -> int:
        return self.emit(Opcode.LOAD, k=self._inputs.index(name))

    def bind(self, identity: str, node: int) -> None:
        """Let an expression mean a node that is already there."""
        self._bound[identity] = node

    def bound(self, identity: str) -> int:
        return self._bound[identity]

    # The known time of a row: the latest of all rows that it depends on.
    def load_known_time(self) -> int:
        return self.emit(Opcode.LOAD_BITS, k=0, before=_BEFORE_ALL_TIMES)

    def store_known_time(self, node: int) -> None:
        self._stored.append(node)  # stored before any feature, it is output 0

    def known_time(self, look_back: int) -> None:
        own = self.load_known_time()
        self.store_known_time(
            self._extreme(Opcode.MAX_LAG_BITS, own, look_back + 1, _BEFORE_ALL_TIMES)
        )

    # Expressions.
    def node_of(self, root: Expression) -> int:
        pending = [(root, False)]
        while pending:
            expression, inputs_done = pending.pop()
            if expression.identity in self._bound:
                continue
            if not inputs_done:
                pending.append((expression, True))
                pending.extend((item, False) for item in reversed(expression.inputs))
                continue
            operands = [self._bound[item.identity] for item in expression.inputs]
            self._bound[expression.identity] = self._lower(expression, operands)
        return self._bound[root.identity]

    def _lower(self, expression: Expression, operands: list[int]) -> int:
        operator = expression.operator
        parameters = dict(expression.parameters)
        if operator in _SAME_NAME:
            a, b, c = [*operands, 0, 0, 0][:3]
            return self.emit(_SAME_NAME[operator], a=a, b=b, c=c)
        if operator in _ACROSS:
            scratch = self._node() if operator == "cs_rank" else 0
            return self.emit(_ACROSS[operator], a=operands[0], b=self.members, c=scratch)
        lowering = getattr(self, f"_{operator}")
        node: int = lowering(*operands, **parameters)
        return node

    def _col(self, *, name: str) -> int:
        return self.load(name)

    def _calendar(self, *, kind: str) -> int:
        return self.load(f"calendar:{kind}")

    def _lit(self, *, value: float) -> int:
        return self.constant(value)

    def _fill_missing(self, x: int, *, value: float) -> int:
        return self.emit(Opcode.FILL, a=x, scalar=value)

    def _lag(self, x: int, *, rows: int) -> int:
        if rows == 0:
            return x
        self._reads_back(x, rows)
        return self.emit(Opcode.LAG, a=x, k=rows)

    def _diff(self, x: int, *, rows: int) -> int:
        return self.emit(Opcode.SUB, a=x, b=self._lag(x, rows=rows))

    def _simple_return(self, x: int, *, rows: int) -> int:
        return self.emit(Opcode.DIV, a=self._diff(x, rows=rows), b=self._lag(x, rows=rows))

    def _log_return(self, x: int, *, rows: int) -> int:
        ratio = self.emit(Opcode.DIV, a=x, b=self._lag(x, rows=rows))
        return self.emit(Opcode.LOG, a=ratio)

    # Moments.
    def _prefix(self, x: int, window: int) -> int:
        node = self.emit(Opcode.PREFIX, a=x, before=0.0, width=PREFIX_WIDTH)
        for offset in range(PREFIX_WIDTH):
            # At least one earlier row: a running sum continues from it.
            self._reads_back(node + offset, window)
        return node

    def _moment(
        self, opcode: Opcode, x: int, window: int, min_count: int | None, least: int = 1
    ) -> int:
        self._reads_back(x, window - 1)  # for windows that are reduced from scratch
        return self.emit(
            opcode,
            a=x,
            b=self._prefix(x, window),
            k=window,
            m=window if min_count is None else max(min_count, least),
        )

    def _rolling_count(self, x: int, *, window: int) -> int:
        return self.emit(Opcode.COUNT, a=x, b=self._prefix(x, window), k=window)

    def _rolling_sum(self, x: int, *, window: int, min_count: int | None) -> int:
        return self._moment(Opcode.SUM, x, window, min_count)

    def _rolling_mean(self, x: int, *, window: int, min_count: int | None) -> int:
        return self._moment(Opcode.MEAN, x, window, min_count)

    def _rolling_var(self, x: int, *, window: int, min_count: int | None) -> int:
        return self._moment(Opcode.VAR, x, window, min_count, least=2)

    def _rolling_std(self, x: int, *, window: int, min_count: int | None) -> int:
        return self.emit(Opcode.SQRT, a=self._rolling_var(x, window=window, min_count=min_count))

    def _zscore(self, x: int, *, window: int, min_count: int | None) -> int:
        mean = self._rolling_mean(x, window=window, min_count=min_count)
        deviation = self._rolling_std(x, window=window, min_count=min_count)
        return self.emit(Opcode.DIV, a=self.emit(Opcode.SUB, a=x, b=mean), b=deviation)

    # Extremes and weighted sums, by doubling.
    def _rolling_min(self, x: int, *, window: int, min_count: int | None) -> int:
        return self._rolling_extreme(Opcode.MIN_LAG, x, window, min_count, _LARGEST)

    def _rolling_max(self, x: int, *, window: int, min_count: int | None) -> int:
        return self._rolling_extreme(Opcode.MAX_LAG, x, window, min_count, -_LARGEST)

    def _rolling_extreme(
        self, opcode: Opcode, x: int, window: int, min_count: int | None, neutral: float
    ) -> int:
        if min_count is None:
            return self._extreme(opcode, x, window, math.nan)
        filled = self.emit(Opcode.FILL, a=x, scalar=neutral, before=neutral)
        extreme = self._extreme(opcode, filled, window, neutral)
        return self._if_enough(extreme, x, window, min_count)

    def _if_enough(self, node: int, x: int, window: int, min_count: int) -> int:
        enough = self.emit(
            Opcode.LE,
            a=self.constant(float(min_count)),
            b=self._rolling_count(x, window=window),
        )
        return self.emit(Opcode.WHERE, a=enough, b=node, c=self.constant(math.nan))

    def _extreme(self, opcode: Opcode, x: int, window: int, before: float) -> int:
        """The extreme of ``window`` rows as that of two overlapping stretches of 2**j rows."""
        stretch, node = 1, x
        while 2 * stretch <= window:
            self._reads_back(node, stretch)
            node = self.emit(opcode, a=node, b=node, k=stretch, before=before)
            stretch *= 2
        if stretch == window:
            return node
        self._reads_back(node, window - stretch)
        return self.emit(opcode, a=node, b=node, k=window - stretch, before=before)

    def _decayed_sum(self, x: int, decay: float, horizon: int, before: float) -> int:
        """Sum of ``decay**j * x[i-j]`` for ``j`` below ``horizon``."""
        levels, weights = [x], [decay]  # level j sums 2**j rows; weight j is decay**(2**j)
        while 2 ** len(levels) <= horizon:
            level, rows = levels[-1], 2 ** (len(levels) - 1)
            levels.append(self._joined(level, level, rows, weights[-1], before))
            weights.append(weights[-1] * weights[-1])
        node, covered, weight = levels[-1], 2 ** (len(levels) - 1), weights[-1]
        for power in range(len(levels) - 2, -1, -1):
            if horizon - covered >= 2**power:
                node = self._joined(node, levels[power], covered, weight, before)
                covered += 2**power
                weight *= weights[power]
        return node

    def _joined(self, recent: int, older: int, rows: int, weight: float, before: float) -> int:
        self._reads_back(older, rows)
        return self.emit(
            Opcode.ADD_SCALED_LAG, a=recent, b=older, k=rows, scalar=weight, before=before
        )

    def _weights(self, x: int, decay: float, horizon: int, min_count: int | None) -> int:
        """Sum of the weights of valid rows: a constant when all rows must be valid."""
        if min_count is None:
            return self.constant(_sum_of_weights(decay, horizon))
        valid = self.emit(Opcode.VALID, a=x, before=0.0)
        return self._decayed_sum(valid, decay, horizon, 0.0)

    def _summands(self, x: int, min_count: int | None) -> tuple[int, float]:
        if min_count is None:
            return x, math.nan
        return self.emit(Opcode.FILL, a=x, scalar=0.0, before=0.0), 0.0

    def _ewm_mean(self, x: int, *, alpha: float, horizon: int, min_count: int | None) -> int:
        decay = 1.0 - alpha
        summand, before = self._summands(x, min_count)
        mean = self.emit(
            Opcode.DIV,
            a=self._decayed_sum(summand, decay, horizon, before),
            b=self._weights(x, decay, horizon, min_count),
        )
        return mean if min_count is None else self._if_enough(mean, x, horizon, min_count)

    def _ewm_std(self, x: int, *, alpha: float, horizon: int, min_count: int | None) -> int:
        decay = 1.0 - alpha
        summand, before = self._summands(x, min_count)
        square = self.emit(Opcode.MUL, a=summand, b=summand, before=before)
        weights = self._weights(x, decay, horizon, min_count)
        self._reads_back(x, horizon - 1)
        variance = self.emit(
            Opcode.EWM_VAR,
            a=self._decayed_sum(summand, decay, horizon, before),
            b=self._decayed_sum(square, decay, horizon, before),
            c=weights,
            k=horizon,
            m=x,
            scalar=decay,
        )
        # Reliability weights: W**2 / (W**2 - V), V the sum of squared weights.
        squared = self.emit(Opcode.MUL, a=weights, b=weights)
        rest = self.emit(
            Opcode.SUB, a=squared, b=self._weights(x, decay * decay, horizon, min_count)
        )
        corrected = self.emit(Opcode.MUL, a=variance, b=self.emit(Opcode.DIV, a=squared, b=rest))
        deviation = self.emit(Opcode.SQRT, a=corrected)
        return deviation if min_count is None else self._if_enough(deviation, x, horizon, min_count)


def _sum_of_weights(decay: float, horizon: int) -> float:
    total, weight = 0.0, 1.0
    for _ in range(horizon):
        total += weight
        weight *= decay
    return total
