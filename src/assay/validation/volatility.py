"""Volatility forecasts: are they better than the champion's, do they cover, are they calibrated.

Throughout, one row is one instrument on one date, ``forecast`` is the standard deviation of the
next session's log return as the model saw it, and ``realised`` is that return squared: an unbiased
if noisy measure of the variance h = forecast^2. Dates are the sampling unit everywhere.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, ndtri

from assay.domain.evidence import Evidence
from assay.domain.instants import render
from assay.errors import ContractViolation
from assay.statistics.hac import (
    LAG_RULE,
    MIN_DATES,
    constant,
    long_run_variance,
    mean_test,
    newey_west_lag,
    student_quantile,
)
from assay.statistics.panel import (
    BoolArray,
    FloatArray,
    Panel,
    columns_of,
    dates_of,
    group_by_date,
)
from assay.statistics.statistic import LEVEL, number, overflow_becomes_undefined
from assay.validation.records import undefined

MAX_MISSING_FORECASTS = 0.01
"""Largest share of rows with a known outcome on which a candidate may have said nothing."""

SAME_FORECAST = 1e-6
"""Relative difference below which two forecasts are the same number in float32."""

_QLIKE = (
    "one-sided p-value that the candidate's mean QLIKE loss (log h + r^2/h, h = forecast^2; Patton "
    "2011) is lower than the champion's: Diebold-Mariano on the loss difference averaged by date, "
    f"{LAG_RULE}, Harvey-Leybourne-Newbold correction, Student t with T-1 degrees of freedom; "
    "below 0.5 only if the candidate's mean loss is lower"
)


@overflow_becomes_undefined
def qlike_vs_champion(
    dates: npt.ArrayLike,
    *,
    realised: npt.ArrayLike,
    forecast: npt.ArrayLike,
    champion: npt.ArrayLike | None,
    horizon: int = 1,
) -> Evidence:
    """Whether the candidate's volatility forecasts lose less than the champion's.

    The value is the p-value, because it carries both halves of the gate: p <= 0.10 is possible
    only if the candidate's mean loss is the lower one. The mean difference and its interval are
    in the details. Loss: Patton (2011), "Volatility forecast comparison using imperfect volatility
    proxies", Journal of Econometrics 160: its ranking is not distorted by the noise in r^2.

    Parameters
    ----------
    dates: decision time of each row, int64 ns UTC, shape (rows,).
    realised: squared log return that followed; NaN where not yet known; never negative.
    forecast, champion: forecast standard deviation, same rows; NaN where none was given.
    horizon: sessions that one label spans; overlapping labels raise the lag.
    """
    name, convention = "qlike_vs_champion", _QLIKE
    if champion is None:
        return undefined(name, convention, "there are no champion's forecasts to compare with")
    columns = columns_of(realised=realised, forecast=forecast, champion=champion)
    realised_, candidate, reference = columns.values()
    stamps = dates_of(dates, len(realised_))
    known = _known_outcomes(realised_)
    comparable = known & np.isfinite(reference) & (reference > 0)
    counts = {
        "rows_without_outcome": int((~known).sum()),
        "rows_without_champion": int((known & ~comparable).sum()),
    }
    problem = _forecast_problem(candidate[comparable])
    if problem is not None:
        return undefined(name, convention, problem, **counts)
    keep = comparable & ~np.isnan(candidate)
    panel = group_by_date(stamps, [realised_, candidate, reference], keep)
    squares, ours, theirs = panel.columns
    if np.all(np.abs(ours - theirs) <= SAME_FORECAST * theirs):
        return undefined(
            name,
            convention,
            "candidate and champion forecast the same numbers",
            sample_size=len(panel.dates),
            **counts,
        )
    difference = panel.means(_qlike(squares, ours) - _qlike(squares, theirs))
    test = mean_test(difference, horizon=horizon, small_sample=True)
    if isinstance(test, str):
        return undefined(name, convention, test, sample_size=len(panel.dates), **counts)
    return Evidence(
        name=name,
        value=test.p_less,
        sample_size=test.sample_size,
        convention=convention,
        details={
            **counts,
            "in_words": (
                f"the candidate's mean loss is {'lower' if test.mean < 0 else 'not lower'} than "
                f"the champion's, by {abs(test.mean):.4f}"
            ),
            "mean_difference": number(test.mean),
            "mean_difference_interval": [number(end) for end in test.interval],
            "level": LEVEL,
            "statistic": number(test.statistic),
            "lag": test.lag,
            "rows": len(squares),
            "candidate_loss": number(panel.means(_qlike(squares, ours)).mean()),
            "champion_loss": number(panel.means(_qlike(squares, theirs)).mean()),
            "dates_candidate_better": number((difference < 0).mean()),
            **_largest_date(panel, difference),
        },
    )


@overflow_becomes_undefined
def var_coverage(
    dates: npt.ArrayLike,
    *,
    realised: npt.ArrayLike,
    forecast: npt.ArrayLike,
    returns: npt.ArrayLike | None = None,
    level: float = 0.05,
    horizon: int = 1,
) -> Evidence:
    """Whether losses beyond the forecast value at risk are as frequent as they should be.

    An exceedance is a return below the Gaussian ``level`` quantile of the forecast; where signed
    ``returns`` are not given, a squared return beyond the two-sided quantile (possible for labels
    of one session only: a sum of squares is not the square of a return). Instruments exceed
    together, so a date's share of exceedances is one observation: the proportion-of-failures
    likelihood ratio of Kupiec (1995), "Techniques for verifying the accuracy of risk measurement
    models", Journal of Derivatives 3, is taken at the effective sample size p(1-p)/V, V the HAC
    variance of the mean share, never more than the number of rows; the number of dates when the
    share never varies. The details hold the naive ratio beside it, and the independence ratio of
    Christoffersen (1998), "Evaluating interval forecasts", International Economic Review 39, on
    the series "more exceedances on this date than expected".

    A high p-value is not proof: with few dates nothing is rejected, so the gate must demand a
    sample size.
    """
    if not 0.0 < level < 0.5:
        raise ContractViolation(f"VaR level {level}: expected a share between 0 and 0.5")
    side = "two-sided |return|" if returns is None else "lower-tail return"
    name = "var_coverage"
    convention = (
        f"p-value of Kupiec's proportion-of-failures test of {level:g} VaR ({side}, Gaussian "
        "quantile of the forecast volatility), dates as the sampling unit: effective sample size "
        f"from the HAC variance of the dated exceedance share ({LAG_RULE}), chi-square(1)"
    )
    if returns is None and horizon > 1:
        reason = f"labels span {horizon} sessions: the signed returns are needed"
        return undefined(name, convention, reason)
    columns = columns_of(realised=realised, forecast=forecast, returns=returns)
    realised_, candidate = columns["realised"], columns["forecast"]
    stamps = dates_of(dates, len(realised_))
    known = _known_outcomes(realised_)
    if "returns" in columns:
        known &= np.isfinite(columns["returns"])
    counts = {"rows_without_outcome": int((~known).sum())}
    problem = _forecast_problem(candidate[known])
    if problem is not None:
        return undefined(name, convention, problem, **counts)
    keep = known & ~np.isnan(candidate)
    if "returns" in columns:
        exceeded = columns["returns"] < float(ndtri(level)) * candidate
    else:
        exceeded = np.sqrt(realised_) > -float(ndtri(level / 2)) * candidate
    panel = group_by_date(stamps, [exceeded.astype(np.float64)], keep)
    return _coverage(name, convention, panel, level, horizon, counts)


def _coverage(
    name: str,
    convention: str,
    panel: Panel,
    level: float,
    horizon: int,
    counts: dict[str, int],
) -> Evidence:
    size, rows = len(panel.dates), int(panel.counts.sum())
    if size < MIN_DATES:
        return undefined(
            name,
            convention,
            f"{size} dates: at least {MIN_DATES} are needed",
            sample_size=size,
            **counts,
        )
    (hits,) = panel.columns
    share = panel.means(hits)
    rate = float(share.mean())
    lag = newey_west_lag(size, horizon=horizon)
    variance = 0.0 if constant(share) else long_run_variance(share, lag) / size
    # A share that never varies says nothing about dependence: assume the worst, one row per date.
    effective = rate * (1 - rate) / variance if variance > 0.0 else float(size)
    effective = min(effective, float(rows))
    ratio = kupiec_ratio(rate, effective, level)
    naive_rate = float(hits.mean())
    naive = kupiec_ratio(naive_rate, rows, level)
    half = student_quantile(size - 1) * math.sqrt(variance)
    return Evidence(
        name=name,
        value=float(chdtrc(1, ratio)),
        sample_size=size,
        convention=convention,
        details={
            **counts,
            "in_words": (
                f"on the average day {rate:.2%} of instruments went beyond the forecast VaR, "
                f"where {level:.2%} are expected"
            ),
            "exceedance_rate": rate,
            "exceedance_rate_interval": [rate - half, rate + half],
            "level": LEVEL,
            "expected_rate": level,
            "statistic": number(ratio),
            "effective_sample_size": effective,
            "design_effect": rows / effective,
            "lag": lag,
            "rows": rows,
            "naive_rate": naive_rate,
            "naive_statistic": number(naive),
            "naive_p_value": number(chdtrc(1, naive)),
            "independence": christoffersen_independence(share > level),
        },
    )


def kupiec_ratio(rate: float, sample_size: float, level: float) -> float:
    """Kupiec's likelihood ratio for an observed exceedance ``rate`` against ``level``.

    2 n [p log(p/p0) + (1-p) log((1-p)/(1-p0))], with 0 log 0 = 0; chi-square(1) under the null.
    ``sample_size`` may be an effective one and need not be whole.
    """
    terms = 0.0
    if rate > 0.0:
        terms += rate * math.log(rate / level)
    if rate < 1.0:
        terms += (1 - rate) * math.log((1 - rate) / (1 - level))
    return max(2 * sample_size * terms, 0.0)


def christoffersen_independence(hits: BoolArray) -> dict[str, float | str | None]:
    """Christoffersen's likelihood ratio that a hit today does not depend on one yesterday.

    ``hits`` is one flag per date, in order. The answer holds ``statistic`` and ``p_value``
    (chi-square(1)), or ``undefined`` with the reason.
    """
    before, after = hits[:-1], hits[1:]
    n01 = int((~before & after).sum())
    n11 = int((before & after).sum())
    n0, n1 = int((~before).sum()), int(before.sum())
    if n0 == 0 or n1 == 0:
        return {
            "statistic": None,
            "p_value": None,
            "undefined": "every date, or none, had more exceedances than expected",
        }
    pooled = (n01 + n11) / (n0 + n1)
    ratio = 2 * (
        _bernoulli(n01, n0, n01 / n0)
        + _bernoulli(n11, n1, n11 / n1)
        - _bernoulli(n01 + n11, n0 + n1, pooled)
    )
    ratio = max(ratio, 0.0)
    return {"statistic": ratio, "p_value": float(chdtrc(1, ratio))}


def _bernoulli(hits: int, trials: int, probability: float) -> float:
    # The log-likelihood with 0 log 0 = 0.
    total = 0.0
    if hits:
        total += hits * math.log(probability)
    if hits < trials:
        total += (trials - hits) * math.log(1 - probability)
    return total


_CALIBRATION = (
    "slope b of the Mincer-Zarnowitz regression r^2 = a + b h + e (h = forecast^2), weighted by "
    "1/h^2 and by one over the number of rows of the date; interval from scores summed by date, "
    f"{LAG_RULE}, Student t with T-1 degrees of freedom; 1 is calibrated"
)


@overflow_becomes_undefined
def calibration_slope(
    dates: npt.ArrayLike,
    *,
    realised: npt.ArrayLike,
    forecast: npt.ArrayLike,
    horizon: int = 1,
) -> Evidence:
    """Whether a doubled variance forecast is followed by doubled variance.

    The weighted form of Mincer and Zarnowitz (1969), as in Patton and Sheppard (2009),
    "Evaluating volatility and correlation forecasts": the variance of r^2 grows with h^2, so
    unweighted least squares would be decided by a few turbulent days. Each date weighs the same,
    and the standard error clusters by date and allows dates to be autocorrelated.
    """
    name, convention = "calibration_slope", _CALIBRATION
    columns = columns_of(realised=realised, forecast=forecast)
    realised_, candidate = columns.values()
    stamps = dates_of(dates, len(realised_))
    known = _known_outcomes(realised_)
    counts = {"rows_without_outcome": int((~known).sum())}
    problem = _forecast_problem(candidate[known])
    if problem is not None:
        return undefined(name, convention, problem, **counts)
    keep = known & ~np.isnan(candidate)
    panel = group_by_date(stamps, [realised_, candidate], keep)
    size = len(panel.dates)
    if size < MIN_DATES:
        reason = f"{size} dates: at least {MIN_DATES} are needed"
        return undefined(name, convention, reason, sample_size=size, **counts)
    fit = _weighted_slope(panel, horizon)
    if isinstance(fit, str):
        return undefined(name, convention, fit, sample_size=size, **counts)
    slope, intercept_ratio, error, lag = fit
    half = student_quantile(size - 1) * error
    return Evidence(
        name=name,
        value=slope,
        sample_size=size,
        convention=convention,
        interval=(slope - half, slope + half),
        details={
            **counts,
            "in_words": f"realised variance moves by {slope:.2f} per unit of forecast variance",
            "level": LEVEL,
            "standard_error": error,
            "intercept_over_mean_variance": number(intercept_ratio),
            "mean_realised_over_forecast": number(
                panel.means(panel.columns[0] / panel.columns[1] ** 2).mean()
            ),
            "lag": lag,
            "rows": int(panel.counts.sum()),
        },
    )


def _weighted_slope(panel: Panel, horizon: int) -> tuple[float, float, float, int] | str:
    # Slope, intercept over the mean variance, standard error of the slope, lag.
    realised, forecast = panel.columns
    # In units of the median forecast variance, so that squares of squares stay in range.
    unit = float(np.median(forecast))
    x, y = (forecast / unit) ** 2, realised / unit / unit
    weight = 1.0 / (x**2 * panel.spread(panel.counts.astype(np.float64)))
    total = float(weight.sum())
    centre_x, centre_y = float(weight @ x) / total, float(weight @ y) / total
    moved = x - centre_x
    spread = float(weight @ moved**2)
    scale = float(weight @ x**2)
    if not math.isfinite(spread) or not math.isfinite(centre_y):
        return "the forecasts span too many orders of magnitude for a regression"
    if spread <= 1e-12 * scale:
        return "the forecast never varies, so its slope cannot be seen"
    slope = float(weight @ (moved * (y - centre_y))) / spread
    residual = y - centre_y - slope * moved
    scores = panel.sums(weight * moved * residual)
    size = len(panel.dates)
    lag = newey_west_lag(size, horizon=horizon)
    error = math.sqrt(size * long_run_variance(scores, lag)) / spread
    intercept = (centre_y - slope * centre_x) / float(x.mean())
    if not math.isfinite(slope) or not math.isfinite(error):
        return "the forecasts span too many orders of magnitude for a regression"
    if error <= 0.0 or bool(np.all(realised == 0.0)):
        return "the outcomes never vary around the forecast, so the slope has no error to judge by"
    return slope, intercept, error, lag


def _qlike(realised: FloatArray, forecast: FloatArray) -> FloatArray:
    variance = forecast**2
    return np.asarray(np.log(variance) + realised / variance, dtype=np.float64)


def _largest_date(panel: Panel, difference: FloatArray) -> dict[str, float | str | None]:
    # One burst peg can outweigh decades under QLIKE; a reader must see when one date decides.
    sizes = np.abs(difference)
    largest = int(np.argmax(sizes))
    return {
        "largest_date": render(int(panel.dates[largest])),
        "largest_date_share": number(sizes[largest] / sizes.sum()),
    }


def _known_outcomes(realised: FloatArray) -> BoolArray:
    if bool((realised < 0).any()):
        raise ContractViolation(
            f"realised variance of {float(np.nanmin(realised)):.6g}: expected squared returns, "
            "which are never negative",
            hint="give the squared log return, not the return",
        )
    return np.isfinite(realised)


def _forecast_problem(forecast: FloatArray) -> str | None:
    # Rows that a candidate leaves out must not make it look better: few may be missing, and a
    # forecast that is no standard deviation at all is a broken model, not a missing row.
    if len(forecast) == 0:
        return "no row has both an outcome and what to compare"
    missing = np.isnan(forecast)
    broken = ~missing & ~((forecast > 0) & np.isfinite(forecast))
    if broken.any():
        return (
            f"{int(broken.sum())} forecasts are zero, negative or infinite: "
            "expected standard deviations"
        )
    if missing.mean() > MAX_MISSING_FORECASTS:
        return (
            f"the candidate gave no forecast on {int(missing.sum())} of {len(forecast)} rows "
            f"whose outcome is known: at most {MAX_MISSING_FORECASTS:.0%} may be missing"
        )
    return None
