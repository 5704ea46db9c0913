"""Exponentially weighted means and deviations whose weights fall off with time.

The weight of a row is ``2**-(age / halflife)``. A running sum would remember, in its last bits, the
row at which it began. So time is cut into tiles of equal length, counted from the epoch.
:func:`tile` keeps running sums that begin afresh with the first row of a tile; :func:`merge` brings
those of the last tiles together, newest first. Which rows share a tile depends on their times
alone, hence the value is a pure function of the rows since the beginning of the oldest tile.

Weight ``W``, ``Q = W**2 - V`` (``V`` the sum of squared weights), mean and sum of squared distances
``S`` are updated as
West (1979, "Updating mean and variance estimates: an improved method") and merged as Chan, Golub
and LeVeque (1983, "Algorithms for computing the sample variance") say; both keep their accuracy
where the level is large against the deviation. ``Q`` is kept as the sum of the products of pairs of
weights, twice, for where one row has nearly all of the weight, ``W**2`` and ``V`` cancel.
"""

from __future__ import annotations

import math

from assay.features.kernel.elementwise import NAN, finite, step
from assay.features.kernel.exponential import exponential
from assay.features.kernel.words import get, get_word, put, put_word

_LN2 = 0.6931471805599453


@step
def weight(age: int, halflife: float) -> float:
    """``2**-(age / halflife)``; both in nanoseconds."""
    return exponential(-(float(age) / halflife) * _LN2, 0.0)


@step
def tile_ordinal(state: int, out: int, times: int, length: int, count: int) -> None:
    """Number of the tile, counted from the epoch, that each time lies in (int64)."""
    for i in range(count):
        put_word(state, out + i, get_word(state, times + i) // length)


@step
def tile(
    state: int, out: int, stride: int, x: int, times: int, tiles: int, halflife: float, count: int
) -> None:
    """Five nodes: rows since the tile's first one (int64), ``W``, ``Q``, mean and ``S``."""
    weights, products = out + stride, out + 2 * stride
    means, distances = out + 3 * stride, out + 4 * stride
    for i in range(count):
        since = 0
        w, q, mean, s = 0.0, 0.0, 0.0, 0.0
        if get_word(state, tiles + i) == get_word(state, tiles + i - 1):
            since = get_word(state, out + i - 1) + 1
            age = get_word(state, times + i) - get_word(state, times + i - 1)
            decay = weight(age, halflife)
            w = get(state, weights + i - 1) * decay
            q = get(state, products + i - 1) * (decay * decay)
            mean = get(state, means + i - 1)
            s = get(state, distances + i - 1) * decay
        value = get(state, x + i)
        if value == value:  # noqa: PLR0124 - not NaN
            total = w + 1.0
            delta = value - mean
            # Away from the heavier of the two: the lighter one may be larger by many digits.
            mean = mean + delta / total if w >= 1.0 else value - delta * (w / total)
            s += delta * delta * (w / total)
            w, q = total, q + 2.0 * w
        put_word(state, out + i, since)
        put(state, weights + i, w)
        put(state, products + i, q)
        put(state, means + i, mean)
        put(state, distances + i, s)


@step
def merge(
    state: int,
    out: int,
    tiles: int,
    stride: int,
    times: int,
    windows: int,
    most: int,
    halflife: float,
    deviation: bool,
    count: int,
) -> None:
    """The weighted mean, or the standard deviation about it, over the tiles of each window.

    ``windows`` says how many rows they hold. The deviation is corrected for the degrees of freedom
    by ``W**2 / Q``.
    """
    weights, products = tiles + stride, tiles + 2 * stride
    means, distances = tiles + 3 * stride, tiles + 4 * stride
    for i in range(count):
        held = get_word(state, windows + i)
        now = get_word(state, times + i)
        w, q = get(state, weights + i), get(state, products + i)
        mean, s = get(state, means + i), get(state, distances + i)
        back = get_word(state, tiles + i) + 1
        while back < held:
            j = i - back
            decay = weight(now - get_word(state, times + j), halflife)
            other = get(state, weights + j) * decay
            if other > 0.0:
                total = w + other
                delta = get(state, means + j) - mean
                mean += delta * (other / total)
                s += get(state, distances + j) * decay + delta * delta * (w * (other / total))
                q += get(state, products + j) * (decay * decay) + 2.0 * w * other
                w = total
            back += get_word(state, tiles + j) + 1
        value = mean
        if deviation:
            value = math.sqrt((s / q) * w)
        put(state, out + i, finite(value) if (held <= most) & (w > 0.0) else NAN)
