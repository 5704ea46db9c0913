"""How far apart two samples of one number are: Kolmogorov and Smirnov, Wasserstein, missing rates.

Both samples are given whole and the answers are exact; :mod:`~assay.statistics.profile` gives the
same against a stored summary of one of them.

Missing values: rows that are NaN are no part of a distribution; how many there are is compared on
its own by :func:`missing_difference`. Infinite values have a place in the order, so the first test
takes them; a distance in units cannot.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import kolmogorov, ndtr

from assay.errors import ContractViolation
from assay.statistics.panel import FloatArray, columns_of
from assay.statistics.statistic import Statistic, number, overflow_becomes_undefined

MIN_EFFECTIVE = 4.0
"""Below n m / (n + m) of this many effective rows no limit law says anything."""

KS = (
    "largest distance between the two empirical distribution functions (Kolmogorov-Smirnov); "
    "two-sided p from the limit law at effective sample sizes, Stephens' correction"
)
WASSERSTEIN = "first Wasserstein distance over the standard deviation (population) of the reference"
MISSING = "share of missing rows less that of the reference; two-sided p, pooled normal test"


@overflow_becomes_undefined
def kolmogorov_smirnov(
    reference: npt.ArrayLike,
    current: npt.ArrayLike,
    *,
    effective_reference: float | None = None,
    effective_current: float | None = None,
) -> Statistic:
    """Whether two samples have one distribution; exact distance, also under ties.

    Smirnov (1948), "Table for estimating the goodness of fit of empirical distributions", Annals of
    Mathematical Statistics 19. With a million rows every distance is significant: judge the
    distance as well as the p-value.

    Parameters
    ----------
    reference, current: shapes (n,) and (m,); NaN is left out.
    effective_reference, effective_current: independent rows that each is worth, from
        :func:`~assay.statistics.effective.effective_size`; the number of rows when not given,
        which is right for independent rows only.
    """
    first, second = _known(reference, "reference"), _known(current, "current")
    problem = pair_problem(first, second)
    if problem is not None:
        return Statistic(
            value=None,
            sample_size=min(len(first), len(second)),
            convention=KS,
            undefined=problem,
        )
    first, second = np.sort(first), np.sort(second)
    places = np.concatenate((first, second))
    apart = np.searchsorted(first, places, side="right") / len(first) - np.searchsorted(
        second, places, side="right"
    ) / len(second)
    return ks_statistic(
        float(np.abs(apart).max()),
        (len(first), effective_reference),
        (len(second), effective_current),
    )


def ks_statistic(
    distance: float, reference: tuple[int, float | None], current: tuple[int, float | None]
) -> Statistic:
    """The test for a distance found, from rows and effective rows of either side.

    The p-value is the limit law at (sqrt(e) + 0.12 + 0.11 / sqrt(e)) D, e = n m / (n + m) of the
    effective sizes (Stephens 1970, "Use of the Kolmogorov-Smirnov, Cramer-von Mises and related
    statistics without extensive tables", Journal of the Royal Statistical Society B 32). Below
    :data:`MIN_EFFECTIVE` there is none.
    """
    sizes = [effective_rows(*side) for side in (reference, current)]
    pooled = sizes[0] * sizes[1] / (sizes[0] + sizes[1])
    rows = reference[0] * current[0] / (reference[0] + current[0])
    p_value = ks_p_value(distance, pooled)
    few = (
        f"Worth {pooled:.1f} independent rows: too few for a p-value, at least "
        f"{MIN_EFFECTIVE:g} are needed."
    )
    return Statistic(
        value=distance,
        sample_size=min(reference[0], current[0]),
        convention=KS,
        p_value=p_value,
        warnings=(few,) if p_value is None else (),
        details={
            "effective_reference": sizes[0],
            "effective_current": sizes[1],
            "p_value_if_independent": ks_p_value(distance, rows),
        },
    )


def ks_p_value(distance: float, pooled: float) -> float | None:
    """Upper tail of the distance at n m / (n + m) = ``pooled``; None for too few."""
    if pooled < MIN_EFFECTIVE:
        return None
    root = math.sqrt(pooled)
    return float(kolmogorov((root + 0.12 + 0.11 / root) * distance))


@overflow_becomes_undefined
def scaled_wasserstein(reference: npt.ArrayLike, current: npt.ArrayLike) -> Statistic:
    """First Wasserstein distance in units of the reference's standard deviation.

    0.1 says that a value has moved by a tenth of a standard deviation on average. Two samples of
    one distribution are about 1/sqrt(rows) apart. NaN is left out; an infinite value leaves no
    distance.
    """
    first, second = _known(reference, "reference"), _known(current, "current")
    problem = pair_problem(first, second)
    size = min(len(first), len(second))
    if problem is None and not (np.isfinite(first).all() and np.isfinite(second).all()):
        problem = "a value is infinite"
    if problem is not None:
        return Statistic(value=None, sample_size=size, convention=WASSERSTEIN, undefined=problem)
    distance, unit = wasserstein(first, second), spread(first)
    value = distance / unit if distance is not None and unit else None
    return Statistic(
        value=value,
        sample_size=size,
        convention=WASSERSTEIN,
        undefined=None if value is not None else "the reference has no spread",
        details={"distance": number(distance), "spread": number(unit)},
    )


@overflow_becomes_undefined
def missing_difference(
    *, reference_missing: int, reference_rows: int, current_missing: int, current_rows: int
) -> Statistic:
    """Share of missing rows now less the share then; positive when more are missing now.

    The p-value takes rows as independent; outages come in runs, so it is too sure for those.
    """
    for missing, rows in ((reference_missing, reference_rows), (current_missing, current_rows)):
        if not 0 <= missing <= rows:
            raise ContractViolation(f"{missing} missing of {rows} rows: expected a part of them")
    if not (reference_rows and current_rows):
        return Statistic(
            value=None, sample_size=0, convention=MISSING, undefined="one side has no rows"
        )
    then, now = reference_missing / reference_rows, current_missing / current_rows
    pooled = (reference_missing + current_missing) / (reference_rows + current_rows)
    error = math.sqrt(pooled * (1 - pooled) * (1 / reference_rows + 1 / current_rows))
    return Statistic(
        value=now - then,
        sample_size=min(reference_rows, current_rows),
        convention=MISSING,
        p_value=float(2 * ndtr(-abs(now - then) / error)) if error > 0 else 1.0,
        details={"reference": then, "current": now},
    )


def wasserstein(a: FloatArray, b: FloatArray) -> float | None:
    """The first Wasserstein distance of two samples, in their unit; NaN does not count.

    The area between the two empirical distribution functions (Vallender 1974). Infinities of one
    sign that take equal shares of both samples are no distance; otherwise the distance is infinite.
    None where a sample has no number.
    """
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not (a.size and b.size):
        return None
    for sign in (np.inf, -np.inf):
        # Compared as products: two shares may be equal without being equal floats.
        if int((a == sign).sum()) * b.size != int((b == sign).sum()) * a.size:
            return float("inf")
    shares = np.isfinite(a).mean()
    a, b = np.sort(a[np.isfinite(a)]), np.sort(b[np.isfinite(b)])
    if not a.size:
        return 0.0
    places = np.sort(np.concatenate([a, b]))
    below_a = np.searchsorted(a, places[:-1], side="right") / a.size
    below_b = np.searchsorted(b, places[:-1], side="right") / b.size
    with np.errstate(over="ignore"):
        # The widths first are halved: the whole range of floats is wider than the largest float.
        widths = places[1:] / 2 - places[:-1] / 2
        return float(2 * shares * (np.abs(below_a - below_b) * widths).sum())


def spread(values: FloatArray) -> float | None:
    """The standard deviation of the finite values (population); None where there is none.

    Exactly zero for equal values, whatever their mean rounds to.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    low, high = finite.min(), finite.max()
    if low == high:
        return 0.0
    # Scaled by the largest: the square of a large or small number leaves the range of floats.
    scale = max(abs(low), abs(high))
    return float((finite / scale).std() * scale)


def pair_problem(reference: FloatArray, current: FloatArray) -> str | None:
    """Why two samples cannot be compared, None when they can; neither may hold NaN."""
    if len(current) == 0:
        return "the current sample has no values"
    if len(reference) == 0:
        return "the reference has no values"
    if min(len(reference), len(current)) < 2:
        return "one value is no sample"
    low = reference.min()
    if low == reference.max():
        changed = int((current != low).sum())
        return (
            f"the reference never varies (it is always {float(low):.6g}); {changed} of "
            f"{len(current)} current values differ from it"
        )
    return None


def _known(values: npt.ArrayLike, name: str) -> FloatArray:
    array = columns_of(**{name: values})[name]
    return array[~np.isnan(array)]


def effective_rows(rows: float, effective: float | None) -> float:
    """``effective``, at most ``rows``; ``rows`` where it is None.

    Raises
    ------
    ContractViolation: not a positive number.
    """
    if effective is None:
        return float(rows)
    if not (math.isfinite(effective) and effective > 0):
        raise ContractViolation(f"effective size {effective}: expected a positive number")
    return min(effective, float(rows))
