"""Where a row stands in the trading session of a calendar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from assay.features.definition.builder import EVENT_TIME, Builder
from assay.features.definition.opcodes import Opcode
from assay.features.definition.operators.promise import NumericClass, Operator

SESSION_INPUTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "session_window": ("session",),
        "in_session": ("closes",),
        "since_open": ("opens", "closes"),
        "until_close": ("closes",),
        "half_day": ("half_day",),
    }
)
"""Which inputs of a calendar each operator reads."""


def _in_session(builder: Builder, *, calendar: str) -> int:
    # The session has opened: only its close decides.
    closes = builder.load_bits(f"calendar:closes:{calendar}")
    return builder.emit(Opcode.EARLIER, a=builder.load_bits(EVENT_TIME), b=closes)


def _since_open(builder: Builder, *, calendar: str) -> int:
    opens = builder.load_bits(f"calendar:opens:{calendar}")
    seconds = builder.emit(Opcode.SECONDS_BETWEEN, a=builder.load_bits(EVENT_TIME), b=opens)
    return _inside(builder, seconds, calendar)


def _until_close(builder: Builder, *, calendar: str) -> int:
    closes = builder.load_bits(f"calendar:closes:{calendar}")
    seconds = builder.emit(Opcode.SECONDS_BETWEEN, a=closes, b=builder.load_bits(EVENT_TIME))
    return _inside(builder, seconds, calendar)


def _inside(builder: Builder, node: int, calendar: str) -> int:
    inside = _in_session(builder, calendar=calendar)
    return builder.emit(Opcode.WHERE, a=inside, b=node, c=builder.constant(math.nan))


def _half_day(builder: Builder, *, calendar: str) -> int:
    return builder.load(f"calendar:half_day:{calendar}")


_OUTSIDE = "the calendar is closed"

OPERATORS = (
    Operator(
        "in_session",
        NumericClass.EXACT,
        "never",
        _in_session,
        unit="1",
        formula="1 where open <= t < close of a session, else 0",
    ),
    Operator(
        "since_open",
        NumericClass.BITWISE,
        _OUTSIDE,
        _since_open,
        unit="s",
        formula="(t - open) / 10**9 ns",
    ),
    Operator(
        "until_close",
        NumericClass.BITWISE,
        _OUTSIDE,
        _until_close,
        unit="s",
        formula="(close - t) / 10**9 ns",
    ),
    Operator(
        "half_day",
        NumericClass.EXACT,
        "never",
        _half_day,
        unit="1",
        formula="1 where the last session that opened is shorter than the calendar's usual one",
    ),
)
