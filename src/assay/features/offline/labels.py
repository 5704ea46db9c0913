"""Forward labels: what happened after a decision, over an interval that starts after it.

A decision at moment T may use every feature known at T. Its label runs from an entry fix to an
exit fix ``horizon`` sessions later. With ``next_fix`` the entry is the first fix strictly after T,
which could still be traded; with ``last_fix`` it is the last fix at or before T, so that the first
move of the interval is the first one unknown at T: right for a forecast of volatility, too good
for a profit. ``delay`` moves the entry further by whole sessions.

A label is null while its exit is not known by the cut-off, and where a fix it needs is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import Instant
from assay.domain.order import ORDER_COLUMNS
from assay.errors import ConfigurationError, ContractViolation, did_you_mean
from assay.features.offline.point_in_time import require_columns
from assay.features.offline.sessions import SessionCalendar
from assay.lake.silver import latest_as_of

LABEL_COLUMNS: Final = ("label", "label_start", "label_end", "label_known")
_Floats = NDArray[np.float64]
_Integers = NDArray[np.int64]


class Entry(StrEnum):
    """Where a label's interval starts, seen from the decision."""

    NEXT_FIX = "next_fix"
    LAST_FIX = "last_fix"


@dataclass(frozen=True, slots=True)
class ForwardReturn:
    """Log return from the entry fix to the exit fix, ``horizon`` sessions later."""

    horizon: int
    entry: Entry = Entry.NEXT_FIX
    delay: int = 0

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class ForwardVariance:
    """Sum of squared one-session log returns from the entry fix to the exit fix.

    With ``horizon`` 1 and the default entry it is the square of the next return: the proxy under
    which variance forecasts are compared by QLIKE (Patton, 2011, Journal of Econometrics 160).
    """

    horizon: int
    entry: Entry = Entry.LAST_FIX
    delay: int = 0

    def __post_init__(self) -> None:
        _check(self)


Label: TypeAlias = ForwardReturn | ForwardVariance
_KINDS: Final[dict[str, type[Label]]] = {
    "forward_return": ForwardReturn,
    "forward_variance": ForwardVariance,
}


def _check(label: Label) -> None:
    if label.entry not in list(Entry):
        raise ConfigurationError(
            f"label entry {label.entry!r}", hint=did_you_mean(str(label.entry), list(Entry))
        )
    if label.horizon < 1 or label.delay < 0:
        raise ConfigurationError(
            f"label horizon {label.horizon}, delay {label.delay}: expected >= 1 and >= 0"
        )
    object.__setattr__(label, "entry", Entry(label.entry))


def describe_label(label: Label) -> dict[str, Any]:
    """A JSON object from which :func:`label_from` makes an equal label."""
    kind = next(name for name, kind in _KINDS.items() if isinstance(label, kind))
    return {
        "kind": kind,
        "horizon": label.horizon,
        "entry": str(label.entry),
        "delay": label.delay,
    }


