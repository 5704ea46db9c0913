"""The controller is a pure function, and unknown is never good enough."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.delivery.controller import (
    Action,
    ChallengerState,
    RetrainConfig,
    Situation,
    next_step,
    next_steps,
)
from assay.domain.verdicts import Outcome, Verdict
from assay.domain.versions import ALPHA_WEIGHTS, RISK_MODEL
from assay.errors import ContractViolation

CONFIG = RetrainConfig()
NEW = ChallengerState("2.0.0", "d", RISK_MODEL)
SEEN = replace(
    NEW, in_shadow=True, shadow_hours=170.0, shadow_recorded=True, outcome=Outcome.PROMOTABLE
)
CANARY = replace(SEEN, is_canary=True, canary=Verdict.PASS)


def action(one: ChallengerState, config: RetrainConfig = CONFIG) -> Action:
    (step,) = next_steps(Situation("m", "1.0.0", 9, (one,)), config)
    assert step.reasons
    return step.action


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (NEW, Action.START_SHADOW),
        (replace(NEW, outcome=Outcome.NOT_YET), Action.START_SHADOW),
        (replace(NEW, outcome=Outcome.REFUSED), Action.WAIT),
        (replace(SEEN, shadow_hours=None), Action.WAIT),
        (replace(SEEN, shadow_hours=float("nan")), Action.WAIT),
        (replace(SEEN, shadow_hours=167.9), Action.WAIT),
        (replace(SEEN, shadow_recorded=False), Action.RECORD_SHADOW),
        (replace(SEEN, outcome=None), Action.RECORD_SHADOW),
        (replace(SEEN, outcome=Outcome.REFUSED), Action.STOP_SHADOW),
        (replace(SEEN, outcome=Outcome.NOT_YET), Action.WAIT),
        (SEEN, Action.START_CANARY),
        (replace(SEEN, kind=ALPHA_WEIGHTS), Action.WAIT),
        (replace(SEEN, kind=ALPHA_WEIGHTS, sharpe_improvement=0.1, drawdown_worsening=0.02),
         Action.START_CANARY),
        (replace(SEEN, kind=ALPHA_WEIGHTS, sharpe_improvement=0.09, drawdown_worsening=0.0),
         Action.WAIT),
        (replace(SEEN, kind=ALPHA_WEIGHTS, sharpe_improvement=0.5, drawdown_worsening=0.021),
         Action.WAIT),
        (replace(SEEN, canaries_ended=1), Action.STOP_SHADOW),
        (replace(CANARY, canary=None), Action.WAIT),
        (replace(CANARY, canary=Verdict.INDETERMINATE), Action.WAIT),
        (replace(CANARY, canary=Verdict.INDETERMINATE, canary_over=True), Action.END_CANARY),
        (replace(CANARY, canary=Verdict.FAIL, approved=True), Action.END_CANARY),
        (CANARY, Action.WAIT),
        (replace(CANARY, approved=True), Action.PROMOTE),
        (replace(CANARY, approved=True, outcome=None), Action.WAIT),
        (replace(CANARY, approved=True, kind=ALPHA_WEIGHTS), Action.WAIT),
    ],
)  # fmt: skip
def test_each_situation_has_its_step(state: ChallengerState, expected: Action) -> None:
    assert action(state) is expected


def test_one_canary_at_a_time_and_harm_goes_before_everything() -> None:
    bad = replace(CANARY, version="1.5.0", canary=Verdict.FAIL)
    found = next_steps(Situation("m", "1.0.0", 9, (NEW, SEEN, bad)), CONFIG)
    assert [one.action for one in found] == [Action.END_CANARY, Action.START_SHADOW, Action.WAIT]
    assert "another version is the canary" in found[-1].reasons
    step = next_step(Situation("m", "1.0.0", 9, (NEW, SEEN, bad)), CONFIG)
    assert step is not None
    assert (step.version, step.action) == ("1.5.0", Action.END_CANARY)


def test_where_canaries_are_not_ended_unasked_a_person_is_named() -> None:
    config = RetrainConfig(auto_rollback_enabled=False)
    bad = Situation("m", "1.0.0", 9, (replace(CANARY, canary=Verdict.FAIL),))
    (step,) = next_steps(bad, config)
    assert step.by_people
    assert next_step(bad, config) is None


def test_without_a_champion_everything_waits() -> None:
    situation = Situation("m", None, 9, (NEW, SEEN, CANARY))
    assert {one.action for one in next_steps(situation, CONFIG)} == {Action.WAIT}
    assert next_step(situation, CONFIG) is None


states = st.builds(
    ChallengerState,
    version=st.integers(1, 9).map(lambda n: f"{n}.0.0"),
    digest=st.just("d"),
    kind=st.sampled_from([RISK_MODEL, ALPHA_WEIGHTS]),
    in_shadow=st.booleans(),
    shadow_hours=st.none() | st.floats(),
    shadow_recorded=st.booleans(),
    outcome=st.none() | st.sampled_from(Outcome),
    sharpe_improvement=st.none() | st.floats(),
    drawdown_worsening=st.none() | st.floats(),
    is_canary=st.booleans(),
    canary=st.none() | st.sampled_from(Verdict),
    canary_over=st.booleans(),
    canaries_ended=st.integers(0, 2),
    approved=st.booleans(),
)


@given(states)
def test_nothing_is_promoted_without_canary_gates_and_approvals(one: ChallengerState) -> None:
    if action(one) is Action.PROMOTE:
        assert one.is_canary
        assert one.canary is Verdict.PASS
        assert one.outcome is Outcome.PROMOTABLE
        assert one.approved
    if action(one) is Action.START_CANARY:
        assert one.shadow_hours is not None
        assert one.shadow_hours >= 168.0
        assert one.canaries_ended == 0
    if one.is_canary and one.canary is Verdict.FAIL:
        assert action(one) is Action.END_CANARY


@given(st.lists(states, max_size=4, unique_by=lambda one: one.version), st.randoms())
def test_the_order_of_challengers_changes_nothing(found, random) -> None:  # type: ignore[no-untyped-def]
    steps = next_steps(Situation("m", "1.0.0", 9, tuple(found)), CONFIG)
    shuffled = list(found)
    random.shuffle(shuffled)
    assert next_steps(Situation("m", "1.0.0", 9, tuple(shuffled)), CONFIG) == steps


@pytest.mark.parametrize("wrong", [{"shadow_mode_days": -1.0}, {"canary_share": 0.0},
                                   {"canary_share": 0.6},
                                   {"min_sharpe_improvement": float("nan")}])  # fmt: skip
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ContractViolation):
        RetrainConfig(**wrong)
