"""Medians, quantiles, ranks, and how long ago: against plain Python over sorted windows."""

from __future__ import annotations

import bisect
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import DefinitionError
from assay.features import FeatureView, OfflineDriver, OnlineDriver, Sessions, TimeWindow, col

X = col("x")
NAN = math.nan
SHORT = TimeWindow(12, max_rows=5)
VIEW = FeatureView(
    "ordered",
    "source",
    "entity",
    {
        "median": X.rolling_median(5, min_count=1),
        "median_full": X.rolling_median(4),
        "q30": X.rolling_quantile(19, 0.3, min_count=2),
        "low": X.rolling_quantile(9, 0.9, interpolation="lower", min_count=1),
        "high": X.rolling_quantile(9, 0.1, interpolation="higher", min_count=1),
        "near": X.rolling_quantile(9, 0.7, interpolation="nearest", min_count=1),
        "rank": X.rolling_rank(7, min_count=1),
        "percent": X.rolling_rank(30, percent=True, min_count=3),
        "median_time": X.rolling_median(SHORT),
        "rank_time": X.rolling_rank(SHORT, min_count=1),
        "min_time": X.rolling_min(SHORT, min_count=1),
        "max_time": X.rolling_max(SHORT),
        "last": X.last_valid(4),
        "since": (X > 1.0).rows_since(6),
        "seconds": (X > 1.0).time_since(6),
    },
    Sessions(1),
)
VALUE = st.one_of(st.just(NAN), st.integers(-3, 3).map(float), st.floats(-1e6, 1e6), st.just(-0.0))
ROWS = st.lists(st.tuples(st.integers(1, 9), VALUE), min_size=1, max_size=60)


def frame(times: list[int], values: list[float]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "entity": ["e"] * len(times),
            "event_time": times,
            "known_time": [time + 1 for time in times],
            "source_rank": np.zeros(len(times), dtype=np.int64),
            "sequence": np.arange(len(times)),
            "x": values,
        },
        schema_overrides={"event_time": pl.Int64, "known_time": pl.Int64, "x": pl.Float64},
    )


def quantile(values: list[float], q: float, method: str) -> float:
    """The definition that pandas and NumPy give, by hand."""
    values = sorted(values)
    place = (len(values) - 1) * q
    low, high = values[math.floor(place)], values[math.ceil(place)]
    if method == "lower":
        return low
    if method == "higher":
        return high
    if method == "nearest":
        return low if place - math.floor(place) <= 0.5 else high
    if method == "midpoint":
        return low if math.floor(place) == place else (low + high) / 2
    return low + (high - low) * (place - math.floor(place))


def rank(values: list[float], value: float) -> float:
    ordered = sorted(values)
    first, last = bisect.bisect_left(ordered, value), bisect.bisect_right(ordered, value)
    return sum(range(first + 1, last + 1)) / (last - first)


def oracle(name: str, times: list[int], x: list[float], row: int) -> float:
    def last(rows: int) -> list[float]:
        return x[max(0, row - rows + 1) : row + 1]

    if name.endswith("_time"):
        held = [v for t, v in zip(times, x, strict=True) if times[row] - 12 < t <= times[row]]
        valid = [v for v in held if not math.isnan(v)]
        if len(held) > 5 or not valid:
            return NAN
        if name in {"median_time", "max_time"} and len(valid) < len(held):
            return NAN
        if name == "rank_time":
            return rank(valid, x[row]) if not math.isnan(x[row]) else NAN
        functions: dict[str, Any] = {"min_time": min, "max_time": max}
        functions["median_time"] = lambda v: quantile(v, 0.5, "midpoint")
        return float(functions[name](valid))
    if name == "last":
        return next((v for v in reversed(last(4)) if not math.isnan(v)), NAN)
    if name in {"since", "seconds"}:
        ago = next((n for n, v in enumerate(reversed(last(6))) if v > 1.0), None)
        if ago is None:
            return NAN
        return float(ago) if name == "since" else (times[row] - times[row - ago]) / 1e9
    cases: dict[str, tuple[int, int, Any]] = {
        "median": (5, 1, lambda v: quantile(v, 0.5, "midpoint")),
        "median_full": (4, 4, lambda v: quantile(v, 0.5, "midpoint")),
        "q30": (19, 2, lambda v: quantile(v, 0.3, "linear")),
        "low": (9, 1, lambda v: quantile(v, 0.9, "lower")),
        "high": (9, 1, lambda v: quantile(v, 0.1, "higher")),
        "near": (9, 1, lambda v: quantile(v, 0.7, "nearest")),
        "rank": (7, 1, lambda v: rank(v, x[row])),
        "percent": (30, 3, lambda v: rank(v, x[row]) / len(v)),
    }
    window, least, function = cases[name]
    valid = [v for v in last(window) if not math.isnan(v)]
    if len(valid) < least or (name in {"rank", "percent"} and math.isnan(x[row])):
        return NAN
    return float(function(valid))


