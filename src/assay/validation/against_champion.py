"""What trading the candidate's scores would have earned beside the champion's, on equal terms."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from assay.domain.evidence import Evidence
from assay.statistics.difference import sharpe_difference
from assay.statistics.hac import MIN_DATES, constant
from assay.statistics.panel import FloatArray, IntArray
from assay.statistics.statistic import LEVEL, number
from assay.validation.backtest import Backtest, Costs, Market, simulate
from assay.validation.records import undefined
from assay.validation.sharpe import MAX_UNPRICED, PERIODS_PER_YEAR

_NO_CHAMPION = "there is no champion, or it scored none of these rows"


def drawdown_evidence(table: pl.DataFrame, *, costs: Costs | None = None) -> Evidence:
    """``max_drawdown`` of trading the scores.

    Parameters
    ----------
    table: one row per instrument and date: ``as_of`` (Int64), ``instrument``, ``prediction``,
        ``next_return``, as for :func:`assay.validation.alpha_evidence`.
    """
    convention = _drawdown_convention(costs or Costs())
    backtest = _backtest(table, "prediction", costs or Costs())
    size = len(backtest.dates)
    problem = _problem(backtest)
    if problem is not None:
        return undefined("max_drawdown", convention, problem, sample_size=size)
    return Evidence("max_drawdown", backtest.max_drawdown(), size, convention)


def champion_evidence(
    table: pl.DataFrame,
    *,
    generator: np.random.Generator,
    costs: Costs | None = None,
    periods_per_year: int = PERIODS_PER_YEAR,
) -> list[Evidence]:
    """``sharpe_vs_champion`` and ``max_drawdown_vs_champion``.

    Both are traded on the rows that both scored, at the same prices and costs. Poor data gives a
    value of None with its reason.

    Parameters
    ----------
    table: as for :func:`drawdown_evidence`, and ``champion``: the champion's score of each row,
        null where it has none; without the column nothing is compared.
    generator: for the resampled dates of the interval and the p-value.
    """
    assumed = costs or Costs()
    terms = (
        f"on the rows that both scored, after costs of {assumed.basis_points:g} basis points of "
        "traded notional"
    )
    conventions = {
        "sharpe_vs_champion": (
            f"annualised Sharpe ratio minus the champion's, {terms}; mean / sd (ddof 1) x "
            f"sqrt({periods_per_year}); interval and one-sided p-value by the studentised circular "
            "block bootstrap of Ledoit and Wolf (2008)"
        ),
        "max_drawdown_vs_champion": f"maximum drawdown minus the champion's, {terms}",
    }
    problem: str | None = _NO_CHAMPION
    mine = theirs = None
    if "champion" in table.columns:
        both = table.filter(_finite("prediction") & _finite("champion"))
        if len(both):
            mine, theirs = (_backtest(both, name, assumed) for name in ("prediction", "champion"))
            problem = _problem(mine) or _problem(theirs, "the champion's ")
    if problem is not None or mine is None or theirs is None:
        size = 0 if mine is None else len(mine.dates)
        return [
            undefined(name, convention, str(problem), sample_size=size)
            for name, convention in conventions.items()
        ]
    deeper = mine.max_drawdown(), theirs.max_drawdown()
    return [
        _ratios(
            conventions["sharpe_vs_champion"], mine, theirs, math.sqrt(periods_per_year), generator
        ),
        Evidence(
            "max_drawdown_vs_champion",
            deeper[0] - deeper[1],
            len(mine.dates),
            conventions["max_drawdown_vs_champion"],
            details={"candidate": number(deeper[0]), "champion": number(deeper[1])},
        ),
    ]


def net_returns(table: pl.DataFrame, *, costs: Costs | None = None) -> tuple[IntArray, FloatArray]:
    """The dates of a backtest and its returns after costs, both of shape (T,).

    Parameters
    ----------
    table: as for :func:`drawdown_evidence`.
    """
    backtest = _backtest(table, "prediction", costs or Costs())
    return backtest.dates, backtest.net()


def _ratios(
    convention: str,
    mine: Backtest,
    theirs: Backtest,
    year: float,
    generator: np.random.Generator,
) -> Evidence:
    found = sharpe_difference(mine.net(), theirs.net(), generator=generator)
    ratios = [float(one.net().mean() / one.net().std(ddof=1)) * year for one in (mine, theirs)]
    if found.value is None:
        return undefined(
            "sharpe_vs_champion", convention, str(found.undefined), sample_size=found.sample_size
        )
    interval = found.interval
    return Evidence(
        "sharpe_vs_champion",
        found.value * year,
        found.sample_size,
        convention,
        interval=None if interval is None else (interval[0] * year, interval[1] * year),
        details={
            "in_words": f"{ratios[0]:.2f} and the champion's {ratios[1]:.2f}",
            "level": LEVEL,
            "candidate": number(ratios[0]),
            "champion": number(ratios[1]),
            "p_value": found.p_value,
            "standard_error": number(found.details["standard_error"] * year),
            "per_period": dict(found.details),
        },
    )


def _backtest(table: pl.DataFrame, score: str, costs: Costs) -> Backtest:
    table = table.sort("as_of", "instrument")
    market = Market.of(
        table["as_of"].to_numpy(),
        table["instrument"].rank("dense").to_numpy(),
        score=_floats(table, score),
        next_return=_floats(table, "next_return"),
    )
    return simulate(market, costs)


def _floats(table: pl.DataFrame, name: str) -> FloatArray:
    return table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _finite(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64).is_finite().fill_null(value=False)


def _problem(backtest: Backtest, whose: str = "") -> str | None:
    size = len(backtest.dates)
    if size < MIN_DATES:
        return f"{size} dates: at least {MIN_DATES} are needed"
    if not backtest.weights.any():
        return f"no position was ever taken on {whose}scores"
    if backtest.unpriced > MAX_UNPRICED:
        return f"{backtest.unpriced:.1%} of {whose}held positions have no return"
    net = backtest.net()
    if not np.isfinite(net).all() or backtest.ruined:
        return f"{whose}returns overflowed, or one date lost the whole equity"
    if constant(net) or not net.std(ddof=1) > 0:
        return f"{whose}returns never vary"
    return None


def _drawdown_convention(costs: Costs) -> str:
    return (
        "largest fall of compounded equity from a peak as a share of the peak, the starting equity "
        f"being one, after costs of {costs.basis_points:g} basis points of traded notional"
    )
