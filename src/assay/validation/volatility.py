"""Volatility forecasts as evidence: better than the champion's, covering, calibrated.

Throughout, one row is one instrument on one date, ``forecast`` is the standard deviation of the
next session's log return as the model saw it, and ``realised`` is that return squared. The
arithmetic is that of :mod:`~assay.statistics.forecasts` and :mod:`~assay.statistics.coverage`.
"""

from __future__ import annotations

import numpy.typing as npt

from assay.domain.evidence import Evidence
from assay.statistics.coverage import value_at_risk_coverage
from assay.statistics.forecasts import QLIKE, mincer_zarnowitz, qlike_difference
from assay.validation.records import evidence_of, undefined


def qlike_vs_champion(
    dates: npt.ArrayLike,
    *,
    realised: npt.ArrayLike,
    forecast: npt.ArrayLike,
    champion: npt.ArrayLike | None,
    horizon: int = 1,
) -> Evidence:
    """Whether the candidate's volatility forecasts lose less than the champion's.

    The value is the p-value of :func:`~assay.statistics.forecasts.qlike_difference`, because it
    carries both halves of the gate: p <= 0.10 is possible only if the candidate's mean loss is the
    lower one. Without a champion's forecasts there is no value.
    """
    if champion is None:
        reason = "there are no champion's forecasts to compare with"
        return undefined("qlike_vs_champion", QLIKE, reason)
    found = qlike_difference(
        dates, realised=realised, forecast=forecast, champion=champion, horizon=horizon
    )
    return evidence_of("qlike_vs_champion", found, judged="p_value")


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

    The value is the p-value of :func:`~assay.statistics.coverage.value_at_risk_coverage`.
    """
    found = value_at_risk_coverage(
        dates, realised=realised, forecast=forecast, returns=returns, level=level, horizon=horizon
    )
    return evidence_of("var_coverage", found, judged="p_value")


def calibration_slope(
    dates: npt.ArrayLike,
    *,
    realised: npt.ArrayLike,
    forecast: npt.ArrayLike,
    horizon: int = 1,
) -> Evidence:
    """Whether a doubled variance forecast is followed by doubled variance.

    The value is the slope of :func:`~assay.statistics.forecasts.mincer_zarnowitz`.
    """
    found = mincer_zarnowitz(dates, realised=realised, forecast=forecast, horizon=horizon)
    return evidence_of("calibration_slope", found)
