"""The Sharpe ratio after costs, its error and the significance of the mean return."""

import math

import numpy as np
import pytest
from scipy import stats

from assay.validation.backtest import Backtest, Costs, Market, simulate
from assay.validation.sharpe import sharpe_after_costs, significance


def market(seed=3, days=300, names=8, skill=0.5):
    generator = np.random.default_rng(seed)
    returns = 0.01 * generator.standard_normal((days, names))
    scores = skill * returns / 0.01 + generator.standard_normal((days, names))
    return Market(np.arange(days, dtype=np.int64), scores, np.expm1(returns))


def measured(tables, costs=None):
    book = simulate(tables, costs or Costs())
    return sharpe_after_costs(tables, book, generator=np.random.default_rng(0)), book


def test_the_value_is_mean_over_deviation_times_the_root_of_252():
    found, book = measured(market())
    series = book.net().tolist()
    n, mean = len(series), sum(series) / len(series)
    spread = math.sqrt(sum((x - mean) ** 2 for x in series) / (n - 1))
    assert found.value == pytest.approx(mean / spread * math.sqrt(252), rel=1e-10)
    assert found.sample_size == 300
    assert "sqrt(252)" in found.convention


def test_every_stress_and_control_is_reported():
    found, book = measured(market())
    details = found.details
    for multiple in (1, 2, 3):
        stressed = details[f"at_{multiple}x_costs"]
        equity = book.equity(float(multiple))
        assert stressed["profit_and_loss"] == pytest.approx(equity[-1] - 1)
        assert stressed["max_drawdown"] == pytest.approx(book.max_drawdown(float(multiple)))
    assert details["at_1x_costs"]["sharpe"] == pytest.approx(found.value)
    ordered = [details[f"at_{m}x_costs"]["sharpe"] for m in (1, 2, 3)]
    assert ordered == sorted(ordered, reverse=True)
    assert abs(details["one_bar_delay_sharpe"]) < found.value
    late = simulate(market(), Costs(), delay=1).gross
    ratio = late.mean() / late.std(ddof=1) * math.sqrt(252)
    assert details["one_bar_delay_sharpe_gross"] == pytest.approx(ratio)
    assert details["label_shuffle"]["p_value"] < 0.05


def test_significance_is_the_newey_west_t_of_the_net_returns():
    tables = market(skill=0.05)
    book = simulate(tables, Costs())
    series = book.net().tolist()
    n, mean = len(series), sum(series) / len(series)
    lag = int(4 * (n / 100) ** (2 / 9))
    variance = 0.0
    for j in range(lag + 1):
        gamma = sum((series[t] - mean) * (series[t - j] - mean) for t in range(j, n)) / n
        variance += gamma if j == 0 else 2 * (1 - j / (lag + 1)) * gamma
    statistic = mean / math.sqrt(variance / n)
    found = significance(book)
    assert found.details["statistic"] == pytest.approx(statistic, rel=1e-9)
    assert found.value == pytest.approx(stats.t.sf(statistic, n - 1), rel=1e-9)


def test_costs_can_turn_significance_around():
    tables = market(skill=0.1)
    cheap = significance(simulate(tables, Costs(basis_points=0.0)))
    dear = significance(simulate(tables, Costs(basis_points=50.0)))
    assert cheap.value < 0.10
    assert dear.value > 0.90


def undefined_cases():
    days, names = 40, 6
    dates = np.arange(days, dtype=np.int64)
    scores = np.random.default_rng(0).standard_normal((days, names))
    returns = 0.01 * np.random.default_rng(1).standard_normal((days, names))
    holes = returns.copy()
    holes[::3, 0] = np.nan
    ruin = returns.copy()
    ruin[7] = np.where(scores[7] > scores[7].mean(), -1.0, 20.0)
    return {
        "at least 10": Market(dates[:9], scores[:9], returns[:9]),
        "no position": Market(dates, np.full_like(scores, 0.5), returns),
        "have no return": Market(dates, scores, holes),
        "never vary": Market(dates, np.tile(scores[0], (days, 1)), np.zeros_like(returns)),
        "lost the whole equity": Market(dates, scores, ruin),
    }


@pytest.mark.parametrize("word", undefined_cases())
def test_returns_that_cannot_be_judged_are_undefined(word):
    tables = undefined_cases()[word]
    free = Costs(basis_points=0.0, exposure_cap=1.0)
    found, book = measured(tables, free)
    for evidence in (found, significance(book)):
        assert evidence.value is None
        assert word in evidence.details["undefined"]


def test_a_constant_gain_has_no_sharpe_ratio():
    # Known trap: 1 % a day without variance is an infinite ratio to a naive formula.
    book = Backtest(
        dates=np.arange(20),
        gross=np.full(20, 0.01),
        turnover=np.zeros(20),
        weights=np.ones((20, 1)),
        unpriced=0.0,
        costs=Costs(),
    )
    tables = Market(np.arange(20), np.ones((20, 1)), np.full((20, 1), 0.01))
    found = sharpe_after_costs(tables, book, generator=np.random.default_rng(0))
    assert found.value is None
    assert found.details["undefined"] == "the returns never vary"


def test_returns_too_small_to_square_do_not_divide_by_zero():
    generator = np.random.default_rng(0)
    returns = 1e-200 * generator.standard_normal((20, 6))
    tables = Market(np.arange(20), generator.standard_normal((20, 6)), returns)
    found, book = measured(tables, Costs(basis_points=0.0))
    assert found.value is None
    assert significance(book).value is None
