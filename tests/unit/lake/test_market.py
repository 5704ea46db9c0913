"""Pairs and crosses are ratios of what was known, in every version."""

from __future__ import annotations

import random

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.lake.market import MARKET_SCHEMA, build_market, derive_pairs
from assay.lake.silver import RATES_SCHEMA
from assay.lake.universe import UniverseRule

ROW = ("entity", "event_time", "known_time", "sequence", "rate")


def rates(*rows):
    return (
        pl.DataFrame(rows, schema=ROW, orient="row")
        .with_columns(source_rank=0, extreme=False)
        .select(RATES_SCHEMA.names())
        .cast(dict(RATES_SCHEMA))
    )


def test_a_pair_is_the_ratio_of_its_legs_known_with_the_later_one():
    market = derive_pairs(
        rates(("EUR_USD", 10, 20, 4, 1.25), ("EUR_JPY", 10, 23, 9, 160.0)), ["USD"]
    )
    rows = {row["instrument"]: row for row in market.iter_rows(named=True)}
    assert rows["USD_JPY"] == {
        "instrument": "USD_JPY",
        "event_time": 10,
        "known_time": 23,
        "source_rank": 0,
        "sequence": 9,
        "mid": 160.0 / 1.25,
    }
    assert (rows["USD_EUR"]["mid"], rows["USD_EUR"]["known_time"]) == (1 / 1.25, 20)


def test_a_row_needs_both_legs_at_the_session():
    market = derive_pairs(
        rates(("EUR_USD", 10, 20, 0, 1.25), ("EUR_JPY", 11, 21, 0, 160.0)), ["USD"]
    )
    assert market["instrument"].to_list() == ["USD_EUR"]


def test_no_pair_is_the_inverse_of_another():
    legs = rates(*((f"EUR_{c}", 10, 20, 0, 1.5) for c in ("USD", "SGD", "JPY")))
    names = derive_pairs(legs, ["USD", "SGD"])["instrument"].sort().to_list()
    assert names == ["SGD_EUR", "SGD_JPY", "USD_EUR", "USD_JPY", "USD_SGD"]


versions = st.lists(st.integers(20, 26), min_size=0, max_size=4, unique=True)


@settings(max_examples=100, deadline=None)
@given(versions, versions)
def test_every_version_is_what_both_legs_were_known_to_be(usd, jpy):
    rows = [("EUR_USD", 10, k, n, 1.0 + n + k) for n, k in enumerate(sorted(usd))]
    rows += [("EUR_JPY", 10, k, n, 100.0 + n * k) for n, k in enumerate(sorted(jpy))]
    random.Random(0).shuffle(rows)
    pairs = derive_pairs(rates(*rows), ["USD"]).filter(instrument="USD_JPY").sort("known_time")

    def known(entity, moment):
        found = [(k, n, rate) for e, _, k, n, rate in rows if e == entity and k <= moment]
        return max(found)[2] if found else None

    expected = [
        (moment, known("EUR_JPY", moment) / known("EUR_USD", moment))
        for moment in sorted({*usd, *jpy})
        if known("EUR_JPY", moment) and known("EUR_USD", moment)
    ]
    assert list(pairs.select("known_time", "mid").iter_rows()) == expected


def test_market_numbers_sessions_and_repeats_the_membership_of_the_month():
    day = 86_400_000_000_000
    rng = random.Random(2)
    rows = []
    levels = {"USD": 1.1, "SGD": 1.5, "JPY": 150.0}
    for n in range(400):
        levels = {name: level * (1 + rng.gauss(0, 0.006)) for name, level in levels.items()}
        rows += [(f"EUR_{name}", n * day, n * day + 1, n, v) for name, v in levels.items()]
    rule = UniverseRule(min_observed=100, window_sessions=60)
    tables = build_market(rates(*rows), rule)
    assert tables.market.schema == MARKET_SCHEMA
    assert tables.market["session"].unique().sort().to_list() == list(range(400))
    members = tables.market.filter(instrument="USD_JPY").sort("event_time")["in_universe"].to_list()
    # The hundredth session lies in April 1970 (sessions 90 to 119): members from 1 May on.
    assert members == [False] * 120 + [True] * 280


def test_an_empty_table_of_rates_gives_an_empty_market():
    tables = build_market(rates().clear(), UniverseRule())
    assert tables.market.schema == MARKET_SCHEMA
    assert tables.market.is_empty()
    assert tables.universe.members() == []
