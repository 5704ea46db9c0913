"""Information coefficients as evidence; the arithmetic is that of the statistics."""

from __future__ import annotations

import numpy.typing as npt

from assay.domain.evidence import Evidence
from assay.statistics.information import MIN_NAMES, information_coefficient
from assay.validation.records import evidence_of


def ic(
    dates: npt.ArrayLike,
    *,
    label: npt.ArrayLike,
    prediction: npt.ArrayLike,
    horizon: int = 1,
    min_names: int = MIN_NAMES,
) -> Evidence:
    """Mean over dates of the Pearson correlation across instruments of prediction and outcome.

    The parameters are those of
    :func:`~assay.statistics.information.information_coefficient`.
    """
    found = information_coefficient(
        dates, label=label, prediction=prediction, horizon=horizon, min_names=min_names
    )
    return evidence_of("ic", found)


def rank_ic(
    dates: npt.ArrayLike,
    *,
    label: npt.ArrayLike,
    prediction: npt.ArrayLike,
    horizon: int = 1,
    min_names: int = MIN_NAMES,
) -> Evidence:
    """The same as :func:`ic` on ranks within the date (ties get their average rank)."""
    found = information_coefficient(
        dates,
        label=label,
        prediction=prediction,
        ranked=True,
        horizon=horizon,
        min_names=min_names,
    )
    return evidence_of("rank_ic", found)
