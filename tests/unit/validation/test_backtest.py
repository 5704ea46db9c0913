"""The backtest: timing, books, drifted turnover, costs, drawdown and its two controls."""

import math

import numpy as np
import pytest

from assay.errors import ContractViolation
from assay.validation.backtest import (
    Costs,
    Market,
    label_shuffle,
    simulate,
    target_weights,
)

WIDE = Costs(basis_points=10.0, exposure_cap=1.0, min_names=2)


def market(scores, log_returns):
    scores, log_returns = np.asarray(scores, float), np.asarray(log_returns, float)
    days, names = scores.shape
    return Market.of(
        np.repeat(np.arange(days, dtype=np.int64), names),
        np.tile(np.arange(names), days),
        score=scores.ravel(),
        next_return=log_returns.ravel(),
    )


def random_market(seed=4, days=60, names=7):
    generator = np.random.default_rng(seed)
    scores = generator.standard_normal((days, names))
    returns = 0.01 * generator.standard_normal((days, names))
    scores[generator.random((days, names)) < 0.1] = np.nan
    return market(scores, returns)


def simulate_by_loops(tables, costs):
    """An account kept position by position, in plain Python."""
    days, names = tables.scores.shape
    holdings, equity = [0.0] * names, 1.0
    gross, turnover = [], []
    for t in range(days):
        scored = [i for i in range(names) if math.isfinite(tables.scores[t, i])]
        target = [0.0] * names
        if len(scored) >= costs.min_names:
            mean = sum(tables.scores[t, i] for i in scored) / len(scored)
            size = sum(abs(tables.scores[t, i] - mean) for i in scored)
            for i in scored:
                weight = (tables.scores[t, i] - mean) / size
                target[i] = max(-costs.exposure_cap, min(costs.exposure_cap, weight))
        traded = sum(abs(target[i] * equity - holdings[i]) for i in range(names))
        turnover.append(traded / equity)
        before = equity
        holdings = [target[i] * before for i in range(names)]
        profit = sum(holdings[i] * tables.returns[t, i] for i in range(names))
        holdings = [holdings[i] * (1 + tables.returns[t, i]) for i in range(names)]
        gross.append(profit / before)
        equity = before + profit
    return gross, turnover


@pytest.mark.parametrize("cap", [1.0, 0.2])
def test_the_vectors_equal_an_account_kept_by_hand(cap):
    tables = random_market()
    costs = Costs(basis_points=3.0, exposure_cap=cap, min_names=5)
    found = simulate(tables, costs)
    gross, turnover = simulate_by_loops(tables, costs)
    assert found.gross == pytest.approx(gross, abs=1e-14)
    assert found.turnover == pytest.approx(turnover, rel=1e-10)
    net = [g - 3e-4 * t for g, t in zip(gross, turnover, strict=True)]
    assert found.net() == pytest.approx(net, abs=1e-14)


def test_a_score_earns_the_return_of_its_own_row_and_no_other():
    # The one good call is worth something only on its own date: moving it by a date earns nothing.
    returns = np.zeros((12, 2))
    returns[5] = [0.02, -0.02]
    for day in range(12):
        scores = np.zeros((12, 2))
        scores[day] = [1.0, -1.0]
        earned = simulate(market(scores, returns), WIDE).gross
        assert np.flatnonzero(earned).tolist() == ([5] if day == 5 else [])
        assert earned.sum() >= 0.0


def test_holding_still_is_not_free_because_the_book_drifts():
    # Two positions of equal score stay at +-1/2. After +10 % and -5 % log returns the longs have
    # grown and the shorts shrunk: going back to +-1/2 is a trade, though the targets are the same.
    up, down = 0.10, -0.05
    found = simulate(market([[1, -1], [1, -1]], [[up, down], [0.0, 0.01]]), WIDE)
    a, b = math.expm1(up), math.expm1(down)
    equity = 1 + 0.5 * a - 0.5 * b
    drifted = (0.5 * (1 + a) / equity, -0.5 * (1 + b) / equity)
    expected = abs(0.5 - drifted[0]) + abs(-0.5 - drifted[1])
    assert found.turnover[0] == pytest.approx(1.0)
    assert found.turnover[1] == pytest.approx(expected, rel=1e-12)
    assert found.turnover[1] > 0.05


def test_costs_are_paid_on_traded_notional_and_scale_with_the_stress():
    found = simulate(random_market(), WIDE)
    assert found.net(1.0) == pytest.approx(found.gross - 0.001 * found.turnover)
    assert found.net(3.0) == pytest.approx(found.gross - 0.003 * found.turnover)
    assert found.net(0.0) == pytest.approx(found.gross)


def test_the_drawdown_counts_a_loss_from_the_starting_equity():
    # -10 % and then +5 %: a maximum over later equity only would call this a drawdown of zero.
    free = Costs(basis_points=0.0, exposure_cap=1.0, min_names=2)
    loss, gain = math.log(0.9), math.log(1.05)
    found = simulate(market([[1, -1], [1, -1]], [[loss, -loss], [gain, -gain]]), free)
    equity = [1.0]
    for value in found.net():
        equity.append(equity[-1] * (1 + value))
    assert found.equity().tolist() == pytest.approx(equity)
    assert found.max_drawdown() == pytest.approx(1 - min(equity))
    assert found.max_drawdown() > 0.09


