"""Sharpe ratios and their probability, against published numbers and plain loops."""

import math

import numpy as np
import pytest
from scipy import stats

from assay.errors import ContractViolation
from assay.statistics.sharpe import (
    Moments,
    annualisation_factor,
    annualised_sharpe,
    autocorrelations,
    minimum_track_record,
    psr,
    psr_2012,
    psr_2025,
    sharpe,
    sharpe_ratio,
    track_record_2012,
    track_record_2025,
)

# The hedge fund of both papers: 24 monthly returns, annual ratio 1.585 in Bailey and Lopez de Prado
# (2012), mean .036 and standard deviation .079 in Lopez de Prado, Lipton and Zoonekynd (2025).
FUND_2012 = Moments(1.585 / math.sqrt(12), 24, skewness=-2.448, kurtosis=10.164)
FUND_2025 = Moments(0.036 / 0.079, 24, skewness=-2.448, kurtosis=10.164)


def returns(seed=5, size=400, edge=0.05):
    return np.random.default_rng(seed).standard_normal(size) + edge


def test_the_probability_of_2012_is_the_published_one():
    assert psr_2012(FUND_2012) == pytest.approx(0.9132, abs=5e-5)
    as_if_normal = Moments(FUND_2012.ratio, 24)
    assert psr_2012(as_if_normal) == pytest.approx(0.9816, abs=5e-5)


def test_the_numbers_of_2025_are_the_published_ones():
    error = math.sqrt(FUND_2025.variance(FUND_2025.ratio) / 24)
    assert error == pytest.approx(0.329, abs=5e-4)
    normal = Moments(FUND_2025.ratio, 24)
    assert math.sqrt(normal.variance(normal.ratio) / 24) == pytest.approx(0.214, abs=5e-4)
    assert psr_2025(FUND_2025) == pytest.approx(0.987, abs=5e-4)
    assert psr_2025(FUND_2025, 0.1) == pytest.approx(0.939, abs=5e-4)
    assert track_record_2025(FUND_2025) == pytest.approx(13.029, abs=5e-4)
    persistent = Moments(FUND_2025.ratio, 24, -2.448, 10.164, autocorrelation=0.2)
    assert psr_2025(persistent) == pytest.approx(0.966, abs=5e-4)


# Bailey and Lopez de Prado (2012), tables of minimum track records: a ratio of 2 a year against 1.
@pytest.mark.parametrize(
    ("periods", "years"), [(250, 2.7312), (252, 2.7310), (52, 2.8288), (12, 3.2398)]
)
def test_minimum_track_records_of_normal_returns_are_the_published_ones(periods, years):
    moments = Moments(2 / math.sqrt(periods), 10)
    found = track_record_2012(moments, 1 / math.sqrt(periods)) / periods
    assert found == pytest.approx(years, abs=5e-5)


def test_the_minimum_track_record_of_a_skewed_fund_is_the_published_one():
    # PerformanceAnalytics, example of MinTrackRecord: skewness -0.72, kurtosis 5.78, monthly.
    moments = Moments(2 / math.sqrt(12), 59, skewness=-0.72, kurtosis=5.78)
    found = track_record_2012(moments, 1 / math.sqrt(12))
    assert found == pytest.approx(59.8951, abs=5e-5)
    assert found / 12 == pytest.approx(4.99, abs=5e-3)


def test_no_track_record_makes_a_ratio_below_the_benchmark_good():
    assert track_record_2012(Moments(0.1, 24), 0.2) == math.inf
    assert track_record_2025(Moments(-0.1, 24)) == math.inf
    found = minimum_track_record(returns(edge=-0.5))
    assert found.value is None
    assert "no track record is long enough" in found.undefined


def test_with_the_minimum_track_record_the_probability_reaches_its_level():
    for level in (0.9, 0.95, 0.99):
        short = Moments(0.11, 10, -0.4, 6.0)
        size = math.ceil(track_record_2012(short, 0.02, level=level))
        assert psr_2012(Moments(0.11, size, -0.4, 6.0), 0.02) >= level
        assert psr_2012(Moments(0.11, size - 1, -0.4, 6.0), 0.02) < level
    found = minimum_track_record(returns(edge=0.3), form="2025")
    moments = Moments.of(returns(edge=0.3))
    quantile = stats.norm.ppf(0.95) / moments.ratio
    expected = (1 + moments.autocorrelation) / (1 - moments.autocorrelation) * quantile**2
    assert found.value == pytest.approx(expected)


def test_moments_are_those_of_scipy():
    series = np.random.default_rng(8).standard_gamma(3.0, 300)
    found = Moments.of(series)
    assert found.ratio == pytest.approx(series.mean() / series.std(ddof=1))
    assert found.skewness == pytest.approx(stats.skew(series))
    assert found.kurtosis == pytest.approx(stats.kurtosis(series, fisher=False))
    assert found.size == 300


def test_the_variance_with_autocorrelation_is_the_long_run_variance_of_the_influence():
    # By simulation of an AR(1) with skewed innovations: sums over many independent stretches.
    generator = np.random.default_rng(9)
    rho, mean = 0.3, 0.4
    innovations = generator.exponential(1.0, (4000, 460)) - 1.0
    paths = np.zeros_like(innovations)
    for t in range(1, paths.shape[1]):
        paths[:, t] = rho * paths[:, t - 1] + innovations[:, t]
    paths = paths[:, 60:] * math.sqrt(1 - rho**2) + mean
    ratios = paths.mean(axis=1) / paths.std(axis=1, ddof=1)
    pooled = paths.ravel()
    moments = Moments(
        mean, 400, stats.skew(pooled), stats.kurtosis(pooled, fisher=False), autocorrelation=rho
    )
    assert ratios.var() * 400 == pytest.approx(moments.variance(mean), rel=0.08)


