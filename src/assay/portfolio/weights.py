"""From scores to the book that is aimed at.

Every number of a date's book comes from that date's row alone, and each row is computed in the same
order of operations however many are asked for at once: a backtest that makes ten years of books and
a paper account that makes one get the same bits.
"""

from __future__ import annotations

import numpy as np

from assay.portfolio.terms import Weighting
from assay.statistics.panel import BoolArray, FloatArray
from assay.statistics.statistic import overflow_becomes_undefined

LANES = 8


def fixed_sum(values: FloatArray) -> FloatArray:
    """Sums over the last axis, in an order that depends on its length alone.

    ``numpy.sum`` adds in an order that depends on the shape and layout of what it is given, so that
    one row alone and the same row among others can differ in their last bits. Here eight lanes are
    added from first to last, lane k taking the elements k, k + 8, ..., and then in pairs.
    """
    size = values.shape[-1]
    whole = size - size % LANES
    body = values[..., :whole].reshape(*values.shape[:-1], whole // LANES, LANES)
    lanes = np.add.reduce(body, axis=-2)
    lanes[..., : size - whole] += values[..., whole:]
    pairs = lanes[..., 0::2] + lanes[..., 1::2]
    fours = pairs[..., 0::2] + pairs[..., 1::2]
    sums: FloatArray = fours[..., 0] + fours[..., 1]
    return sums


@overflow_becomes_undefined
def target_weights(
    scores: FloatArray,
    weighting: Weighting,
    *,
    cap: float | None = None,
    volatility: FloatArray | None = None,
) -> FloatArray:
    """The books of scores, shape (..., N): zero where there is no score or nothing to choose.

    A book is scaled to gross 1 (or its target volatility), then each position is cut to ``cap``: a
    cut book is smaller, it is not levered up again. Scores that are NaN or infinite are none; so
    are, where the weighting needs one, those without a finite volatility above 0. Depends on
    relative scores only; never raises, never gives NaN.
    """
    scored = np.isfinite(scores)
    if weighting.needs_volatility:
        known = np.zeros_like(scored) if volatility is None else np.isfinite(volatility)
        scored = scored & known & (np.nan_to_num(0.0 if volatility is None else volatility) > 0.0)
    raw = _by_rule(scores, scored, weighting)
    if volatility is not None and weighting.inverse_volatility:
        # In units of the smallest, so that no quotient overflows.
        smallest = np.where(scored, volatility, np.inf).min(axis=-1, keepdims=True, initial=np.inf)
        raw = np.where(scored, raw * (smallest / np.where(scored, volatility, 1.0)), 0.0)
    gross = fixed_sum(np.abs(raw))[..., None]
    weights = raw / np.where(gross > 0.0, gross, 1.0)
    if volatility is not None and weighting.target_volatility is not None:
        each = np.where(scored, weights * np.where(scored, volatility, 0.0), 0.0)
        expected = np.sqrt(fixed_sum(each * each))[..., None]
        weights = weights * np.where(
            expected > 0.0, weighting.target_volatility / np.where(expected > 0.0, expected, 1.0), 0
        )
        weights = np.where(np.isfinite(weights), weights, 0.0)
    return weights if cap is None else np.clip(weights, -cap, cap)


def _by_rule(scores: FloatArray, scored: BoolArray, weighting: Weighting) -> FloatArray:
    count = scored.sum(axis=-1, keepdims=True)
    enough = count >= weighting.min_names
    low = np.where(scored, scores, np.inf).min(axis=-1, keepdims=True, initial=np.inf)
    high = np.where(scored, scores, -np.inf).max(axis=-1, keepdims=True, initial=-np.inf)
    # In units of the largest score: a book depends on relative scores only, and sums stay finite.
    size = np.maximum(np.abs(low), np.abs(high))
    if weighting.rule in {"sign", "proportional"}:
        chooses = scored & enough & (size > 0.0)
        filled = np.where(chooses, scores / np.where(size > 0.0, size, 1.0), 0.0)
        return np.sign(filled) if weighting.rule == "sign" else filled
    # Equal scores must give no book at all: their rounding errors, scaled to gross 1, would be one.
    spread = high / size - low / size > 64 * np.finfo(float).eps
    chooses = scored & enough & spread
    if weighting.rule == "rank":
        filled = np.where(chooses, average_ranks(scores, scored), 0.0)
    else:
        filled = np.where(chooses, scores / size, 0.0)
    mean = fixed_sum(filled)[..., None] / np.maximum(count, 1)
    return np.where(chooses, filled - mean, 0.0)


def average_ranks(scores: FloatArray, scored: BoolArray) -> FloatArray:
    """Ranks from 1 among the scored of each row, ties sharing their average; shape (..., N)."""
    places = np.where(scored, scores, np.inf)
    order = np.argsort(places, axis=-1, kind="stable")
    ordered = np.take_along_axis(places, order, axis=-1)
    position = np.broadcast_to(np.arange(scores.shape[-1]), scores.shape)
    opens = np.ones(scores.shape, dtype=np.bool_)
    opens[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    closes = np.ones(scores.shape, dtype=np.bool_)
    closes[..., :-1] = opens[..., 1:]
    first = np.maximum.accumulate(np.where(opens, position, 0), axis=-1)
    size = scores.shape[-1]
    backwards = np.where(closes, position, size)[..., ::-1]
    last = np.minimum.accumulate(backwards, axis=-1)[..., ::-1]
    ranks = np.empty(scores.shape)
    np.put_along_axis(ranks, order, (first + last) / 2.0 + 1.0, axis=-1)
    return ranks
