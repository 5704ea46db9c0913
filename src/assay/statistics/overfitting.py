"""Whether choosing the best of many backtests chooses luck: combinatorially symmetric splits.

Bailey, Borwein, Lopez de Prado and Zhu (2017), "The probability of backtest overfitting", Journal
of Computational Finance 20(4).

1. The dates are cut into S blocks of equal length; the oldest T mod S dates are left out.
2. Each choice of S/2 blocks is in-sample once, the rest is out of sample.
3. The trial with the best Sharpe ratio in-sample is ranked out of sample among all N (average
   ranks); w = rank/(N+1), logit = log(w/(1-w)).
4. The probability of overfitting is the share of logits <= 0.

**This convention fails closed.** Others divide by N, or count only logits < 0: identical trials
then have probability 0, here 1. **Noise gives 0.5 on average, and anything from 0.2 to 0.8 is
common**: read it beside the band of noise for its own N and S.

A missing or infinite return gives no value: leaving the trial out would flatter the rest. A trial
without a position for half of the dates has a ratio of 0 there; one that earns the same amount on
half of the dates has none, and there is no value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt

from assay.errors import ContractViolation
from assay.statistics.overfitting_null import null_band
from assay.statistics.panel import FloatArray, IntArray
from assay.statistics.samples import ROUNDING, matrix_of
from assay.statistics.statistic import LEVEL, Statistic, number, overflow_becomes_undefined

MOST_BLOCKS = 20
CELLS = 2**14
"""Ratios worked on at a time. The arrays stay in the cache, and products this small are computed on
one thread: on a busy machine threads that wait for each other cost ten times as much."""

TIE = 1e-9
"""Ratios this close are ties: copies of a trial, levered or not, differ by rounding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overfitting(Statistic):
    """The probability of overfitting with the distribution behind it.

    Attributes
    ----------
    logits: of the chosen trial's rank out of sample, one per split, shape (C,).
    in_sample, out_of_sample: Sharpe ratio per period of the chosen trial in each half, shape (C,).
    chosen: index of the trial that was best in-sample, shape (C,).
    null_interval: where the probability falls with 95 % probability when all trials are
        independent noise; None when that was not simulated for these N and S.
    """

    logits: FloatArray = field(default_factory=lambda: np.empty(0))
    in_sample: FloatArray = field(default_factory=lambda: np.empty(0))
    out_of_sample: FloatArray = field(default_factory=lambda: np.empty(0))
    chosen: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    null_interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class _Splits:
    """One row per split: the chosen trial, its ratios in both halves, its rank out of sample."""

    chosen: IntArray
    inside: FloatArray
    outside: FloatArray
    ranks: FloatArray


@overflow_becomes_undefined
def probability_of_overfitting(
    returns: npt.ArrayLike,
    *,
    blocks: int = 16,
    purge: int = 0,
    generator: np.random.Generator | None = None,
    repetitions: int = 200,
) -> Overfitting:
    """Share of symmetric splits in which the best trial in-sample is not above the median outside.

    ``returns`` have shape (T, N): one row per date, one column per trial, **every** trial that was
    run. ``purge`` takes that many dates off the in-sample half wherever it meets the other half,
    on both sides: labels spanning h dates need h - 1. The band of noise comes from a table; with a
    ``generator`` it is simulated (``repetitions`` times) for these N and S, and ``p_value`` is the
    chance that independent noise has a probability this low, (1 + #)/(B + 1).

    The details hold the slope of out-of-sample on in-sample ratios, the probability of a loss out
    of sample, and the median logit.

    Raises
    ------
    ContractViolation: not of shape (T, N), blocks odd or outside 4..20, purge negative, or no
        repetitions.
    """
    if blocks % 2 or not 4 <= blocks <= MOST_BLOCKS:
        raise ContractViolation(f"{blocks} blocks: expected an even number, 4 to {MOST_BLOCKS}")
    if purge < 0 or repetitions < 1:
        raise ContractViolation(
            f"purge {purge}, {repetitions} repetitions: expected at least 0 and at least 1"
        )
    convention = (
        f"probability of backtest overfitting by CSCV, {blocks} blocks, Sharpe ratio, "
        f"rank/(N+1), logit <= 0, {purge} dates purged at joins; Bailey, Borwein, Lopez de Prado "
        "and Zhu (2017), Journal of Computational Finance 20(4)"
    )
    matrix = matrix_of(returns, what="returns of trials")
    problem = matrix if isinstance(matrix, str) else _problem(matrix, blocks, purge)
    if isinstance(matrix, str) or problem is not None:
        size = len(np.asarray(returns))
        return Overfitting(value=None, sample_size=size, convention=convention, undefined=problem)
    size, trials = matrix.shape
    used = matrix[size % blocks :]
    splits = _split(used, blocks, purge)
    share = splits.ranks / (trials + 1)
    logits = np.log(share / (1 - share))
    value = float((logits <= 0).mean())
    band, p_value = _noise(value, trials, blocks, generator, repetitions)
    return Overfitting(
        value=value,
        sample_size=len(used),
        convention=convention,
        p_value=p_value,
        warnings=_warnings(used, blocks, band),
        details={
            "trials": trials,
            "blocks": blocks,
            "dates_left_out": size % blocks,
            "null_interval": None if band is None else list(band),
            **_described(splits, logits),
        },
        logits=logits,
        in_sample=splits.inside,
        out_of_sample=splits.outside,
        chosen=splits.chosen,
        null_interval=band,
    )


