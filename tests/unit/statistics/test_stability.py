"""Stability index and divergences, against loops; the null against its published behaviour."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from assay.errors import ContractViolation
from assay.statistics.stability import (
    divergences,
    population_stability,
    psi_null_quantile,
    stability_index,
)


def psi_by_loops(reference, current, bins=10):
    """Deciles of the reference, (lower, upper], half a row in each, in plain Python."""
    known = sorted(x for x in reference if not math.isnan(x))
    edges = sorted({float(np.quantile(known, k / bins)) for k in range(1, bins)})

    def shares(values):
        counts = [0.5] * (len(edges) + 1)
        missing = 0.5
        for x in values:
            if math.isnan(x):
                missing += 1
            else:
                counts[sum(x > edge for edge in edges)] += 1
        if any(math.isnan(x) for x in (*reference, *current)):
            counts.append(missing)
        return [c / sum(counts) for c in counts]

    p, q = shares(reference), shares(current)
    return p, sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("decimals", [9, 0])
def test_the_index_is_that_of_unique_quantile_bins(missing, decimals):
    generator = np.random.default_rng(1)
    first = np.round(generator.standard_normal(500), decimals)
    second = np.round(1.2 * generator.standard_normal(200) + 0.3, decimals)
    if missing:
        second[:9] = np.nan
    p, expected = psi_by_loops(first.tolist(), second.tolist())
    found = population_stability(first, second)
    assert found.value == pytest.approx(expected, rel=1e-10)
    assert found.details["bins"] == len(p)
    assert found.p_value == pytest.approx(
        stats.chi2.sf(expected / (1 / 500 + 1 / 200), len(p) - 1), rel=1e-9
    )


def test_divergences_are_those_of_scipy_and_say_which_is_a_distance():
    then, now = np.array([30.0, 50, 20, 0]), np.array([10.0, 60, 29, 0])
    kl, js = divergences(then, now)
    p, q = (then[:3] + 0.5) / 101.5, (now[:3] + 0.5) / 100.5
    assert kl.value == pytest.approx(stats.entropy(q, p), rel=1e-12)
    # scipy answers with the root.
    assert js.value == pytest.approx(jensenshannon(p, q), rel=1e-12)
    assert js.details["divergence"] == pytest.approx(js.value**2, rel=1e-12)
    back, _ = divergences(now, then)
    assert stability_index(then, now).value == pytest.approx(kl.value + back.value, rel=1e-12)


def test_the_jensen_shannon_distance_ends_at_the_root_of_log_two():
    _, js = divergences(np.array([1e12, 0.0, 0.0]), np.array([0.0, 1e12, 0.0]))
    assert js.value == pytest.approx(math.sqrt(math.log(2)), rel=1e-6)


@pytest.mark.parametrize(("rows", "share"), [(60, 0.70), (100, 0.30), (250, 0.002)])
def test_with_few_rows_the_index_exceeds_a_tenth_by_chance(rows, share):
    generator = np.random.default_rng(rows)
    found = [
        population_stability(generator.random(10_000), generator.random(rows)) for _ in range(400)
    ]
    error = math.sqrt(share * (1 - share) / 400)
    assert np.mean([one.value > 0.1 for one in found]) == pytest.approx(share, abs=4 * error + 0.03)
    assert np.mean([one.p_value < 0.05 for one in found]) < 0.10


def test_fewer_effective_rows_widen_the_null():
    assert psi_null_quantile(10, 250, 250) == pytest.approx(stats.chi2.ppf(0.99, 9) / 125)
    first, second = np.random.default_rng(2).random((2, 300))
    naive = population_stability(first, second)
    honest = population_stability(first, second, effective_reference=30, effective_current=30)
    assert honest.value == naive.value
    assert honest.p_value > naive.p_value
    assert honest.details["null_quantile"] == pytest.approx(10 * naive.details["null_quantile"])


def test_samples_without_bins_say_why():
    for reference, current, word in (
        ([1.0] * 30, [1.0] * 30, "never varies"),
        ([], [1.0] * 30, "reference has no values"),
        ([1.0, 2.0], [math.nan] * 3, "current sample has no values"),
    ):
        found = population_stability(reference, current)
        assert found.value is None
        assert word in found.undefined
    with pytest.raises(ContractViolation, match="bins"):
        population_stability([1.0, 2.0], [1.0, 2.0], bins=1)
    with pytest.raises(ContractViolation, match="counts of shapes"):
        stability_index(np.ones(3), np.ones(4))
