"""How often noise passes each test of the Sharpe family, by simulation. Minutes, so `long`.

A reduced run of :mod:`benchmarks.size_and_power.sharpe_family`: bounds are the rates measured there
with 300 to 400 repetitions, and four standard errors of this run.
"""

import math

import numpy as np
import pytest
from benchmarks.size_and_power.sharpe_family import NOISE, rows

from assay.statistics.overfitting import simulate_null
from assay.statistics.overfitting_null import null_band

pytestmark = pytest.mark.long
REPETITIONS = 60


@pytest.fixture(scope="module")
def rates():
    found = rows(REPETITIONS, np.random.default_rng(5))
    assert all(row["repetitions"] == REPETITIONS for row in found)
    return {
        (row["test"], row["data"], row["n"], row["threshold"]): row["pass_rate"] for row in found
    }


def slack(rate):
    return 4 * math.sqrt(rate * (1 - rate) / REPETITIONS)


@pytest.mark.parametrize(
    ("test", "days", "threshold", "bound"),
    [
        ("PSR hac, single", 1008, "> 0.95", 0.06),
        ("PSR 2025, single", 1008, "> 0.95", 0.06),
        ("PSR hac, single", 252, "> 0.95", 0.08),
        ("DSR 2014, raw", 1008, "> 0.95", 0.01),
        ("DSR 2025, raw", 1008, "> 0.95", 0.06),
        ("Sidak, raw", 1008, "p <= 0.1", 0.12),
        ("PBO", 1008, "< 0.1", 0.02),
        ("PBO", 1008, "< 0.2", 0.08),
        ("SPA, consistent", 1008, "p <= 0.1", 0.13),
        ("SPA, consistent", 1008, "p <= 0.05", 0.07),
        ("StepM", 1008, "p <= 0.1", 0.12),
    ],
)
def test_no_noise_passes_more_often_than_measured(rates, test, days, threshold, bound):
    for noise in NOISE:
        rate = rates[test, f"noise, {noise}", days, threshold]
        assert rate <= bound + slack(bound), noise


@pytest.mark.parametrize(
    ("test", "edge", "threshold", "power"),
    [
        ("DSR 2014, raw", 2, "> 0.95", 0.39),
        ("DSR 2025, raw", 2, "> 0.95", 0.79),
        ("PBO", 2, "< 0.2", 0.80),
        ("SPA, consistent", 2, "p <= 0.1", 0.91),
        ("SPA, consistent", 1, "p <= 0.1", 0.27),
        ("StepM", 2, "p <= 0.1", 0.91),
    ],
)
def test_real_edges_are_found_as_often_as_measured(rates, test, edge, threshold, power):
    rate = rates[test, f"annual Sharpe {edge:g} in one of 20, independent", 1008, threshold]
    assert abs(rate - power) <= slack(power)


@pytest.mark.parametrize("test", ["Sharpe difference, bootstrap", "Mean difference, bootstrap"])
def test_equal_pairs_differ_about_as_often_as_stated(rates, test):
    nothing = [
        "annual Sharpe difference 0, pair correlated 0.5",
        "annual Sharpe difference 0, pair correlated 0.9",
        "no difference, AR(1) 0.2",
        "no difference, Student t, 4 degrees",
    ]
    for data in nothing:
        assert rates[test, data, 1008, "p <= 0.1"] <= 0.10 + slack(0.10), data
    correlated = rates[test, "annual Sharpe difference 1, pair correlated 0.9", 1008, "p <= 0.1"]
    assert correlated >= 0.95
    loose = rates[test, "annual Sharpe difference 0.5, pair correlated 0.5", 1008, "p <= 0.1"]
    assert abs(loose - 0.35) <= slack(0.35)


@pytest.mark.parametrize(("trials", "blocks"), [(10, 8), (50, 10), (70, 12), (20, 16)])
def test_the_stored_bands_of_noise_hold_95_percent_of_it(trials, blocks):
    low, high = null_band(trials, blocks)
    found = simulate_null(trials, blocks, repetitions=600, generator=np.random.default_rng(3))
    inside = ((low <= found) & (found <= high)).mean()
    assert 0.95 - 4 * math.sqrt(0.95 * 0.05 / 600) <= inside <= 0.99
