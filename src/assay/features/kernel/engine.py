"""The one compiled function: ``run``.

Both drivers call it. The offline driver gives it whole histories, the online driver single rows, the second
stage one event time at a time; the steps inside cannot tell.

Memory. A *node* is one value per row. It owns a stretch of the state: as many earlier rows as anything
looks back (``history``), then room for the rows being computed. ``x[i-k]`` is thus always ``k`` words to the left, whether
that row came in the same call or years ago. When the room is used up, the last ``history`` words move to the front.
Rows before the first one read as NaN (or as zero where a sum starts), so nothing counts its own warm-up.

Compilation. ``run`` is the only function that is cached on disk, and it contains all steps. Its cache
key includes a hash of every source file of the kernel: numba itself would only look at this file and would
keep an old step after an upgrade.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numba

from assay.features.definition import opcodes
from assay.features.definition.opcodes import Opcode
from assay.features.kernel import cross_section, elementwise, logarithm, moments, weighted, words
from assay.features.kernel.words import get_word, put_word

OP_WIDTH: Final = 8  # opcode, out, a, b, c, k, m, position of the scalar
NODE_WIDTH: Final = 3  # offset, history, capacity
SEGMENT_WIDTH: Final = 4  # slot of the state, first row, row after the last, begin afresh (0 or 1)

_FIRST_UNARY, _LAST_UNARY = int(Opcode.NEG), int(Opcode.VALID)
_FIRST_BINARY, _LAST_BINARY = int(Opcode.ADD), int(Opcode.MIN)
_FIRST_COMPARE, _LAST_COMPARE = int(Opcode.LT), int(Opcode.OR)
_LOG = int(Opcode.LOG)
_LOAD, _LOAD_BITS, _STORE, _STORE_BITS = (
    int(code) for code in (Opcode.LOAD, Opcode.LOAD_BITS, Opcode.STORE, Opcode.STORE_BITS)
)
_FILL, _WHERE, _LAG, _ADD_SCALED_LAG = (
    int(code) for code in (Opcode.FILL, Opcode.WHERE, Opcode.LAG, Opcode.ADD_SCALED_LAG)
)
_MAX_LAG, _MIN_LAG, _MAX_LAG_BITS = (
    int(code) for code in (Opcode.MAX_LAG, Opcode.MIN_LAG, Opcode.MAX_LAG_BITS)
)
_PREFIX, _COUNT, _SUM, _MEAN, _VAR, _EWM_VAR = (
    int(code)
    for code in (
        Opcode.PREFIX,
        Opcode.COUNT,
        Opcode.SUM,
        Opcode.MEAN,
        Opcode.VAR,
        Opcode.EWM_VAR,
    )
)
_RANK, _DEMEAN, _ZSCORE, _LATEST_BITS = (
    int(code) for code in (Opcode.RANK, Opcode.DEMEAN, Opcode.ZSCORE, Opcode.LATEST_BITS)
)


@elementwise.step
def _make_room(state, base, nodes, rows):  # type: ignore[no-untyped-def]
    """Let every node with a history have room for ``rows`` more words after its cursor."""
    for node in range(nodes.size // NODE_WIDTH):
        history = nodes[NODE_WIDTH * node + 1]
        if history > 0:
            offset = base + nodes[NODE_WIDTH * node]
            cursor = get_word(state, base + node)
            if cursor + rows > nodes[NODE_WIDTH * node + 2]:
                elementwise.copy_words(state, offset, state, offset + cursor - history, history)
                put_word(state, base + node, history)


@elementwise.step
def _take_room(state, base, nodes, rows):  # type: ignore[no-untyped-def]
    for node in range(nodes.size // NODE_WIDTH):
        if nodes[NODE_WIDTH * node + 1] > 0:
            put_word(state, base + node, get_word(state, base + node) + rows)


@elementwise.step
def _position(state, base, nodes, node):  # type: ignore[no-untyped-def]
    """Where the first row being computed stands for ``node``."""
    return base + nodes[NODE_WIDTH * node] + get_word(state, base + node)


@elementwise.step
def _moments(opcode, state, base, nodes, out, x, first, k, least, rows):  # type: ignore[no-untyped-def]
    """The instructions that read or write the six nodes of a prefix, of which ``first`` is one."""
    high = _position(state, base, nodes, first)
    low = _position(state, base, nodes, first + 1)
    sq_high = _position(state, base, nodes, first + 2)
    sq_mid = _position(state, base, nodes, first + 3)
    sq_low = _position(state, base, nodes, first + 4)
    counts = _position(state, base, nodes, first + 5)
    if opcode == _PREFIX:
        moments.prefix(state, x, high, low, sq_high, sq_mid, sq_low, counts, rows)
    elif opcode == _COUNT:
        moments.count(state, out, counts, k, rows)
    elif opcode == _VAR:
        moments.variance(state, out, x, high, low, sq_high, sq_mid, sq_low, counts, k, least, rows)
    else:
        moments.sum_or_mean(state, out, x, high, low, counts, k, least, opcode == _MEAN, rows)


@elementwise.step
def _execute(  # type: ignore[no-untyped-def]
    code, scalars, nodes, state, base, start, rows, inputs, outputs, length
):
    """All instructions over ``rows`` rows."""
    for index in range(code.size // OP_WIDTH):
        at = OP_WIDTH * index
        opcode, k = code[at], code[at + 5]
        if opcode == _STORE or opcode == _STORE_BITS:
            source = _position(state, base, nodes, code[at + 2])
            elementwise.copy_words(outputs, k * length + start, state, source, rows)
            continue
        out = _position(state, base, nodes, code[at + 1])
        if opcode == _LOAD:
            elementwise.load(state, out, inputs, k * length + start, rows)
            continue
        if opcode == _LOAD_BITS:
            elementwise.copy_words(state, out, inputs, k * length + start, rows)
            continue
        a = _position(state, base, nodes, code[at + 2])
        b = _position(state, base, nodes, code[at + 3])
        if _FIRST_BINARY <= opcode <= _LAST_BINARY:
            elementwise.binary(opcode, state, out, a, b, rows)
        elif opcode == _ADD_SCALED_LAG:
            elementwise.add_scaled_lag(state, out, a, b, k, scalars[index], rows)
        elif opcode == _MAX_LAG or opcode == _MIN_LAG:
            elementwise.extreme_lag(opcode, state, out, a, b, k, rows)
        elif opcode == _MAX_LAG_BITS:
            elementwise.latest_lag(state, out, a, b, k, rows)
        elif opcode == _LAG:
            elementwise.copy_words(state, out, state, a - k, rows)
        elif opcode == _PREFIX:
            _moments(opcode, state, base, nodes, out, a, code[at + 1], k, 0, rows)
        elif _COUNT <= opcode <= _VAR:
            _moments(opcode, state, base, nodes, out, a, code[at + 3], k, code[at + 6], rows)
        elif opcode == _LOG:
            logarithm.log(state, out, a, rows)
        elif _FIRST_COMPARE <= opcode <= _LAST_COMPARE:
            elementwise.compare(opcode, state, out, a, b, rows)
        elif opcode == _WHERE:
            c = _position(state, base, nodes, code[at + 4])
            elementwise.where(state, out, a, b, c, rows)
        elif opcode == _FILL:
            elementwise.fill(state, out, a, scalars[index], rows)
        elif _FIRST_UNARY <= opcode <= _LAST_UNARY:
            elementwise.unary(opcode, state, out, a, rows)
        elif opcode == _EWM_VAR:
            c = _position(state, base, nodes, code[at + 4])
            x = _position(state, base, nodes, code[at + 6])
            weighted.ewm_variance(state, out, x, a, b, c, k, scalars[index], rows)
        elif opcode == _RANK:
            scratch = _position(state, base, nodes, code[at + 4])
            cross_section.rank(state, out, scratch, a, b, rows)
        elif opcode == _DEMEAN or opcode == _ZSCORE:
            cross_section.center(state, out, a, b, opcode == _ZSCORE, rows)
        elif opcode == _LATEST_BITS:
            cross_section.latest(state, out, a, b, rows)


_FLOATS, _WORDS = numba.float64[::1], numba.int64[::1]
SIGNATURE: Final = numba.void(
    _WORDS, _FLOATS, _WORDS, _FLOATS, _FLOATS, _WORDS, numba.int64, _FLOATS, _FLOATS, numba.int64
)


def source_hash() -> str:
    """SHA-256 over the kernel's source files, with their names, in a fixed order."""
    digest = hashlib.sha256()
    for module in (
        opcodes,
        words,
        elementwise,
        logarithm,
        moments,
        weighted,
        cross_section,
    ):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def _make_run(source: int) -> Callable[..., None]:
    def run(  # type: ignore[no-untyped-def]
        code, scalars, nodes, template, states, segments, chunk, inputs, outputs, length
    ):
        # A constant in the closure is part of numba's cache key; see "Compilation" above.
        if source < 0:
            return
        size = template.size
        for segment in range(segments.size // SEGMENT_WIDTH):
            at = SEGMENT_WIDTH * segment
            base = segments[at] * size
            if segments[at + 3] == 1:
                elementwise.copy_words(states, base, template, 0, size)
            row, stop = segments[at + 1], segments[at + 2]
            while row < stop:
                rows = min(chunk, stop - row)
                _make_room(states, base, nodes, rows)
                _execute(code, scalars, nodes, states, base, row, rows, inputs, outputs, length)
                _take_room(states, base, nodes, rows)
                row += rows

    return run


@lru_cache(maxsize=1)
def compiled_run() -> Any:
    """``run``, compiled or read from numba's cache on disk; the first call may take seconds."""
    run = _make_run(int(source_hash()[:15], 16))
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(SIGNATURE, cache=True, **options)(run)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        # Neither the package's folder nor the user's cache is writable: compile in this process.
        return numba.njit(SIGNATURE, **options)(run)


def warm_kernel() -> float:
    """Make the kernel ready (compile it, or load it from the cache); the seconds that it took."""
    started = time.perf_counter()
    compiled_run()
    return time.perf_counter() - started
