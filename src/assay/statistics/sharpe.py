"""The Sharpe ratio of one series of returns: its error, its probability, its track record.

Everything is per period (per row of the series) and raw: kurtosis of a normal is 3. Annualising is
a step of its own, :func:`annualised_sharpe`. No risk-free rate is taken off: give excess returns.

Missing or infinite returns, fewer than ten of them, or a constant series give no value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from assay.errors import ContractViolation
from assay.statistics.hac import LAG_RULE, long_run_variance, newey_west_lag, student_quantile
from assay.statistics.panel import FloatArray
from assay.statistics.samples import series_of
from assay.statistics.statistic import LEVEL, Statistic, number, overflow_becomes_undefined

Form = Literal["2012", "2025", "hac"]
"""Which variance a probabilistic Sharpe ratio divides by; see :func:`psr`."""

ENOUGH_RETURNS = 252
"""Below this many returns the probability is too high when crashes are rare; a warning says so."""

_FORMS: dict[str, str] = {
    "2012": (
        "variance at the observed ratio over T - 1, independent returns: Bailey and Lopez de Prado "
        "(2012), 'The Sharpe ratio efficient frontier', Journal of Risk 15(2)"
    ),
    "2025": (
        "variance at the benchmark over T, with terms for first-order autocorrelation: Lopez de "
        "Prado, Lipton and Zoonekynd (2025), 'How to use the Sharpe ratio'"
    ),
    "hac": f"HAC variance of z - SR/2 (z^2 - 1) over T, {LAG_RULE}",
}


@dataclass(frozen=True, slots=True)
class Moments:
    """What the variance of a Sharpe ratio depends on.

    Attributes
    ----------
    ratio: mean / standard deviation, per period.
    size: number of returns T.
    skewness, kurtosis: of the returns; raw kurtosis, 3 for a normal.
    autocorrelation: of the returns at lag one.
    """

    ratio: float
    size: int
    skewness: float = 0.0
    kurtosis: float = 3.0
    autocorrelation: float = 0.0

    @classmethod
    def of(cls, series: FloatArray) -> Moments:
        """Sample moments of a series that varies: sd with ddof 1 in the ratio, ddof 0 above."""
        centred = series - series.mean()
        z = centred / math.sqrt(float(centred @ centred) / len(series))
        return cls(
            ratio=float(series.mean() / series.std(ddof=1)),
            size=len(series),
            skewness=float((z**3).mean()),
            kurtosis=float((z**4).mean()),
            autocorrelation=autocorrelations(series, 1)[0],
        )

    def variance(self, ratio: float) -> float:
        """T times the asymptotic variance of the estimate when the true ratio is ``ratio``.

        a - b g3 SR + c (g4 - 1)/4 SR^2 for an AR(1) with independent innovations, where
        a = (1+r)/(1-r), b = 1 + r/(1-r) + r^2/(1-r^2), c = 1 + 2 r^2/(1-r^2) and r is the
        autocorrelation. With r = 0 it is 1 - g3 SR + (g4 - 1)/4 SR^2 (Mertens 2002). NaN where
        |r| >= 1 or the moments contradict each other.
        """
        r = self.autocorrelation
        if not -1.0 < r < 1.0:
            return math.nan
        one, two = r / (1 - r), r * r / (1 - r * r)
        found = (
            (1 + 2 * one)
            - (1 + one + two) * self.skewness * ratio
            + (1 + 2 * two) * (self.kurtosis - 1) / 4 * ratio * ratio
        )
        return found if found > 0 else math.nan


def psr_2012(moments: Moments, benchmark: float = 0.0) -> float:
    """Phi[(SR - SR*) sqrt(T - 1) / sqrt(1 - g3 SR + (g4 - 1)/4 SR^2)]; ignores autocorrelation."""
    plain = Moments(moments.ratio, moments.size, moments.skewness, moments.kurtosis)
    spread = math.sqrt(plain.variance(moments.ratio))
    return float(ndtr((moments.ratio - benchmark) * math.sqrt(moments.size - 1) / spread))


def psr_2025(moments: Moments, benchmark: float = 0.0, *, factor: float = 1.0) -> float:
    """Phi[(SR - SR0) sqrt(T) / sqrt(V(SR0) factor)].

    ``factor`` is the variance of the maximum of N standard normals when SR0 is the ratio expected
    of the best of N trials, and 1 for a ratio that was not chosen.
    """
    spread = math.sqrt(moments.variance(benchmark) * factor)
    return float(ndtr((moments.ratio - benchmark) * math.sqrt(moments.size) / spread))


def track_record_2012(moments: Moments, benchmark: float = 0.0, *, level: float = LEVEL) -> float:
    """1 + [1 - g3 SR + (g4 - 1)/4 SR^2] (Z / (SR - SR*))^2 periods; infinite when SR <= SR*."""
    if not moments.ratio > benchmark:
        return math.inf  # squaring would hide the sign
    plain = Moments(moments.ratio, moments.size, moments.skewness, moments.kurtosis)
    step = float(ndtri(level)) / (moments.ratio - benchmark)
    return 1 + plain.variance(moments.ratio) * step * step


def track_record_2025(moments: Moments, benchmark: float = 0.0, *, level: float = LEVEL) -> float:
    """V(SR0) (Z / (SR - SR0))^2 periods; infinite when SR <= SR0."""
    if not moments.ratio > benchmark:
        return math.inf
    step = float(ndtri(level)) / (moments.ratio - benchmark)
    return moments.variance(benchmark) * step * step


def sharpe_ratio(series: FloatArray) -> tuple[float, float, int]:
    """Sharpe ratio per date, its HAC standard error, and the lag. The series must vary."""
    mean, spread = float(series.mean()), float(series.std(ddof=1))
    ratio = mean / spread
    lag = newey_west_lag(len(series))
    return ratio, math.sqrt(long_run_variance(sharpe_influence(series), lag) / len(series)), lag


def sharpe_influence(series: FloatArray) -> FloatArray:
    """What each date adds to the ratio: z - SR/2 (z^2 - 1), z the standardised return."""
    mean, spread = float(series.mean()), float(series.std(ddof=1))
    standard = (series - mean) / spread
    return np.asarray(standard - mean / spread / 2 * (standard**2 - 1))


def autocorrelations(series: FloatArray, lags: int) -> list[float]:
    """Sample autocorrelations at 1..lags, autocovariances divided by T."""
    centred = series - series.mean()
    variance = float(centred @ centred)
    return [float(centred[j:] @ centred[:-j]) / variance for j in range(1, lags + 1)]


def annualisation_factor(correlations: list[float], periods: int) -> float:
    """Lo's eta(q) = q / sqrt(q + 2 sum_{k<q} (q - k) rho_k); sqrt(q) without autocorrelation.

    ``correlations`` are rho_1, rho_2, ...; those not given count as zero. NaN when they are so
    negative that the variance of the sum would not be positive. Lo (2002), "The statistics of
    Sharpe ratios", Financial Analysts Journal 58.
    """
    spread = periods + 2 * sum(
        (periods - k) * rho for k, rho in enumerate(correlations[: periods - 1], start=1)
    )
    return periods / math.sqrt(spread) if spread > 0 else math.nan


@overflow_becomes_undefined
def sharpe(returns: npt.ArrayLike) -> Statistic:
    """Sharpe ratio per period of ``returns``, shape (T,), with its HAC interval.

    The interval allows for autocorrelation, skewness and fat tails (Lo 2002, with a Bartlett
    kernel). The details hold the standard error under independent normal returns,
    sqrt((1 + SR^2/2)/T), and under independent returns of any shape (Mertens 2002), beside it.
    """
    convention = (
        "Sharpe ratio per period, mean / sd (ddof 1), no risk-free rate; interval from the HAC "
        f"variance of z - SR/2 (z^2 - 1), {LAG_RULE}, Student t with T-1 degrees of freedom"
    )
    series = series_of(returns)
    if isinstance(series, str):
        return _nothing(convention, series, returns)
    ratio, error, lag = sharpe_ratio(series)
    moments = Moments.of(series)
    shaped = Moments(ratio, moments.size, moments.skewness, moments.kurtosis)
    half = student_quantile(moments.size - 1) * error
    return Statistic(
        value=ratio,
        sample_size=moments.size,
        convention=convention,
        interval=(ratio - half, ratio + half),
        details={
            "standard_error": number(error),
            "standard_error_independent": number(math.sqrt(shaped.variance(ratio) / moments.size)),
            "standard_error_normal": number(math.sqrt((1 + ratio**2 / 2) / moments.size)),
            "lag": lag,
            **_shape(moments),
        },
    )


@overflow_becomes_undefined
def annualised_sharpe(returns: npt.ArrayLike, *, periods_per_year: int) -> Statistic:
    """Sharpe ratio per year: the ratio per period times Lo's eta(q), q = ``periods_per_year``.

    Autocorrelations up to the lag of the HAC error are used; more would be noise. The interval is
    that of the ratio per period, scaled: the error of eta itself is not in it. The details hold
    the ratio under independence (times sqrt(q)) beside it.

    Raises
    ------
    ContractViolation: ``periods_per_year`` is below 1, or ``returns`` are not of shape (T,).
    """
    if periods_per_year < 1:
        raise ContractViolation(f"periods_per_year {periods_per_year}: expected at least 1")
    convention = (
        f"Sharpe ratio per year of {periods_per_year} periods, ratio per period x Lo's (2002) "
        "eta(q) with autocorrelations up to the Newey-West lag; HAC interval scaled alike"
    )
    series = series_of(returns)
    if isinstance(series, str):
        return _nothing(convention, series, returns)
    ratio, error, lag = sharpe_ratio(series)
    correlations = autocorrelations(series, lag)
    factor = annualisation_factor(correlations, periods_per_year)
    half = student_quantile(len(series) - 1) * error
    undefined = None
    if not math.isfinite(factor):
        undefined = "autocorrelations are so negative that the variance of a year is not positive"
    return Statistic(
        value=number(ratio * factor),
        sample_size=len(series),
        convention=convention,
        interval=((ratio - half) * factor, (ratio + half) * factor),
        undefined=undefined,
        details={
            "independent": number(ratio * math.sqrt(periods_per_year)),
            "factor": number(factor),
            "lag": lag,
            "autocorrelations": [number(rho) for rho in correlations],
        },
    )


@overflow_becomes_undefined
def psr(returns: npt.ArrayLike, *, benchmark: float = 0.0, form: Form = "hac") -> Statistic:
    """Probabilistic Sharpe ratio: how sure one may be that the true ratio exceeds ``benchmark``.

    ``benchmark`` is per period. ``form`` chooses the variance: "2012" as first published, "2025" at
    the benchmark with first-order autocorrelation, "hac" (the default) without a model of the
    dependence. All three are in the details. ``p_value`` is one minus the value.
    """
    convention = (
        f"probability that the Sharpe ratio per period exceeds {benchmark:.6g}, raw kurtosis; "
        f"{_FORMS[form]}"
    )
    series = series_of(returns)
    if isinstance(series, str):
        return _nothing(convention, series, returns)
    if not math.isfinite(benchmark):
        return _nothing(convention, f"the benchmark is {benchmark}", returns)
    moments = Moments.of(series)
    found = probabilities(series, moments, benchmark)
    value = found[form]
    return Statistic(
        value=number(value),
        sample_size=moments.size,
        convention=convention,
        p_value=number(1 - value),
        undefined=None if math.isfinite(value) else "the variance of the ratio is not positive",
        warnings=_warnings(moments),
        details={
            "ratio": number(moments.ratio),
            "benchmark": number(benchmark),
            "form": form,
            **{f"psr_{name}": number(each) for name, each in found.items()},
            **_shape(moments),
        },
    )


def probabilities(series: FloatArray, moments: Moments, benchmark: float) -> dict[str, float]:
    """The probabilistic Sharpe ratio in every form; NaN where a variance is not positive."""
    _, error, _ = sharpe_ratio(series)
    hac = float(ndtr((moments.ratio - benchmark) / error)) if error > 0 else math.nan
    return {
        "2012": psr_2012(moments, benchmark),
        "2025": psr_2025(moments, benchmark),
        "hac": hac,
    }


@overflow_becomes_undefined
def minimum_track_record(
    returns: npt.ArrayLike,
    *,
    benchmark: float = 0.0,
    level: float = LEVEL,
    form: Literal["2012", "2025"] = "2012",
) -> Statistic:
    """How many periods of returns like these it takes until PSR(benchmark) exceeds ``level``.

    Undefined when the observed ratio is not above the benchmark: no track record is long enough.
    Bailey and Lopez de Prado (2012) or, with the variance at the benchmark, Lopez de Prado, Lipton
    and Zoonekynd (2025).

    Raises
    ------
    ContractViolation: ``level`` is not between 0.5 and 1, or ``returns`` are not of shape (T,).
    """
    if not 0.5 < level < 1.0:
        raise ContractViolation(f"level {level}: expected above 0.5 and below 1")
    convention = (
        f"periods until the probability that the Sharpe ratio exceeds {benchmark:.6g} per period "
        f"reaches {level:g}; {_FORMS[form]}"
    )
    series = series_of(returns)
    if isinstance(series, str):
        return _nothing(convention, series, returns)
    moments = Moments.of(series)
    length = (track_record_2012 if form == "2012" else track_record_2025)(
        moments, benchmark, level=level
    )
    undefined = None
    if math.isinf(length):
        undefined = (
            f"the ratio {moments.ratio:.6g} is not above {benchmark:.6g}: no track record is long "
            "enough"
        )
    return Statistic(
        value=number(length),
        sample_size=moments.size,
        convention=convention,
        undefined=undefined,
        warnings=_warnings(moments),
        details={"ratio": number(moments.ratio), "form": form, **_shape(moments)},
    )


def _shape(moments: Moments) -> dict[str, float | None]:
    return {
        "skewness": number(moments.skewness),
        "kurtosis": number(moments.kurtosis),
        "autocorrelation": number(moments.autocorrelation),
    }


def _warnings(moments: Moments) -> tuple[str, ...]:
    if moments.size >= ENOUGH_RETURNS:
        return ()
    return (
        (
            f"{moments.size} returns: with fewer than {ENOUGH_RETURNS} the probability is too high "
            "for books that seldom lose much."
        ),
    )


def _nothing(convention: str, reason: str, returns: npt.ArrayLike) -> Statistic:
    return Statistic(
        value=None, sample_size=np.size(returns), convention=convention, undefined=reason
    )
