"""A backtest and an account that was fed event by event hold the same bits; and other laws."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.portfolio import (
    Account,
    AccountState,
    Decision,
    Decisions,
    Financing,
    Instrument,
    Limits,
    PriceHistory,
    Prices,
    Terms,
    TradingCosts,
    Weighting,
    simulate_history,
    target_weights,
)
from assay.portfolio.terms import NANOS_PER_HOUR as HOUR
from assay.portfolio.weights import fixed_sum

CURRENCIES = ("EUR", "JPY")


@st.composite
def terms(draw):
    def maybe(values):
        return draw(st.none() | values)

    return Terms(
        weighting=Weighting(
            rule=draw(st.sampled_from(["demeaned", "rank", "sign", "proportional"])),
            min_names=draw(st.integers(2, 4)),
            inverse_volatility=draw(st.booleans()),
            target_volatility=maybe(st.sampled_from([0.001, 0.01, 0.2])),
        ),
        limits=Limits(
            position=maybe(st.sampled_from([0.05, 0.3, 2.0])),
            gross=maybe(st.sampled_from([0.3, 0.9, 3.0])),
            net=maybe(st.sampled_from([0.0, 0.05, 0.5])),
            turnover=maybe(st.sampled_from([0.05, 0.4])),
        ),
        costs=TradingCosts(
            spread_bps=draw(st.sampled_from([0.0, 3.0, 900.0])),
            commission_bps=draw(st.sampled_from([0.0, 1.0])),
            commission_per_trade=draw(st.sampled_from([0.0, 0.5, 200.0])),
            slippage_bps=draw(st.sampled_from([0.0, 0.7])),
            slippage_of_spread=draw(st.sampled_from([0.0, 0.3])),
        ),
        financing=Financing(
            rates=draw(st.sampled_from([{}, {"USD": 0.05, "EUR": 0.03, "JPY": 0.001}])),
            markup=draw(st.sampled_from([0.0, 0.02])),
            nights=draw(st.sampled_from(["calendar", "wednesday"])),
        ),
        delay=draw(st.integers(0, 2)),
        costs_reduce_equity=draw(st.booleans()),
    )


@st.composite
def worlds(draw):
    """Prices with gaps, nonsense and jumps; decisions between, at and after them."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    days, names = draw(st.integers(1, 25)), draw(st.integers(1, 19))
    decided = draw(st.integers(0, 25))
    span = max(days, decided) * draw(st.sampled_from([1, 5, 24]))
    size = draw(st.sampled_from([0.001, 0.05, 1.5]))
    prices = np.exp(np.cumsum(size * generator.standard_normal((days, names)), axis=0))
    rates = np.exp(np.cumsum(0.02 * generator.standard_normal((days, 2)), axis=0))
    half = np.abs(1e-3 * generator.standard_normal((days, names)))
    scores = generator.standard_normal((decided, names)).round(draw(st.integers(0, 9)))
    volatility = np.abs(0.01 * generator.standard_normal((decided, names)))
    gaps = draw(st.sampled_from([0.0, 0.2, 0.8]))
    for array in (prices, rates, half, scores, volatility):
        array[generator.random(array.shape) < gaps] = np.nan
    prices[generator.random(prices.shape) < 0.02] = draw(st.sampled_from([0.0, -1.0, np.inf]))
    quotes, bases = ("", "USD", *CURRENCIES), ("", "USD", "EUR")
    instruments = tuple(
        Instrument(
            f"I{i:02}",
            quotes[generator.integers(4)],
            bases[generator.integers(3)],
            margined=bool(generator.integers(2)),
        )
        for i in range(names)
    )
    times = np.sort(generator.choice(span, days, replace=False)).astype(np.int64) * HOUR
    known = np.sort(generator.choice(span, decided, replace=False)).astype(np.int64) * HOUR
    history = PriceHistory(
        times, instruments, prices, half if draw(st.booleans()) else None, CURRENCIES, rates
    )
    return history, Decisions(known, scores, volatility)


def named(history, row):
    return {
        one.name: float(value)
        for one, value in zip(history.instruments, row, strict=True)
        if not np.isnan(value)
    }


def fed_one_by_one(history, decisions, assumed, equity, restart=lambda state: state):
    account = Account(history.instruments, assumed, CURRENCIES)
    state = account.open(equity)
    # A decision at the time of a price may be taken before or after it.
    events = [(int(at), 1, k) for k, at in enumerate(history.times)]
    events += [(int(at), 2 * (k % 2), ~k) for k, at in enumerate(decisions.known)]
    marks, books = [], []
    for at, _, k in sorted(events):
        if k < 0:
            scores, volatility = decisions.scores[~k], decisions.volatility[~k]
            decision = Decision(f"d{~k}", at, named(history, scores), named(history, volatility))
            state = restart(account.decide(state, decision))
            continue
        rates = zip(CURRENCIES, history.rates[k].tolist(), strict=True)
        half = history.half_spread
        done = account.take(
            state,
            Prices(
                at,
                named(history, history.prices[k]),
                None if half is None else named(history, half[k]),
                {currency: rate for currency, rate in rates if np.isfinite(rate)},
            ),
        )
        state = restart(done.state)
        marks.append(done)
        books.append(state.book.weights[0])
    return marks, np.array(books), state


