"""Reliability diagrams and the expected calibration error, beside what chance alone would show.

The error of calibration is zero for no finite sample: a perfect forecaster near one half shows
0.097 over 250 rows and 15 bins. So it comes with what a perfect forecaster would have shown,
simulated for the same probabilities and bins.

Outcomes, probabilities and missing values are those of :mod:`~assay.statistics.calibration`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.errors import ContractViolation
from assay.statistics.calibration import Pairs, binned, pairs_of
from assay.statistics.panel import FloatArray, IntArray
from assay.statistics.statistic import LEVEL, Statistic, number, overflow_becomes_undefined

NORMAL_LIMIT_ROWS = 20_000
"""Above this many rows the simulated counts of a bin are drawn from their normal limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability(Statistic):
    """A number about a reliability diagram, with the diagram; arrays of shape (bins,).

    Attributes
    ----------
    edges: upper edge of each bin, which belongs to it.
    rows: rows in each bin, never 0.
    forecast, observed: mean probability and share of events.
    low, high: where ``observed`` lies for a perfect forecaster in 95 % of simulations, bin by bin;
        empty when nothing was simulated.
    """

    edges: FloatArray
    rows: IntArray
    forecast: FloatArray
    observed: FloatArray
    low: FloatArray
    high: FloatArray


@overflow_becomes_undefined
def calibration_error(
    outcome: npt.ArrayLike,
    probability: npt.ArrayLike,
    *,
    bins: int = 15,
    scheme: str = "mass",
    generator: np.random.Generator | None = None,
    simulations: int = 1000,
) -> Reliability:
    """Expected calibration error (ECE) with what a perfect forecaster would have shown.

    ``value`` is the plain error, sum over bins of (rows / all rows) |observed - mean forecast|
    (Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian
    binning", AAAI). It is biased upwards, so judge ``p_value``, or ``details["excess"]``: the error
    less the mean of the simulated null. ``p_value`` is (1 + simulated errors at least as large) /
    (1 + simulations), outcomes drawn with the forecast probabilities. The detail
    ``debiased_squared`` is the estimate of the squared error of Kumar, Liang and Ma (2019),
    "Verified uncertainty calibration", NeurIPS 32, sum of shares of ((observed - forecast)^2 -
    observed (1 - observed) / (rows - 1)): about zero, and often below, for a perfect forecaster;
    bins of one row add nothing.

    Parameters
    ----------
    bins: at most this many; equal edges are merged.
    scheme: ``mass`` for edges at quantiles of the probabilities, ``width`` for equal lengths of
        [0, 1]. An edge belongs to the bin below it.
    generator: without one nothing is simulated and there is no p-value.
    """
    convention = (
        f"expected calibration error (L1), {bins} bins of equal {scheme}, upper edges inclusive; "
        f"null: outcomes drawn with the forecast probabilities, {simulations} simulations"
    )
    _check(simulations)
    pairs = pairs_of(outcome, probability)
    if isinstance(pairs, str):
        return _no_reliability(convention, pairs)
    diagram = _diagram(pairs, bins, scheme, generator, simulations)
    rows, forecast, observed = diagram.rows, diagram.forecast, diagram.observed
    shares = rows / rows.sum()
    error = float(shares @ np.abs(observed - forecast))
    noise = np.where(rows > 1, observed * (1 - observed) / np.maximum(rows - 1, 1), 0.0)
    squared = np.where(rows > 1, (observed - forecast) ** 2 - noise, 0.0)
    details: dict[str, Any] = {
        **pairs.counts,
        "bins": len(rows),
        "smallest_bin": int(rows.min()),
        "debiased_squared": float(shares @ squared),
        "largest_bin_error": float(np.abs(observed - forecast).max()),
    }
    p_value = None
    if diagram.simulated is not None:
        null = np.abs(diagram.simulated - forecast) @ shares
        p_value = float((1 + (null >= error).sum()) / (1 + simulations))
        details |= {
            "null_mean": float(null.mean()),
            "null_quantile": float(np.quantile(null, LEVEL)),
            "level": LEVEL,
            "excess": error - float(null.mean()),
            "simulations": simulations,
        }
    return _reliability(diagram, convention, error, p_value, details)


