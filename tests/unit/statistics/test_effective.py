"""How many independent rows a persistent series is worth."""

import math

import numpy as np
import pytest

from assay.statistics.effective import LONGEST, autocorrelation_time, effective_size


def persistent(size, rho, seed=1):
    series = np.random.default_rng(seed).standard_normal(size)
    for t in range(1, size):
        series[t] = rho * series[t - 1] + math.sqrt(1 - rho**2) * series[t]
    return series


def time_by_loops(series, q):
    flags = [float(x <= q) for x in series]
    n, mean = len(flags), sum(flags) / len(flags)
    c = [f - mean for f in flags]
    gamma0 = sum(a * a for a in c)
    total = 1.0
    for lag in range(1, n):
        # The window is checked with the sum up to the lag before it stops.
        total += 2 * sum(c[t] * c[t - lag] for t in range(lag, n)) / gamma0
        if lag >= 5 * total:
            break
    # r_k estimates r_k (1 - time / n) - time / n, for the mean is taken from the same rows.
    time = total
    for _ in range(500):
        time = 1 + (total - 1) * (1 - time / n) + 2 * lag * time / n
    return min(max(time, 1.0), n)


def test_the_time_is_the_windowed_sum_of_autocorrelations_of_the_indicators():
    series = persistent(400, 0.7)
    times = [
        time_by_loops(series.tolist(), np.quantile(series, q, method="inverted_cdf"))
        for q in (0.25, 0.5, 0.75)
    ]
    found = autocorrelation_time(series)
    assert found.value == pytest.approx(sorted(times)[1], rel=1e-9)
    assert found.details["effective_size"] == pytest.approx(400 / found.value)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_a_long_series_has_the_time_that_theory_gives(rho):
    # The median's indicator of a Gaussian series with correlation r has correlation 2/pi asin(r).
    expected = 1 + 2 * sum(2 / math.pi * math.asin(rho**k) for k in range(1, 400))
    found = autocorrelation_time(persistent(16_000, rho))
    assert found.value == pytest.approx(expected, rel=0.2)


def test_an_alternating_series_is_worth_no_more_than_its_rows():
    assert autocorrelation_time(np.tile([1.0, -1.0], 200)).value == 1.0


def test_only_the_latest_rows_are_looked_at_and_missing_ones_are_not_rows():
    series = persistent(LONGEST + 500, 0.6)
    with_gaps = np.insert(series, [5, 900], [np.nan, np.inf])
    whole, latest = autocorrelation_time(with_gaps), autocorrelation_time(series[-LONGEST:])
    assert whole.value == latest.value
    assert whole.sample_size == LONGEST + 500


def test_a_flag_that_is_mostly_on_has_a_time_as_well():
    flags = np.tile([1.0] * 9 + [0.0], 50)
    assert autocorrelation_time(flags).value is not None


@pytest.mark.parametrize("values", [[], [1.0] * 5, [2.0] * 50, [math.nan] * 50, [math.inf] * 50])
def test_rows_that_cannot_be_judged_are_worth_one(values):
    found = autocorrelation_time(values)
    assert found.value is None
    assert found.undefined
    assert effective_size(np.array(values)) == 1.0
