"""Operators across the entities of one event time, and the look at a named one."""

from __future__ import annotations

from typing import Final

from assay.features.definition.builder import EVENT_TIME, PLACE, Builder
from assay.features.definition.opcodes import Opcode
from assay.features.definition.operators.promise import NumericClass, Operator


def _rank(builder: Builder, x: int) -> int:
    return builder.emit(Opcode.RANK, a=x, b=builder.members, c=builder.scratch_node())


def _demean(builder: Builder, x: int) -> int:
    return builder.emit(Opcode.DEMEAN, a=x, b=builder.members)


def _zscore(builder: Builder, x: int) -> int:
    return builder.emit(Opcode.ZSCORE, a=x, b=builder.members)


def _of(builder: Builder, x: int, *, entity: str, own: int, within: int) -> int:
    opcode = Opcode.PICKED if own else Opcode.PICKED_OF_OTHERS
    place = 0 if own else builder.load(PLACE)
    times = builder.load_bits(EVENT_TIME)
    return builder.emit(opcode, a=x, b=times, c=place, k=builder.places[entity], m=within)


BY_NAME: Final = ("of",)
"""Operators that read the latest row of an entity that they name."""

OPERATORS = (
    Operator(
        "of",
        NumericClass.EXACT,
        "the entity has no row of the last `within` nanoseconds, or its value is missing there; "
        "with own=0 also in its own rows",
        _of,
        across=True,
        formula="x of the entity's latest row up to this event time",
        note="the row is known when both rows are",
    ),
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
