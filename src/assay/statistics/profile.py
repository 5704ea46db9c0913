"""What each feature looked like when a model was trained, small enough to be stored with it.

1. :func:`profiles` reads columns one after the other and keeps a :class:`Profile` of each: edges
   and counts for the stability index, a grid of quantiles, means between them, shares of missing
   rows, and how many independent rows they are worth.
2. :func:`drifts` reads today's columns one after the other and compares each with its profile: one
   sort of a column serves every distance.

Memory is one column at a time when the columns come from a generator. Against the whole sample,
with a grid of K quantiles, the distance of Kolmogorov and Smirnov is at most 1/K too small, and the
Wasserstein distance at most by ``details["resolution"]``, usually a hundredth of that.

Missing values: NaN and infinite rows are no part of the distribution; together they are the share
of missing rows, and a bin of their own in the stability index.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.errors import ContractViolation, did_you_mean
from assay.statistics.distances import (
    KS,
    WASSERSTEIN,
    ks_statistic,
    missing_difference,
    spread,
)
from assay.statistics.effective import effective_size, finite_rows
from assay.statistics.panel import FloatArray, columns_of
from assay.statistics.stability import (
    BINS,
    JS,
    KL,
    PSI,
    bin_counts,
    divergences,
    quantile_edges,
    stability_index,
)
from assay.statistics.statistic import Statistic, overflow_becomes_undefined

ENOUGH_EFFECTIVE = 30.0
"""Independent rows from which a reference's own persistence is believed."""

CELLS = 1000
"""Cells of equal mass in the stored grid."""

_ARRAYS = ("edges", "counts", "grid", "below", "upto", "ends", "means")


