"""The one compiled function: ``run``.

Both drivers call it. The offline driver gives it whole histories, the online driver single rows,
the second stage one event time at a time; the steps inside cannot tell.

Memory. A *node* is one value per row. It owns a stretch of the state: as many earlier rows as
anything looks back (``history``), then room for rows to come. ``x[i-k]`` is thus always ``k`` words
to the left, whether that row came in the same call or years ago. When the room is used up, the last
``history`` words move to the front of the stretch, for all nodes at once; word 0 of the state
counts the rows since then. Nodes without a history do not move. Rows before the first one read as
NaN (or as zero where a sum starts), so nothing counts its own warm-up.

Compilation. ``run`` is the only function that is cached on disk, and it contains all steps. Its
cache key includes a hash of every source file of the kernel: numba itself would only look at this
file and would keep an old step after an upgrade.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numba

from assay.features.definition import opcodes
from assay.features.definition.opcodes import Opcode
from assay.features.kernel import (
    bars,
    cross_section,
    decay,
    elementwise,
    exact_sums,
    exponential,
    logarithm,
    moments,
    ordered,
    pairs,
    recency,
    shape,
    step_functions,
    trend,
    weighted,
    words,
)
from assay.features.kernel.words import get, get_word, put_word

# Opcode; offsets of out, a, b, c; k, m; words between the nodes of a group, or the address of a
# function; offset of the words of its own.
OP_WIDTH: Final = 9
HEADER: Final = 4  # words before the code
MOVER_WIDTH: Final = 2  # offset of the stretch, earlier rows to keep
SEGMENT_WIDTH: Final = 4  # slot of the state, first row, row after the last, begin afresh (0 or 1)

_FIRST_UNARY, _LAST_UNARY = int(Opcode.NEG), int(Opcode.VALID)
_FIRST_BINARY, _LAST_BINARY = int(Opcode.ADD), int(Opcode.MIN)
_FIRST_COMPARE, _LAST_COMPARE = int(Opcode.LT), int(Opcode.OR)
_LOG, _EXP, _POWER = int(Opcode.LOG), int(Opcode.EXP), int(Opcode.POWER)
_LOAD, _LOAD_BITS, _STORE = int(Opcode.LOAD), int(Opcode.LOAD_BITS), int(Opcode.STORE)
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
_ROWS_WITHIN, _COUNT_WITHIN, _VAR_WITHIN = (
    int(code) for code in (Opcode.ROWS_WITHIN, Opcode.COUNT_WITHIN, Opcode.VAR_WITHIN)
)
_TILE, _DECAY, _DECAYED_STD = int(Opcode.TILE), int(Opcode.DECAY), int(Opcode.DECAYED_STD)
_QUANTILE, _QUANTILE_WITHIN, _RANK_WITHIN = (
    int(code) for code in (Opcode.QUANTILE, Opcode.QUANTILE_WITHIN, Opcode.RANK_WITHIN)
)
_ROWS_SINCE, _ROW_AT, _COUNTED, _SECONDS_SINCE = (
    int(code) for code in (Opcode.ROWS_SINCE, Opcode.ROW_AT, Opcode.COUNTED, Opcode.SECONDS_SINCE)
)
_PAIR_PREFIX, _SLOPE, _COVARIANCE_WITHIN, _SLOPE_WITHIN = (
    int(code)
    for code in (Opcode.PAIR_PREFIX, Opcode.SLOPE, Opcode.COVARIANCE_WITHIN, Opcode.SLOPE_WITHIN)
)
_TREND_PREFIX, _TREND_WITHIN = int(Opcode.TREND_PREFIX), int(Opcode.TREND_WITHIN)
_POWER_PREFIX, _SKEWNESS_WITHIN, _KURTOSIS_WITHIN = (
    int(code) for code in (Opcode.POWER_PREFIX, Opcode.SKEWNESS_WITHIN, Opcode.KURTOSIS_WITHIN)
)
_EARLIER, _SECONDS_BETWEEN = int(Opcode.EARLIER), int(Opcode.SECONDS_BETWEEN)
_CALL, _CALL_WITHIN = int(Opcode.CALL), int(Opcode.CALL_WITHIN)
_RANK, _DEMEAN, _ZSCORE, _LATEST_BITS = (
    int(code) for code in (Opcode.RANK, Opcode.DEMEAN, Opcode.ZSCORE, Opcode.LATEST_BITS)
)
_PICKED, _PICKED_OF_OTHERS, _LATEST_PICKED = (
    int(code) for code in (Opcode.PICKED, Opcode.PICKED_OF_OTHERS, Opcode.LATEST_PICKED)
)


@elementwise.step
def _make_room(state: int, base: int, movers: int, moved: int, room: int, rows: int) -> int:
    """Let there be room for ``rows`` more rows; the position of the first of them."""
    step: int = get_word(state, base)
    if step + rows <= room:
        return step
    for mover in range(moved):
        offset = get_word(movers, MOVER_WIDTH * mover)
        history = get_word(movers, MOVER_WIDTH * mover + 1)
        elementwise.copy_words(state, base + offset, state, base + offset + step, history)
    return 0


@elementwise.step
def _moments(
    opcode: int,
    state: int,
    out: int,
    x: int,
    first: int,
    stride: int,
    k: int,
    least: int,
    windows: int,
    rows: int,
) -> None:
    """The instructions that read or write the six nodes of a prefix, ``stride`` words apart.

    ``windows`` is where the lengths of windows stand that are not ``k`` rows long, or -1.
    """
    high, low = first, first + stride
    sq_high, sq_mid, sq_low = low + stride, low + 2 * stride, low + 3 * stride
    counts = sq_low + stride
    if opcode == _PREFIX:
        moments.prefix(state, x, high, low, sq_high, sq_mid, sq_low, counts, rows)
    elif opcode == _COUNT:
        moments.count(state, out, counts, k, windows, rows)
    elif opcode == _VAR:
        moments.variance(
            state, out, x, high, low, sq_high, sq_mid, sq_low, counts, k, least, windows, rows
        )
    else:
        mean = opcode == _MEAN
        moments.sum_or_mean(state, out, x, high, low, counts, k, least, mean, windows, rows)


@elementwise.step
def _decay(
    opcode: int,
    state: int,
    out: int,
    a: int,
    b: int,
    c: int,
    k: int,
    length: int,
    stride: int,
    halflife: float,
    rows: int,
) -> None:
    """The instructions of weights that fall off with time."""
    if opcode == _TILE:
        decay.tile_ordinal(state, out, a, length, rows)
    elif opcode == _DECAY:
        decay.tile(state, out, stride, a, b, c, halflife, rows)
    else:
        deviation = opcode == _DECAYED_STD
        decay.merge(state, out, a, stride, b, c, k, halflife, deviation, rows)


@elementwise.step
def _order_or_recency(
    opcode: int,
    state: int,
    out: int,
    a: int,
    b: int,
    c: int,
    own: int,
    k: int,
    m: int,
    scalar: float,
    rows: int,
) -> None:
    """Order statistics, which keep their windows in words of their own, and times of events."""
    if opcode <= _QUANTILE_WITHIN:
        windows = c if opcode == _QUANTILE_WITHIN else -1
        ordered.quantile(state, out, a, own, k, m, scalar, windows, rows)
    elif opcode <= _RANK_WITHIN:
        windows = c if opcode == _RANK_WITHIN else -1
        ordered.rank(state, out, a, own, k, m, windows, rows)
    elif opcode == _ROWS_SINCE:
        recency.rows_since(state, out, a, k, rows)
    elif opcode == _ROW_AT:
        recency.row_at(state, out, a, b, k, rows)
    elif opcode == _COUNTED:
        recency.counted(state, out, b, k, rows)
    else:
        recency.seconds_since(state, out, a, b, k, rows)


@elementwise.step
def _place(offset: int, base: int, moving: int, fixed: int) -> int:
    """Where a node's first row of the call stands."""
    return offset + (moving if offset >= fixed else base)


