"""The candidate's book beside the champion's: equal rows, equal prices, the textbook numbers."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from assay.validation.against_champion import champion_evidence, drawdown_evidence, net_returns
from assay.validation.backtest import Costs

DAY = 86_400 * 10**9


def table(days=300, names=6, seed=1, skill=0.4):
    generator = np.random.default_rng(seed)
    returns = 0.01 * generator.standard_normal((days, names))
    noise = generator.standard_normal((2, days, names))
    scores = skill * returns / 0.01 + noise[0]
    return pl.DataFrame(
        {
            "instrument": [f"I{n}" for _ in range(days) for n in range(names)],
            "as_of": np.repeat(np.arange(days, dtype=np.int64) * DAY, names),
            "prediction": scores.ravel(),
            "champion": noise[1].ravel(),
            "next_return": returns.ravel(),
        }
    )


def compared(frame, **more):
    return champion_evidence(frame, generator=np.random.default_rng(7), **more)


def only(frame, score):
    return frame.with_columns(prediction=pl.col(score)).drop("champion")


def test_the_difference_of_ratios_is_that_of_two_backtests_taken_apart():
    frame = table()
    ratio, deeper = compared(frame)
    apart = [net_returns(only(frame, one))[1] for one in ("prediction", "champion")]
    sharpe = [series.mean() / series.std(ddof=1) * math.sqrt(252) for series in apart]
    assert ratio.value == pytest.approx(sharpe[0] - sharpe[1])
    assert (ratio.details["candidate"], ratio.details["champion"]) == pytest.approx(tuple(sharpe))
    drawdowns = [drawdown_evidence(only(frame, one)).value for one in ("prediction", "champion")]
    assert deeper.value == pytest.approx(drawdowns[0] - drawdowns[1])
    assert ratio.sample_size == deeper.sample_size == 300
    low, high = ratio.interval
    assert low < ratio.value < high


def test_the_error_of_independent_ratios_is_that_of_jobson_and_korkie():
    # With independent normal returns the variance of SR is (1 + SR^2/2) / T per period, and that
    # of a difference of independent ones the sum.
    frame = table(days=4_000, skill=0.0, seed=5)
    ratio, _ = compared(frame, costs=Costs(basis_points=0.0))
    errors = ratio.details["standard_error"] / math.sqrt(252)
    assert errors == pytest.approx(math.sqrt(2 / 4_000), rel=0.1)


def test_the_drawdown_is_the_deepest_fall_by_loops_the_start_being_a_peak():
    frame = table(days=80, seed=3)
    _, net = net_returns(frame)
    equity, peak, worst = 1.0, 1.0, 0.0
    for one in net:
        equity *= 1.0 + one
        peak = max(peak, equity)
        worst = max(worst, 1.0 - equity / peak)
    assert drawdown_evidence(frame).value == pytest.approx(worst)


def test_rows_that_only_one_of_them_scored_count_for_neither():
    frame = table()
    late = pl.col("as_of") < 100 * DAY
    partial = frame.with_columns(champion=pl.when(late).then(None).otherwise(pl.col("champion")))
    same = frame.filter(~late)
    assert compared(partial) == compared(same)
    assert compared(partial)[0].sample_size == 200


def test_a_model_beside_itself_has_no_difference_that_could_be_tested():
    ratio, deeper = compared(table().with_columns(champion=pl.col("prediction")))
    assert ratio.value is None
    assert "undefined" in ratio.details
    assert deeper.value == 0.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f.drop("champion"), "there is no champion"),
        (lambda f: f.with_columns(champion=pl.lit(None, pl.Float64)), "there is no champion"),
        (lambda f: f.with_columns(champion=pl.lit(float("nan"))), "there is no champion"),
        (lambda f: f.with_columns(champion=pl.lit(1.0)), "no position was ever taken"),
        (lambda f: f.with_columns(prediction=pl.lit(1.0)), "no position was ever taken"),
        (lambda f: f.head(6), "dates: at least"),
        (lambda f: f.head(0), "there is no champion"),
        (lambda f: f.with_columns(next_return=pl.lit(0.0)), "never vary"),
        (lambda f: f.with_columns(next_return=pl.lit(None, pl.Float64)), "dates: at least"),
        (lambda f: f.with_columns(next_return=pl.lit(float("inf"))), "dates: at least"),
        (lambda f: f.with_columns(next_return=pl.col("next_return") * 300.0), "equity|overflowed"),
    ],
)
def test_what_cannot_be_compared_has_no_value_and_says_why(change, reason):
    free = Costs(basis_points=0.0)
    for piece in compared(change(table()), costs=free):
        assert piece.value is None
        assert any(part in piece.details["undefined"] for part in reason.split("|"))
