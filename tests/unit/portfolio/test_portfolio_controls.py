"""The controls: equal turnover, chance as a judge, and what skill looks like beside it."""

from __future__ import annotations

import numpy as np
import pytest

from assay.portfolio import Decisions, Instrument, PriceHistory, Terms, Weighting, simulate_history
from assay.portfolio.controls import (
    Traded,
    book_turnover,
    label_shuffle,
    persistent_noise,
    random_signals,
)
from assay.portfolio.history import due_events, moves_of
from assay.portfolio.terms import NANOS_PER_DAY as DAY
from assay.portfolio.weights import target_weights

TERMS = Terms(weighting=Weighting(min_names=2))


def traded(persistence, skill, *, days=300, names=8, seed=4):
    generator = np.random.default_rng(seed)
    scores = persistent_noise((1, days, names), persistence, generator)[0]
    shocks = generator.standard_normal((days, names))
    # The score of a day knows something of the return that follows its trade.
    steps = 0.01 * shocks
    steps[2:] += 0.01 * skill * scores[1:-1]
    prices = np.exp(np.cumsum(steps, axis=0))
    times = np.arange(days, dtype=np.int64) * DAY
    instruments = tuple(Instrument(f"I{i}") for i in range(names))
    history = PriceHistory(times, instruments, prices)
    known = times[:-1] + 1
    moves, _ = moves_of(history, TERMS)
    return Traded(
        times=times,
        moves=moves,
        due=due_events(times, known, 0),
        terms=TERMS,
        scored=np.isfinite(scores[:-1]),
        aims=target_weights(scores[:-1], TERMS.weighting),
    )


@pytest.mark.parametrize("persistence", [-0.6, 0.0, 0.5, 0.9, 0.99])
def test_random_signals_trade_as_much_as_the_signal(persistence):
    found = random_signals(
        traded(persistence, 0.0), generator=np.random.default_rng(1), controls=20
    )
    assert found["turnover"] == pytest.approx(found["turnover_of_the_signal"], rel=0.1)
    assert found["autocorrelation"] == pytest.approx(persistence, abs=0.15)


def test_chance_is_not_beaten_by_chance_and_is_by_skill():
    without = random_signals(traded(0.5, 0.0), generator=np.random.default_rng(1))
    skilled = random_signals(traded(0.5, 0.5), generator=np.random.default_rng(1))
    assert 0.02 < without["p_value"] <= 1.0
    assert skilled["p_value"] == 1 / 101
    again = random_signals(traded(0.5, 0.5), generator=np.random.default_rng(1))
    assert again == skilled


def test_a_signal_that_never_changes_is_compared_with_signals_that_hardly_do():
    made = traded(0.5, 0.0)
    still = Traded(
        made.times, made.moves, made.due, made.terms, made.scored,
        np.tile(made.aims[:1], (len(made.aims), 1)),
    )  # fmt: skip
    found = random_signals(still, generator=np.random.default_rng(1), controls=5)
    assert found["turnover_of_the_signal"] == 0.0
    assert 0.0 < found["turnover"] < 0.05


def test_degenerate_markets_give_numbers_and_no_accident():
    nothing = Traded(
        np.arange(2), moves_of(
            PriceHistory(np.arange(2, dtype=np.int64), (Instrument("A"),), np.ones((2, 1))), TERMS
        )[0], np.array([-1, 0]), TERMS, np.zeros((1, 1), dtype=bool), np.zeros((1, 1)),
    )  # fmt: skip
    found = random_signals(nothing, generator=np.random.default_rng(0), controls=3)
    assert found["p_value"] == 1.0
    assert label_shuffle(np.zeros((0, 3)), np.zeros((0, 3)), generator=np.random.default_rng(0))


def test_turnover_of_books_is_the_mean_of_their_changes():
    books = np.array([[0.5, -0.5], [0.25, -0.25], [-0.5, 0.5]])
    assert book_turnover(books) == pytest.approx((0.5 + 1.5) / 2)
    assert book_turnover(books[:1]) == 0.0


def test_a_delay_collapses_a_leak_and_spares_a_lasting_signal():
    generator = np.random.default_rng(2)
    days, names = 400, 8
    steps = 0.01 * generator.standard_normal((days, names))
    times = np.arange(days, dtype=np.int64) * DAY
    history = PriceHistory(
        times, tuple(Instrument(f"I{i}") for i in range(names)), np.exp(np.cumsum(steps, axis=0))
    )
    leak = Decisions(times[:-2] + 1, steps[2:])  # knows the return after its trade
    plain = simulate_history(history, leak, TERMS).equity[0, -1]
    late = simulate_history(history, leak, Terms(weighting=TERMS.weighting, delay=1)).equity[0, -1]
    assert plain > 5
    assert 0.5 < late < 2
