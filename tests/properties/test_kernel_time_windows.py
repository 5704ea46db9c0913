"""Windows of time hold the rows that a plain reading of the definition says, in both drivers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features import FeatureView, OfflineDriver, OnlineDriver, Sessions, TimeWindow, col

X = col("x")
WINDOW = TimeWindow(10, max_rows=6)
LONG = TimeWindow(40, max_rows=9)
VIEW = FeatureView(
    "timed",
    "source",
    "entity",
    {
        "count": X.rolling_count(WINDOW),
        "sum": X.rolling_sum(WINDOW),
        "sum_gaps": X.rolling_sum(WINDOW, min_count=2),
        "mean": X.rolling_mean(LONG, min_count=1),
        "var": X.rolling_var(WINDOW, min_count=2),
        "std_far": (X * 1e9).rolling_std(LONG, min_count=3),
        "z": X.zscore(LONG, min_count=2),
        "of_return": X.diff(2).rolling_mean(WINDOW, min_count=1),
    },
    Sessions(1),
)
NAN = math.nan
VALUE = st.one_of(st.just(NAN), st.floats(-100, 100).map(lambda v: round(v, 3)))
ROWS = st.lists(st.tuples(st.integers(1, 9), VALUE), min_size=1, max_size=40)


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


def window_of(times: list[int], values: list[float], row: int, window: TimeWindow) -> list | None:
    """The values of a window, None where it holds too many rows."""
    held = [
        v for t, v in zip(times, values, strict=True) if times[row] - window.nanos < t <= times[row]
    ]
    return held if len(held) <= window.max_rows else None


def oracle(name: str, times: list[int], x: list[float], row: int) -> float:
    window = LONG if name in {"mean", "std_far", "z"} else WINDOW
    source = [v * 1e9 for v in x] if name == "std_far" else x
    if name == "of_return":
        source = [NAN, NAN, *(b - a for a, b in zip(x, x[2:], strict=False))][: len(x)]
    held = window_of(times, source, row, window)
    if held is None:
        return NAN
    valid = [Fraction(v) for v in held if not math.isnan(v)]
    least = {"count": 0, "sum": len(held), "sum_gaps": 2, "mean": 1, "of_return": 1, "std_far": 3}
    if name == "count":
        return float(len(valid))
    if len(valid) < least.get(name, 2):
        return NAN
    total = sum(valid)
    if name.startswith("sum"):
        return float(total)
    mean = total / len(valid)
    if name in {"mean", "of_return"}:
        return float(mean)
    variance = sum((v - mean) ** 2 for v in valid) / (len(valid) - 1)
    if name == "var":
        return float(variance)
    if name == "std_far":
        return math.sqrt(variance)
    if math.isnan(source[row]) or variance == 0:
        return NAN
    return float(Fraction(source[row]) - mean) / math.sqrt(variance)


@settings(max_examples=60)
@given(ROWS)
def test_a_window_of_time_holds_the_rows_since_its_beginning_and_no_more_than_declared(rows):
    table = frame(rows)
    times, values = table["event_time"].to_list(), table["x"].to_list()
    found = OfflineDriver(VIEW, chunk=5).run(table)
    for name in VIEW.feature_names:
        for row, value in enumerate(found[name].to_list()):
            expected = oracle(name, times, values, row)
            if math.isnan(expected):
                assert math.isnan(value), (name, row, value)
            else:
                assert math.isclose(value, expected, rel_tol=1e-8, abs_tol=1e-11), (name, row)


@settings(max_examples=60)
@given(ROWS, st.integers(0, 39), st.integers(1, 9))
def test_windows_of_time_have_equal_bits_in_both_drivers_and_after_warming_up(rows, cut, chunk):
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
