"""Resampling dates in blocks, so that dependence from date to date survives.

All models, and both sides of a pair, are resampled with the same dates. Nothing here draws without
a generator that was given. Resamples come as indices, shape (B, T), or as counts of how often each
date was drawn, shape (B, T): a product of counts with a matrix of returns gives the resampled sums
of all its columns at once.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from assay.errors import ContractViolation
from assay.statistics.panel import FloatArray, IntArray
from assay.statistics.samples import varying

Scheme = Literal["stationary", "circular"]


def stationary_indices(
    size: int, length: float, resamples: int, generator: np.random.Generator
) -> IntArray:
    """Dates drawn by the stationary bootstrap, shape (resamples, size).

    Blocks begin anywhere and go round the end; their lengths are geometric with mean ``length``:
    Politis and Romano (1994), "The stationary bootstrap", JASA 89.

    Raises
    ------
    ContractViolation: no dates, no resamples, or a mean length below 1.
    """
    _check(size, length, resamples)
    begins = generator.random((resamples, size)) * length < 1.0
    begins[:, 0] = True
    first = np.flatnonzero(begins)
    starts = generator.integers(0, size, len(first))
    # A date is as far from its block's start as its place is from the place where the block began.
    shift = np.repeat(starts - first, np.diff(first, append=begins.size))
    drawn = (shift + np.arange(begins.size)) % size
    return np.asarray(drawn.reshape(resamples, size), dtype=np.int64)


def circular_indices(
    size: int, length: int, resamples: int, generator: np.random.Generator
) -> IntArray:
    """Dates drawn by the circular block bootstrap, shape (resamples, size).

    Blocks of ``length`` begin anywhere and go round the end; the last is cut: Politis and Romano
    (1992), "A circular block-resampling procedure for stationary data".

    Raises
    ------
    ContractViolation: no dates, no resamples, or a length below 1.
    """
    _check(size, length, resamples)
    blocks = -(-size // length)
    starts = generator.integers(0, size, (resamples, blocks, 1))
    drawn = (starts + np.arange(length)).reshape(resamples, -1)[:, :size]
    return np.asarray(drawn % size, dtype=np.int64)


def counts(indices: IntArray, size: int) -> FloatArray:
    """How often each of ``size`` dates was drawn in each resample, float64 of shape (B, size)."""
    resamples = len(indices)
    cells = indices + (np.arange(resamples) * size)[:, None]
    found = np.bincount(cells.ravel(), minlength=resamples * size)
    return found.reshape(resamples, size).astype(np.float64)


def block_lengths(matrix: FloatArray, *, scheme: Scheme) -> FloatArray:
    """Block length that makes the error of the bootstrap's variance smallest, for each column.

    ``matrix`` has shape (T, K); a column that never varies gets 1. Politis and White (2004),
    "Automatic block-length selection for the dependent bootstrap", Econometric Reviews 23, with the
    correction of Patton, Politis and White (2009), Econometric Reviews 28. The bandwidth is twice
    the last lag before max(5, log10 T) autocorrelations in a row are within 2 sqrt(log10 T / T).
    At least 1, at most min(3 sqrt T, T/3). Not rounded.
    """
    size, columns = matrix.shape
    run = max(5, int(math.log10(size)))
    longest = min(math.ceil(math.sqrt(size)) + run, size - 1)
    covariances = autocovariances(matrix, longest)
    variance = covariances[0]
    still = ~varying(matrix)
    correlations = np.abs(covariances / np.where(still, 1.0, variance))
    bandwidth = _bandwidth(correlations, run, 2 * math.sqrt(math.log10(size) / size))
    bandwidth = np.minimum(bandwidth, longest)
    lags = np.arange(1, longest + 1)[:, None]
    # The trapezoid: one up to half of the bandwidth, then down to zero at the bandwidth.
    window = np.clip(2 * (1 - lags / bandwidth), 0.0, 1.0)
    weighted = window * covariances[1:]
    slope = 2 * (lags * weighted).sum(axis=0)
    spectrum = variance + 2 * weighted.sum(axis=0)
    constant = 2.0 if scheme == "stationary" else 4.0 / 3.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        length = np.cbrt(2 * slope * slope / (constant * spectrum * spectrum) * size)
    most = max(1.0, math.ceil(min(3 * math.sqrt(size), size / 3)))
    # A spectrum of zero at frequency zero asks for endless blocks: the cap.
    length = np.where(np.isnan(length), most, length)
    return np.where(still, 1.0, np.clip(length, 1.0, most)).reshape(columns)


def autocovariances(matrix: FloatArray, lags: int) -> FloatArray:
    """Autocovariances at 0..lags of each column, divided by T, shape (lags + 1, K)."""
    size = len(matrix)
    centred = matrix - matrix.mean(axis=0)
    padded = next_fast_len(size + lags, real=True)
    power = np.abs(rfft(centred, padded, axis=0)) ** 2
    return np.asarray(irfft(power, padded, axis=0)[: lags + 1] / size)


def stationary_variance(matrix: FloatArray, length: float) -> FloatArray:
    """Variance of sqrt(T) times the resampled mean of each column under the stationary bootstrap.

    c_0 + 2 sum_{i<T} (1 - i/T)(1 - 1/length)^i c_i with c the circular autocovariances: equal to
    the kernel of Politis and Romano (1994) that Hansen (2005) divides by. Exact, no simulation.
    Shape (K,).
    """
    size = len(matrix)
    centred = matrix - matrix.mean(axis=0)
    lags = np.arange(size)
    stay = (1 - 1 / length) ** lags
    # c_i and c_(T-i) are the same number; summed over both, weights become symmetric.
    weights = (1 - lags / size) * stay
    weights[1:] += lags[1:] / size * stay[size - lags[1:]]
    power = np.abs(rfft(centred, axis=0)) ** 2
    spectrum = rfft(weights).real
    share = np.full(len(spectrum), 2.0)
    share[0] = 1.0
    if size % 2 == 0:
        share[-1] = 1.0
    return np.asarray((share * spectrum) @ power / (size * size))


def _bandwidth(correlations: FloatArray, run: int, critical: float) -> FloatArray:
    """Twice the first lag of a quiet run for each column; all lags where there is no such run."""
    longest = len(correlations) - 1
    quiet = correlations[1:] < critical
    if longest < run:
        return np.full(correlations.shape[1], max(longest, 1.0))
    whole = np.lib.stride_tricks.sliding_window_view(quiet, run, axis=0).all(axis=-1)
    first = np.where(whole.any(axis=0), np.argmax(whole, axis=0), longest)
    return 2.0 * (first + 1.0)


def _check(size: int, length: float, resamples: int) -> None:
    if size < 1 or resamples < 1:
        raise ContractViolation(
            f"{resamples} resamples of {size} dates: expected at least one of each"
        )
    if not 1.0 <= length < math.inf:
        raise ContractViolation(f"block length {length}: expected at least 1")
