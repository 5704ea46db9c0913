"""Means of autocorrelated series: the only place where a long-run variance is estimated.

Bartlett kernel, autocovariances divided by T (never negative): Newey and West (1987), "A simple,
positive semi-definite, heteroskedasticity and autocorrelation consistent covariance matrix",
Econometrica 55. The number of lags is the rule of Newey and West (1994), floor(4 (T/100)^(2/9)),
and never less than the overlap of the labels (horizon - 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from assay.statistics.panel import FloatArray
from assay.statistics.statistic import LEVEL, overflow_becomes_undefined

MIN_DATES = 10
"""Below this many dates no test is attempted: a variance of autocorrelated data needs some."""

LAG_RULE = "Bartlett kernel, max(horizon - 1, floor(4 (T/100)^(2/9))) lags"


def newey_west_lag(sample_size: int, *, horizon: int = 1) -> int:
    """Autocovariances to use for ``sample_size`` dates and labels of ``horizon`` dates."""
    rule = math.floor(4 * math.pow(sample_size / 100, 2 / 9))
    return max(0, min(max(horizon - 1, rule), sample_size - 1))


def long_run_variance(series: FloatArray, lag: int) -> float:
    """Bartlett estimate of the variance of sqrt(T) times the mean of ``series``.

    gamma_0 + 2 sum_{j=1..lag} (1 - j/(lag+1)) gamma_j, with gamma_j = sum(c_t c_{t-j}) / T and c
    the series about its mean.
    """
    size = len(series)
    centred = series - series.mean()
    total = float(centred @ centred)
    for j in range(1, lag + 1):
        total += 2 * (1 - j / (lag + 1)) * float(centred[j:] @ centred[:-j])
    return max(total, 0.0) / size


@dataclass(frozen=True, slots=True)
class MeanTest:
    """A mean with its HAC standard error and Student t reference (T - 1 degrees of freedom).

    Attributes
    ----------
    mean, standard_error: in the units of the series.
    statistic: mean / standard error, times the small sample correction when one was asked for.
    sample_size, lag: dates, and autocovariances used.
    """

    mean: float
    standard_error: float
    statistic: float
    sample_size: int
    lag: int

    @property
    def p_greater(self) -> float:
        """One-sided p-value against the true mean being zero or less."""
        return float(stdtr(self.sample_size - 1, -self.statistic))

    @property
    def p_less(self) -> float:
        """One-sided p-value against the true mean being zero or more."""
        return float(stdtr(self.sample_size - 1, self.statistic))

    @property
    def interval(self) -> tuple[float, float]:
        """Two-sided interval for the mean at level :data:`~assay.statistics.statistic.LEVEL`."""
        half = student_quantile(self.sample_size - 1) * self.standard_error
        return self.mean - half, self.mean + half


def student_quantile(degrees: int) -> float:
    """The upper quantile of Student's t that leaves (1 - LEVEL)/2 above it."""
    return float(stdtrit(degrees, (1 + LEVEL) / 2))


def constant(series: FloatArray) -> bool:
    """Whether the series varies by no more than its own rounding."""
    size = float(np.abs(series).max(initial=0.0))
    return bool(np.ptp(series) <= 64 * np.finfo(np.float64).eps * size)


@overflow_becomes_undefined
def mean_test(
    series: FloatArray, *, horizon: int = 1, small_sample: bool = False
) -> MeanTest | str:
    """Test the mean of a dated series, or say in words why that cannot be done.

    With ``small_sample`` the statistic carries the correction of Harvey, Leybourne and Newbold
    (1997), "Testing the equality of prediction mean squared errors", with h = lag + 1:
    sqrt((T + 1 - 2h + h(h-1)/T) / T).
    """
    size = len(series)
    if size < MIN_DATES:
        return f"{size} dates: at least {MIN_DATES} are needed"
    if not np.isfinite(series).all():
        return "the dated series overflowed"
    if constant(series):
        return f"the dated series never varies (it is {float(series[0]):.6g} on every date)"
    lag = newey_west_lag(size, horizon=horizon)
    variance = long_run_variance(series, lag)
    if not math.isfinite(variance) or variance <= 0.0:
        return f"the long-run variance of the dated series is {variance:.6g}"
    mean = float(series.mean())
    error = math.sqrt(variance / size)
    steps = lag + 1
    correction = math.sqrt((size - steps) * (size - steps + 1)) / size if small_sample else 1.0
    return MeanTest(mean, error, correction * mean / error, size, lag)
