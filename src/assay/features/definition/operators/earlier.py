"""Operators of the current row and one earlier row."""

from __future__ import annotations

import struct

from assay.features.definition.builder import EVENT_TIME, Builder
from assay.features.definition.opcodes import Opcode
from assay.features.definition.operators.promise import NumericClass, Operator


def lag(builder: Builder, x: int, *, rows: int) -> int:
    """The node ``rows`` rows ago."""
    if rows == 0:
        return x
    builder.reads_back(x, rows)
    return builder.emit(Opcode.LAG, a=x, k=rows)


def _diff(builder: Builder, x: int, *, rows: int) -> int:
    return builder.emit(Opcode.SUB, a=x, b=lag(builder, x, rows=rows))


def _simple_return(builder: Builder, x: int, *, rows: int) -> int:
    earlier = lag(builder, x, rows=rows)
    return builder.emit(Opcode.DIV, a=_diff(builder, x, rows=rows), b=earlier)


def _log_return(builder: Builder, x: int, *, rows: int) -> int:
    ratio = builder.emit(Opcode.DIV, a=x, b=lag(builder, x, rows=rows))
    return builder.emit(Opcode.LOG, a=ratio)


def _rows_since(builder: Builder, condition: int, rows: int) -> int:
    """Rows since a condition held, as int64."""
    never = struct.unpack("<d", struct.pack("<q", rows))[0]  # the float with the bits of the number
    since = builder.emit(Opcode.ROWS_SINCE, a=condition, k=rows, before=never)
    builder.reads_back(since, 1)
    return since


def _last_valid(builder: Builder, x: int, *, max_rows: int) -> int:
    since = _rows_since(builder, builder.emit(Opcode.VALID, a=x), max_rows)
    builder.reads_back(x, max_rows - 1)
    return builder.emit(Opcode.ROW_AT, a=x, b=since, k=max_rows)


def _count_since(builder: Builder, condition: int, *, max_rows: int) -> int:
    return builder.emit(Opcode.COUNTED, b=_rows_since(builder, condition, max_rows), k=max_rows)


def _time_since(builder: Builder, condition: int, *, max_rows: int) -> int:
    since = _rows_since(builder, condition, max_rows)
    times = builder.load_bits(EVENT_TIME)
    builder.reads_back(times, max_rows - 1)
    return builder.emit(Opcode.SECONDS_SINCE, a=times, b=since, k=max_rows)


_NEVER = "it was not true in the last max_rows rows"
_EITHER = "either row is missing"

OPERATORS = (
    Operator(
        "lag", NumericClass.EXACT, "that row is missing or before the first", lag, reach="rows"
    ),
    Operator("diff", NumericClass.BITWISE, _EITHER, _diff, reach="rows"),
    Operator(
        "simple_return",
        NumericClass.BITWISE,
        _EITHER + ", or the earlier one is zero",
        _simple_return,
        reach="rows",
        unit="1",
        formula="(x[t] - x[t - rows]) / x[t - rows]",
    ),
    Operator(
        "log_return",
        NumericClass.BITWISE,
        _EITHER + ", or their ratio is not positive",
        _log_return,
        reach="rows",
        unit="1",
        formula="log(x[t] / x[t - rows])",
    ),
    Operator(
        "last_valid",
        NumericClass.EXACT,
        "the last max_rows rows are missing",
        _last_valid,
        reach="max_rows - 1",
        state="max_rows",
    ),
    Operator(
        "rows_since",
        NumericClass.EXACT,
        _NEVER,
        _count_since,
        reach="max_rows - 1",
        state="1",
        unit="rows",
    ),
    Operator(
        "time_since",
        NumericClass.BITWISE,
        _NEVER,
        _time_since,
        reach="max_rows - 1",
        state="max_rows",
        unit="s",
        formula="(event time - event time of that row) / 10**9 ns",
    ),
)
