"""Whether a canary does harm, does well, or whether it is too early to tell.

1. :func:`begin` gives the state before the first pair; :func:`advance` takes pairs in the order in
   which they were made. A state is a pure function of the pairs, so whoever reads the log again
   comes to the same verdict, and a process that was killed has lost nothing.
2. The same inputs are asked of both versions: pairs compare failures, the order of predictions
   within blocks, how far apart they are, and turns compare latency. Each is a bounded mean, tested
   by betting (:mod:`assay.statistics.betting`), which is valid however often one looks.
3. What needs outcomes, the difference of IC and the harm stop on P&L, is tested by
   :mod:`assay.statistics.sequential` with a variance that is frozen on the shadow before it.
4. :func:`judge` is three-valued. FAIL: some test found harm. PASS: every test on pairs has shown
   that it is within its margin, over enough pairs, answers and hours. INDETERMINATE: anything else,
   no data above all. The level of FAIL is shared among all tests, so that a canary that does no
   harm is ended wrongly with probability ``alpha`` at most.

A canary can find a bug in minutes and a slow model in hours. It cannot find in days that a model is
a little worse: that takes weeks of outcomes, which is why passing it is not a reason to promote.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.domain.instants import NANOS_PER_SECOND, Instant, render
from assay.domain.verdicts import Verdict
from assay.errors import ContractViolation
from assay.serving.challengers.pairs import Pair
from assay.serving.challengers.summaries import DaySummary
from assay.statistics.betting import BettingTest, bet
from assay.statistics.information import average_ranks
from assay.statistics.sequential import SequentialTest, Side, reading

_HOUR = 3_600 * NANOS_PER_SECOND
TESTS = ("failures", "ranks", "distance", "latency", "ic", "pnl")
ON_PAIRS = TESTS[:4]
_AT_ONCE = 100_000
RANK_FLOOR = 0.5
"""Correlations below this count as this much: a narrower range needs fewer pairs."""


@dataclass(frozen=True, slots=True)
class CanaryPolicy:
    """What a canary must keep, and how sure a verdict must be.

    Each limit has a margin: beyond the limit is harm, within limit and margin is as good as the
    champion for this purpose.

    Attributes
    ----------
    alpha: chance of ending a canary that does no harm, over its whole life and all tests.
    failures, failures_margin: share of rows without a finite answer.
    rank_correlation, rank_margin: mean Spearman correlation within blocks of ``block`` pairs.
    far, far_margin: share of pairs further apart than one standard deviation of the champion in
        their block.
    slow_ms, slow, slow_margin: milliseconds, and the share of turns that may be slower.
    pairs, answers, hours: the least of pairs, of answers that the canary gave, and of time.
    longest_hours: after which an undecided canary ends, without a verdict against it.
    """

    alpha: float = 0.05
    failures: float = 0.001
    failures_margin: float = 0.009
    rank_correlation: float = 0.95
    rank_margin: float = 0.05
    block: int = 20
    far: float = 0.05
    far_margin: float = 0.15
    slow_ms: float = 50.0
    slow: float = 0.05
    slow_margin: float = 0.15
    pairs: int = 200
    answers: int = 20
    hours: float = 24.0
    longest_hours: float = 336.0

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0 or self.block < 3 or self.pairs < 1 or self.answers < 1:
            raise ContractViolation(f"canary policy {self}: expected positive numbers, block >= 3")
        if not RANK_FLOOR < self.rank_correlation - self.rank_margin < self.rank_correlation < 1.0:
            raise ContractViolation(
                f"rank_correlation {self.rank_correlation} less rank_margin {self.rank_margin}: "
                f"expected a margin, and both between {RANK_FLOOR} and 1"
            )
        for name in ("failures", "far", "slow"):
            limit, margin = getattr(self, name), getattr(self, f"{name}_margin")
            if not 0.0 < limit < limit + margin < 1.0:
                raise ContractViolation(
                    f"{name} {limit} and {name}_margin {margin}: expected both above 0, and "
                    "together below 1"
                )
        if not 0.0 <= self.hours < self.longest_hours or not self.slow_ms > 0.0:
            raise ContractViolation(
                f"hours {self.hours}, longest_hours {self.longest_hours}, slow_ms {self.slow_ms}: "
                "expected fewer hours than the longest, and milliseconds above 0"
            )

    @property
    def level(self) -> float:
        """Of each single test."""
        return self.alpha / len(TESTS)


@dataclass(frozen=True, slots=True)
class Check:
    """One quantity: the test for harm and the test for being within the margin."""

    harm: BettingTest
    health: BettingTest

    def seen(self, values: Sequence[float]) -> Check:
        return Check(bet(self.harm, values), bet(self.health, values))


@dataclass(frozen=True, slots=True)
class CanaryState:
    """Everything that was learned from the pairs so far.

    Attributes
    ----------
    revision: of the analysis; pairs of another one are left out.
    checks: by name; see :data:`ON_PAIRS`. block: pairs (champion, canary) that wait for their block
        to be full. turn: the turn of the last pair, and its slowest answer.
    pairs, answers, fallbacks, stale, rows: pairs compared; answers that the canary gave; those that
        the champion gave in its place; rows with stale features, which are not compared; all rows.
    removed, removed_failures: rows among them that are known by their sums only, which no test saw;
        and among these the rows that had no answer.
    """

    champion_digest: str
    digest: str
    revision: int
    checks: Mapping[str, Check]
    block: tuple[tuple[float, float], ...] = ()
    turn: tuple[int, float] | None = None
    rows: int = 0
    pairs: int = 0
    answers: int = 0
    fallbacks: int = 0
    stale: int = 0
    first: Instant | None = None
    last: Instant | None = None
    removed: int = 0
    removed_failures: int = 0


@dataclass(frozen=True, slots=True)
class CanaryFinding:
    """The verdict over a canary, with its reasons and the numbers behind them."""

    verdict: Verdict
    reasons: tuple[str, ...]
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The reasons as one sentence for the log."""
        return "; ".join(self.reasons)

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": str(self.verdict),
            "reasons": list(self.reasons),
            "numbers": dict(self.numbers),
        }


