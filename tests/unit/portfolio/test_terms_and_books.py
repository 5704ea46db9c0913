"""Terms that make no sense are refused; nights are counted; books are what their rule says."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from assay.domain.canonical import canonical_bytes
from assay.errors import ContractViolation
from assay.portfolio import (
    Decisions,
    Financing,
    Instrument,
    Limits,
    PriceHistory,
    Terms,
    TradingCosts,
    Weighting,
    simulate_history,
    target_weights,
)
from assay.portfolio.terms import NANOS_PER_DAY as DAY
from assay.portfolio.terms import HoldingRates

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


def instant(moment):
    return np.array([round(moment.timestamp()) * 10**9])


@pytest.mark.parametrize("rule", ["calendar", "wednesday"])
def test_nights_are_the_rollovers_that_passed(rule):
    financing = Financing(nights=rule)
    weights = [1, 1, 3, 1, 1, 0, 0] if rule == "wednesday" else [1] * 7
    for start in range(0, 24 * 8, 7):
        for length in range(0, 24 * 9, 5):
            begin = MONDAY + timedelta(hours=start)
            end = begin + timedelta(hours=length)
            rollovers = [MONDAY.replace(hour=22) + timedelta(days=day) for day in range(-1, 20)]
            expected = sum(weights[at.weekday()] for at in rollovers if begin < at <= end)
            assert financing.nights_between(instant(begin), instant(end))[0] == expected


def test_a_week_is_seven_nights_and_wednesday_pays_the_weekend():
    financing = Financing(nights="wednesday")
    for day in range(7):
        begin = MONDAY + timedelta(days=day)
        assert financing.nights_between(instant(begin), instant(begin + timedelta(days=7)))[0] == 7
    noon = [MONDAY + timedelta(days=day, hours=12) for day in range(8)]
    paid = [
        financing.nights_between(instant(one), instant(next_one))[0]
        for one, next_one in pairwise(noon)
    ]
    assert paid == [1, 1, 3, 1, 1, 0, 0]


def test_a_pair_pays_what_it_is_short_of_and_earns_what_it_holds():
    terms = Terms(financing=Financing(rates={"USD": 0.05, "EUR": 0.03, "JPY": 0.0}, markup=0.01))
    pairs = [
        Instrument("EUR_USD", "USD", "EUR"),
        Instrument("USD_JPY", "JPY", "USD"),
        Instrument("share", "", margined=False),
    ]
    found = HoldingRates.of(pairs, terms)
    assert (found.long * 365).tolist() == pytest.approx([0.05 - 0.03 + 0.01, -0.05 + 0.01, 0.06])
    assert (found.short * 365).tolist() == pytest.approx([0.03 - 0.05 + 0.01, 0.06, -0.04])
    assert HoldingRates.of(pairs, Terms()) is None
    with pytest.raises(ContractViolation, match="no financing rate of CHF") as refusal:
        HoldingRates.of([Instrument("USD_CHF", "CHF", "USD")], terms)
    assert "CHF" in refusal.value.hint


def test_a_held_position_pays_for_the_nights_of_a_weekend():
    friday = instant(datetime(2024, 1, 5, 12, tzinfo=UTC))[0]
    times = np.array([friday, friday + 3 * DAY, friday + 4 * DAY])
    history = PriceHistory(times, (Instrument("A"), Instrument("B")), np.ones((3, 2)))
    decisions = Decisions(np.array([friday - 1]), np.array([[1.0, -1.0]]))
    for rule, weekend in (("calendar", 3), ("wednesday", 1)):
        terms = Terms(
            weighting=Weighting(min_names=2), financing=Financing(markup=0.0365, nights=rule)
        )
        track = simulate_history(history, decisions, terms)
        # Half long, half short: the markup is paid on a gross exposure of 1.
        assert track.financing[0].tolist() == pytest.approx([0, weekend * 1e-4, 1e-4], rel=1e-3)
        assert track.equity[0, 1] == pytest.approx(1 - weekend * 1e-4)


def test_turnover_is_measured_against_what_the_book_has_drifted_to():
    # Half and half, again half and half: no trade to a naive eye. The first rose by 3.73 % though,
    # and the book has drifted to .50916 and .49084: selling .00916 and buying .00916 is .0183.
    prices = np.array([[1.0, 1.0], [1.0373, 1.0]])
    history = PriceHistory(np.array([1, 3]) * DAY, (Instrument("A"), Instrument("B")), prices)
    decisions = Decisions(np.array([0, 2]) * DAY, np.ones((2, 2)))
    terms = Terms(weighting=Weighting(rule="sign", min_names=1))
    track = simulate_history(history, decisions, terms)
    up = 0.5 * 1.0373 / (0.5 * 1.0373 + 0.5)
    assert track.turnover[0].tolist() == pytest.approx([1.0, 2 * (up - 0.5)])
    assert track.turnover[0, 1] == pytest.approx(0.0183, abs=5e-5)


def test_margined_and_funded_positions_differ_by_the_move_of_their_currency():
    # The price in euro doubles while the euro falls by half.
    prices, rates = np.array([[10.0], [20.0]]), np.array([[1.0], [0.5]])
    terms = Terms(weighting=Weighting(rule="sign", min_names=1))
    for margined, earned in ((True, 0.5), (False, 0.0)):
        one = Instrument("X", quote="EUR", margined=margined)
        history = PriceHistory(np.array([1, 2]) * DAY, (one,), prices, None, ("EUR",), rates)
        track = simulate_history(history, Decisions(np.array([DAY]), np.ones((1, 1))), terms)
        assert track.equity[0, -1] == 1.0  # known at the price: it does not trade at it
        history = PriceHistory(np.array([1, 2]) * DAY, (one,), prices, None, ("EUR",), rates)
        decided = Decisions(np.array([0]), np.ones((1, 1)))
        track = simulate_history(history, decided, terms)
        # Without a rate at the decision nothing can be sized.
        assert track.turnover[0].tolist() == [0.0, 0.0]
        times = np.array([-1, 1, 2]) * DAY
        history = PriceHistory(
            times, (one,), np.vstack([prices[:1], prices]), None, ("EUR",),
            np.vstack([rates[:1], rates]),
        )  # fmt: skip
        assert simulate_history(history, decided, terms).equity[0, -1] == 1.0 + earned


def test_an_order_is_sized_with_the_rate_of_its_decision():
    terms = Terms(weighting=Weighting(rule="sign", min_names=1))
    one = Instrument("X", quote="EUR")
    rates = np.array([[1.0], [1.1], [1.1]])
    history = PriceHistory(
        np.array([1, 3, 4]) * DAY, (one,), np.ones((3, 1)), None, ("EUR",), rates
    )
    track = simulate_history(
        history, Decisions(np.array([2 * DAY]), np.ones((1, 1))), terms, keep_weights=True
    )
    assert track.weights[0, 1].tolist() == pytest.approx([1.1])


def test_a_position_without_a_price_keeps_its_value_and_is_counted():
    prices = np.array([[1.0, 1.0], [np.nan, 1.0], [1.5, 1.0]])
    history = PriceHistory(np.array([1, 2, 3]) * DAY, (Instrument("A"), Instrument("B")), prices)
    known = np.array([0, DAY + 1])
    decisions = Decisions(known, np.array([[1.0, -1.0], [-1.0, 1.0]]))
    terms = Terms(weighting=Weighting(min_names=2))
    track = simulate_history(history, decisions, terms, keep_weights=True)
    assert track.gross[0].tolist() == [0.0, 0.0, 0.25]
    assert track.unpriced[0].tolist() == [0.0, 1.0, 0.0]
    # Only the one with a price was turned round; the other could not be sold.
    assert track.weights[0, 1].tolist() == [0.5, 0.5]


def test_a_ruined_account_holds_and_trades_nothing_more():
    prices = np.array([[1.0, 1.0], [3.0, 1.0], [0.1, 1.0], [0.2, 1.0]])
    history = PriceHistory(np.arange(1, 5) * DAY, (Instrument("A"), Instrument("B")), prices)
    decisions = Decisions(np.arange(4) * DAY, np.tile([-1.0, 1.0], (4, 1)))
    terms = Terms(weighting=Weighting(rule="proportional", min_names=1, target_volatility=1.0),
                  limits=Limits(gross=2.0))  # fmt: skip
    volatile = Decisions(decisions.known, decisions.scores, np.full((4, 2), 0.1))
    track = simulate_history(history, volatile, terms, keep_weights=True)
    assert track.equity[0].tolist() == pytest.approx([1.0, -1.0, -1.0, -1.0])
    assert not track.weights[0, 1:].any()
    assert track.book.ruined.tolist() == [True]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("demeaned", [-0.5, 0.0, 0.5, 0.0]),
        ("rank", [-0.5, 0.0, 0.5, 0.0]),
        ("sign", [1 / 3, 1 / 3, 1 / 3, 0.0]),
        ("proportional", [1 / 9, 3 / 9, 5 / 9, 0.0]),
    ],
)
def test_each_rule_makes_its_book(rule, expected):
    book = target_weights(np.array([1.0, 3.0, 5.0, np.nan]), Weighting(rule=rule, min_names=2))
    assert book.tolist() == pytest.approx(expected)


def test_ties_share_their_rank():
    book = target_weights(np.array([2.0, 2.0, 7.0, 900.0]), Weighting(rule="rank", min_names=2))
    # Ranks 1.5, 1.5, 3, 4 about their mean of 2.5.
    assert book.tolist() == pytest.approx([-0.25, -0.25, 0.125, 0.375])


def test_volatility_sizes_each_position_and_the_whole_book():
    scores, volatility = np.array([1.0, -1.0, 1.0]), np.array([0.01, 0.02, np.nan])
    weighting = Weighting(rule="sign", min_names=2, inverse_volatility=True)
    assert target_weights(scores, weighting, volatility=volatility).tolist() == pytest.approx(
        [2 / 3, -1 / 3, 0.0]
    )
    aimed = Weighting(rule="sign", min_names=2, target_volatility=0.05)
    book = target_weights(scores, aimed, volatility=volatility)
    assert math.hypot(book[0] * 0.01, book[1] * 0.02) == pytest.approx(0.05)
    assert not target_weights(scores, aimed).any()


def test_terms_have_a_canonical_form_and_come_back_from_it():
    terms = Terms(
        weighting=Weighting(rule="rank", target_volatility=0.01),
        limits=Limits(net=0.0, turnover=0.5),
        costs=TradingCosts(spread_bps=1.5, commission_per_trade=2.0),
        financing=Financing(rates={"USD": 0.05}, nights="wednesday"),
        delay=1,
    )
    assert Terms.from_json(terms.to_json()) == terms
    assert canonical_bytes(Terms.from_json(terms.to_json()).to_json()) == canonical_bytes(
        terms.to_json()
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Weighting(rule="demeanid"),
        lambda: Weighting(min_names=1),
        lambda: Weighting(target_volatility=0.0),
        lambda: Limits(gross=0.0),
        lambda: Limits(net=-0.1),
        lambda: Limits(turnover=math.nan),
        lambda: TradingCosts(spread_bps=-1.0),
        lambda: TradingCosts(slippage_bps=math.inf),
        lambda: Financing(rates={"USD": math.nan}),
        lambda: Financing(nights="weekly"),
        lambda: Financing(rollover_hour=24),
        lambda: Terms(delay=-1),
        lambda: PriceHistory(np.array([2, 1]), (Instrument("A"),), np.ones((2, 1))),
        lambda: PriceHistory(np.array([1, 2]), (Instrument("A"),), np.ones((2, 2))),
        lambda: PriceHistory(np.array([1]), (Instrument("A"),) * 2, np.ones((1, 2))),
        lambda: PriceHistory(np.array([1]), (Instrument("A"),), np.ones((1, 1)), None, ("EUR",)),
        lambda: Decisions(np.array([1]), np.ones((2, 1))),
        lambda: Decisions(np.array([2, 1]), np.ones((2, 1))),
        lambda: simulate_history(
            PriceHistory(np.array([1]), (Instrument("A", "EUR"),), np.ones((1, 1))),
            Decisions(np.array([0]), np.ones((1, 1))),
            Terms(),
        ),
        lambda: simulate_history(
            PriceHistory(np.array([1]), (Instrument("A"),), np.ones((1, 1))),
            Decisions(np.array([0]), np.ones((1, 2))),
            Terms(),
        ),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ContractViolation):
        wrong()
