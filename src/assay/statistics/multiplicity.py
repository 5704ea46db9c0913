"""Many tests at once: how many of the small p-values would chance have given.

Benjamini and Hochberg (1995), "Controlling the false discovery rate: a practical and powerful
approach to multiple testing", Journal of the Royal Statistical Society B 57: the share of false
alarms among the alarms, for tests that are independent or positively dependent. Benjamini and
Yekutieli (2001), "The control of the false discovery rate in multiple testing under dependency",
Annals of Statistics 29: the same under any dependence, at the price of a factor of about log m.
Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
Statistics 6: the chance of a single false alarm, under any dependence.

Missing values: a test without a p-value stays in the family as one that found nothing (p = 1), and
is counted. Leaving it out would make every other test look stronger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.errors import ContractViolation
from assay.statistics.panel import BoolArray, FloatArray, columns_of
from assay.statistics.statistic import Statistic


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejections(Statistic):
    """How many hypotheses of a family are rejected, and which.

    Attributes
    ----------
    adjusted: the smallest level at which each test would be rejected, in [0, 1], shape (m,); in
        the order of the p-values given. Empty when there is no value.
    rejected: whether it is at most the level asked for, shape (m,).
    """

    adjusted: FloatArray
    rejected: BoolArray


def benjamini_hochberg(p_values: npt.ArrayLike, *, level: float = 0.05) -> Rejections:
    """Control the false discovery rate for independent or positively dependent tests.

    Adjusted p-values are min over j >= i of m p_(j) / j. ``value`` is the number rejected.

    Parameters
    ----------
    p_values: shape (m,), in [0, 1]; NaN for a test that could not be made.
    level: the rate that is allowed, in (0, 1).
    """
    return _stepwise("Benjamini-Hochberg false discovery rate", p_values, level, _hochberg)


def benjamini_yekutieli(p_values: npt.ArrayLike, *, level: float = 0.05) -> Rejections:
    """Control the false discovery rate whatever the dependence: m is replaced by m sum(1/i).

    NaN counts as p = 1.
    """
    return _stepwise("Benjamini-Yekutieli false discovery rate", p_values, level, _yekutieli)


def holm(p_values: npt.ArrayLike, *, level: float = 0.05) -> Rejections:
    """Control the chance of any false rejection, whatever the dependence.

    Adjusted p-values are max over j <= i of (m - j + 1) p_(j). NaN counts as p = 1.
    """
    return _stepwise("Holm family-wise error rate", p_values, level, _holm)


def _stepwise(name: str, p_values: npt.ArrayLike, level: float, adjust: Any) -> Rejections:
    if not 0.0 < level < 1.0:
        raise ContractViolation(f"level {level}: expected a rate between 0 and 1")
    values = columns_of(p_values=p_values)["p_values"]
    convention = (
        f"number of tests rejected at {level:g}, {name}; a test without a p counts as p = 1"
    )
    missing = np.isnan(values)
    size = len(values)
    problem = None
    if size == 0:
        problem = "there are no tests"
    elif missing.all():
        problem = "no test has a p-value"
    elif ((values < 0) | (values > 1)).any():
        problem = "p-values must lie between 0 and 1"
    if problem is not None:
        return Rejections(
            value=None,
            sample_size=size,
            convention=convention,
            undefined=problem,
            adjusted=np.empty(0),
            rejected=np.empty(0, dtype=np.bool_),
        )
    filled = np.where(missing, 1.0, values)
    order = np.argsort(filled, kind="stable")
    adjusted = np.empty(size)
    adjusted[order] = np.minimum(adjust(filled[order]), 1.0)
    rejected = adjusted <= level
    absent = int(missing.sum())
    return Rejections(
        value=float(rejected.sum()),
        sample_size=size,
        convention=convention,
        warnings=(f"{absent} of {size} tests have no p-value and count as p = 1.",)
        if absent
        else (),
        details={"level": level, "missing": absent, "smallest_adjusted": float(adjusted.min())},
        adjusted=adjusted,
        rejected=rejected,
    )


def _hochberg(ordered: FloatArray) -> FloatArray:
    size = len(ordered)
    scaled = ordered * (size / np.arange(1, size + 1))
    return np.minimum.accumulate(scaled[::-1])[::-1]


def _yekutieli(ordered: FloatArray) -> FloatArray:
    return _hochberg(ordered) * float((1.0 / np.arange(1, len(ordered) + 1)).sum())


def _holm(ordered: FloatArray) -> FloatArray:
    return np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1))
