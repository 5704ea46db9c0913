"""One account, one arithmetic: what a signal earns in a backtest and on paper.

1. :mod:`~assay.portfolio.terms` says what is assumed: how scores become a book, caps, costs,
   financing, delay.
2. :mod:`~assay.portfolio.weights` makes the book that a row of scores aims at.
3. :mod:`~assay.portfolio.step` takes accounts through one event: mark, finance, trade, charge. It
   is the only code that does.
4. :mod:`~assay.portfolio.history` drives it over history, for many accounts at once;
   :mod:`~assay.portfolio.controls` asks whether chance would have done as well.
"""

from assay.portfolio.history import Decisions, PriceHistory, Track, simulate_history
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
    "Decisions",
    "Financing",
    "Instrument",
    "Limits",
    "PriceHistory",
    "Terms",
    "Track",
    "TradingCosts",
    "Weighting",
    "simulate_history",
    "target_weights",
]