@settings(max_examples=80)
@given(ROWS)
def test_order_statistics_are_those_of_the_sorted_window(rows: list[tuple[int, float]]) -> None:
    times = np.cumsum([gap for gap, _ in rows]).tolist()
    values = [value for _, value in rows]
    found = OfflineDriver(VIEW, chunk=7).run(frame(times, values))
    for name in VIEW.feature_names:
        for row, value in enumerate(found[name].to_list()):
            expected = oracle(name, times, values, row)
            same = value == expected or (math.isnan(value) and math.isnan(expected))
            assert same, (name, row, value, expected)


@settings(max_examples=60)
@given(ROWS, st.integers(0, 59), st.integers(1, 9))
def test_order_statistics_have_equal_bits_in_both_drivers_and_after_warming_up(
    rows: list[tuple[int, float]], cut: int, chunk: int
) -> None:
    times = np.cumsum([gap for gap, _ in rows]).tolist()
    table = frame(times, [value for _, value in rows])
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


@pytest.mark.parametrize("window", [16, 17, 255, 256, 257, 1_000])
def test_long_windows_with_ties_and_gaps_over_many_blocks(window: int) -> None:
    generator = np.random.default_rng(window)
    values = np.concatenate(
        [
            generator.integers(0, 9, 2 * window).astype(float),
            np.sort(generator.normal(size=2 * window)),
            np.sort(generator.normal(size=2 * window))[::-1],
            generator.normal(size=2 * window),
        ]
    )
    values[generator.random(len(values)) < 0.1] = NAN
    view = FeatureView(
        "long",
        "source",
        "entity",
        {
            "q": X.rolling_quantile(window, 0.35, min_count=1),
            "rank": X.rolling_rank(window, min_count=1),
        },
        Sessions(1),
    )
    found = OfflineDriver(view).run(frame(list(range(1, len(values) + 1)), values.tolist()))
    ordered: list[float] = []
    for row, value in enumerate(values.tolist()):
        if row >= window and not math.isnan(values[row - window]):
            ordered.remove(values[row - window])
        if not math.isnan(value):
            bisect.insort(ordered, value)
        q, place = found["q"][row], found["rank"][row]
        assert q == quantile(ordered, 0.35, "linear") if ordered else math.isnan(q)
        assert place == rank(ordered, value) if not math.isnan(value) else math.isnan(place)


def test_quantiles_that_cannot_be_are_refused_with_what_can() -> None:
    with pytest.raises(DefinitionError, match=r"q 1\.5, expected 0 to 1"):
        X.rolling_quantile(5, 1.5)
    with pytest.raises(DefinitionError, match="interpolation 'liner'") as refused:
        X.rolling_quantile(5, 0.5, interpolation="liner")
    assert "linear" in str(refused.value.hint)
    with pytest.raises(DefinitionError, match="expected 1 to"):
        X.last_valid(0)
