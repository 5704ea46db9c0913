"""A user's own step over a window."""

from __future__ import annotations

import ast

from assay.features.definition.builder import Builder
from assay.features.definition.opcodes import Opcode
from assay.features.definition.operators.moments import where_enough
from assay.features.definition.operators.promise import NumericClass, Operator


def _step_function(
    builder: Builder, *operands: int, window: int, min_count: int | None, source: str
) -> int:
    inputs = _arguments(source)
    values, rows = operands[:inputs], operands[-1] if len(operands) > inputs else -1
    for node in values:
        builder.reads_back(node, window - 1)
    a, b, c = [*values, 0, 0][:3]
    node = builder.emit(
        Opcode.CALL if rows < 0 else Opcode.CALL_WITHIN,
        a=a,
        b=b,
        c=c,
        k=window,
        m=max(rows, 0),
        scalar=float(len(values)),
        own=len(values) * window,
        function=builder.function(source),
    )
    both = values[0]
    for other in values[1:]:
        both = builder.emit(Opcode.MIN, a=both, b=other)  # there where all inputs are
        builder.reads_back(both, window - 1)
    return where_enough(builder, node, both, rows, window=window, min_count=min_count, least=1)


def _arguments(source: str) -> int:
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    return len(function.args.posonlyargs) + len(function.args.args)


OPERATORS = (
    Operator(
        "step_function",
        NumericClass.BITWISE,
        "fewer complete rows in the window than min_count (default: all of them), more rows than "
        "max_rows, the function raises, or its result is not finite",
        _step_function,
        reach="window - 1",
        state="inputs * window",
        unit="what the function gives",
        note="the same compiled function in both drivers; what it takes from math or np is "
        "computed by the libraries of the machine, so its bits are those of one build",
    ),
)
