"""Covariance, correlation and slope against exact rational arithmetic, in both drivers."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import DefinitionError
from assay.features import FeatureView, OfflineDriver, OnlineDriver, Sessions, TimeWindow, col

X, Y = col("x"), col("y")
NAN = math.nan
SHORT = TimeWindow(15, max_rows=6)
FAR = 1e9  # out of the range of exact sums
VIEW = FeatureView(
    "pairs",
    "source",
    "entity",
    {
        "cov": X.rolling_cov(Y, 6, min_count=2),
        "cov_full": X.rolling_cov(Y, 3),
        "corr": X.rolling_corr(Y, 9, min_count=3),
        "beta": X.rolling_beta(Y, 9, min_count=3),
        "corr_far": (X * FAR).rolling_corr(Y, 9, min_count=3),
        "beta_time": X.rolling_beta(Y, SHORT),
        "corr_time": X.rolling_corr(Y, SHORT, min_count=2),
        "of_returns": X.diff().rolling_cov(Y.diff(), 12, min_count=2),
    },
    Sessions(1),
)
VALUE = st.one_of(
    st.just(NAN),
    st.integers(-3, 3).map(float),
    st.floats(-1e3, 1e3).map(lambda value: round(value, 4)),
)
ROWS = st.lists(st.tuples(st.integers(1, 9), VALUE, VALUE), min_size=1, max_size=40)


def frame(rows: list[tuple[int, float, float]]) -> pl.DataFrame:
    times = np.cumsum([gap for gap, _, _ in rows])
    return pl.DataFrame(
        {
            "entity": ["e"] * len(rows),
            "event_time": times,
            "known_time": times + 1,
            "source_rank": np.zeros(len(rows), dtype=np.int64),
            "sequence": np.arange(len(rows)),
            "x": [x for _, x, _ in rows],
            "y": [y for _, _, y in rows],
        },
        schema_overrides={"x": pl.Float64, "y": pl.Float64},
    )


def differences(values: list[float]) -> list[float]:
    return [NAN, *(b - a for a, b in pairwise(values))]


def oracle(
    name: str, times: list[int], x: list[float], y: list[float], row: int
) -> tuple[float, float]:
    """The value, and what an error is measured against."""
    if name == "of_returns":
        x, y = differences(x), differences(y)
    if name == "corr_far":
        x = [value * FAR for value in x]
    windows = {"cov": 6, "cov_full": 3, "corr": 9, "beta": 9, "corr_far": 9, "of_returns": 12}
    leasts = {"cov": 2, "cov_full": 3, "of_returns": 2, "corr_time": 2}
    if name.endswith("_time"):
        held = [n for n, t in enumerate(times) if times[row] - 15 < t <= times[row]]
        if len(held) > 6:
            return NAN, 1.0
        least = leasts.get(name, max(2, len(held)))
    else:
        held = list(range(max(0, row - windows[name] + 1), row + 1))
        least = leasts.get(name, 3)
    pairs = [
        (Fraction(x[n]), Fraction(y[n]))
        for n in held
        if not math.isnan(x[n]) and not math.isnan(y[n])
    ]
    if len(pairs) < least:
        return NAN, 1.0
    n = len(pairs)
    mx, my = sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n
    xx = sum((a - mx) ** 2 for a, _ in pairs)
    yy = sum((b - my) ** 2 for _, b in pairs)
    xy = sum((a - mx) * (b - my) for a, b in pairs)
    if name.startswith(("cov", "of")):
        scale = math.sqrt(xx * yy) / (n - 1)
        return float(xy / (n - 1)), scale
    if name.startswith("beta"):
        return (float(xy / yy), math.sqrt(xx / yy)) if yy else (NAN, 1.0)
    return (float(xy) / math.sqrt(xx * yy), 1.0) if xx and yy else (NAN, 1.0)


@settings(max_examples=80)
@given(ROWS)
def test_two_inputs_over_a_window_are_what_exact_arithmetic_says(
    rows: list[tuple[int, float, float]],
) -> None:
    table = frame(rows)
    times, x, y = (table[name].to_list() for name in ("event_time", "x", "y"))
    found = OfflineDriver(VIEW, chunk=5).run(table)
    for name in VIEW.feature_names:
        for row, value in enumerate(found[name].to_list()):
            expected, scale = oracle(name, times, x, y, row)
            if math.isnan(expected):
                assert math.isnan(value), (name, row, value)
            else:
                # Inputs are rounded to multiples of 2**-64 first.
                assert abs(value - expected) <= 5e-9 * scale + 1e-17, (name, row, value, expected)


@settings(max_examples=60)
@given(ROWS, st.integers(0, 39), st.integers(1, 9))
def test_two_inputs_have_equal_bits_in_both_drivers_and_after_warming_up(
    rows: list[tuple[int, float, float]], cut: int, chunk: int
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


@settings(max_examples=40)
@given(
    st.lists(st.floats(0.5, 2.0), min_size=3, max_size=30),
    st.floats(-5, 5).filter(lambda slope: abs(slope) > 1e-3),
)
def test_what_moves_on_a_line_has_its_slope_and_a_full_correlation(
    y: list[float], slope: float
) -> None:
    rows = [(1, slope * value + 3.0, value) for value in y]
    features = {
        "beta": X.rolling_beta(Y, 40, min_count=2),
        "corr": X.rolling_corr(Y, 40, min_count=2),
    }
    found = OfflineDriver(FeatureView("v", "s", "entity", features, Sessions(1))).run(frame(rows))
    if max(y) - min(y) < 1e-3:
        return
    assert math.isclose(found["beta"][-1], slope, rel_tol=1e-8)
    assert math.isclose(found["corr"][-1], math.copysign(1.0, slope), rel_tol=1e-8)
    assert -1.0 <= found["corr"][-1] <= 1.0


def test_the_other_input_has_to_be_an_expression() -> None:
    with pytest.raises(DefinitionError, match="'y' is str") as refused:
        X.rolling_beta("y", 5)
    assert "col('y')" in str(refused.value.hint)
