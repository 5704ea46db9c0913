"""The Sharpe ratio family, over the dated returns of one book."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from assay.domain.evidence import Evidence
from assay.statistics.hac import (
    LAG_RULE,
    MIN_DATES,
    MeanTest,
    constant,
    mean_test,
    student_quantile,
)
from assay.statistics.panel import FloatArray
from assay.statistics.sharpe import annualisation_factor, autocorrelations, sharpe_ratio
from assay.statistics.statistic import LEVEL, number, overflow_becomes_undefined
from assay.validation.backtest import Backtest, Market, label_shuffle, random_signals, simulate
from assay.validation.records import undefined

PERIODS_PER_YEAR = 252
MAX_UNPRICED = 0.01
"""Largest share of held positions whose return may be unknown."""
STRESSES = (1.0, 2.0, 3.0)
SIGNALS = 40
"""Random signals that trade as much: enough to place the real one; they take the most time."""


@overflow_becomes_undefined
def sharpe_after_costs(
    market: Market,
    backtest: Backtest,
    *,
    generator: np.random.Generator | None,
    periods_per_year: int = PERIODS_PER_YEAR,
) -> Evidence:
    """Annualised Sharpe ratio of the backtest after costs, with what is needed to doubt it.

    mean / standard deviation (ddof 1) of the dated net returns, times sqrt(periods per year). The
    interval allows for autocorrelation, skewness and fat tails: HAC variance of the influence
    function z - SR/2 (z^2 - 1), z the standardised return (Lo 2002, "The statistics of Sharpe
    ratios", Financial Analysts Journal 58, with a Bartlett kernel). The details hold costs at
    once, twice and three times, drawdown, turnover, the one-bar delay, the label shuffle and random
    signals that trade as much; without a ``generator`` the controls are left out.
    """
    name = "sharpe_after_costs"
    costs = backtest.costs
    convention = (
        "annualised Sharpe ratio of dated returns after costs of "
        f"{costs.basis_points:g} basis points of traded notional, mean / sd (ddof 1) x "
        f"sqrt({periods_per_year}), no risk-free rate, no financing; interval from the HAC "
        f"variance of z - SR/2 (z^2 - 1), {LAG_RULE}"
    )
    size = len(backtest.dates)
    problem = _problem(backtest)
    if problem is not None:
        return undefined(name, convention, problem, sample_size=size)
    series = backtest.net()
    year = math.sqrt(periods_per_year)
    ratio, error, lag = sharpe_ratio(series)
    half = student_quantile(size - 1) * error
    return Evidence(
        name=name,
        value=ratio * year,
        sample_size=size,
        convention=convention,
        interval=((ratio - half) * year, (ratio + half) * year),
        details={
            "in_words": (
                f"{_annualised(backtest.gross, year) or 0.0:.2f} before costs, turning over "
                f"{float(backtest.turnover.mean()):.0%} of the book a day at "
                f"{costs.basis_points:g} basis points"
            ),
            "level": LEVEL,
            "standard_error": number(error * year),
            "lag": lag,
            "sharpe_autocorrelation_adjusted": number(
                ratio * annualisation_factor(autocorrelations(series, lag), periods_per_year)
            ),
            "sharpe_gross": _annualised(backtest.gross, year),
            **{
                f"at_{multiple:g}x_costs": {
                    "sharpe": _annualised(backtest.net(multiple), year),
                    "profit_and_loss": number(backtest.equity(multiple)[-1] - 1.0),
                    "max_drawdown": number(backtest.max_drawdown(multiple)),
                }
                for multiple in STRESSES
            },
            "turnover_per_date": number(backtest.turnover.mean()),
            "gross_exposure": number(np.abs(backtest.weights).sum(axis=1).mean()),
            "largest_net_exposure": number(np.abs(backtest.weights.sum(axis=1)).max()),
            "largest_position": number(np.abs(backtest.weights).max()),
            "exposure_cap": costs.exposure_cap,
            "basis_points": costs.basis_points,
            "dates_with_a_book": int((backtest.weights != 0).any(axis=1).sum()),
            "unpriced_positions": number(backtest.unpriced),
            **({} if generator is None else _controls(market, backtest, generator, year)),
        },
    )


def _controls(
    market: Market, backtest: Backtest, generator: np.random.Generator, year: float
) -> dict[str, Any]:
    delayed = simulate(market, backtest.costs, delay=1)
    return {
        "one_bar_delay_sharpe": _annualised(delayed.net(), year),
        # Costs are the same one bar later, and can hide a leak that collapses.
        "one_bar_delay_sharpe_gross": _annualised(delayed.gross, year),
        "label_shuffle": label_shuffle(market, backtest, generator=generator),
        "random_signals": random_signals(market, backtest, generator=generator, signals=SIGNALS),
    }


@overflow_becomes_undefined
def significance(backtest: Backtest) -> Evidence:
    """One-sided p-value that the mean dated return after costs is above zero, HAC."""
    name = "significance"
    convention = (
        "one-sided p-value that the mean dated return after costs of "
        f"{backtest.costs.basis_points:g} basis points is above zero: Newey-West t, {LAG_RULE}, "
        "Student t with T-1 degrees of freedom"
    )
    size = len(backtest.dates)
    problem = _problem(backtest)
    if problem is not None:
        return undefined(name, convention, problem, sample_size=size)
    test = mean_test(backtest.net())
    if not isinstance(test, MeanTest):
        return undefined(name, convention, test, sample_size=size)
    return Evidence(
        name=name,
        value=test.p_greater,
        sample_size=size,
        convention=convention,
        details={
            "in_words": f"the mean return after costs is {test.mean:+.2e} a day",
            "mean_per_date": number(test.mean),
            "mean_interval": [number(end) for end in test.interval],
            "level": LEVEL,
            "statistic": number(test.statistic),
            "lag": test.lag,
        },
    )


def _annualised(series: FloatArray, year: float) -> float | None:
    return None if _still(series) else number(series.mean() / series.std(ddof=1) * year)


def _still(series: FloatArray) -> bool:
    # The second condition: returns so small that their squares vanish.
    return constant(series) or not series.std(ddof=1) > 0


def _problem(backtest: Backtest) -> str | None:
    size = len(backtest.dates)
    if size < MIN_DATES:
        return f"{size} dates: at least {MIN_DATES} are needed"
    if not backtest.weights.any():
        return "no position was ever taken: the scores are missing or the same for all instruments"
    if backtest.unpriced > MAX_UNPRICED:
        return (
            f"{backtest.unpriced:.1%} of the held positions have no return: at most "
            f"{MAX_UNPRICED:.0%} may be unknown"
        )
    if not np.isfinite(backtest.net(max(STRESSES))).all():
        return "returns overflowed"
    if backtest.ruined:
        return "one date lost the whole equity"
    if _still(backtest.net()):
        return "the returns never vary"
    return None
