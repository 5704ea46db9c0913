"""What an account may hold, and what trading and holding cost it: the terms of a simulation.

Everything here is a frozen value with a canonical JSON form, so that a paper account's journal and
a backtest's evidence name exactly what was assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from assay.domain.instants import NANOS_PER_SECOND
from assay.errors import ContractViolation, did_you_mean
from assay.statistics.panel import FloatArray, IntArray

BASIS_POINT = 1e-4
NANOS_PER_DAY = 86_400 * NANOS_PER_SECOND
NANOS_PER_HOUR = 3_600 * NANOS_PER_SECOND

Rule: TypeAlias = Literal["demeaned", "rank", "sign", "proportional"]
Nights: TypeAlias = Literal["calendar", "wednesday"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighting:
    """How scores become a book.

    Attributes
    ----------
    rule: ``demeaned``, scores minus their mean across instruments; ``rank``, the same of average
        ranks; ``sign``, one unit per instrument in the direction of its score; ``proportional``,
        the scores as they are. All are scaled to a gross exposure of 1.
    min_names: with fewer scored instruments there is no book.
    inverse_volatility: divide each instrument by its forecast volatility before scaling.
    target_volatility: volatility per period to which the book is scaled instead of gross 1, as if
        instruments were uncorrelated: sqrt(sum (w v)^2). Bound it with a cap on gross exposure.
    """

    rule: Rule = "demeaned"
    min_names: int = 5
    inverse_volatility: bool = False
    target_volatility: float | None = None

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise ContractViolation(
                f"weighting rule {self.rule!r} is not known",
                hint=did_you_mean(self.rule, get_args(Rule)),
            )
        least = 2 if self.rule in {"demeaned", "rank"} else 1
        if self.min_names < least:
            raise ContractViolation(f"min_names {self.min_names}: expected at least {least}")
        if self.target_volatility is not None:
            _positive("target_volatility", self.target_volatility)

    @property
    def needs_volatility(self) -> bool:
        """Whether decisions must bring a volatility for each scored instrument."""
        return self.inverse_volatility or self.target_volatility is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps, each as a share of equity; None is no cap.

    Attributes
    ----------
    position: largest absolute weight of one instrument.
    gross, net: largest sum of absolute weights, and largest absolute sum of weights, of the book
        that is aimed at. Where a position cannot be traded, the rest makes room for it. Between
        trades a book drifts, and a cap on turnover may leave it beyond the others for a while.
    turnover: most that is traded at one event; the trades are then scaled down alike.
    """

    position: float | None = None
    gross: float | None = None
    net: float | None = None
    turnover: float | None = None

    def __post_init__(self) -> None:
        for name in ("position", "gross", "turnover"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))
        if self.net is not None:
            _not_negative("net", self.net)


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingCosts:
    """What it costs to trade, against the mid price.

    Attributes
    ----------
    spread_bps: quoted spread in basis points of the mid, half of which each trade pays; used where
        no bid and ask are given.
    commission_bps: basis points of traded notional.
    commission_per_trade: amount in the account's currency for each order.
    slippage_bps: basis points of traded notional beyond the quoted price.
    slippage_of_spread: further slippage, as a share of the quoted spread.
    """

    spread_bps: float = 0.0
    commission_bps: float = 0.0
    commission_per_trade: float = 0.0
    slippage_bps: float = 0.0
    slippage_of_spread: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            _not_negative(name, value)

    @property
    def flat(self) -> float:
        """Share of traded notional that every trade pays whatever its spread."""
        return (self.commission_bps + self.slippage_bps) * BASIS_POINT

    @property
    def per_half_spread(self) -> float:
        """How many half spreads a trade pays."""
        return 1.0 + 2.0 * self.slippage_of_spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Financing:
    """What holding a position over night costs.

    Attributes
    ----------
    rates: annual interest rate of each currency. A margined pair pays the rate of what it is short
        and earns that of what it is long: long one unit, (quote - base). A funded instrument is
        bought with its quote currency and pays (long) or earns (short) that rate.
    markup: annual rate that the broker takes on every position, long or short.
    nights: ``calendar`` counts every night; ``wednesday`` counts Wednesday's three times and the
        weekend's not at all, as spot currencies settle. A whole week is seven either way.
    rollover_hour: hour of the day, UTC, at which a night begins.
    days_per_year: of the rates.
    """

    rates: Mapping[str, float] = field(default_factory=dict)
    markup: float = 0.0
    nights: Nights = "calendar"
    rollover_hour: int = 22
    days_per_year: int = 365

    def __post_init__(self) -> None:
        for currency, rate in self.rates.items():
            if not math.isfinite(rate):
                raise ContractViolation(f"financing rate of {currency} is {rate}: expected finite")
        _not_negative("markup", self.markup)
        if self.nights not in get_args(Nights):
            raise ContractViolation(f"nights {self.nights!r}: expected 'calendar' or 'wednesday'")
        if not 0 <= self.rollover_hour < 24 or self.days_per_year < 1:
            raise ContractViolation(
                f"rollover_hour {self.rollover_hour}, days_per_year {self.days_per_year}: expected "
                "0 to 23, and at least 1"
            )

    @property
    def free(self) -> bool:
        """Whether holding costs nothing at all."""
        return not self.markup and not any(self.rates.values())

    def nights_between(self, start: IntArray, end: IntArray) -> FloatArray:
        """Nights to pay between instants, int64 ns UTC; float64 of their shape."""
        shift = (24 - self.rollover_hour) * NANOS_PER_HOUR
        first, last = (np.floor_divide(at + shift, NANOS_PER_DAY) for at in (start, end))
        if self.nights == "calendar":
            return (last - first).astype(np.float64)
        return (_wednesday_nights(last) - _wednesday_nights(first)).astype(np.float64)