def begin(policy: CanaryPolicy, *, champion_digest: str, digest: str, revision: int) -> CanaryState:
    """The state before the first pair of a canary beside a champion."""

    def most(limit: float, margin: float) -> Check:
        return Check(
            BettingTest(limit, Side.ABOVE), BettingTest(limit + margin, Side.BELOW, eras=False)
        )

    least = _scaled(policy.rank_correlation)
    enough = _scaled(policy.rank_correlation - policy.rank_margin)
    return CanaryState(
        champion_digest,
        digest,
        revision,
        {
            "failures": most(policy.failures, policy.failures_margin),
            "ranks": Check(
                BettingTest(least, Side.BELOW),
                BettingTest(enough, Side.ABOVE, eras=False),
            ),
            "distance": most(policy.far, policy.far_margin),
            "latency": most(policy.slow, policy.slow_margin),
        },
    )


def advance(state: CanaryState, pairs: Iterable[Pair], policy: CanaryPolicy) -> CanaryState:
    """The state after pairs in the order in which they were made; others' are left out."""
    wanted = (state.champion_digest, state.digest, state.revision)
    taking = _Taking(state, policy)
    for number, pair in enumerate(pairs, start=1):
        if (pair.champion_digest, pair.challenger_digest, pair.revision) == wanted:
            taking.take(pair)
        if number % _AT_ONCE == 0:
            taking = _Taking(taking.state(), policy)  # two weeks of pairs are no list to keep
    return taking.state()


def add_removed(state: CanaryState, days: Iterable[DaySummary]) -> CanaryState:
    """The state with sums of pairs that were removed before anybody looked; others' are left out.

    They count towards pairs, answers and hours. The tests rest on the pairs that were seen; where
    more of the rest failed than a test would allow, :func:`judge` does not say PASS.
    """
    wanted = (state.champion_digest, state.digest, state.revision)
    own = [one for one in days
           if (one.champion_digest, one.challenger_digest, one.revision) == wanted]  # fmt: skip
    if not own:
        return state
    first, last = min(one.first for one in own), max(one.last for one in own)
    rows = sum(one.rows for one in own)
    return replace(
        state,
        rows=state.rows + rows,
        pairs=state.pairs + sum(one.compared for one in own),
        answers=state.answers + sum(one.answers for one in own),
        fallbacks=state.fallbacks + sum(one.fallbacks for one in own),
        stale=state.stale + sum(one.stale for one in own),
        first=first if state.first is None else min(first, state.first),
        last=last if state.last is None else max(last, state.last),
        removed=state.removed + rows,
        removed_failures=state.removed_failures + sum(one.failures for one in own),
    )


