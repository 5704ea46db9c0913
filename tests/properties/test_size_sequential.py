"""Looking every day, with and without a right to."""

import numpy as np
import pytest
from benchmarks.size_and_power import sequential

pytestmark = pytest.mark.long


def rates(repetitions, seed):
    found = sequential.rows(repetitions, np.random.default_rng(seed))
    return {(one["test"], one["data"]): one["pass_rate"] for one in found}


def test_looking_daily_keeps_the_level_of_the_mixture_test_and_of_no_t_test():
    found = rates(400, 8)
    for data in ("independent normal", "Student t, 4 degrees", "AR(1) 0.3"):
        assert found["mixture test, frozen variance", data] <= 0.05 + 4 * 0.0109
        assert found["mixture test, harm only", data] <= 0.05 + 4 * 0.0109
        assert found["daily t test", data] > 0.25
    # What freezing the long-run variance is for.
    assert found["mixture test, variance known", "AR(1) 0.3"] > 0.08
    assert found["mixture test, harm only", "independent normal, mean -0.2 deviations"] > 0.6
