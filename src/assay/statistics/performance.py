"""What a series of returns did to an account: growth, drawdown, turnover.

Returns are simple and per period, after whatever costs the caller has taken off. Equity starts
with 1 before the first return, and that start is a peak: an account that only ever fell has a
drawdown. Annualising is a step of its own with the number of periods per year in the name of what
it gives.

Missing values: a NaN or infinite return leaves no value, since equity after it is unknown; nothing
is dropped or taken as zero. A return of -100 % or less leaves no value either: nothing grows from
there. Neither does a series that never varies, which no traded account gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from assay.errors import ContractViolation
from assay.statistics.hac import constant
from assay.statistics.panel import FloatArray, columns_of, numbers_of
from assay.statistics.statistic import LEVEL, Statistic, number, overflow_becomes_undefined

MIN_RETURNS = 2
"""One return is no series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve(Statistic):
    """A number about a path, with the path.

    Attributes
    ----------
    path: one number per period, shape (T,); empty when there is no value.
    """

    path: FloatArray


@overflow_becomes_undefined
def max_drawdown(returns: npt.ArrayLike) -> Curve:
    """Largest fall from a peak as a share of that peak, in [0, 1); ``path`` is the fall by period.

    The details hold the periods (counted from 0) of the peak, the trough and the recovery: the peak
    -1 is the start, a recovery of None has not come. A missing return leaves no value.
    """
    convention = (
        "largest fall of compounded equity from a running peak, as a share of the peak; the "
        "starting equity is a peak"
    )
    series, problem = _series(returns)
    if problem is not None:
        return _no_curve(convention, problem, len(series))
    equity, peak = _equity(series)
    fall = 1.0 - equity / peak
    trough = int(np.argmax(fall))
    top = int(np.argmax(equity[: trough + 1]))
    after = np.flatnonzero(equity[trough:] >= equity[top])
    return Curve(
        value=float(fall[trough]),
        sample_size=len(series),
        convention=convention,
        details={
            "peak": top - 1,
            "trough": trough - 1,
            "recovery": int(after[0]) + trough - 1 if len(after) else None,
        },
        path=fall[1:],
    )


@overflow_becomes_undefined
def time_under_water(returns: npt.ArrayLike) -> Curve:
    """Longest run of periods that end below an earlier peak; ``path`` is the run's length so far.

    A run that has not ended counts with its length so far, and the details say so. A missing
    return leaves no value.
    """
    convention = "longest run of consecutive periods that end below a running peak of equity"
    series, problem = _series(returns)
    if problem is not None:
        return _no_curve(convention, problem, len(series))
    equity, peak = _equity(series)
    below = (equity < peak)[1:]
    places = np.arange(1, len(below) + 1)
    last_dry = np.maximum.accumulate(np.where(below, 0, places))
    run = (places - last_dry).astype(np.float64)
    return Curve(
        value=float(run.max()),
        sample_size=len(series),
        convention=convention,
        details={
            "share_of_periods": float(below.mean()),
            "unfinished": bool(below[-1]),
            "current": float(run[-1]),
        },
        path=run,
    )


@overflow_becomes_undefined
def annualised_return(returns: npt.ArrayLike, *, periods_per_year: float) -> Statistic:
    """Compound growth per year: (product of 1 + r)^(periods per year / T) - 1.

    A missing return leaves no value.
    """
    _check_year(periods_per_year)
    convention = f"compound growth rate per year of {periods_per_year:g} periods"
    series, problem = _series(returns)
    if problem is not None:
        return Statistic(
            value=None, sample_size=len(series), convention=convention, undefined=problem
        )
    growth = float(np.log1p(series).mean()) * periods_per_year
    total = float(np.expm1(np.log1p(series).sum()))
    return Statistic(
        value=float(np.expm1(growth)),
        sample_size=len(series),
        convention=convention,
        warnings=_short(series, periods_per_year),
        details={"total_return": number(total), "years": len(series) / periods_per_year},
    )


@overflow_becomes_undefined
def annualised_volatility(returns: npt.ArrayLike, *, periods_per_year: float) -> Statistic:
    """Standard deviation (ddof 1) times the root of the periods per year; right if uncorrelated.

    A missing return leaves no value.
    """
    _check_year(periods_per_year)
    convention = (
        f"standard deviation (ddof 1) of returns times sqrt({periods_per_year:g}), as for "
        "uncorrelated returns"
    )
    series, problem = _series(returns)
    if problem is not None:
        return Statistic(
            value=None, sample_size=len(series), convention=convention, undefined=problem
        )
    spread = float(series.std(ddof=1))
    return Statistic(
        value=spread * math.sqrt(periods_per_year),
        sample_size=len(series),
        convention=convention,
        details={"per_period": number(spread)},
    )


@overflow_becomes_undefined
def calmar(returns: npt.ArrayLike, *, periods_per_year: float) -> Statistic:
    """Compound growth per year over the largest drawdown of the whole series.

    Young (1991), "Calmar ratio: a smoother tool", Futures 20, takes 36 months; here it is the
    series given. Without any drawdown there is no ratio. It rewards short histories: the largest
    drawdown only grows with time. A missing return leaves no value.
    """
    convention = (
        f"compound growth rate per year of {periods_per_year:g} periods over the largest drawdown "
        "of the whole series"
    )
    growth = annualised_return(returns, periods_per_year=periods_per_year)
    fall = max_drawdown(returns)
    size = growth.sample_size
    if growth.value is None or not fall.value:
        reason = growth.undefined or fall.undefined or "equity never fell below a peak"
        return Statistic(value=None, sample_size=size, convention=convention, undefined=reason)
    return Statistic(
        value=growth.value / fall.value,
        sample_size=size,
        convention=convention,
        warnings=growth.warnings,
        details={"annualised_return": growth.value, "max_drawdown": fall.value},
    )