@overflow_becomes_undefined
def reliability_curve(
    outcome: npt.ArrayLike,
    probability: npt.ArrayLike,
    *,
    bins: int = 10,
    scheme: str = "mass",
    generator: np.random.Generator | None = None,
    simulations: int = 1000,
) -> Reliability:
    """The reliability diagram with the band in which a perfect forecaster would lie.

    ``value`` is the largest distance of a bin from the diagonal in standard errors of a perfect
    forecaster, and ``p_value`` how often simulation gives one as large: the band is bin by bin, and
    of 20 bins one leaves it by chance; the p-value is for all of them together.

    Parameters are those of :func:`calibration_error`. Bins whose probabilities are all 0 or 1 have
    no standard error: an event that was called impossible and came gives no value but a reason.
    Missing values are treated as in :mod:`~assay.statistics.calibration`.
    """
    convention = (
        f"largest |observed - mean forecast| over its standard error under perfect calibration, "
        f"{bins} bins of equal {scheme}, upper edges inclusive; p over all bins, {simulations} "
        "simulations"
    )
    _check(simulations)
    pairs = pairs_of(outcome, probability)
    if isinstance(pairs, str):
        return _no_reliability(convention, pairs)
    diagram = _diagram(pairs, bins, scheme, generator, simulations)
    apart = diagram.observed - diagram.forecast
    certain = diagram.error <= 0.0
    if (certain & (np.abs(apart) > 1e-9)).any():
        return _no_reliability(convention, "an event that was given probability 0 or 1 went wrong")
    error = np.where(certain, np.inf, diagram.error)
    value = float(np.abs(apart / error).max())
    p_value = None
    if diagram.simulated is not None:
        null = np.abs((diagram.simulated - diagram.forecast) / error).max(axis=1)
        # Simulated and observed shares are the same fractions; they may differ in rounding.
        p_value = float((1 + (null >= value * (1 - 1e-12)).sum()) / (1 + simulations))
    outside = (
        int(((diagram.observed < diagram.low) | (diagram.observed > diagram.high)).sum())
        if diagram.simulated is not None
        else None
    )
    details = {**pairs.counts, "bins": len(diagram.rows), "bins_outside_their_band": outside}
    return _reliability(diagram, convention, value, p_value, details)


@dataclass(frozen=True, slots=True)
class _Diagram:
    edges: FloatArray
    rows: IntArray
    forecast: FloatArray
    observed: FloatArray
    error: FloatArray
    simulated: FloatArray | None
    low: FloatArray
    high: FloatArray


def _diagram(
    pairs: Pairs,
    bins: int,
    scheme: str,
    generator: np.random.Generator | None,
    simulations: int,
) -> _Diagram:
    y, p = pairs.outcome, pairs.probability
    places, edges = binned(p, bins, scheme)
    rows = np.bincount(places)
    variance = np.bincount(places, p * (1 - p))
    forecast = np.bincount(places, p) / rows
    simulated, low, high = None, np.empty(0), np.empty(0)
    if generator is not None:
        order = np.argsort(places, kind="stable")
        starts = np.concatenate(([0], np.cumsum(rows)[:-1]))
        simulated = np.empty((simulations, len(rows)))
        for bin_, (start, count) in enumerate(zip(starts, rows, strict=True)):
            inside = p[order[start : start + count]]
            hits = _simulated_hits(inside, float(variance[bin_]), generator, simulations)
            simulated[:, bin_] = hits / count
        low, high = np.quantile(simulated, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return _Diagram(
        edges=edges,
        rows=rows,
        forecast=forecast,
        observed=np.bincount(places, y) / rows,
        error=np.sqrt(variance) / rows,
        simulated=simulated,
        low=low,
        high=high,
    )


def _simulated_hits(
    probability: FloatArray, variance: float, generator: np.random.Generator, simulations: int
) -> FloatArray:
    size = len(probability)
    if size > NORMAL_LIMIT_ROWS and variance > 1000.0:
        drawn = probability.sum() + math.sqrt(variance) * generator.standard_normal(simulations)
        return np.asarray(np.clip(np.rint(drawn), 0, size), dtype=np.float64)
    hits = np.empty(simulations)
    together = max(1, 2_000_000 // size)
    for first in range(0, simulations, together):
        some = min(together, simulations - first)
        hits[first : first + some] = (generator.random((some, size)) < probability).sum(axis=1)
    return hits


def _check(simulations: int) -> None:
    if simulations < 1:
        raise ContractViolation(f"{simulations} simulations: expected at least 1")


def _reliability(
    diagram: _Diagram,
    convention: str,
    value: float,
    p_value: float | None,
    details: dict[str, Any],
) -> Reliability:
    return Reliability(
        value=number(value),
        sample_size=int(diagram.rows.sum()),
        convention=convention,
        p_value=p_value,
        details=details,
        edges=diagram.edges,
        rows=diagram.rows,
        forecast=diagram.forecast,
        observed=diagram.observed,
        low=diagram.low,
        high=diagram.high,
    )


def _no_reliability(convention: str, reason: str) -> Reliability:
    none = np.empty(0)
    return Reliability(
        value=None,
        sample_size=0,
        convention=convention,
        undefined=reason,
        edges=none,
        rows=np.empty(0, dtype=np.int64),
        forecast=none,
        observed=none,
        low=none,
        high=none,
    )
