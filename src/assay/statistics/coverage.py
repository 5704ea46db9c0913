"""Value at risk: do losses beyond it come as often as stated, and not in clusters.

Kupiec (1995), "Techniques for verifying the accuracy of risk measurement models", Journal of
Derivatives 3, counts them; Christoffersen (1998), "Evaluating interval forecasts", International
Economic Review 39, asks whether one makes the next likelier.

A high p-value is not proof: with few dates nothing is rejected, so a gate must demand a sample
size as well.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, ndtri

from assay.errors import ContractViolation
from assay.statistics.forecasts import forecast_problem, known_outcomes
from assay.statistics.hac import (
    LAG_RULE,
    MIN_DATES,
    constant,
    long_run_variance,
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


@overflow_becomes_undefined
def value_at_risk_coverage(
    dates: npt.ArrayLike,
    *,
    realised: npt.ArrayLike,
    forecast: npt.ArrayLike,
    returns: npt.ArrayLike | None = None,
    level: float = 0.05,
    horizon: int = 1,
) -> Statistic:
    """Kupiec's test over many instruments, with dates as the sample.

    An exceedance is a return below the Gaussian ``level`` quantile of the forecast; where signed
    ``returns`` are not given, a squared return beyond the two-sided quantile (possible for labels
    of one session only: a sum of squares is not the square of a return). Instruments exceed
    together, so a date's share of exceedances is one observation: the proportion-of-failures
    likelihood ratio is taken at the effective sample size p(1-p)/V, V the HAC variance of the mean
    share, never more than the number of rows; the number of dates when the share never varies. The
    details hold the naive ratio beside it, and Christoffersen's independence ratio on the series
    "more exceedances on this date than expected".

    Missing values are treated as in :mod:`~assay.statistics.forecasts`.

    Parameters
    ----------
    dates: decision time of each row, int64 ns UTC, shape (rows,).
    realised: squared log return that followed; NaN where not yet known; never negative.
    forecast: forecast standard deviation, same rows.
    returns: the signed log return over the label's interval.
    level: share of exceedances that the value at risk allows, between 0 and 0.5.
    horizon: sessions that one label spans.
    """
    _check_level(level)
    side = "two-sided |return|" if returns is None else "lower-tail return"
    convention = (
        f"p-value of Kupiec's proportion-of-failures test of {level:g} VaR ({side}, Gaussian "
        "quantile of the forecast volatility), dates as the sampling unit: effective sample size "
        f"from the HAC variance of the dated exceedance share ({LAG_RULE}), chi-square(1)"
    )
    if returns is None and horizon > 1:
        reason = f"labels span {horizon} sessions: the signed returns are needed"
        return Statistic(value=None, sample_size=0, convention=convention, undefined=reason)
    given = {} if returns is None else {"returns": returns}
    columns = columns_of(realised=realised, forecast=forecast, **given)
    realised_, candidate = columns["realised"], columns["forecast"]
    stamps = dates_of(dates, len(realised_))
    known = known_outcomes(realised_)
    if "returns" in columns:
        known &= np.isfinite(columns["returns"])
    counts: dict[str, Any] = {"rows_without_outcome": int((~known).sum())}
    size = 0
    problem = forecast_problem(candidate[known])
    if problem is None:
        keep = known & ~np.isnan(candidate)
        if "returns" in columns:
            exceeded = columns["returns"] < float(ndtri(level)) * candidate
        else:
            exceeded = np.sqrt(realised_) > -float(ndtri(level / 2)) * candidate
        panel = group_by_date(stamps, [exceeded.astype(np.float64)], keep)
        size = len(panel.dates)
        if size >= MIN_DATES:
            return _coverage(panel, level, horizon, convention, counts)
        problem = f"{size} dates: at least {MIN_DATES} are needed"
    return Statistic(
        value=None, sample_size=size, convention=convention, undefined=problem, details=counts
    )


def _coverage(
    panel: Panel, level: float, horizon: int, convention: str, counts: dict[str, Any]
) -> Statistic:
    (hits,) = panel.columns
    size, rows = len(panel.dates), len(hits)
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
    return Statistic(
        value=ratio,
        sample_size=size,
        convention=convention,
        p_value=float(chdtrc(1, ratio)),
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


@overflow_becomes_undefined
def kupiec(hits: npt.ArrayLike, *, level: float) -> Statistic:
    """Proportion of failures of one series: is the share of hits the stated one.

    The value is the likelihood ratio, ``p_value`` its chi-square(1) tail. Hits are taken as
    independent; for many instruments or clustered hits use :func:`value_at_risk_coverage`.

    Parameters
    ----------
    hits: 1 where the loss went beyond the value at risk, 0 where not, NaN where unknown (left out
        and counted), shape (T,).
    level: expected share, between 0 and 0.5.
    """
    _check_level(level)
    convention = (
        f"Kupiec's proportion-of-failures likelihood ratio against a share of {level:g}, "
        "chi-square(1), hits independent"
    )
    flags = _flags(hits)
    if isinstance(flags, str):
        return Statistic(value=None, sample_size=0, convention=convention, undefined=flags)
    kept, missing = flags
    size = len(kept)
    details: dict[str, Any] = {"hits": int(kept.sum()), "missing": missing, "expected_rate": level}
    if size < MIN_DATES:
        reason = f"{size} dates: at least {MIN_DATES} are needed"
        return Statistic(
            value=None, sample_size=size, convention=convention, undefined=reason, details=details
        )
    rate = float(kept.mean())
    ratio = kupiec_ratio(rate, size, level)
    return Statistic(
        value=ratio,
        sample_size=size,
        convention=convention,
        p_value=float(chdtrc(1, ratio)),
        details={**details, "rate": rate},
    )


@overflow_becomes_undefined
def christoffersen(hits: npt.ArrayLike, *, level: float) -> Statistic:
    """Conditional coverage: the right share of hits, and none makes the next likelier.

    The value is the likelihood ratio of a Markov chain against independent hits of share ``level``,
    on the T - 1 transitions; ``p_value`` is its chi-square(2) tail. The details hold its two parts,
    ``coverage`` and ``independence``, each with a chi-square(1) p-value; they add up exactly.

    Parameters
    ----------
    hits: in order of time, 1 for a hit and 0 for none, shape (T,). A NaN breaks the chain, so it
        leaves no value.
    level: expected share, between 0 and 0.5.
    """
    _check_level(level)
    convention = (
        f"Christoffersen's conditional coverage likelihood ratio against independent hits of share "
        f"{level:g}, over transitions, chi-square(2)"
    )
    flags = _flags(hits)
    problem, kept = "", np.empty(0, dtype=np.bool_)
    if isinstance(flags, str):
        problem = flags
    else:
        kept, missing = flags
        if missing:
            problem = f"{missing} dates are missing, so which hit follows which is unknown"
        elif len(kept) < MIN_DATES:
            problem = f"{len(kept)} dates: at least {MIN_DATES} are needed"
    apart = problem or independence_ratio(kept)
    if isinstance(apart, str):
        return Statistic(value=None, sample_size=len(kept), convention=convention, undefined=apart)
    after = kept[1:]
    share = kupiec_ratio(float(after.mean()), len(after), level)
    return Statistic(
        value=share + apart,
        sample_size=len(kept),
        convention=convention,
        p_value=float(chdtrc(2, share + apart)),
        details={
            "hits": int(kept.sum()),
            "coverage": share,
            "coverage_p_value": float(chdtrc(1, share)),
            "independence": apart,
            "independence_p_value": float(chdtrc(1, apart)),
        },
    )


def independence_ratio(hits: BoolArray) -> float | str:
    """Christoffersen's likelihood ratio that a hit today does not depend on one yesterday.

    ``hits`` is one flag per date, in order; the ratio is chi-square(1) when they are independent.
    A series in which one state never comes before another has no ratio; the reason is returned.
    """
    before, after = hits[:-1], hits[1:]
    n01 = int((~before & after).sum())
    n11 = int((before & after).sum())
    n0, n1 = int((~before).sum()), int(before.sum())
    if n0 == 0 or n1 == 0:
        return "every date, or none, had more exceedances than expected"
    pooled = (n01 + n11) / (n0 + n1)
    ratio = 2 * (
        _bernoulli(n01, n0, n01 / n0)
        + _bernoulli(n11, n1, n11 / n1)
        - _bernoulli(n01 + n11, n0 + n1, pooled)
    )
    return max(ratio, 0.0)


def christoffersen_independence(hits: BoolArray) -> dict[str, float | str | None]:
    """:func:`independence_ratio` with its p-value (chi-square(1)), as the details of a record.

    The answer holds ``statistic`` and ``p_value``, or ``undefined`` with the reason.
    """
    found = independence_ratio(hits)
    if isinstance(found, str):
        return {"statistic": None, "p_value": None, "undefined": found}
    return {"statistic": found, "p_value": float(chdtrc(1, found))}


def _check_level(level: float) -> None:
    if not 0.0 < level < 0.5:
        raise ContractViolation(f"VaR level {level}: expected a share between 0 and 0.5")


def _flags(hits: npt.ArrayLike) -> tuple[BoolArray, int] | str:
    values: FloatArray = columns_of(hits=hits)["hits"]
    known = values[~np.isnan(values)]
    if not np.isin(known, (0.0, 1.0)).all():
        return "hits must be 0 or 1"
    return known == 1.0, len(values) - len(known)


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


def _bernoulli(hits: int, trials: int, probability: float) -> float:
    # The log-likelihood with 0 log 0 = 0.
    total = 0.0
    if hits:
        total += hits * math.log(probability)
    if hits < trials:
        total += (trials - hits) * math.log(1 - probability)
    return total
