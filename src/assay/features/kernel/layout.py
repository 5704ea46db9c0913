"""A program as the arrays that the kernel reads, and the shape of one entity's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.features.definition.program import Program
from assay.features.kernel.engine import NODE_WIDTH, OP_WIDTH, SEGMENT_WIDTH, compiled_run

LAYOUT_VERSION = 1
"""Changes when the order or meaning of the words in a state changes."""

Floats = NDArray[np.float64]
Words = NDArray[np.int64]


@dataclass(frozen=True)
class Machine:
    """A program made ready to run with at most ``chunk`` rows at a time.

    ``template`` is the state of an entity before its first row; a state is a copy of it and has ``template.size``
    words of 8 bytes.
    """

    program: Program
    chunk: int
    code: Words
    scalars: Floats
    nodes: Words
    template: Floats
    _run: Any

    @classmethod
    def build(cls, program: Program, chunk: int) -> Machine:
        """Lay a program out for calls of up to ``chunk`` rows."""
        code = np.zeros(len(program.instructions) * OP_WIDTH, dtype=np.int64)
        scalars = np.zeros(len(program.instructions), dtype=np.float64)
        for index, step in enumerate(program.instructions):
            code[index * OP_WIDTH : index * OP_WIDTH + 7] = (
                step.opcode,
                step.out,
                step.a,
                step.b,
                step.c,
                step.k,
                step.m,
            )
            scalars[index] = step.scalar
        nodes = np.zeros(len(program.nodes) * NODE_WIDTH, dtype=np.int64)
        offset = len(program.nodes)  # the cursors come first
        for index, node in enumerate(program.nodes):
            # Twice the history, so that moving it to the front costs each row one word at most.
            capacity = node.history + max(node.history, chunk)
            nodes[index * NODE_WIDTH : (index + 1) * NODE_WIDTH] = offset, node.history, capacity
            offset += capacity
        template = np.zeros(offset, dtype=np.float64)
        template[: len(program.nodes)].view(np.int64)[:] = [n.history for n in program.nodes]
        for index, node in enumerate(program.nodes):
            start, _, capacity = nodes[index * NODE_WIDTH : (index + 1) * NODE_WIDTH]
            template[start : start + capacity] = node.before
        return cls(program, chunk, code, scalars, nodes, template, compiled_run())

    def states(self, count: int) -> Floats:
        """``count`` fresh states in one block, one row each."""
        return np.tile(self.template, (count, 1))

    def run(self, states: Floats, segments: Words, inputs: Floats, outputs: Floats) -> None:
        """Run rows of ``inputs`` (one row per input column) into ``outputs``.

        ``segments`` holds, per stretch of rows, the index of the state, the first row, the row after the
        last, and whether the state begins afresh. The arrays are checked here because the compiled code does not.
        """
        length = inputs.shape[1]
        count = states.size // self.template.size
        view = segments.reshape(-1, SEGMENT_WIDTH)
        assert inputs.flags.c_contiguous and outputs.flags.c_contiguous
        assert states.flags.c_contiguous and states.size == count * self.template.size
        assert inputs.shape[0] == len(self.program.inputs)
        assert outputs.shape == (len(self.program.outputs), length)
        if view.size:
            assert view[:, 0].min() >= 0 and view[:, 0].max() < count
            assert view[:, 1].min() >= 0 and view[:, 2].max() <= length
        self._run(
            self.code,
            self.scalars,
            self.nodes,
            self.template,
            states.reshape(-1),
            segments.reshape(-1),
            self.chunk,
            inputs.reshape(-1),
            outputs.reshape(-1),
            length,
        )
