"""A shadow keeps its days and counts when its pairs are removed; figures say what they rest on."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from assay.delivery.canary import CanaryPolicy, CanaryState, add_removed, advance, begin, judge
from assay.delivery.pair_history import PairHistory
from assay.delivery.paired import ShadowComparison, compare, shadow_evidence
from assay.domain.verdicts import Verdict
from assay.serving.challengers.pair_log import Kept, PairLog, segments
from assay.serving.challengers.pairs import Pair, Turn, encode_turns

HOUR = 3_600 * 10**9
DAY = 24 * HOUR
START = 20_000 * DAY  # 2024-10-04
SMALL = Kept(segment_bytes=3_000, total_bytes=12_000)


def turn(number: int, made: int, old: list[float], new: list[float | None], **more: object) -> Turn:
    said = {
        "champion_digest": "old", "challenger_digest": "new", "revision": 7, "served": "champion",
        "at": made, **more,
    }  # fmt: skip
    return Turn(
        recorded=made, model="m", champion="1.0.0", challenger="2.0.0", manifest=None, turn=number,
        prediction=list(old), shadow=new, champion_ns=1_000, shadow_ns=1_000,
        instrument=[f"E{n}" for n in range(len(old))],
        error=[None if one is not None else "broken" for one in new], **said,
    )  # type: ignore[arg-type]  # fmt: skip


def compared(path: Path, **asked: object) -> ShadowComparison:
    asked = {"model": "m", "challenger": "new", "champion": "old", **asked}
    history = PairHistory(path, **asked)  # type: ignore[arg-type]
    return compare(
        history.pairs(), model="m", champion="1.0.0", challenger="2.0.0", removed=history.removed
    )


def stable_since(pairs: list[Pair]) -> int:
    """The last beginning: the first pair, one after 26 hours of none, or one without an answer."""
    begun = pairs[0].recorded
    for before, pair in zip([pairs[0], *pairs], pairs, strict=False):
        if pair.recorded - before.recorded > 26 * HOUR or pair.shadow is None:
            begun = pair.recorded
    return begun


@pytest.mark.parametrize("seed", range(6))
def test_days_counts_and_hours_are_those_of_all_pairs_ever_made(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    path = tmp_path / "predictions.jsonl"
    log = PairLog(path, SMALL)
    made: list[Pair] = []
    at = START
    for number in range(150):
        # Late ones have neither gap nor failure in some seeds, so that the last is in the sums.
        calm = number > 110 - 30 * (seed % 3)
        at += 28 * HOUR if not calm and generator.random() < 0.05 else generator.randrange(HOUR)
        old = [generator.gauss(0, 1) for _ in range(8)]
        new = [None if not calm and generator.random() < 0.02 else one + generator.gauss(0, 0.1)
               for one in old]  # fmt: skip
        one = turn(number, at, old, new, dropped=generator.randrange(2))
        made += one.pairs()
        log.append(encode_turns([one]), at)
    assert segments(path)
    found = compared(path)
    both = [one for one in made if one.shadow is not None]
    assert (found.rows, found.pairs) == (len(made), len(both))
    assert found.errors == {"broken": len(made) - len(both)}
    assert found.dropped == sum(one.dropped for one in made)
    assert (found.first, found.last) == (made[0].recorded, made[-1].recorded)
    assert found.stable_hours == (made[-1].recorded - stable_since(made)) / HOUR
    whole = compare(made, model="m", champion="1.0.0", challenger="2.0.0")
    assert (found.incident, found.stable_hours) == (whole.incident, whole.stable_hours)
    by_day = Counter(one.recorded // DAY for one in made)
    assert [one.rows for one in found.days] == [by_day[day] for day in sorted(by_day)]
    assert [one.difference for one in found.days] == pytest.approx(
        [one.difference for one in whole.days]
    )
    assert sum(one.dropped for one in found.days) == found.dropped
    # Of what is kept, and of nothing else.
    kept = both[-found.kept_pairs :]
    assert 0 < len(kept) < len(both)
    only = compare(kept, model="m", champion="1.0.0", challenger="2.0.0")
    assert found.live.rank_correlation == only.live.rank_correlation
    assert found.kept_since == made[-sum(one.kept_rows for one in found.days)].recorded
    assert found.days[0].kept_rows == 0
    assert found.days[-1].kept_rows > 0


def test_a_busy_shadow_becomes_seven_days_old_though_less_than_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    log = PairLog(path, SMALL)
    for number in range(7 * 24 + 1):
        at = START + number * HOUR
        log.append(encode_turns([turn(number, at, [1.0 * number] * 9, [1.0 * number] * 9)]), at)
    found = compared(path)
    assert found.stable_hours == 168.0
    assert found.last is not None
    assert found.kept_since is not None
    assert found.last - found.kept_since < DAY
    assert [one.day for one in found.days] == [f"2024-10-{day:02d}" for day in range(4, 12)]
    assert [one.kept_rows for one in found.days[:6]] == [0] * 6
    assert found.summarised == found.rows - found.kept_pairs
    hours, ranks = shadow_evidence(
        found, measured_at=1, model_digest="new", champion_digest="old", manifest=None, code={}
    )
    assert (hours.value, hours.sample_size) == (168.0, 9 * 169)
    assert (ranks.value, ranks.sample_size) == (1.0, found.kept_pairs)
    assert ranks.details["summarised"] == found.summarised
    assert compared(path).digest == found.digest
    log.append(encode_turns([turn(999, at, [1.0], [1.0])]), at)
    assert compared(path).digest != found.digest


def test_sums_of_others_and_of_before_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    log = PairLog(path, SMALL)
    other = ({"champion_digest": "x"}, {"challenger_digest": "x"}, {"revision": 8}, {})
    for number in range(100):
        at = START + number * HOUR
        log.append(encode_turns([turn(number, at, [1.0], [1.0], **other[number % 4])]), at)
    assert len(segments(path)) < 20
    assert compared(path).rows == 50
    assert compared(path, champion=None).rows == 75
    assert compared(path, revision=7).rows == 25
    # Of the day in which it began only what is kept counts: it waits, and never claims too much.
    assert 26 <= compared(path, since=START + 29 * HOUR).rows < 36
    assert compared(path, since=START + 24 * HOUR).rows == 38
    assert compared(path, since=START + 1_000 * HOUR).stable_hours is None


def test_a_replay_is_marked_when_only_its_sums_are_left(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    log = PairLog(path, SMALL)
    for number in range(60):
        at = START + number * HOUR
        past = at - 2 * HOUR if number == 3 else at
        log.append(encode_turns([turn(number, at, [1.0], [1.0], at=past)]), at)
    assert compared(path).replayed
    assert not compared(path, since=START + 24 * HOUR).replayed


def judged(path: Path, *, failing: range) -> CanaryState:
    """A canary of two days, of which some hours are kept."""
    log = PairLog(path, SMALL)
    generator = np.random.default_rng(0)
    for number in range(49):
        at = START + number * HOUR
        old = generator.standard_normal(20).tolist()
        new = [None] * 20 if number in failing else list(old)
        served = "fallback" if number in failing else "canary"
        log.append(encode_turns([turn(number, at, old, new, served=served)]), at)
    policy = CanaryPolicy(failures=0.2, failures_margin=0.3, far=0.2, slow=0.3, hours=24.0)
    state = begin(policy, champion_digest="old", digest="new", revision=7)
    history = PairHistory(path, model="m", challenger="new", champion="old", revision=7)
    seen = advance(state, history.pairs(), policy)
    assert judge(seen, policy).verdict is Verdict.INDETERMINATE
    assert "hours of pairs" in judge(seen, policy).reason
    return add_removed(seen, history.removed())


def test_a_canary_has_its_hours_and_counts_from_sums(tmp_path: Path) -> None:
    state = judged(tmp_path / "predictions.jsonl", failing=range(0))
    assert (state.rows, state.pairs, state.answers) == (980, 980, 980)
    assert (state.last, state.first) == (START + 48 * HOUR, START)
    assert 0 < state.removed < 980
    reason = judge(state, CanaryPolicy()).reason
    assert "hours" not in reason
    assert "removed" not in reason


def test_a_canary_that_failed_in_pairs_that_nobody_has_does_not_pass(tmp_path: Path) -> None:
    state = judged(tmp_path / "predictions.jsonl", failing=range(20))
    assert (state.removed_failures, state.fallbacks, state.pairs) == (400, 400, 580)
    finding = judge(state, CanaryPolicy())
    assert finding.verdict is Verdict.INDETERMINATE
    assert f"400 of {state.removed} rows whose pairs were removed" in finding.reason
