"""The Sharpe ratio of the best of many trials, deflated by how many there were.

The best of N worthless trials has a good Sharpe ratio. What counts as a trial is everything that
was tried before this one was chosen: failed runs, hyperparameters, earlier models of the lineage.
Ratios and variances are per period. Missing or infinite returns, fewer than ten of them, or a
constant series give no value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri

from assay.errors import ContractViolation
from assay.statistics.panel import FloatArray
from assay.statistics.samples import matrix_of, series_of, varying
from assay.statistics.sharpe import Moments, probabilities, psr_2012, psr_2025
from assay.statistics.statistic import Statistic, number, overflow_becomes_undefined

Counting = Literal["raw", "effective"]

_FORMS: dict[str, str] = {
    "2014": (
        "PSR with the variance of 2012 against the expected maximum, Bailey and Lopez de Prado "
        "(2014), 'The deflated Sharpe ratio', Journal of Portfolio Management 40(5)"
    ),
    "2025": (
        "variance at SR0 times the variance of the maximum, Lopez de Prado, Lipton and Zoonekynd "
        "(2025), 'How to use the Sharpe ratio'"
    ),
}

_STEP = 1 / 64
_GRID = np.arange(-12.0, 12.0, _STEP)
_DENSITY = np.exp(-_GRID * _GRID / 2) / math.sqrt(2 * math.pi)
_BELOW = np.asarray(log_ndtr(_GRID))


@dataclass(frozen=True, slots=True)
class Trials:
    """What is known of the trials among which one was chosen.

    Attributes
    ----------
    count: how many there were, at least 1.
    effective: how many independent trials they are worth, in [1, count]; the count when unknown.
    variance: of their Sharpe ratios per period across trials (ddof 1); None when unknown, and
        then, as whenever it is smaller, the variance 1/(T-1) of ratios of pure noise is taken:
        near copies of one trial have almost equal ratios, and would deflate nothing.

    Raises
    ------
    ContractViolation: a number is outside its range.
    """

    count: int
    effective: float | None = None
    variance: float | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ContractViolation(f"{self.count} trials: expected at least 1")
        if self.effective is not None and not 1.0 <= self.effective <= self.count:
            raise ContractViolation(
                f"{self.effective} effective trials of {self.count}: expected 1 to {self.count}"
            )
        if self.variance is not None and not 0.0 <= self.variance < math.inf:
            raise ContractViolation(f"variance {self.variance} across trials: expected >= 0")

    @classmethod
    def of(cls, returns: npt.ArrayLike, *, count: int | None = None) -> Trials | str:
        """Trials whose returns are known, shape (T, N), or why they say nothing.

        ``count`` is the number of all trials when some have left no returns; the effective number
        then grows in proportion. It is that of :func:`effective_trials`. Trials that never vary
        have no ratio: they count, but are not in the variance.
        """
        matrix = matrix_of(returns, what="returns of trials")
        if isinstance(matrix, str):
            return matrix
        known = matrix.shape[1]
        total = known if count is None else count
        if total < known:
            raise ContractViolation(f"{total} trials counted, {known} given: expected {known}")
        moving = matrix[:, varying(matrix)]
        ratios = moving.mean(axis=0) / moving.std(axis=0, ddof=1) if moving.size else np.empty(0)
        effective = effective_trials(matrix)
        return cls(
            count=total,
            effective=min(effective * total / known, float(total)),
            variance=float(ratios.var(ddof=1)) if len(ratios) > 1 else None,
        )


def expected_maximum(trials: float) -> float:
    """Approximate mean of the largest of N standard normals; 0 for one trial.

    (1 - g) Z[1 - 1/N] + g Z[1 - 1/(N e)] with g Euler's constant: Bailey and Lopez de Prado (2014),
    "The deflated Sharpe ratio", Journal of Portfolio Management 40(5). Too low by 8 % for N = 2,
    too high by 2 % at 10 and 1 % at 100; see :func:`maximum_of_normals`.
    """
    if trials <= 1:
        return 0.0  # the formula says minus infinity
    # Z[1 - p] as -Z[p]: 1 - p loses all its digits when there are very many trials.
    first, second = -float(ndtri(1 / trials)), -float(ndtri(1 / (trials * math.e)))
    return max((1 - np.euler_gamma) * first + np.euler_gamma * second, 0.0)


def maximum_of_normals(trials: float) -> tuple[float, float]:
    """Exact mean and variance of the largest of N independent standard normals.

    N need not be whole. Integrates x N phi(x) Phi(x)^(N-1) on a fixed grid; the density and its
    derivatives vanish at both ends, so that the error of the plain sum is below rounding.
    """
    density = trials * _DENSITY * np.exp((max(trials, 1.0) - 1) * _BELOW) * _STEP
    mean = float(_GRID @ density)
    return mean, float(((_GRID - mean) ** 2) @ density)


def expected_maximum_sharpe(trials: float, variance: float, *, exact: bool = False) -> float:
    """Sharpe ratio per period to expect of the best of N worthless trials.

    sqrt(variance across trials) times the mean of the largest of N standard normals: the published
    approximation of 2014, or the exact value.
    """
    largest = maximum_of_normals(trials)[0] if exact else expected_maximum(trials)
    return math.sqrt(variance) * largest


def minimum_backtest_length(trials: float, ratio_per_year: float) -> float:
    """Years of data below which ``trials`` worthless strategies are expected to reach the ratio.

    (E[max Z_N] / SR)^2 with the approximation of 2014: Bailey, Borwein, Lopez de Prado and Zhu
    (2014), "Pseudo-mathematics and financial charlatanism", Notices of the AMS 61(5). Infinite
    for a ratio of zero or less.
    """
    if not ratio_per_year > 0:
        return math.inf
    step = expected_maximum(trials) / ratio_per_year
    return step * step


def effective_trials_by_correlation(trials: float, correlation: float) -> float:
    """What N trials of average correlation rho are worth: rho + (1 - rho) N.

    Bailey and Lopez de Prado (2014), "The deflated Sharpe ratio". A negative correlation counts as
    none: it would give more trials than there were.
    """
    rho = min(max(correlation, 0.0), 1.0)
    return rho + (1 - rho) * trials


def effective_trials_by_eigenvalues(returns: FloatArray) -> float:
    """N^2 / sum of squared correlations: the participation ratio of the correlations' eigenvalues.

    N for uncorrelated trials, 1 for copies of one, the number of clusters for equal clusters of
    copies. It sees clusters where an average correlation does not, but makes too little of trials
    that all share one moderate correlation. ``returns`` have shape (T, N); trials that never vary
    count as one each. The sampling noise of the T dates, 1/(T-1) for each pair, is taken off, or
    many independent trials over few dates would look like few.
    """
    standard, still = _standardised(returns)
    size, trials = standard.shape
    if trials == 0 or size < 3:
        # Over two dates every trial is a copy of another, or its mirror image: nothing to go by.
        return float(still + trials)
    # The squares of the N x N and of the T x T product have the same sum: take the smaller.
    product = standard.T @ standard if trials <= size else standard @ standard.T
    squares = float(np.square(product).sum())
    noise = trials * (trials - 1) / (size - 1)
    pairs = max(squares - trials - noise, 0.0) / (1 - 1 / (size - 1))
    return float(still + min(max(trials * trials / (trials + pairs), 1.0), float(trials)))


def effective_trials(returns: FloatArray) -> float:
    """How many independent trials these are worth: the larger of the two rules.

    By average correlation (it overstates clusters) and by eigenvalues (it understates one common
    correlation): to overstate deflates too much, to understate lets noise pass.
    """
    standard, still = _standardised(returns)
    trials = standard.shape[1]
    average = 0.0
    if trials > 1:
        average = float(np.square(standard.sum(axis=1)).sum() - trials) / (trials * (trials - 1))
    by_correlation = still + (effective_trials_by_correlation(trials, average) if trials else 0.0)
    return max(by_correlation, effective_trials_by_eigenvalues(returns))


def _standardised(returns: FloatArray) -> tuple[FloatArray, int]:
    """Trials that vary, centred and of length 1, shape (T, moving); and how many never vary."""
    moves = varying(returns)
    moving = returns[:, moves]
    if not moving.size:
        return moving, int((~moves).sum())
    moving = moving / np.abs(moving).max(axis=0, initial=0.0)
    moving = moving - moving.mean(axis=0)
    return moving / np.sqrt(np.square(moving).sum(axis=0)), int((~moves).sum())


@overflow_becomes_undefined
def deflated_sharpe(
    returns: npt.ArrayLike,
    *,
    trials: Trials,
    form: Literal["2014", "2025"] = "2014",
    counting: Counting = "raw",
) -> Statistic:
    """Probability that the true ratio exceeds what the best of so many worthless trials shows.

    ``returns`` are those of the chosen trial, shape (T,). "2014" is PSR(SR0) with the variance of
    2012 and SR0 the expected maximum: far stricter than its level, noise passes 0.95 in under
    1 % of cases. "2025" has the variance at SR0, with autocorrelation, times the variance of the
    maximum of N normals, and exact moments of that maximum: closer to its level. The details
    hold both, for the raw and the effective number, and ``sidak_p_value`` = 1 - PSR(0)^N with the
    HAC variance, which bounds the chance of a false pass directly.
    """
    convention = (
        f"deflated Sharpe ratio ({form}), {counting} number of trials, variance across trials at "
        f"least 1/(T-1), raw kurtosis, per period: {_FORMS[form]}"
    )
    series = series_of(returns)
    if isinstance(series, str):
        return Statistic(
            value=None, sample_size=np.size(returns), convention=convention, undefined=series
        )
    moments = Moments.of(series)
    floor = 1 / (moments.size - 1)
    variance = max(trials.variance or 0.0, floor)
    counts = {"raw": float(trials.count), "effective": trials.effective or float(trials.count)}
    found = {name: _deflated(moments, count, variance) for name, count in counts.items()}
    value = found[counting][form]
    hac = probabilities(series, moments, 0.0)["hac"]
    return Statistic(
        value=number(value),
        sample_size=moments.size,
        convention=convention,
        p_value=number(1 - value),
        undefined=None if math.isfinite(value) else "the variance of the ratio is not positive",
        warnings=_warnings(trials, floor),
        details={
            "ratio": number(moments.ratio),
            "trials": trials.count,
            "effective_trials": number(counts["effective"]),
            "variance_across_trials": number(trials.variance),
            "variance_used": number(variance),
            "expected_maximum": number(expected_maximum_sharpe(counts[counting], variance)),
            "expected_maximum_exact": number(
                expected_maximum_sharpe(counts[counting], variance, exact=True)
            ),
            **{
                f"dsr_{year}_{name}": number(each)
                for name, by_form in found.items()
                for year, each in by_form.items()
            },
            "sidak_p_value": number(-math.expm1(counts[counting] * math.log(max(hac, 5e-324)))),
        },
    )


def deflated_2014(moments: Moments, trials: float, variance: float) -> float:
    """PSR of 2012 against the expected maximum by the approximation of 2014."""
    return psr_2012(moments, expected_maximum_sharpe(trials, variance))


def deflated_2025(moments: Moments, trials: float, variance: float) -> float:
    """PSR of 2025 against the exact expected maximum, with the variance of that maximum."""
    mean, spread = maximum_of_normals(trials)
    return psr_2025(moments, math.sqrt(variance) * mean, factor=spread)


def _deflated(moments: Moments, trials: float, variance: float) -> dict[str, float]:
    return {
        "2014": deflated_2014(moments, trials, variance),
        "2025": deflated_2025(moments, trials, variance),
    }


def _warnings(trials: Trials, floor: float) -> tuple[str, ...]:
    warnings = []
    if trials.count == 1:
        warnings.append("One trial was counted: nothing is deflated.")
    if trials.variance is None and trials.count > 1:
        warnings.append("The spread of the trials' ratios is unknown: that of noise was taken.")
    elif trials.count > 1 and trials.variance is not None and trials.variance < floor:
        warnings.append(
            "The trials' ratios spread less than those of independent noise (near copies of each "
            "other?): the spread of noise was taken."
        )
    return tuple(warnings)
