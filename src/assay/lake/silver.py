"""Typed, validated and deduplicated rates out of bronze, and a quarantine for everything else.

1. :func:`parse_rates` reads the raw payload of every record and finds what breaks the contract.
2. Records that repeat a value at one known time are kept once; those that contradict each other
   at one known time are all quarantined, since nobody can say which is right.
3. :func:`judge_moves` compares each remaining version with the last accepted rate that was known
   at its time: extreme moves are flagged, impossible ones quarantined.
4. All versions of a fact are kept. :func:`latest_as_of` resolves them by the total order;
   :func:`as_first_known` gives the ones that a live process acted on.

Nothing is dropped silently: accepted + quarantined + repeated = records of bronze.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import polars as pl

from assay.domain.instants import NANOS_PER_SECOND, Instant
from assay.domain.order import ORDER_COLUMNS
from assay.lake.contracts import RatesContract, Reason

RATES_SCHEMA: Final = pl.Schema(
    {
        "entity": pl.String,
        "event_time": pl.Int64,
        "known_time": pl.Int64,
        "source_rank": pl.Int32,
        "sequence": pl.Int64,
        "rate": pl.Float64,
        "extreme": pl.Boolean,
    }
)
QUARANTINE_SCHEMA: Final = pl.Schema(
    {
        "position": pl.Int64,
        "source": pl.String,
        "entity": pl.String,
        "event_time": pl.Int64,
        "known_time": pl.Int64,
        "source_rank": pl.Int32,
        "sequence": pl.Int64,
        "reason": pl.String,
        "payload": pl.String,
    }
)
_NANOS_PER_DAY: Final = 86_400 * NANOS_PER_SECOND
_ACCEPTED, _EXTREME, _IMPOSSIBLE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class RatesTables:
    """Silver rates and their quarantine, from one state of bronze.

    ``rates`` is sorted by entity and the total order, ``quarantine`` by position in bronze.
    ``repeated`` counts records that say again what another says at the same known time.
    """

    rates: pl.DataFrame
    quarantine: pl.DataFrame
    repeated: int

    @property
    def quarantined_by_reason(self) -> dict[str, int]:
        """Number of quarantined records for each reason that occurs."""
        counts = self.quarantine.group_by("reason").len().sort("reason")
        return dict(counts.iter_rows())


def build_rates(facts: pl.DataFrame, contract: RatesContract) -> RatesTables:
    """Silver rates from the records of bronze.

    Parameters
    ----------
    facts: frame with the columns of :data:`assay.lake.bronze.SCHEMA`.
    """
    parsed = parse_rates(facts, contract)
    key = ("source", "entity", "event_time", "known_time", "published_time")
    sound = parsed.filter(pl.col("reason").is_null())
    sound = sound.with_columns(values=pl.col("rate").n_unique().over(key))
    conflicting = sound.filter(pl.col("values") > 1).with_columns(
        reason=pl.lit(str(Reason.CONFLICTING_VALUES))
    )
    consistent = sound.filter(pl.col("values") == 1)
    single = consistent.sort("entity", *ORDER_COLUMNS).unique(
        key, keep="first", maintain_order=True
    )
    moves = judge_moves(single, contract)
    impossible = single.filter(moves == _IMPOSSIBLE).with_columns(
        reason=pl.lit(str(Reason.IMPOSSIBLE_JUMP))
    )
    rates = single.with_columns(extreme=moves == _EXTREME).filter(moves != _IMPOSSIBLE)
    quarantine = pl.concat(
        frame.select(QUARANTINE_SCHEMA.names())
        for frame in (parsed.filter(pl.col("reason").is_not_null()), conflicting, impossible)
    )
    return RatesTables(
        rates.select(RATES_SCHEMA.names()),
        quarantine.sort("position"),
        len(consistent) - len(single),
    )


def parse_rates(facts: pl.DataFrame, contract: RatesContract) -> pl.DataFrame:
    """``facts`` with the columns ``rate`` (float64) and ``reason`` (null when the row is sound)."""
    payload = pl.col("payload")
    text = payload.str.json_path_match(f"$.{contract.value_field}").str.strip_chars()
    day = payload.str.json_path_match(f"$.{contract.time_field}").str.strip_chars()
    parsed = facts.with_columns(
        _text=text,
        _day=day.str.to_date("%Y-%m-%d", strict=False),
        _event_day=pl.col("event_time")
        .cast(pl.Datetime("ns", "UTC"))
        .dt.convert_time_zone(contract.zone)
        .dt.date(),
    ).with_columns(rate=pl.col("_text").cast(pl.Float64, strict=False))
    # The first reason that applies wins: a number is judged only when there is one.
    reason = (
        pl.when(pl.col("_day").is_null())
        .then(pl.lit(str(Reason.UNPARSEABLE_TIME)))
        .when((pl.col("_day") != pl.col("_event_day")) | _known_before_event())
        .then(pl.lit(str(Reason.TIME_MISMATCH)))
        .when(pl.col("_text").is_null())
        .then(pl.lit(str(Reason.MISSING_VALUE)))
        .when(pl.col("_text").str.contains(r"^(?:[\[{]|true$|false$)"))
        .then(pl.lit(str(Reason.WRONG_TYPE)))
        .when(pl.col("rate").is_null())
        .then(pl.lit(str(Reason.UNPARSEABLE_NUMBER)))
        .when(~pl.col("rate").is_finite())
        .then(pl.lit(str(Reason.NOT_FINITE)))
        .when(pl.col("rate") <= 0)
        .then(pl.lit(str(Reason.NOT_POSITIVE)))
    )
    return parsed.with_columns(reason=reason).drop("_text", "_day", "_event_day")


def _known_before_event() -> pl.Expr:
    return pl.col("known_time") < pl.col("event_time")


def judge_moves(rates: pl.DataFrame, contract: RatesContract) -> pl.Series:
    """0 for an ordinary move, 1 for an extreme one, 2 for an impossible one; one for each row.

    Parameters
    ----------
    rates: sound versions, sorted by entity and the total order, with ``rate``.
    """
    verdicts: list[int] = []
    for _, versions in rates.group_by("entity", maintain_order=True):
        verdicts += _judge_entity(
            versions["event_time"].to_list(),
            versions["known_time"].to_list(),
            versions["rate"].to_list(),
            contract,
        )
    return pl.Series("move", verdicts, dtype=pl.Int8)


def _judge_entity(
    event_times: list[Instant],
    known_times: list[Instant],
    rates: list[float],
    contract: RatesContract,
) -> list[int]:
    """A plain loop: whether a row is impossible depends on whether the row before was believed."""
    gap = int(contract.gap_days * _NANOS_PER_DAY)
    accepted: list[tuple[Instant, Instant, float]] = []
    verdicts: list[int] = []
    for event_time, known_time, rate in zip(event_times, known_times, rates, strict=True):
        level = math.log(rate)
        verdict = _ACCEPTED
        for before, known, previous in reversed(accepted):
            if before < event_time and known <= known_time:
                move = abs(level - previous)
                if event_time - before > gap:
                    break
                if move > contract.impossible_move:
                    verdict = _IMPOSSIBLE
                elif move >= contract.extreme_move:
                    verdict = _EXTREME
                break
        verdicts.append(verdict)
        if verdict != _IMPOSSIBLE:
            accepted.append((event_time, known_time, level))
    return verdicts


def latest_as_of(
    frame: pl.DataFrame, known_at: Instant | None = None, *, entity: str = "entity"
) -> pl.DataFrame:
    """For each (entity, event time), the winning version among those known at ``known_at``.

    Rows come sorted by entity and event time. None means everything that is stored.
    """
    visible = frame if known_at is None else frame.filter(pl.col("known_time") <= known_at)
    return visible.sort(entity, *ORDER_COLUMNS).unique(
        [entity, "event_time"], keep="last", maintain_order=True
    )


def as_first_known(frame: pl.DataFrame, *, entity: str = "entity") -> pl.DataFrame:
    """For each (entity, event time), the version that won when the fact was first known.

    Rows come sorted by entity and event time. This is the history that a live process was fed: it
    acted on the first version, and a later correction of a past session never reached it.
    """
    first = pl.col("known_time").min().over(entity, "event_time")
    return latest_as_of(frame.filter(pl.col("known_time") == first), entity=entity)


def by_year(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """``frame`` in parts by the UTC year of the event time, for a snapshot table.

    A day's commit then rewrites one year and shares the others with the snapshot before.
    """
    if frame.is_empty():
        return {"empty": frame}
    year = pl.col("event_time").cast(pl.Datetime("ns")).dt.year().alias("_year")
    parts = frame.with_columns(year).partition_by(
        "_year", maintain_order=True, as_dict=True, include_key=False
    )
    return {f"{key[0]:04d}": part for key, part in parts.items()}
