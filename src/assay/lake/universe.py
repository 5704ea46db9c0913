"""Which instruments may be traded: a rule on dates, not a list of names.

On the first session of every month the rule looks at what was known at that moment:

(a) enough history: a minimum of observed sessions in the trailing three years, and an observation
    within the last few sessions;
(b) it moves: the rate changed in most of the trailing sessions;
(c) it is not pegged: its volatility against every anchor currency is above a minimum.

A currency is in when all three hold. An instrument is in when both of its currencies are in and
the pair itself is not pegged. The answer holds until the next first session of a month. Nothing
known later can change it, so membership in history is the membership that one would have had.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import NANOS_PER_SECOND, Instant
from assay.domain.order import ORDER_COLUMNS
from assay.errors import ConfigurationError
from assay.lake.contracts import build

_HOME: Final = "EUR"
_NANOS_PER_DAY: Final = 86_400 * NANOS_PER_SECOND
_CURRENCY_SCHEMA: Final = pl.Schema(
    {
        "event_time": pl.Int64,
        "known_at": pl.Int64,
        "currency": pl.String,
        "member": pl.Boolean,
        "observed": pl.Int32,
        "moved": pl.Float64,
        "volatility": pl.Float64,
        "reasons": pl.String,
    }
)
_INSTRUMENT_SCHEMA: Final = pl.Schema(
    {
        "event_time": pl.Int64,
        "known_at": pl.Int64,
        "instrument": pl.String,
        "member": pl.Boolean,
        "volatility": pl.Float64,
        "reasons": pl.String,
    }
)


@dataclass(frozen=True, slots=True)
class UniverseRule:
    """The parameters of the rule.

    Attributes
    ----------
    min_observed: sessions with an observation within the trailing ``history_days``.
    history_days: length of that history in days; three years.
    recent_sessions: the currency must be observed in at least one of the last so many sessions.
    window_sessions: trailing sessions over which movement and volatility are measured.
    min_moved: share of the window's sessions in which the rate must have changed against the
        euro (the euro: against the first other anchor).
    min_volatility: annualised standard deviation of log returns against every anchor.
    sessions_per_year: the factor of annualisation.
    anchors: the currencies that others peg to.
    bases: base currencies of the instruments.
    """

    min_observed: int = 500
    history_days: int = 1096
    recent_sessions: int = 5
    window_sessions: int = 250
    min_moved: float = 0.90
    min_volatility: float = 0.02
    sessions_per_year: int = 252
    anchors: tuple[str, ...] = ("EUR", "USD")
    bases: tuple[str, ...] = ("USD", "SGD")

    def __post_init__(self) -> None:
        for name in ("min_observed", "history_days", "recent_sessions", "sessions_per_year"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.window_sessions < 2:
            raise ConfigurationError(f"window_sessions {self.window_sessions}: expected 2 or more")
        if not 0 <= self.min_moved <= 1:
            raise ConfigurationError(f"min_moved {self.min_moved}: expected a share from 0 to 1")
        if not 0 <= self.min_volatility < math.inf:
            raise ConfigurationError(f"min_volatility {self.min_volatility}: expected 0 or more")
        if not self.anchors or not self.bases:
            raise ConfigurationError("anchors and bases: expected at least one currency each")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Build from a configuration section; refuses unknown keys, wrong types and ranges."""
        return build(cls, mapping)


@dataclass(frozen=True, slots=True)
class Universe:
    """Membership at the first session of every month, with the reasons.

    Attributes
    ----------
    currencies: event_time, known_at, currency, member, observed, moved, volatility (the smallest
        over the anchors), reasons (text, empty for a member).
    instruments: event_time, known_at, instrument, member, volatility (of the pair), reasons.
    """

    currencies: pl.DataFrame
    instruments: pl.DataFrame

    def members(self, moment: Instant | None = None) -> list[str]:
        """Instruments that are in by the last evaluation known at ``moment`` (None: the last)."""
        known = self.instruments
        if moment is not None:
            known = known.filter(pl.col("known_at") <= moment)
        last = known.filter(pl.col("event_time") == pl.col("event_time").max())
        return last.filter("member")["instrument"].sort().to_list()


