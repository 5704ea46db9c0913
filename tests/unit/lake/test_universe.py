"""The universe is a rule on dates, and nothing known later changes its answer."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from assay.errors import ConfigurationError
from assay.lake.silver import RATES_SCHEMA
from assay.lake.universe import UniverseRule, evaluate_universe

DAY = 86_400_000_000_000
SESSIONS = 420
RULE = UniverseRule(min_observed=150, history_days=365, window_sessions=120)


def walk(seed, volatility, start=1.5):
    moves = np.random.default_rng(seed).normal(scale=volatility / math.sqrt(252), size=SESSIONS)
    return start * np.exp(np.cumsum(moves))


def table(**series):
    """Rates per euro by currency; NaN is an absent fact. Known one nanosecond after the event."""
    frames = [
        pl.DataFrame(
            {
                "entity": f"EUR_{name}",
                "event_time": np.arange(SESSIONS) * DAY,
                "known_time": np.arange(SESSIONS) * DAY + 1,
                "source_rank": 0,
                "sequence": np.arange(SESSIONS),
                "rate": values,
                "extreme": False,
            }
        ).filter(pl.col("rate").is_finite())
        for name, values in series.items()
    ]
    return pl.concat(frames).select(RATES_SCHEMA.names()).cast(dict(RATES_SCHEMA))


USD, SGD = walk(1, 0.08), walk(2, 0.07)


def judge(name, values, rule=RULE):
    rates = table(USD=USD, SGD=SGD, **{name: values})
    universe = evaluate_universe(rates, [f"USD_{name}", f"SGD_{name}"], rule)
    last = universe.currencies.filter(pl.col("event_time") == pl.col("event_time").max())
    (reasons,) = last.filter(currency=name)["reasons"].to_list()
    return universe, reasons


def test_a_currency_that_floats_is_in():
    universe, reasons = judge("NOK", walk(3, 0.10))
    assert reasons == ""
    assert universe.members() == ["SGD_NOK", "USD_NOK"]


def test_membership_is_judged_at_the_first_session_of_each_month():
    universe, _ = judge("NOK", walk(3, 0.10))
    months = universe.currencies["event_time"].unique().sort().cast(pl.Datetime("ns"))
    assert months.dt.day().to_list() == [1] * len(months)
    assert len(months) == 14


def test_too_little_history_is_out():
    young = walk(3, 0.10)
    young[: SESSIONS - 100] = np.nan
    assert "observed in 7" in judge("NOK", young)[1]
    assert "expected 150" in judge("NOK", young)[1]


def test_a_currency_that_ended_is_out_from_the_next_month():
    ended = walk(3, 0.10)
    ended[380:] = np.nan
    universe, reasons = judge("NOK", ended)
    assert reasons.startswith("not observed in the last 5 sessions")
    by_month = universe.instruments.filter(instrument="USD_NOK")["member"].to_list()
    assert by_month[-3:] == [True, True, False]


@pytest.mark.parametrize("anchor", ["EUR", "USD"])
def test_a_peg_to_any_anchor_is_out(anchor):
    noise = np.exp(np.random.default_rng(8).normal(scale=0.0003, size=SESSIONS))
    _, reasons = judge("HKD", 7.8 * noise * (USD if anchor == "USD" else 1.0))
    assert reasons.startswith(f"pegged: volatility against {anchor} 0.")


def test_a_rate_that_seldom_moves_is_out():
    steps = walk(3, 0.10)
    steps = np.where(np.arange(SESSIONS) % 4 == 0, np.roll(steps, 1), steps)
    _, reasons = judge("ISK", steps)
    assert reasons.startswith("moved in 7")


def test_a_cross_of_two_floating_currencies_pegged_to_each_other_is_out():
    universe, reasons = judge("BND", SGD * 1.0001 ** np.random.default_rng(4).normal(size=SESSIONS))
    assert reasons == ""
    assert universe.members() == ["USD_BND"]
    last = universe.instruments.filter(instrument="SGD_BND").row(-1, named=True)
    assert last["reasons"].startswith("pegged: volatility of the pair")


def test_volatility_is_the_annualised_standard_deviation_over_observed_sessions():
    values = walk(3, 0.10)
    values[330:340] = np.nan
    universe, _ = judge("NOK", values)
    last = universe.currencies.filter(currency="NOK").row(-1, named=True)
    end = last["event_time"] // DAY

    def volatility(ratios):
        window = [r for r in ratios[end - 120 : end + 1] if math.isfinite(r)]
        moves = [math.log(b / a) for a, b in pairwise(window)]
        return statistics.stdev(moves) * math.sqrt(252)

    expected = min(volatility(values.tolist()), volatility((values / USD).tolist()))
    assert last["volatility"] == pytest.approx(expected, abs=1e-6)
    assert last["moved"] == pytest.approx(110 / 120, abs=1e-6)


def test_nothing_known_later_changes_the_answer():
    values = walk(3, 0.10)
    rates = table(USD=USD, SGD=SGD, NOK=values)
    names = ["USD_NOK", "SGD_NOK"]
    whole = evaluate_universe(rates, names, RULE)
    cut = 250 * DAY + 1
    early = evaluate_universe(rates.filter(pl.col("known_time") <= cut), names, RULE)
    assert early.currencies.equals(whole.currencies.filter(pl.col("known_at") <= cut))
    assert early.instruments.equals(whole.instruments.filter(pl.col("known_at") <= cut))
    # A wild correction of the past, known at session 300, moves only the evaluations after it.
    wild = rates.filter((pl.col("entity") == "EUR_NOK") & (pl.col("event_time") == 240 * DAY))
    wild = wild.with_columns(known_time=300 * DAY, sequence=999, rate=pl.col("rate") * 1.5)
    revised = evaluate_universe(pl.concat([rates, wild.cast(dict(RATES_SCHEMA))]), names, RULE)
    before = pl.col("known_at") < 300 * DAY
    assert revised.currencies.filter(before).equals(whole.currencies.filter(before))
    assert not revised.currencies.filter(~before).equals(whole.currencies.filter(~before))


def test_members_can_be_asked_as_of_a_moment():
    universe, _ = judge("NOK", walk(3, 0.10))
    assert universe.members(20 * DAY) == []
    assert universe.members(SESSIONS * DAY) == ["SGD_NOK", "USD_NOK"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_observd": 3}, "did you mean 'min_observed'"),
        ({"min_observed": 3.5}, "expected int"),
        ({"bases": "USD"}, "expected a list of texts"),
        ({"bases": []}, "at least one"),
        ({"min_moved": 1.5}, "min_moved"),
        ({"window_sessions": 1}, "window_sessions"),
        ({"recent_sessions": 0}, "recent_sessions"),
        ({"min_volatility": -0.1}, "min_volatility"),
    ],
)
def test_a_wrong_rule_is_refused_with_the_key(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        UniverseRule.from_mapping(settings)


def test_a_rule_can_be_read_from_settings():
    rule = UniverseRule.from_mapping({"bases": ["USD"], "min_volatility": 0})
    assert rule == UniverseRule(bases=("USD",), min_volatility=0.0)
