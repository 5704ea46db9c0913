"""Laws of the statistics for arbitrary data: never NaN, never an accident, the right symmetries."""

import math

import numpy as np
import polars as pl
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from assay.domain.canonical import canonical_bytes
from assay.statistics.hac import long_run_variance, mean_test
from assay.statistics.information import average_ranks, daily_correlation
from assay.validation import alpha_evidence, risk_evidence
from assay.validation.backtest import Costs, Market, simulate, target_weights

anything = st.floats(allow_nan=True, allow_infinity=True)
finite = st.floats(-1e6, 1e6)
ordinary = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
small = st.floats(-0.1, 0.1).map(lambda x: round(x, 2))


def column(values, size):
    return arrays.arrays(np.float64, size, elements=values)


@st.composite
def tables(draw, values, names=("label", "prediction", "champion", "next_return")):
    days, width = draw(st.integers(0, 14)), draw(st.integers(1, 7))
    rows = days * width
    frame = {
        "instrument": [f"I{i}" for i in range(width)] * days,
        "as_of": np.repeat(np.arange(days, dtype=np.int64), width),
    }
    for name in names:
        frame[name] = draw(column(values, rows))
    return pl.DataFrame(frame, schema_overrides={"instrument": pl.String})


def check_records(pieces):
    for piece in pieces:
        assert piece.value is None or math.isfinite(piece.value)
        assert (piece.value is None) == ("undefined" in piece.details)
        assert piece.sample_size >= 0
        assert piece.convention
        assert canonical_bytes(piece.to_json())
        if piece.name in ("qlike_vs_champion", "var_coverage", "significance"):
            assert piece.value is None or 0.0 <= piece.value <= 1.0
        if piece.name in ("ic", "rank_ic"):
            assert piece.value is None or -1.0 <= piece.value <= 1.0


@given(st.sampled_from([anything, finite, ordinary, small]).flatmap(tables))
def test_whatever_a_score_table_holds_the_records_are_finite_or_say_why(table):
    check_records(alpha_evidence(table, generator=np.random.default_rng(0)))


@given(st.sampled_from([anything, finite, ordinary, small]).flatmap(tables))
def test_whatever_a_volatility_table_holds_the_records_are_finite_or_say_why(table):
    positive = table.with_columns(label=pl.col("label").abs())
    check_records(risk_evidence(positive.select("instrument", "as_of", "label", "prediction")))
    check_records(risk_evidence(positive.drop("next_return")))
    forecasts = positive.with_columns(
        pl.col("prediction", "champion").abs().clip(1e-9, 1e9).fill_nan(1.0)
    )
    check_records(risk_evidence(forecasts.drop("next_return")))


@given(column(ordinary, st.integers(2, 40)), st.integers(0, 12))
def test_the_long_run_variance_is_never_negative(series, lag):
    assert long_run_variance(series, min(lag, len(series) - 1)) >= 0.0


@given(column(ordinary, st.integers(10, 60)), st.sampled_from([0.5, 2.0, 1024.0]))
def test_a_test_of_a_mean_does_not_depend_on_units_and_turns_with_the_sign(series, unit):
    plain, scaled, turned = mean_test(series), mean_test(series * unit), mean_test(-series)
    if isinstance(plain, str):
        assert isinstance(scaled, str)
        assert isinstance(turned, str)
        return
    assert scaled.statistic == plain.statistic
    assert turned.statistic == -plain.statistic
    assert math.isclose(turned.p_greater, plain.p_less, abs_tol=1e-12)


@given(column(st.integers(-5, 5).map(float), st.integers(1, 30)))
def test_ranks_are_the_average_places_of_equal_values(values):
    expected = [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]
    assert average_ranks(values).tolist() == expected


@given(column(ordinary, 24), column(ordinary, 24))
def test_correlation_is_symmetric_and_blind_to_scale_and_shift(x, y):
    dates = np.repeat(np.arange(3, dtype=np.int64), 8)
    for ranked in (False, True):
        series, when, _ = daily_correlation(dates, x, y, ranked=ranked)
        swapped, same, _ = daily_correlation(dates, y, x, ranked=ranked)
        assert np.array_equal(when, same)
        assert np.allclose(series, swapped, atol=1e-12)
        moved, same, _ = daily_correlation(dates, 4.0 * x, y, ranked=ranked)
        assert np.array_equal(when, same)
        assert np.allclose(series, moved, atol=1e-12)


@given(column(ordinary, 40), st.integers(0, 7))
def test_ranks_do_not_see_an_increasing_transformation(x, seed):
    y = np.random.default_rng(seed).standard_normal(40)
    dates = np.repeat(np.arange(5, dtype=np.int64), 8)
    plain, _, _ = daily_correlation(dates, x, y, ranked=True)
    bent, _, _ = daily_correlation(dates, np.arctan(x / 100) * 3 + 1, y, ranked=True)
    assume(len(np.unique(np.arctan(x / 100) * 3 + 1)) == len(np.unique(x)))
    assert np.allclose(plain, bent, atol=1e-12)


@st.composite
def markets(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = generator.standard_normal((20, 6))
    scores[generator.random((20, 6)) < 0.1] = np.nan
    return Market(np.arange(20, dtype=np.int64), scores, 0.02 * generator.standard_normal((20, 6)))


@given(column(anything, (8, 6)), st.floats(0.05, 1.0), st.integers(2, 6))
def test_a_book_respects_its_caps_whatever_the_scores(scores, cap, names):
    weights = target_weights(scores, Costs(exposure_cap=cap, min_names=names))
    assert np.isfinite(weights).all()
    assert np.abs(weights).max() <= cap
    assert np.abs(weights).sum(axis=1).max() <= 1.0 + 1e-12
    assert not weights[~np.isfinite(scores)].any()


@given(markets(), st.sampled_from([0.25, 2.0, 64.0]), st.floats(-3, 3))
def test_a_book_depends_only_on_the_relative_scores(market, scale, shift):
    costs = Costs(exposure_cap=1.0, min_names=2)
    plain = target_weights(market.scores, costs)
    moved = target_weights(market.scores * scale + shift, costs)
    assert np.allclose(plain, moved, atol=1e-9)


@given(markets())
def test_more_costs_never_earn_more_and_drawdown_is_a_share(market):
    book = simulate(market, Costs(min_names=2))
    assert (book.turnover >= 0).all()
    assert (book.net(1.0) >= book.net(2.0)).all()
    assert 0.0 <= book.max_drawdown() < 1.0
    assert book.max_drawdown(3.0) >= book.max_drawdown(1.0) - 1e-12


@given(markets(), st.integers(1, 19))
def test_the_future_changes_no_book_and_no_return_of_the_past(market, cut):
    whole = simulate(market, Costs(min_names=2))
    past = Market(market.dates[:cut], market.scores[:cut], market.returns[:cut])
    part = simulate(past, Costs(min_names=2))
    assert np.array_equal(part.weights, whole.weights[:cut])
    assert np.array_equal(part.gross, whole.gross[:cut])
    assert np.array_equal(part.turnover, whole.turnover[:cut])
