"""Exponentially weighted windows."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Self

from assay.errors import DefinitionError
from assay.features.definition.operations.tree import (
    Tree,
    least_rows,
    node,
    number,
    over_window,
    window_rows,
)
from assay.features.definition.windows import Duration, SessionWindow, TimeWindow


class Weighted(Tree):
    """Operators whose weights fall off exponentially, over a declared horizon."""

    __slots__ = ()

    def ewm_mean(
        self,
        *,
        alpha: float | None = None,
        span: float | None = None,
        halflife: float | Duration | None = None,
        horizon: int | TimeWindow,
        min_count: int | None = None,
    ) -> Self:
        """Exponentially weighted mean over the last ``horizon`` rows.

        Row ``t - j`` has weight ``(1 - alpha)**j``, divided by the sum of the weights of valid
        rows. Exactly one of ``alpha``, ``span`` (``alpha = 2 / (span + 1)``) and ``halflife`` in
        rows (``alpha = 1 - 0.5**(1 / halflife)``) is given. What a longer horizon would add weighs
        ``(1 - alpha)**horizon``.

        With a ``halflife`` of type :class:`Duration` and a ``horizon`` of type
        :class:`TimeWindow`, a row has weight ``2**-(age / halflife)``, its age in time. The horizon
        then reaches back by up to a sixteenth more: to the beginning of a stretch of that length,
        counted from the epoch.
        """
        return self._weighted("ewm_mean", alpha, span, halflife, horizon, min_count)

    def ewm_std(
        self,
        *,
        alpha: float | None = None,
        span: float | None = None,
        halflife: float | Duration | None = None,
        horizon: int | TimeWindow,
        min_count: int | None = None,
    ) -> Self:
        """Exponentially weighted standard deviation about the weighted mean; see :meth:`ewm_mean`.

        Corrected for the degrees of freedom by ``W**2 / (W**2 - sum of squared weights)``.
        """
        return self._weighted("ewm_std", alpha, span, halflife, horizon, min_count)

    def _weighted(
        self,
        operator: str,
        alpha: float | None,
        span: float | None,
        halflife: float | Duration | None,
        horizon: int | TimeWindow,
        min_count: int | None,
    ) -> Self:
        least = 2 if operator == "ewm_std" else 1
        given: object = horizon
        if isinstance(given, SessionWindow):
            raise DefinitionError(
                f"{operator}: horizon {horizon!r}, expected rows or a TimeWindow",
                hint="weights fall off with rows or with time, not with sessions",
            )
        if isinstance(halflife, Duration) or isinstance(horizon, TimeWindow):
            if not (isinstance(halflife, Duration) and isinstance(horizon, TimeWindow)):
                raise DefinitionError(
                    f"{operator}: halflife {halflife!r} with horizon {horizon!r}",
                    hint="both in rows, or halflife=Duration.of(minutes=30) with "
                    "horizon=TimeWindow.of(hours=10, max_rows=1_000)",
                )
            return self._in_time(
                operator, span if alpha is None else alpha, halflife, horizon, min_count, least
            )
        return over_window(
            operator,
            (self,),
            horizon,
            min_count=min_count,
            least=least,
            alpha=_alpha(operator, alpha, span, halflife),
        )

    def _in_time(
        self,
        operator: str,
        other: float | None,
        halflife: Duration,
        horizon: TimeWindow,
        min_count: int | None,
        least: int,
    ) -> Self:
        if other is not None:
            raise DefinitionError(
                f"{operator}: alpha or span beside a halflife in time", hint="halflife alone"
            )
        if horizon.nanos < halflife.nanos:
            raise DefinitionError(
                f"{operator}: horizon {horizon.nanos} ns is shorter than the halflife "
                f"{halflife.nanos} ns",
                hint="ten halflives leave out a thousandth of the weight",
            )
        window = window_rows(operator, horizon.max_rows, least)
        return node(
            type(self),
            f"{operator}_in_time",
            self,
            halflife=halflife.nanos,
            horizon=horizon.nanos,
            min_count=least_rows(operator, min_count, window, least, fixed=False),
            window=window,
        )


def _alpha(operator: str, alpha: float | None, span: float | None, halflife: float | None) -> float:
    given = {"alpha": alpha, "span": span, "halflife": halflife}
    named = {name: number(operator, value) for name, value in given.items() if value is not None}
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
