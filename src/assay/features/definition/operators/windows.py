"""How many rows a window of time or sessions holds.

The value is a whole number (int64). One more than ``max_rows`` means: more than it may hold.
"""

from __future__ import annotations

from assay.features.definition.builder import EVENT_TIME, Builder
from assay.features.definition.opcodes import Opcode
from assay.features.definition.operators.promise import NumericClass, Operator


def _time_window(builder: Builder, *, nanos: int, max_rows: int) -> int:
    return _rows_within(builder, builder.load_bits(EVENT_TIME), nanos, max_rows)


def _session_window(builder: Builder, *, calendar: str, sessions: int, max_rows: int) -> int:
    ordinal = builder.load_bits(f"calendar:session:{calendar}")
    return _rows_within(builder, ordinal, sessions, max_rows)


def _rows_within(builder: Builder, key: int, distance: int, max_rows: int) -> int:
    builder.reads_back(key, max_rows)
    rows = builder.emit(Opcode.ROWS_WITHIN, a=key, k=max_rows, m=distance, before=0.0)
    builder.reads_back(rows, 1)
    return rows


OPERATORS = (
    Operator(
        "time_window",
        NumericClass.EXACT,
        "never",
        _time_window,
        reach="max_rows",
        unit="rows",
        formula="rows with an event time in (t - nanos, t]",
    ),
    Operator(
        "session_window",
        NumericClass.EXACT,
        "never",
        _session_window,
        reach="max_rows",
        unit="rows",
        formula="rows since the opening of the sessions-th last session that has opened",
    ),
)
