"""Kolmogorov-Smirnov, Wasserstein and missing rates of two whole samples, against scipy."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportions_ztest

from assay.errors import ContractViolation
from assay.statistics.distances import (
    kolmogorov_smirnov,
    missing_difference,
    scaled_wasserstein,
    wasserstein,
)


def samples(seed=1, n=900, m=400, shift=0.0, decimals=9):
    generator = np.random.default_rng(seed)
    first = generator.standard_normal(n)
    return np.round(first, decimals), np.round(generator.standard_normal(m) + shift, decimals)


@pytest.mark.parametrize("decimals", [9, 1, 0])
@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_distance_is_exact_under_ties_and_the_p_value_close_to_the_exact_one(decimals, shift):
    first, second = samples(shift=shift, decimals=decimals)
    found = kolmogorov_smirnov(first, second)
    expected = stats.ks_2samp(first, second, method="exact")
    assert found.value == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.06, abs=1e-4)


def test_fewer_effective_rows_make_the_same_distance_less_surprising():
    first, second = samples(shift=0.15)
    naive = kolmogorov_smirnov(first, second)
    honest = kolmogorov_smirnov(first, second, effective_reference=90, effective_current=40)
    assert honest.value == naive.value
    assert naive.p_value < 0.05 < honest.p_value
    assert honest.details["p_value_if_independent"] == naive.p_value


def test_a_handful_of_effective_rows_has_a_distance_but_no_p_value():
    first, second = samples()
    found = kolmogorov_smirnov(first, second, effective_reference=900, effective_current=3)
    assert found.value is not None
    assert found.p_value is None
    assert "too few" in found.warnings[0]
    more = kolmogorov_smirnov(first, second, effective_current=10_000)
    assert more.details["effective_current"] == 400


def test_infinite_values_have_a_place_in_the_order_but_no_distance():
    first, second = samples()
    second[:100] = np.inf
    found = kolmogorov_smirnov(first, second)
    assert found.value == pytest.approx(stats.ks_2samp(first, second).statistic, abs=1e-12)
    assert found.value > 0.24
    assert "infinite" in scaled_wasserstein(first, second).undefined


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_wasserstein_is_in_units_of_the_references_spread(shift):
    first, second = samples(shift=shift)
    found = scaled_wasserstein(first * 1e-6, second * 1e-6)
    expected = stats.wasserstein_distance(first, second) / first.std()
    assert found.value == pytest.approx(expected, rel=1e-10)
    assert wasserstein(first, second) == pytest.approx(expected * first.std(), rel=1e-10)


def test_missing_rates_are_compared_as_two_shares():
    found = missing_difference(
        reference_missing=10, reference_rows=1000, current_missing=12, current_rows=300
    )
    _, p = proportions_ztest([10, 12], [1000, 300])
    assert found.value == pytest.approx(0.04 - 0.01)
    assert found.p_value == pytest.approx(p, rel=1e-9)
    none = missing_difference(
        reference_missing=0, reference_rows=10, current_missing=0, current_rows=5
    )
    assert (none.value, none.p_value) == (0.0, 1.0)
    empty = missing_difference(
        reference_missing=0, reference_rows=0, current_missing=0, current_rows=5
    )
    assert empty.value is None
    with pytest.raises(ContractViolation, match="missing of"):
        missing_difference(reference_missing=3, reference_rows=2, current_missing=0, current_rows=5)


@pytest.mark.parametrize("measure", [kolmogorov_smirnov, scaled_wasserstein])
def test_samples_that_cannot_be_compared_say_why(measure):
    first, second = samples()
    for reference, current, word in (
        ([], second, "reference has no values"),
        (first, [], "current sample has no values"),
        ([math.nan] * 5, second, "reference has no values"),
        ([3.0] * 50, [3.0] * 20 + [4.0], "never varies (it is always 3); 1 of 21"),
        (first, [1.0], "one value"),
    ):
        found = measure(reference, current)
        assert found.value is None
        assert word in found.undefined
    with pytest.raises(ContractViolation, match="shape"):
        measure(np.ones((2, 2)), second)


def test_an_effective_size_that_is_no_size_is_refused():
    first, second = samples()
    with pytest.raises(ContractViolation, match="effective size"):
        kolmogorov_smirnov(first, second, effective_current=0.0)
