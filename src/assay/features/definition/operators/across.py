"""Operators across the entities of one event time."""

from __future__ import annotations

from assay.features.definition.builder import Builder
from assay.features.definition.opcodes import Opcode
from assay.features.definition.operators.promise import NumericClass, Operator


def _rank(builder: Builder, x: int) -> int:
    return builder.emit(Opcode.RANK, a=x, b=builder.members, c=builder.scratch_node())


def _demean(builder: Builder, x: int) -> int:
    return builder.emit(Opcode.DEMEAN, a=x, b=builder.members)


def _zscore(builder: Builder, x: int) -> int:
    return builder.emit(Opcode.ZSCORE, a=x, b=builder.members)


OPERATORS = (
    Operator(
        "cs_rank",
        NumericClass.EXACT,
        "no member, or missing",
        _rank,
        unit="1",
        across=True,
        note="ties share the mean of their ranks",
    ),
    Operator(
        "cs_demean",
        NumericClass.BITWISE,
        "no member, or missing",
        _demean,
        across=True,
        note="compensated sum in the order of entity names",
    ),
    Operator(
        "cs_zscore",
        NumericClass.BITWISE,
        "no member, missing, fewer than 2 values, or all equal",
        _zscore,
        unit="1",
        across=True,
        note="sample standard deviation (n - 1), two passes in the order of entity names",
    ),
)