def judge(
    state: CanaryState,
    policy: CanaryPolicy,
    *,
    outcomes: Mapping[str, SequentialTest] | None = None,
) -> CanaryFinding:
    """The verdict so far.

    Parameters
    ----------
    outcomes: tests of the daily difference to the champion, by ``ic`` and ``pnl``, each of them
        one-sided for harm; those that are missing decide nothing.
    """
    numbers = _numbers(state, policy)
    harm = [_harm(name, check, policy) for name, check in state.checks.items()
            if check.harm.rejects(policy.level)]  # fmt: skip
    for name, test in (outcomes or {}).items():
        found = reading(test, alpha=policy.level)
        numbers[name] = {"value": found.value, "dates": found.sample_size, "p_value": found.p_value}
        if found.p_value is not None and found.p_value <= policy.level:
            harm.append(
                f"{name}: the mean daily difference to the champion is {found.value:.4g} over "
                f"{found.sample_size} dates, expected at least {test.null:g}"
            )
    if harm:
        return CanaryFinding(Verdict.FAIL, tuple(harm), numbers)
    missing = _missing(state, policy)
    if missing:
        return CanaryFinding(Verdict.INDETERMINATE, tuple(missing), numbers)
    why = f"{state.pairs} pairs and {state.answers} answers: every test is within its margin"
    return CanaryFinding(Verdict.PASS, (why,), numbers)


def expired(policy: CanaryPolicy, *, since: Instant, now: Instant) -> bool:
    """Whether a canary has run for so long that it should end without a verdict against it."""
    return now - since > policy.longest_hours * _HOUR


# -- pairs ----------------------------------------------------------------------------------------


class _Taking:
    """Pairs on their way into a state: counted one by one, bet on together."""

    def __init__(self, state: CanaryState, policy: CanaryPolicy) -> None:
        self._state = state
        self._policy = policy
        self._seen: dict[str, list[float]] = {name: [] for name in ON_PAIRS}
        self._block = list(state.block)
        self._turn = state.turn
        self._first, self._last = state.first, state.last
        self._counts = [state.rows, state.pairs, state.answers, state.fallbacks, state.stale]

    def take(self, pair: Pair) -> None:
        self._time(pair)
        counts = self._counts
        counts[0] += 1
        counts[2] += pair.served == "canary"
        counts[3] += pair.served == "fallback"
        counts[4] += bool(pair.stale)
        failed = pair.shadow is None or pair.served == "fallback"
        if failed and pair.prediction is None:
            return  # what the champion cannot answer either is no fault of the canary
        self._seen["failures"].append(float(failed))
        if pair.shadow is not None and pair.prediction is not None and not pair.stale:
            counts[1] += 1
            self._block.append((pair.prediction, pair.shadow))
            if len(self._block) >= self._policy.block:
                self._compare(self._block)
                self._block = []

    def state(self) -> CanaryState:
        rows, pairs, answers, fallbacks, stale = self._counts
        checks = {name: check.seen(self._seen[name]) for name, check in self._state.checks.items()}
        return replace(
            self._state, checks=checks, block=tuple(self._block), turn=self._turn, rows=rows,
            pairs=pairs, answers=answers, fallbacks=fallbacks, stale=stale, first=self._first,
            last=self._last,
        )  # fmt: skip

    def _time(self, pair: Pair) -> None:
        self._first = pair.recorded if self._first is None else self._first
        self._last = pair.recorded
        if pair.shadow_ms is None:
            return  # nothing was asked, and nothing is known of how long it takes
        slowest = pair.shadow_ms
        if self._turn is not None and self._turn[0] == pair.turn:
            slowest = max(slowest, self._turn[1])
        elif self._turn is not None:
            # One stall of the machine delays a whole turn: one observation, not sixty-four.
            self._seen["latency"].append(float(self._turn[1] > self._policy.slow_ms))
        self._turn = (pair.turn, slowest)

    def _compare(self, block: Sequence[tuple[float, float]]) -> None:
        old, new = np.array(block).T
        if old.min() == old.max():
            # A champion that says one thing to everything orders nothing. Equal answers agree.
            self._seen["distance"].append(float(not np.array_equal(old, new)))
            return
        self._seen["ranks"].append(_scaled(_rank_correlation(old, new)))
        self._seen["distance"].append(float((np.abs(new - old) > old.std()).mean()))


