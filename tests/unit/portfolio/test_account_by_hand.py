"""The engine against an account kept in units and cash, in plain Python."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

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
)
from assay.portfolio.terms import NANOS_PER_DAY as DAY
from assay.portfolio.terms import NANOS_PER_HOUR as HOUR

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def nights(start, end, financing):
    """Roll-overs in (start, end], one at a time."""
    moment = (EPOCH + timedelta(days=start // DAY - 1)).replace(hour=financing.rollover_hour)
    count = 0
    while True:
        moment += timedelta(days=1)
        at = round((moment - EPOCH).total_seconds()) * 10**9
        if at > end:
            return count
        if at > start:
            weight = [1, 1, 3, 1, 1, 0, 0][moment.weekday()]
            count += 1 if financing.nights == "calendar" else weight


def book_by_hand(scores, terms, volatility):
    weighting = terms.weighting
    scored = [i for i, score in enumerate(scores) if math.isfinite(score)]
    book = [0.0] * len(scores)
    if len(scored) < weighting.min_names:
        return book
    if weighting.rule in ("demeaned", "rank"):
        values = {i: scores[i] for i in scored}
        if weighting.rule == "rank":
            values = {
                i: sum(scores[j] < scores[i] for j in scored)
                + (sum(scores[j] == scores[i] for j in scored) + 1) / 2
                for i in scored
            }
        mean = sum(values.values()) / len(scored)
        raw = {i: values[i] - mean for i in scored}
    elif weighting.rule == "sign":
        raw = {i: math.copysign(1.0, scores[i]) if scores[i] else 0.0 for i in scored}
    else:
        raw = {i: scores[i] for i in scored}
    if weighting.inverse_volatility:
        raw = {i: value / volatility[i] for i, value in raw.items()}
    gross = sum(abs(value) for value in raw.values())
    for i in scored:
        book[i] = raw[i] / gross if gross else 0.0
    if weighting.target_volatility is not None:
        expected = math.sqrt(sum((book[i] * volatility[i]) ** 2 for i in scored))
        book = [weight * weighting.target_volatility / expected for weight in book]
    cap = terms.limits.position
    return book if cap is None else [max(-cap, min(cap, weight)) for weight in book]


def fit_by_hand(wanted, tradable, limits):
    wanted = list(wanted)
    names = range(len(wanted))
    if limits.gross is not None:
        excess = sum(abs(w) for w in wanted) - limits.gross
        room = sum(abs(wanted[i]) for i in names if tradable[i])
        if excess > 0 and room > 0:
            keep = max(0.0, 1 - excess / room)
            wanted = [wanted[i] * keep if tradable[i] else wanted[i] for i in names]
    if limits.net is not None:
        net = sum(wanted)
        same = [i for i in names if tradable[i] and wanted[i] * net > 0]
        room = abs(sum(wanted[i] for i in same))
        if abs(net) > limits.net and room > 0:
            keep = max(0.0, 1 - (abs(net) - limits.net) / room)
            for i in same:
                wanted[i] *= keep
    return wanted


def kept_by_hand(history, decisions, terms, equity):
    """Equity, traded notional over equity and units after every event; positions are units."""
    names = range(len(history.instruments))
    units = [0.0] * len(names)
    price, converted = [math.nan] * len(names), [math.nan] * len(names)
    rates = dict.fromkeys(history.currencies, math.nan)
    seen_rates = []
    found = []
    for k, at in enumerate(history.times.tolist()):
        for c, currency in enumerate(history.currencies):
            if math.isfinite(history.rates[k, c]):
                rates[currency] = history.rates[k, c]
        seen_rates.append(dict(rates))
        convert = [
            1.0 if one.quote in ("", terms.currency) else rates[one.quote]
            for one in history.instruments
        ]
        now = history.prices[k].tolist()
        priced = [math.isfinite(now[i]) and math.isfinite(convert[i]) for i in names]
        charged = 0.0
        if k:
            paid = nights(history.times[k - 1].item(), at, terms.financing)
            for i in names:
                if not units[i]:
                    continue
                one, table = history.instruments[i], terms.financing.rates
                carry = table[one.quote or terms.currency] - (table[one.base] if one.base else 0)
                value = units[i] * price[i] * converted[i]
                yearly = value * carry + abs(value) * terms.financing.markup
                charged += yearly * paid / terms.financing.days_per_year
        for i in names:
            if priced[i] and units[i]:
                if history.instruments[i].margined:
                    equity += units[i] * (now[i] - price[i]) * convert[i]
                else:
                    equity += units[i] * (now[i] * convert[i] - price[i] * converted[i])
            if priced[i]:
                price[i], converted[i] = now[i], convert[i]
        equity -= charged
        traded = 0.0
        due = [
            d
            for d, known in enumerate(decisions.known.tolist())
            if sum(1 for t in history.times[: k + 1].tolist() if t > known) == terms.delay + 1
            and at > known
        ]
        first = [
            d
            for d in due
            if k - terms.delay
            == next(n for n, t in enumerate(history.times.tolist()) if t > decisions.known[d])
        ]
        if first:
            d = first[-1]
            volatility = None if decisions.volatility is None else decisions.volatility[d].tolist()
            aim = book_by_hand(decisions.scores[d].tolist(), terms, volatility)
            before = [n for n, t in enumerate(history.times.tolist()) if t <= decisions.known[d]]
            for i in names:
                quote = history.instruments[i].quote
                if quote not in ("", terms.currency):
                    then = seen_rates[before[-1]][quote] if before else math.nan
                    ratio = convert[i] / then
                    aim[i] = aim[i] * ratio if math.isfinite(ratio) else 0.0
            held = [units[i] * price[i] * converted[i] / equity if units[i] else 0.0 for i in names]
            wanted = [aim[i] if priced[i] else held[i] for i in names]
            wanted = fit_by_hand(wanted, priced, terms.limits)
            trades = [wanted[i] - held[i] for i in names]
            traded = sum(abs(trade) for trade in trades)
            if terms.limits.turnover is not None and traded > terms.limits.turnover:
                trades = [trade * terms.limits.turnover / traded for trade in trades]
                traded = terms.limits.turnover
            costs, bill = terms.costs, 0.0
            for i in names:
                if not trades[i]:
                    continue
                half = math.nan if history.half_spread is None else history.half_spread[k, i]
                if not math.isfinite(half):
                    half = costs.spread_bps / 2 / 10_000
                notional = abs(trades[i]) * equity
                bill += notional * half * (1 + 2 * costs.slippage_of_spread)
                bill += notional * (costs.commission_bps + costs.slippage_bps) / 10_000
                bill += costs.commission_per_trade
                units[i] += trades[i] * equity / (now[i] * convert[i])
                if held[i] + trades[i] == 0.0:
                    units[i] = 0.0  # sold out: no dust is left that pays for an order later
            equity -= bill
        found.append((equity, traded, list(units)))
    return found


def market(seed, terms, *, days=30, names=7):
    generator = np.random.default_rng(seed)
    hours = np.sort(generator.choice(days * 24, days, replace=False))
    prices = 50 * np.exp(np.cumsum(0.02 * generator.standard_normal((days, names)), axis=0))
    prices[generator.random((days, names)) < 0.15] = np.nan
    rates = np.exp(np.cumsum(0.01 * generator.standard_normal((days, 2)), axis=0))
    rates[generator.random((days, 2)) < 0.15] = np.nan
    half = np.abs(3e-4 * generator.standard_normal((days, names)))
    half[generator.random((days, names)) < 0.3] = np.nan
    quotes, bases = ["", "EUR", "JPY"], ["", "USD", "EUR"]
    instruments = tuple(
        Instrument(f"I{i}", quotes[i % 3], bases[i % 2], margined=i % 4 != 3) for i in range(names)
    )
    known = np.sort(generator.choice(days * 24, days - 4, replace=False))
    scores = generator.standard_normal((len(known), names))
    scores[generator.random(scores.shape) < 0.15] = np.nan
    volatility = 0.01 * np.exp(0.3 * generator.standard_normal(scores.shape))
    history = PriceHistory(
        hours.astype(np.int64) * HOUR, instruments, prices, half, ("EUR", "JPY"), rates
    )
    return history, Decisions(known.astype(np.int64) * HOUR, scores, volatility)


DEAR = TradingCosts(
    spread_bps=4, commission_bps=1, commission_per_trade=2.0, slippage_bps=0.5,
    slippage_of_spread=0.25,
)  # fmt: skip
HELD = Financing(rates={"USD": 0.05, "EUR": 0.03, "JPY": 0.001}, markup=0.01, nights="wednesday")
CASES = {
    "plain": Terms(weighting=Weighting(min_names=2), financing=HELD),
    "costs": Terms(weighting=Weighting(rule="rank", min_names=2), costs=DEAR, financing=HELD),
    "position": Terms(limits=Limits(position=0.2), costs=DEAR, financing=HELD, delay=1),
    "net": Terms(
        weighting=Weighting(rule="sign", min_names=1), limits=Limits(net=0.1, gross=0.6),
        financing=HELD,
    ),
    "turnover": Terms(limits=Limits(turnover=0.2), costs=DEAR, financing=HELD, delay=2),
    "volatility": Terms(
        weighting=Weighting(
            rule="proportional", min_names=2, inverse_volatility=True, target_volatility=0.004
        ),
        limits=Limits(gross=0.9), costs=DEAR,
        financing=Financing(rates={"USD": 0.05, "EUR": 0.03, "JPY": 0.001}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_the_engine_equals_an_account_kept_in_units_and_cash(case, seed):
    terms = CASES[case]
    history, decisions = market(seed, terms)
    expected = kept_by_hand(history, decisions, terms, 100_000.0)
    found = simulate_history(
        history, decisions, terms, starting_equity=100_000.0, keep_weights=True
    )
    assert found.equity[0].tolist() == pytest.approx([row[0] for row in expected], rel=1e-11)
    assert found.turnover[0].tolist() == pytest.approx([row[1] for row in expected], abs=1e-11)
    assert (found.turnover[0] > 0).sum() > 10
    held = [[unit != 0.0 for unit in row[2]] for row in expected]
    assert (np.abs(found.weights[0]) > 1e-15).tolist() == held


def test_limits_bind_in_the_cases_above():
    # A cap that never binds would prove nothing.
    for case, cap in (("net", "net"), ("turnover", "turnover"), ("position", "position")):
        terms = CASES[case]
        history, decisions = market(1, terms)
        free = Terms(
            weighting=terms.weighting, costs=terms.costs, financing=terms.financing,
            delay=terms.delay,
        )  # fmt: skip
        bound = simulate_history(history, decisions, terms, starting_equity=1e5)
        loose = simulate_history(history, decisions, free, starting_equity=1e5)
        assert not np.array_equal(bound.turnover, loose.turnover), cap
