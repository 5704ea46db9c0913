"""Expressions: what a feature is, written in Python, computed by nobody here.

An expression is an immutable tree. Building one checks what can be checked without data; compiling
it (:mod:`~assay.features.definition.compiler`) shares equal subtrees, and cycles cannot be written
down.

Rows are the rows of one entity in the order of their event times. Every window is counted in rows
and ends at the current row: nothing can look ahead.

Missing values. A value that is not finite is missing (NaN): division by zero, logarithm of zero,
overflow, a null in the data. Arithmetic, comparisons and logic with a missing operand are missing.
A rolling value is missing unless all rows of its window are valid, or at least ``min_count`` of
them where that is given.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import NoReturn, TypeAlias

from assay.domain.canonical import canonical_bytes
from assay.errors import DefinitionError
from assay.features.definition.opcodes import MAX_WINDOW

Parameter: TypeAlias = int | float | str | None
Operand: TypeAlias = "Expression | float | int"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Expression:
    """One node of an expression: an operator, what it reads and its parameters.

    Comparisons for order are operators (``a > b``); equality is :meth:`eq`, so that ``==`` keeps
    its ordinary meaning for Python objects. Two expressions mean the same when their ``identity``
    is equal.
    """

    operator: str
    inputs: tuple[Expression, ...] = ()
    parameters: tuple[tuple[str, Parameter], ...] = ()
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        written = [
            self.operator,
            [item.identity for item in self.inputs],
            [[name, _written(value)] for name, value in self.parameters],
        ]
        object.__setattr__(self, "identity", hashlib.sha256(canonical_bytes(written)).hexdigest())

    def parameter(self, name: str) -> Parameter:
        """The value of one parameter, None when the operator was given none."""
        return dict(self.parameters).get(name)

    def __repr__(self) -> str:
        own = ", ".join(f"{name}={value!r}" for name, value in self.parameters if value is not None)
        if self.operator == "col":
            return str(self.parameter("name"))
        if self.operator == "lit":
            return repr(self.parameter("value"))
        return f"{self.operator}({', '.join([*map(repr, self.inputs), *([own] if own else [])])})"

    # Arithmetic.
    def __add__(self, other: Operand) -> Expression:
        return _call("add", self, other)

    def __radd__(self, other: Operand) -> Expression:
        return _call("add", other, self)

    def __sub__(self, other: Operand) -> Expression:
        return _call("sub", self, other)

    def __rsub__(self, other: Operand) -> Expression:
        return _call("sub", other, self)

    def __mul__(self, other: Operand) -> Expression:
        return _call("mul", self, other)

    def __rmul__(self, other: Operand) -> Expression:
        return _call("mul", other, self)

    def __truediv__(self, other: Operand) -> Expression:
        return _call("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expression:
        return _call("div", other, self)

    def __neg__(self) -> Expression:
        return _call("neg", self)

    def abs(self) -> Expression:
        """Absolute value."""
        return _call("abs", self)

    def sign(self) -> Expression:
        """-1, 0 or 1."""
        return _call("sign", self)

    def sqrt(self) -> Expression:
        """Square root; missing for a negative value."""
        return _call("sqrt", self)

    def log(self) -> Expression:
        """Natural logarithm; missing for zero and negative values."""
        return _call("log", self)

    def clip(self, lower: float | None = None, upper: float | None = None) -> Expression:
        """The value, but no less than ``lower`` and no more than ``upper``."""
        if lower is None and upper is None:
            raise DefinitionError("clip without a bound", hint="give lower=, upper= or both")
        if lower is not None and upper is not None and lower > upper:
            raise DefinitionError(f"clip({lower}, {upper}): expected lower <= upper")
        result = self
        if lower is not None:
            result = _call("max", result, lower)
        if upper is not None:
            result = _call("min", result, upper)
        return result

    # Comparison and logic: 1 for true, 0 for false, missing when an operand is missing.
    def __lt__(self, other: Operand) -> Expression:
        return _call("lt", self, other)

    def __le__(self, other: Operand) -> Expression:
        return _call("le", self, other)

    def __gt__(self, other: Operand) -> Expression:
        return _call("lt", other, self)

    def __ge__(self, other: Operand) -> Expression:
        return _call("le", other, self)

    def eq(self, other: Operand) -> Expression:
        """1 where both are equal, else 0."""
        return _call("eq", self, other)

    def ne(self, other: Operand) -> Expression:
        """1 where the two differ, else 0."""
        return _call("not", _call("eq", self, other))

    def __and__(self, other: Operand) -> Expression:
        return _call("and", self, other)

    def __or__(self, other: Operand) -> Expression:
        return _call("or", self, other)

    def __invert__(self) -> Expression:
        return _call("not", self)

    def __bool__(self) -> NoReturn:
        raise DefinitionError(
            "an expression has no truth value while it is being written",
            hint="use & | ~ instead of and, or, not; where(condition, a, b) instead of if; "
            "(a < x) & (x < b) instead of a < x < b",
        )

    def is_valid(self) -> Expression:
        """1 where there is a value, 0 where it is missing."""
        return _call("is_valid", self)

    def fill_missing(self, value: float) -> Expression:
        """The value, or ``value`` where it is missing."""
        return _call("fill_missing", self, value=_number("fill_missing", value))

    # Earlier rows.
    def lag(self, rows: int) -> Expression:
        """The value ``rows`` rows ago; a negative number would look into the future."""
        return _call("lag", self, rows=_rows("lag", rows, least=0))

    def diff(self, rows: int = 1) -> Expression:
        """The value less the value ``rows`` rows ago, in the unit of the value."""
        return _call("diff", self, rows=_rows("diff", rows, least=1))

    def simple_return(self, rows: int = 1) -> Expression:
        """``x[t] / x[t - rows] - 1``, computed as ``(x[t] - x[t - rows]) / x[t - rows]``."""
        return _call("simple_return", self, rows=_rows("simple_return", rows, least=1))

    def log_return(self, rows: int = 1) -> Expression:
        """``log(x[t] / x[t - rows])``."""
        return _call("log_return", self, rows=_rows("log_return", rows, least=1))

    # Windows in rows, the current row included.
    def rolling_sum(self, window: int, *, min_count: int | None = None) -> Expression:
        """Sum over the last ``window`` rows."""
        return self._rolling("rolling_sum", window, min_count)

    def rolling_mean(self, window: int, *, min_count: int | None = None) -> Expression:
        """Mean over the last ``window`` rows."""
        return self._rolling("rolling_mean", window, min_count)

    def rolling_std(self, window: int, *, min_count: int | None = None) -> Expression:
        """Sample standard deviation (n - 1) over the last ``window`` rows."""
        return self._rolling("rolling_std", window, min_count, least_window=2)

    def rolling_var(self, window: int, *, min_count: int | None = None) -> Expression:
        """Sample variance (n - 1) over the last ``window`` rows."""
        return self._rolling("rolling_var", window, min_count, least_window=2)

    def rolling_min(self, window: int, *, min_count: int | None = None) -> Expression:
        """Smallest value of the last ``window`` rows."""
        return self._rolling("rolling_min", window, min_count)

    def rolling_max(self, window: int, *, min_count: int | None = None) -> Expression:
        """Largest value of the last ``window`` rows."""
        return self._rolling("rolling_max", window, min_count)

    def rolling_count(self, window: int) -> Expression:
        """How many of the last ``window`` rows have a value; never missing."""
        return _call("rolling_count", self, window=_window("rolling_count", window))

    def zscore(self, window: int, *, min_count: int | None = None) -> Expression:
        """``(x - rolling_mean) / rolling_std``; missing where the window is constant."""
        return self._rolling("zscore", window, min_count, least_window=2)

    def ewm_mean(
        self,
        *,
        alpha: float | None = None,
        span: float | None = None,
        halflife: float | None = None,
        horizon: int,
        min_count: int | None = None,
    ) -> Expression:
        """Exponentially weighted mean over the last ``horizon`` rows.

        Row ``t - j`` has weight ``(1 - alpha)**j``, divided by the sum of the weights of valid
        rows. Exactly one of ``alpha``, ``span`` (``alpha = 2 / (span + 1)``) and ``halflife`` in
        rows (``alpha = 1 - 0.5**(1 / halflife)``) is given. What a longer horizon would add weighs
        ``(1 - alpha)**horizon``.
        """
        return self._weighted("ewm_mean", alpha, span, halflife, horizon, min_count)

    def ewm_std(
        self,
        *,
        alpha: float | None = None,
        span: float | None = None,
        halflife: float | None = None,
        horizon: int,
        min_count: int | None = None,
    ) -> Expression:
        """Exponentially weighted standard deviation about the weighted mean; see :meth:`ewm_mean`.

        Corrected for the degrees of freedom by ``W**2 / (W**2 - sum of squared weights)``.
        """
        return self._weighted("ewm_std", alpha, span, halflife, horizon, min_count)

    # Across the members of the view's universe at the same event time.
    def cs_rank(self) -> Expression:
        """Percent rank in (0, 1] among members at the same event time; ties share their mean."""
        return _call("cs_rank", self)

    def cs_demean(self) -> Expression:
        """The value less the members' mean at the same event time."""
        return _call("cs_demean", self)

    def cs_zscore(self) -> Expression:
        """Distance from the members' mean in their sample standard deviations."""
        return _call("cs_zscore", self)

    def _rolling(
        self, operator: str, window: int, min_count: int | None, least_window: int = 1
    ) -> Expression:
        rows = _window(operator, window, least_window)
        return _call(
            operator, self, window=rows, min_count=_least(operator, min_count, rows, least_window)
        )

    def _weighted(
        self,
        operator: str,
        alpha: float | None,
        span: float | None,
        halflife: float | None,
        horizon: int,
        min_count: int | None,
    ) -> Expression:
        least = 2 if operator == "ewm_std" else 1
        rows = _window(operator, horizon, least)
        return _call(
            operator,
            self,
            alpha=_alpha(operator, alpha, span, halflife),
            horizon=rows,
            min_count=_least(operator, min_count, rows, least),
        )


