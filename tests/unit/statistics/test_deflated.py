"""Deflated Sharpe ratios, against published numbers and independent integration."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from assay.errors import ContractViolation
from assay.statistics.deflated import (
    Trials,
    deflated_2014,
    deflated_2025,
    deflated_sharpe,
    effective_trials,
    effective_trials_by_correlation,
    effective_trials_by_eigenvalues,
    expected_maximum,
    expected_maximum_sharpe,
    maximum_of_normals,
    minimum_backtest_length,
)
from assay.statistics.sharpe import Moments, psr_2012

# Bailey and Lopez de Prado (2014), "The deflated Sharpe ratio", numerical example: annual ratio 2.5
# over 1250 days, 250 a year; annual variance 1/2 across trials.
DAY = 2.5 / math.sqrt(250)
CRASHES = Moments(DAY, 1250, skewness=-3.0, kurtosis=10.0)
VARIANCE = 0.5 / 250


def test_the_deflated_ratio_is_the_published_one():
    assert expected_maximum_sharpe(100, VARIANCE) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_2014(CRASHES, 100, VARIANCE) == pytest.approx(0.90039683444939, abs=1e-12)


def test_the_published_breakeven_numbers_of_trials_are_46_and_88_for_normal_returns():
    assert deflated_2014(CRASHES, 46, VARIANCE) == pytest.approx(0.9505, abs=5e-5)
    assert deflated_2014(CRASHES, 47, VARIANCE) < 0.95
    assert deflated_2014(Moments(DAY, 1250), 88, VARIANCE) == pytest.approx(0.9505, abs=5e-5)
    assert deflated_2014(Moments(DAY, 1250), 89, VARIANCE) < 0.95


def test_forty_five_trials_need_five_years_to_mean_anything():
    # Bailey, Borwein, Lopez de Prado and Zhu (2014): "Pseudo-mathematics".
    assert minimum_backtest_length(45, 1.0) == pytest.approx(4.998, abs=5e-4)
    assert minimum_backtest_length(45, 2.0) == pytest.approx(4.998 / 4, abs=5e-4)
    assert minimum_backtest_length(45, 0.0) == math.inf
    assert minimum_backtest_length(1, 1.0) == 0.0


@pytest.mark.parametrize(
    ("trials", "formula", "exact"), [(2, 0.520, 0.564), (10, 1.575, 1.539), (100, 2.531, 2.508)]
)
def test_the_formula_of_2014_is_near_the_exact_expected_maximum(trials, formula, exact):
    assert expected_maximum(trials) == pytest.approx(formula, abs=5e-4)
    assert maximum_of_normals(trials)[0] == pytest.approx(exact, abs=5e-4)


@pytest.mark.parametrize("trials", [1, 2, 3, 7.5, 50, 2000])
def test_moments_of_the_maximum_are_those_of_the_integral(trials):
    def density(x):
        return trials * stats.norm.pdf(x) * stats.norm.cdf(x) ** (trials - 1)

    mean = integrate.quad(lambda x: x * density(x), -12, 12, points=[0, 3])[0]
    square = integrate.quad(lambda x: x * x * density(x), -12, 12, points=[0, 3])[0]
    found = maximum_of_normals(trials)
    assert found[0] == pytest.approx(mean, abs=1e-9)
    assert found[1] == pytest.approx(square - mean**2, abs=1e-8)


def test_the_maximum_of_two_and_three_normals_is_known_in_closed_form():
    assert maximum_of_normals(2)[0] == pytest.approx(1 / math.sqrt(math.pi), abs=1e-13)
    assert maximum_of_normals(2)[1] == pytest.approx(1 - 1 / math.pi, abs=1e-13)
    assert maximum_of_normals(3)[0] == pytest.approx(1.5 / math.sqrt(math.pi), abs=1e-13)


def test_one_trial_deflates_nothing_and_the_formula_survives_a_trillion():
    assert expected_maximum(1) == 0.0
    assert deflated_2014(CRASHES, 1, VARIANCE) == psr_2012(CRASHES)
    assert expected_maximum(1e12) == pytest.approx(maximum_of_normals(1e12)[0], abs=0.01)


def test_the_form_of_2025_divides_by_the_error_of_the_maximum():
    mean, spread = maximum_of_normals(20)
    threshold = math.sqrt(VARIANCE) * mean
    error = math.sqrt((1 + 3.0 * threshold + 9 / 4 * threshold**2) * spread / 1250)
    expected = stats.norm.cdf((DAY - threshold) / error)
    assert deflated_2025(CRASHES, 20, VARIANCE) == pytest.approx(expected, rel=1e-12)


def table(seed=1, size=500, trials=30, common=0.0, edge=0.0):
    generator = np.random.default_rng(seed)
    shared = math.sqrt(common) * generator.standard_normal((size, 1))
    own = math.sqrt(1 - common) * generator.standard_normal((size, trials))
    return 0.01 * (shared + own + edge)


def test_trials_that_are_near_copies_do_not_deflate_less_than_noise():
    base = table(trials=1)
    copies = base + 1e-6 * table(seed=2, trials=20)
    trials = Trials.of(copies)
    assert trials.variance < 1e-6
    found = deflated_sharpe(copies[:, 0], trials=trials)
    assert found.details["variance_used"] == pytest.approx(1 / 499)
    assert any("near copies" in warning for warning in found.warnings)
    assert found.details["effective_trials"] == pytest.approx(1.0, abs=1e-3)


def test_the_default_is_the_raw_number_of_trials_and_effective_is_a_choice():
    matrix = table(common=0.8, edge=0.1)
    trials = Trials.of(matrix)
    series = matrix[:, 0]
    assert 5 < trials.effective < 9
    raw = deflated_sharpe(series, trials=trials)
    effective = deflated_sharpe(series, trials=trials, counting="effective")
    assert raw.value < effective.value
    assert raw.details["dsr_2014_effective"] == effective.value
    assert raw.value == raw.details["dsr_2014_raw"]
    late = deflated_sharpe(series, trials=trials, form="2025")
    assert late.value == raw.details["dsr_2025_raw"]
    assert "2025" in late.convention
    moments = Moments.of(series)
    used = max(matrix.mean(axis=0) / matrix.std(axis=0, ddof=1), default=0)
    assert used >= moments.ratio
    assert raw.value == pytest.approx(deflated_2014(moments, 30, raw.details["variance_used"]))


def test_a_family_wise_p_value_stands_beside():
    series = table(edge=0.1)[:, 0]
    found = deflated_sharpe(series, trials=Trials(count=12))
    from assay.statistics.sharpe import psr

    assert found.details["sidak_p_value"] == pytest.approx(1 - psr(series).value ** 12)


def test_more_trials_never_raise_the_deflated_ratio():
    series = table(edge=0.15)[:, 0]
    values = [
        deflated_sharpe(series, trials=Trials(count=count), form=form).value
        for form in ("2014", "2025")
        for count in (1, 2, 5, 20, 100, 10_000)
    ]
    assert values[:6] == sorted(values[:6], reverse=True)
    assert values[6:] == sorted(values[6:], reverse=True)


def test_trials_without_returns_are_counted():
    known = Trials.of(table())
    more = Trials.of(table(), count=300)
    assert more.count == 300
    assert more.effective == pytest.approx(10 * known.effective)
    with pytest.raises(ContractViolation, match="expected 30"):
        Trials.of(table(), count=3)


def test_effective_numbers_see_copies_clusters_and_independence():
    independent = table(size=2000, trials=40)
    assert effective_trials_by_eigenvalues(independent) == pytest.approx(40, rel=0.03)
    copies = np.repeat(independent[:, :1], 12, axis=1) * np.arange(1, 13)
    assert effective_trials_by_eigenvalues(copies) == pytest.approx(1.0, abs=1e-6)
    clusters = np.repeat(independent[:, :4], 5, axis=1)
    assert effective_trials_by_eigenvalues(clusters) == pytest.approx(4.0, rel=0.02)
    idle = np.concatenate((clusters, np.zeros((2000, 2))), axis=1)
    assert effective_trials_by_eigenvalues(idle) == pytest.approx(6.0, rel=0.02)
    assert effective_trials_by_correlation(10, 0.0) == 10.0
    assert effective_trials_by_correlation(10, 1.0) == 1.0
    assert effective_trials_by_correlation(10, 0.4) == pytest.approx(6.4)
    assert effective_trials_by_correlation(10, -0.4) == 10.0


def test_the_participation_ratio_is_that_of_the_eigenvalues():
    matrix = table(size=60_000, trials=8, common=0.5)
    values = np.linalg.eigvalsh(np.corrcoef(matrix.T))
    expected = values.sum() ** 2 / (values**2).sum()
    assert effective_trials_by_eigenvalues(matrix) == pytest.approx(expected, rel=1e-3)


def test_the_larger_rule_is_taken():
    common = table(size=4000, trials=20, common=0.5)
    assert effective_trials(common) == pytest.approx(10.5, rel=0.1)
    assert effective_trials_by_eigenvalues(common) < 4
    # Opposite trials: no average correlation, but two clusters of copies.
    base = table(size=4000, trials=1)
    opposite = np.concatenate([base, -base] * 4, axis=1)
    assert effective_trials_by_eigenvalues(opposite) == pytest.approx(1.0)
    assert effective_trials(opposite) == pytest.approx(8.0)


def test_more_trials_than_dates_are_not_fewer_for_it():
    wide = table(size=50, trials=200)
    assert effective_trials_by_eigenvalues(wide) > 150


def test_what_is_unknown_is_said():
    series = table(edge=0.1)[:, 0]
    assert any("One trial" in w for w in deflated_sharpe(series, trials=Trials(count=1)).warnings)
    assert any("unknown" in w for w in deflated_sharpe(series, trials=Trials(count=5)).warnings)


@pytest.mark.parametrize("series", [[], [0.01], [0.0] * 50, [math.nan] * 50, [1e300] * 50])
def test_returns_that_cannot_be_judged_have_no_value(series):
    found = deflated_sharpe(series, trials=Trials(count=5))
    assert found.value is None
    assert found.undefined
    assert found.p_value is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"count": 5, "effective": 6.0},
        {"count": 5, "effective": math.nan},
        {"count": 5, "variance": -1.0},
        {"count": 5, "variance": math.nan},
    ],
)
def test_impossible_trials_are_refused(wrong):
    with pytest.raises(ContractViolation):
        Trials(**wrong)


def test_trials_that_cannot_be_measured_say_why():
    holes = table()
    holes[3, 4] = math.nan
    assert "missing or infinite in 1 columns" in Trials.of(holes)
    assert Trials.of(np.empty((50, 0))) == "there are no returns of trials"
    still = Trials.of(np.zeros((50, 3)))
    assert still == Trials(count=3, effective=3.0, variance=None)
