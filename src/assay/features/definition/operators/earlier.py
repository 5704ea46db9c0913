"""Operators of the current row and one earlier row."""

from __future__ import annotations

from assay.features.definition.builder import Builder
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
)