def col(name: str) -> Expression:
    """A column of the source, by name."""
    if not name or not isinstance(name, str):
        raise DefinitionError(f"col({name!r}): expected the name of a column")
    return _call("col", name=name)


def lit(value: float) -> Expression:
    """A constant; plain numbers become one by themselves."""
    return _call("lit", value=_number("lit", value))


def where(condition: Expression, then: Operand, otherwise: Operand) -> Expression:
    """``then`` where the condition is true (not 0), ``otherwise`` where it is 0, else missing."""
    return _call("where", condition, then, otherwise)


def month_start() -> Expression:
    """1 on the first weekday (Monday to Friday) of a month, in the view's time zone.

    Calendar flags come from the date alone. Weekdays, not sessions: whether a session is the last
    of its month is not known on the day unless an exchange calendar says so.
    """
    return _call("calendar", kind="month_start")


def month_end() -> Expression:
    """1 on the last weekday of a month; see :func:`month_start`."""
    return _call("calendar", kind="month_end")


def quarter_end() -> Expression:
    """1 on the last weekday of March, June, September and December."""
    return _call("calendar", kind="quarter_end")


def day_of_week() -> Expression:
    """0 for Monday to 6 for Sunday, in the view's time zone."""
    return _call("calendar", kind="day_of_week")


