"""Challenger against champion: paired differences, against plain loops on the same resamples."""

import math

import numpy as np
import pytest
from scipy import stats

from assay.errors import ContractViolation
from assay.statistics.difference import (
    CHUNK,
    mean_difference,
    memmel_variance,
    sharpe_difference,
)
from assay.statistics.hac import long_run_variance, newey_west_lag
from assay.statistics.resampling import circular_indices

RESAMPLES = 199


def pair(seed=1, size=300, rho=0.8, edge=0.0):
    generator = np.random.default_rng(seed)
    champion = generator.standard_normal(size) + 0.05
    own = generator.standard_normal(size)
    return 0.01 * (rho * champion + math.sqrt(1 - rho**2) * own + edge), 0.01 * champion


def ratio_and_influence(series):
    """Ratio with ddof 0 and z - SR/2 (z^2 - 1) by loops."""
    n = len(series)
    mean = sum(series) / n
    spread = math.sqrt(sum((x - mean) ** 2 for x in series) / n)
    ratio = mean / spread
    return ratio, [
        (x - mean) / spread - ratio / 2 * (((x - mean) / spread) ** 2 - 1) for x in series
    ]


def test_the_sharpe_difference_is_the_studentised_bootstrap_of_ledoit_and_wolf():
    one, two = pair(edge=0.15)
    size, length = len(one), 4
    found = sharpe_difference(
        one, two, generator=np.random.default_rng(3), resamples=RESAMPLES, block_length=length
    )
    (r1, i1), (r2, i2) = ratio_and_influence(one.tolist()), ratio_and_influence(two.tolist())
    lag = newey_west_lag(size)
    error = math.sqrt(long_run_variance(np.array(i1) - np.array(i2), lag) / size)
    statistic = (r1 - r2) / error
    assert found.value == pytest.approx((r1 - r2) * math.sqrt((size - 1) / size))
    assert found.details["statistic"] == pytest.approx(statistic, rel=1e-2)
    assert RESAMPLES <= CHUNK
    greater, both = 0, 0
    for dates in circular_indices(size, length, RESAMPLES, np.random.default_rng(3)):
        (a, ia), (b, ib) = ratio_and_influence(one[dates]), ratio_and_influence(two[dates])
        added = [x - y for x, y in zip(ia, ib, strict=True)]
        blocks = size // length
        sums = [sum(added[j * length : (j + 1) * length]) for j in range(blocks)]
        variance = sum(s**2 for s in sums) / length / blocks
        drawn = ((a - b) - (r1 - r2)) / math.sqrt(variance / size)
        greater += drawn >= found.details["statistic"]
        both += abs(drawn) >= abs(found.details["statistic"])
    assert found.p_value == (1 + greater) / (RESAMPLES + 1)
    assert found.details["p_value_two_sided"] == (1 + both) / (RESAMPLES + 1)


def test_the_corrected_test_of_jobson_and_korkie_stands_beside():
    one, two = pair(edge=0.1)
    found = sharpe_difference(one, two, generator=np.random.default_rng(3))
    ratios = [series.mean() / series.std(ddof=1) for series in (one, two)]
    rho = stats.pearsonr(one, two).statistic
    variance = (
        2 - 2 * rho + 0.5 * (ratios[0] ** 2 + ratios[1] ** 2 - 2 * ratios[0] * ratios[1] * rho**2)
    )
    z = (ratios[0] - ratios[1]) / math.sqrt(variance / 300)
    assert found.details["jobson_korkie_memmel_z"] == pytest.approx(z)
    assert found.details["jobson_korkie_memmel_p_value"] == pytest.approx(stats.norm.sf(z))
    assert found.p_value == pytest.approx(stats.norm.sf(z), abs=0.05)


def test_memmels_variance_is_the_influence_functions_for_normal_returns():
    generator = np.random.default_rng(4)
    rho = 0.6
    common = generator.standard_normal((2, 400_000))
    one = common[0] + 0.3
    two = rho * common[0] + math.sqrt(1 - rho**2) * common[1] + 0.1
    (r1, i1), (r2, i2) = ratio_and_influence(one), ratio_and_influence(two)
    expected = np.var(np.array(i1) - np.array(i2))
    assert memmel_variance(r1, r2, rho) == pytest.approx(expected, rel=0.02)


