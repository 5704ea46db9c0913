"""What a signal must beat before it is believed: returns dealt at random, and random signals.

The third control, trading one price late, is ``delay`` in the terms: a real signal decays a little,
a leak collapses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.errors import ContractViolation
from assay.portfolio.history import Moves, hold
from assay.portfolio.terms import Terms
from assay.portfolio.weights import fixed_sum, target_weights
from assay.statistics.panel import BoolArray, FloatArray, IntArray
from assay.statistics.statistic import number, overflow_becomes_undefined

_CALIBRATION_ROWS = 750
_CALIBRATION_CELLS = 100_000
_BISECTIONS = 14
_PERSISTENCE = (-0.99, 0.9999)
_CELLS_HELD = 16_000_000


@overflow_becomes_undefined
def label_shuffle(
    weights: FloatArray,
    returns: FloatArray,
    *,
    generator: np.random.Generator,
    shuffles: int = 100,
) -> dict[str, float | int]:
    """The control for luck and leaks: the same books on returns dealt out at random.

    Within each date the known returns are permuted among the instruments that have one, which
    keeps the market's moves and destroys any skill in choosing. Answers the share of shuffles
    whose gross mean over its standard deviation is at least the real one, (1 + #) / (1 + shuffles),
    and their mean and standard deviation. A book that keeps beating shuffled returns chooses; a
    shuffled mean far from zero says the books are not neutral.

    Parameters
    ----------
    weights: books, shape (T, N).
    returns: what each instrument returned while the book was held, shape (T, N); NaN where unknown.
    """
    priced = np.isfinite(returns)
    # Priced instruments first, in their own order; the random order below does the same.
    places = np.argsort(~priced, axis=1, kind="stable")
    placed = np.take_along_axis(np.where(priced, weights, 0.0), places, axis=1)
    known = np.where(priced, returns, 0.0)
    real = _ratio(fixed_sum(weights * known))
    found = np.empty(shuffles)
    for k in range(shuffles):
        deal = np.argsort(np.where(priced, generator.random(priced.shape), 2.0), axis=1)
        found[k] = _ratio(fixed_sum(placed * np.take_along_axis(known, deal, axis=1)))
    return {
        "shuffles": shuffles,
        "p_value": float((1 + (found >= real).sum()) / (1 + shuffles)),
        "mean_ratio": float(found.mean()),
        "sd_ratio": float(found.std()),
    }


@dataclass(frozen=True, slots=True, eq=False)
class Traded:
    """A market and what a signal did in it: all that its random controls must share.

    Attributes
    ----------
    times, moves, due, terms: what :func:`~assay.portfolio.history.hold` takes.
    scored: which instruments had a score at each decision, shape (D, N).
    aims: the books that the signal aimed at, shape (D, N).
    """

    times: IntArray
    moves: Moves
    due: IntArray
    terms: Terms
    scored: BoolArray
    aims: FloatArray


@overflow_becomes_undefined
def random_signals(
    traded: Traded, *, generator: np.random.Generator, controls: int = 100
) -> dict[str, float | int | None]:
    """The control for the market and the rules: signals of chance that trade as much.

    Each control is Gaussian noise with the autocorrelation at which its books trade as much from
    date to date as the real ones (found by bisection), scored where the real signal is scored, with
    the same weighting, caps and costs. Answers the share of controls whose net mean over its
    standard deviation is at least the real one, (1 + #) / (1 + controls); their mean and standard
    deviation; and both turnovers, so that a mismatch is seen. Signals that hardly ever change
    cannot be matched: the controls then trade more.
    """
    wanted = book_turnover(traded.aims)
    persistence = _persistence(traded, wanted, generator)
    days, names = traded.scored.shape
    batch = max(1, min(controls, _CELLS_HELD // max(days * names, 1)))
    ratios: list[float] = []
    turnovers: list[float] = []
    while len(ratios) < controls:
        aims = np.empty((min(batch, controls - len(ratios)), days, names))
        for aim in aims:
            scores = persistent_noise((1, days, names), persistence, generator)[0]
            aim[:] = _aims(np.where(traded.scored, scores, np.nan), traded.terms)
        track = hold(traded.times, traded.moves, aims, traded.due, traded.terms)
        ratios += [_ratio(series) for series in track.returns]
        turnovers += [book_turnover(aim) for aim in aims]
    track = hold(traded.times, traded.moves, traded.aims, traded.due, traded.terms)
    real, found = _ratio(track.returns[0]), np.array(ratios)
    return {
        "controls": controls,
        "p_value": float((1 + (found >= real).sum()) / (1 + controls)),
        "mean_ratio": number(found.mean()),
        "sd_ratio": number(found.std()),
        "turnover": number(np.mean(turnovers)),
        "turnover_of_the_signal": number(wanted),
        "autocorrelation": persistence,
    }


def book_turnover(aims: FloatArray) -> float:
    """Mean over dates of the sum of absolute changes of a book, shape (D, N), drift left out."""
    if len(aims) < 2:
        return 0.0
    return float(fixed_sum(np.abs(aims[1:] - aims[:-1])).mean())


def persistent_noise(
    shape: tuple[int, int, int], persistence: float, generator: np.random.Generator
) -> FloatArray:
    """Standard normal first-order autoregressions along the second axis of (S, D, N)."""
    if not -1.0 < persistence < 1.0:
        raise ContractViolation(f"autocorrelation {persistence}: expected between -1 and 1")
    noise = generator.standard_normal(shape)
    scale = np.sqrt(1.0 - persistence * persistence)
    for day in range(1, shape[1]):
        noise[:, day] = persistence * noise[:, day - 1] + scale * noise[:, day]
    return noise


def _persistence(traded: Traded, wanted: float, generator: np.random.Generator) -> float:
    scored = traded.scored[:_CALIBRATION_ROWS]
    seed = int(generator.integers(2**63))
    several = min(16, max(1, _CALIBRATION_CELLS // max(scored.size, 1)))
    low, high = _PERSISTENCE
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        # The same noise each time, so that turnover falls steadily with persistence.
        noise = persistent_noise((several, *scored.shape), middle, np.random.default_rng(seed))
        aims = _aims(np.where(scored, noise, np.nan), traded.terms)
        if np.mean([book_turnover(aim) for aim in aims]) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _aims(scores: FloatArray, terms: Terms) -> FloatArray:
    unit = np.ones(scores.shape[-2:]) if terms.weighting.needs_volatility else None
    return target_weights(scores, terms.weighting, cap=terms.limits.position, volatility=unit)


def _ratio(series: FloatArray) -> float:
    spread = float(series.std(ddof=1)) if len(series) > 1 else 0.0
    return float(series.mean()) / spread if spread > 0 else 0.0