def day_number() -> Expression:
    """Days since 1970-01-01 of the local date, in the view's time zone."""
    return _call("calendar", kind="day_number")


def days_since_previous_row() -> Expression:
    """Calendar days between the local dates of this row and the entity's previous row."""
    return day_number().diff(1)


def _call(operator: str, *inputs: Operand, **parameters: Parameter) -> Expression:
    operands = tuple(
        item if isinstance(item, Expression) else lit(_number(operator, item)) for item in inputs
    )
    return Expression(operator, operands, tuple(sorted(parameters.items())))


def _written(value: Parameter) -> Parameter:
    # Hexadecimal is exact and tells 1 from 1.0, which decimal JSON does not do reliably.
    return value.hex() if isinstance(value, float) else value


def _number(operator: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DefinitionError(
            f"{operator}: {value!r} is {type(value).__name__}, expected an expression or a number",
            hint=f"a column is col({value!r})" if isinstance(value, str) else None,
        )
    if not math.isfinite(value):
        raise DefinitionError(f"{operator}: {value} is not finite")
    return float(value)


def _whole(operator: str, what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise DefinitionError(f"{operator}: {what} {value!r}, expected a whole number of rows")
    return value


def _rows(operator: str, rows: int, *, least: int) -> int:
    number = _whole(operator, "rows", rows)
    if number < 0:
        raise DefinitionError(
            f"{operator}({rows}): a negative number of rows looks into the future",
            hint=f"features use the past only; for a value {-number} rows ahead write a label",
        )
    if number < least or number > MAX_WINDOW:
        raise DefinitionError(f"{operator}({rows}): expected {least} to {MAX_WINDOW:,} rows")
    return number


def _window(operator: str, window: int, least: int = 1) -> int:
    number = _whole(operator, "window", window)
    if number < least or number > MAX_WINDOW:
        raise DefinitionError(
            f"{operator}: window {window}, expected {least} to {MAX_WINDOW:,} rows"
        )
    return number


def _least(operator: str, min_count: int | None, window: int, least: int) -> int | None:
    if min_count is None:
        return None
    number = _whole(operator, "min_count", min_count)
    if not least <= number <= window:
        raise DefinitionError(f"{operator}: min_count {min_count}, expected {least} to {window}")
    # All rows is what None means: one meaning, one identity.
    return None if number == window else number


def _alpha(operator: str, alpha: float | None, span: float | None, halflife: float | None) -> float:
    given = {"alpha": alpha, "span": span, "halflife": halflife}
    named = {name: _number(operator, value) for name, value in given.items() if value is not None}
    if len(named) != 1:
        raise DefinitionError(
            f"{operator}: {', '.join(named) or 'nothing'} given",
            hint="give exactly one of alpha=, span= and halflife=",
        )
    ((name, value),) = named.items()
    if name == "span":
        result = 2.0 / (value + 1.0) if value >= 1.0 else math.nan
    elif name == "halflife":
        result = _alpha_of_halflife(value) if value > 0.0 else math.nan
    else:
        result = value
    if not 0.0 < result < 1.0:
        raise DefinitionError(
            f"{operator}: {name} {value} gives alpha {result}, expected 0 < alpha < 1"
        )
    return result


def _alpha_of_halflife(rows: float) -> float:
    # Decimal arithmetic has the same digits everywhere; the mathematics library has not.
    with localcontext() as context:
        context.prec = 40
        return float(1 - Decimal("0.5") ** (1 / Decimal(rows)))