def evaluate_universe(
    rates: pl.DataFrame, instruments: Sequence[str], rule: UniverseRule
) -> Universe:
    """Apply ``rule`` at the first session of every month.

    Parameters
    ----------
    rates: silver rates (all versions), entities ``EUR_<currency>``, units of currency per euro.
    instruments: names ``A_B`` whose membership is wanted.
    """
    currency_rows: list[tuple[Any, ...]] = []
    instrument_rows: list[tuple[Any, ...]] = []
    bases = sorted({instrument.partition("_")[0] for instrument in instruments})
    for moment in _moments(rates):
        standings = _judge_currencies(moment, rule)
        volatilities = {base: moment.volatility(base, rule) for base in bases}
        for name, (observed, moved, volatility, reasons) in standings.items():
            currency_rows.append(
                (
                    moment.event_time,
                    moment.known_at,
                    name,
                    not reasons,
                    observed,
                    _rounded(moved),
                    _rounded(volatility),
                    "; ".join(reasons),
                )
            )
        for instrument in instruments:
            base, _, quote = instrument.partition("_")
            volatility = volatilities[base].get(quote, math.nan)
            reasons = _judge_pair(base, quote, volatility, standings, rule)
            instrument_rows.append(
                (
                    moment.event_time,
                    moment.known_at,
                    instrument,
                    not reasons,
                    _rounded(volatility),
                    "; ".join(reasons),
                )
            )
    return Universe(
        pl.DataFrame(currency_rows, schema=_CURRENCY_SCHEMA, orient="row"),
        pl.DataFrame(instrument_rows, schema=_INSTRUMENT_SCHEMA, orient="row"),
    )


def _rounded(value: float) -> float | None:
    # Six digits: the last bits of a standard deviation differ between processors, and the table
    # must have the same content hash everywhere.
    return round(value, 6) if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class _Moment:
    """What is known at one evaluation.

    ``rates`` has one row per known session up to now and one column per currency, NaN where
    nothing was observed; ``sessions`` has the event time of each row.
    """

    event_time: Instant
    known_at: Instant
    names: list[str]
    sessions: NDArray[np.int64]
    rates: NDArray[np.float64]

    def volatility(self, base: str, rule: UniverseRule) -> dict[str, float]:
        """Annualised volatility of every currency against ``base``, NaN when undefined."""
        if base not in self.names:
            return {}
        window = np.log(self.rates[-(rule.window_sessions + 1) :])
        ratios = window - window[:, [self.names.index(base)]]
        returns = _returns(ratios)
        count = np.isfinite(returns).sum(axis=0)
        enough = np.where(count >= 2, count, 2)
        total = np.where(np.isfinite(returns), returns, 0.0).sum(axis=0)
        deviations = np.where(np.isfinite(returns), returns - total / enough, 0.0)
        variance = (deviations**2).sum(axis=0) / (enough - 1)
        annual = np.where(count >= 2, np.sqrt(variance * rule.sessions_per_year), np.nan)
        return dict(zip(self.names, annual.tolist(), strict=True))

    def moved(self, base: str, rule: UniverseRule) -> dict[str, float]:
        """Share of the window's sessions in which the rate against ``base`` changed."""
        window = self.rates[-(rule.window_sessions + 1) :]
        returns = _returns(window / window[:, [self.names.index(base)]])
        sessions = max(len(returns), 1)
        share = (np.isfinite(returns) & (returns != 0)).sum(axis=0) / sessions
        return dict(zip(self.names, share.tolist(), strict=True))