def _described(splits: _Splits, logits: FloatArray) -> dict[str, float | int | None]:
    return {
        "splits": len(logits),
        "slope": number(_slope(splits.inside, splits.outside)),
        "probability_of_loss": float((splits.outside < 0).mean()),
        "median_logit": float(np.median(logits)),
        "most_chosen_trial": int(np.bincount(splits.chosen).argmax()),
    }


def _noise(
    value: float,
    trials: int,
    blocks: int,
    generator: np.random.Generator | None,
    repetitions: int,
) -> tuple[tuple[float, float] | None, float | None]:
    """The band of noise, and how often noise is as low as ``value``, if that is to be simulated."""
    if generator is None:
        return null_band(trials, blocks), None
    found = simulate_null(trials, blocks, repetitions=repetitions, generator=generator)
    tail = (1 - LEVEL) / 2
    band = float(np.quantile(found, tail)), float(np.quantile(found, 1 - tail))
    return band, (1 + int((found <= value).sum())) / (repetitions + 1)


def simulate_null(
    trials: int, blocks: int, *, repetitions: int, generator: np.random.Generator
) -> FloatArray:
    """Probabilities of overfitting of independent noise, shape (repetitions,).

    Over long blocks the Sharpe ratio of noise is its mean in units of a standard deviation that
    does not vary, so sums of blocks are drawn instead of returns. A factor common to all trials
    adds the same to each and changes no rank: equally correlated trials have the same distribution.
    Clusters of correlated trials have a wider one, near that of as many trials as clusters.
    """
    choices = _choices(blocks)
    found = np.empty(repetitions)
    for k in range(repetitions):
        sums = generator.standard_normal((blocks, trials))
        total = sums.sum(axis=0)
        low = 0
        for rows in _chunks(len(choices), trials):
            inside = choices[rows] @ sums
            outside = total - inside
            for one, other in ((inside, outside), (outside, inside)):
                ranks = _ranked(one, other).ranks
                low += int((2 * ranks <= trials + 1).sum())
        found[k] = low / (2 * len(choices))
    return found


def _split(returns: FloatArray, blocks: int, purge: int) -> _Splits:
    """The chosen trial and its rank for every split; a split and its complement share the work."""
    spread = returns.std(axis=0)
    scaled = returns / np.where(spread > 0, spread, 1.0)
    mean = scaled.mean(axis=0)
    # About its mean a sum of squares loses no digits to the mean.
    cut = (scaled - mean).reshape(blocks, -1, returns.shape[1])
    sums, squares = _sums(cut, purge), _sums(np.square(cut), purge)
    choices = _choices(blocks)
    parts = []
    for rows in _chunks(len(choices), returns.shape[1]):
        halves = choices[rows], 1.0 - choices[rows]
        whole = [_ratios(half, _length(half, cut), sums, squares, mean) for half in halves]
        inside = whole
        if purge:
            weights = [_off_joins(half) for half in halves]
            inside = [
                _ratios(each, _length(each, cut, purge), sums, squares, mean) for each in weights
            ]
        parts += [_ranked(inside[0], whole[1]), _ranked(inside[1], whole[0])]
    return _Splits(
        chosen=np.concatenate([part.chosen for part in parts]),
        inside=np.concatenate([part.inside for part in parts]),
        outside=np.concatenate([part.outside for part in parts]),
        ranks=np.concatenate([part.ranks for part in parts]),
    )


