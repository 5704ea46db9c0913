"""Forecasts of volatility: whose loss is smaller, and does the outcome follow the forecast.

Throughout, one row is one instrument on one date, ``forecast`` is the standard deviation of the
next return as the model saw it, and ``realised`` is that return squared: an unbiased if noisy
measure of the variance h = forecast^2. Dates are the sampling unit everywhere.

Missing values: a row without a finite ``realised`` is left out and counted. A forecast may be
missing on at most :data:`MAX_MISSING_FORECASTS` of the others, or there is no value: rows that a
model leaves out must not make it look better.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import fdtrc

from assay.domain.instants import render
from assay.errors import ContractViolation
from assay.statistics.hac import (
    LAG_RULE,
    MIN_DATES,
    MeanTest,
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
from assay.statistics.statistic import LEVEL, Statistic, number, overflow_becomes_undefined

MAX_MISSING_FORECASTS = 0.01
"""Largest share of rows with a known outcome on which a candidate may have said nothing."""

SAME_FORECAST = 1e-6
"""Relative difference below which two forecasts are the same number in float32."""

QLIKE = (
    "one-sided p-value that the candidate's mean QLIKE loss (log h + r^2/h, h = forecast^2; Patton "
    "2011) is lower than the champion's: Diebold-Mariano on the loss difference averaged by date, "
    f"{LAG_RULE}, Harvey-Leybourne-Newbold correction, Student t with T-1 degrees of freedom; "
    "below 0.5 only if the candidate's mean loss is lower"
)

DIEBOLD_MARIANO = (
    "Diebold-Mariano statistic of the mean loss difference (first minus second; negative when the "
    f"first loses less), {LAG_RULE}, Harvey-Leybourne-Newbold correction, Student t with T-1 "
    "degrees of freedom; two-sided p"
)

MINCER_ZARNOWITZ = (
    "slope b of the Mincer-Zarnowitz regression r^2 = a + b h + e (h = forecast^2), weighted by "
    "1/h^2 and by one over the number of rows of the date; interval from scores summed by date, "
    f"{LAG_RULE}, Student t with T-1 degrees of freedom; 1 is calibrated; p-value that "
    "intercept and slope are 0 and 1, Wald over 2 on F(2, T-2)"
)


def qlike(realised: FloatArray, forecast: FloatArray) -> FloatArray:
    """The loss log h + realised / h of each row, h = forecast^2; lowest for the true variance.

    NaN where either is NaN: the tests choose the rows first.

    Patton (2011), "Volatility forecast comparison using imperfect volatility proxies", Journal of
    Econometrics 160: the ranking by this loss is not distorted by the noise in r^2.
    """
    variance = forecast**2
    return np.asarray(np.log(variance) + realised / variance, dtype=np.float64)


@overflow_becomes_undefined
def qlike_difference(
    dates: npt.ArrayLike,
    *,
    realised: npt.ArrayLike,
    forecast: npt.ArrayLike,
    champion: npt.ArrayLike,
    horizon: int = 1,
) -> Statistic:
    """Diebold-Mariano test that the candidate's forecasts lose less than the champion's.

    The value is the test statistic, the answer is the one-sided ``p_value``: p <= 0.10 is possible
    only if the candidate's mean loss is the lower one. The mean difference and its interval are in
    the details.

    Parameters
    ----------
    dates: decision time of each row, int64 ns UTC, shape (rows,).
    realised: squared log return that followed; NaN where not yet known (left out and counted);
        never negative.
    forecast, champion: forecast standard deviation, same rows; NaN where none was given: rows
        without the champion's are left out, and more than 1 % without the candidate's leave no
        value.
    horizon: sessions that one label spans; overlapping labels raise the lag.
    """
    columns = columns_of(realised=realised, forecast=forecast, champion=champion)
    realised_, candidate, reference = columns.values()
    stamps = dates_of(dates, len(realised_))
    known = known_outcomes(realised_)
    comparable = known & np.isfinite(reference) & (reference > 0)
    counts: dict[str, Any] = {
        "rows_without_outcome": int((~known).sum()),
        "rows_without_champion": int((known & ~comparable).sum()),
    }
    problem = forecast_problem(candidate[comparable])
    if problem is not None:
        return Statistic(
            value=None, sample_size=0, convention=QLIKE, undefined=problem, details=counts
        )
    keep = comparable & ~np.isnan(candidate)
    panel = group_by_date(stamps, [realised_, candidate, reference], keep)
    squares, ours, theirs = panel.columns
    size = len(panel.dates)
    if np.all(np.abs(ours - theirs) <= SAME_FORECAST * theirs):
        reason = "candidate and champion forecast the same numbers"
        return Statistic(
            value=None, sample_size=size, convention=QLIKE, undefined=reason, details=counts
        )
    difference = panel.means(qlike(squares, ours) - qlike(squares, theirs))
    test = mean_test(difference, horizon=horizon, small_sample=True)
    if isinstance(test, str):
        return Statistic(
            value=None, sample_size=size, convention=QLIKE, undefined=test, details=counts
        )
    return Statistic(
        value=test.statistic,
        sample_size=test.sample_size,
        convention=QLIKE,
        p_value=test.p_less,
        details={**counts, **_qlike_details(panel, difference, test)},
    )


def _qlike_details(panel: Panel, difference: FloatArray, test: MeanTest) -> dict[str, Any]:
    squares, ours, theirs = panel.columns
    return {
        "in_words": (
            f"the candidate's mean loss is {'lower' if test.mean < 0 else 'not lower'} than "
            f"the champion's, by {abs(test.mean):.4f}"
        ),
        "mean_difference": number(test.mean),
        "mean_difference_interval": [number(end) for end in test.interval],
        "level": LEVEL,
        "lag": test.lag,
        "rows": len(squares),
        "candidate_loss": number(panel.means(qlike(squares, ours)).mean()),
        "champion_loss": number(panel.means(qlike(squares, theirs)).mean()),
        "dates_candidate_better": number((difference < 0).mean()),
        **_largest_date(panel, difference),
    }


@overflow_becomes_undefined
def diebold_mariano(first: npt.ArrayLike, second: npt.ArrayLike, *, horizon: int = 1) -> Statistic:
    """Whether two forecasts of one dated series lose equally much, by any loss.

    Diebold and Mariano (1995), "Comparing predictive accuracy", Journal of Business and Economic
    Statistics 13, with the correction of Harvey, Leybourne and Newbold (1997), "Testing the
    equality of prediction mean squared errors", International Journal of Forecasting 13. Their
    rectangular kernel of horizon - 1 lags may give a negative variance; this one cannot.

    Parameters
    ----------
    first, second: losses per date in order of time, shape (T,). A date on which either is NaN is
        left out and counted; an infinite loss leaves no value.
    horizon: steps ahead of the forecast; errors of neighbouring dates overlap by horizon - 1.
    """
    ours, theirs = columns_of(first=first, second=second).values()
    missing = np.isnan(ours) | np.isnan(theirs)
    difference = (ours - theirs)[~missing]
    counts: dict[str, Any] = {"dates_missing": int(missing.sum())}
    test = mean_test(difference, horizon=horizon, small_sample=True)
    if isinstance(test, str):
        return Statistic(
            value=None,
            sample_size=len(difference),
            convention=DIEBOLD_MARIANO,
            undefined=test,
            details=counts,
        )
    return Statistic(
        value=test.statistic,
        sample_size=test.sample_size,
        convention=DIEBOLD_MARIANO,
        p_value=min(1.0, 2 * min(test.p_less, test.p_greater)),
        details={
            **counts,
            "mean_difference": number(test.mean),
            "mean_difference_interval": [number(end) for end in test.interval],
            "level": LEVEL,
            "p_first_loses_less": test.p_less,
            "lag": test.lag,
        },
    )


@overflow_becomes_undefined
def mincer_zarnowitz(
    dates: npt.ArrayLike,
    *,
    realised: npt.ArrayLike,
    forecast: npt.ArrayLike,
    horizon: int = 1,
) -> Statistic:
    """Whether a doubled variance forecast is followed by doubled variance.

    The value is the slope with its interval; ``p_value`` is the joint test of intercept 0 and slope
    1, a Wald statistic over 2 referred to F(2, T-2).

    The weighted form of Mincer and Zarnowitz (1969), "The evaluation of economic forecasts", as in
    Patton and Sheppard (2009), "Evaluating volatility and correlation forecasts": the variance of
    r^2 grows with h^2, so unweighted least squares would be decided by a few turbulent days. Each
    date weighs the same, and the standard error clusters by date and allows dates to be
    autocorrelated. Wald tests with such errors reject somewhat too often in short samples.

    Parameters, and what happens to missing values, are those of :func:`qlike_difference`.
    """
    columns = columns_of(realised=realised, forecast=forecast)
    realised_, candidate = columns.values()
    stamps = dates_of(dates, len(realised_))
    known = known_outcomes(realised_)
    counts: dict[str, Any] = {"rows_without_outcome": int((~known).sum())}
    size = 0
    problem = forecast_problem(candidate[known])
    if problem is None:
        keep = known & ~np.isnan(candidate)
        panel = group_by_date(stamps, [realised_, candidate], keep)
        size = len(panel.dates)
        fit = (
            _weighted_slope(panel, horizon)
            if size >= MIN_DATES
            else f"{size} dates: at least {MIN_DATES} are needed"
        )
        if not isinstance(fit, str):
            return _slope(panel, fit, counts)
        problem = fit
    return Statistic(
        value=None,
        sample_size=size,
        convention=MINCER_ZARNOWITZ,
        undefined=problem,
        details=counts,
    )


def _slope(
    panel: Panel, fit: tuple[float, float, float, int, float], counts: dict[str, Any]
) -> Statistic:
    slope, intercept_ratio, error, lag, joint = fit
    size = len(panel.dates)
    half = student_quantile(size - 1) * error
    return Statistic(
        value=slope,
        sample_size=size,
        convention=MINCER_ZARNOWITZ,
        interval=(slope - half, slope + half),
        p_value=number(fdtrc(2, size - 2, joint / 2)),
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


def _weighted_slope(panel: Panel, horizon: int) -> tuple[float, float, float, int, float] | str:
    # Slope, intercept over the mean variance, standard error of the slope, lag, joint Wald
    # statistic of intercept 0 and slope 1.
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
    level = panel.sums(weight * residual) / total
    distance = (centre_y - centre_x, slope - 1.0)
    joint = _joint_wald(level, scores / spread, distance, lag)
    return slope, intercept, error, lag, joint


def _joint_wald(
    level: FloatArray, slope: FloatArray, distance: tuple[float, float], lag: int
) -> float:
    # About the weighted centre the coefficients are the level there and the slope. They equal
    # (centre, 1) exactly when intercept and slope are (0, 1). ``level`` and ``slope`` hold what
    # each date contributes to either; their covariance comes from the variance of sums.
    size = len(level)
    errors = [math.sqrt(size * long_run_variance(part, lag)) for part in (level, slope)]
    if min(errors) <= 0.0:
        return math.nan
    one, two = level / errors[0], slope / errors[1]
    correlation = size * (long_run_variance(one + two, lag) - long_run_variance(one - two, lag)) / 4
    first, second = distance[0] / errors[0], distance[1] / errors[1]
    if 1 - correlation**2 <= 0.0:
        return math.nan
    return (first**2 - 2 * correlation * first * second + second**2) / (1 - correlation**2)


def _largest_date(panel: Panel, difference: FloatArray) -> dict[str, float | str | None]:
    # One burst peg can outweigh decades under QLIKE; a reader must see when one date decides.
    sizes = np.abs(difference)
    largest = int(np.argmax(sizes))
    return {
        "largest_date": render(int(panel.dates[largest])),
        "largest_date_share": number(sizes[largest] / sizes.sum()),
    }


def known_outcomes(realised: FloatArray) -> BoolArray:
    """Which rows have an outcome. A negative one is a wrong column and raises."""
    if bool((realised < 0).any()):
        raise ContractViolation(
            f"realised variance of {float(np.nanmin(realised)):.6g}: expected squared returns, "
            "which are never negative",
            hint="give the squared log return, not the return",
        )
    return np.isfinite(realised)


def forecast_problem(forecast: FloatArray) -> str | None:
    """Why forecasts of rows with a known outcome cannot be judged; None when they can."""
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