@settings(max_examples=120, deadline=None)
@given(worlds(), terms())
def test_history_and_events_give_the_same_bits_also_through_a_file(world, assumed):
    history, decisions = world
    track = simulate_history(history, decisions, assumed, starting_equity=1000.0, keep_weights=True)
    done, books, _ = fed_one_by_one(
        history,
        decisions,
        assumed,
        1000.0,
        restart=lambda state: AccountState.from_json(json.loads(json.dumps(state.to_json()))),
    )
    equity = np.array([one.mark.equity for one in done])
    assert equity.tobytes() == track.equity[0].tobytes()
    assert books.tobytes() == track.weights[0].tobytes()
    assert [one.mark.turnover for one in done] == track.turnover[0].tolist()
    assert [one.mark.unpriced for one in done] == track.unpriced[0].tolist()
    assert [one.mark.ruined for one in done][-1] == bool(track.book.ruined[0])


@settings(max_examples=50, deadline=None)
@given(worlds(), terms(), st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=2, max_size=4))
def test_an_account_among_others_has_the_bits_it_has_alone(world, assumed, multiples):
    history, decisions = world
    together = simulate_history(history, decisions, assumed, multiples=multiples)
    for row, multiple in enumerate(multiples):
        alone = simulate_history(history, decisions, assumed, multiples=[multiple])
        assert together.equity[row].tobytes() == alone.equity[0].tobytes()
        assert together.turnover[row].tobytes() == alone.turnover[0].tobytes()


@settings(max_examples=50, deadline=None)
@given(worlds(), terms(), st.integers(1, 24))
def test_the_future_changes_no_bit_of_the_past(world, assumed, cut):
    history, decisions = world
    whole = simulate_history(history, decisions, assumed, keep_weights=True)
    half, end = history.half_spread, history.times[:cut]
    before = decisions.known <= (end[-1] if len(end) else 0)
    part = simulate_history(
        PriceHistory(
            end,
            history.instruments,
            history.prices[:cut],
            None if half is None else half[:cut],
            CURRENCIES,
            history.rates[:cut],
        ),
        Decisions(decisions.known[before], decisions.scores[before], decisions.volatility[before]),
        assumed,
        keep_weights=True,
    )
    assert part.equity.tobytes() == np.ascontiguousarray(whole.equity[:, :cut]).tobytes()
    assert part.weights.tobytes() == np.ascontiguousarray(whole.weights[:, :cut]).tobytes()


@settings(max_examples=50, deadline=None)
@given(worlds(), terms())
def test_returns_add_up_to_equity_and_ruin_is_final(world, assumed):
    history, decisions = world
    track = simulate_history(history, decisions, assumed, starting_equity=50.0, keep_weights=True)
    equity, shares = 50.0, track.returns[0]
    if assumed.costs_reduce_equity:
        for k, share in enumerate(shares):
            equity *= 1.0 + share
            assert np.isclose(track.equity[0, k], equity, rtol=1e-9, atol=1e-9)
    gone = np.flatnonzero(track.equity[0] <= 0)
    if len(gone):
        assert not track.weights[0, gone[0] :].any()
        assert not track.turnover[0, gone[0] + 1 :].any()


@settings(max_examples=50, deadline=None)
@given(worlds(), terms())
def test_no_book_exceeds_its_limits_where_everything_can_be_traded(world, assumed):
    history, decisions = world
    known = np.where(np.isfinite(history.prices) & (history.prices > 0), history.prices, 1.0)
    full = PriceHistory(history.times, history.instruments, known, None, CURRENCIES,
                        np.nan_to_num(history.rates, nan=1.0))  # fmt: skip
    limits = replace(assumed.limits, turnover=None)
    free = Terms(weighting=assumed.weighting, limits=limits, delay=assumed.delay)
    track = simulate_history(full, decisions, free, keep_weights=True)
    traded = track.turnover[0] > 0
    books = track.weights[0][traded]
    if limits.gross is not None:
        assert (np.abs(books).sum(axis=1) <= limits.gross + 1e-9).all()
    if limits.net is not None:
        assert (np.abs(books.sum(axis=1)) <= limits.net + 1e-9).all()


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_the_sum_of_a_row_does_not_depend_on_its_neighbours(rows, size, seed):
    values = np.random.default_rng(seed).standard_normal((rows, size)) * 1e3
    together = fixed_sum(values)
    fortran = fixed_sum(np.asfortranarray(values))
    for row in range(rows):
        assert fixed_sum(values[row : row + 1])[0] == together[row] == fortran[row]
        assert np.isclose(together[row], sum(values[row].tolist()), rtol=1e-9, atol=1e-9)


@given(worlds(), terms())
def test_a_book_made_alone_has_the_bits_of_a_book_among_many(world, assumed):
    _, decisions = world
    many = target_weights(
        decisions.scores, assumed.weighting, cap=1.0, volatility=decisions.volatility
    )
    assert np.isfinite(many).all()
    for row, scores in enumerate(decisions.scores):
        alone = target_weights(
            scores, assumed.weighting, cap=1.0, volatility=decisions.volatility[row]
        )
        assert alone.tobytes() == np.ascontiguousarray(many[row]).tobytes()