def test_a_book_is_neutral_of_gross_one_and_a_capped_one_is_smaller():
    scores = np.array([[0.1, 0.2, 0.3, 0.4, 9.0]])
    free = target_weights(scores, Costs(exposure_cap=1.0, min_names=5))
    assert free.sum() == pytest.approx(0.0, abs=1e-15)
    assert np.abs(free).sum() == pytest.approx(1.0)
    capped = target_weights(scores, Costs(exposure_cap=0.25, min_names=5))
    assert np.abs(capped).max() == 0.25
    assert np.abs(capped).sum() < 1.0


def test_equal_scores_hold_nothing_even_when_their_mean_rounds():
    scores = np.full((3, 7), 0.1 + 0.2)
    scores[1, 3] = np.nextafter(0.3, 1.0)
    assert not target_weights(scores, Costs(min_names=5)).any()


def test_too_few_scores_or_none_hold_nothing():
    scores = np.array([[1.0, 2.0, np.nan], [np.nan] * 3, [1.0, 2.0, 3.0]])
    held = target_weights(scores, Costs(min_names=3, exposure_cap=1.0)).any(axis=1)
    assert held.tolist() == [False, False, True]


def test_dates_whose_returns_are_not_known_yet_are_left_out_at_the_end_only():
    returns = np.full((6, 2), 0.01)
    returns[2], returns[4:] = np.nan, np.nan
    tables = market(np.tile([1.0, -1.0], (6, 1)), returns)
    assert tables.dates.tolist() == [0, 1, 2, 3]
    assert simulate(tables, WIDE).unpriced == pytest.approx(0.25)


def test_an_instrument_that_leaves_is_sold_and_the_sale_costs():
    scores = np.array([[1.0, -1.0, 0.0], [np.nan, -1.0, 1.0]])
    found = simulate(market(scores, np.zeros((2, 3))), WIDE)
    assert found.weights[1].tolist() == [0.0, -0.5, 0.5]
    assert found.turnover[1] == pytest.approx(0.5 + 0.5)


def test_one_bar_delay_enters_the_same_books_one_date_later():
    tables = random_market()
    plain, late = simulate(tables, WIDE), simulate(tables, WIDE, delay=1)
    assert not late.weights[0].any()
    assert np.array_equal(late.weights[1:], plain.weights[:-1])


def test_the_delay_exposes_a_signal_that_knows_its_own_return():
    generator = np.random.default_rng(8)
    returns = 0.01 * generator.standard_normal((300, 8))
    tables = market(returns + 0.01 * generator.standard_normal((300, 8)), returns)
    plain, late = simulate(tables, WIDE), simulate(tables, WIDE, delay=1)
    assert plain.gross.mean() > 10 * abs(late.gross.mean())


def test_the_label_shuffle_tells_skill_from_luck_and_repeats_with_its_generator():
    generator = np.random.default_rng(9)
    returns = 0.01 * generator.standard_normal((250, 8))
    skilled = market(returns + 0.03 * generator.standard_normal((250, 8)), returns)
    lucky = market(generator.standard_normal((250, 8)), returns)
    for tables, low, high in ((skilled, 0.0, 0.02), (lucky, 0.02, 1.0)):
        book = simulate(tables, WIDE)
        found = label_shuffle(tables, book, generator=np.random.default_rng(1))
        assert low < found["p_value"] <= high
        assert abs(found["mean_ratio"]) < 0.05
        assert found == label_shuffle(tables, book, generator=np.random.default_rng(1))


def test_the_label_shuffle_deals_known_returns_only_to_instruments_that_have_one():
    # Two instruments are priced, so each shuffle is the book as it was or with both exchanged.
    returns = np.full((30, 4), np.nan)
    returns[:, 1], returns[:, 3] = 0.01, -0.02
    tables = market(np.tile([0.0, 2.0, 0.0, 1.0], (30, 1)), returns)
    book = simulate(tables, Costs(min_names=2, exposure_cap=1.0))
    found = label_shuffle(tables, book, generator=np.random.default_rng(0), shuffles=400)
    a, b = math.expm1(0.01), math.expm1(-0.02)
    w = book.weights[0]
    kept, swapped = w[1] * a + w[3] * b, w[1] * b + w[3] * a
    centre, spread = (kept + swapped) / 2, abs(kept - swapped) / 2
    assert found["mean_ratio"] == pytest.approx(
        centre / spread, abs=0.2 * abs(centre / spread) + 0.05
    )


def test_wrong_shapes_are_refused():
    dates, names = np.arange(3), np.arange(3)
    with pytest.raises(ContractViolation, match="two rows on one date"):
        Market.of(np.zeros(3, int), np.zeros(3, int), score=np.ones(3), next_return=np.ones(3))
    with pytest.raises(ContractViolation, match="instruments have shape"):
        Market.of(dates, names[:2], score=np.ones(3), next_return=np.ones(3))
    with pytest.raises(ContractViolation, match="differ in length"):
        Market.of(dates, names, score=np.ones(3), next_return=np.ones(2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"basis_points": -1.0},
        {"basis_points": math.nan},
        {"exposure_cap": 0.0},
        {"exposure_cap": 1.5},
        {"min_names": 1},
    ],
)
def test_costs_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ContractViolation):
        Costs(**wrong)
