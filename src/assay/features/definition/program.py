"""A program: what the kernel executes, and what the manifest hashes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from assay.domain.canonical import canonical_bytes
from assay.features.definition.opcodes import VERSIONS, Opcode


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One value per row.

    ``history`` is how many earlier rows instructions read of it; ``before`` is what rows before
    the first one read as. Nodes are equal when the bits are: most begin with NaN.
    """

    history: int
    before: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self._bits() == other._bits()

    def __hash__(self) -> int:
        return hash(self._bits())

    def _bits(self) -> bytes:
        return struct.pack("<qd", self.history, self.before)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One step: see :class:`~assay.features.definition.opcodes.Opcode` for what each field means.

    Fields that an opcode does not use are zero. ``own`` words of state belong to the instruction
    alone; they begin as zero. ``function`` is the number of a step function, or -1.
    """

    opcode: Opcode
    out: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    k: int = 0
    m: int = 0
    scalar: float = 0.0
    own: int = 0
    function: int = -1


@dataclass(frozen=True, slots=True)
class Program:
    """Instructions in order, over nodes, from input columns to output columns.

    The first two inputs are the known time and the event time as int64, the first output is the
    known time; the others are floats, or int64 where an instruction says so. ``functions`` are the
    texts of step functions.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    instructions: tuple[Instruction, ...]
    functions: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The canonical document: names and versions of instructions, floats in hexadecimal."""
        return {
            "functions": list(self.functions),
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "nodes": [[node.history, node.before.hex()] for node in self.nodes],
            "instructions": [
                [
                    step.opcode.name,
                    VERSIONS[step.opcode],
                    step.out,
                    step.a,
                    step.b,
                    step.c,
                    step.k,
                    step.m,
                    step.scalar.hex(),
                    step.own,
                    step.function,
                ]
                for step in self.instructions
            ],
        }

    def canonical(self) -> bytes:
        """Canonical bytes: equal for equal programs on every machine."""
        return canonical_bytes(self.to_json())
