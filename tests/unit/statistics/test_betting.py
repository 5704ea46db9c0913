"""Bets on a bounded mean: never ruined, never fooled by looking, and right about what is there."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import ContractViolation
from assay.statistics.betting import ERA, STAKES, BettingTest, bet
from assay.statistics.sequential import Side

numbers = st.lists(st.floats(0.0, 1.0), max_size=60)


@given(numbers, st.floats(0.01, 0.99), st.sampled_from([Side.ABOVE, Side.BELOW]))
def test_the_evidence_is_the_mixture_of_products_that_it_says(values, limit, side):
    state = bet(BettingTest(limit, side, eras=False), values)
    best = 0.0
    for stop in range(1, len(values) + 1):
        capital = 0.0
        for share in STAKES:
            product = 1.0
            for value in values[:stop]:
                gain, most = (
                    (value - limit, limit) if side is Side.ABOVE else (limit - value, 1 - limit)
                )
                product *= 1 + share / most * gain
            capital += product / len(STAKES)
        best = max(best, math.log(capital))
    assert state.largest == pytest.approx(best, abs=1e-6)
    assert 0.0 < state.p_value <= 1.0


@given(numbers, numbers, st.booleans())
def test_one_call_and_many_give_equal_states(first, second, eras):
    state = BettingTest(0.3, Side.ABOVE, eras=eras)
    at_once = bet(state, [*first, *second])
    assert bet(bet(state, first), second) == at_once
    one_by_one = state
    for value in [*first, *second]:
        one_by_one = bet(one_by_one, [value])
    assert one_by_one == at_once


def test_a_mean_at_the_limit_is_rejected_in_fewer_runs_than_the_level_allows():
    generator = np.random.default_rng(7)
    for limit, side in ((0.05, Side.ABOVE), (0.9, Side.BELOW)):
        wrong = 0
        for _ in range(200):
            values = (generator.random(700) < limit).astype(float)
            wrong += bet(BettingTest(limit, side), values.tolist()).rejects(0.05)
        assert wrong <= 18  # 10 are allowed for; more than 18 has a probability of 1 in 200


def test_a_breach_after_a_long_good_time_is_found_because_the_stakes_begin_anew():
    good, bad = [0.0] * (20 * ERA), [1.0] * 40
    anew = bet(BettingTest(0.05, Side.ABOVE), good + bad)
    without = bet(BettingTest(0.05, Side.ABOVE, eras=False), good + bad)
    assert anew.rejects(0.01)
    assert not without.rejects(0.01)
    assert anew.era == 21


def test_no_observation_is_no_evidence():
    state = BettingTest(0.5, Side.BELOW)
    assert (state.p_value, state.mean, state.rejects(0.05)) == (1.0, None, False)


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan, math.inf])
def test_what_is_not_within_its_bounds_is_refused(value):
    with pytest.raises(ContractViolation, match="expected a number in"):
        bet(BettingTest(0.5, Side.ABOVE), [value])


@pytest.mark.parametrize(
    ("limit", "side"), [(0.0, Side.ABOVE), (1.0, Side.BELOW), (0.5, Side.EITHER)]
)
def test_a_limit_that_cannot_be_bet_on_is_refused(limit, side):
    with pytest.raises(ContractViolation, match="expected one side"):
        BettingTest(limit, side)
