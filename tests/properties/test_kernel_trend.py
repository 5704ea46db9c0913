"""The slope over the rows of a window against exact rational arithmetic, in both drivers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features import FeatureView, OfflineDriver, OnlineDriver, Sessions, TimeWindow, col

X = col("x")
NAN = math.nan
SHORT = TimeWindow(15, max_rows=6)
VIEW = FeatureView(
    "trend",
    "source",
    "entity",
    {
        "full": X.rolling_slope(4),
        "gaps": X.rolling_slope(9, min_count=2),
        "far": (X * 1e9).rolling_slope(9, min_count=2),
        "level": (X * 1e-6 + 1_000_000.0).rolling_slope(9, min_count=3),
        "time": X.rolling_slope(SHORT),
        "time_gaps": X.rolling_slope(SHORT, min_count=2),
    },
    Sessions(1),
)
VALUE = st.one_of(
    st.just(NAN),
    st.integers(-3, 3).map(float),
    st.floats(-1e3, 1e3).map(lambda value: round(value, 4)),
)
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
            "x": [x for _, x in rows],
        },
        schema_overrides={"x": pl.Float64},
    )


def oracle(name: str, times: list[int], x: list[float], row: int) -> tuple[float, float]:
    """The slope, and what an error is measured against."""
    x = {
        "far": [value * 1e9 for value in x],
        "level": [value * 1e-6 + 1_000_000.0 for value in x],
    }.get(name, x)
    if name.startswith("time"):
        held = [n for n, t in enumerate(times) if times[row] - 15 < t <= times[row]]
        if len(held) > 6:
            return NAN, 1.0
        least = 2 if name == "time_gaps" else max(2, len(held))
    else:
        window, least = {"full": (4, 4), "level": (9, 3)}.get(name, (9, 2))
        held = list(range(max(0, row - window + 1), row + 1))
    pairs = [(Fraction(n), Fraction(x[n])) for n in held if not math.isnan(x[n])]
    if len(pairs) < least:
        return NAN, 1.0
    mr = sum(r for r, _ in pairs) / len(pairs)
    mx = sum(v for _, v in pairs) / len(pairs)
    rr = sum((r - mr) ** 2 for r, _ in pairs)
    xx = sum((v - mx) ** 2 for _, v in pairs)
    return float(sum((r - mr) * (v - mx) for r, v in pairs) / rr), math.sqrt(xx / rr)


@settings(max_examples=80)
@given(ROWS)
def test_the_slope_is_that_of_the_least_squares_line(rows: list[tuple[int, float]]) -> None:
    table = frame(rows)
    times, x = table["event_time"].to_list(), table["x"].to_list()
    found = OfflineDriver(VIEW, chunk=5).run(table)
    for name in VIEW.feature_names:
        for row, value in enumerate(found[name].to_list()):
            expected, scale = oracle(name, times, x, row)
            if math.isnan(expected):
                assert math.isnan(value), (name, row, value)
            else:
                # Inputs are rounded to multiples of 2**-64 first.
                assert abs(value - expected) <= 2e-9 * scale + 1e-18, (name, row, value, expected)


@settings(max_examples=60)
@given(ROWS, st.integers(0, 39), st.integers(1, 9))
def test_slopes_have_equal_bits_in_both_drivers_and_wherever_a_run_began(
    rows: list[tuple[int, float]], cut: int, chunk: int
) -> None:
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


def test_a_constant_has_no_slope_and_a_line_has_its_own_over_long_windows() -> None:
    window, count = 5_000, 12_000
    view = FeatureView("v", "s", "entity", {"f": X.rolling_slope(window)}, Sessions(1))
    flat = OfflineDriver(view).run(frame([(1, 1.1)] * count))["f"].drop_nans()
    assert flat.len() == count - window + 1
    assert (flat == 0.0).all()
    line = OfflineDriver(view).run(frame([(1, 100.0 + n * 2**-20) for n in range(count)]))["f"]
    assert np.allclose(line.drop_nans().to_numpy(), 2**-20, rtol=1e-9, atol=0.0)
