"""Weights that fall off with time: what a plain reading of the definition gives, with pure bits."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import DefinitionError
from assay.features import (
    Duration,
    FeatureView,
    OfflineDriver,
    OnlineDriver,
    Sessions,
    TimeWindow,
    col,
)

X = col("x")
HALFLIFE, HORIZON, ROOM = 7, 48, 12
TILE = HORIZON // 16
WINDOW = TimeWindow(HORIZON, max_rows=ROOM)
VIEW = FeatureView(
    "decaying",
    "source",
    "entity",
    {
        "mean": X.ewm_mean(halflife=Duration(HALFLIFE), horizon=WINDOW),
        "mean_gaps": X.ewm_mean(halflife=Duration(HALFLIFE), horizon=WINDOW, min_count=1),
        "std_gaps": X.ewm_std(halflife=Duration(HALFLIFE), horizon=WINDOW, min_count=2),
        "level_std": (X * 1e-4 + 1e5).ewm_std(halflife=Duration(20), horizon=WINDOW, min_count=3),
    },
    Sessions(1),
)
NAN = math.nan
VALUE = st.one_of(st.just(NAN), st.floats(-100, 100).map(lambda v: round(v, 3)))
ROWS = st.lists(st.tuples(st.integers(1, 30), VALUE), min_size=1, max_size=40)


def frame(rows: list[tuple[int, float]]) -> pl.DataFrame:
    times = np.cumsum([gap for gap, _ in rows])
    return pl.DataFrame(
        {
            "entity": ["e"] * len(rows),
            "event_time": times,
            "known_time": times + 1,
            "source_rank": np.zeros(len(rows), dtype=np.int64),
            "sequence": np.arange(len(rows)),
            "x": [value for _, value in rows],
        }
    )


def oracle(name: str, times: list[int], x: list[float], row: int) -> float:
    begin = (times[row] // TILE - 16) * TILE
    held = [(t, v) for t, v in zip(times[: row + 1], x, strict=False) if t >= begin]
    halflife = 20 if name == "level_std" else HALFLIFE
    valid = [(2 ** (-(times[row] - t) / halflife), v) for t, v in held if not math.isnan(v)]
    least = {"mean": len(held), "mean_gaps": 1, "std_gaps": 2, "level_std": 3}[name]
    if len(held) > ROOM or len(valid) < least:
        return NAN
    weight = math.fsum(w for w, _ in valid)
    mean = math.fsum(w * v for w, v in valid) / weight
    if name.startswith("mean"):
        return mean
    squares = math.fsum(w * w for w, _ in valid)
    spread = math.fsum(w * (v - mean) ** 2 for w, v in valid) / weight
    return math.sqrt(spread * weight**2 / (weight**2 - squares))


@settings(max_examples=80)
@given(ROWS)
def test_a_weight_halves_with_each_halflife_over_the_tiles_of_the_horizon(rows) -> None:
    table = frame(rows)
    times, values = table["event_time"].to_list(), table["x"].to_list()
    found = OfflineDriver(VIEW, chunk=5).run(table)
    for name in VIEW.feature_names:
        source = [v * 1e-4 + 1e5 for v in values] if name == "level_std" else values
        for row, value in enumerate(found[name].to_list()):
            expected = oracle(name, times, source, row)
            if math.isnan(expected):
                assert math.isnan(value), (name, row, value)
            else:
                close = math.isclose(value, expected, rel_tol=1e-7, abs_tol=1e-9)
                assert close, (name, row, value, expected)


@settings(max_examples=60)
@given(ROWS, st.integers(0, 39), st.integers(1, 9))
def test_decaying_weights_have_equal_bits_in_both_drivers_and_after_warming_up(rows, cut, chunk):
    table = frame(rows)
    offline = OfflineDriver(VIEW, chunk=chunk).run(table)
    online = OnlineDriver(VIEW).replay(table)
    start = min(cut, table.height)
    driver = OnlineDriver(VIEW)
    if start:
        driver.warm_up(table[max(0, start - VIEW.look_back) : start])
    rest = driver.replay(table[start:])
    for name in VIEW.feature_names:
        bits = offline[name].to_numpy().view(np.int64)
        assert (bits == online[name].to_numpy().view(np.int64)).all(), name
        assert (bits[start:] == rest[name].to_numpy().view(np.int64)).all(), name


def test_a_halflife_in_time_needs_a_horizon_in_time_that_is_longer() -> None:
    with pytest.raises(DefinitionError, match="halflife"):
        X.ewm_mean(halflife=Duration(5), horizon=100)
    with pytest.raises(DefinitionError, match="halflife"):
        X.ewm_mean(halflife=5.0, horizon=WINDOW)
    with pytest.raises(DefinitionError, match="shorter than the halflife"):
        X.ewm_mean(halflife=Duration(HORIZON + 1), horizon=WINDOW)
    with pytest.raises(DefinitionError, match="alpha or span"):
        X.ewm_mean(halflife=Duration(5), span=3, horizon=WINDOW)
