"""How often noise passes each test of the Sharpe family, by simulation. Minutes, so `long`.

A reduced run of :mod:`benchmarks.size_and_power.sharpe_family`. Bounds are the measured rates of 400
repetitions with four standard errors of this run on either side.
"""

import math

import numpy as np
import pytest

from assay.statistics.overfitting import simulate_null
from assay.statistics.overfitting_null import null_band
from benchmarks.size_and_power.sharpe_family import EDGES, NOISE, rows

pytestmark = pytest.mark.long
REPETITIONS = 60


@pytest.fixture(scope="module")
def rates():
    found = rows(REPETITIONS, np.random.default_rng(5))
    assert all(row["repetitions"] == REPETITIONS for row in found)
    return {(row["test"], row["data"], row["n"], row["threshold"]): row for row in found}


def at_most(rates, bound, test, threshold, days=1008, data=None):
    """No kind of noise passes more often than ``bound``, four standard errors allowed."""
    error = math.sqrt(bound * (1 - bound) / REPETITIONS)
    for noise in NOISE if data is None else data:
        rate = rates[test, f"noise, {noise}", days, threshold]["pass_rate"]
        assert rate <= bound + 4 * error, (test, noise, rate)