@dataclass(frozen=True, slots=True)
class Profile:
    """A stored summary of one column.

    Attributes
    ----------
    rows, missing: all rows, and those that were NaN or infinite.
    effective: independent rows that the others are worth.
    unit: their standard deviation (population); 0 when they never vary.
    edges, counts: inner edges of the bins of the stability index, and rows in each bin.
    grid, below, upto: distinct quantiles at k / cells, and the shares of rows under and up to each.
    ends, means: all quantiles at k / cells, shape (cells + 1,), and the mean of the rows between
        each and the next, shape (cells,).
    """

    rows: int
    missing: int
    effective: float
    unit: float
    edges: FloatArray
    counts: FloatArray
    grid: FloatArray
    below: FloatArray
    upto: FloatArray
    ends: FloatArray
    means: FloatArray

    def to_json(self) -> dict[str, Any]:
        """JSON values that :meth:`from_json` turns into an equal profile, bit for bit."""
        return {
            "rows": self.rows,
            "missing": self.missing,
            "effective": self.effective,
            "unit": self.unit,
            **{name: getattr(self, name).tolist() for name in _ARRAYS},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Profile:
        """The profile of :meth:`to_json`.

        Raises
        ------
        ContractViolation: a key is missing.
        """
        absent = {"rows", "missing", "effective", "unit", *_ARRAYS} - set(document)
        if absent:
            raise ContractViolation(f"profile without {', '.join(sorted(absent))}")
        return cls(
            rows=int(document["rows"]),
            missing=int(document["missing"]),
            effective=float(document["effective"]),
            unit=float(document["unit"]),
            **{name: np.asarray(document[name], dtype=np.float64) for name in _ARRAYS},
        )


@dataclass(frozen=True, slots=True)
class Drift:
    """One column against its profile; each is judged on its own."""

    ks: Statistic
    wasserstein: Statistic
    psi: Statistic
    kl: Statistic
    js: Statistic
    missing: Statistic


@overflow_becomes_undefined
def profile(
    values: npt.ArrayLike,
    *,
    bins: int = BINS,
    cells: int = CELLS,
    effective: float | None = None,
) -> Profile:
    """The summary of one column, shape (rows,).

    Rows must be in order of time, or ``effective`` must say how many independent rows the finite
    ones are worth.
    """
    if cells < 1:
        raise ContractViolation(f"{cells} cells: expected at least 1")
    column = columns_of(values=values)["values"]
    known = finite_rows(column)
    ordered = np.sort(known)
    size = len(ordered)
    none = np.empty(0)
    if size == 0:
        return Profile(
            rows=len(column),
            missing=len(column),
            effective=0.0,
            unit=0.0,
            **dict.fromkeys(_ARRAYS, none),
        )
    ends = np.quantile(ordered, np.arange(cells + 1) / cells, method="inverted_cdf")
    grid = np.unique(ends)
    edges = quantile_edges(ordered, bins)
    return Profile(
        rows=len(column),
        missing=len(column) - size,
        effective=min(effective_size(known) if effective is None else effective, float(size)),
        unit=spread(ordered) or 0.0,
        edges=edges,
        counts=bin_counts(ordered, edges),
        grid=grid,
        below=np.searchsorted(ordered, grid, side="left") / size,
        upto=np.searchsorted(ordered, grid, side="right") / size,
        ends=ends,
        means=_cell_means(ordered, cells),
    )


@overflow_becomes_undefined
def drift(reference: Profile, values: npt.ArrayLike, *, effective: float | None = None) -> Drift:
    """One column against its profile; rows in order of time, or ``effective`` given.

    Without it the rows are taken to be as persistent as those of the reference; a reference worth
    fewer than :data:`ENOUGH_EFFECTIVE` rows cannot tell, and the more persistent of the two counts.
    NaN and infinite rows are counted as missing.
    """
    column = columns_of(values=values)["values"]
    known = finite_rows(column)
    size = len(known)
    away = missing_difference(
        reference_missing=reference.missing,
        reference_rows=reference.rows,
        current_missing=len(column) - size,
        current_rows=len(column),
    )
    problem = _problem(reference, known)
    if problem is not None:
        least = min(reference.rows - reference.missing, size)
        ks, distance, psi, kl, js = (
            Statistic(value=None, sample_size=least, convention=convention, undefined=problem)
            for convention in (KS, WASSERSTEIN, PSI, KL, JS)
        )
        return Drift(ks=ks, wasserstein=distance, psi=psi, kl=kl, js=js, missing=away)
    ordered = np.sort(known)
    known_then = reference.rows - reference.missing
    worth = max(1.0, min(effective or _worth(reference, known), float(size)))
    counts = (
        np.append(reference.counts, reference.missing),
        np.append(bin_counts(ordered, reference.edges), len(column) - size),
    )
    kl, js = divergences(*counts)
    return Drift(
        ks=ks_statistic(
            _largest_gap(reference, ordered), (known_then, reference.effective), (size, worth)
        ),
        wasserstein=_wasserstein(reference, ordered),
        psi=stability_index(
            *counts, effective_reference=reference.effective, effective_current=worth
        ),
        kl=kl,
        js=js,
        missing=away,
    )


def profiles(
    columns: Iterable[tuple[str, npt.ArrayLike]], *, bins: int = BINS, cells: int = CELLS
) -> dict[str, Profile]:
    """The profile of each named column; a generator of columns keeps one in memory at a time."""
    return {name: profile(values, bins=bins, cells=cells) for name, values in columns}


def drifts(
    references: Mapping[str, Profile], columns: Iterable[tuple[str, npt.ArrayLike]]
) -> dict[str, Drift]:
    """Each named column against the profile of its name.

    Raises
    ------
    ContractViolation: a column has no profile, or a profile gets no column.
    """
    found: dict[str, Drift] = {}
    for name, values in columns:
        if name not in references:
            raise ContractViolation(
                f"feature {name!r} has no stored profile", hint=did_you_mean(name, references)
            )
        found[name] = drift(references[name], values)
    absent = sorted(set(references) - set(found))
    if absent:
        raise ContractViolation(f"no values were given for {', '.join(absent[:5])}")
    return found


def _problem(reference: Profile, known: FloatArray) -> str | None:
    if reference.rows == reference.missing:
        return "the reference has no values"
    if len(known) < 2 or reference.rows - reference.missing < 2:
        return f"{len(known)} current values: at least 2 are needed on either side"
    if len(reference.grid) == 1:
        only = float(reference.grid[0])
        changed = int((known != only).sum())
        return (
            f"the reference never varies (it is always {only:.6g}); {changed} of {len(known)} "
            "current values differ from it"
        )
    return None


def _worth(reference: Profile, known: FloatArray) -> float:
    # Had nothing changed, the window would be as persistent as the reference. Its own persistence
    # must not excuse it: a feed that is stuck on one value would be worth a single row, and no test
    # of a single row raises an alarm. Only where the reference is too short to show how persistent
    # it is, the window is asked as well, unless it never varies.
    expected = len(known) * reference.effective / (reference.rows - reference.missing)
    if reference.effective >= ENOUGH_EFFECTIVE or known.min() == known.max():
        return expected
    return min(expected, effective_size(known))


def _largest_gap(reference: Profile, ordered: FloatArray) -> float:
    # Both one-sided limits at each point of the grid: atoms are compared exactly.
    size = len(ordered)
    under = np.searchsorted(ordered, reference.grid, side="left") / size - reference.below
    upto = np.searchsorted(ordered, reference.grid, side="right") / size - reference.upto
    return float(max(np.abs(under).max(), np.abs(upto).max()))


def _wasserstein(reference: Profile, ordered: FloatArray) -> Statistic:
    # The distance is the mean distance of equal quantiles. Cell by cell, the distance of means is
    # that, except where the two quantile functions cross inside the cell.
    cells = len(reference.means)
    size = len(ordered)
    means = _cell_means(ordered, cells)
    marks = np.arange(cells + 1) * (size / cells)
    low = ordered[np.minimum(np.floor(marks[:-1]).astype(np.int64), size - 1)]
    high = ordered[np.clip(np.ceil(marks[1:]).astype(np.int64) - 1, 0, size - 1)]
    crosses = (low < reference.ends[1:]) & (high > reference.ends[:-1])
    widths = (high - low) + (reference.ends[1:] - reference.ends[:-1])
    distance = float(np.abs(means - reference.means).mean())
    resolution = float((widths * crosses).sum() / (2 * cells))
    value = distance / reference.unit if reference.unit else math.nan
    return Statistic(
        value=value,
        sample_size=min(reference.rows - reference.missing, size),
        convention=f"{WASSERSTEIN}; from means between {cells} quantiles of the stored reference",
        details={
            "distance": distance,
            "spread": reference.unit,
            "resolution": resolution / reference.unit if reference.unit else None,
        },
    )


def _cell_means(ordered: FloatArray, cells: int) -> FloatArray:
    # Means of the quantile function over cells of equal mass; a row on the border of two cells
    # belongs to each with its share.
    size = len(ordered)
    marks = np.arange(cells + 1) * (size / cells)
    marks[-1] = size
    whole = np.minimum(np.floor(marks).astype(np.int64), size)
    part = marks - whole
    start = np.minimum(whole[:-1], size - 1)
    sums = np.add.reduceat(ordered, start)
    # reduceat gives the element itself for an empty stretch, where the sum is zero.
    sums = np.where(whole[1:] > whole[:-1], sums, 0.0)
    border = ordered[np.minimum(whole, size - 1)]
    sums += part[1:] * border[1:] - part[:-1] * border[:-1]
    return sums / (size / cells)
