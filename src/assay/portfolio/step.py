"""One event of an account: the only code that marks, finances, trades and charges.

A backtest calls it for every event of a history, a paper account when prices arrive. Both therefore
agree to the last bit, by construction and by test. What one event does, in order:

1. *Mark.* Positions earn the move of their prices since they were last priced. One that has no
   price now keeps its last value and is counted as unpriced.
2. *Finance.* Nights that began since the event before are charged.
3. *Ruin.* Equity of nothing or less closes the account: it holds and trades nothing any more.
4. *Aim.* Where a decision is due, its book is made to fit the limits, around positions that cannot
   be traded now.
5. *Trade.* Towards it, as far as the cap on turnover allows.
6. *Charge.* Spread, slippage and commission on what was traded.

Positions are kept as shares of equity, so that nothing depends on the size of the account except a
commission per trade. Arrays have the shape (S, N): S accounts that differ in what they aim at or in
how many times they are charged, over N instruments. No row depends on another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.portfolio.terms import HoldingRates, Limits, Terms
from assay.portfolio.weights import fixed_sum
from assay.statistics.panel import BoolArray, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """S accounts between two events.

    Attributes
    ----------
    weights: signed exposure as a share of equity, shape (S, N).
    equity: in the account's currency, shape (S,).
    ruined: shape (S,).
    """

    weights: FloatArray
    equity: FloatArray
    ruined: BoolArray

    @classmethod
    def empty(cls, accounts: int, names: int, equity: float = 1.0) -> Book:
        """Accounts that hold nothing."""
        return cls(
            np.zeros((accounts, names)),
            np.full(accounts, equity),
            np.zeros(accounts, dtype=np.bool_),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """What the market did to each instrument since the event before; arrays of shape (N,).

    Attributes
    ----------
    returns: profit per unit of exposure, in the account's currency; 0 where unpriced.
    growth: exposure now per unit of exposure then; 1 where unpriced.
    priced: whether there is a price now.
    tradable: whether it can be traded now.
    half_spread: half of the quoted spread as a share of the mid.
    nights: to be paid.
    """

    returns: FloatArray
    growth: FloatArray
    priced: BoolArray
    tradable: BoolArray
    half_spread: FloatArray
    nights: float


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """What an event did to each account; shape (S,) unless said otherwise.

    Attributes
    ----------
    gross: return of the positions since the event before, as a share of equity then.
    financing: charged for holding them, as a share of the same.
    turnover: notional traded, as a share of equity before costs.
    spread, slippage, commission: charged for it, times the account's multiple, as shares of the
        same.
    held, unpriced: positions there were to mark, and those of them without a price.
    trades: signed, as shares of equity before costs, shape (S, N); None where no decision was due.
    """

    gross: FloatArray
    financing: FloatArray
    turnover: FloatArray
    spread: FloatArray
    slippage: FloatArray
    commission: FloatArray
    held: FloatArray
    unpriced: FloatArray
    trades: FloatArray | None

    @property
    def costs(self) -> FloatArray:
        """All that was charged for trading."""
        return self.spread + self.slippage + self.commission


def advance(
    book: Book,
    move: Move,
    aim: FloatArray | None,
    *,
    terms: Terms,
    holding: HoldingRates | None,
    multiples: FloatArray,
) -> tuple[Book, Event]:
    """Take S accounts through one event.

    Parameters
    ----------
    aim: weights of the decision that is due, shape (S, N) or (1, N); None when none is.
    holding: financing rates by instrument; None where holding is free.
    multiples: how many times costs and financing are charged, shape (S,).
    """
    gross = fixed_sum(book.weights * move.returns)
    financing = _financing(book.weights, move.nights, holding) * multiples
    held = book.weights != 0.0
    after = 1.0 + gross - financing
    alive = ~book.ruined & (after > 0.0)
    weights = _rescaled(book.weights * move.growth, after, alive)
    equity = book.equity * after
    turnover, spread, slippage, commission = np.zeros((4, len(equity)))
    trades = None
    if aim is not None:
        wanted = _of_the_living(np.broadcast_to(aim, weights.shape), alive)
        trades, weights = _trade(weights, wanted, move, terms.limits)
        size = np.abs(trades)
        turnover = fixed_sum(size)
        costs = terms.costs
        halves = fixed_sum(size * move.half_spread) * multiples
        spread = halves
        slippage = (
            halves * (costs.per_half_spread - 1.0)
            + turnover * (costs.slippage_bps * 1e-4) * multiples
        )
        commission = turnover * (costs.commission_bps * 1e-4) * multiples
        if costs.commission_per_trade:
            orders = np.count_nonzero(trades, axis=-1)
            each = costs.commission_per_trade / np.where(alive, equity, 1.0)
            commission = commission + orders * each * multiples
        if terms.costs_reduce_equity:
            left = 1.0 - (spread + slippage + commission)
            alive = alive & (left > 0.0)
            weights = _rescaled(weights, left, alive)
            equity = equity * left
    event = Event(
        gross, financing, turnover, spread, slippage, commission,
        np.count_nonzero(held, axis=-1).astype(np.float64),
        np.count_nonzero(held[:, ~move.priced], axis=-1).astype(np.float64),
        trades,
    )  # fmt: skip
    return Book(weights, equity, ~alive), event


def _rescaled(weights: FloatArray, equity: FloatArray, alive: BoolArray) -> FloatArray:
    """Weights as shares of what equity has become; none where the account is ruined."""
    if alive.all():
        return weights / equity[:, None]
    return np.where(alive[:, None], weights / np.where(alive, equity, 1.0)[:, None], 0.0)


def _of_the_living(aim: FloatArray, alive: BoolArray) -> FloatArray:
    return aim if alive.all() else np.where(alive[:, None], aim, 0.0)


def _financing(weights: FloatArray, nights: float, holding: HoldingRates | None) -> FloatArray:
    if holding is None or nights == 0.0:
        return np.zeros(len(weights))
    rate = np.where(weights > 0.0, holding.long, -holding.short)
    return fixed_sum(weights * rate) * nights


def _trade(
    weights: FloatArray, aim: FloatArray, move: Move, limits: Limits
) -> tuple[FloatArray, FloatArray]:
    """The trades, and the weights after them, as shares of equity before costs."""
    # Without the question where the answer is the same: a selection costs more than all the rest.
    wanted = aim if move.tradable.all() else np.where(move.tradable, aim, weights)
    wanted = _fitted(wanted, move.tradable, limits)
    trades = wanted - weights
    if limits.turnover is not None:
        turnover = fixed_sum(np.abs(trades))
        share = limits.turnover / np.where(turnover > 0.0, turnover, 1.0)
        slowed = (turnover > limits.turnover)[:, None]
        trades = np.where(slowed, trades * share[:, None], trades)
        wanted = np.where(slowed, weights + trades, wanted)
    return trades, wanted


def _fitted(wanted: FloatArray, tradable: BoolArray, limits: Limits) -> FloatArray:
    """``wanted`` with its tradable part made smaller until the caps on exposure hold."""
    # Gross first: making one side smaller for the net never makes the gross larger.
    if limits.gross is not None:
        sizes = np.abs(wanted)
        gross = fixed_sum(sizes)
        room = fixed_sum(np.where(tradable, sizes, 0.0))
        excess = np.maximum(gross - limits.gross, 0.0)
        keep = np.maximum(1.0 - excess / np.where(room > 0.0, room, 1.0), 0.0)
        shrinks = tradable & (excess > 0.0)[:, None]
        wanted = np.where(shrinks, wanted * keep[:, None], wanted)
    if limits.net is not None:
        net = fixed_sum(wanted)
        side = np.where((wanted > 0.0) == (net > 0.0)[:, None], wanted, 0.0)
        room = np.abs(fixed_sum(np.where(tradable, side, 0.0)))
        excess = np.maximum(np.abs(net) - limits.net, 0.0)
        keep = np.maximum(1.0 - excess / np.where(room > 0.0, room, 1.0), 0.0)
        shrinks = tradable & (side != 0.0) & (excess > 0.0)[:, None]
        wanted = np.where(shrinks, wanted * keep[:, None], wanted)
    return wanted
