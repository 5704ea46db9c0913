"""What the scores of one table would have earned after costs: a face of the portfolio engine.

Timing, in one place. A row's score is known at its decision time T. It is traded at the first fix
after T, never at the fix that made it. ``next_return`` is therefore the log return from that first
fix after T to the one after it, and each date's book is held for exactly that stretch, until the
next date's book replaces it.

The book of a date: scores minus their mean across instruments, scaled to a gross exposure of 1,
each position then cut to the exposure cap (a cut book is smaller, it is not levered up again).
Trades are measured against yesterday's book as it has drifted with the returns, and cost a fixed
number of basis points of traded notional. Books are sized on equity before costs, so that the same
trades can be charged once, twice and three times. Cash earns nothing; the last book is not sold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.errors import ContractViolation
from assay.portfolio import controls, weights
from assay.portfolio.history import Moves, Track, hold
from assay.portfolio.terms import BASIS_POINT, Limits, Terms, TradingCosts, Weighting
from assay.statistics.panel import FloatArray, IntArray, columns_of, dates_of
from assay.statistics.statistic import overflow_becomes_undefined


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

    @property
    def terms(self) -> Terms:
        """The same for the portfolio engine."""
        return Terms(
            weighting=Weighting(min_names=self.min_names),
            limits=Limits(position=self.exposure_cap),
            costs=TradingCosts(commission_bps=self.basis_points),
            costs_reduce_equity=False,
        )


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


def target_weights(scores: FloatArray, costs: Costs) -> FloatArray:
    """The book of each date, shape (T, N); zero where there is no score or nothing to choose."""
    terms = costs.terms
    return weights.target_weights(scores, terms.weighting, cap=terms.limits.position)


@overflow_becomes_undefined
def simulate_many(market: Market, scores: FloatArray, costs: Costs) -> list[Backtest]:
    """The same market traded on S tables of scores, shape (S, T, N), at once."""
    aims = np.stack([target_weights(one, costs) for one in scores])
    days = len(market.dates)
    track = hold(
        np.arange(days + 1), _moves(market), aims, _due(days, 0), costs.terms, keep_weights=True
    )
    return [_backtest(market, track, k, costs) for k in range(len(scores))]


@overflow_becomes_undefined
def simulate(market: Market, costs: Costs, *, delay: int = 0) -> Backtest:
    """Hold each date's book for its stretch.

    ``delay`` is the control for look-ahead: the book of date t is entered ``delay`` dates late.
    A real signal decays a little; a leak collapses.
    """
    aims = target_weights(market.scores, costs)
    days = len(market.dates)
    track = hold(
        np.arange(days + 1),
        _moves(market),
        aims,
        _due(days, delay),
        costs.terms,
        keep_weights=True,
    )
    return _backtest(market, track, 0, costs)


def _backtest(market: Market, track: Track, account: int, costs: Costs) -> Backtest:
    assert track.weights is not None
    held = float(track.held[account].sum())
    return Backtest(
        dates=market.dates,
        # What a book earns is seen at the next event, what entering it cost at its own.
        gross=track.gross[account, 1:],
        turnover=track.turnover[account, :-1],
        weights=track.weights[account, :-1],
        unpriced=float(track.unpriced[account].sum() / max(held, 1.0)),
        costs=costs,
    )


def label_shuffle(
    market: Market, backtest: Backtest, *, generator: np.random.Generator, shuffles: int = 100
) -> dict[str, float | int]:
    """The same books on returns dealt out at random; see :mod:`assay.portfolio.controls`."""
    return controls.label_shuffle(
        backtest.weights, market.returns, generator=generator, shuffles=shuffles
    )


def random_signals(
    market: Market, backtest: Backtest, *, generator: np.random.Generator, signals: int = 100
) -> dict[str, float | int | None]:
    """Signals of chance that trade as much; see :mod:`assay.portfolio.controls`."""
    days = len(market.dates)
    return controls.random_signals(
        controls.Traded(
            times=np.arange(days + 1),
            moves=_moves(market),
            due=_due(days, 0),
            terms=backtest.costs.terms,
            scored=np.isfinite(market.scores),
            aims=target_weights(market.scores, backtest.costs),
        ),
        generator=generator,
        controls=signals,
    )


def _moves(market: Market) -> Moves:
    """The fixes of a market: the first is entered at, each later one ends a stretch."""
    names = market.returns.shape[1]
    returns = np.concatenate((np.zeros((1, names)), market.returns))
    priced = np.isfinite(returns)
    returns = np.where(priced, returns, 0.0)
    return Moves(
        returns=returns,
        growth=1.0 + returns,
        priced=priced,
        # A return that is missing says nothing about which of its two prices was.
        tradable=np.ones_like(priced),
        half_spread=np.zeros_like(returns),
        nights=np.zeros(len(returns)),
    )


def _due(days: int, delay: int) -> IntArray:
    rows = np.arange(days + 1) - delay
    return np.where((rows >= 0) & (np.arange(days + 1) < days), rows, -1)
