"""Forecast probabilities: do events come as often as they were said to.

Throughout, ``outcome`` is 1 where the event came and 0 where not, ``probability`` is what was said
before, both of shape (rows,). Rows are taken as independent: for many instruments on the same dates
intervals and p-values are too sure, and the number of dates bounds what can be known.

Missing values: a row without an outcome is left out and counted. A probability may be missing on at
most 1 % of the others, or there is no value. Neither is there one when a probability lies outside
[0, 1], an outcome is neither 0 nor 1, every outcome is the same, or there are fewer than
:data:`MIN_ROWS` rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtri

from assay.errors import ContractViolation
from assay.statistics.panel import FloatArray, IntArray, columns_of
from assay.statistics.statistic import LEVEL, Statistic, overflow_becomes_undefined

MIN_ROWS = 10
"""Below this many rows nothing about probabilities can be seen."""

MAX_MISSING = 0.01
"""Largest share of rows with an outcome on which the model may have said nothing."""

CLIP = 1e-15
"""Probabilities are moved this far from 0 and 1 before a logarithm is taken."""

SCHEMES = ("mass", "width")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Outcomes and probabilities that can be judged, with what was left out."""

    outcome: FloatArray
    probability: FloatArray
    counts: dict[str, Any]


@overflow_becomes_undefined
def brier(
    outcome: npt.ArrayLike,
    probability: npt.ArrayLike,
    *,
    bins: int | None = None,
    scheme: str = "mass",
) -> Statistic:
    """Mean squared difference of outcome and probability; 0 is perfect, lower is better.

    Brier (1950), "Verification of forecasts expressed in terms of probability", Monthly Weather
    Review 78. The details split it as Murphy (1973), "A new vector partition of the probability
    score", Journal of Applied Meteorology 12: reliability - resolution + uncertainty, exactly when
    one group holds one distinct probability (``bins`` None). With bins, two more terms are needed
    to add up: + within-bin variance - within-bin covariance (Stephenson, Coelho and Jolliffe 2008,
    "Two extra components in the Brier score decomposition", Weather and Forecasting 23).
    ``details["skill"]`` is 1 - Brier / uncertainty: how much better than always saying the base
    rate of this very sample. Missing values: as the module says.
    """
    grouping = "per distinct probability" if bins is None else f"{bins} bins of equal {scheme}"
    convention = f"mean squared error of the probability (Brier), Murphy decomposition {grouping}"
    pairs = pairs_of(outcome, probability)
    if isinstance(pairs, str):
        return Statistic(value=None, sample_size=0, convention=convention, undefined=pairs)
    y, p = pairs.outcome, pairs.probability
    if bins is None:
        _, places = np.unique(p, return_inverse=True)
    else:
        places, _ = binned(p, bins, scheme)
    rows = np.bincount(places)
    forecast, observed = np.bincount(places, p) / rows, np.bincount(places, y) / rows
    base, size = float(y.mean()), len(y)
    inside_p, inside_y = p - forecast[places], y - observed[places]
    value = float(((p - y) ** 2).mean())
    return Statistic(
        value=value,
        sample_size=size,
        convention=convention,
        details={
            **pairs.counts,
            "reliability": float(rows @ (forecast - observed) ** 2) / size,
            "resolution": float(rows @ (observed - base) ** 2) / size,
            "uncertainty": base * (1 - base),
            "within_bin_variance": float((inside_p**2).mean()),
            "within_bin_covariance": 2 * float((inside_p * inside_y).mean()),
            "skill": 1 - value / (base * (1 - base)),
            "groups": len(rows),
        },
    )


@overflow_becomes_undefined
def log_loss(
    outcome: npt.ArrayLike, probability: npt.ArrayLike, *, clip: float = CLIP
) -> Statistic:
    """Mean of -log of the probability given to what happened, natural logarithm; lower is better.

    Good (1952), "Rational decisions", Journal of the Royal Statistical Society B 14.
    Probabilities are moved into [clip, 1 - clip]: without that one certain mistake is infinite,
    with it the mistake costs -log(clip), so the clip is part of the number.
    """
    if not 0.0 < clip < 0.5:
        raise ContractViolation(f"clip {clip}: expected a number between 0 and 0.5")
    convention = f"mean negative log likelihood (nats), probabilities clipped to [{clip:g}, 1 - it]"
    pairs = pairs_of(outcome, probability)
    if isinstance(pairs, str):
        return Statistic(value=None, sample_size=0, convention=convention, undefined=pairs)
    y, p = pairs.outcome, pairs.probability
    kept = np.clip(p, clip, 1 - clip)
    loss = -(y * np.log(kept) + (1 - y) * np.log1p(-kept))
    base = float(y.mean())
    entropy = -(base * math.log(base) + (1 - base) * math.log1p(-base))
    value = float(loss.mean())
    certain_and_wrong = int((np.abs(p - y) >= 1 - clip).sum())
    return Statistic(
        value=value,
        sample_size=len(y),
        convention=convention,
        warnings=(f"{certain_and_wrong} certain forecasts were wrong: the clip sets their cost.",)
        if certain_and_wrong
        else (),
        details={
            **pairs.counts,
            "clipped": int((kept != p).sum()),
            "loss_of_the_base_rate": entropy,
            "skill": 1 - value / entropy,
        },
    )


