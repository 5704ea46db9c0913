"""The driver over history: every event of a market, for many accounts at once.

Timing, in one place. A decision is known at a moment T. It trades at the first price whose time is
after T, never at the price that made it, and ``delay`` prices later where the terms say so. Of
several decisions that come due at one price, the one known last counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.errors import ContractViolation
from assay.portfolio.step import Book, Move, advance
from assay.portfolio.terms import BASIS_POINT, HoldingRates, Instrument, Terms
from assay.portfolio.weights import target_weights
from assay.statistics.panel import BoolArray, FloatArray, IntArray
from assay.statistics.statistic import overflow_becomes_undefined


@dataclass(frozen=True, slots=True, eq=False)
class PriceHistory:
    """Prices as they came, shape (T events, N instruments).

    Attributes
    ----------
    times: of the events, strictly ascending, int64 ns UTC, shape (T,).
    instruments: in the order of the columns.
    prices: mid prices in each instrument's quote currency; NaN (or anything that is not above 0)
        where there is none at that event.
    half_spread: (ask - bid) / 2 / mid, shape (T, N); NaN takes the spread of the terms. None takes
        it everywhere.
    currencies: of the columns of ``rates``.
    rates: units of the account's currency for one unit of each currency, as known at the event,
        shape (T, C); NaN keeps the last one. The account's own currency needs no column.
    """

    times: IntArray
    instruments: tuple[Instrument, ...]
    prices: FloatArray
    half_spread: FloatArray | None = None
    currencies: tuple[str, ...] = ()
    rates: FloatArray | None = None

    def __post_init__(self) -> None:
        events, names = len(self.times), len(self.instruments)
        _shape("prices", self.prices, (events, names))
        if self.half_spread is not None:
            _shape("half_spread", self.half_spread, (events, names))
        if (self.rates is None) != (not self.currencies):
            raise ContractViolation("currencies and rates: expected both or neither")
        if self.rates is not None:
            _shape("rates", self.rates, (events, len(self.currencies)))
        if events and not (np.diff(self.times) > 0).all():
            raise ContractViolation("times of prices do not ascend: expected each after the last")
        if len({one.name for one in self.instruments}) != names:
            raise ContractViolation("an instrument is named twice: expected distinct names")


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """Scores as they became known.

    Attributes
    ----------
    known: the moment of each, ascending, int64 ns UTC, shape (D,).
    scores: shape (D, N), or (S, D, N) for S accounts; NaN where there is none.
    volatility: forecast per period, shape (D, N), where the weighting needs it.
    """

    known: IntArray
    scores: FloatArray
    volatility: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.scores.ndim not in {2, 3} or self.scores.shape[-2] != len(self.known):
            raise ContractViolation(
                f"scores have shape {self.scores.shape}: expected ({len(self.known)}, instruments)"
            )
        if self.volatility is not None:
            _shape("volatility", self.volatility, self.scores.shape[-2:])
        if len(self.known) and not (np.diff(self.known) > 0).all():
            raise ContractViolation("decisions do not ascend in time: expected each after the last")


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """What happened at every event; :class:`~assay.portfolio.step.Move` with a first axis T."""

    returns: FloatArray
    growth: FloatArray
    priced: BoolArray
    tradable: BoolArray
    half_spread: FloatArray
    nights: FloatArray

    def __len__(self) -> int:
        return len(self.returns)

    def at(self, event: int) -> Move:
        """One event."""
        return Move(
            self.returns[event],
            self.growth[event],
            self.priced[event],
            self.tradable[event],
            self.half_spread[event],
            float(self.nights[event]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """What became of S accounts over T events.

    Attributes
    ----------
    times: shape (T,).
    gross, financing, turnover, spread, slippage, commission, held, unpriced: of every event, as in
        :class:`~assay.portfolio.step.Event`, shape (S, T).
    equity: after every event, shape (S, T).
    starting_equity: before the first.
    weights: books after every event, as shares of equity, shape (S, T, N); None unless asked for.
    book: the accounts after the last event.
    costs_reduce_equity: as in the terms.
    """

    times: IntArray
    gross: FloatArray
    financing: FloatArray
    turnover: FloatArray
    spread: FloatArray
    slippage: FloatArray
    commission: FloatArray
    held: FloatArray
    unpriced: FloatArray
    equity: FloatArray
    starting_equity: float
    weights: FloatArray | None
    book: Book
    costs_reduce_equity: bool

    @property
    def costs(self) -> FloatArray:
        """Charged for trading at each event, as a share of equity before it; shape (S, T)."""
        return self.spread + self.slippage + self.commission

    @property
    def returns(self) -> FloatArray:
        """Return of equity from the event before to after this one, all charges taken; (S, T)."""
        held = 1.0 + self.gross - self.financing
        if self.costs_reduce_equity:
            return held * (1.0 - self.costs) - 1.0
        return held - self.costs - 1.0


def moves_of(history: PriceHistory, terms: Terms) -> tuple[Moves, FloatArray]:
    """What every event did to each instrument, and the rates (T, N) at which it converts.

    Raises
    ------
    ContractViolation: an instrument's currency has no rate.
    """
    columns = rate_columns(history.instruments, history.currencies, terms)
    convert = conversion(columns, carried(history.rates, len(history.times)), len(history.times))
    with np.errstate(invalid="ignore"):
        priced = np.isfinite(history.prices) & (history.prices > 0.0) & np.isfinite(convert)
    last = _last_priced(priced)
    known = last >= 0
    reach = np.maximum(last, 0)
    before = np.take_along_axis(history.prices, reach, axis=0)
    rate_before = np.take_along_axis(convert, reach, axis=0)
    margined = np.array([one.margined for one in history.instruments], dtype=np.bool_)
    returns, growth = relatives(
        history.prices, before, convert, rate_before, priced & known, margined
    )
    half = half_spreads(history.half_spread, history.prices.shape, terms)
    earlier = np.concatenate((history.times[:1], history.times[:-1]))
    nights = terms.financing.nights_between(earlier, history.times)
    return Moves(returns, growth, priced, priced, half, nights), convert


def relatives(
    price: FloatArray,
    price_before: FloatArray,
    rate: FloatArray,
    rate_before: FloatArray,
    both: BoolArray,
    margined: BoolArray,
) -> tuple[FloatArray, FloatArray]:
    """Return and growth of exposure in the account's currency; 0 and 1 where not ``both`` priced.

    For a margined instrument only the profit is converted, at the rate of the moment at which it
    arises: (P1/P0 - 1) F1/F0. A funded one is held in its currency: P1/P0 F1/F0 - 1.
    """
    step = np.where(both, price, 1.0) / np.where(both, price_before, 1.0)
    turn = np.where(both, rate, 1.0) / np.where(both, rate_before, 1.0)
    growth = step * turn
    return np.where(margined, (step - 1.0) * turn, growth - 1.0), growth


def half_spreads(given: FloatArray | None, shape: tuple[int, ...], terms: Terms) -> FloatArray:
    """Half spreads as shares of the mid: those given where they are numbers, or the terms'."""
    standard = terms.costs.spread_bps * BASIS_POINT / 2.0
    if given is None:
        return np.full(shape, standard)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(given) & (given >= 0.0), given, standard)


