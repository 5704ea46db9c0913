"""Columns, constants and calendars."""

from __future__ import annotations

from assay.features.definition.builder import Builder
from assay.features.definition.operators.promise import NumericClass, Operator


def _col(builder: Builder, *, name: str) -> int:
    return builder.load(name)


def _calendar(builder: Builder, *, kind: str) -> int:
    return builder.load(f"calendar:{kind}")


def _lit(builder: Builder, *, value: float) -> int:
    return builder.constant(value)


OPERATORS = (
    Operator("col", NumericClass.EXACT, "the column is null, NaN or infinite", _col),
    Operator("lit", NumericClass.EXACT, "never", _lit, unit="1"),
    Operator(
        "calendar",
        NumericClass.EXACT,
        "never",
        _calendar,
        unit="1 (day_number: days)",
        note="from the local date in the view's time zone",
    ),
)
