"""The dated coefficient with its series, and the paired difference of two models."""

import math

import numpy as np
import pytest
from scipy import stats

from assay.errors import ContractViolation
from assay.statistics.information import (
    daily_correlation,
    information_coefficient,
    paired_information_difference,
)


def panel(seed=2, days=60, names=9):
    generator = np.random.default_rng(seed)
    label = generator.standard_normal((days, names))
    good = 0.8 * label + generator.standard_normal((days, names))
    poor = 0.1 * label + generator.standard_normal((days, names))
    dates = np.repeat(np.arange(days, dtype=np.int64), names)
    return dates, label.ravel(), good.ravel(), poor.ravel()


def newey_west_p(series, horizon=1):
    n = len(series)
    mean = sum(series) / n
    lag = max(horizon - 1, int(4 * (n / 100) ** (2 / 9)))
    variance = 0.0
    for j in range(lag + 1):
        gamma = sum((series[t] - mean) * (series[t - j] - mean) for t in range(j, n)) / n
        variance += gamma if j == 0 else 2 * (1 - j / (lag + 1)) * gamma
    return mean, stats.t.sf(mean / math.sqrt(variance / n), n - 1)


def test_the_series_behind_the_mean_comes_with_it():
    dates, label, good, _ = panel()
    found = information_coefficient(dates, label=label, prediction=good, horizon=5)
    assert found.series.mean() == found.value
    assert found.dates.tolist() == list(range(60))
    assert found.p_value == pytest.approx(newey_west_p(found.series.tolist(), 5)[1], rel=1e-9)


def test_the_ratio_is_annualised_only_when_asked():
    dates, label, good, _ = panel()
    plain = information_coefficient(dates, label=label, prediction=good)
    assert "icir_annualised" not in plain.details
    yearly = information_coefficient(dates, label=label, prediction=good, periods_per_year=252)
    assert yearly.details["icir_annualised"] == pytest.approx(
        plain.details["icir"] * math.sqrt(252), rel=1e-12
    )


@pytest.mark.parametrize("ranked", [False, True])
def test_the_difference_is_that_of_the_same_rows_on_the_same_dates(ranked):
    dates, label, good, poor = panel()
    good, poor, label = good.copy(), poor.copy(), label.copy()
    good[[5, 80]], poor[[200, 201]], label[[7]] = np.nan, np.nan, np.nan
    poor[dates == 11] = 0.5
    found = paired_information_difference(
        dates, label=label, prediction=good, champion=poor, ranked=ranked
    )
    keep = np.isfinite(good) & np.isfinite(poor) & np.isfinite(label) & (dates != 11)
    first, _, _ = daily_correlation(dates[keep], good[keep], label[keep], ranked=ranked)
    second, _, _ = daily_correlation(dates[keep], poor[keep], label[keep], ranked=ranked)
    mean, p = newey_west_p((first - second).tolist())
    assert found.value == pytest.approx(mean, rel=1e-10)
    assert found.p_value == pytest.approx(p, rel=1e-8)
    assert found.sample_size == 59
    assert found.details["rows_incomplete"] == 5
    assert found.details["dates_of_one_model_only"] == 1
    assert found.details["candidate"] - found.details["champion"] == pytest.approx(found.value)
    assert found.value > 0.3
    assert found.p_value < 0.01


def test_the_two_models_change_places():
    dates, label, good, poor = panel()
    one = paired_information_difference(dates, label=label, prediction=good, champion=poor)
    two = paired_information_difference(dates, label=label, prediction=poor, champion=good)
    assert two.value == -one.value
    assert two.p_value == pytest.approx(1 - one.p_value, abs=1e-12)
    assert two.interval == pytest.approx((-one.interval[1], -one.interval[0]))


def test_a_model_compared_with_itself_has_no_difference_to_test():
    dates, label, good, _ = panel()
    found = paired_information_difference(dates, label=label, prediction=good, champion=good)
    assert found.value is None
    assert "never varies" in found.undefined
    nothing = paired_information_difference(
        dates, label=label, prediction=good, champion=np.full(len(good), np.nan)
    )
    assert nothing.value is None
    assert nothing.sample_size == 0
    with pytest.raises(ContractViolation, match="differ in length"):
        paired_information_difference(dates, label=label, prediction=good, champion=good[1:])
