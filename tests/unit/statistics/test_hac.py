"""The long-run variance and the test of a mean, against loops and published numbers."""

import math

import numpy as np
import pytest
from scipy import stats

from assay.statistics.hac import (
    MeanTest,
    constant,
    long_run_variance,
    mean_test,
    newey_west_lag,
)


def bartlett_by_loops(series, lag):
    n = len(series)
    mean = sum(series) / n
    total = 0.0
    for j in range(-lag, lag + 1):
        gamma = sum((series[t] - mean) * (series[t - abs(j)] - mean) for t in range(abs(j), n)) / n
        total += (1 - abs(j) / (lag + 1)) * gamma
    return total


SERIES = [0.3, -0.1, 0.4, 0.2, -0.5, 0.9, 0.1, 0.0, 0.7, -0.2, 0.6, 0.5]


@pytest.mark.parametrize("lag", [0, 1, 3, 11])
def test_the_long_run_variance_is_the_bartlett_sum(lag):
    expected = bartlett_by_loops(SERIES, lag)
    assert long_run_variance(np.array(SERIES), lag) == pytest.approx(expected, rel=1e-12)


def test_without_lags_it_is_the_variance_with_divisor_t():
    expected = sum((x - sum(SERIES) / 12) ** 2 for x in SERIES) / 12
    assert long_run_variance(np.array(SERIES), 0) == pytest.approx(expected, rel=1e-12)


def test_the_standard_error_equals_statsmodels():
    # statsmodels 0.15: OLS(x, ones(48)).fit(cov_type="HAC", cov_kwds={"maxlags": 3,
    # "use_correction": False}).bse for x_t = sin(t) + t/50.
    series = np.array([math.sin(t) + t / 50 for t in range(48)])
    found = mean_test(series)
    assert isinstance(found, MeanTest)
    assert found.lag == 3
    assert found.standard_error == pytest.approx(0.12538623756342462, rel=1e-10)


def test_an_alternating_series_has_a_small_error_and_a_trending_one_a_large_error():
    alternating = np.array([1.0, -1.0] * 50) + 0.01 * np.arange(100) % 0.03
    trending = np.sort(alternating)
    small, large = mean_test(alternating), mean_test(trending)
    assert isinstance(small, MeanTest)
    assert isinstance(large, MeanTest)
    plain = float(np.std(alternating)) / 10
    assert small.standard_error < plain < large.standard_error


@pytest.mark.parametrize(
    ("size", "horizon", "lag"),
    [(100, 1, 4), (250, 1, 4), (1000, 1, 6), (2520, 1, 8), (250, 21, 20), (12, 100, 11), (1, 1, 0)],
)
def test_the_lag_rule_covers_the_overlap_of_labels_and_fits_the_sample(size, horizon, lag):
    assert newey_west_lag(size, horizon=horizon) == lag


def test_p_values_are_student_t_and_mirror_each_other():
    found = mean_test(np.array(SERIES))
    assert isinstance(found, MeanTest)
    assert found.p_greater == pytest.approx(stats.t.sf(found.statistic, 11), rel=1e-10)
    assert found.p_less == pytest.approx(1 - found.p_greater, rel=1e-10)
    low, high = found.interval
    half = stats.t.ppf(0.975, 11) * found.standard_error
    assert (low, high) == pytest.approx((found.mean - half, found.mean + half), rel=1e-10)


def test_the_small_sample_correction_is_harvey_leybourne_newbold():
    plain, corrected = mean_test(np.array(SERIES)), mean_test(np.array(SERIES), small_sample=True)
    assert isinstance(plain, MeanTest)
    assert isinstance(corrected, MeanTest)
    n, h = 12, plain.lag + 1
    factor = math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    assert corrected.statistic == pytest.approx(plain.statistic * factor, rel=1e-12)


@pytest.mark.parametrize(
    ("series", "word"),
    [
        ([0.1] * 9, "9 dates"),
        ([], "0 dates"),
        ([0.1] * 50, "never varies"),
        ([0.1 + 0.2, 0.3] * 25, "never varies"),
        ([0.0] * 50, "never varies"),
        ([1.0, float("nan")] * 10, "overflowed"),
        ([1.0, float("inf")] * 10, "overflowed"),
        ([1e308, -1e308] * 10, "long-run variance"),
    ],
)
def test_a_series_without_information_gives_words_not_numbers(series, word):
    found = mean_test(np.array(series, dtype=np.float64))
    assert isinstance(found, str)
    assert word in found


def test_rounding_alone_is_not_variation():
    assert constant(np.array([1.0, np.nextafter(1.0, 2.0)]))
    assert not constant(np.array([1.0, 1.0 + 1e-9]))
    assert not constant(np.array([0.0, 1e-300]))
