"""Tests that may be looked at any day: published numbers, two papers' formulas, resuming."""

import dataclasses
import json
import math

import numpy as np
import pytest

from assay.errors import ContractViolation
from assay.statistics.hac import long_run_variance
from assay.statistics.sequential import (
    SequentialTest,
    Side,
    advance,
    begin,
    best_rho,
    frozen_variance,
    log_mixture,
    mixture_bound,
    reading,
)


def test_the_mixture_has_the_numbers_that_confseq_tests_itself_with():
    # confseq, the authors' library, for v = 100 and alpha = 0.05.
    rho = best_rho(100.0, alpha=0.05)
    assert rho == pytest.approx(12.60056, abs=5e-6)
    bound = mixture_bound(100.0, rho=rho, side=Side.EITHER, alpha=0.05)
    assert bound == pytest.approx(30.35209, abs=5e-6)
    assert log_mixture(10.0, 100.0, rho=rho, side=Side.EITHER) == pytest.approx(
        -0.6510052, abs=5e-7
    )


def test_the_weight_is_about_the_best_one():
    rho = best_rho(100.0, alpha=0.05)
    bounds = [
        mixture_bound(100.0, rho=rho * factor, side=Side.EITHER, alpha=0.05)
        for factor in np.geomspace(0.2, 5, 81)
    ]
    ours = mixture_bound(100.0, rho=rho, side=Side.EITHER, alpha=0.05)
    assert ours <= min(bounds) * (1 + 1e-4)


def test_it_is_the_likelihood_ratio_of_johari_and_others():
    generator = np.random.default_rng(2)
    observations = (0.3 + 2 * generator.standard_normal(60)).tolist()
    variance, tau2 = 4.0, 0.7
    state = SequentialTest(null=0.1, variance=variance, rho=variance**2 / tau2)
    p, total = 1.0, 0.0
    for n, x in enumerate(observations, start=1):
        total += x - 0.1
        ratio = math.sqrt(variance / (variance + n * tau2)) * math.exp(
            tau2 * total**2 / (2 * variance * (variance + n * tau2))
        )
        p = min(p, 1 / ratio)
        state = advance(state, [x])
        assert reading(state).p_value == pytest.approx(p, rel=1e-10)
    assert reading(state).value == pytest.approx(sum(observations) / 60, rel=1e-12)


@pytest.mark.parametrize("side", list(Side))
def test_the_boundary_is_where_the_likelihood_ratio_is_one_over_alpha(side):
    for v in (0.5, 10.0, 1e4):
        bound = mixture_bound(v, rho=3.0, side=side, alpha=0.05)
        at = -bound if side is Side.BELOW else bound
        assert log_mixture(at, v, rho=3.0, side=side) == pytest.approx(math.log(20), rel=1e-9)


def test_one_side_is_the_half_normal_mixture_by_numeric_integration():
    total, v, rho = 7.0, 30.0, 11.0
    lambdas = np.linspace(0, 6, 200_001)
    density = 2 * math.sqrt(rho / (2 * math.pi)) * np.exp(-rho * lambdas**2 / 2)
    integral = np.trapezoid(density * np.exp(lambdas * total - lambdas**2 * v / 2), lambdas)
    assert log_mixture(total, v, rho=rho, side=Side.ABOVE) == pytest.approx(
        math.log(integral), rel=1e-8
    )
    assert log_mixture(-total, v, rho=rho, side=Side.BELOW) == log_mixture(
        total, v, rho=rho, side=Side.ABOVE
    )


def test_the_interval_excludes_the_null_exactly_when_this_observations_ratio_rejects():
    generator = np.random.default_rng(4)
    state = begin(null=0.0, variance=1.0, expected=50)
    seen = set()
    for x in 0.35 + generator.standard_normal(200):
        state = advance(state, [x])
        now = reading(state)
        low, high = now.interval
        rejects = now.details["log_likelihood_ratio"] >= math.log(20)
        assert (low > 0 or high < 0) is rejects
        seen.add(rejects)
    assert seen == {True, False}


@pytest.mark.parametrize("side", list(Side))
def test_a_state_resumed_from_its_numbers_goes_on_with_equal_bits(side):
    observations = 0.1 + np.random.default_rng(5).standard_normal(90)
    start = begin(null=0.0, variance=1.3, expected=60, side=side)
    whole = advance(start, observations)
    state = start
    for piece in np.split(observations, [1, 7, 8, 50]):
        stored = json.loads(json.dumps(dataclasses.asdict(state)))
        state = advance(SequentialTest(**stored), piece)
    assert state == whole
    assert reading(state) == reading(whole)


def test_a_harm_stop_fires_on_harm_and_not_on_gain():
    harm = begin(null=0.0, variance=1.0, expected=100, side=Side.BELOW)
    draws = np.random.default_rng(6).standard_normal(300)
    assert reading(advance(harm, draws - 0.5)).p_value < 0.01
    found = reading(advance(harm, draws + 0.5))
    assert found.p_value > 0.3
    assert found.details["bound"] > 0
    assert reading(advance(harm, draws - 0.5)).details["bound"] < 0


def test_the_p_value_only_falls():
    state = begin(null=0.0, variance=1.0, expected=30)
    last = 1.0
    for x in [3.0] * 5 + [-3.0] * 5 + [0.0] * 50:
        state = advance(state, [x])
        assert reading(state).p_value <= last
        last = reading(state).p_value


def test_missing_observations_change_nothing_and_infinite_ones_everything():
    state = begin(null=0.0, variance=1.0, expected=30)
    plain = advance(state, [1.0, 2.0])
    gaps = advance(state, [1.0, math.nan, 2.0])
    assert (gaps.total, gaps.count, gaps.missing) == (plain.total, plain.count, 1)
    broken = advance(advance(state, [1.0, math.inf]), [1.0] * 100)
    assert reading(broken).value is None
    assert "infinite" in reading(broken).undefined
    huge = advance(state, [1e200])
    assert reading(huge).value is None
    assert "no observations" in reading(state).undefined


def test_the_variance_is_the_larger_of_the_plain_and_the_long_run_one():
    generator = np.random.default_rng(7)
    noise = generator.standard_normal(500)
    persistent = np.empty(500)
    persistent[0] = noise[0]
    for t in range(1, 500):
        persistent[t] = 0.6 * persistent[t - 1] + noise[t]
    found = frozen_variance(persistent)
    assert found.value == pytest.approx(long_run_variance(persistent, 5), rel=1e-12)
    assert found.value > 1.8 * persistent.var(ddof=1)
    alternating = np.tile([1.0, -1.0], 100)
    assert frozen_variance(alternating).value == pytest.approx(alternating.var(ddof=1))


@pytest.mark.parametrize(
    ("history", "word"),
    [
        ([], "0 obs"),
        ([1.0, 2.0], "2 obs"),
        ([0.3] * 50, "never varies"),
        ([0, math.inf] * 9, "inf"),
    ],
)
def test_a_history_without_a_variance_says_why(history, word):
    found = frozen_variance(history)
    assert found.value is None
    assert word in found.undefined


def test_a_test_without_a_variance_cannot_begin():
    for variance in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ContractViolation):
            begin(null=0.0, variance=variance, expected=10)
    with pytest.raises(ContractViolation, match="expected at least 1"):
        begin(null=0.0, variance=1.0, expected=0)
    with pytest.raises(ContractViolation, match="level"):
        reading(begin(null=0.0, variance=1.0, expected=10), alpha=1.0)
    with pytest.raises(ContractViolation, match="null"):
        begin(null=math.nan, variance=1.0, expected=10)
