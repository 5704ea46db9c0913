"""The paper account: once per id, the same journal after any interruption, and what it proves."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from assay.errors import Conflict, ContractViolation, NotFound, OutOfOrder, Tampered, Unavailable
from assay.portfolio import (
    Decision,
    Decisions,
    Instrument,
    Limits,
    PaperAccount,
    PaperTerms,
    PriceHistory,
    Prices,
    Terms,
    TradingCosts,
    Weighting,
    instrument_of,
    paper_evidence,
    quote_currencies,
    rates_into,
    read_journal,
    read_record,
    simulate_history,
    verify,
)
from assay.portfolio.terms import NANOS_PER_DAY as DAY
from assay.portfolio.terms import NANOS_PER_HOUR as HOUR
from assay.storage.locks import FileLock

NAMES = ("EUR_USD", "GBP_USD", "USD_JPY", "EUR_JPY")
TERMS = PaperTerms(
    subject={"model": "fx", "version": "1.0.0"},
    instruments=tuple(instrument_of(name) for name in NAMES),
    terms=Terms(
        weighting=Weighting(min_names=2),
        limits=Limits(position=0.4),
        costs=TradingCosts(spread_bps=1.0, commission_bps=1.0),
    ),
    currencies=("JPY",),
)


def inputs(days=6, seed=3):
    """Prices at noon, decisions at 16:00 of the day before; one price is missing."""
    generator = np.random.default_rng(seed)
    prices = np.array([1.1, 1.3, 150.0, 165.0]) * np.exp(
        np.cumsum(0.01 * generator.standard_normal((days, 4)), axis=0)
    )
    prices[days // 2, 1] = np.nan
    scores = generator.standard_normal((days, 4))
    given = []
    for day in range(days):
        at = day * DAY + 12 * HOUR
        mid = {n: float(p) for n, p in zip(NAMES, prices[day], strict=True) if np.isfinite(p)}
        given.append(Prices(at, mid, rates=rates_into("USD", ["JPY"], mid)))
        row = {n: float(s) for n, s in zip(NAMES, scores[day], strict=True)}
        given.append(Decision(f"d{day}", at + 4 * HOUR, row))
    return given, prices, scores


def feed(account, given):
    taken = 0
    for one in given:
        taken += account.decide(one) if isinstance(one, Decision) else account.take(one) is not None
    return taken


def written(path, given, terms=TERMS):
    with PaperAccount(path, terms) as account:
        feed(account, given)
    return path.read_bytes()


def test_the_account_on_paper_has_the_bits_of_the_backtest(tmp_path):
    given, prices, scores = inputs(days=30)
    written(tmp_path / "journal", given)
    days = np.arange(30, dtype=np.int64) * DAY + 12 * HOUR
    track = simulate_history(
        PriceHistory(days, TERMS.instruments, prices, None, ("JPY",), 1.0 / prices[:, 2:3]),
        Decisions(days + 4 * HOUR, scores),
        TERMS.terms,
        starting_equity=TERMS.starting_equity,
    )
    marks = [line for line in read_journal(tmp_path / "journal") if line["kind"] == "mark"]
    assert [float.fromhex(mark["equity_exact"]) for mark in marks] == track.equity[0].tolist()
    assert sum(mark["unpriced"] for mark in marks) == 1


def test_a_decision_never_trades_at_the_price_that_made_it(tmp_path):
    with PaperAccount(tmp_path / "journal", TERMS) as account:
        mid = dict.fromkeys(NAMES, 1.0)
        account.take(Prices(DAY, mid, rates={"JPY": 1.0}))
        account.decide(Decision("known at the price", 2 * DAY, {"EUR_USD": 1.0, "GBP_USD": -1.0}))
        at_its_time = account.take(Prices(2 * DAY, mid, rates={"JPY": 1.0}))
        assert not at_its_time.orders
        after = account.take(Prices(2 * DAY + 1, mid, rates={"JPY": 1.0}))
        assert {order.instrument for order in after.orders} == {"EUR_USD", "GBP_USD"}
        assert after.mark.decision == "known at the price"


def test_fills_are_beyond_the_mid_and_add_up_to_the_mark(tmp_path):
    given, _, _ = inputs()
    costs = TradingCosts(
        spread_bps=4, slippage_bps=1, slippage_of_spread=0.5, commission_bps=2,
        commission_per_trade=3.0,
    )  # fmt: skip
    terms = PaperTerms(
        {}, TERMS.instruments, Terms(weighting=Weighting(min_names=2), costs=costs),
        currencies=("JPY",),
    )  # fmt: skip
    with PaperAccount(tmp_path / "journal", terms) as account:
        for one in given:
            if isinstance(one, Decision):
                account.decide(one)
                continue
            done = account.take(one)
            charged = done.mark.spread + done.mark.slippage + done.mark.commission
            assert sum(fill.cost for fill in done.fills) == pytest.approx(charged, rel=1e-9)
            for fill in done.fills:
                side = 1 if fill.units > 0 else -1
                # Half of 4, 1 of slippage, and half of the spread of 4 again.
                beyond = side * (2 + 1 + 2) / 10_000
                assert fill.price == pytest.approx(one.mid[fill.instrument] * (1 + beyond))
        held = account._account.positions(account.state)
        assert set(held) <= set(NAMES)
        assert held


def test_what_is_given_twice_is_taken_once(tmp_path):
    given, _, _ = inputs()
    whole = written(tmp_path / "journal", given)
    with PaperAccount(tmp_path / "journal", TERMS) as account:
        assert feed(account, given) == 0
        assert feed(account, reversed(given)) == 0
    assert (tmp_path / "journal").read_bytes() == whole


def test_an_id_or_a_moment_with_another_content_is_refused_and_writes_nothing(tmp_path):
    given, _, _ = inputs()
    whole = written(tmp_path / "journal", given)
    with PaperAccount(tmp_path / "journal", TERMS) as account:
        with pytest.raises(Conflict, match="decision d2 was taken before"):
            account.decide(Decision("d2", given[-1].known + 1, {"EUR_USD": 1.0}))
        with pytest.raises(Conflict, match=r"prices of .* was taken before"):
            account.take(Prices(given[0].at, {"EUR_USD": 9.0}))
        with pytest.raises(OutOfOrder):
            account.take(Prices(given[0].at + 1, {"EUR_USD": 9.0}))
        with pytest.raises(OutOfOrder):
            account.decide(Decision("late", given[0].at, {"EUR_USD": 1.0}))
        with pytest.raises(ContractViolation, match="did you mean 'EUR_USD'"):
            account.decide(Decision("typo", given[-1].known + 1, {"EUR_USB": 1.0}))
        with pytest.raises(ContractViolation, match="does not convert"):
            account.take(Prices(given[-2].at + DAY, {"EUR_USD": 1.0}, rates={"CHF": 1.0}))
    assert (tmp_path / "journal").read_bytes() == whole


@pytest.mark.parametrize("snapshot", [1, 2, 50])
def test_a_journal_cut_at_any_byte_of_its_last_events_becomes_the_same_again(tmp_path, snapshot):
    # Whether the last state stands in the last mark, in the one before, or long ago.
    terms = replace(TERMS, state_every=snapshot)
    given, _, _ = inputs(days=3)
    whole = written(tmp_path / "whole", given, terms)
    path = tmp_path / "cut"
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    cuts = {0, *ends[-8:], *(end + 7 for end in ends[-8:-1]), *(end - 1 for end in ends[-8:])}
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        assert written(path, given, terms) == whole, cut


def test_a_changed_line_is_found(tmp_path):
    given, _, _ = inputs()
    path = tmp_path / "journal"
    whole = written(path, given)
    assert verify(path) == []
    lines = whole.splitlines(keepends=True)
    for number, line in enumerate(lines[1:], start=1):
        document = json.loads(line)
        changed = {
            "decision": lambda d: d["scores"].update(EUR_USD=7.0),
            "prices": lambda d: d["mid"].update(EUR_USD=7.0),
            "orders": lambda d: d["units"].__setitem__(0, 1.0),
            "fills": lambda d: d["costs"].__setitem__(0, 0.0),
            "mark": lambda d: d.update(equity=2e6),
        }
        if number == len(lines) - 1:
            continue  # the last decision has had no consequence yet
        changed[document["kind"]](document)
        path.write_bytes(
            b"".join([*lines[:number], json.dumps(document).encode() + b"\n", *lines[number + 1 :]])
        )
        assert verify(path), document["kind"]
    path.write_bytes(b"".join([*lines[:4], *lines[5:]]))
    with pytest.raises(Tampered, match="line 5"):
        verify(path)


def test_a_journal_has_one_writer_and_keeps_its_terms(tmp_path):
    path = tmp_path / "journal"
    with (
        PaperAccount(path, TERMS),
        pytest.raises(Unavailable),
        FileLock(path.with_name("journal.lock"), timeout=0.01),
    ):
        pass
    other = PaperTerms({}, TERMS.instruments, TERMS.terms, currencies=("JPY",))
    with pytest.raises(Conflict, match="other terms"):
        PaperAccount(path, other)
    with PaperAccount(path, TERMS):  # the refusal let go of the lock
        pass
    with pytest.raises(NotFound, match="no paper account"):
        read_journal(tmp_path / "none")


def evidence(path):
    return {one.name: one for one in paper_evidence(read_record(read_journal(path)))}


def test_hours_run_from_the_first_trade_and_profit_is_after_all_costs(tmp_path):
    given, _, _ = inputs(days=6)
    written(tmp_path / "journal", given)
    found = evidence(tmp_path / "journal")
    hours, profit = found["paper_trading_hours"], found["paper_pnl_after_costs"]
    # The decision of the first day trades at the second price; the last price is 4 days on.
    assert hours.value == 4 * 24
    assert hours.details["replayed"] is False
    assert hours.details["incident_count"] == 0
    marks = [one for one in read_journal(tmp_path / "journal") if one["kind"] == "mark"]
    assert profit.value == pytest.approx(marks[-1]["equity"] / 1e6 - 1)
    parts = profit.details
    earned = parts["profit"] - parts["spread"] - parts["slippage"] - parts["commission"]
    assert 1e6 * profit.value == pytest.approx(earned - parts["financing"], abs=1e-3)
    assert parts["spread"] > 0


def test_an_incident_or_a_silence_starts_the_hours_again(tmp_path):
    given, _, _ = inputs(days=10)
    path = tmp_path / "journal"
    with PaperAccount(path, TERMS) as account:
        feed(account, given[:12])
        account.incident(given[11].known + HOUR, "the feed was down")
        account.incident(given[11].known + HOUR, "the feed was down")
        feed(account, given[12:])
    hours = evidence(path)["paper_trading_hours"]
    assert hours.details["incident_count"] == 1
    assert hours.value == (given[-2].at - given[11].known - HOUR) / HOUR
    silent = [one for one in given if (getattr(one, "at", None) or one.known) < 2 * DAY]
    silent += [one for one in given if (getattr(one, "at", None) or one.known) >= 8 * DAY]
    written(tmp_path / "silent", silent)
    hours = evidence(tmp_path / "silent")["paper_trading_hours"]
    assert {one["reason"] for one in hours.details["incidents"]} == {
        "no prices for 168 hours",
        "no decision for 168 hours",
    }
    assert hours.value < 48


def test_without_a_trade_there_is_no_evidence_and_a_replay_says_so(tmp_path):
    replay = PaperTerms({}, TERMS.instruments, TERMS.terms, currencies=("JPY",), replayed=True)
    given, _, _ = inputs()
    written(tmp_path / "empty", [], replay)
    for one in evidence(tmp_path / "empty").values():
        assert one.value is None
        assert one.details["undefined"] == "no decision has been traded"
        assert one.details["replayed"] is True
    written(tmp_path / "replay", given, replay)
    assert "played again" in evidence(tmp_path / "replay")["paper_trading_hours"].convention


def test_ruin_is_an_incident_that_does_not_end(tmp_path):
    terms = PaperTerms(
        {}, (Instrument("A"), Instrument("B")),
        Terms(weighting=Weighting(rule="sign", min_names=1), limits=Limits(gross=1.0)),
    )  # fmt: skip
    given = [
        Prices(DAY, {"A": 1.0, "B": 1.0}),
        Decision("d", DAY + 1, {"A": -1.0}),
        Prices(2 * DAY, {"A": 1.0, "B": 1.0}),
        Prices(3 * DAY, {"A": 3.0, "B": 1.0}),
        Decision("e", 3 * DAY + 1, {"A": 1.0}),
        Prices(4 * DAY, {"A": 9.0, "B": 1.0}),
    ]
    written(tmp_path / "journal", given, terms)
    found = evidence(tmp_path / "journal")
    assert found["paper_trading_hours"].value == 0.0
    assert found["paper_pnl_after_costs"].value == -2.0
    assert found["paper_pnl_after_costs"].details["ruined"] is True
    assert verify(tmp_path / "journal") == []


def test_rates_come_from_the_pair_its_inverse_or_through_a_common_base():
    mid = {"EUR_USD": 1.25, "EUR_JPY": 150.0, "USD_CHF": 0.8, "GBP_USD": 1.5, "OIL": 70.0}
    found = rates_into("USD", ["JPY", "CHF", "GBP", "NOK"], mid)
    assert found == pytest.approx({"JPY": 1.25 / 150.0, "CHF": 1.25, "GBP": 1.5})
    assert quote_currencies([*mid, "EUR_NOK"], "USD") == ("CHF", "JPY", "NOK")
    assert instrument_of("EUR_JPY") == Instrument("EUR_JPY", quote="JPY", base="EUR")
    assert instrument_of("OIL") == Instrument("OIL")