@elementwise.step
def _store(
    code: int,
    at: int,
    state: int,
    base: int,
    moving: int,
    fixed: int,
    start: int,
    rows: int,
    outputs: int,
    length: int,
) -> None:
    """Up to four nodes to as many output columns that follow each other."""
    first, count = get_word(code, at + 5), get_word(code, at + 6)
    for index in range(count):
        source = _place(get_word(code, at + 1 + index), base, moving, fixed)
        target = (first + index) * length + start
        if rows == 1:  # a loop over one word takes four times as long
            put_word(outputs, target, get_word(state, source))
        else:
            elementwise.copy_words(outputs, target, state, source, rows)


@elementwise.step
def _execute(
    code: int,
    instructions: int,
    scalars: int,
    state: int,
    base: int,
    fixed: int,
    step: int,
    start: int,
    rows: int,
    inputs: int,
    outputs: int,
    length: int,
) -> None:
    """All instructions over ``rows`` rows. Offsets from ``fixed`` on move with the rows."""
    moving = base + step
    for index in range(instructions):
        at = OP_WIDTH * index
        opcode, k = get_word(code, at), get_word(code, at + 5)
        out = _place(get_word(code, at + 1), base, moving, fixed)
        a = _place(get_word(code, at + 2), base, moving, fixed)
        b = _place(get_word(code, at + 3), base, moving, fixed)
        c = _place(get_word(code, at + 4), base, moving, fixed)
        if opcode == _ADD_SCALED_LAG:
            elementwise.add_scaled_lag(state, out, a, b, k, get(scalars, index), rows)
        elif _FIRST_BINARY <= opcode <= _LAST_BINARY:
            elementwise.binary(opcode, state, out, a, b, rows)
        elif opcode == _STORE:
            _store(code, at, state, base, moving, fixed, start, rows, outputs, length)
        elif _PREFIX <= opcode <= _VAR or _COUNT_WITHIN <= opcode <= _VAR_WITHIN:
            # One call for both: every call of a step is a copy of it that has to be compiled.
            within = opcode >= _COUNT_WITHIN
            _moments(
                opcode - _COUNT_WITHIN + _COUNT if within else opcode,
                state,
                out,
                a,
                out if opcode == _PREFIX else b,
                get_word(code, at + 7),
                k,
                get_word(code, at + 6),
                c if within else -1,
                rows,
            )
        elif _TILE <= opcode <= _DECAYED_STD:
            stride, halflife = get_word(code, at + 7), get(scalars, index)
            _decay(opcode, state, out, a, b, c, k, get_word(code, at + 6), stride, halflife, rows)
        elif opcode == _ROWS_WITHIN:
            moments.rows_within(state, out, a, k, get_word(code, at + 6), rows)
        elif opcode == _LAG:
            elementwise.copy_words(state, out, state, a - k, rows)
        elif _MAX_LAG <= opcode <= _MIN_LAG:
            elementwise.extreme_lag(opcode, state, out, a, b, k, rows)
        elif opcode == _MAX_LAG_BITS:
            elementwise.latest_lag(state, out, a, b, k, rows)
        elif opcode == _LOAD:
            elementwise.load(state, out, inputs, k * length + start, rows)
        elif opcode == _LOAD_BITS:
            elementwise.copy_words(state, out, inputs, k * length + start, rows)
        elif opcode == _LOG:
            logarithm.log(state, out, a, rows)
        elif opcode == _EXP:
            exponential.exp(state, out, a, rows)
        elif opcode == _POWER:
            exponential.power(state, out, a, get(scalars, index), rows)
        elif _FIRST_UNARY <= opcode <= _LAST_UNARY:
            elementwise.unary(opcode, state, out, a, rows)
        elif _FIRST_COMPARE <= opcode <= _LAST_COMPARE:
            elementwise.compare(opcode, state, out, a, b, rows)
        elif opcode == _WHERE:
            elementwise.where(state, out, a, b, c, rows)
        elif opcode == _FILL:
            elementwise.fill(state, out, a, get(scalars, index), rows)
        elif opcode == _EWM_VAR:
            x = _place(get_word(code, at + 6), base, moving, fixed)
            weighted.ewm_variance(state, out, x, a, b, c, k, get(scalars, index), rows)
        elif opcode in (_CALL, _CALL_WITHIN):
            lengths = _place(get_word(code, at + 6), base, moving, fixed)
            step_functions.call(
                state,
                out,
                a,
                b,
                c,
                int(get(scalars, index)),
                k,
                lengths if opcode == _CALL_WITHIN else -1,
                base + get_word(code, at + 8),
                get_word(code, at + 7),
                rows,
            )
        elif _QUANTILE <= opcode <= _SECONDS_SINCE:
            own = state + 8 * (base + get_word(code, at + 8))
            m = get_word(code, at + 6)
            _order_or_recency(opcode, state, out, a, b, c, own, k, m, get(scalars, index), rows)
        elif _PAIR_PREFIX <= opcode <= _SLOPE or _COVARIANCE_WITHIN <= opcode <= _SLOPE_WITHIN:
            stride = get_word(code, at + 7)
            if opcode == _PAIR_PREFIX:
                pairs.pair_prefix(state, a, b, out, stride, rows)
            else:
                within = opcode >= _COVARIANCE_WITHIN
                kind = opcode - _COVARIANCE_WITHIN + _PAIR_PREFIX + 1 if within else opcode
                lengths = _place(get_word(code, at + 6), base, moving, fixed) if within else -1
                least = int(get(scalars, index))
                pairs.comoment(kind, state, out, a, c, b, stride, k, least, lengths, rows)
        elif _TREND_PREFIX <= opcode <= _TREND_WITHIN:
            stride, least = get_word(code, at + 7), get_word(code, at + 6)
            if opcode == _TREND_PREFIX:
                trend.trend_prefix(state, a, out, stride, rows)
            else:
                lengths = c if opcode == _TREND_WITHIN else -1
                trend.slope(state, out, a, b, stride, k, least, lengths, rows)
        elif _POWER_PREFIX <= opcode <= _KURTOSIS_WITHIN:
            stride, least = get_word(code, at + 7), get_word(code, at + 6)
            if opcode == _POWER_PREFIX:
                shape.power_prefix(state, a, out, stride, rows)
            else:
                within = opcode >= _SKEWNESS_WITHIN
                kind = opcode - _SKEWNESS_WITHIN + _POWER_PREFIX + 1 if within else opcode
                lengths = c if within else -1
                shape.shape(kind, state, out, a, b, stride, k, least, lengths, rows)
        elif opcode == _EARLIER:
            recency.earlier(state, out, a, b, rows)
        elif opcode == _SECONDS_BETWEEN:
            recency.seconds_between(state, out, a, b, rows)
        elif opcode == _RANK:
            cross_section.rank(state, out, c, a, b, rows)
        elif _DEMEAN <= opcode <= _ZSCORE:
            cross_section.center(state, out, a, b, opcode == _ZSCORE, rows)
        elif opcode == _LATEST_BITS:
            cross_section.latest(state, out, a, b, rows)
        elif _PICKED <= opcode <= _PICKED_OF_OTHERS:
            places, within = (c if opcode == _PICKED_OF_OTHERS else -1), get_word(code, at + 6)
            cross_section.picked(state, out, a, b, places, k, within, rows)
        elif opcode == _LATEST_PICKED:
            cross_section.latest_picked(state, out, a, b, k, rows)


