"""Block bootstraps and their block length, against loops and a public implementation's numbers."""

import math

import numpy as np
import pytest

from assay.errors import ContractViolation
from assay.statistics.resampling import (
    autocovariances,
    block_lengths,
    circular_indices,
    counts,
    stationary_indices,
    stationary_variance,
)


def autoregression(size, rho, seed=0):
    series = np.random.RandomState(seed).standard_normal(size + 100)
    for t in range(1, len(series)):
        series[t] = rho * series[t - 1] + series[t]
    return series[100:]


def test_the_automatic_length_is_that_of_arch_on_its_own_example():
    # arch 8.0, tests of optimal_block_length: 13.635665 stationary and 15.60894 circular.
    series = autoregression(10_000, 0.3)[:, None]
    assert block_lengths(series, scheme="stationary")[0] == pytest.approx(13.635665, rel=1e-6)
    assert block_lengths(series, scheme="circular")[0] == pytest.approx(15.60894, rel=1e-6)


def length_by_loops(series, constant):
    n = len(series)
    mean = sum(series) / n
    run = max(5, int(math.log10(n)))
    longest = math.ceil(math.sqrt(n)) + run

    def gamma(k):
        return sum((series[t] - mean) * (series[t - k] - mean) for t in range(k, n)) / n

    gammas = [gamma(k) for k in range(longest + 1)]
    critical = 2 * math.sqrt(math.log10(n) / n)
    bandwidth = longest
    for lag in range(1, longest - run + 2):
        if all(abs(gammas[lag + j] / gammas[0]) < critical for j in range(run)):
            bandwidth = min(2 * lag, longest)
            break
    slope, spectrum = 0.0, gammas[0]
    for k in range(1, bandwidth + 1):
        window = 1.0 if k / bandwidth <= 0.5 else 2 * (1 - k / bandwidth)
        slope += 2 * window * k * gammas[k]
        spectrum += 2 * window * gammas[k]
    length = (2 * slope**2 / (constant * spectrum**2)) ** (1 / 3) * n ** (1 / 3)
    return max(1.0, min(length, math.ceil(min(3 * math.sqrt(n), n / 3))))


@pytest.mark.parametrize(("rho", "seed"), [(0.0, 1), (0.5, 2), (0.9, 3), (-0.4, 4), (0.99, 5)])
def test_the_automatic_length_is_the_formula_of_politis_and_white(rho, seed):
    series = autoregression(300, rho, seed)
    for scheme, constant in (("stationary", 2.0), ("circular", 4 / 3)):
        expected = length_by_loops(series.tolist(), constant)
        found = block_lengths(series[:, None], scheme=scheme)
        assert found[0] == pytest.approx(expected, rel=1e-9)


def test_every_column_has_its_own_length_and_a_still_one_has_one():
    matrix = np.stack([autoregression(400, rho, 7) for rho in (0.0, 0.6, 0.95)], axis=1)
    matrix = np.concatenate((matrix, np.full((400, 1), 0.3)), axis=1)
    found = block_lengths(matrix, scheme="stationary")
    alone = [block_lengths(matrix[:, k : k + 1], scheme="stationary")[0] for k in range(4)]
    assert found == pytest.approx(alone)
    assert found[0] < found[1] < found[2] <= math.ceil(min(3 * math.sqrt(400), 400 / 3))
    assert found[3] == 1.0


def test_short_series_have_a_length_too():
    for size in (3, 4, 5, 9, 12):
        found = block_lengths(np.arange(size, dtype=float)[:, None], scheme="circular")
        assert 1.0 <= found[0] <= max(1.0, math.ceil(size / 3))


def test_autocovariances_divide_by_t():
    matrix = np.random.default_rng(1).standard_normal((37, 2)) + 5.0
    found = autocovariances(matrix, 6)
    for k in range(7):
        for column in range(2):
            centred = matrix[:, column] - matrix[:, column].mean()
            expected = sum(centred[t] * centred[t - k] for t in range(k, 37)) / 37
            assert found[k, column] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [36, 37])
@pytest.mark.parametrize("length", [1.0, 4.0, 20.0])
def test_the_variance_under_the_stationary_bootstrap_is_hansens_kernel(size, length):
    matrix = np.random.default_rng(2).standard_normal((size, 3)).cumsum(axis=0)
    found = stationary_variance(matrix, length)
    q = 1 / length
    for column in range(3):
        centred = matrix[:, column] - matrix[:, column].mean()
        total = 0.0
        for i in range(size):
            gamma = sum(centred[t] * centred[t + i] for t in range(size - i)) / size
            kernel = (size - i) / size * (1 - q) ** i + i / size * (1 - q) ** (size - i)
            total += gamma if i == 0 else 2 * kernel * gamma
        assert found[column] == pytest.approx(total, rel=1e-9)


def test_the_variance_is_what_resampling_gives():
    series = autoregression(60, 0.6, 3)
    drawn = stationary_indices(60, 5.0, 20_000, np.random.default_rng(3))
    simulated = series[drawn].mean(axis=1).var() * 60
    assert simulated == pytest.approx(stationary_variance(series[:, None], 5.0)[0], rel=0.05)


def test_stationary_blocks_have_the_mean_length_and_go_round_the_end():
    drawn = stationary_indices(50, 8.0, 3000, np.random.default_rng(4))
    assert drawn.shape == (3000, 50)
    assert drawn.min() == 0
    assert drawn.max() == 49
    follows = (drawn[:, 1:] - drawn[:, :-1]) % 50 == 1
    # A new block may by chance begin where the old one would have gone on: 1 in 50.
    assert follows.mean() == pytest.approx(1 - 1 / 8 + 1 / 8 / 50, abs=0.005)
    assert ((drawn[:, 1:] == 0) & (drawn[:, :-1] == 49)).any()
    # Every date is equally likely, at every place.
    frequency = np.bincount(drawn[:, 25], minlength=50) / 3000
    assert np.abs(frequency - 1 / 50).max() < 0.012


def test_circular_blocks_have_one_length_and_go_round_the_end():
    drawn = circular_indices(23, 5, 400, np.random.default_rng(5))
    assert drawn.shape == (400, 23)
    for start in range(0, 23, 5):
        block = drawn[:, start : start + 5]
        assert ((block[:, 1:] - block[:, :-1]) % 23 == 1).all()
    assert set(drawn.ravel()) == set(range(23))


def test_a_length_of_one_draws_dates_one_by_one():
    drawn = stationary_indices(40, 1.0, 2000, np.random.default_rng(6))
    assert ((drawn[:, 1:] - drawn[:, :-1]) % 40 == 1).mean() == pytest.approx(1 / 40, abs=0.004)


def test_counts_give_the_resampled_sums():
    generator = np.random.default_rng(7)
    matrix = generator.standard_normal((30, 4))
    drawn = stationary_indices(30, 3.0, 9, generator)
    found = counts(drawn, 30)
    assert found.sum(axis=1).tolist() == [30.0] * 9
    for resample in range(9):
        assert found[resample] @ matrix == pytest.approx(matrix[drawn[resample]].sum(axis=0))


def test_the_same_generator_draws_the_same_dates():
    one, two = (stationary_indices(30, 3.0, 5, np.random.default_rng(1)) for _ in range(2))
    assert (one == two).all()


@pytest.mark.parametrize("wrong", [(0, 2, 5), (10, 0, 5), (10, 2, 0), (10, math.inf, 5)])
def test_impossible_resamples_are_refused(wrong):
    size, length, resamples = wrong
    for draw in (stationary_indices, circular_indices):
        with pytest.raises(ContractViolation):
            draw(size, length, resamples, np.random.default_rng(0))