def label_from(description: Mapping[str, Any]) -> Label:
    """The label that a description or a configuration section means.

    Raises
    ------
    ConfigurationError: the kind or a key is unknown, or a value is out of range.
    """
    values = dict(description)
    kind = values.pop("kind", None)
    if kind not in _KINDS:
        raise ConfigurationError(f"label kind {kind!r}", hint=did_you_mean(str(kind), _KINDS))
    for key in values:
        if key not in {"horizon", "entry", "delay"}:
            raise ConfigurationError(
                f"unknown key {key!r} in label",
                hint=did_you_mean(key, ["horizon", "entry", "delay"]),
            )
    if type(values.get("horizon")) is not int or type(values.get("delay", 0)) is not int:
        raise ConfigurationError(f"label {description}: horizon and delay are whole sessions")
    return _KINDS[kind](**values)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices that labels are made of; their event times are the sessions.

    Attributes
    ----------
    name: the table in the lake, for example ``silver/market``.
    frame: ``entity``, the four columns of the total order and ``column``, the price (> 0).
    """

    name: str
    frame: pl.DataFrame
    snapshot_id: str
    column: str = "mid"
    entity: str = "instrument"

    def __post_init__(self) -> None:
        require_columns(self.name, self.frame, (self.entity, *ORDER_COLUMNS, self.column))

    def calendar(self, known_at: Instant | None = None) -> SessionCalendar:
        """The sessions of the prices known at ``known_at``."""
        return SessionCalendar.of(self.frame, known_at)


def forward_labels(
    spine: pl.DataFrame,
    label: Label,
    prices: PriceTable,
    *,
    as_of: str = "as_of",
    known_at: Instant | None = None,
) -> pl.DataFrame:
    """The label of every row of ``spine``, in its order.

    Prices are the latest versions known at the cut-off ``known_at`` (None: all).

    Returns
    -------
    Columns label (float64), label_start and label_end (event times of entry and exit) and
    label_known (when the last of the fixes used became known); all four null without a label.

    Raises
    ------
    ContractViolation: a price is missing, zero, negative or not finite.
    """
    return LabelBook(label, prices, known_at=known_at).rows(spine, as_of=as_of)


class LabelBook:
    """:func:`forward_labels` of one label over one table of prices, for any number of spines.

    Raises
    ------
    ContractViolation: a price is missing, zero, negative or not finite.
    """

    def __init__(
        self, label: Label, prices: PriceTable, *, known_at: Instant | None = None
    ) -> None:
        latest = latest_as_of(prices.frame, known_at, entity=prices.entity)
        values = latest[prices.column]
        if values.null_count() or not bool((values.is_finite() & (values > 0)).all()):
            raise ContractViolation(f"table {prices.name}: {prices.column} holds no valid price")
        self._label, self._entity = label, prices.entity
        self._calendar = SessionCalendar.of(latest)
        self._book = _Book.of(latest, prices, self._calendar)

    def rows(self, spine: pl.DataFrame, *, as_of: str = "as_of") -> pl.DataFrame:
        """See :func:`forward_labels`."""
        label, calendar, book = self._label, self._calendar, self._book
        moments = spine[as_of].to_numpy()
        from_now = label.entry is Entry.NEXT_FIX
        start = calendar.number_after(moments) if from_now else calendar.number_at(moments)
        start = np.where(start < 0, len(calendar), start) + label.delay
        entry = book.rows(spine[self._entity], start)
        exits = book.rows(spine[self._entity], start + label.horizon)
        if isinstance(label, ForwardReturn):
            value = book.log_ratio(entry, exits)
            known = np.maximum(book.known[entry], book.known[exits])
        else:
            value, known = _squares(book, entry, label.horizon)
        there = (entry >= 0) & (exits >= 0) & np.isfinite(value)
        times = np.append(calendar.times, 0)
        columns = {
            "label": value,
            "label_start": times[np.minimum(start, len(calendar))],
            "label_end": times[np.minimum(start + label.horizon, len(calendar))],
            "label_known": known,
        }
        mask = pl.Series(there, dtype=pl.Boolean)
        return pl.DataFrame(
            [
                pl.select(pl.when(mask).then(pl.Series(data))).to_series().alias(name)
                for name, data in columns.items()
            ]
        )


def _squares(book: _Book, entry: _Integers, horizon: int) -> tuple[_Floats, _Integers]:
    """Sum of squares over consecutive rows; NaN when a session in between has no price."""
    total = np.zeros(len(entry))
    known = book.known[entry]
    for step in range(horizon):
        one, other = book.following(entry, step), book.following(entry, step + 1)
        move = book.log_ratio(one, other)
        total = total + move * move
        known = np.maximum(known, book.known[other])
    return total, known


@dataclass(frozen=True, slots=True, eq=False)
class _Book:
    """Prices sorted by (entity, session), addressed by both. Row -1 means: no such price."""

    entities: pl.Series
    addresses: _Integers
    sessions: int
    prices: _Floats
    known: _Integers

    @classmethod
    def of(cls, latest: pl.DataFrame, table: PriceTable, calendar: SessionCalendar) -> _Book:
        entities = latest[table.entity].cast(pl.String).unique(maintain_order=True)
        codes = latest[table.entity].cast(pl.String).cast(pl.Enum(entities)).to_physical()
        numbers = calendar.number_at(latest["event_time"].to_numpy())
        addresses = codes.cast(pl.Int64).to_numpy() * len(calendar) + numbers
        # One sentinel at the end, so that row -1 can be indexed and gives NaN.
        return cls(
            entities,
            addresses,
            len(calendar),
            np.append(latest[table.column].cast(pl.Float64).to_numpy(), np.nan),
            np.append(latest["known_time"].to_numpy(), 0),
        )

    def rows(self, entities: pl.Series, sessions: _Integers) -> _Integers:
        """Row of each (entity, session number), -1 where there is no price."""
        codes = entities.cast(pl.String).cast(pl.Enum(self.entities), strict=False).to_physical()
        known = codes.is_not_null().to_numpy() & (sessions >= 0) & (sessions < self.sessions)
        wanted = codes.fill_null(0).cast(pl.Int64).to_numpy() * self.sessions + sessions
        return np.where(known, self._find(wanted), -1)

    def following(self, rows: _Integers, step: int) -> _Integers:
        """Row ``step`` sessions after each row of the same entity, -1 where there is no price."""
        if not len(self.addresses):
            return rows
        start = self.addresses[rows]
        ahead = start + step
        same = ahead // max(self.sessions, 1) == start // max(self.sessions, 1)
        return np.where((rows >= 0) & same, self._find(ahead), -1)

    def _find(self, wanted: _Integers) -> _Integers:
        if not len(self.addresses):
            return np.full(len(wanted), -1)
        found = np.searchsorted(self.addresses, wanted)
        found = np.minimum(found, len(self.addresses) - 1)
        return np.where(self.addresses[found] == wanted, found, -1)

    def log_ratio(self, one: _Integers, other: _Integers) -> _Floats:
        """log(price at ``other`` / price at ``one``), NaN where either is missing."""
        return portable_log(self.prices[other] / self.prices[one])


def portable_log(values: _Floats) -> _Floats:
    """Natural logarithm of positive numbers, with equal bits on every processor.

    The math libraries behind numpy choose another algorithm on another processor, and a training
    set must have the same hash everywhere. Only IEEE additions, multiplications and divisions are
    used here, each rounded by itself: with x = m 2^k and m in [sqrt(1/2), sqrt(2)),
    log x = k log 2 + 2 atanh((m - 1) / (m + 1)). The relative error stays below 5e-16.
    """
    mantissa, exponent = np.frexp(values)
    low = mantissa < np.sqrt(0.5)
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    exponent = exponent - low
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    series = np.zeros_like(s)
    for odd in range(23, 1, -2):
        series = (series + 1.0 / odd) * square
    # log 2 in two parts: the first has few enough bits that k times it is exact.
    high, rest = 6.93147180369123816490e-01, 1.90821492927058770002e-10
    result: _Floats = exponent * high + (exponent * rest + 2.0 * s * series + 2.0 * s)
    return result