# Nights of a week that begin before each of its days; day 0 of the epoch was a Thursday.
_FROM_THURSDAY = np.array([0, 1, 2, 2, 2, 3, 4], dtype=np.int64)


def _wednesday_nights(day: IntArray) -> IntArray:
    weeks, rest = np.floor_divide(day, 7), np.mod(day, 7)
    return np.asarray(7 * weeks + _FROM_THURSDAY[rest], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is traded.

    Attributes
    ----------
    name: unique in the account.
    quote: currency of its price; empty for the account's.
    base: for a currency pair, the currency that is bought; it has a financing rate of its own.
    margined: True where only profit and loss change hands (currencies, futures): they are converted
        at the rate of the moment at which they arise. False where the whole position is bought in
        the quote currency (shares) and the position itself moves with that currency.
    """

    name: str
    quote: str = ""
    base: str = ""
    margined: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Everything that is assumed about an account.

    Attributes
    ----------
    weighting, limits, costs, financing: see their types.
    currency: the account's; rates convert into it.
    delay: prices that a decision lets pass before it trades; 0 trades at the first price after it.
    costs_reduce_equity: True for an account that pays its costs, so that later books are smaller.
        False sizes books on equity before costs, so that the same trades can be charged once, twice
        and three times; the returns after costs are then gross returns minus costs.
    """

    weighting: Weighting = field(default_factory=Weighting)
    limits: Limits = field(default_factory=Limits)
    costs: TradingCosts = field(default_factory=TradingCosts)
    financing: Financing = field(default_factory=Financing)
    currency: str = "USD"
    delay: int = 0
    costs_reduce_equity: bool = True

    def __post_init__(self) -> None:
        if self.delay < 0:
            raise ContractViolation(f"delay of {self.delay} prices: expected 0 or more")

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        plain = asdict(self)
        plain["financing"]["rates"] = dict(self.financing.rates)
        return plain

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Terms:
        """Read what :meth:`to_json` wrote."""
        parts = dict(document)
        return cls(
            weighting=Weighting(**parts.pop("weighting")),
            limits=Limits(**parts.pop("limits")),
            costs=TradingCosts(**parts.pop("costs")),
            financing=Financing(**parts.pop("financing")),
            **parts,
        )


@dataclass(frozen=True, slots=True, eq=False)
class HoldingRates:
    """Share of a position that one night costs, by instrument, shape (N,); negative earns."""

    long: FloatArray
    short: FloatArray

    @classmethod
    def of(cls, instruments: Sequence[Instrument], terms: Terms) -> HoldingRates | None:
        """The rates of ``instruments``; None where holding costs nothing.

        Raises
        ------
        ContractViolation: rates are given, but not that of an instrument's currency.
        """
        financing = terms.financing
        if financing.free:
            return None

        def rate(currency: str, owner: str) -> float:
            if currency in financing.rates:
                return financing.rates[currency]
            if not financing.rates:
                return 0.0
            raise ContractViolation(
                f"no financing rate of {currency}, which {owner} needs",
                hint=f"add financing rates[{currency!r}]",
            )

        carry = np.array(
            [
                rate(one.quote or terms.currency, one.name)
                - (rate(one.base, one.name) if one.base else 0.0)
                for one in instruments
            ]
        )
        per_night = 1.0 / financing.days_per_year
        return cls((carry + financing.markup) * per_night, (financing.markup - carry) * per_night)


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0.0):
        raise ContractViolation(f"{name} {value}: expected a finite number above 0")


def _not_negative(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0.0):
        raise ContractViolation(f"{name} {value}: expected a finite number, 0 or more")
