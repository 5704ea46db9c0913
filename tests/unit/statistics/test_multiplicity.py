"""Many tests at once, against the published example and other implementations."""

import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests

from assay.errors import ContractViolation
from assay.statistics.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm

# Benjamini and Hochberg (1995), section 3.2: thrombolysis in 15 comparisons.
PUBLISHED = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459),
    *(0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.000),
]


def test_benjamini_and_hochberg_reject_four_of_their_own_fifteen_where_bonferroni_rejects_three():
    found = benjamini_hochberg(PUBLISHED)
    assert found.value == 4
    assert found.rejected.tolist() == [True] * 4 + [False] * 11
    assert holm(PUBLISHED).value == 3
    assert benjamini_yekutieli(PUBLISHED).value == 3


@pytest.mark.parametrize("seed", range(4))
def test_adjusted_p_values_equal_those_of_scipy_and_statsmodels(seed):
    generator = np.random.default_rng(seed)
    p = np.round(generator.random(40) ** 3, 2)
    assert benjamini_hochberg(p).adjusted == pytest.approx(false_discovery_control(p), rel=1e-12)
    expected = false_discovery_control(p, method="by")
    assert benjamini_yekutieli(p).adjusted == pytest.approx(expected, rel=1e-12)
    assert holm(p).adjusted == pytest.approx(multipletests(p, method="holm")[1], rel=1e-12)


def test_a_test_without_a_p_value_stays_in_the_family_and_is_never_rejected():
    p = [0.01, 0.02, math.nan]
    found = benjamini_hochberg(p, level=0.03)
    assert found.adjusted == pytest.approx([0.03, 0.03, 1.0])
    assert found.rejected.tolist() == [True, True, False]
    assert found.details["missing"] == 1
    assert found.warnings
    assert found.adjusted.tolist() == benjamini_hochberg([0.01, 0.02, 1.0]).adjusted.tolist()


@pytest.mark.parametrize("test", [benjamini_hochberg, benjamini_yekutieli, holm])
def test_a_family_without_p_values_says_why(test):
    for p, word in (
        ([], "no tests"),
        ([math.nan] * 3, "no test has"),
        ([0.5, 1.2], "between 0 and 1"),
        ([-0.1], "between 0 and 1"),
        ([0.1, math.inf], "between 0 and 1"),
    ):
        found = test(p)
        assert found.value is None
        assert word in found.undefined
        assert len(found.adjusted) == 0


def test_a_level_that_is_no_rate_is_refused():
    with pytest.raises(ContractViolation, match="level"):
        holm([0.1], level=0.0)
    with pytest.raises(ContractViolation, match="shape"):
        holm([[0.1]])