SIGNATURE: Final = numba.void(numba.int64)
CALL_WIDTH: Final = 10
"""Words of a call: addresses of program, constants, states, segments, inputs and outputs; then
numbers of mover words, words in a state, segments, and rows in inputs and outputs."""


def source_hash() -> str:
    """SHA-256 over the kernel's source files, with their names, in a fixed order."""
    digest = hashlib.sha256()
    for module in (
        opcodes,
        words,
        elementwise,
        logarithm,
        moments,
        exponential,
        weighted,
        decay,
        ordered,
        pairs,
        recency,
        shape,
        trend,
        step_functions,
        cross_section,
        exact_sums,
        bars,
    ):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def _make_run(source: int) -> Callable[..., None]:
    def run(call: int) -> None:
        # A constant in the closure is part of numba's cache key; see "Compilation" above.
        if source < 0:
            return
        program, constants = get_word(call, 0), get_word(call, 1)
        states, segments = get_word(call, 2), get_word(call, 3)
        inputs, outputs = get_word(call, 4), get_word(call, 5)
        moved, size = get_word(call, 6), get_word(call, 7)
        segment_count, length = get_word(call, 8), get_word(call, 9)
        chunk, room = get_word(program, 0), get_word(program, 1)
        fixed, instructions = get_word(program, 2), get_word(program, 3)
        code = program + 8 * HEADER
        movers = code + 8 * OP_WIDTH * instructions
        template = constants + 8 * instructions
        for segment in range(segment_count):
            at = SEGMENT_WIDTH * segment
            base = get_word(segments, at) * size
            if get_word(segments, at + 3) == 1:
                elementwise.copy_words(states, base, template, 0, size)
            row, stop = get_word(segments, at + 1), get_word(segments, at + 2)
            while row < stop:
                rows = min(chunk, stop - row)
                step = _make_room(states, base, movers, moved, room, rows)
                _execute(
                    code,
                    instructions,
                    constants,
                    states,
                    base,
                    fixed,
                    step,
                    row,
                    rows,
                    inputs,
                    outputs,
                    length,
                )
                put_word(states, base, step + rows)
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
