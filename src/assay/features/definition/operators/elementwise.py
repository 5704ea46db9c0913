"""Operators of the current row alone."""

from __future__ import annotations

from collections.abc import Callable

from assay.features.definition.builder import Builder
from assay.features.definition.opcodes import Opcode
from assay.features.definition.operators.promise import ANY, NumericClass, Operator


def _as(opcode: Opcode) -> Callable[..., int]:
    """The lowering of an operator that is one instruction."""

    def lower(builder: Builder, *operands: int) -> int:
        a, b, c = [*operands, 0, 0, 0][:3]
        return builder.emit(opcode, a=a, b=b, c=c)

    return lower


def _power(builder: Builder, x: int, *, exponent: float) -> int:
    # What the basic operations give correctly rounded is left to them.
    if exponent == 1.0:
        return x
    if exponent == 0.5:
        return builder.emit(Opcode.SQRT, a=x)
    if exponent == -1.0:
        return builder.emit(Opcode.DIV, a=builder.constant(1.0), b=x)
    if exponent == 2.0:
        return builder.emit(Opcode.MUL, a=x, b=x)
    return builder.emit(Opcode.POWER, a=x, scalar=exponent)


def _fill_missing(builder: Builder, x: int, *, value: float) -> int:
    return builder.emit(Opcode.FILL, a=x, scalar=value)


_EXACT, _BITWISE = NumericClass.EXACT, NumericClass.BITWISE

OPERATORS = (
    Operator("add", _BITWISE, ANY, _as(Opcode.ADD)),
    Operator("sub", _BITWISE, ANY, _as(Opcode.SUB)),
    Operator("mul", _BITWISE, ANY, _as(Opcode.MUL), unit="u * v"),
    Operator("div", _BITWISE, ANY + ", or the divisor is zero", _as(Opcode.DIV), unit="u / v"),
    Operator("max", _EXACT, ANY, _as(Opcode.MAX)),
    Operator("min", _EXACT, ANY, _as(Opcode.MIN)),
    Operator("neg", _EXACT, ANY, _as(Opcode.NEG)),
    Operator("abs", _EXACT, ANY, _as(Opcode.ABS)),
    Operator("sign", _EXACT, ANY, _as(Opcode.SIGN), unit="1"),
    Operator(
        "sqrt",
        _BITWISE,
        ANY + " or negative",
        _as(Opcode.SQRT),
        unit="sqrt(u)",
        note="correctly rounded",
    ),
    Operator(
        "log",
        _BITWISE,
        ANY + ", zero or negative",
        _as(Opcode.LOG),
        unit="1",
        note="error below 1 ulp",
    ),
    Operator(
        "exp",
        _BITWISE,
        ANY + ", or the result overflows",
        _as(Opcode.EXP),
        unit="1",
        note="error below 1 ulp",
    ),
    Operator(
        "power",
        NumericClass.TOLERANCE,
        ANY + ", zero to a negative power, or a negative number to a power that is not whole",
        _power,
        unit="u**exponent",
        note="relative error below 2**-52 + |exponent * log(x)| * 2**-58; powers 0.5, 1, 2 and -1 "
        "are correctly rounded",
    ),
    Operator("lt", _EXACT, ANY, _as(Opcode.LT), unit="1"),
    Operator("le", _EXACT, ANY, _as(Opcode.LE), unit="1"),
    Operator("eq", _EXACT, ANY, _as(Opcode.EQ), unit="1"),
    Operator("and", _EXACT, ANY, _as(Opcode.AND), unit="1"),
    Operator("or", _EXACT, ANY, _as(Opcode.OR), unit="1"),
    Operator("not", _EXACT, ANY, _as(Opcode.NOT), unit="1"),
    Operator(
        "where",
        _EXACT,
        "the condition or the chosen branch is missing",
        _as(Opcode.WHERE),
        unit="that of the branches",
    ),
    Operator("is_valid", _EXACT, "never", _as(Opcode.VALID), unit="1"),
    Operator("fill_missing", _EXACT, "never", _fill_missing),
)
