"""Probability of backtest overfitting, against plain loops and cases with known answers."""

import math
from itertools import combinations

import numpy as np
import pytest

from assay.errors import ContractViolation
from assay.statistics.overfitting import probability_of_overfitting, simulate_null
from assay.statistics.overfitting_null import null_band


def ratio(rows):
    n = len(rows)
    mean = sum(rows) / n
    spread = math.sqrt(sum((x - mean) ** 2 for x in rows) / (n - 1))
    return mean / spread if spread > 0 else 0.0


def by_loops(matrix, blocks, purge=0):
    """PBO, logits, in-sample and out-of-sample ratios by chosen in-sample blocks."""
    size, trials = len(matrix), len(matrix[0])
    length = size // blocks
    rows = matrix[size % blocks :]
    found = {}
    for half in combinations(range(blocks), blocks // 2):
        inside, outside = [], []
        for block in range(blocks):
            dates = list(range(block * length, (block + 1) * length))
            if block not in half:
                outside += dates
                continue
            if block > 0 and block - 1 not in half:
                dates = dates[purge:]
            if block < blocks - 1 and block + 1 not in half:
                dates = dates[: len(dates) - purge]
            inside += dates
        first = [ratio([rows[t][k] for t in inside]) for k in range(trials)]
        second = [ratio([rows[t][k] for t in outside]) for k in range(trials)]
        best = max(range(trials), key=lambda k: first[k])
        below = sum(value < second[best] - 1e-9 for value in second)
        equal = sum(abs(value - second[best]) <= 1e-9 for value in second)
        share = (below + (equal + 1) / 2) / (trials + 1)
        found[half] = (math.log(share / (1 - share)), first[best], second[best], best)
    return found


def noise(seed=1, size=53, trials=7):
    return 0.01 * np.random.default_rng(seed).standard_normal((size, trials))


@pytest.mark.parametrize(
    ("seed", "blocks", "purge"), [(1, 4, 0), (2, 6, 0), (3, 8, 0), (4, 6, 1), (5, 4, 3), (6, 8, 2)]
)
def test_splits_ranks_and_ratios_are_those_of_plain_loops(seed, blocks, purge):
    matrix = noise(seed) + 0.002 * np.arange(7)
    found = probability_of_overfitting(matrix, blocks=blocks, purge=purge)
    expected = by_loops(matrix.tolist(), blocks, purge)
    assert len(found.logits) == len(expected) == math.comb(blocks, blocks // 2)
    pairs = zip(found.logits, found.in_sample, found.out_of_sample, found.chosen, strict=True)
    ours = sorted((*map(float, some), int(trial)) for *some, trial in pairs)
    theirs = sorted(expected.values())
    assert np.array(ours) == pytest.approx(np.array(theirs), abs=1e-9)
    logits = [each[0] for each in theirs]
    assert found.value == sum(logit <= 0 for logit in logits) / len(logits)
    assert found.details["median_logit"] == pytest.approx(float(np.median(logits)))
    losses = sum(each[2] < 0 for each in theirs) / len(theirs)
    assert found.details["probability_of_loss"] == losses
    slope = np.polyfit([each[1] for each in theirs], [each[2] for each in theirs], 1)[0]
    assert found.details["slope"] == pytest.approx(slope, abs=1e-9)


def test_the_oldest_dates_that_fill_no_block_are_left_out():
    matrix = noise(size=50)
    changed = matrix.copy()
    changed[:2] = 9.0 * noise(8, size=2)
    one, two = (probability_of_overfitting(each, blocks=8) for each in (matrix, changed))
    assert one.details["dates_left_out"] == 2
    assert one.sample_size == 48
    assert (one.logits == two.logits).all()


def test_a_real_edge_is_not_overfitting_and_a_fitted_one_is():
    matrix = noise(size=400, trials=20)
    matrix[:, 3] += 0.004
    good = probability_of_overfitting(matrix)
    assert good.value < 0.01
    assert good.details["most_chosen_trial"] == 3
    assert good.details["probability_of_loss"] < 0.05
    # Every trial sums to nothing: what is gained in-sample is lost outside.
    fitted = noise(2, size=400, trials=20)
    fitted -= fitted.mean(axis=0)
    bad = probability_of_overfitting(fitted)
    assert bad.value > 0.9
    assert bad.details["slope"] < 0
    assert bad.details["probability_of_loss"] > 0.95


def test_identical_trials_fail_closed():
    # With rank/N, or logits below zero only, this would be 0.
    for copies in (2, 5, 8):
        same = np.repeat(noise(size=64, trials=1), copies, axis=1)
        levered = same * np.linspace(0.3, 7.0, copies)
        for matrix in (same, levered):
            found = probability_of_overfitting(matrix, blocks=8)
            assert found.value == 1.0
            assert (found.logits == 0.0).all()
            assert f"{copies - 1} of {copies} trials are copies" in found.warnings[0]


def test_the_median_of_an_odd_number_counts_as_overfitting():
    # Lessons of three conventions: of three trials the middle one has logit zero, and counts.
    matrix = noise(9, size=96, trials=3)
    found = probability_of_overfitting(matrix, blocks=6)
    middle = np.isclose(found.logits, 0.0).mean()
    assert middle > 0.1
    assert found.value == pytest.approx(middle + (found.logits < -1e-9).mean())


def test_leverage_and_order_of_trials_do_not_matter():
    matrix = noise(size=128, trials=9)
    plain = probability_of_overfitting(matrix, blocks=8)
    order = np.random.default_rng(1).permutation(9)
    moved = probability_of_overfitting((matrix * np.geomspace(1e-6, 1e8, 9))[:, order], blocks=8)
    assert moved.value == plain.value
    assert np.sort(moved.logits) == pytest.approx(np.sort(plain.logits))
    assert (order[moved.chosen] == plain.chosen).all()


def test_a_trial_that_does_not_trade_for_half_of_the_dates_has_a_ratio_of_zero_there():
    matrix = noise(size=64, trials=6)
    matrix[32:, 2] = 0.0
    found = probability_of_overfitting(matrix, blocks=8)
    expected = by_loops(matrix.tolist(), 8)
    assert np.sort(found.logits) == pytest.approx(np.sort([each[0] for each in expected.values()]))
    assert any("holds nothing" in warning for warning in found.warnings)
    matrix[:, 2] = 0.0
    found = probability_of_overfitting(matrix, blocks=8)
    expected = by_loops(matrix.tolist(), 8)
    assert np.sort(found.logits) == pytest.approx(np.sort([each[0] for each in expected.values()]))


def test_a_large_mean_costs_no_digits():
    matrix = noise(size=128, trials=6)
    base = probability_of_overfitting(matrix + 1.0, blocks=8)
    expected = by_loops((matrix + 1.0).tolist(), 8)
    assert np.sort(base.logits) == pytest.approx(np.sort([each[0] for each in expected.values()]))


def test_the_band_of_noise_is_for_its_own_numbers():
    matrix = noise(size=160, trials=20)
    from_table = probability_of_overfitting(matrix, blocks=10)
    assert from_table.null_interval == null_band(20, 10)
    assert from_table.p_value is None
    simulated = probability_of_overfitting(
        matrix, blocks=10, generator=np.random.default_rng(1), repetitions=300
    )
    assert simulated.null_interval == pytest.approx(from_table.null_interval, abs=0.08)
    noises = simulate_null(20, 10, repetitions=300, generator=np.random.default_rng(1))
    assert simulated.p_value == (1 + (noises <= simulated.value).sum()) / 301
    unusual = probability_of_overfitting(matrix, blocks=6)
    assert unusual.null_interval is None
    assert any("give a generator" in warning for warning in unusual.warnings)


def test_bands_between_the_simulated_numbers_of_trials_are_interpolated():
    low, middle, high = null_band(50, 16), null_band(70, 16), null_band(100, 16)
    share = math.log(70 / 50) / math.log(2)
    for k in (0, 1):
        assert middle[k] == pytest.approx(low[k] + share * (high[k] - low[k]))
    assert null_band(9, 16) is None
    assert null_band(1001, 16) is None
    assert null_band(50, 18) is None


def test_the_null_is_symmetric_about_one_half_for_even_numbers():
    found = simulate_null(10, 8, repetitions=2000, generator=np.random.default_rng(2))
    assert found.mean() == pytest.approx(0.5, abs=0.03)
    assert 0.19 < found.std() < 0.27


def degenerate():
    holes = noise()
    holes[5, 2] = math.nan
    paid = noise(size=64)
    paid[:40, 3] = 0.001
    return {
        "at least 10": noise(size=9),
        "missing or infinite in 1 columns": holes,
        "one trial": noise(trials=1),
        "no returns of trials": np.empty((50, 0)),
        "are needed": noise(size=20),
        "trial 3 earns the same": paid,
        "trial 0 earns the same": np.full((64, 3), 0.01),
        "overflow": noise() * 1e300,
    }


@pytest.mark.parametrize("word", degenerate())
def test_trials_that_cannot_be_judged_have_no_value_and_a_reason(word):
    found = probability_of_overfitting(degenerate()[word], generator=np.random.default_rng(0))
    assert found.value is None
    assert found.p_value is None
    assert word in found.undefined


def test_trials_that_never_trade_are_overfitting_not_an_error():
    found = probability_of_overfitting(np.zeros((64, 4)), blocks=8)
    assert found.value == 1.0


def test_blocks_too_short_for_the_purge_have_no_value():
    assert probability_of_overfitting(noise(), blocks=8, purge=3).value is None


@pytest.mark.parametrize(
    "wrong", [{"blocks": 7}, {"blocks": 2}, {"blocks": 22}, {"purge": -1}, {"repetitions": 0}]
)
def test_impossible_splits_are_refused(wrong):
    with pytest.raises(ContractViolation):
        probability_of_overfitting(noise(), **wrong)
    with pytest.raises(ContractViolation, match="shape"):
        probability_of_overfitting(np.zeros(40))