def test_the_mean_difference_is_studentised_the_same_way():
    one, two = pair(edge=0.1)
    series = one - two
    size, length = len(series), 5
    found = mean_difference(
        one, two, generator=np.random.default_rng(3), resamples=RESAMPLES, block_length=length
    )
    mean = sum(series) / size
    error = math.sqrt(long_run_variance(series, newey_west_lag(size)) / size)
    assert found.value == pytest.approx(mean)
    assert found.details["statistic"] == pytest.approx(mean / error)
    greater = 0
    for dates in circular_indices(size, length, RESAMPLES, np.random.default_rng(3)):
        drawn = series[dates]
        centre = sum(drawn) / size
        sums = [sum(drawn[j : j + length] - centre) for j in range(0, size, length)]
        variance = sum(s**2 for s in sums) / size
        greater += (centre - mean) / math.sqrt(variance / size) >= mean / error
    assert found.p_value == (1 + greater) / (RESAMPLES + 1)
    beside = found.details["newey_west_p_value"]
    assert beside == pytest.approx(stats.t.sf(mean / error, size - 1))


def test_the_challenger_comes_first_and_larger_is_better():
    better, champion = pair(edge=0.3)
    for compare in (sharpe_difference, mean_difference):
        up = compare(better, champion, generator=np.random.default_rng(1))
        down = compare(champion, better, generator=np.random.default_rng(1))
        assert up.value == -down.value
        assert up.p_value < 0.01
        assert down.p_value > 0.99
        assert up.interval[0] < up.value < up.interval[1]
        assert up.interval[0] > 0


def test_blocks_are_at_least_as_long_as_a_label_and_some_remain():
    one, two = pair(size=400)
    generator = np.random.default_rng(1)
    assert mean_difference(one, two, generator=generator).details["block_length"] < 10
    found = mean_difference(one, two, generator=generator, horizon=20)
    assert found.details["block_length"] == 20
    long = mean_difference(one, two, generator=generator, horizon=399)
    assert long.details["blocks"] == 10
    assert "rough" in long.warnings[0]


def test_leverage_does_not_change_a_sharpe_difference():
    one, two = pair(edge=0.1)
    plain = sharpe_difference(one, two, generator=np.random.default_rng(1))
    levered = sharpe_difference(4.0 * one, 0.5 * two, generator=np.random.default_rng(1))
    assert plain.value == pytest.approx(levered.value)
    assert plain.p_value == levered.p_value


def test_a_champion_that_is_cash_can_be_compared_by_mean_but_has_no_ratio():
    one, _ = pair(edge=0.3)
    cash = np.zeros(300)
    assert mean_difference(one, cash, generator=np.random.default_rng(1)).p_value < 0.01
    found = sharpe_difference(one, cash, generator=np.random.default_rng(1))
    assert found.value is None
    assert "never vary" in found.undefined


def degenerate():
    one, two = pair()
    holes = one.copy()
    holes[3] = math.nan
    return {
        "at least 10": (one[:5], two[:5]),
        "missing or infinite": (holes, two),
        "never differ": (one, one),
        "overflow": (one * 1e300, two),
    }


@pytest.mark.parametrize("word", degenerate())
def test_pairs_that_cannot_be_judged_have_no_value_and_a_reason(word):
    one, two = degenerate()[word]
    for compare in (sharpe_difference, mean_difference):
        for first, second in ((one, two), (two, one)):
            found = compare(first, second, generator=np.random.default_rng(0), resamples=19)
            assert found.value is None
            assert found.p_value is None
            assert word in found.undefined


def test_copies_levered_or_shifted_are_not_a_difference():
    one, _ = pair()
    for factor in (2.0, 3.0, 0.1):
        found = sharpe_difference(one, factor * one, generator=np.random.default_rng(0))
        assert found.value is None
    found = mean_difference(one, one + 0.1, generator=np.random.default_rng(0))
    assert found.value is None
    assert "never differ" in found.undefined


def test_wrong_shapes_and_numbers_are_refused():
    one, two = pair()
    generator = np.random.default_rng(0)
    for compare in (sharpe_difference, mean_difference):
        with pytest.raises(ContractViolation, match="expected"):
            compare(one[:-1], two, generator=generator)
        with pytest.raises(ContractViolation, match="resamples"):
            compare(one, two, generator=generator, resamples=0)
        with pytest.raises(ContractViolation, match="block length"):
            compare(one, two, generator=generator, block_length=301)
