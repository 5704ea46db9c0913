"""Values at the edges of the range of floats, constants, and arguments that cannot be meant."""

from __future__ import annotations

import math
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
import pytest

from assay.errors import ContractViolation, DefinitionError
from assay.features import (
    FX_SESSIONS,
    Duration,
    Expression,
    FeatureView,
    OfflineDriver,
    OnlineDriver,
    Sessions,
    SessionWindow,
    StepFunction,
    TimeWindow,
    col,
    lit,
    sessions_of_rule,
)

X, Y = col("x"), col("y")
NAN = math.nan
LARGEST = StepFunction("def largest(window):\n    return window.max()\n")


def last(
    feature: Expression,
    x: list[float],
    y: list[float] | None = None,
    times: list[int] | None = None,
) -> float:
    return every(feature, x, y, times)[-1]


def every(
    feature: Expression,
    x: list[float],
    y: list[float] | None = None,
    times: list[int] | None = None,
) -> list[float]:
    moments = np.array(times if times is not None else range(1, len(x) + 1), dtype=np.int64)
    table = pl.DataFrame(
        {
            "entity": ["e"] * len(x),
            "event_time": moments,
            "known_time": moments,
            "source_rank": np.zeros(len(x), dtype=np.int64),
            "sequence": np.arange(len(x)),
            "x": [float(value) for value in x],
            "y": [float(value) for value in (x if y is None else y)],
        }
    )
    view = FeatureView("edges", "source", "entity", {"f": feature}, Sessions(1))
    return OfflineDriver(view, chunk=3).run(table)["f"].to_list()


SIZES = (1e-300, 1e-170, 1e-160, 1e-77, 1e-25, 1e20, 1e77, 1e103, 1e160, 1e300)
SHAPE = [1.0, 2.0, 3.0, 7.0, 2.0, 9.0]
OTHER = [2.0, -1.0, 4.0, 3.0, 3.0, 8.0]


def fractions_of(values: list[float]) -> tuple[list[Fraction], Fraction]:
    exact = [Fraction(value) for value in values]
    mean = sum(exact, Fraction(0)) / len(exact)
    return [value - mean for value in exact], mean


@pytest.mark.parametrize("size", SIZES)
def test_skewness_and_kurtosis_do_not_depend_on_the_unit(size: float) -> None:
    away, _ = fractions_of([value * size for value in SHAPE])
    n = len(SHAPE)
    m2, m3, m4 = (sum(v**power for v in away) for power in (2, 3, 4))
    kurtosis = float((n + 1) * n * m4 / m2**2 - 3 * (n - 1)) * (n - 1) / ((n - 2) * (n - 3))
    skewness = n * math.sqrt(n - 1) / (n - 2) * math.sqrt(m3**2 / m2**3)
    x = [value * size for value in SHAPE]
    assert last(X.rolling_kurt(6), x) == pytest.approx(kurtosis, rel=1e-8)
    assert last(X.rolling_skew(6), x) == pytest.approx(skewness, rel=1e-8)


@pytest.mark.parametrize("size", SIZES)
def test_correlation_and_slopes_of_any_size_are_those_of_exact_arithmetic(size: float) -> None:
    x = [value * size for value in SHAPE]
    dx, _ = fractions_of(x)
    dy, _ = fractions_of(OTHER)
    xx, yy = sum(v * v for v in dx), sum(v * v for v in dy)
    xy = sum(a * b for a, b in zip(dx, dy, strict=True))
    correlation = math.sqrt(xy * xy / (xx * yy))
    assert last(X.rolling_corr(Y, 6), x, OTHER) == pytest.approx(correlation, rel=1e-8)
    assert last(X.rolling_beta(Y, 6), x, OTHER) == pytest.approx(float(xy / yy), rel=1e-8)
    assert last(Y.rolling_beta(X, 6), x, OTHER) == pytest.approx(float(xy / xx), rel=1e-8)
    assert last(X.rolling_cov(Y, 6), x, OTHER) == pytest.approx(float(xy / 5), rel=1e-8)
    rows = [Fraction(2 * row - 5, 2) for row in range(6)]
    slope = sum(a * b for a, b in zip(dx, rows, strict=True)) / sum(v * v for v in rows)
    assert last(X.rolling_slope(6), x) == pytest.approx(float(slope), rel=1e-8)


def test_a_trend_below_the_quantum_of_exact_sums_is_not_flat() -> None:
    x = [2.0**-70 + row * 2.0**-110 for row in range(5)]
    assert last(X.rolling_slope(5), x) == pytest.approx(2.0**-110, rel=1e-8)
    assert last(X.rolling_slope(5), [1e-5] * 5) == 0.0


def test_a_quantile_between_far_ends_is_found() -> None:
    assert last(X.rolling_quantile(2, 0.25), [-1e308, 1.6e308]) == pytest.approx(-0.35e308)
    assert last(X.rolling_quantile(2, 0.5), [-1.7e308, 1.7e308]) == 0.0


def test_one_to_any_power_is_one() -> None:
    assert every(X**1e305, [1.0, 1.0, 0.5]) == [1.0, 1.0, 0.0]


def test_a_large_value_long_ago_takes_nothing_from_a_new_small_one() -> None:
    mean = X.ewm_mean(halflife=Duration(10), horizon=TimeWindow(160_000, max_rows=9), min_count=1)
    weight = 2.0**-60
    found = last(mean, [1e20, 1.0], times=[10_000, 10_600])
    assert found == pytest.approx((weight * 1e20 + 1.0) / (weight + 1.0), rel=1e-9)
    assert last(mean, [1e20, 1.0], times=[10_000, 19_990]) == 1.0  # the weight has become zero


