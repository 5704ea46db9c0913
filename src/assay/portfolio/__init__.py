"""One account, one arithmetic: what a signal earns in a backtest and on paper.

1. :mod:`~assay.portfolio.terms` says what is assumed: how scores become a book, caps, costs,
   financing, delay.
2. :mod:`~assay.portfolio.weights` makes the book that a row of scores aims at.
3. :mod:`~assay.portfolio.step` takes accounts through one event: mark, finance, trade, charge. It
   is the only code that does.
4. :mod:`~assay.portfolio.history` drives it over history, for many accounts at once;
   :mod:`~assay.portfolio.controls` asks whether chance would have done as well.
5. :mod:`~assay.portfolio.account` drives it event by event, with the same bits;
   :mod:`~assay.portfolio.paper` keeps such an account in a journal on disk, and
   :mod:`~assay.portfolio.paper_record` says what the journal proves.
6. :mod:`~assay.portfolio.currencies` takes rates into the account's currency out of the prices of
   pairs.
"""

from assay.portfolio.account import Account, AccountState, Decision, Fill, Mark, Order, Prices
from assay.portfolio.currencies import instrument_of, quote_currencies, rates_into
from assay.portfolio.history import Decisions, PriceHistory, Track, simulate_history
from assay.portfolio.paper import PaperAccount, PaperTerms, read_journal, verify
from assay.portfolio.paper_record import PaperRecord, paper_evidence, read_record
from assay.portfolio.terms import (
    Financing,
    Instrument,
    Limits,
    Terms,
    TradingCosts,
    Weighting,
)
from assay.portfolio.weights import target_weights

__all__ = [
    "Account",
    "AccountState",
    "Decision",
    "Decisions",
    "Fill",
    "Financing",
    "Instrument",
    "Limits",
    "Mark",
    "Order",
    "PaperAccount",
    "PaperRecord",
    "PaperTerms",
    "PriceHistory",
    "Prices",
    "Terms",
    "Track",
    "TradingCosts",
    "Weighting",
    "instrument_of",
    "paper_evidence",
    "quote_currencies",
    "rates_into",
    "read_journal",
    "read_record",
    "simulate_history",
    "target_weights",
    "verify",
]
