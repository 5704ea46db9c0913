"""How well a score separates rows on which an event came from rows on which it did not."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from assay.statistics.information import average_ranks
from assay.statistics.panel import columns_of
from assay.statistics.statistic import LEVEL, Statistic, overflow_becomes_undefined

MIN_PER_CLASS = 5
"""Fewer events, or fewer of the others, give no variance worth having."""


@overflow_becomes_undefined
def auc(outcome: npt.ArrayLike, score: npt.ArrayLike) -> Statistic:
    """Area under the ROC curve: how often an event has a higher score than a non-event.

    Ties count half. The interval and the two-sided p-value (against one half) are those of DeLong,
    DeLong and Clarke-Pearson (1988), "Comparing the areas under two or more correlated receiver
    operating characteristic curves", Biometrics 44, from the placements of each row among the other
    class; the interval is cut to [0, 1].

    Rows are taken as independent: for many instruments on the same dates both are too sure. Missing
    values: a row without an outcome or a score is left out and counted. An infinite score is the
    largest or smallest.

    Parameters
    ----------
    outcome: 1 where the event came and 0 where not; score: rises with its chance. Shape (rows,).
    """
    convention = (
        "area under the ROC curve (ties one half), DeLong interval and two-sided p against one "
        "half, independent rows"
    )
    y, x = columns_of(outcome=outcome, score=score).values()
    keep = ~(np.isnan(y) | np.isnan(x))
    counts = {"rows_left_out": int((~keep).sum())}
    y, x = y[keep], x[keep]
    events = y == 1.0
    m, n = int(events.sum()), int((y == 0.0).sum())
    problem = None
    if m + n != len(y):
        problem = "outcomes must be 0 or 1"
    elif min(m, n) < MIN_PER_CLASS:
        problem = f"{m} events and {n} others: at least {MIN_PER_CLASS} of each are needed"
    elif x.min() == x.max():
        problem = "the score never varies"
    if problem is not None:
        return Statistic(
            value=None,
            sample_size=len(y),
            convention=convention,
            undefined=problem,
            details=counts,
        )
    ranks = average_ranks(x)
    # Placements: share of the other class that each event outranks, and each non-event trails.
    above = (ranks[events] - average_ranks(x[events])) / n
    below = 1.0 - (ranks[~events] - average_ranks(x[~events])) / m
    area = float(above.mean())
    variance = float(above.var(ddof=1)) / m + float(below.var(ddof=1)) / n
    details = {**counts, "events": m, "others": n, "standard_error": math.sqrt(variance)}
    if variance <= 0.0:
        # Complete separation: a bound would need another method, and a p-value of 0 is none.
        return Statistic(
            value=area,
            sample_size=len(y),
            convention=convention,
            warnings=("The score separates the classes completely: there is no interval.",),
            details=details,
        )
    error = math.sqrt(variance)
    half = float(ndtri((1 + LEVEL) / 2)) * error
    return Statistic(
        value=area,
        sample_size=len(y),
        convention=convention,
        interval=(max(0.0, area - half), min(1.0, area + half)),
        p_value=float(2 * ndtr(-abs(area - 0.5) / error)),
        details=details,
    )
