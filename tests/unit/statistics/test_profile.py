"""Stored profiles against whole samples."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from assay.errors import ContractViolation
from assay.statistics.effective import effective_size
from assay.statistics.profile import Profile, _cell_means, drift, drifts, profile, profiles
from assay.statistics.stability import population_stability


def columns(seed=1, n=20_000, m=5_000, shift=0.0, decimals=9):
    generator = np.random.default_rng(seed)
    first = np.round(generator.standard_t(4, n), decimals)
    return first, np.round(generator.standard_t(4, m) + shift, decimals)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.8])
@pytest.mark.parametrize("decimals", [9, 1, 0])
@pytest.mark.parametrize("m", [5_000, 37])
def test_a_stored_profile_answers_almost_as_the_whole_sample_would(shift, decimals, m):
    first, second = columns(shift=shift, decimals=decimals, m=m)
    found = drift(profile(first, effective=20_000), second, effective=m)
    exact = stats.ks_2samp(first, second).statistic
    assert exact - 1e-3 <= found.ks.value <= exact + 1e-12
    distance = stats.wasserstein_distance(first, second) / first.std()
    assert found.wasserstein.value <= distance + 1e-9
    assert distance <= found.wasserstein.value + found.wasserstein.details["resolution"] + 1e-9
    assert found.wasserstein.value == pytest.approx(distance, abs=2e-3)
    assert found.psi.value == pytest.approx(population_stability(first, second).value, rel=1e-9)


@pytest.mark.parametrize(("size", "cells"), [(1000, 10), (1003, 10), (7, 10), (10, 7), (1, 3)])
def test_cell_means_share_the_rows_on_their_borders(size, cells):
    ordered = np.sort(np.random.default_rng(size).standard_normal(size))
    # Each row as `cells` equal parts, so that every cell holds whole parts.
    parts = np.repeat(ordered, cells).reshape(cells, size)
    assert _cell_means(ordered, cells) == pytest.approx(parts.mean(axis=1), rel=1e-9, abs=1e-12)


def test_a_profile_is_stored_and_read_back_bit_for_bit():
    first, second = columns(n=3_000)
    first[:20] = np.nan
    kept = profile(first)
    read = Profile.from_json(json.loads(json.dumps(kept.to_json())))
    assert read.to_json() == kept.to_json()
    assert drift(read, second) == drift(kept, second)
    assert (read.rows, read.missing) == (3_000, 20)
    with pytest.raises(ContractViolation, match="without grid"):
        Profile.from_json({key: value for key, value in kept.to_json().items() if key != "grid"})


def test_missing_and_infinite_rows_are_a_share_and_a_bin_not_a_distance():
    first, second = columns()
    first[:100] = np.nan
    holes = second.copy()
    holes[:500], holes[500:1000] = np.nan, -np.inf
    found = drift(profile(first), holes)
    assert found.missing.value == pytest.approx(0.2 - 0.005)
    assert found.ks.value == pytest.approx(
        stats.ks_2samp(first[100:], second[1000:]).statistic, abs=1e-3
    )
    assert found.psi.value > 0.5
    assert found.psi.details["bins"] == 11


def test_a_short_window_is_not_taken_to_be_less_persistent_than_the_reference():
    generator = np.random.default_rng(3)
    slow = np.repeat(generator.standard_normal(300), 20)
    kept = profile(slow)
    assert kept.effective == pytest.approx(effective_size(slow))
    found = drift(kept, generator.standard_normal(400))
    assert found.ks.details["effective_current"] <= 400 * kept.effective / 6000 + 1e-9
    assert found.psi.details["effective_current"] == found.ks.details["effective_current"]
    free = drift(kept, generator.standard_normal(400), effective=400)
    assert free.ks.details["effective_current"] == 400


@pytest.mark.parametrize("stuck", [np.full(250, 0.3), np.repeat([0.3, 0.31], 125)])
def test_a_feed_that_is_stuck_raises_the_alarm(stuck):
    # By its own persistence the window would be worth a row or two, and nothing could be said.
    kept = profile(np.random.default_rng(5).standard_normal(1_000))
    found = drift(kept, stuck)
    assert found.ks.p_value < 1e-6
    assert found.psi.p_value < 1e-6
    assert found.psi.value > 5 * found.psi.details["null_quantile"]


def test_a_reference_too_short_to_show_its_persistence_asks_the_window_as_well():
    trend = np.arange(100.0)
    kept = profile(trend)
    assert kept.effective < 2
    found = drift(kept, np.arange(60.0))
    assert found.ks.p_value is None
    assert found.psi.p_value is None
    assert found.psi.details["null_quantile"] is None
    assert "too few" in found.psi.warnings[0]


def test_a_feature_that_never_varied_says_whether_it_does_now():
    found = drift(profile([2.0] * 50), [2.0] * 9 + [3.0])
    for one in (found.ks, found.wasserstein, found.psi, found.kl, found.js):
        assert one.value is None
        assert "always 2); 1 of 10" in one.undefined
    assert found.missing.value == 0.0


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        ([], [1.0, 2.0]),
        ([math.nan] * 5, [1.0, 2.0]),
        ([1.0, 2.0], []),
        ([1.0, 2.0], [math.inf] * 4),
    ],
)
def test_columns_without_values_have_no_distance(reference, current):
    found = drift(profile(reference), current)
    assert found.ks.value is None
    assert found.psi.undefined


def test_many_features_are_compared_by_name_one_at_a_time():
    generator = np.random.default_rng(4)
    table = {f"f{i}": generator.standard_normal(500) for i in range(5)}
    alive = []

    def one_by_one():
        for name, values in table.items():
            alive.append(name)
            yield name, values

    kept = profiles(iter(table.items()), cells=50)
    found = drifts(kept, one_by_one())
    assert list(found) == alive == list(table)
    assert all(one.ks.value <= 0.02 for one in found.values())
    with pytest.raises(ContractViolation, match="no stored profile"):
        drifts(kept, [("f9", [1.0, 2.0])])
    with pytest.raises(ContractViolation, match="f1, f2"):
        drifts(kept, [("f0", [1.0, 2.0])])
