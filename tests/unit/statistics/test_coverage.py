"""Kupiec and Christoffersen over one series of hits."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from assay.errors import ContractViolation
from assay.statistics.coverage import christoffersen, kupiec


def likelihood(hits, p01, p11):
    total = 0.0
    for before, after in itertools.pairwise(hits):
        p = p11 if before else p01
        chance = p if after else 1 - p
        total += math.log(chance)
    return total


def test_conditional_coverage_is_the_markov_chain_against_independent_hits():
    hits = ([0] * 17 + [1, 1, 0, 0, 1]) * 6 + [0] * 30
    n01 = sum(not a and b for a, b in itertools.pairwise(hits))
    n11 = sum(a and b for a, b in itertools.pairwise(hits))
    ones = sum(hits[:-1])
    free = likelihood(hits, n01 / (len(hits) - 1 - ones), n11 / ones)
    tied = likelihood(hits, 0.05, 0.05)
    found = christoffersen(hits, level=0.05)
    assert found.value == pytest.approx(2 * (free - tied), rel=1e-10)
    assert found.p_value == pytest.approx(stats.chi2.sf(2 * (free - tied), 2), rel=1e-10)
    assert found.value == pytest.approx(
        found.details["coverage"] + found.details["independence"], rel=1e-12
    )
    assert found.details["independence_p_value"] < 0.05


def test_the_ratio_of_kupiec_for_a_bank_with_six_failures_in_255_days():
    # 255 days at 99 %: 6 failures are fewer than the 7 from which 95 % confidence rejects
    # (Kupiec 1995, as printed in Jorion, "Value at Risk").
    assert kupiec([1] * 6 + [0] * 249, level=0.01).p_value > 0.05
    assert kupiec([1] * 7 + [0] * 248, level=0.01).p_value < 0.05
    found = kupiec([1] * 6 + [0] * 249 + [math.nan] * 3, level=0.01)
    assert found.sample_size == 255
    assert found.details["missing"] == 3
    expected = 2 * (6 * math.log(6 / 255 / 0.01) + 249 * math.log((249 / 255) / 0.99))
    assert found.value == pytest.approx(expected, rel=1e-10)


def test_clustered_hits_of_the_right_share_fail_only_the_conditional_test():
    hits = ([1] * 5 + [0] * 95) * 5
    assert kupiec(hits, level=0.05).p_value == pytest.approx(1.0)
    assert christoffersen(hits, level=0.05).p_value < 1e-6


@pytest.mark.parametrize(
    ("hits", "word"),
    [
        ([], "0 dates"),
        ([1, 0, 1], "3 dates"),
        ([0.5] * 20, "0 or 1"),
        ([0, math.inf] * 20, "0 or 1"),
    ],
)
def test_series_of_hits_that_say_nothing_say_why(hits, word):
    for test in (kupiec, christoffersen):
        found = test(hits, level=0.05)
        assert found.value is None
        assert word in found.undefined


def test_a_chain_with_a_gap_or_without_hits_has_no_conditional_test():
    assert "missing" in christoffersen([0, 1] * 20 + [math.nan], level=0.05).undefined
    assert christoffersen([0] * 50, level=0.05).value is None
    assert kupiec([0] * 50, level=0.05).value == pytest.approx(-100 * math.log(0.95))
    with pytest.raises(ContractViolation, match="VaR level"):
        kupiec(np.zeros(20), level=0.7)