@overflow_becomes_undefined
def calibration_line(outcome: npt.ArrayLike, probability: npt.ArrayLike) -> Statistic:
    """Slope of the logistic regression of the outcome on the log odds that were forecast.

    1 is calibrated, below 1 overconfident. Cox (1958), "Two further applications of a model for
    binary regression", Biometrika 45. The interval is Wald's; ``p_value`` is the likelihood ratio
    test of intercept 0 and slope 1 together, chi-square(2). Probabilities are clipped as in
    :func:`log_loss`; missing values are treated as the module says.
    """
    convention = (
        "slope of the logistic regression of outcome on logit(probability); p-value that intercept "
        f"and slope are 0 and 1, likelihood ratio, chi-square(2); clip {CLIP:g}"
    )
    pairs = pairs_of(outcome, probability)
    if isinstance(pairs, str):
        return Statistic(value=None, sample_size=0, convention=convention, undefined=pairs)
    y = pairs.outcome
    p = np.clip(pairs.probability, CLIP, 1 - CLIP)
    odds = np.log(p) - np.log1p(-p)
    fit = _logistic(odds, y)
    if isinstance(fit, str):
        return Statistic(
            value=None,
            sample_size=len(y),
            convention=convention,
            undefined=fit,
            details=pairs.counts,
        )
    intercept, slope, error, gain = fit
    half = float(ndtri((1 + LEVEL) / 2)) * error
    return Statistic(
        value=slope,
        sample_size=len(y),
        convention=convention,
        interval=(slope - half, slope + half),
        p_value=math.exp(-max(gain, 0.0)),
        details={**pairs.counts, "intercept": intercept, "standard_error": error},
    )


def _logistic(x: FloatArray, y: FloatArray) -> tuple[float, float, float, float] | str:
    # Intercept, slope, its standard error, and the gain in log likelihood over (0, 1). Half the
    # likelihood ratio is exponential under the null, which is why exp(-gain) is its p-value.
    if float(np.ptp(x)) <= 1e-12 * max(1.0, float(np.abs(x).max())):
        return "the forecast never varies, so its slope cannot be seen"
    design = np.stack((np.ones_like(x), x), axis=1)
    at = np.array([0.0, 1.0])
    start = best = _log_likelihood(design @ at, y)
    for _ in range(100):
        fitted = expit(design @ at)
        weight = fitted * (1 - fitted)
        information = design.T @ (design * weight[:, None])
        if np.linalg.cond(information) > 1e12:
            return "outcomes are separated by the forecast, so the slope has no estimate"
        step = np.linalg.solve(information, design.T @ (y - fitted))
        # Halved until the likelihood does not fall: full steps can leave for infinity.
        for _ in range(30):
            reached = _log_likelihood(design @ (at + step), y)
            if reached >= best:
                break
            step = step / 2
        at, best = at + step, max(best, reached)
        if float(np.abs(step).max()) <= 1e-10 * (1 + float(np.abs(at).max())):
            covariance = np.linalg.inv(information)
            return float(at[0]), float(at[1]), math.sqrt(covariance[1, 1]), best - start
    return "outcomes are separated by the forecast, so the slope has no estimate"


def _log_likelihood(odds: FloatArray, y: FloatArray) -> float:
    return float((y * odds - np.logaddexp(0.0, odds)).sum())


def binned(p: FloatArray, bins: int, scheme: str) -> tuple[IntArray, FloatArray]:
    """The bin of each probability, counted from 0 without gaps, and the upper edges of the bins.

    ``mass`` puts edges at quantiles of ``p``, ``width`` at equal lengths of [0, 1]. An edge belongs
    to the bin below it, equal edges are one, and empty bins are left out.
    """
    if bins < 1:
        raise ContractViolation(f"{bins} bins: expected at least 1")
    if scheme not in SCHEMES:
        raise ContractViolation(f"scheme {scheme!r}: expected one of {', '.join(SCHEMES)}")
    if scheme == "mass":
        # Observed values as edges: an interpolated one may round to either side of its neighbours.
        edges = np.unique(np.quantile(p, np.arange(1, bins) / bins, method="inverted_cdf"))
    else:
        edges = np.arange(1, bins) / bins
    places = np.searchsorted(edges, p, side="left")
    used, places = np.unique(places, return_inverse=True)
    return places.astype(np.int64), np.concatenate((edges, [1.0]))[used]


def pairs_of(outcome: npt.ArrayLike, probability: npt.ArrayLike) -> Pairs | str:
    """The rows that can be judged, or why there are none; NaN is treated as the module says."""
    y, p = columns_of(outcome=outcome, probability=probability).values()
    known = ~np.isnan(y)
    y, p = y[known], p[known]
    silent = np.isnan(p)
    counts = {"rows_without_outcome": int((~known).sum()), "rows_missing": int(silent.sum())}
    if len(y) == 0:
        return "no row has an outcome"
    if silent.mean() > MAX_MISSING:
        return (
            f"no probability was given on {int(silent.sum())} of {len(y)} rows whose outcome is "
            f"known: at most {MAX_MISSING:.0%} may be missing"
        )
    y, p = y[~silent], p[~silent]
    if not np.isin(y, (0.0, 1.0)).all():
        return "outcomes must be 0 or 1"
    if ((p < 0) | (p > 1)).any():
        return "probabilities must lie between 0 and 1"
    if len(y) < MIN_ROWS:
        return f"{len(y)} rows: at least {MIN_ROWS} are needed"
    if y.min() == y.max():
        return f"every outcome is {y[0]:g}"
    return Pairs(y, p, counts)
