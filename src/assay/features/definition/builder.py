"""Nodes and instructions, each distinct one once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from assay.features.definition.opcodes import Opcode
from assay.features.definition.program import Instruction, Node, Program

KNOWN_TIME = "known_time"
EVENT_TIME = "event_time"
PLACE = "place"
"""Input of a program that names entities: which of them a row is of, 0 for another one, missing in
the rows that are there for being named."""
BEFORE_ALL_TIMES = -0.0
"""The float whose bits are the smallest int64."""

_STORED_AT_ONCE = 4


class Builder:
    """Collects the instructions of a program.

    ``members`` is the node of the universe in a program across entities. ``places`` says of each
    entity that is named there which row from the end is its latest, the last row being 1.
    """

    def __init__(self, inputs: tuple[str, ...]) -> None:
        self._inputs = inputs
        self._outputs: list[str] = [KNOWN_TIME]
        self._stored: list[int] = []
        self._histories: list[int] = []
        self._before: list[float] = []
        self._instructions: list[Instruction] = []
        self._emitted: dict[tuple[Any, ...], int] = {}
        self._constants: dict[str, int] = {}
        self._bound: dict[str, int] = {}
        self._functions: list[str] = []
        self.members = -1
        self.places: Mapping[str, int] = {}

    def program(self) -> Program:
        """The program that stores what was asked for."""
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
        functions = tuple(self._functions)
        return Program(self._inputs, tuple(self._outputs), nodes, instructions, functions)

    # Nodes.
    def scratch_node(self, before: float = math.nan) -> int:
        """A node that no other expression shares."""
        self._histories.append(0)
        self._before.append(before)
        return len(self._histories) - 1

    def reads_back(self, node: int, rows: int) -> None:
        """Let ``rows`` earlier rows of a node be remembered."""
        self._histories[node] = max(self._histories[node], rows)

    def constant(self, value: float) -> int:
        """A node that holds ``value`` in every row: no instruction ever writes it."""
        key = value.hex()
        if key not in self._constants:
            self._constants[key] = self.scratch_node(before=value)
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
        own: int = 0,
        function: int = -1,
        before: float = math.nan,
        width: int = 1,
    ) -> int:
        """The node of an instruction's result, or the first of ``width`` nodes.

        Parameters
        ----------
        own: words of state that belong to the instruction alone.
        function: what :meth:`function` gave.
        before: what rows before the first one read as.
        """
        key = (opcode, a, b, c, k, m, scalar.hex(), own, function, before.hex())
        if key not in self._emitted:
            out = self.scratch_node(before)
            for _ in range(width - 1):
                self.scratch_node(before)
            step = Instruction(opcode, out, a, b, c, k, m, scalar, own, function)
            self._instructions.append(step)
            self._emitted[key] = out
        return self._emitted[key]

    def function(self, source: str) -> int:
        """The number of a step function, by its text."""
        if source not in self._functions:
            self._functions.append(source)
        return self._functions.index(source)

    # Inputs and outputs.
    def load(self, name: str) -> int:
        """An input as floats; what is not finite is missing."""
        return self.emit(Opcode.LOAD, k=self._inputs.index(name))

    def load_bits(self, name: str) -> int:
        """An input as int64, such as a time."""
        return self.emit(Opcode.LOAD_BITS, k=self._inputs.index(name), before=BEFORE_ALL_TIMES)

    def store(self, name: str, node: int) -> None:
        """Let a node be an output."""
        self._outputs.append(name)
        self._stored.append(node)

    def store_known_time(self, node: int) -> None:
        """Let a node be output 0; to be called before :meth:`store`."""
        self._stored.append(node)

    # What expressions are bound to.
    def bind(self, identity: str, node: int) -> None:
        """Let an expression mean a node that is already there."""
        self._bound[identity] = node

    def bound(self, identity: str) -> int | None:
        """The node that an expression means, if it was bound."""
        return self._bound.get(identity)
