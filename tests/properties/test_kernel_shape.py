"""Skewness and kurtosis against exact rational arithmetic, in both drivers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import DefinitionError
from assay.features import FeatureView, OfflineDriver, OnlineDriver, Sessions, TimeWindow, col

X = col("x")
NAN = math.nan
SHORT = TimeWindow(15, max_rows=7)
FEATURES = {
    "skew": X.rolling_skew(5),
    "skew_gaps": X.rolling_skew(12, min_count=3),
    "kurt": X.rolling_kurt(6),
    "kurt_gaps": X.rolling_kurt(12, min_count=4),
    "skew_far": (X * 1e9).rolling_skew(12, min_count=3),
    "kurt_small": (X * 1e-5 + 1.1).rolling_kurt(12, min_count=4),
    "skew_small": (X * 1e-5).rolling_skew(12, min_count=3),
    "skew_time": X.rolling_skew(SHORT),
    "kurt_time": X.rolling_kurt(SHORT, min_count=4),
}
VIEW = FeatureView("shape", "source", "entity", FEATURES, Sessions(1))
VALUE = st.one_of(
    st.just(NAN),
    st.integers(-3, 3).map(float),
    st.floats(-1e3, 1e3).map(lambda value: round(value, 3)),
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
    """The value, and what an error is measured against."""
    x = {
        "skew_far": [value * 1e9 for value in x],
        "kurt_small": [value * 1e-5 + 1.1 for value in x],
        "skew_small": [value * 1e-5 for value in x],
    }.get(name, x)
    order = 3 if name.startswith("skew") else 4
    if name.endswith("_time"):
        held = [n for n, t in enumerate(times) if times[row] - 15 < t <= times[row]]
        if len(held) > 7:
            return NAN, 1.0
        least = 4 if name == "kurt_time" else max(3, len(held))
    else:
        window, least = {"skew": (5, 5), "kurt": (6, 6)}.get(name, (12, order))
        held = list(range(max(0, row - window + 1), row + 1))
    values = [Fraction(x[n]) for n in held if not math.isnan(x[n])]
    n = len(values)
    if n < least:
        return NAN, 1.0
    mean = sum(values) / n
    m2 = sum((v - mean) ** 2 for v in values)
    mk = sum((v - mean) ** order for v in values)
    if m2 == 0:
        return NAN, 1.0
    if order == 3:
        return n * math.sqrt(n - 1) / (n - 2) * float(mk) / float(m2) ** 1.5, float(n)
    first = Fraction((n - 1) * n * (n + 1), (n - 2) * (n - 3)) * mk / m2**2
    return float(first - Fraction(3 * (n - 1) ** 2, (n - 2) * (n - 3))), float(first)


@settings(max_examples=80)
@given(ROWS)
def test_skewness_and_kurtosis_are_what_exact_arithmetic_says(
    rows: list[tuple[int, float]],
) -> None:
    table = frame(rows)
    times, x = table["event_time"].to_list(), table["x"].to_list()
    found = OfflineDriver(VIEW, chunk=5).run(table)
    for name in VIEW.feature_names:
        for row, value in enumerate(found[name].to_list()):
            expected, scale = oracle(name, times, x, row)
            if math.isnan(expected):
                assert math.isnan(value), (name, row, value)
            else:
                assert abs(value - expected) <= 1e-8 * scale, (name, row, value, expected)


@settings(max_examples=60)
@given(ROWS, st.integers(0, 39), st.integers(1, 9))
def test_shapes_have_equal_bits_in_both_drivers_and_after_warming_up(
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


@settings(max_examples=30)
@given(
    st.lists(st.integers(-1_000, 1_000).map(float), min_size=4, max_size=30),
    st.integers(1, 64),
    st.integers(-4_096, 4_096),
)
def test_skewness_and_kurtosis_do_not_change_with_level_and_scale(
    values: list[float], scale: int, level: int
) -> None:
    features = {"s": X.rolling_skew(40, min_count=4), "k": X.rolling_kurt(40, min_count=4)}
    view = FeatureView("v", "s", "entity", features, Sessions(1))
    plain = OfflineDriver(view).run(frame([(1, value) for value in values]))
    moved = OfflineDriver(view).run(frame([(1, value * scale + level) for value in values]))
    for name in features:
        a, b = plain[name].to_numpy(), moved[name].to_numpy()
        assert np.allclose(a, b, rtol=1e-7, atol=1e-7, equal_nan=True)


def test_a_window_that_the_sums_could_not_hold_is_refused() -> None:
    with pytest.raises(DefinitionError, match="at most 65,536"):
        X.rolling_skew(65_537)
