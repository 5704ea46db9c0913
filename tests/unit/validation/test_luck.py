"""Evidence of luck: every trial counts, poor data decides nothing, the harder benchmark decides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.statistics.deflated import Trials, deflated_sharpe
from assay.statistics.superior import superior_ability
from assay.validation.luck import Attempts, luck_evidence

NAMES = ("deflated_sharpe", "min_track_record", "pbo", "spa")


def attempts(days=600, trials=8, edge=0.0, seed=1, **more):
    generator = np.random.default_rng(seed)
    together = 0.01 * generator.standard_normal((days, trials))
    together[:, 0] += edge
    return Attempts(together[:, 0], together, more.pop("count", trials), **more)


def measured(tried, seed=2):
    found = luck_evidence(tried, generator=np.random.default_rng(seed))
    assert tuple(piece.name for piece in found) == NAMES
    return dict(zip(NAMES, found, strict=True))


def test_trials_without_a_series_make_the_same_result_less_believable():
    few, many = (measured(attempts(edge=0.0015, count=count)) for count in (8, 80))
    assert few["deflated_sharpe"].value > many["deflated_sharpe"].value
    assert many["deflated_sharpe"].details["trials"] == 80
    assert "80 trials counted" in many["deflated_sharpe"].details["in_words"]


def test_the_deflated_ratio_is_that_of_the_candidate_among_all_trials():
    tried = attempts(edge=0.001)
    trials = Trials.of(tried.together, count=8)
    direct = deflated_sharpe(tried.returns, trials=trials, form="2025")
    assert measured(tried)["deflated_sharpe"].value == direct.value


def test_one_trial_leaves_nothing_to_choose_from_and_decides_no_overfitting():
    found = measured(attempts(trials=1))
    assert found["pbo"].value is None
    assert "nothing to choose from" in found["pbo"].details["undefined"]
    assert found["deflated_sharpe"].value is not None


def test_fewer_than_five_trials_decide_no_overfitting_and_say_what_was_found():
    few, enough = (measured(attempts(trials=count, edge=0.002))["pbo"] for count in (4, 5))
    assert few.value is None
    assert 0.0 <= few.details["probability"] <= 1.0
    assert "at least 5" in few.details["undefined"]
    assert enough.value is not None


def test_the_harder_of_cash_and_champion_decides():
    tried = attempts(edge=0.002, seed=4)
    alone = measured(tried)["spa"]
    assert alone.details["benchmark"] == "cash"
    assert alone.value < 0.1
    champion = tried.returns + 0.0001 * np.random.default_rng(5).standard_normal(600)
    beside = measured(Attempts(tried.returns, tried.together, tried.count, champion=champion))[
        "spa"
    ]
    assert beside.details["benchmark"] == "champion"
    assert beside.value == beside.details["p_against_champion"] > 0.1
    direct = superior_ability(tried.together, generator=np.random.default_rng(2))
    assert beside.details["p_against_cash"] == direct.p_value


def test_a_champion_that_cannot_be_compared_is_not_passed_over_for_cash():
    tried = attempts(edge=0.002)
    found = measured(Attempts(tried.returns, tried.together, 8, champion=np.full(600, math.nan)))[
        "spa"
    ]
    assert found.value is None


def test_a_losing_record_is_no_share_of_the_length_that_it_needs():
    assert measured(attempts(edge=-0.002))["min_track_record"].value == 0.0
    good = measured(attempts(edge=0.002))["min_track_record"]
    needed = good.details["needed_dates"]
    assert good.value == pytest.approx(600 / needed)


POOR = {
    "empty": np.empty((0, 3)),
    "one date": np.zeros((1, 3)),
    "constant": np.full((400, 3), 0.01),
    "zero": np.zeros((400, 3)),
    "nothing known": np.full((400, 3), math.nan),
    "one hole": np.where(np.arange(1200).reshape(400, 3) == 7, math.nan, 0.01),
    "infinite": np.where(np.arange(1200).reshape(400, 3) == 7, math.inf, 0.01),
}


@pytest.mark.parametrize("kind", POOR)
def test_poor_data_gives_no_value_and_a_reason(kind):
    together = POOR[kind]
    for piece in measured(Attempts(together[:, 0], together, 3)).values():
        assert piece.value is None
        assert piece.details["undefined"]


@settings(max_examples=40, deadline=None)
@given(
    days=st.integers(0, 80),
    trials=st.integers(1, 4),
    scale=st.sampled_from([0.0, 1e-300, 1e-9, 0.01, 1.0, 1e150, 1e300]),
    hole=st.sampled_from([None, math.nan, math.inf, -math.inf, 0.0]),
    seed=st.integers(0, 10**6),
)
def test_whatever_the_returns_evidence_is_finite_or_says_why_not(days, trials, scale, hole, seed):
    generator = np.random.default_rng(seed)
    together = scale * generator.standard_normal((days, trials))
    if hole is not None and days:
        together[generator.integers(days), generator.integers(trials)] = hole
    for piece in measured(Attempts(together[:, 0], together, trials)).values():
        assert piece.convention
        if piece.value is None:
            assert piece.details["undefined"]
        else:
            assert math.isfinite(piece.value)
