"""A program as the arrays that the kernel reads, and the shape of one entity's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.features.definition.opcodes import GROUPED, READS_NODE_M
from assay.features.definition.program import Program
from assay.features.definition.views import FeatureView
from assay.features.kernel.engine import (
    CALL_WIDTH,
    MOVER_WIDTH,
    OP_WIDTH,
    SEGMENT_WIDTH,
    compiled_run,
)
from assay.features.kernel.step_functions import compiled_step

LAYOUT_VERSION = 3
"""Changes when the order or meaning of what a checkpoint holds of a driver changes."""

LEAST_ROOM = 64
"""Rows that a state has room for at least; machines of up to so many at a time share it."""

Floats = NDArray[np.float64]
Words = NDArray[np.int64]


@dataclass(frozen=True)
class Machine:
    """A program made ready to run with at most ``chunk`` rows at a time.

    ``template`` is the state of an entity before its first row; a state is a copy of it and has
    ``template.size`` words of 8 bytes.
    """

    program: Program
    chunk: int
    words: Words
    constants: Floats
    movers: int
    template: Floats
    function: Any

    @classmethod
    def build(cls, program: Program, chunk: int) -> Machine:
        """Lay a program out for calls of up to ``chunk`` rows."""
        room, fixed, offsets, movers, owned, size = _places(program, chunk)
        template = np.zeros(size, dtype=np.float64)
        for index, node in enumerate(program.nodes):
            stop = offsets[index] + (chunk if node.history == 0 else room)
            template[offsets[index] - node.history : stop] = node.before
        code = np.zeros((len(program.instructions), OP_WIDTH), dtype=np.int64)
        for index, (row, step) in enumerate(zip(code, program.instructions, strict=True)):
            row[0] = step.opcode
            row[1:5] = offsets[[step.out, step.a, step.b, step.c]]
            row[5], row[6], row[8] = step.k, step.m, owned[index]
            if step.function >= 0:
                row[7] = compiled_step(program.functions[step.function]).address
            if step.opcode in READS_NODE_M:
                row[6] = offsets[step.m]
            if step.opcode in GROUPED:
                first = getattr(step, GROUPED[step.opcode])
                row[7] = offsets[first + 1] - offsets[first]
        return cls(
            program,
            chunk,
            np.concatenate(
                ([chunk, room, fixed, len(code)], code.reshape(-1), movers),
                dtype="i8",
                casting="unsafe",
            ),
            np.concatenate(([step.scalar for step in program.instructions], template)),
            len(movers) // MOVER_WIDTH,
            template,
            compiled_run(),
        )

    def states(self, count: int) -> Floats:
        """``count`` fresh states in one block, one row each."""
        return np.tile(self.template, (count, 1))

    def run(self, states: Floats, segments: Words, inputs: Floats, outputs: Floats) -> None:
        """Run rows of ``inputs`` (one row per input column) into ``outputs``.

        ``segments`` holds, per stretch of rows, the index of the state, the first row, the row
        after the last, and whether the state begins afresh. The arrays are checked here because the
        compiled code does not.
        """
        count, length = states.size // self.template.size, inputs.shape[1]
        view = segments.reshape(-1, SEGMENT_WIDTH)
        floats = (states, inputs, outputs)
        fits = (
            all(array.flags.c_contiguous for array in (*floats, segments))
            and all(array.dtype == np.float64 for array in floats)
            and segments.dtype == np.int64
            and states.size == count * self.template.size
            and inputs.shape[0] == len(self.program.inputs)
            and outputs.shape == (len(self.program.outputs), length)
            and (
                view.size == 0
                or bool(view.min() >= 0 and view[:, 0].max() < count and view[:, 2].max() <= length)
            )
        )
        if not fits:
            # Raised, not asserted: `python -O` must not let compiled code write out of bounds.
            raise AssertionError("arrays do not fit the program: see Machine.run")
        call = self.call(states, segments, inputs, outputs)
        self.function(call.ctypes.data)

    def adopt(self, own: Floats, other: Machine, state: Floats) -> None:
        """Make one state ``own`` continue where ``state`` stands, which ``other`` has run.

        Both machines have the same program and hold as many rows before they move histories; only
        the rows that they take at a time differ, and with it the words that nothing looks back at.
        """
        if self.movers == 0 and not any(step.own for step in self.program.instructions):
            return  # nothing looks back, so nothing is remembered, and room has another meaning
        fixed, theirs = int(self.words[2]), int(other.words[2])
        if self.program is not other.program or self.words[1] != other.words[1]:
            raise AssertionError("states of different layouts: see Machine.adopt")
        own[0] = state[0]
        own[fixed:] = state[theirs:]

    def call(self, states: Floats, segments: Words, inputs: Floats, outputs: Floats) -> Words:
        """The addresses that ``function`` takes, for a caller that uses the same arrays again.

        Whoever keeps them keeps the arrays as well, and has checked them as :meth:`run` does.
        """
        words = np.zeros(CALL_WIDTH, dtype=np.int64)
        arrays = (self.words, self.constants, states, segments, inputs, outputs)
        words[:6] = [array.ctypes.data for array in arrays]
        words[6], words[7] = self.movers, self.template.size
        words[8], words[9] = segments.size // SEGMENT_WIDTH, inputs.shape[1]
        return words


def state_bytes(program: Program, chunk: int = 1) -> int:
    """Bytes of one entity's state, for calls of up to ``chunk`` rows; compiles nothing."""
    return 8 * _places(program, chunk)[-1]


def _places(program: Program, chunk: int) -> tuple[int, int, Words, list[int], Words, int]:
    """Where things stand in a state.

    Rows that a history has room for, the end of what has no history, offsets of nodes, what is
    moved, offsets of what instructions own, and the size in words.
    """
    kept = [node.history for node in program.nodes if node.history > 0]
    # Moving the histories to the front costs each row one word for each node on average.
    room = max(chunk, LEAST_ROOM, -(-sum(kept) // max(1, len(kept)))) if kept else chunk
    offsets, size = np.zeros(len(program.nodes), dtype=np.int64), 1
    for index, node in enumerate(program.nodes):
        if node.history == 0:
            offsets[index], size = size, size + chunk
    fixed = size
    movers: list[int] = []
    for index, node in enumerate(program.nodes):
        if node.history > 0:
            movers += [size, node.history]
            offsets[index], size = size + node.history, size + node.history + room
    owned = np.zeros(len(program.instructions), dtype=np.int64)
    for index, step in enumerate(program.instructions):
        owned[index], size = size, size + step.own
    return room, fixed, offsets, movers, owned, size


def features_of(view: FeatureView, first: Floats, second: Floats | None) -> list[Floats]:
    """Known times (as int64 bits) and all features of a view, in its order, without copying.

    ``first`` and ``second`` are what the programs computed: one row per output, one column per row.
    """
    plan = view.plan
    if plan.second is None or second is None:
        return list(first)
    across = {name: second[row] for row, name in enumerate(plan.second.outputs)}
    own = {name: first[row] for row, name in enumerate(plan.first.outputs)}
    return [
        second[0],
        *(across[name] if name in across else own[name] for name in view.feature_names),
    ]