def carried(rates: FloatArray | None, events: int) -> FloatArray:
    """Rates with each missing one replaced by the last known; NaN before the first."""
    if rates is None:
        return np.empty((events, 0))
    with np.errstate(invalid="ignore"):
        good = np.isfinite(rates) & (rates > 0.0)
    rows = np.maximum.accumulate(np.where(good, np.arange(len(rates))[:, None], -1), axis=0)
    found = np.take_along_axis(rates, np.maximum(rows, 0), axis=0)
    return np.where(rows >= 0, found, np.nan)


def rate_columns(
    instruments: Sequence[Instrument], currencies: Sequence[str], terms: Terms
) -> IntArray:
    """Which column of the rates converts each instrument, -1 for the account's own currency.

    Raises
    ------
    ContractViolation: a quote currency has no rate.
    """
    place = {currency: column for column, currency in enumerate(currencies)}
    columns = []
    for one in instruments:
        if one.quote in {"", terms.currency}:
            columns.append(-1)
        elif one.quote in place:
            columns.append(place[one.quote])
        else:
            raise ContractViolation(
                f"{one.name} is priced in {one.quote}, which has no rate into {terms.currency}",
                hint=f"give a column of rates for {one.quote}",
            )
    return np.array(columns, dtype=np.int64)


def conversion(columns: IntArray, rates: FloatArray, events: int) -> FloatArray:
    """The rate of each instrument's quote currency at each event, shape (T, N)."""
    convert = np.ones((events, len(columns)))
    foreign = columns >= 0
    convert[:, foreign] = rates[:, columns[foreign]]
    return convert


def due_events(times: IntArray, known: IntArray, delay: int) -> IntArray:
    """For each event the decision that trades at it, -1 for none; shape (T,)."""
    due = np.full(len(times), -1, dtype=np.int64)
    event = np.searchsorted(times, known, side="right") + delay
    kept = event < len(times)
    # Ascending: of several decisions for one event the last assignment stays.
    due[event[kept]] = np.flatnonzero(kept)
    return due


