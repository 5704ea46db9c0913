"""Shares of bins, then and now: population stability index, Kullback-Leibler, Jensen-Shannon.

Bins are cut at quantiles of the reference: equal edges are one, the outer bins are open, an edge
belongs to the bin below it, and missing values are a bin of their own as soon as either side has
one. Half a row is added to every bin, then shares are renormalised: an empty bin is no infinity.
Logarithms are natural.

Between two samples of one distribution the index is about chi-square with (bins - 1) degrees of
freedom times (1/n + 1/m) (Yurdakul 2018, "Statistical properties of population stability index",
Western Michigan University): with 60 rows against a long reference and ten bins 70 % of indices
exceed 0.1 through chance alone, so the customary limits mean nothing below some 250 independent
rows.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, chdtri

from assay.errors import ContractViolation
from assay.statistics.distances import MIN_EFFECTIVE, effective_rows, pair_problem
from assay.statistics.panel import FloatArray, columns_of
from assay.statistics.statistic import Statistic, overflow_becomes_undefined

BINS = 10
NULL_LEVEL = 0.99
"""Quantile of the null up to which a limit is widened for few rows."""

PSI = (
    "population stability index, sum (q - p) ln(q / p) over bins at unique quantiles of the "
    "reference, outer bins open, missing values their own bin, 0.5 added to each count; p from "
    "chi-square(bins - 1) times (1/n + 1/m) at effective sizes"
)
KL = (
    "Kullback-Leibler divergence of the current shares from the reference's, sum q ln(q / p), bins "
    "as for the stability index"
)
JS = (
    "Jensen-Shannon distance: root of the Jensen-Shannon divergence in nats (at most sqrt(ln 2)), "
    "bins as for the stability index"
)


@overflow_becomes_undefined
def population_stability(
    reference: npt.ArrayLike,
    current: npt.ArrayLike,
    *,
    bins: int = BINS,
    effective_reference: float | None = None,
    effective_current: float | None = None,
) -> Statistic:
    """The index between two samples given whole, shapes (n,) and (m,); NaN is a bin of its own.

    Infinite values belong to the outer bins. The effective sizes are those of
    :func:`~assay.statistics.distances.kolmogorov_smirnov`.
    """
    first, second = (
        columns_of(reference=reference)["reference"],
        columns_of(current=current)["current"],
    )
    known, seen = first[~np.isnan(first)], second[~np.isnan(second)]
    problem = pair_problem(known, seen)
    if problem is not None:
        return Statistic(
            value=None, sample_size=min(len(first), len(second)), convention=PSI, undefined=problem
        )
    edges = quantile_edges(known, bins)
    counts = [
        np.append(bin_counts(np.sort(part), edges), len(whole) - len(part)).astype(np.float64)
        for part, whole in ((known, first), (seen, second))
    ]
    return stability_index(
        counts[0],
        counts[1],
        effective_reference=effective_reference,
        effective_current=effective_current,
    )


def quantile_edges(known: FloatArray, bins: int) -> FloatArray:
    """Inner edges of at most ``bins`` bins with equally many rows of ``known`` (finite)."""
    if bins < 2:
        raise ContractViolation(f"{bins} bins: expected at least 2")
    return np.unique(np.quantile(known, np.arange(1, bins) / bins))


def bin_counts(ordered: FloatArray, edges: FloatArray) -> FloatArray:
    """Rows of a sorted sample in each bin, shape (edges + 1,)."""
    upto = np.searchsorted(ordered, edges, side="right")
    return np.diff(np.concatenate(([0], upto, [len(ordered)]))).astype(np.float64)


@overflow_becomes_undefined
def stability_index(
    reference: FloatArray,
    current: FloatArray,
    *,
    effective_reference: float | None = None,
    effective_current: float | None = None,
) -> Statistic:
    """The index from counts per bin, shape (bins,), the last one those of missing values.

    The p-value is the upper tail of the null at the effective sizes; ``details["null_quantile"]``
    is its 99 % quantile, up to which a limit should be widened. Too few effective rows have
    neither. :func:`divergences` gives the other forms of the same shares.
    """
    then, now = _shares(reference, current)
    bins = len(then)
    rows = float(reference.sum()), float(current.sum())
    n = effective_rows(rows[0], effective_reference)
    m = effective_rows(rows[1], effective_current)
    value = float(np.sum((now - then) * np.log(now / then)))
    judged = bins > 1 and n * m / (n + m) >= MIN_EFFECTIVE
    few = (
        f"Worth {n * m / (n + m):.1f} independent rows: too few to say what chance alone would "
        f"give, at least {MIN_EFFECTIVE:g} are needed."
    )
    return Statistic(
        value=value,
        sample_size=int(min(rows)),
        convention=PSI,
        p_value=float(chdtrc(bins - 1, value / (1 / n + 1 / m))) if judged else None,
        warnings=() if judged else (few,),
        details={
            "bins": bins,
            "effective_reference": n,
            "effective_current": m,
            "null_quantile": psi_null_quantile(bins, n, m) if judged else None,
            "null_level": NULL_LEVEL,
        },
    )


def psi_null_quantile(bins: int, n: float, m: float, *, level: float = NULL_LEVEL) -> float:
    """Quantile of the index between two samples of one distribution, of n and m effective rows."""
    if bins < 2:
        return 0.0
    return float(chdtri(bins - 1, 1.0 - level)) * (1.0 / n + 1.0 / m)


@overflow_becomes_undefined
def divergences(reference: FloatArray, current: FloatArray) -> tuple[Statistic, Statistic]:
    """Kullback-Leibler divergence and Jensen-Shannon distance from counts per bin.

    Kullback and Leibler (1951), "On information and sufficiency", Annals of Mathematical
    Statistics 22: not symmetric; the current shares are judged by the reference's. Lin (1991),
    "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 37:
    symmetric and bounded; its root is a distance, and the divergence is in the details.
    """
    then, now = _shares(reference, current)
    middle = (then + now) / 2
    leibler = max(0.0, float(np.sum(now * np.log(now / then))))
    shannon = (np.sum(then * np.log(then / middle)) + np.sum(now * np.log(now / middle))) / 2
    divergence = max(0.0, float(shannon))
    size = int(min(reference.sum(), current.sum()))
    details = {"bins": len(then)}
    return (
        Statistic(value=leibler, sample_size=size, convention=KL, details=details),
        Statistic(
            value=math.sqrt(divergence),
            sample_size=size,
            convention=JS,
            details={**details, "divergence": divergence},
        ),
    )


def _shares(reference: FloatArray, current: FloatArray) -> tuple[FloatArray, FloatArray]:
    if reference.shape != current.shape or reference.ndim != 1 or len(reference) < 2:
        raise ContractViolation(
            f"counts of shapes {reference.shape} and {current.shape}: expected the same (bins + 1,)"
        )
    used = slice(None) if reference[-1] or current[-1] else slice(-1)
    filled = reference[used] + 0.5, current[used] + 0.5
    return filled[0] / filled[0].sum(), filled[1] / filled[1].sum()