@overflow_becomes_undefined
def hit_rate(returns: npt.ArrayLike) -> Statistic:
    """Share of the periods with any result that made money; periods of exactly zero do not count.

    The interval is that of Wilson (1927), "Probable inference, the law of succession, and
    statistical inference", Journal of the American Statistical Association 22, for independent
    periods. A missing return leaves no value.
    """
    convention = "share of non-zero returns that are positive; Wilson interval, independent periods"
    series, problem = _series(returns)
    moved = series[series != 0.0]
    if problem is not None:
        return Statistic(
            value=None, sample_size=len(moved), convention=convention, undefined=problem
        )
    size = len(moved)
    share = float((moved > 0).mean())
    z = float(ndtri((1 + LEVEL) / 2))
    middle = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = (
        z * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size)) / (1 + z * z / size)
    )
    return Statistic(
        value=share,
        sample_size=size,
        convention=convention,
        interval=(max(0.0, middle - half), min(1.0, middle + half)),
        details={"zero_periods": len(series) - size},
    )


@overflow_becomes_undefined
def turnover(weights: npt.ArrayLike, returns: npt.ArrayLike) -> Curve:
    """Mean notional traded per period as a share of equity, against drifted weights.

    Between two books weights drift with their returns: w (1 + r) / (1 + sum w r). What is traded is
    the distance from there to the next book, both sides counted; ``path`` holds it by period, the
    first being the purchase of the first book. Weights that stay the same on paper still trade.

    Parameters
    ----------
    weights: book held over each period as shares of equity, shape (T, N); cash is the rest. A NaN
        or infinite weight leaves no value.
    returns: simple returns of each instrument over the period, shape (T, N). NaN where a position
        of zero has none; where one is held there is no value.

    Raises
    ------
    ContractViolation: the two differ in shape, or are not two-dimensional.
    """
    convention = (
        "mean over periods of sum |w_t - drifted w_(t-1)|, both sides, shares of equity; the first "
        "period buys the whole book"
    )
    book = numbers_of(weights, what="weights")
    moves = numbers_of(returns, what="returns")
    if book.ndim != 2 or book.shape != moves.shape:
        raise ContractViolation(
            f"weights of shape {book.shape} and returns of shape {moves.shape}: expected the same "
            "(periods, instruments)"
        )
    size = len(book)
    held = np.where(book == 0.0, 0.0, moves)
    problem = None
    if size < MIN_RETURNS:
        problem = f"{size} periods: at least {MIN_RETURNS} are needed"
    elif not np.isfinite(book).all():
        problem = "a weight is missing or infinite"
    elif not np.isfinite(held).all():
        problem = "a position is held whose return is missing or infinite"
    elif not book.any():
        problem = "nothing is ever held"
    if problem is not None:
        return _no_curve(convention, problem, size)
    growth = 1.0 + (book * held).sum(axis=1, keepdims=True)
    if (growth <= 0.0).any():
        return _no_curve(convention, "the account lost everything, so weights mean nothing", size)
    drifted = book * (1.0 + held) / growth
    before = np.concatenate((np.zeros_like(book[:1]), drifted[:-1]))
    traded = np.abs(book - before).sum(axis=1)
    if not np.isfinite(traded).all():
        return _no_curve(convention, "weights or returns leave the range of numbers", size)
    return Curve(
        value=float(traded.mean()),
        sample_size=size,
        convention=convention,
        details={"after_the_first": float(traded[1:].mean()), "largest": float(traded.max())},
        path=traded,
    )


def _series(returns: npt.ArrayLike) -> tuple[FloatArray, str | None]:
    series = columns_of(returns=returns)["returns"]
    if len(series) < MIN_RETURNS:
        return series, f"{len(series)} returns: at least {MIN_RETURNS} are needed"
    broken = ~np.isfinite(series)
    if broken.any():
        return series, f"{int(broken.sum())} of {len(series)} returns are missing or infinite"
    if (series <= -1.0).any():
        return series, "a return of -100 % or less leaves nothing to go on from"
    if constant(series):
        return series, f"the returns never vary (each is {float(series[0]):.6g})"
    if not np.isfinite(np.cumprod(1.0 + series)).all():
        return series, "equity grows beyond the range of numbers"
    return series, None


def _equity(series: FloatArray) -> tuple[FloatArray, FloatArray]:
    # Starting equity first.
    equity = np.concatenate(([1.0], np.cumprod(1.0 + series)))
    return equity, np.maximum.accumulate(equity)


def _no_curve(convention: str, problem: str, size: int) -> Curve:
    return Curve(
        value=None, sample_size=size, convention=convention, undefined=problem, path=np.empty(0)
    )


def _check_year(periods_per_year: float) -> None:
    if not (math.isfinite(periods_per_year) and periods_per_year > 0):
        raise ContractViolation(
            f"{periods_per_year} periods per year: expected a positive number, as 252"
        )


def _short(series: FloatArray, periods_per_year: float) -> tuple[str, ...]:
    if len(series) >= periods_per_year:
        return ()
    return (f"{len(series)} periods are less than one year: annualising magnifies them.",)