def test_the_three_forms_stand_beside_each_other():
    series = returns()
    ratio, error, _ = sharpe_ratio(series)
    found = {form: psr(series, benchmark=0.01, form=form) for form in ("2012", "2025", "hac")}
    assert found["hac"].value == pytest.approx(stats.norm.cdf((ratio - 0.01) / error))
    for form, statistic in found.items():
        assert statistic.value == statistic.details[f"psr_{form}"]
        assert statistic.p_value == pytest.approx(1 - statistic.value)
        assert statistic.details["psr_2012"] == found["2012"].value
    assert "2012" in found["2012"].convention
    assert "(2025)" in found["2025"].convention


def test_few_returns_are_warned_of():
    assert psr(returns(size=60)).warnings
    assert not psr(returns(size=252)).warnings


def test_the_interval_is_the_hac_one_and_the_textbook_errors_stand_beside():
    series = returns()
    found = sharpe(series)
    ratio, error, lag = sharpe_ratio(series)
    half = stats.t.ppf(0.975, 399) * error
    assert found.value == pytest.approx(series.mean() / series.std(ddof=1))
    assert found.interval == pytest.approx((ratio - half, ratio + half))
    assert found.details["lag"] == lag
    assert found.details["standard_error_normal"] == pytest.approx(
        math.sqrt((1 + ratio**2 / 2) / 400)
    )
    skew, kurtosis = stats.skew(series), stats.kurtosis(series, fisher=False)
    assert found.details["standard_error_independent"] == pytest.approx(
        math.sqrt((1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2) / 400)
    )


def test_annualising_uses_the_autocorrelations():
    series = np.convolve(returns(size=2000), [0.5, 0.5], mode="valid") + 0.02
    found = annualised_sharpe(series, periods_per_year=252)
    ratio, _, lag = sharpe_ratio(series)
    rhos = autocorrelations(series, lag)
    spread = 252 + 2 * sum((252 - k) * rhos[k - 1] for k in range(1, lag + 1))
    assert found.value == pytest.approx(ratio * 252 / math.sqrt(spread))
    assert found.details["independent"] == pytest.approx(ratio * math.sqrt(252))
    assert found.value < found.details["independent"]


def test_a_year_whose_variance_would_be_negative_is_not_annualised():
    series = np.tile([1.0, -1.0], 200) + 0.001 * returns()
    found = annualised_sharpe(series, periods_per_year=12)
    assert found.value is None
    assert "negative" in found.undefined


DEGENERATE = {
    "at least 10": [0.01, 0.02],
    "never vary": [0.01] * 50,
    "missing or infinite": [0.01, math.nan, 0.02] * 20,
    "are missing or infinite": [math.inf, *([0.01, 0.02] * 20)],
    "overflow": [1e300, -1e300] * 20,
}


@pytest.mark.parametrize("word", DEGENERATE)
def test_returns_that_cannot_be_judged_have_no_value_and_a_reason(word):
    for measure in (
        sharpe,
        psr,
        minimum_track_record,
        lambda series: annualised_sharpe(series, periods_per_year=252),
    ):
        found = measure(DEGENERATE[word])
        assert found.value is None
        assert word in found.undefined
        assert found.p_value is None
        assert measure([]).value is None
        assert measure([0.0] * 30).value is None
        assert measure([math.nan] * 30).value is None


def test_wrong_shapes_and_numbers_are_refused():
    with pytest.raises(ContractViolation, match=r"expected \(T,\)"):
        sharpe([[1.0, 2.0]])
    with pytest.raises(ContractViolation, match="level"):
        minimum_track_record(returns(), level=1.0)
    with pytest.raises(ContractViolation, match="periods_per_year"):
        annualised_sharpe(returns(), periods_per_year=0)
    assert psr(returns(), benchmark=math.nan).value is None


# Lo (2002): annualisation of monthly ratios under AR(1) returns; 2.8788 instead of 3.4641 at 0.2.
@pytest.mark.parametrize(
    ("rho", "periods", "expected"), [(0.2, 12, 2.8788), (-0.2, 12, 4.1708), (0.1, 252, 14.365)]
)
def test_the_autocorrelation_correction_is_los(rho, periods, expected):
    factor = annualisation_factor([rho**k for k in range(1, periods)], periods)
    assert factor == pytest.approx(expected, abs=6e-4)


def test_without_autocorrelation_the_factor_is_the_square_root():
    assert annualisation_factor([], 252) == pytest.approx(math.sqrt(252))
    assert math.isnan(annualisation_factor([-0.9], 12))


def test_autocorrelations_divide_by_t():
    series = np.array([0.3, -0.1, 0.4, 0.2, -0.5])
    mean = sum(series) / 5
    variance = sum((x - mean) ** 2 for x in series)
    one = sum((series[t] - mean) * (series[t - 1] - mean) for t in range(1, 5)) / variance
    assert autocorrelations(series, 1) == [pytest.approx(one, rel=1e-12)]


def test_the_error_of_independent_normal_returns_is_the_textbook_one():
    # sqrt((1 + SR^2 / 2) / T) for independent normal returns (Lo 2002).
    series = np.random.default_rng(5).standard_normal(50_000) + 0.5
    ratio, error, _ = sharpe_ratio(series)
    assert error == pytest.approx(math.sqrt((1 + ratio**2 / 2) / 50_000), rel=0.05)


def test_persistent_returns_widen_the_interval():
    generator = np.random.default_rng(6)
    shocks = generator.standard_normal(4000)
    persistent = np.convolve(shocks, np.full(5, 1 / 5), mode="valid") + 0.02
    assert sharpe_ratio(persistent)[1] > 1.5 * sharpe_ratio(generator.permutation(persistent))[1]
