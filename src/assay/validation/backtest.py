"""A small vectorised backtest: what the scores would have earned after costs.

Timing, in one place. A row's score is known at its decision time T. It is traded at the first fix
after T, never at the fix that made it. ``next_return`` is therefore the log return from that first
fix after T to the one after it, and each date's book is held for exactly that stretch, until the
next date's book replaces it.

The book of a date: scores minus their mean across instruments, scaled to a gross exposure of 1,
each position then cut to the exposure cap (a cut book is smaller, it is not levered up again).
Trades are measured against yesterday's book as it has drifted with the returns, and cost a fixed
number of basis points of traded notional. Cash earns nothing; the last book is not sold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.errors import ContractViolation
from assay.statistics.panel import FloatArray, IntArray, columns_of, dates_of
from assay.statistics.statistic import overflow_becomes_undefined

BASIS_POINT = 1e-4


@dataclass(frozen=True, slots=True)
class Costs:
    """What trading costs and how large a position may be.

    Attributes
    ----------
    basis_points: cost of trading one unit of notional, one way, in 1/10,000.
    exposure_cap: largest absolute weight of one instrument, in (0, 1].
    min_names: dates with fewer scored instruments hold nothing.
    """

    basis_points: float = 2.0
    exposure_cap: float = 0.25
    min_names: int = 5

    def __post_init__(self) -> None:
        if not (np.isfinite(self.basis_points) and self.basis_points >= 0):
            raise ContractViolation(f"costs of {self.basis_points} basis points: expected >= 0")
        if not 0 < self.exposure_cap <= 1:
            raise ContractViolation(
                f"exposure cap {self.exposure_cap}: expected above 0, at most 1"
            )
        if self.min_names < 2:
            raise ContractViolation(f"min_names {self.min_names}: expected at least 2")


@dataclass(frozen=True, slots=True)
class Market:
    """Scores and returns as dense tables, shape (T dates, N instruments).

    Attributes
    ----------
    dates: decision times, ascending, int64 ns UTC, shape (T,). Trailing dates whose returns are
        not known yet are left out.
    scores: NaN where an instrument has none.
    returns: simple returns of the holding stretch; NaN where unknown.
    """

    dates: IntArray
    scores: FloatArray
    returns: FloatArray

    @classmethod
    @overflow_becomes_undefined
    def of(
        cls,
        dates: npt.ArrayLike,
        instruments: npt.ArrayLike,
        *,
        score: npt.ArrayLike,
        next_return: npt.ArrayLike,
    ) -> Market:
        """Spread rows (one instrument on one date; log returns) into tables.

        Raises
        ------
        ContractViolation: lengths differ, or an instrument has two rows on one date.
        """
        columns = columns_of(score=score, next_return=next_return)
        rows = len(columns["score"])
        stamps = dates_of(dates, rows)
        names = np.asarray(instruments)
        if names.shape != (rows,):
            raise ContractViolation(f"instruments have shape {names.shape}: expected ({rows},)")
        distinct, when = np.unique(stamps, return_inverse=True)
        universe, what = np.unique(names, return_inverse=True)
        cells = when * len(universe) + what
        if len(np.unique(cells)) != rows:
            raise ContractViolation("an instrument has two rows on one date: expected one")
        scores = np.full((len(distinct), len(universe)), np.nan)
        returns = scores.copy()
        scores[when, what] = np.where(np.isfinite(columns["score"]), columns["score"], np.nan)
        simple = np.expm1(columns["next_return"])
        returns[when, what] = np.where(np.isfinite(simple), simple, np.nan)
        known = np.flatnonzero(np.isfinite(returns).any(axis=1))
        end = int(known[-1]) + 1 if len(known) else 0
        return cls(distinct[:end], scores[:end], returns[:end])


@dataclass(frozen=True, slots=True)
class Backtest:
    """The dated result of holding one book per date.

    Attributes
    ----------
    dates: shape (T,).
    gross: return of each date's book before costs, as a share of equity, shape (T,).
    turnover: notional traded to enter each date's book, as a share of equity, shape (T,).
    weights: the books, shape (T, N).
    unpriced: share of held positions whose return is missing (counted as zero).
    costs: what was assumed.
    """

    dates: IntArray
    gross: FloatArray
    turnover: FloatArray
    weights: FloatArray
    unpriced: float
    costs: Costs

    def net(self, multiple: float = 1.0) -> FloatArray:
        """Returns after ``multiple`` times the assumed costs, shape (T,)."""
        return self.gross - multiple * self.costs.basis_points * BASIS_POINT * self.turnover

    def equity(self, multiple: float = 1.0) -> FloatArray:
        """Equity after each date, starting with 1 before the first, shape (T + 1,)."""
        return np.concatenate(([1.0], np.cumprod(1.0 + self.net(multiple))))

    def max_drawdown(self, multiple: float = 1.0) -> float:
        """Largest fall from a peak as a share of the peak; the starting equity is a peak."""
        equity = self.equity(multiple)
        return float(np.max(1.0 - equity / np.maximum.accumulate(equity)))

    @property
    def ruined(self) -> bool:
        """Whether one date lost everything, so that returns and equity mean nothing after it."""
        return bool((self.net(3.0) <= -1.0).any())


@overflow_becomes_undefined
def target_weights(scores: FloatArray, costs: Costs) -> FloatArray:
    """The book of each date, shape (T, N); zero where there is no score or nothing to choose."""
    scored = np.isfinite(scores)
    count = scored.sum(axis=1, keepdims=True)
    low = np.where(scored, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(scored, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    # Equal scores must give no book at all: their rounding errors, scaled to gross 1, would be one.
    size = np.maximum(np.abs(low), np.abs(high))
    chooses = (count >= costs.min_names) & (high / size - low / size > 64 * np.finfo(float).eps)
    # In units of the largest score: a book depends on relative scores only, and sums stay finite.
    filled = np.where(scored & chooses, scores / size, 0.0)
    mean = filled.sum(axis=1, keepdims=True) / np.maximum(count, 1)
    moved = np.where(scored & chooses, filled - mean, 0.0)
    gross = np.abs(moved).sum(axis=1, keepdims=True)
    weights = moved / np.where(gross > 0, gross, 1.0)
    return np.clip(weights, -costs.exposure_cap, costs.exposure_cap)


@overflow_becomes_undefined
def simulate(market: Market, costs: Costs, *, delay: int = 0) -> Backtest:
    """Hold each date's book for its stretch.

    ``delay`` is the control for look-ahead: the book of date t is entered ``delay`` dates late.
    A real signal decays a little; a leak collapses.
    """
    weights = target_weights(market.scores, costs)
    if delay:
        weights = np.concatenate((np.zeros_like(weights[:delay]), weights[:-delay]))[: len(weights)]
    priced = np.isfinite(market.returns)
    returns = np.where(priced, market.returns, 0.0)
    gross = (weights * returns).sum(axis=1)
    drifted = weights * (1.0 + returns) / (1.0 + gross)[:, None]
    before = np.concatenate((np.zeros_like(weights[:1]), np.nan_to_num(drifted[:-1])))
    held = weights != 0.0
    return Backtest(
        dates=market.dates,
        gross=gross,
        turnover=np.abs(weights - before).sum(axis=1),
        weights=weights,
        unpriced=float((held & ~priced).sum() / max(int(held.sum()), 1)),
        costs=costs,
    )


@overflow_becomes_undefined
def label_shuffle(
    market: Market, backtest: Backtest, *, generator: np.random.Generator, shuffles: int = 100
) -> dict[str, float | int]:
    """The control for luck and leaks: the same books on returns dealt out at random.

    Within each date the known returns are permuted among the instruments that have one, which
    keeps the market's moves and destroys any skill in choosing. Answers the share of shuffles
    whose gross mean over its standard deviation is at least the real one, (1 + #) / (1 + shuffles),
    and their mean and standard deviation. A book that keeps beating shuffled returns chooses; a
    shuffled mean far from zero says the books are not neutral.
    """
    priced = np.isfinite(market.returns)
    # Priced instruments first, in their own order; the random order below does the same.
    places = np.argsort(~priced, axis=1, kind="stable")
    weights = np.take_along_axis(np.where(priced, backtest.weights, 0.0), places, axis=1)
    returns = np.where(priced, market.returns, 0.0)
    real = _ratio(backtest.gross)
    found = np.empty(shuffles)
    for k in range(shuffles):
        deal = np.argsort(np.where(priced, generator.random(priced.shape), 2.0), axis=1)
        found[k] = _ratio((weights * np.take_along_axis(returns, deal, axis=1)).sum(axis=1))
    return {
        "shuffles": shuffles,
        "p_value": float((1 + (found >= real).sum()) / (1 + shuffles)),
        "mean_ratio": float(found.mean()),
        "sd_ratio": float(found.std()),
    }


def _ratio(series: FloatArray) -> float:
    spread = float(series.std(ddof=1)) if len(series) > 1 else 0.0
    return float(series.mean()) / spread if spread > 0 else 0.0