def test_enough_values_are_enough_where_their_sum_overflows() -> None:
    huge = 1.7e308
    window = TimeWindow(160, max_rows=9)
    mean = X.ewm_mean(halflife=Duration(10), horizon=window)
    assert every(mean, [huge, huge]) == pytest.approx([huge, huge])
    assert every(LARGEST(X, window=window), [huge, huge]) == [huge, huge]
    assert every(LARGEST(X, window=window, min_count=2), [huge, huge])[1] == huge
    # More rows than max_rows, and gaps, are still missing.
    assert math.isnan(last(LARGEST(X, window=TimeWindow(160, max_rows=2)), [1.0, 2.0, 3.0]))
    assert math.isnan(last(LARGEST(X, window=window), [NAN, 2.0]))


@pytest.mark.parametrize(
    "of",
    [
        lambda x: x.rolling_max(3),
        lambda x: x.rolling_min(4),
        lambda x: x.lag(2),
        lambda x: x.ewm_mean(span=3, horizon=3),
        lambda x: x.ewm_std(span=3, horizon=3),
        lambda x: x.rolling_mean(3),
        lambda x: x.rolling_median(3),
        lambda x: x.diff(1),
    ],
)
def test_a_constant_has_no_rows_before_the_first_one_either(of: Any) -> None:
    constant, computed = every(of(lit(5.0)), [1.0] * 5), every(of(X * 0.0 + 5.0), [1.0] * 5)
    assert np.array_equal(constant, computed, equal_nan=True)


def test_a_zero_has_no_sign_in_a_quantile() -> None:
    assert X.rolling_quantile(5, -0.0).identity == X.rolling_quantile(5, 0.0).identity


@pytest.mark.parametrize("percent", [9, 2, "yes", None])
def test_percent_is_true_or_false(percent: Any) -> None:
    with pytest.raises(DefinitionError, match="True or False"):
        X.rolling_rank(20, percent=percent)


def test_what_is_no_window_is_refused_with_what_to_write_instead() -> None:
    with pytest.raises(DefinitionError, match="TimeWindow"):
        X.ewm_mean(span=5, horizon=SessionWindow("fx_london", 1, max_rows=20))
    for window in (timedelta(hours=1), "1h"):
        with pytest.raises(DefinitionError) as refused:
            X.rolling_mean(window)
        assert "TimeWindow.of(" in str(refused.value.hint)
    with pytest.raises(DefinitionError, match="alpha"):
        X.ewm_mean(alpha=0.0, halflife=Duration(5), horizon=TimeWindow(160, max_rows=9))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def f(x: return 1", "no Python"),
        ("", "one def"),
        ("@property\ndef f(x):\n    return x[0]\n", "decorators"),
        ("def np(x):\n    return x[0]\n", "taken names"),
        ("def f(x):\n    return np.random.rand()\n", "random"),
        ("def f(x):\n    return np.empty(3)[0]\n", "empty"),
    ],
)
def test_a_step_that_is_no_function_of_its_windows_is_refused(text: str, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        StepFunction(text)


def test_a_step_of_a_plain_number_is_refused() -> None:
    with pytest.raises(DefinitionError, match="expected an expression"):
        LARGEST(3.0, window=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("gap", [30, 400, 600, 900])
def test_a_deviation_in_time_keeps_its_digits_where_one_row_has_all_the_weight(gap: int) -> None:
    spread = X.ewm_std(halflife=Duration(10), horizon=TimeWindow(160_000, max_rows=9))
    # Of two values it is their distance over the square root of two, whatever their weights.
    found = last(spread, [1.0, 4.0], times=[10_000, 10_000 + gap])
    assert found == pytest.approx(3.0 / math.sqrt(2.0), rel=1e-9)
    assert last(spread, [1.0, 4.0], times=[10_000, 10_000 + 10 * gap]) == pytest.approx(found)


def test_two_different_calendars_of_one_name_are_refused() -> None:
    rule = FX_SESSIONS["fx_london"]
    short, long = (
        sessions_of_rule("fx_london", rule, date(2024, 1, 1), date(2024, month, 1))
        for month in (2, 3)
    )
    features = {"f": X.rolling_mean(SessionWindow("fx_london", 1, max_rows=5))}
    with pytest.raises(DefinitionError, match="two different calendars"):
        FeatureView("v", "s", "e", features, Sessions(1), None, "UTC", (short, long))
    FeatureView("v", "s", "e", features, Sessions(1), None, "UTC", (short, short))


def test_a_refused_event_leaves_no_entity_behind() -> None:
    rule = FX_SESSIONS["fx_london"]
    table = sessions_of_rule("fx_london", rule, date(2024, 1, 1), date(2024, 2, 1))
    features = {"f": X.rolling_count(SessionWindow("fx_london", 1, max_rows=5))}
    driver = OnlineDriver(FeatureView("v", "s", "e", features, Sessions(1), calendars=(table,)))
    late = table.covers_to + 1
    with pytest.raises(ContractViolation):
        driver.push("A", late, late, {"x": 1.0})
    with pytest.raises(ContractViolation):
        driver.push_many(["A"], np.array([late]), np.array([late]), np.array([[1.0]]))
    assert driver.entities == ()
