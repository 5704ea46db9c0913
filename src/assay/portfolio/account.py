"""The driver event by event: one account that decisions and prices reach as they happen.

Every function is pure: a state and an event in, a new state and what it did out. The arithmetic is
that of :mod:`~assay.portfolio.step` and :mod:`~assay.portfolio.weights`, so an account that was fed
a history one event at a time holds the same bits as a backtest over it. The state is a frozen value
with an exact JSON form (floats in hexadecimal): an account resumes with the bits that it had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.domain.instants import Instant, render
from assay.errors import ConfigurationError, ContractViolation, OutOfOrder, did_you_mean
from assay.portfolio.history import (
    conversion,
    half_spreads,
    rate_columns,
    relatives,
    resized,
)
from assay.portfolio.step import Book, Event, Move, advance
from assay.portfolio.terms import HoldingRates, Instrument, Terms
from assay.portfolio.weights import fixed_sum, target_weights
from assay.statistics.panel import FloatArray
from assay.statistics.statistic import overflow_becomes_undefined

_ONCE = np.ones(1)


@dataclass(frozen=True, slots=True)
class Decision:
    """Scores that became known at one moment.

    Attributes
    ----------
    id: unique; a decision that comes twice under one id is traded once.
    known: the moment, int ns UTC; it trades at prices after it.
    scores: by instrument; one that is not named has none.
    volatility: forecast per period by instrument, where the weighting needs it.
    """

    id: str
    known: Instant
    scores: Mapping[str, float]
    volatility: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """The market at one moment.

    Attributes
    ----------
    at: the moment, int ns UTC; each is later than the last.
    mid: by instrument, in its quote currency; one that is not named has no price now.
    half_spread: (ask - bid) / 2 / mid by instrument, where known.
    rates: units of the account's currency for one unit of a currency, where known.
    """

    at: Instant
    mid: Mapping[str, float]
    half_spread: Mapping[str, float] | None = None
    rates: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A decision that has not traded yet.

    ``rates`` are the conversion rates known at the decision; ``waited`` is how many prices after it
    have passed.
    """

    id: str
    known: Instant
    aim: FloatArray
    rates: FloatArray
    waited: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """What a decision asked of one instrument, when its prices had come.

    ``units`` are signed and in units of the instrument; ``weight`` is the share of equity that it
    moves.
    """

    id: str
    decision: str
    instrument: str
    units: float
    weight: float


@dataclass(frozen=True, slots=True)
class Fill:
    """How an order was filled: in full, at the mid and half a spread and slippage beyond.

    ``price`` is in the quote currency; ``cost`` is all that was charged against the mid, commission
    included, in the account's currency.
    """

    order: str
    instrument: str
    units: float
    price: float
    cost: float


