"""False alarms and power of comparisons of forecasts and of value at risk."""

import numpy as np
import pytest
from benchmarks.size_and_power import forecasts

pytestmark = pytest.mark.long


def rates(repetitions, seed):
    found = forecasts.rows(repetitions, np.random.default_rng(seed))
    return {(one["test"], one["data"], one["n"]): one["pass_rate"] for one in found}


def test_forecasts_that_are_equally_good_and_value_at_risk_that_is_right_are_kept():
    found = rates(400, 2)
    for n in (60, 250, 1000):
        assert found["Diebold-Mariano, QLIKE", "equally noisy forecasts", n] <= 0.08
    for n in (250, 1000):
        for test in ("Kupiec", "Christoffersen"):
            assert found[test, "right share, independent", n] <= 0.10
    # Wald tests with autocorrelated errors reject too often in short samples, as documented.
    assert found["Mincer-Zarnowitz, joint", "true volatility", 60] <= 0.24
    assert found["Mincer-Zarnowitz, joint", "true volatility", 1000] <= 0.10


def test_noisier_forecasts_low_volatility_and_clusters_are_found():
    found = rates(300, 3)
    assert found["Diebold-Mariano, QLIKE", "noise 0.2 against 0.5", 250] > 0.8
    assert found["Mincer-Zarnowitz, joint", "volatility 15 % high", 1000] > 0.95
    assert found["Kupiec", "volatility 20 % low", 1000] > 0.95
    clusters = "right share, volatility clusters"
    assert found["Christoffersen", clusters, 1000] > 0.3
    assert found["Kupiec", clusters, 1000] < 0.05
