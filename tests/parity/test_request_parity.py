"""A past request's row of a training set and the same request, served, have the same bits.

Everything takes part on both sides: history through the offline driver, gold and the point-in-time
join; events through the online driver, the store and the predictor.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.domain.versions import RISK_MODEL, InputSchema
from assay.features import (
    FeatureView,
    Manifest,
    OfflineDriver,
    OnlineDriver,
    RequestView,
    Sessions,
    col,
    where,
)
from assay.features.offline.labels import PriceTable
from assay.features.offline.past_requests import PastRequests
from assay.features.offline.point_in_time import FeatureTable, TimeToLive
from assay.features.offline.training_sets import Spine, TrainingSet, get_training_set
from assay.features.online import MemoryStore, StoredRow
from assay.lake import Lake
from assay.orchestration.service import StoreFeatures
from assay.serving import LiveModel, LiveModels, OnnxModel, Predictor, Rejected, RequestInputs
from assay.testing.clocks import FixedClock
from assay.testing.versions import linear_onnx

DAY = 86_400 * 10**9
LAG = DAY // 24
SESSIONS, GAP = 40, range(20, 30)
END = SESSIONS * DAY
INSTRUMENTS = ("ALL", "GAP", "LATE", "NONE")
LARGEST = float(np.finfo(np.float32).max)

CHANGE = col("mid").simple_return(1)
SIZE, QUOTE, VOL = col("order_size"), col("quote"), col("vol_5")
VIEW = FeatureView(
    "daily",
    "market",
    "instrument",
    {"mid": col("mid"), "ret_1": CHANGE, "vol_5": CHANGE.rolling_std(5)},
    Sessions(3),
)
ORDER = RequestView(
    "order",
    (VIEW,),
    ("order_size", "quote"),
    {
        "risk": SIZE * VOL,
        "log_size": SIZE.abs().log(),
        "edge": where(col("mid") < QUOTE, (QUOTE - col("mid")) / VOL, -col("ret_1")),
        "root": (SIZE.abs() ** 0.5).clip(upper=1e6) + col("ret_1").fill_missing(0.0),
        "own": QUOTE - 1.0,
    },
)
NAMES = (*VIEW.feature_names, *ORDER.feature_names)


def market() -> pl.DataFrame:
    """ALL has every session, GAP misses ten of them, LATE begins late; known an hour after."""
    generator = np.random.default_rng(5)
    rows = [
        (name, n * DAY, n * DAY + LAG, 0, n, float(np.exp(generator.normal(0, 0.1))))
        for n in range(SESSIONS)
        for name in INSTRUMENTS[:3]
        if not (name == "GAP" and n in GAP) and not (name == "LATE" and n < 15)
    ]
    schema = {
        "instrument": pl.String,
        "event_time": pl.Int64,
        "known_time": pl.Int64,
        "source_rank": pl.Int64,
        "sequence": pl.Int64,
        "mid": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


class Both:
    """The offline and the online side of one small market."""

    def __init__(self, lake: Lake) -> None:
        frame = market()
        snapshot = lake.table("silver/market").commit(frame)
        self.prices = PriceTable("silver/market", frame, snapshot.id)
        gold = OfflineDriver(VIEW).run(frame.sort("instrument", "event_time"))
        self.gold = FeatureTable(
            "gold/daily", gold, VIEW.feature_names, "gold", Manifest.of(VIEW).hash,
            ttl=TimeToLive(sessions=3),
        )  # fmt: skip
        store = MemoryStore(max_versions=SESSIONS)
        driver = OnlineDriver(VIEW)
        for name, event, known, rank, sequence, mid in frame.rows():
            made = driver.push(
                name, event, known, {"mid": mid}, source_rank=rank, sequence=sequence
            )
            assert made is not None
            row = StoredRow(name, event, known, rank, sequence, driver.manifest.hash, made.values)
            store.write(VIEW.name, [row])
        desk: Any = SimpleNamespace(lake=lake, stores=SimpleNamespace(is_remote=False))
        self.source = StoreFeatures(desk, VIEW, store)
        self.inputs = RequestInputs(ORDER, self.source)

    def training_set(self, requests: pl.DataFrame) -> TrainingSet:
        past = PastRequests("silver/requests_order", requests, ORDER.inputs, "requests")
        return get_training_set(
            Spine.of_requests(past), [self.gold], request=ORDER, prices=self.prices, known_at=END
        )

    def predictor(self, manifest: str) -> Predictor:
        """Its model reads everything, and answers zero to whatever is a number."""
        onnx = OnnxModel.from_bytes(linear_onnx([0.0] * len(NAMES), 0.0), InputSchema.of(NAMES))
        model = LiveModel("all", "1.0.0", "0" * 64, RISK_MODEL, manifest, onnx, 0)
        sources = {self.source.manifest: self.source}
        return Predictor(
            LiveModels({"all": model}, "all"), sources, FixedClock(END), requests=[self.inputs]
        )


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(Lake(tmp_path_factory.mktemp("lake"), FixedClock(END)))


MOMENT = st.integers(-DAY, END - 1) | st.integers(0, SESSIONS - 2).flatmap(
    lambda n: st.sampled_from([n * DAY, n * DAY + LAG - 1, n * DAY + LAG])
)
NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1e6, 1e6)
REQUESTS = st.lists(
    st.tuples(st.sampled_from(INSTRUMENTS), MOMENT, NUMBER, NUMBER),
    min_size=1,
    max_size=20,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=80, deadline=None)
@given(REQUESTS)
def test_every_past_request_is_answered_now_as_its_row_was_trained_on(
    both: Both, rows: list[tuple[str, int, float, float]]
) -> None:
    schema = dict(
        zip(
            ("instrument", "as_of", *ORDER.inputs),
            (pl.String, pl.Int64, pl.Float64, pl.Float64),
            strict=True,
        )
    )
    made = both.training_set(pl.DataFrame(rows, schema=schema, orient="row"))
    assert made.manifest_hash == both.inputs.manifest
    assert made.features == NAMES
    assert len(made.frame) == len(rows)
    predictor = both.predictor(made.manifest_hash)
    for row in made.frame.iter_rows(named=True):
        asked = {name: row[name] for name in ORDER.inputs}
        offline = [row[name] for name in NAMES]
        try:
            made_now = predictor.predict(
                row["instrument"], row["as_of"], request=asked, manifest=made.manifest_hash
            )
        except Rejected as refused:
            slug = refused.kind.slug
            if slug in {"no-features", "unknown-instrument", "stale-features"}:
                assert offline == [None] * len(NAMES)
                assert row["stale.daily"] == (slug == "stale-features")
            else:
                assert slug in {"incomplete-features", "input-value"}
                assert not all(abs(value) <= LARGEST for value in offline)
        else:
            assert np.array(made_now.features).tobytes() == np.array(offline).tobytes()


@settings(max_examples=80, deadline=None)
@given(REQUESTS)
def test_features_of_a_request_have_the_bits_of_history_also_where_they_have_no_value(
    both: Both, rows: list[tuple[str, int, float, float]]
) -> None:
    frame = pl.DataFrame(rows, schema=["instrument", "as_of", *ORDER.inputs], orient="row")
    for row in both.training_set(frame).frame.iter_rows(named=True):
        (stored,) = both.source.rows((row["instrument"],), row["as_of"])
        offline = [row[name] for name in ORDER.feature_names]
        if stored is None or stored.stale:
            assert offline == [None] * len(offline)
        else:
            asked = {name: row[name] for name in ORDER.inputs}
            now = both.inputs.extend(stored.values.tolist(), asked)
            assert np.array(now).tobytes() == np.array(offline).tobytes()