@overflow_becomes_undefined
def simulate_history(
    history: PriceHistory,
    decisions: Decisions,
    terms: Terms,
    *,
    starting_equity: float = 1.0,
    multiples: Sequence[float] = (1.0,),
    keep_weights: bool = False,
) -> Track:
    """Trade decisions over a history.

    Orders are sized with the conversion rates that were known when the decision was: by the time it
    trades they have moved, and so has its size.

    Parameters
    ----------
    multiples: one account for each, charged so many times; with scores of shape (S, D, N) either
        one for all or S of them.

    Raises
    ------
    ContractViolation: shapes do not fit, or a currency has no rate.
    """
    if decisions.scores.shape[-1] != len(history.instruments):
        raise ContractViolation(
            f"scores of {decisions.scores.shape[-1]} instruments, prices of "
            f"{len(history.instruments)}: expected the same"
        )
    moves, convert = moves_of(history, terms)
    aims = target_weights(
        decisions.scores,
        terms.weighting,
        cap=terms.limits.position,
        volatility=decisions.volatility,
    )
    due = due_events(history.times, decisions.known, terms.delay)
    if history.rates is not None:
        events = np.flatnonzero(due >= 0)
        made = due[events]
        decided = np.searchsorted(history.times, decisions.known[made], side="right") - 1
        never = np.full((1, len(history.currencies)), np.nan)
        columns = rate_columns(history.instruments, history.currencies, terms)
        unknown = conversion(columns, never, 1)
        sized = np.where((decided >= 0)[:, None], convert[np.maximum(decided, 0)], unknown)
        aims = aims.copy()
        aims[..., made, :] = resized(aims[..., made, :], convert[events], sized)
    return hold(
        history.times,
        moves,
        aims,
        due,
        terms,
        holding=HoldingRates.of(history.instruments, terms),
        starting_equity=starting_equity,
        multiples=np.asarray(multiples, dtype=np.float64),
        keep_weights=keep_weights,
    )


def resized(aim: FloatArray, rate: FloatArray, rate_decided: FloatArray) -> FloatArray:
    """Weights aimed at with the rates of the decision, at the rates of the trade.

    A rate that was not known at the decision sizes nothing: that position is not entered.
    """
    known = np.isfinite(rate) & np.isfinite(rate_decided)
    turn = np.where(known, rate, 1.0) / np.where(known, rate_decided, 1.0)
    return np.where(known, aim * turn, 0.0)


@overflow_becomes_undefined
def hold(
    times: IntArray,
    moves: Moves,
    aims: FloatArray,
    due: IntArray,
    terms: Terms,
    *,
    holding: HoldingRates | None = None,
    starting_equity: float = 1.0,
    multiples: npt.ArrayLike = (1.0,),
    keep_weights: bool = False,
) -> Track:
    """Take accounts through every event; the loop around :func:`~assay.portfolio.step.advance`.

    Parameters
    ----------
    aims: books aimed at, shape (D, N), or (S, D, N) for S accounts.
    due: for each event the row of ``aims`` that is due, -1 for none, shape (T,).
    """
    every = np.asarray(multiples, dtype=np.float64)
    many = aims if aims.ndim == 3 else aims[None]
    if 1 not in {len(many), len(every)} and len(many) != len(every):
        raise ContractViolation(
            f"{len(many)} accounts and {len(every)} multiples of costs: expected as many, or one"
        )
    accounts, events = max(len(many), len(every)), len(moves)
    every = np.broadcast_to(every, accounts)
    names = moves.returns.shape[1]
    book = Book.empty(accounts, names, starting_equity)
    numbers = np.zeros((9, accounts, events))
    weights = np.zeros((accounts, events, names)) if keep_weights else None
    for event in range(events):
        aim = many[:, due[event]] if due[event] >= 0 else None
        book, what = advance(
            book, moves.at(event), aim, terms=terms, holding=holding, multiples=every
        )
        numbers[:, :, event] = (
            what.gross, what.financing, what.turnover, what.spread, what.slippage,
            what.commission, what.held, what.unpriced, book.equity,
        )  # fmt: skip
        if weights is not None:
            weights[:, event] = book.weights
    gross, financing, turnover, spread, slippage, commission, held, unpriced, equity = numbers
    return Track(
        times=times,
        gross=gross,
        financing=financing,
        turnover=turnover,
        spread=spread,
        slippage=slippage,
        commission=commission,
        held=held,
        unpriced=unpriced,
        equity=equity,
        starting_equity=starting_equity,
        weights=weights,
        book=book,
        costs_reduce_equity=terms.costs_reduce_equity,
    )


def _last_priced(priced: BoolArray) -> IntArray:
    """For each event the latest one before it with a price, -1 for none; shape (T, N)."""
    rows = np.where(priced, np.arange(len(priced))[:, None], -1)
    upto: IntArray = np.maximum.accumulate(rows, axis=0)
    return np.concatenate((np.full_like(upto[:1], -1), upto[:-1]))


def _shape(name: str, array: FloatArray, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ContractViolation(f"{name} has shape {array.shape}: expected {expected}")
