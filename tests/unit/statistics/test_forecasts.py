"""Forecast comparisons: Diebold-Mariano on series, the joint Mincer-Zarnowitz test."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from assay.statistics.forecasts import diebold_mariano, mincer_zarnowitz, qlike, qlike_difference


def losses(seed=1, size=200):
    generator = np.random.default_rng(seed)
    first = generator.standard_normal(size) ** 2
    return first, first + 0.3 + 0.8 * generator.standard_normal(size)


@pytest.mark.parametrize("horizon", [1, 8])
def test_diebold_mariano_is_the_corrected_mean_over_its_hac_error(horizon):
    first, second = losses()
    d = (first - second).tolist()
    n, mean = len(d), sum(d) / len(d)
    lag = max(horizon - 1, int(4 * (n / 100) ** (2 / 9)))
    variance = 0.0
    for j in range(lag + 1):
        gamma = sum((d[t] - mean) * (d[t - j] - mean) for t in range(j, n)) / n
        variance += gamma if j == 0 else 2 * (1 - j / (lag + 1)) * gamma
    h = lag + 1
    expected = mean / math.sqrt(variance / n)
    expected *= math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    found = diebold_mariano(first, second, horizon=horizon)
    assert found.value == pytest.approx(expected, rel=1e-10)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(expected), n - 1), rel=1e-9)
    assert found.details["p_first_loses_less"] < 0.01


def test_dates_without_both_losses_are_left_out():
    first, second = losses()
    first[3], second[9] = np.nan, np.nan
    keep = np.isfinite(first) & np.isfinite(second)
    found = diebold_mariano(first, second)
    assert found.value == diebold_mariano(first[keep], second[keep]).value
    assert found.details["dates_missing"] == 2


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ([], [], "0 dates"),
        ([1.0] * 30, [1.0] * 30, "never varies"),
        ([math.nan] * 30, [1.0] * 30, "0 dates"),
        ([math.inf] + [1.0] * 30, [1.0] * 31, "overflowed"),
    ],
)
def test_losses_that_cannot_be_compared_say_why(first, second, word):
    found = diebold_mariano(first, second)
    assert found.value is None
    assert word in found.undefined


def volatility_panel(seed=5, dates=120, names=4):
    generator = np.random.default_rng(seed)
    sigma = 0.01 * np.exp(0.4 * generator.standard_normal((dates, names)))
    returns = sigma * generator.standard_normal((dates, names))
    stamps = np.repeat(np.arange(dates, dtype=np.int64), names)
    return stamps, (returns**2).ravel(), sigma.ravel()


def test_the_joint_test_of_mincer_and_zarnowitz_equals_statsmodels():
    stamps, realised, forecast = volatility_panel()
    found = mincer_zarnowitz(stamps, realised=realised, forecast=forecast)
    h = forecast**2
    fit = sm.WLS(realised, sm.add_constant(h), weights=1 / h**2).fit(
        cov_type="hac-groupsum",
        cov_kwds={"time": stamps, "maxlags": found.details["lag"], "use_correction": False},
    )
    assert found.value == pytest.approx(fit.params[1], rel=1e-9)
    wald = float(fit.wald_test((np.eye(2), np.array([0.0, 1.0])), use_f=False).statistic)
    assert found.p_value == pytest.approx(stats.f.sf(wald / 2, 2, 118), rel=1e-6)


def test_a_biased_variance_forecast_fails_jointly_and_an_unbiased_one_does_not():
    stamps, realised, forecast = volatility_panel(dates=600)
    honest = mincer_zarnowitz(stamps, realised=realised, forecast=forecast)
    biased = mincer_zarnowitz(stamps, realised=realised, forecast=1.3 * forecast)
    assert honest.p_value > 0.05
    assert biased.p_value < 1e-6


def test_qlike_is_lowest_for_the_true_variance():
    realised = np.full(5, 4.0)
    assert qlike(realised, np.full(5, 2.0))[0] == pytest.approx(math.log(4) + 1)
    for other in (1.5, 1.9, 2.1, 3.0):
        assert qlike(realised, np.full(5, other))[0] > qlike(realised, np.full(5, 2.0))[0]


def test_the_comparison_answers_with_a_p_value_and_the_statistic_behind_it():
    stamps, realised, forecast = volatility_panel()
    worse = forecast * np.exp(0.5 * np.random.default_rng(1).standard_normal(len(forecast)))
    found = qlike_difference(stamps, realised=realised, forecast=forecast, champion=worse)
    assert found.p_value == pytest.approx(stats.t.cdf(found.value, 119), rel=1e-9)
    assert found.p_value < 0.05
