"""The operators a definition may use, each with its promises.

``OPERATORS`` is the single table from which documentation and manifests are made.

Numeric classes

* ``exact``: the result is what real arithmetic gives, or an integer.
* ``bitwise``: rounded, but the same bits on every machine, in every driver, chunk and process, from
  the window alone.
* ``tolerance``: bitwise as well, and an approximation of something else; the bound is in ``note``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from assay.features.definition.expressions import Expression


class NumericClass(StrEnum):
    """How a result relates to the number it stands for."""

    EXACT = "exact"
    BITWISE = "bitwise"
    TOLERANCE = "tolerance"


@dataclass(frozen=True, slots=True)
class Operator:
    """What one operator promises.

    Attributes
    ----------
    name: as in expressions and manifests.
    numeric: the numeric class.
    missing: when the result is missing (NaN).
    reach: earlier rows that the result depends on, besides those of its inputs: a number, or the
        parameter that gives it and what is taken off, such as ``window - 1``.
    state: words of state for one entity, besides the history of its inputs.
    unit: the unit of the result, given the unit u of the first input.
    across: whether it reads other entities at the same event time (second stage).
    version: changes when any bit of any result changes.
    note: accuracy, method and range.
    """

    name: str
    numeric: NumericClass
    missing: str
    reach: str = "0"
    state: str = "0"
    unit: str = "u"
    across: bool = False
    version: int = 1
    note: str = ""

    def look_back(self, expression: Expression) -> int:
        """Earlier rows that this operator itself adds to the look-back of its inputs."""
        name, _, less = self.reach.partition(" - ")
        if name.isdigit():
            return int(name)
        value = expression.parameter(name)
        assert isinstance(value, int)
        return value - int(less or 0)

    def to_json(self) -> dict[str, Any]:
        return {name: _plain(getattr(self, name)) for name in self.__slots__}


def _plain(value: object) -> object:
    return str(value) if isinstance(value, NumericClass) else value


_ANY = "any operand is missing"
_FULL = "fewer valid rows in the window than min_count (default: all of them)"
_EXACT, _BITWISE, _TOLERANCE = NumericClass.EXACT, NumericClass.BITWISE, NumericClass.TOLERANCE
_SUMS = "6 * window, shared by all windows over the same input"
_MOMENTS = (
    "exact integer sums where all values of the window are below 2**24 in magnitude (quantum "
    "2**-64), else compensated sums over the window in a fixed order"
)
_DOUBLING = "window (sums or extremes over 1, 2, 4, ... rows), shared by all windows over the input"

_TABLE = (
    Operator("col", _EXACT, "the column is null, NaN or infinite"),
    Operator("lit", _EXACT, "never", unit="1"),
    Operator(
        "calendar",
        _EXACT,
        "never",
        unit="1 (day_number: days)",
        note="from the local date in the view's time zone",
    ),
    Operator("add", _BITWISE, _ANY),
    Operator("sub", _BITWISE, _ANY),
    Operator("mul", _BITWISE, _ANY, unit="u * v"),
    Operator("div", _BITWISE, _ANY + ", or the divisor is zero", unit="u / v"),
    Operator("max", _EXACT, _ANY),
    Operator("min", _EXACT, _ANY),
    Operator("neg", _EXACT, _ANY),
    Operator("abs", _EXACT, _ANY),
    Operator("sign", _EXACT, _ANY, unit="1"),
    Operator("sqrt", _BITWISE, _ANY + " or negative", unit="sqrt(u)", note="correctly rounded"),
    Operator("log", _BITWISE, _ANY + ", zero or negative", unit="1", note="error below 1 ulp"),
    Operator("lt", _EXACT, _ANY, unit="1"),
    Operator("le", _EXACT, _ANY, unit="1"),
    Operator("eq", _EXACT, _ANY, unit="1"),
    Operator("and", _EXACT, _ANY, unit="1"),
    Operator("or", _EXACT, _ANY, unit="1"),
    Operator("not", _EXACT, _ANY, unit="1"),
    Operator(
        "where",
        _EXACT,
        "the condition or the chosen branch is missing",
        unit="that of the branches",
    ),
    Operator("is_valid", _EXACT, "never", unit="1"),
    Operator("fill_missing", _EXACT, "never"),
    Operator("lag", _EXACT, "that row is missing or before the first", reach="rows"),
    Operator("diff", _BITWISE, "either row is missing", reach="rows"),
    Operator(
        "simple_return",
        _BITWISE,
        "either row is missing, or the earlier one is zero",
        reach="rows",
        unit="1",
    ),
    Operator(
        "log_return",
        _BITWISE,
        "either row is missing, or their ratio is not positive",
        reach="rows",
        unit="1",
    ),
    Operator("rolling_count", _EXACT, "never", reach="window - 1", state=_SUMS, unit="rows"),
    Operator("rolling_sum", _BITWISE, _FULL, reach="window - 1", state=_SUMS, note=_MOMENTS),
    Operator("rolling_mean", _BITWISE, _FULL, reach="window - 1", state=_SUMS, note=_MOMENTS),
    Operator(
        "rolling_var",
        _TOLERANCE,
        _FULL + ", or fewer than 2",
        reach="window - 1",
        state=_SUMS,
        unit="u**2",
        note="relative error <= 2e-9; " + _MOMENTS,
    ),
    Operator(
        "rolling_std",
        _TOLERANCE,
        _FULL + ", or fewer than 2",
        reach="window - 1",
        state=_SUMS,
        note="relative error <= 1e-9; " + _MOMENTS,
    ),
    Operator(
        "zscore",
        _TOLERANCE,
        _FULL + ", fewer than 2, the row itself is missing, or the window is constant",
        reach="window - 1",
        state=_SUMS,
        unit="1",
        note="from rolling_mean and rolling_std",
    ),
    Operator("rolling_min", _EXACT, _FULL, reach="window - 1", state=_DOUBLING),
    Operator("rolling_max", _EXACT, _FULL, reach="window - 1", state=_DOUBLING),
    Operator(
        "ewm_mean",
        _TOLERANCE,
        _FULL,
        reach="horizon - 1",
        state="horizon, twice with min_count",
        note="differs from an infinite horizon by a share (1 - alpha)**horizon of the weight",
    ),
    Operator(
        "ewm_std",
        _TOLERANCE,
        _FULL,
        reach="horizon - 1",
        state="2 * horizon, 4 times with min_count",
        note="as ewm_mean; relative error <= 1e-9 for values below 1e150",
    ),
    Operator(
        "cs_rank",
        _EXACT,
        "no member, or missing",
        unit="1",
        across=True,
        note="ties share the mean of their ranks",
    ),
    Operator(
        "cs_demean",
        _BITWISE,
        "no member, or missing",
        across=True,
        note="compensated sum in the order of entity names",
    ),
    Operator(
        "cs_zscore",
        _BITWISE,
        "no member, missing, fewer than 2 values, or all equal",
        unit="1",
        across=True,
        note="sample standard deviation (n - 1), two passes in the order of entity names",
    ),
)

OPERATORS: Final[Mapping[str, Operator]] = MappingProxyType({item.name: item for item in _TABLE})
"""Every operator by name, in the order of the documentation."""
