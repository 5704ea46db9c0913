"""Expressions: what a feature is, written in Python, computed by nobody here.

An expression is an immutable tree. Building one checks what can be checked without data; compiling
it (:mod:`~assay.features.definition.compiler`) shares equal subtrees, and cycles cannot be written
down.

Rows are the rows of one entity in the order of their event times. Every window ends at the current
row: nothing can look ahead.

Missing values. A value that is not finite is missing (NaN): division by zero, logarithm of zero,
overflow, a null in the data. Arithmetic, comparisons and logic with a missing operand are missing.
A rolling value is missing unless all rows of its window are valid, or at least ``min_count`` of
them where that is given.
"""

from __future__ import annotations

from typing import TypeAlias

from assay.errors import DefinitionError
from assay.features.definition.operations.across import Across
from assay.features.definition.operations.arithmetic import Arithmetic
from assay.features.definition.operations.earlier import Earlier
from assay.features.definition.operations.ordered import Ordered
from assay.features.definition.operations.pairs import Pairs
from assay.features.definition.operations.rolling import Rolling
from assay.features.definition.operations.tree import constant, node, number
from assay.features.definition.operations.weighted import Weighted


class Expression(Arithmetic, Earlier, Rolling, Pairs, Ordered, Weighted, Across):
    """One node of an expression: an operator, what it reads and its parameters.

    Comparisons for order are operators (``a > b``); equality is :meth:`eq`, so that ``==`` keeps
    its ordinary meaning for Python objects. Two expressions mean the same when their ``identity``
    is equal.
    """

    __slots__ = ()


Operand: TypeAlias = Expression | float | int


def col(name: str) -> Expression:
    """A column of the source, by name."""
    if not name or not isinstance(name, str):
        raise DefinitionError(f"col({name!r}): expected the name of a column")
    return node(Expression, "col", name=name)


def lit(value: float) -> Expression:
    """A constant; plain numbers become one by themselves."""
    return constant(Expression, number("lit", value))


def where(condition: Expression, then: Operand, otherwise: Operand) -> Expression:
    """``then`` where the condition is true (not 0), ``otherwise`` where it is 0, else missing."""
    return node(Expression, "where", condition, then, otherwise)


def month_start() -> Expression:
    """1 on the first weekday (Monday to Friday) of a month, in the view's time zone.

    Calendar flags come from the date alone. Weekdays, not sessions: whether a session is the last
    of its month is not known on the day unless an exchange calendar says so.
    """
    return node(Expression, "calendar", kind="month_start")


def month_end() -> Expression:
    """1 on the last weekday of a month; see :func:`month_start`."""
    return node(Expression, "calendar", kind="month_end")


def quarter_end() -> Expression:
    """1 on the last weekday of March, June, September and December."""
    return node(Expression, "calendar", kind="quarter_end")


def day_of_week() -> Expression:
    """0 for Monday to 6 for Sunday, in the view's time zone."""
    return node(Expression, "calendar", kind="day_of_week")


def day_number() -> Expression:
    """Days since 1970-01-01 of the local date, in the view's time zone."""
    return node(Expression, "calendar", kind="day_number")


def days_since_previous_row() -> Expression:
    """Calendar days between the local dates of this row and the entity's previous row."""
    return day_number().diff(1)


def in_session(calendar: str) -> Expression:
    """1 while a session of a calendar is open (``open <= t < close``), else 0.

    The calendar is one of the view's, by name: an exchange, or a session of the currency market
    such as fx_london. Early closes and clock changes are in its table.
    """
    return node(Expression, "in_session", calendar=_calendar_name(calendar))


def since_open(calendar: str) -> Expression:
    """Seconds since the session opened; missing while the calendar is closed."""
    return node(Expression, "since_open", calendar=_calendar_name(calendar))


def until_close(calendar: str) -> Expression:
    """Seconds until the session closes; missing while the calendar is closed."""
    return node(Expression, "until_close", calendar=_calendar_name(calendar))


def half_day(calendar: str) -> Expression:
    """1 where the last session that opened is shorter than the calendar's usual one."""
    return node(Expression, "half_day", calendar=_calendar_name(calendar))


def _calendar_name(calendar: str) -> str:
    if not calendar or not isinstance(calendar, str):
        raise DefinitionError(f"calendar {calendar!r}: expected a name such as XNYS or fx_london")
    return calendar
