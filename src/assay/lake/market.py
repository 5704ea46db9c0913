"""Instruments out of reference rates: pairs and crosses, with every version of each.

All rates have the euro as their base, so the price of B in A is the ratio of two legs:
``A_B = EUR_B / EUR_A``. A row exists only when both legs exist at that session, and it is known
from the moment at which the later of them is known. When a leg is revised, the ratio has a new
version too, made of the latest versions of both legs known at that moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from assay.domain.order import ORDER_COLUMNS
from assay.lake.universe import Universe, UniverseRule, evaluate_universe

HOME: Final = "EUR"
MARKET_SCHEMA: Final = pl.Schema(
    {
        "instrument": pl.String,
        "event_time": pl.Int64,
        "known_time": pl.Int64,
        "source_rank": pl.Int32,
        "sequence": pl.Int64,
        "mid": pl.Float64,
        "in_universe": pl.Boolean,
        "session": pl.Int32,
    }
)


@dataclass(frozen=True, slots=True)
class MarketTables:
    """Silver market, sorted by instrument and the total order, and the universe behind it."""

    market: pl.DataFrame
    universe: Universe


def build_market(rates: pl.DataFrame, rule: UniverseRule) -> MarketTables:
    """Instruments against every base of ``rule``, with membership by session.

    Parameters
    ----------
    rates: silver rates (all versions), entities ``EUR_<currency>``.

    A session is an event time at which any rate was accepted; ``session`` counts them from 0.
    """
    pairs = derive_pairs(rates, rule.bases)
    universe = evaluate_universe(rates, pairs["instrument"].unique().sort().to_list(), rule)
    sessions = (
        rates.select(pl.col("event_time").unique().sort())
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("session"))
        .join_asof(
            universe.instruments.select(evaluated="event_time").unique().sort("evaluated"),
            left_on="event_time",
            right_on="evaluated",
        )
    )
    members = universe.instruments.select("instrument", "member", evaluated="event_time")
    market = (
        pairs.join(sessions, on="event_time", how="left")
        .join(members, on=["instrument", "evaluated"], how="left")
        .with_columns(pl.col("member").fill_null(value=False).alias("in_universe"))
        .select(MARKET_SCHEMA.names())
        .sort("instrument", *ORDER_COLUMNS)
    )
    if len(market) != len(pairs):
        raise AssertionError(f"{len(pairs)} rows became {len(market)}: a join key is not unique")
    return MarketTables(market, universe)


def derive_pairs(rates: pl.DataFrame, bases: Sequence[str]) -> pl.DataFrame:
    """All versions of ``<base>_<currency>`` for every base, except inverses of earlier pairs."""
    legs = rates.select(
        pl.col("entity").str.strip_prefix(f"{HOME}_").alias("currency"), *ORDER_COLUMNS, "rate"
    )
    done: list[str] = []
    frames: list[pl.DataFrame] = []
    for base in bases:
        leg = legs.filter(pl.col("currency") == base)
        others = legs.filter(~pl.col("currency").is_in([base, *done]))
        frames.append(_ratios(base, leg, others))
        if HOME not in done:
            frames.append(_against_home(base, leg))
        done.append(base)
    return pl.concat(frames)


def _against_home(base: str, leg: pl.DataFrame) -> pl.DataFrame:
    """``<base>_EUR``: the inverse of the one leg there is."""
    return leg.select(
        pl.lit(f"{base}_{HOME}").alias("instrument"),
        *ORDER_COLUMNS,
        pl.Series("mid", 1.0 / leg["rate"].to_numpy()),
    )


def _ratios(base: str, leg: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Every version of every other currency's rate over the base's rate.

    All combinations of versions at one event time are formed; of those known at the same moment,
    the one made of the latest versions is the ratio as it was known then. With one version of
    each leg, the ordinary case, there is one combination.
    """
    combined = others.join(leg, on="event_time", how="inner", suffix="_base")
    known_time = pl.max_horizontal("known_time", "known_time_base")
    latest = (
        combined.with_columns(known_time.alias("known"))
        .sort(
            "currency",
            "event_time",
            "known",
            *(name + suffix for suffix in ("", "_base") for name in ORDER_COLUMNS[1:]),
        )
        .unique(["currency", "event_time", "known"], keep="last", maintain_order=True)
    )
    # Divided by numpy: Polars multiplies by the reciprocal when it holds the divisor as a scalar,
    # as it does for a column of one value, and then the last bit is another one.
    mid = latest["rate"].to_numpy() / latest["rate_base"].to_numpy()
    return latest.select(
        pl.format(f"{base}_{{}}", "currency").alias("instrument"),
        "event_time",
        pl.col("known").alias("known_time"),
        pl.max_horizontal("source_rank", "source_rank_base").alias("source_rank"),
        pl.max_horizontal("sequence", "sequence_base").alias("sequence"),
        pl.Series("mid", mid),
    )
