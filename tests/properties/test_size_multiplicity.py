"""False discovery rates under correlation."""

import numpy as np
import pytest
from benchmarks.size_and_power import multiplicity

pytestmark = pytest.mark.long


def rates(repetitions, seed):
    found = multiplicity.rows(repetitions, np.random.default_rng(seed))
    return {(one["test"], one["data"]): one["pass_rate"] for one in found}


def test_the_rate_is_kept_under_every_correlation_tried():
    found = rates(1500, 9)
    for (test, _), rate in found.items():
        if test.endswith("share of false alarms"):
            assert rate <= 0.10
    power = "Benjamini-Hochberg, real ones found", "independent"
    assert found[power] > found["Benjamini-Yekutieli, real ones found", "independent"] > 0.5