def _returns(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences against the last observed level; NaN where this or that one is missing."""
    observed = np.isfinite(levels)
    rows = np.arange(len(levels))[:, None]
    last = np.maximum.accumulate(np.where(observed, rows, -1), axis=0)
    before = last[:-1]
    previous = np.take_along_axis(levels, np.maximum(before, 0), axis=0)
    return np.where(observed[1:] & (before >= 0), levels[1:] - previous, np.nan)


def _moments(rates: pl.DataFrame) -> Iterator[_Moment]:
    """The state of knowledge at the first session of every month, oldest first."""
    if rates.is_empty():
        return
    names = sorted(rates["entity"].unique().str.strip_prefix(f"{_HOME}_").to_list())
    sessions = rates["event_time"].unique().sort().to_numpy()
    # In the order in which versions became known, so that a later one overwrites its cell.
    versions = rates.sort("known_time", "source_rank", "sequence")
    rows = np.searchsorted(sessions, versions["event_time"].to_numpy())
    columns = np.searchsorted(names, versions["entity"].str.strip_prefix(f"{_HOME}_").to_numpy())
    known_times = versions["known_time"].to_numpy()
    values = versions["rate"].to_numpy()
    matrix = np.full((len(sessions), len(names) + 1), np.nan)
    done = 0
    for event_time, known_at in _evaluations(rates):
        upto = int(np.searchsorted(known_times, known_at, side="right"))
        matrix[rows[done:upto], columns[done:upto]] = values[done:upto]
        done = upto
        last = int(np.searchsorted(sessions, event_time, side="right"))
        present: NDArray[np.bool_] = np.isfinite(matrix[:last, :-1]).any(axis=1)
        known = matrix[:last][present]
        known[:, -1] = 1.0  # the euro against itself, at every known session
        yield _Moment(event_time, known_at, [*names, _HOME], sessions[:last][present], known)


def _evaluations(rates: pl.DataFrame) -> list[tuple[Instant, Instant]]:
    """First session of each month, and the first moment at which any of its rates was known."""
    return list(
        rates.group_by("event_time")
        .agg(pl.col("known_time").min())
        .sort("event_time")
        .group_by(
            pl.col("event_time").cast(pl.Datetime("ns")).dt.truncate("1mo").alias("month"),
            maintain_order=True,
        )
        .first()
        .select(ORDER_COLUMNS[:2])
        .iter_rows()
    )


def _judge_currencies(
    moment: _Moment, rule: UniverseRule
) -> dict[str, tuple[int, float, float, list[str]]]:
    """For each currency: observed sessions, share moved, smallest volatility, reasons against."""
    observed = np.isfinite(moment.rates)
    recent = moment.sessions > moment.event_time - rule.history_days * _NANOS_PER_DAY
    counts = observed[recent].sum(axis=0)
    fresh: list[bool] = np.any(observed[-rule.recent_sessions :], axis=0).tolist()
    moved = moment.moved(_HOME, rule)
    others = [anchor for anchor in rule.anchors if anchor != _HOME and anchor in moment.names]
    if others:
        moved[_HOME] = moment.moved(others[0], rule)[_HOME]
    anchors = {anchor: moment.volatility(anchor, rule) for anchor in rule.anchors}
    standings: dict[str, tuple[int, float, float, list[str]]] = {}
    for position, name in enumerate(moment.names):
        reasons: list[str] = []
        count = int(counts[position])
        if count < rule.min_observed:
            reasons.append(
                f"observed in {count} sessions of {rule.history_days} days, "
                f"expected {rule.min_observed}"
            )
        if not fresh[position]:
            reasons.append(f"not observed in the last {rule.recent_sessions} sessions")
        if moved[name] < rule.min_moved:
            reasons.append(f"moved in {moved[name]:.1%} of sessions, expected {rule.min_moved:.0%}")
        smallest = math.nan
        for anchor in rule.anchors:
            if anchor == name:
                continue
            volatility = anchors[anchor].get(name, math.nan)
            smallest = min(smallest, volatility) if math.isfinite(smallest) else volatility
            reasons += _peg(f"against {anchor}", volatility, rule)
        standings[name] = (count, moved[name], smallest, reasons)
    return standings


def _judge_pair(
    base: str,
    quote: str,
    volatility: float,
    standings: Mapping[str, tuple[int, float, float, list[str]]],
    rule: UniverseRule,
) -> list[str]:
    reasons = [f"{name} is out" for name in (base, quote) if standings[name][3]]
    return reasons + _peg("of the pair", volatility, rule)


def _peg(against: str, volatility: float, rule: UniverseRule) -> list[str]:
    if not math.isfinite(volatility):
        return [f"volatility {against} unknown"]
    if volatility < rule.min_volatility:
        return [
            f"pegged: volatility {against} {volatility:.3%}, expected {rule.min_volatility:.0%}"
        ]
    return []
