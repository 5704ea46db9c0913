"""Drawdown, time under water, turnover and growth, against loops over an account."""

import math

import numpy as np
import pytest

from assay.errors import ContractViolation
from assay.statistics.performance import (
    annualised_return,
    annualised_volatility,
    calmar,
    hit_rate,
    max_drawdown,
    time_under_water,
    turnover,
)


def account(returns):
    equity, peak, falls, run, runs = 1.0, 1.0, [], 0, []
    for r in returns:
        equity *= 1 + r
        run = run + 1 if equity < peak else 0
        peak = max(peak, equity)
        falls.append(1 - equity / peak)
        runs.append(run)
    return equity, falls, runs


def test_the_starting_equity_is_a_peak():
    # A sum of returns measured from the first day's end would say 0.
    found = max_drawdown([-0.10, 0.05])
    assert found.value == pytest.approx(0.10)
    assert (found.details["peak"], found.details["trough"]) == (-1, 0)
    assert found.details["recovery"] is None


@pytest.mark.parametrize("seed", range(5))
def test_drawdown_and_time_under_water_are_those_of_the_account(seed):
    returns = 0.02 * np.random.default_rng(seed).standard_normal(300)
    _, falls, runs = account(returns.tolist())
    found, water = max_drawdown(returns), time_under_water(returns)
    assert found.value == pytest.approx(max(falls), rel=1e-12)
    assert found.path == pytest.approx(falls, abs=1e-12)
    assert water.value == max(runs)
    assert water.path.tolist() == runs
    assert water.details["unfinished"] is (runs[-1] > 0)
    assert water.details["share_of_periods"] == pytest.approx(np.mean(np.array(runs) > 0))


def test_peak_trough_and_recovery_are_named_by_period():
    found = max_drawdown([0.10, -0.5, 0.2, 1.0, 0.01])
    assert found.value == pytest.approx(0.5)
    assert found.details == {"peak": 0, "trough": 1, "recovery": 3}


def test_growth_and_volatility_are_annualised_by_the_periods_given():
    returns = [0.01, -0.02, 0.03, 0.005]
    equity, _, _ = account(returns)
    found = annualised_return(returns, periods_per_year=12)
    assert found.value == pytest.approx(equity**3 - 1, rel=1e-12)
    assert found.details["total_return"] == pytest.approx(equity - 1, rel=1e-12)
    assert "less than one year" in found.warnings[0]
    mean = sum(returns) / 4
    sd = math.sqrt(sum((r - mean) ** 2 for r in returns) / 3)
    volatility = annualised_volatility(returns, periods_per_year=12)
    assert volatility.value == pytest.approx(sd * math.sqrt(12), rel=1e-12)
    ratio = calmar(returns, periods_per_year=12)
    assert ratio.value == pytest.approx((equity**3 - 1) / 0.02, rel=1e-12)


def test_without_a_drawdown_there_is_no_calmar_ratio():
    found = calmar([0.01, 0.02, 0.03], periods_per_year=252)
    assert found.value is None
    assert "never fell" in found.undefined


def test_the_hit_rate_leaves_out_flat_periods_and_has_wilsons_interval():
    # Newcombe (1998), "Two-sided confidence intervals for the single proportion", Statistics in
    # Medicine 17, table I: 81 of 263 gives 0.2553 to 0.3662, 15 of 148 gives 0.0624 to 0.1605.
    for hits, size, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        found = hit_rate([0.01] * hits + [-0.02] * (size - hits) + [0.0] * 5)
        assert found.value == pytest.approx(hits / size)
        assert found.interval == pytest.approx((low, high), abs=5e-5)
        assert found.details["zero_periods"] == 5


def test_weights_that_stay_the_same_on_paper_still_trade():
    # Half and half; one doubles, the other stays: 2/3 and 1/3 before the rebalancing.
    weights = [[0.5, 0.5], [0.5, 0.5]]
    found = turnover(weights, [[1.0, 0.0], [0.0, 0.0]])
    assert found.path == pytest.approx([1.0, 1 / 3])
    assert found.details["after_the_first"] == pytest.approx(1 / 3)


def test_turnover_is_that_of_a_loop_over_books():
    generator = np.random.default_rng(3)
    weights = generator.normal(0, 0.3, (40, 4))
    returns = 0.02 * generator.standard_normal((40, 4))
    held = [0.0] * 4
    traded = []
    for w, r in zip(weights.tolist(), returns.tolist(), strict=True):
        traded.append(sum(abs(a - b) for a, b in zip(w, held, strict=True)))
        growth = 1 + sum(a * b for a, b in zip(w, r, strict=True))
        held = [a * (1 + b) / growth for a, b in zip(w, r, strict=True)]
    found = turnover(weights, returns)
    assert found.path == pytest.approx(traded, rel=1e-12)
    assert found.value == pytest.approx(sum(traded) / 40, rel=1e-12)


def test_a_missing_return_matters_only_where_a_position_is_held():
    weights = np.array([[1.0, 0.0], [0.5, 0.5]])
    returns = np.array([[0.1, np.nan], [0.0, 0.1]])
    assert turnover(weights, returns).value is not None
    returns[1, 1] = np.nan
    assert "whose return is missing" in turnover(weights, returns).undefined


@pytest.mark.parametrize(
    ("returns", "word"),
    [
        ([], "0 returns"),
        ([0.1], "1 returns"),
        ([0.01] * 10, "never vary"),
        ([0.0] * 10, "never vary"),
        ([0.1, math.nan, 0.2], "missing or infinite"),
        ([0.1, math.inf], "missing or infinite"),
        ([0.1, -1.0], "nothing to go on"),
        ([0.1, -3.0], "nothing to go on"),
        ([1e300, 1e200], "beyond the range"),
    ],
)
def test_returns_that_no_account_can_have_give_no_number(returns, word):
    for found in (
        max_drawdown(returns),
        time_under_water(returns),
        annualised_return(returns, periods_per_year=252),
        annualised_volatility(returns, periods_per_year=252),
        calmar(returns, periods_per_year=252),
        hit_rate(returns),
    ):
        assert found.value is None
        assert word in found.undefined


def test_books_that_mean_nothing_have_no_turnover():
    for weights, returns, word in (
        ([[0.0, 0.0]] * 3, [[0.1, 0.1]] * 3, "nothing is ever held"),
        ([[np.nan, 0.0]] * 3, [[0.1, 0.1]] * 3, "a weight is missing"),
        ([[2.0, 0.0]] * 3, [[-0.6, 0.1]] * 3, "lost everything"),
        ([[1.0, 0.0]], [[0.1, 0.1]], "1 periods"),
    ):
        assert word in turnover(weights, returns).undefined
    with pytest.raises(ContractViolation, match="expected the same"):
        turnover([[1.0]], [[1.0, 2.0]])
    with pytest.raises(ContractViolation, match="periods per year"):
        annualised_return([0.1, 0.2], periods_per_year=0)