@dataclass(frozen=True, slots=True)
class Mark:
    """An account after one event; amounts in its currency.

    Attributes
    ----------
    profit: of positions since the event before. financing, spread, slippage, commission: charged.
    turnover: notional traded, as a share of equity before costs.
    held, unpriced: positions there were to mark, and those of them without a price.
    gross_exposure, net_exposure: after trading, as shares of equity.
    decision: the one that traded, None where none was due.
    superseded: decisions that came due at the same price and were not traded.
    """

    at: Instant
    equity: float
    profit: float
    financing: float
    spread: float
    slippage: float
    commission: float
    turnover: float
    held: int
    unpriced: int
    gross_exposure: float
    net_exposure: float
    ruined: bool
    decision: str | None
    superseded: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class AccountState:
    """An account between two events; see :class:`Account` for what never changes.

    Attributes
    ----------
    book: weights of shape (1, N), equity and ruin.
    prices, rates: of each instrument when it was last priced, shape (N,); NaN before.
    currency_rates: the last known rate of each currency, shape (C,); NaN before.
    at: of the last prices; None before the first.
    events: how many prices it has taken.
    pending: decisions that have not traded, in the order in which they came.
    """

    book: Book
    prices: FloatArray
    rates: FloatArray
    currency_rates: FloatArray
    at: Instant | None = None
    events: int = 0
    pending: tuple[Pending, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over the bits of the whole state."""
        book = self.book
        arrays = [book.weights, book.equity, self.prices, self.rates, self.currency_rates]
        words: list[Any] = [self.at, self.events, bool(book.ruined[0])]
        for one in self.pending:
            arrays += [one.aim, one.rates]
            words += [one.id, one.known, one.waited]
        return sha256_hex(b"".join(a.tobytes() for a in arrays) + canonical_bytes(words))

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which :meth:`from_json` makes the same bits."""
        return {
            "at": self.at,
            "events": self.events,
            "equity": _hex(self.book.equity)[0],
            "ruined": bool(self.book.ruined[0]),
            "weights": _hex(self.book.weights[0]),
            "prices": _hex(self.prices),
            "rates": _hex(self.rates),
            "currency_rates": _hex(self.currency_rates),
            "pending": [
                {
                    "id": one.id,
                    "known": one.known,
                    "aim": _hex(one.aim),
                    "rates": _hex(one.rates),
                    "waited": one.waited,
                }
                for one in self.pending
            ],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> AccountState:
        """Read what :meth:`to_json` wrote."""
        book = Book(
            _floats(document["weights"])[None],
            _floats([document["equity"]]),
            np.array([document["ruined"]], dtype=np.bool_),
        )
        pending = tuple(
            Pending(
                one["id"], one["known"], _floats(one["aim"]), _floats(one["rates"]), one["waited"]
            )
            for one in document["pending"]
        )
        return cls(
            book,
            _floats(document["prices"]),
            _floats(document["rates"]),
            _floats(document["currency_rates"]),
            document["at"],
            document["events"],
            pending,
        )


@dataclass(frozen=True, slots=True)
class Advanced:
    """What prices did to an account."""

    state: AccountState
    orders: tuple[Order, ...]
    fills: tuple[Fill, ...]
    mark: Mark


class Account:
    """What never changes about an account: instruments, currencies, terms.

    Parameters
    ----------
    instruments: all that may ever be traded, in the order of the arrays.
    currencies: those whose rates will be given.

    Raises
    ------
    ContractViolation: two instruments share a name, or a currency is missing.
    """

    def __init__(
        self, instruments: Sequence[Instrument], terms: Terms, currencies: Sequence[str] = ()
    ) -> None:
        self.instruments = tuple(instruments)
        self.terms = terms
        self.currencies = tuple(currencies)
        self.names = tuple(one.name for one in self.instruments)
        if not self.names or len(set(self.names)) != len(self.names):
            raise ContractViolation(
                f"instruments {list(self.names)}: expected distinct names, at least one"
            )
        self._columns = {name: column for column, name in enumerate(self.names)}
        self._margined = np.array([one.margined for one in self.instruments], dtype=np.bool_)
        self._holding = HoldingRates.of(self.instruments, terms)
        self._rates = rate_columns(self.instruments, self.currencies, terms)

    def open(self, equity: float) -> AccountState:
        """A new account that holds nothing.

        Raises
        ------
        ContractViolation: ``equity`` is not a finite amount above 0.
        """
        if not (np.isfinite(equity) and equity > 0.0):
            raise ContractViolation(f"starting equity {equity}: expected an amount above 0")
        nothing = np.full(len(self.names), np.nan)
        return AccountState(
            Book.empty(1, len(self.names), equity),
            nothing,
            nothing,
            np.full(len(self.currencies), np.nan),
        )

    def decide(self, state: AccountState, decision: Decision) -> AccountState:
        """Take a decision; it trades when prices after it come.

        Raises
        ------
        OutOfOrder: prices after it, or a later decision, have been taken already.
        ContractViolation: it scores an instrument that the account does not trade.
        """
        if state.at is not None and decision.known < state.at:
            raise OutOfOrder(
                f"decision {decision.id} was known at {render(decision.known)}, before the prices "
                f"of {render(state.at)} which the account has taken"
            )
        if state.pending and decision.known <= state.pending[-1].known:
            raise OutOfOrder(
                f"decision {decision.id} was known at {render(decision.known)}, not after "
                f"{state.pending[-1].id} at {render(state.pending[-1].known)}"
            )
        volatility = decision.volatility
        aim = target_weights(
            self._row(decision.scores, "decision"),
            self.terms.weighting,
            cap=self.terms.limits.position,
            volatility=None if volatility is None else self._row(volatility, "volatility"),
        )
        waiting = Pending(decision.id, decision.known, aim, self._convert(state.currency_rates))
        return replace(state, pending=(*state.pending, waiting))

    @overflow_becomes_undefined
    def take(self, state: AccountState, prices: Prices) -> Advanced:
        """Mark, finance and trade at new prices.

        Raises
        ------
        OutOfOrder: they are not later than the last ones.
        ContractViolation: they name an instrument or currency that the account does not know.
        """
        if state.at is not None and prices.at <= state.at:
            raise OutOfOrder(
                f"prices of {render(prices.at)} are not after those of {render(state.at)}"
            )
        currency_rates = self._carried(state.currency_rates, prices.rates)
        convert = self._convert(currency_rates)
        move, price = self._move(state, prices, convert)
        due, pending = self._due(state.pending, prices.at, convert)
        aim = None if not due else resized(due[-1].aim, convert, due[-1].rates)
        if aim is not None and not self.currencies:
            aim = due[-1].aim
        book, event = advance(
            state.book,
            move,
            None if aim is None else aim[None],
            terms=self.terms,
            holding=self._holding,
            multiples=_ONCE,
        )
        after = AccountState(
            book,
            np.where(move.priced, price, state.prices),
            np.where(move.priced, convert, state.rates),
            currency_rates,
            prices.at,
            state.events + 1,
            pending,
        )
        traded = due[-1].id if due else None
        orders, fills = self._filled(state.book, event, traded, price, convert, move)
        mark = _mark(state.book, after, event, traded, tuple(one.id for one in due[:-1]))
        return Advanced(after, orders, fills, mark)

    def positions(self, state: AccountState) -> dict[str, float]:
        """Units held of each instrument at its last price; those that are not held are left out."""
        with np.errstate(invalid="ignore"):
            units = state.book.weights[0] * state.book.equity[0] / (state.prices * state.rates)
        return {
            name: float(held)
            for name, held in zip(self.names, units, strict=True)
            if held != 0.0 and np.isfinite(held)
        }

    def _move(
        self, state: AccountState, prices: Prices, convert: FloatArray
    ) -> tuple[Move, FloatArray]:
        price = self._row(prices.mid, "prices")
        priced = np.isfinite(price) & (price > 0.0) & np.isfinite(convert)
        both = priced & np.isfinite(state.prices)
        returns, growth = relatives(price, state.prices, convert, state.rates, both, self._margined)
        given = None if prices.half_spread is None else self._row(prices.half_spread, "spreads")
        earlier = prices.at if state.at is None else state.at
        nights = self.terms.financing.nights_between(np.array([earlier]), np.array([prices.at]))
        half = half_spreads(given, price.shape, self.terms)
        return Move(returns, growth, priced, priced, half, float(nights[0])), price

    def _due(
        self, waiting: tuple[Pending, ...], at: Instant, convert: FloatArray
    ) -> tuple[list[Pending], tuple[Pending, ...]]:
        due: list[Pending] = []
        pending: list[Pending] = []
        for one in waiting:
            if one.known >= at:
                # These prices were known when it was made: it is sized with their rates.
                pending.append(replace(one, rates=convert))
            elif one.waited == self.terms.delay:
                due.append(one)
            else:
                pending.append(replace(one, waited=one.waited + 1))
        return due, tuple(pending)

    def _filled(
        self,
        before: Book,
        event: Event,
        decision: str | None,
        price: FloatArray,
        convert: FloatArray,
        move: Move,
    ) -> tuple[tuple[Order, ...], tuple[Fill, ...]]:
        if event.trades is None or decision is None:
            return (), ()
        equity = float(before.equity[0] * (1.0 + event.gross[0] - event.financing[0]))
        costs = self.terms.costs
        orders, fills = [], []
        for column in np.flatnonzero(event.trades[0]):
            weight = float(event.trades[0, column])
            mid, half = float(price[column]), float(move.half_spread[column])
            units = weight * equity / (mid * float(convert[column]))
            beyond = half * costs.per_half_spread + costs.slippage_bps * 1e-4
            order = Order(
                f"{decision}:{self.names[column]}", decision, self.names[column], units, weight
            )
            charged = abs(weight) * equity * (beyond + costs.commission_bps * 1e-4)
            orders.append(order)
            fills.append(
                Fill(
                    order.id,
                    order.instrument,
                    units,
                    mid * (1.0 + np.sign(weight) * beyond),
                    charged + costs.commission_per_trade,
                )
            )
        return tuple(orders), tuple(fills)

    def _row(self, values: Mapping[str, float], what: str) -> FloatArray:
        row = np.full(len(self.names), np.nan)
        for name, value in values.items():
            if name not in self._columns:
                raise ContractViolation(
                    f"{what} of {name!r}, which the account does not trade",
                    hint=did_you_mean(name, self.names),
                )
            row[self._columns[name]] = value
        return row

    def _carried(self, last: FloatArray, given: Mapping[str, float] | None) -> FloatArray:
        rates = last.copy()
        for currency, rate in (given or {}).items():
            if currency not in self.currencies:
                raise ContractViolation(
                    f"rate of {currency!r}, which the account does not convert",
                    hint=did_you_mean(currency, self.currencies),
                )
            if np.isfinite(rate) and rate > 0.0:
                rates[self.currencies.index(currency)] = rate
        return rates

    def _convert(self, currency_rates: FloatArray) -> FloatArray:
        rates = currency_rates[None]
        row: FloatArray = conversion(self._rates, rates, 1)[0]
        return row


def _mark(
    before: Book,
    after: AccountState,
    event: Event,
    decision: str | None,
    superseded: tuple[str, ...],
) -> Mark:
    start = float(before.equity[0])
    equity = start * float(1.0 + event.gross[0] - event.financing[0])
    weights = after.book.weights[0]
    return Mark(
        at=after.at or 0,
        equity=float(after.book.equity[0]),
        profit=start * float(event.gross[0]),
        financing=start * float(event.financing[0]),
        spread=equity * float(event.spread[0]),
        slippage=equity * float(event.slippage[0]),
        commission=equity * float(event.commission[0]),
        turnover=float(event.turnover[0]),
        held=int(event.held[0]),
        unpriced=int(event.unpriced[0]),
        gross_exposure=float(fixed_sum(np.abs(weights))),
        net_exposure=float(fixed_sum(weights)),
        ruined=bool(after.book.ruined[0]),
        decision=decision,
        superseded=superseded,
    )


def exact(value: float) -> str:
    """A float as text that gives back its bits."""
    return float(value).hex()


def _hex(values: FloatArray) -> list[str]:
    return [exact(float(value)) for value in values]


def _floats(texts: Sequence[str]) -> FloatArray:
    try:
        return np.array([float.fromhex(text) for text in texts], dtype=np.float64)
    except ValueError as error:
        raise ConfigurationError(f"an exact number cannot be read: {error}") from None
