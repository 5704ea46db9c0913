"""How often each test cries wolf, by simulation under its null. Minutes, so `long`.

Bounds allow four standard errors of the simulation and the known excess of HAC tests in short,
persistent samples; a test that ignored dates or autocorrelation would be far outside.
"""

import math

import numpy as np
import pytest

from assay.statistics.hac import MeanTest, mean_test
from assay.statistics.sharpe import sharpe_ratio
from assay.validation.information import ic
from assay.validation.volatility import calibration_slope, qlike_vs_champion, var_coverage

pytestmark = pytest.mark.long
ROUNDS = 1000


def persistent(generator, size, rho):
    series = generator.standard_normal(size + 200)
    for t in range(1, len(series)):
        series[t] += rho * series[t - 1]
    return series[200:] * math.sqrt(1 - rho**2)


@pytest.mark.parametrize(("size", "rho", "most"), [(250, 0.0, 0.15), (1000, 0.3, 0.15)])
def test_a_mean_of_zero_is_significant_about_as_often_as_stated(size, rho, most):
    generator = np.random.default_rng(1)
    found = [mean_test(persistent(generator, size, rho)) for _ in range(ROUNDS)]
    rate = np.mean([test.p_greater <= 0.10 for test in found if isinstance(test, MeanTest)])
    assert 0.06 <= rate <= most


def risk_panel(generator, days=500, names=20, common=0.5):
    calm = np.exp(0.3 * persistent(generator, days, 0.95))[:, None]
    sigma = 0.006 * calm * np.exp(0.2 * generator.standard_normal((1, names)))
    shock = math.sqrt(common) * generator.standard_normal((days, 1))
    shock = shock + math.sqrt(1 - common) * generator.standard_normal((days, names))
    return np.repeat(np.arange(days), names), sigma.ravel(), (sigma * shock).ravel()


def test_correlated_instruments_do_not_inflate_any_risk_test():
    generator = np.random.default_rng(2)
    coverage, naive, covered, better = [], [], [], []
    for _ in range(ROUNDS // 2):
        dates, sigma, returns = risk_panel(generator)
        found = var_coverage(dates, realised=returns**2, forecast=sigma, returns=returns)
        coverage.append(found.value < 0.05)
        naive.append(found.details["naive_p_value"] < 0.05)
        slope = calibration_slope(dates, realised=returns**2, forecast=sigma)
        covered.append(slope.interval[0] <= 1.0 <= slope.interval[1])
        one, two = np.exp(0.2 * generator.standard_normal((2, len(sigma))))
        comparison = qlike_vs_champion(
            dates, realised=returns**2, forecast=sigma * one, champion=sigma * two
        )
        better.append(comparison.value <= 0.10)
    assert np.mean(coverage) <= 0.11
    assert np.mean(naive) >= 0.25
    assert 0.88 <= np.mean(covered) <= 0.99
    assert 0.05 <= np.mean(better) <= 0.16


def test_overlapping_labels_do_not_inflate_the_information_coefficient():
    generator = np.random.default_rng(3)
    naive, honest = [], []
    for _ in range(ROUNDS // 4):
        daily = generator.standard_normal((420, 10))
        label = np.stack([daily[t : t + 10].sum(axis=0) for t in range(400)])
        score = np.stack([persistent(generator, 400, 0.98) for _ in range(10)], axis=1)
        dates = np.repeat(np.arange(400), 10)
        for horizon, into in ((1, naive), (10, honest)):
            found = ic(dates, label=label.ravel(), prediction=score.ravel(), horizon=horizon)
            into.append(found.details["p_value"] <= 0.05)
    assert np.mean(honest) <= 0.13
    assert np.mean(naive) > np.mean(honest) + 0.03


def test_the_interval_of_the_sharpe_ratio_covers_fat_tailed_returns():
    generator = np.random.default_rng(4)
    hits = []
    for _ in range(ROUNDS):
        series = generator.standard_t(4, 500) / math.sqrt(2) + 0.05
        ratio, error, _ = sharpe_ratio(series)
        hits.append(abs(ratio - 0.05) <= 1.96 * error)
    assert 0.91 <= np.mean(hits) <= 0.975
