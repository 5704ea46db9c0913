"""What a canary's pairs say: harm is found, no data is never success, luck ends no canary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from assay.delivery.canary import CanaryPolicy, advance, begin, expired, judge
from assay.delivery.outcomes import differences, harm_tests
from assay.delivery.paired import compare
from assay.delivery.scorecard import Scorecard
from assay.domain.instants import NANOS_PER_SECOND
from assay.domain.verdicts import Verdict
from assay.errors import ContractViolation
from assay.orchestration.canary_page import write_scorecard
from assay.registry.deployments import CanaryDeployment
from assay.serving.challengers.pairs import Pair

DAY = 86_400 * NANOS_PER_SECOND
POLICY = CanaryPolicy()
KINDS = ("equal", "better", "slightly worse", "swapped", "nan", "throws", "slow")


def pairs_like(kind: str, seed: int, count: int, *, instruments: int = 30) -> Iterator[Pair]:
    """Pairs of two versions; every instrument is asked 24 times a day.

    A signal with IC of some hundredths: the better and the slightly worse challenger are the
    champion with a little noise, and only outcomes could tell them apart.
    """
    generator = np.random.default_rng(seed)
    level = generator.standard_normal(count)
    noise = {"equal": 0.0, "better": 0.08, "slightly worse": 0.2}.get(kind, 0.05)
    other = generator.standard_normal(count) * (1.0 if kind == "swapped" else noise)
    answers = other if kind == "swapped" else level + other
    failing = generator.random(count) < {"nan": 0.05, "throws": 1.0}.get(kind, 0.0)
    step = DAY // (24 * instruments)
    for n in range(count):
        yield pair(
            n * step, float(level[n]), None if failing[n] else float(answers[n]),
            turn=n // 6, instrument=f"E{n % instruments:02d}",
            served="canary" if n % instruments < 3 else "champion",
            shadow_ms=80.0 if kind == "slow" else 0.01,
        )  # fmt: skip


def pair(at: int, champion: float | None, shadow: float | None, **more: Any) -> Pair:
    said = {
        "instrument": "E00", "served": "canary", "shadow_ms": 0.01, "turn": at,
        "stale": False, "error": None if shadow is not None else "no answer", **more,
    }  # fmt: skip
    return Pair(
        at=at, model="m", champion="1.0.0", champion_digest="old", challenger="2.0.0",
        challenger_digest="new", revision=7, prediction=champion, shadow=shadow, champion_ms=0.1,
        recorded=at, **said,
    )  # fmt: skip


def empty(policy: CanaryPolicy = POLICY) -> Any:
    return begin(policy, champion_digest="old", digest="new", revision=7)


def first_harm(kind: str, seed: int, count: int, policy: CanaryPolicy = POLICY) -> int | None:
    """Pairs after which the canary is found harmful, looking at it after each ten."""
    state, waiting = empty(policy), []
    for seen, one in enumerate(pairs_like(kind, seed, count), start=1):
        waiting.append(one)
        if len(waiting) == 10:
            state, waiting = advance(state, waiting, policy), []
            if judge(state, policy).verdict is Verdict.FAIL:
                return seen
    return None


def test_no_data_is_never_success():
    finding = judge(empty(), POLICY)
    assert finding.verdict is Verdict.INDETERMINATE
    assert "0 pairs that could be compared, expected at least 200" in finding.reasons


@pytest.mark.parametrize(("kind", "most"), [("swapped", 200), ("nan", 400), ("throws", 40),
                                            ("slow", 200)])  # fmt: skip
def test_what_does_harm_is_found_within_a_day(kind, most):
    found = [first_harm(kind, seed, 720) for seed in range(5)]
    assert all(one is not None and one <= most for one in found), found


@pytest.mark.parametrize("kind", ["equal", "better", "slightly worse"])
def test_what_does_no_harm_is_not_ended_and_passes_only_after_its_hours(kind):
    many = list(pairs_like(kind, 1, 2_400))
    state = advance(empty(), many[:600], POLICY)
    early = judge(state, POLICY)
    assert early.verdict is Verdict.INDETERMINATE
    assert any("hours of pairs" in reason for reason in early.reasons)
    late = judge(advance(state, many[600:], POLICY), POLICY)
    assert late.verdict is Verdict.PASS, late.reasons


def test_pairs_one_by_one_and_all_at_once_give_equal_states():
    many = list(pairs_like("nan", 3, 300))
    state = empty()
    for one in many:
        state = advance(state, [one], POLICY)
    assert state == advance(empty(), many, POLICY)


@pytest.mark.parametrize(
    "other", [{"champion_digest": "another"}, {"challenger_digest": "another"}, {"revision": 8}]
)
def test_pairs_of_another_version_or_revision_say_nothing(other):
    import msgspec

    strangers = [msgspec.structs.replace(one, **other) for one in pairs_like("throws", 1, 100)]
    assert advance(empty(), strangers, POLICY) == empty()


def test_what_the_champion_cannot_answer_either_is_no_fault_of_the_canary():
    state = advance(empty(), [pair(n, None, None) for n in range(500)], POLICY)
    assert judge(state, POLICY).verdict is Verdict.INDETERMINATE
    assert state.checks["failures"].harm.count == 0


def test_an_answer_that_the_champion_had_to_give_counts_as_a_failure():
    state = advance(empty(), [pair(n, 1.0, 1.0, served="fallback") for n in range(20)], POLICY)
    assert judge(state, POLICY).verdict is Verdict.FAIL
    assert state.fallbacks == 20


def test_stale_rows_are_not_compared_and_most_of_them_stale_is_no_success():
    many = [pair(n * DAY // 100, float(n % 7), float(n % 7), stale=True) for n in range(1_000)]
    state = advance(empty(), many, POLICY)
    finding = judge(state, POLICY)
    assert (state.pairs, finding.verdict) == (0, Verdict.INDETERMINATE)
    assert any("stale" in reason for reason in finding.reasons)


def test_ten_times_the_champion_has_its_order_and_is_found_all_the_same():
    generator = np.random.default_rng(2)
    many = [pair(n, float(x), 10.0 * float(x)) for n, x in enumerate(generator.random(400))]
    finding = judge(advance(empty(), many, POLICY), POLICY)
    assert finding.verdict is Verdict.FAIL
    assert finding.reasons[0].startswith("distance")


def test_one_stalled_turn_is_one_observation():
    many = [pair(n, float(n % 5), float(n % 5), turn=n // 64, shadow_ms=900.0 if n < 64 else 0.1)
            for n in range(640)]  # fmt: skip
    state = advance(empty(), many, POLICY)
    assert (state.checks["latency"].harm.count, state.checks["latency"].harm.total) == (9, 1.0)
    assert judge(state, POLICY).verdict is Verdict.INDETERMINATE


def test_an_answer_that_stood_is_no_observation_of_how_long_one_takes():
    many = [pair(n, float(n % 5), float(n % 5), turn=n, shadow_ms=60.0 if n == 0 else None)
            for n in range(640)]  # fmt: skip
    state = advance(empty(), many, POLICY)
    assert state.checks["latency"].harm.count == 0  # a turn is over when the next one is timed
    assert judge(state, POLICY).verdict is Verdict.INDETERMINATE


def outcome_pairs(seed: int, days: int, worse: float) -> tuple[list[Pair], dict[Any, float]]:
    generator = np.random.default_rng(seed)
    made, realised = [], {}
    for day in range(days):
        truth = generator.standard_normal(30)
        for n, outcome in enumerate(truth):
            old = 0.5 * outcome + generator.standard_normal()
            new = worse * outcome + generator.standard_normal()
            at = day * DAY + n
            made.append(pair(at, old, new, instrument=f"E{n:02d}"))
            realised[f"E{n:02d}", at] = float(outcome)
    return made, realised


@pytest.mark.parametrize(("worse", "found"), [(-0.5, True), (0.5, False)])
def test_worse_outcomes_end_a_canary_and_equal_ones_do_not(worse, found):
    past, past_outcomes = outcome_pairs(1, 60, 0.5)
    live, live_outcomes = outcome_pairs(2, 40, worse)
    tests = harm_tests(
        differences(past, past_outcomes, centre=0.0),
        differences(live, live_outcomes, centre=0.0),
        pnl=True,
    )
    assert set(tests) == {"ic", "pnl"}
    finding = judge(empty(), POLICY, outcomes=tests)
    assert (finding.verdict is Verdict.FAIL) is found
    assert finding.numbers["ic"]["dates"] == 40


def test_outcomes_without_a_shadow_before_decide_nothing():
    live, outcomes = outcome_pairs(2, 40, -0.5)
    nothing = differences([], {}, centre=0.0)
    assert harm_tests(nothing, differences(live, outcomes, centre=0.0), pnl=True) == {}


def test_the_scorecard_says_in_both_forms_what_was_found(tmp_path):
    many = list(pairs_like("swapped", 1, 300))
    finding = judge(advance(empty(), many, POLICY), POLICY)
    card = Scorecard(
        "m", CanaryDeployment("2.0.0", "new", "1.0.0", 0.1, "salt", 0, 7, "<b>me"), finding,
        compare(many, model="m", champion="1.0.0", challenger="2.0.0"), ended=True, at=DAY,
    )  # fmt: skip
    page = write_scorecard(tmp_path, card)
    text = (tmp_path / "canary_scorecard.md").read_text()
    for what in ("latency_p95", "psi", "sharpe_delta", "order_fill_rate", "**FAIL**", "| E13 |"):
        assert what in text
    html = page.read_text()
    assert "<b>me" not in html
    assert "does harm. It was ended" in html
    assert "| ranks: rank correlation within blocks, each 0.5 at least | 0.5" in text
    assert "| harm |" in text


def test_an_undecided_canary_has_a_longest_time():
    assert not expired(POLICY, since=0, now=14 * DAY)
    assert expired(POLICY, since=0, now=14 * DAY + 1)


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"block": 2}, {"pairs": 0},
                                   {"rank_correlation": 1.0}, {"rank_margin": 0.5},
                                   {"failures": 0.0}, {"far_margin": 0.95}, {"slow_margin": 0.0},
                                   {"slow_ms": 0.0}, {"hours": 400.0}])  # fmt: skip
def test_a_policy_that_could_decide_nothing_is_refused(wrong):
    with pytest.raises(ContractViolation):
        CanaryPolicy(**wrong)


@pytest.mark.long
def test_fewer_than_one_harmless_canary_in_twenty_is_ended_over_two_weeks_of_looking():
    """Each challenger is looked at after every ten pairs for two weeks of 720 pairs a day."""
    runs = 60
    ended = {kind: sum(first_harm(kind, seed, 10_080) is not None for seed in range(runs))
             for kind in ("equal", "better")}  # fmt: skip
    assert all(count <= 0.05 * runs for count in ended.values()), ended


@pytest.mark.long
def test_a_canary_at_the_border_of_every_limit_is_ended_in_at_most_one_run_in_twenty():
    """Failures at the limit: the worst case of the null, over 10,000 rows."""
    runs, ended = 200, 0
    for seed in range(runs):
        generator = np.random.default_rng(seed)
        failing = generator.random(10_000) < POLICY.failures
        many = [pair(n, float(n % 11), None if bad else float(n % 11))
                for n, bad in enumerate(failing)]  # fmt: skip
        ended += judge(advance(empty(), many, POLICY), POLICY).verdict is Verdict.FAIL
    assert ended <= 0.05 * runs, ended