def _choices(blocks: int) -> FloatArray:
    """The halves that hold the first block, as rows of zeros and ones; the rest are complements."""
    others = np.array(list(combinations(range(1, blocks), blocks // 2 - 1)), dtype=np.int64)
    found = np.zeros((len(others), blocks))
    found[:, 0] = 1.0
    np.put_along_axis(found, others, 1.0, axis=1)
    return found


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, CELLS // columns)
    return (slice(start, start + step) for start in range(0, rows, step))


def _sums(cut: FloatArray, purge: int) -> FloatArray:
    """Sums of blocks, shape (S, N); with a purge also of their first and last dates, (3S, N)."""
    whole = cut.sum(axis=1)
    if not purge:
        return np.asarray(whole)
    return np.concatenate((whole, cut[:, :purge].sum(axis=1), cut[:, -purge:].sum(axis=1)))


def _off_joins(half: FloatArray) -> FloatArray:
    """Weights on the sums of blocks, their heads and their tails: heads and tails at joins go."""
    edge = np.ones((len(half), 1))
    before = np.concatenate((edge, half[:, :-1]), axis=1)
    after = np.concatenate((half[:, 1:], edge), axis=1)
    return np.concatenate((half, -half * (1 - before), -half * (1 - after)), axis=1)


def _length(weights: FloatArray, cut: FloatArray, purge: int = 0) -> FloatArray:
    """Dates behind each row of weights, shape (splits, 1)."""
    blocks, length, _ = cut.shape
    dates = length * weights[:, :blocks].sum(axis=1) + purge * weights[:, blocks:].sum(axis=1)
    return np.asarray(dates[:, None])


def _ratios(
    weights: FloatArray, size: FloatArray, sums: FloatArray, squares: FloatArray, mean: FloatArray
) -> FloatArray:
    """Sharpe ratio of each trial on each half, shape (splits, N)."""
    used = weights.shape[1]
    average = weights @ sums[:used]
    average /= size
    square = weights @ squares[:used]
    square /= size
    variance = square - average * average
    # A half without a position has a mean of zero up to rounding: a ratio of zero, not 0/0.
    square *= 1e-12
    np.maximum(variance, square, out=variance)
    np.maximum(variance, 1e-30, out=variance)
    variance *= size / (size - 1)
    np.sqrt(variance, out=variance)
    average += mean
    average /= variance
    return np.asarray(average)


def _ranked(inside: FloatArray, outside: FloatArray) -> _Splits:
    rows = np.arange(len(inside))
    chosen = np.argmax(inside, axis=1)
    found = outside[rows, chosen]
    near = TIE * (1 + np.abs(found))
    below = np.count_nonzero(outside < (found - near)[:, None], axis=1)
    not_above = np.count_nonzero(outside <= (found + near)[:, None], axis=1)
    # The average of the places that the ties (itself among them) take.
    ranks = (below + not_above + 1) / 2
    return _Splits(chosen.astype(np.int64), inside[rows, chosen], found, ranks)


def _problem(returns: FloatArray, blocks: int, purge: int) -> str | None:
    size, trials = returns.shape
    if trials < 2:
        return "one trial: there was nothing to choose from"
    length = size // blocks
    if length < 2 + 2 * purge:
        return (
            f"{size} dates in {blocks} blocks of {length}: at least {2 + 2 * purge} a block are "
            "needed"
        )
    cut = returns[size % blocks :].reshape(blocks, length, trials)
    low, high = cut.min(axis=1), cut.max(axis=1)
    still = (high - low <= ROUNDING * np.maximum(np.abs(low), np.abs(high))) & (high != 0)
    for trial in np.flatnonzero(still.sum(axis=0) >= blocks // 2):
        _, times = np.unique(high[still[:, trial], trial], return_counts=True)
        if times.max() >= blocks // 2:
            return f"trial {trial} earns the same amount on half of the dates: it has no error"
    return None


def _warnings(
    returns: FloatArray, blocks: int, band: tuple[float, float] | None
) -> tuple[str, ...]:
    warnings = []
    trials = returns.shape[1]
    size = np.abs(returns).max(axis=0)
    shapes = np.round(returns / np.where(size > 0, size, 1.0), 9).T
    copies = trials - len({row.tobytes() for row in np.ascontiguousarray(shapes)})
    if copies:
        warnings.append(
            f"{copies} of {trials} trials are copies of another, levered or not: the probability "
            "counts them, and is higher for it."
        )
    idle = int((~returns.reshape(blocks, -1, trials).any(axis=1)).sum(axis=0).max())
    if idle >= blocks // 2:
        warnings.append("A trial holds nothing for half of the dates: its ratio there counts as 0.")
    if band is None:
        warnings.append("How often noise does as well was not simulated: give a generator.")
    if trials < 10:
        warnings.append(f"{trials} trials: ranks among so few say little.")
    return tuple(warnings)


def _slope(inside: FloatArray, outside: FloatArray) -> float:
    """Least-squares slope of out-of-sample on in-sample ratios; NaN when the latter are equal."""
    centred = inside - inside.mean()
    spread = float(centred @ centred)
    if not spread > ROUNDING * float(inside @ inside):
        return math.nan
    return float(centred @ outside) / spread
