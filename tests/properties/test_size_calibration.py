"""False alarms and power of tests of forecast probabilities."""

import numpy as np
import pytest
from benchmarks.size_and_power import calibration

pytestmark = pytest.mark.long


def rates(repetitions, seed):
    found = calibration.rows(repetitions, np.random.default_rng(seed))
    return {(one["test"], one["data"], one["n"]): one["pass_rate"] for one in found}


TESTS = (
    "error, simulated null",
    "reliability diagram, largest bin",
    "calibration line, likelihood ratio",
)


def test_a_calibrated_forecast_is_kept_at_every_size_where_a_plain_limit_refuses_it():
    found = rates(200, 4)
    for n in (250, 1000, 5000):
        for test in TESTS:
            assert found[test, "calibrated", n] <= 0.05 + 4 * 0.0154
    assert found["plain error > 0.05", "calibrated", 250] > 0.9


def test_an_overconfident_forecast_is_found():
    found = rates(100, 5)
    bent = "log odds 1.5 times too large"
    assert found["calibration line, likelihood ratio", bent, 1000] > 0.4
    assert found["error, simulated null", bent, 5000] > 0.4