def _scaled(correlation: float) -> float:
    """A correlation as a number in [0, 1]; those under :data:`RANK_FLOOR` count as that much."""
    return max(0.0, (correlation - RANK_FLOOR) / (1.0 - RANK_FLOOR))


def _rank_correlation(old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]) -> float:
    """Spearman's; a canary that says one thing to everything orders nothing: 0."""
    if new.min() == new.max():
        return 0.0
    x, y = average_ranks(old), average_ranks(new)
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / math.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


# -- words ----------------------------------------------------------------------------------------


def _harm(name: str, check: Check, policy: CanaryPolicy) -> str:
    seen, level = check.harm, policy.level
    mean = 0.0 if seen.mean is None else seen.mean
    correlation = RANK_FLOOR + (1.0 - RANK_FLOOR) * mean
    words = {
        "failures": f"{mean:.2%} of {seen.count} rows had no finite answer, expected at most "
        f"{policy.failures:.2%}",
        "ranks": f"predictions have mean rank correlation {correlation:.3f} with the champion's "
        f"over {seen.count} blocks of the same inputs, each counted as {RANK_FLOOR:g} at least, "
        f"expected {policy.rank_correlation:g}",
        "distance": f"{mean:.1%} of answers are further than a standard deviation from the "
        f"champion's over {seen.count} blocks, expected at most {policy.far:.1%}",
        "latency": f"{mean:.1%} of {seen.count} turns took longer than {policy.slow_ms:g} ms, "
        f"expected at most {policy.slow:.1%}",
    }
    return f"{name}: {words[name]} (p {seen.p_value:.2g}, level {level:.2g} at any time)"


def _missing(state: CanaryState, policy: CanaryPolicy) -> list[str]:
    hours = 0.0
    if state.first is not None and state.last is not None:
        hours = round((state.last - state.first) / _HOUR, 2)
    missing = []
    if state.rows and state.stale > state.rows / 2:
        missing.append(f"{state.stale} of {state.rows} rows had stale features: feed the store")
    for have, least, what in (
        (state.pairs, policy.pairs, "pairs that could be compared"),
        (state.answers, policy.answers, "answers by the canary"),
        (hours, policy.hours, "hours of pairs"),
    ):
        if have < least:
            missing.append(f"{have:.4g} {what}, expected at least {least:g}")
    most = policy.failures + policy.failures_margin
    if state.removed_failures > most * state.removed:
        missing.append(
            f"{state.removed_failures} of {state.removed} rows whose pairs were removed had no "
            f"finite answer, expected at most {most:.2%}"
        )
    missing += [
        f"{name}: not shown to be within its margin yet ({check.health.count} observations)"
        for name, check in state.checks.items()
        if not check.health.rejects(policy.level)
    ]
    return missing


def _numbers(state: CanaryState, policy: CanaryPolicy) -> dict[str, Any]:
    return {
        "rows": state.rows,
        "pairs": state.pairs,
        "answers": state.answers,
        "fallbacks": state.fallbacks,
        "stale": state.stale,
        "removed": state.removed,
        "first": None if state.first is None else render(state.first),
        "last": None if state.last is None else render(state.last),
        "level": policy.level,
        "policy": asdict(policy),
        **{
            name: {
                "mean": check.harm.mean,
                "observations": check.harm.count,
                "p_harm": check.harm.p_value,
                "p_health": check.health.p_value,
            }
            for name, check in state.checks.items()
        },
    }
