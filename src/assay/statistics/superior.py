"""Whether the best of many models beats a benchmark, given that it is the best of many.

The input is a matrix of performance differences, model minus benchmark, one row per date and one
column per model, **larger is better** (for losses: benchmark minus model). Include every model
that was tried; one left out makes the answer too good.

1. :func:`superior_ability` is Hansen's test, studentised: one answer for all models together.
   Each resample is by default divided by its own spread as well (Romano and Wolf 2005); with the
   spread of the sample only, as Hansen has it, books that seldom lose much pass twice too often.
2. :func:`reality_check` is White's, without studentising: beside it, for comparison.
3. :func:`stepwise_superior` says which models, by Romano and Wolf.

All draw the same dates for all models, by the stationary bootstrap. A missing or infinite
difference gives no value; a model that never differs by more or less than a constant is dropped
and said so, unless it is constantly better, which is too good to test.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from assay.errors import ContractViolation
from assay.statistics.panel import FloatArray, IntArray
from assay.statistics.resampling import (
    block_lengths,
    counts,
    stationary_indices,
    stationary_variance,
)
from assay.statistics.samples import matrix_of, varying
from assay.statistics.statistic import Statistic, number, overflow_becomes_undefined

Spread = Literal["resample", "sample"]
"""Whether a resample is divided by its own standard deviation or by that of the sample."""

RESAMPLES = 1000
CHUNK = 250
FEWEST_BLOCKS = 8
"""With fewer blocks of the mean length in the sample a warning says that the test is guesswork."""

_CONVENTION = (
    "differences larger is better, stationary bootstrap, {} resamples, p = (1 + #)/(B + 1)"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SuperiorAbility(Statistic):
    """The answer of a test of many models against one benchmark.

    ``value`` is the test statistic and ``p_value`` the consistent p-value.

    Attributes
    ----------
    lower, consistent, upper: Hansen's three p-values, ascending. ``lower`` counts bad models as
        equal to the benchmark only when they are, ``upper`` counts all of them so (White).
    best: index of the model with the largest statistic; None when nothing was tested.
    """

    lower: float | None = None
    consistent: float | None = None
    upper: float | None = None
    best: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepwiseSuperior(Statistic):
    """Which models beat the benchmark, with the chance of any false one among them held at level.

    ``value`` is the number of models found, ``p_value`` the smallest adjusted one.

    Attributes
    ----------
    superior: indices of the models found, best first.
    adjusted: p-value of each model adjusted for all, shape (K,); 1 for a dropped model.
    """

    superior: tuple[int, ...] = ()
    adjusted: FloatArray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class _Sample:
    """Differences that can be tested: the kept columns, their means and standard errors."""

    differences: FloatArray
    means: FloatArray
    error: FloatArray
    kept: IntArray
    models: int
    length: float
    warnings: tuple[str, ...]


@overflow_becomes_undefined
def superior_ability(
    differences: npt.ArrayLike,
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    block_length: float | None = None,
    spread: Spread = "resample",
) -> SuperiorAbility:
    """Hansen's test of superior predictive ability, studentised.

    The statistic is max(0, max_k sqrt(T) mean_k / w_k), with w_k^2 the variance of sqrt(T) mean_k
    under the stationary bootstrap. Models are recentred by max(mean, 0) for the lower p-value, by
    mean where mean >= -w sqrt(2 log log T / T) for the consistent one, and by mean for the upper.
    Hansen (2005), "A test for superior predictive ability", JBES 23. p = (1 + #) / (B + 1).
    ``differences`` have shape (T, K); ``block_length`` is the median over models of the automatic
    one unless given. ``spread="sample"`` is the test exactly as published; by default w is scaled
    in each resample by the ratio of its standard deviation to that of the sample.

    Raises
    ------
    ContractViolation: differences are not of shape (T, K), no resamples, or a length below 1.
    """
    sample = _sample(differences, block_length, resamples)
    convention = (
        "Hansen's (2005) test that no model is better than the benchmark, studentised by the "
        f"spread of the {spread}, consistent p-value; {_CONVENTION.format(resamples)}"
    )
    if isinstance(sample, str):
        return SuperiorAbility(
            value=None, sample_size=_rows(differences), convention=convention, undefined=sample
        )
    size = len(sample.differences)
    scores = sample.means / sample.error
    threshold = -math.sqrt(2 * math.log(math.log(size)))
    centres = np.maximum(scores, 0.0), np.where(scores >= threshold, scores, 0.0), scores
    observed = max(float(scores.max()), 0.0)
    exceeding = np.zeros(3, dtype=np.int64)
    for noise, scale in _resampled_scores(sample, generator, resamples, spread):
        for which, centre in enumerate(centres):
            largest = ((noise + (scores - centre)) / scale).max(axis=1)
            exceeding[which] += int((np.maximum(largest, 0.0) >= observed).sum())
    lower, consistent, upper = ((1 + exceeding) / (resamples + 1)).tolist()
    best = int(sample.kept[int(np.argmax(scores))])
    return SuperiorAbility(
        value=observed,
        sample_size=size,
        convention=convention,
        p_value=consistent,
        warnings=sample.warnings,
        details={
            **_described(sample, resamples),
            "p_lower": lower,
            "p_consistent": consistent,
            "p_upper": upper,
            "best_model": best,
        },
        lower=lower,
        consistent=consistent,
        upper=upper,
        best=best,
    )


@overflow_becomes_undefined
def reality_check(
    differences: npt.ArrayLike,
    *,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    block_length: float | None = None,
) -> Statistic:
    """White's reality check: max_k sqrt(T) mean_k, in the units of the differences.

    Not studentised: one loud model hides a quiet good one, and poor models make it weak. White
    (2000), "A reality check for data snooping", Econometrica 68. p = (1 + #) / (B + 1).
    ``differences`` have shape (T, K), larger is better.

    Raises
    ------
    ContractViolation: differences are not of shape (T, K), no resamples, or a length below 1.
    """
    sample = _sample(differences, block_length, resamples)
    convention = (
        "White's (2000) reality check that no model is better than the benchmark, not studentised; "
        f"{_CONVENTION.format(resamples)}"
    )
    if isinstance(sample, str):
        return Statistic(
            value=None, sample_size=_rows(differences), convention=convention, undefined=sample
        )
    means = sample.means
    observed = float(means.max())
    exceeding = sum(
        int(((noise * sample.error).max(axis=1) >= observed).sum())
        for noise, _ in _resampled_scores(sample, generator, resamples, "sample")
    )
    return Statistic(
        value=number(math.sqrt(len(sample.differences)) * observed),
        sample_size=len(sample.differences),
        convention=convention,
        p_value=(1 + exceeding) / (resamples + 1),
        warnings=sample.warnings,
        details={
            **_described(sample, resamples),
            "best_model": int(sample.kept[int(np.argmax(means))]),
        },
    )


@overflow_becomes_undefined
def stepwise_superior(
    differences: npt.ArrayLike,
    *,
    generator: np.random.Generator,
    level: float = 0.05,
    resamples: int = RESAMPLES,
    block_length: float | None = None,
    spread: Spread = "resample",
) -> StepwiseSuperior:
    """The models that beat the benchmark, studentised, chance of any false one at most ``level``.

    Romano and Wolf (2005), "Stepwise multiple testing as formalized data snooping", Econometrica
    73: the best model is held against the maximum over all, the next against the maximum over the
    rest, and so on; adjusted p-values, (1 + #) / (B + 1), never fall on the way down (Romano and
    Wolf 2016). ``differences`` have shape (T, K), larger is better.

    Raises
    ------
    ContractViolation: shapes or numbers as in :func:`superior_ability`, or a level outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ContractViolation(f"level {level}: expected between 0 and 1")
    sample = _sample(differences, block_length, resamples)
    convention = (
        f"number of models better than the benchmark by Romano and Wolf's (2005) StepM at {level:g}"
        f", studentised by the spread of the {spread}; {_CONVENTION.format(resamples)}"
    )
    if isinstance(sample, str):
        return StepwiseSuperior(
            value=None, sample_size=_rows(differences), convention=convention, undefined=sample
        )
    size = len(sample.differences)
    scores = sample.means / sample.error
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    exceeding = np.zeros(len(order), dtype=np.int64)
    for noise, scale in _resampled_scores(sample, generator, resamples, spread):
        # The largest over this model and all that are worse.
        worst_first = (noise / scale)[:, order[::-1]]
        largest = np.maximum.accumulate(worst_first, axis=1)[:, ::-1]
        exceeding += (largest >= ranked).sum(axis=0)
    stepped = np.maximum.accumulate((1 + exceeding) / (resamples + 1))
    adjusted = np.ones(sample.models)
    adjusted[sample.kept[order]] = stepped
    found = tuple(int(model) for model in sample.kept[order[stepped <= level]])
    return StepwiseSuperior(
        value=float(len(found)),
        sample_size=size,
        convention=convention,
        p_value=float(stepped[0]),
        warnings=sample.warnings,
        details={**_described(sample, resamples), "level": level, "superior": list(found)},
        superior=found,
        adjusted=adjusted,
    )


def _sample(
    differences: npt.ArrayLike, block_length: float | None, resamples: int
) -> _Sample | str:
    if resamples < 1:
        raise ContractViolation(f"{resamples} resamples: expected at least 1")
    matrix = matrix_of(differences, what="performance differences")
    if isinstance(matrix, str):
        return matrix
    moves = varying(matrix)
    better = ~moves & (matrix[0] > 0)
    if better.any():
        return (
            f"model {int(np.argmax(better))} beats the benchmark by the same amount on every date: "
            "no error can be given"
        )
    if not moves.any():
        return "no model ever differs from the benchmark by more than a constant"
    kept = np.flatnonzero(moves)
    moving = matrix[:, kept]
    length = block_length
    if length is None:
        length = float(np.median(block_lengths(moving, scheme="stationary")))
    elif not 1.0 <= length <= len(matrix):
        raise ContractViolation(f"block length {length}: expected 1 to {len(matrix)}")
    warnings = []
    dropped = matrix.shape[1] - len(kept)
    if dropped:
        warnings.append(
            f"{dropped} of {matrix.shape[1]} models never vary against the benchmark and were "
            "dropped."
        )
    if len(matrix) < FEWEST_BLOCKS * length:
        warnings.append(
            f"{len(matrix)} dates are few for blocks of {length:.1f}: the p-value is guesswork."
        )
    error = np.sqrt(stationary_variance(moving, length) / len(moving))
    if not (error > 0).all():
        return "the long-run variance of a model's differences is not positive"
    means = moving.mean(axis=0)
    return _Sample(moving, means, error, kept, matrix.shape[1], length, tuple(warnings))


def _resampled_scores(
    sample: _Sample, generator: np.random.Generator, resamples: int, spread: Spread
) -> Iterator[tuple[FloatArray, FloatArray | float]]:
    """Means of all models over the same drawn dates, a few hundred resamples at a time.

    First the mean's distance from the sample's in standard errors, shape (some, K); then by what
    to divide it: the resample's standard deviation in units of the sample's, or 1.
    """
    size = len(sample.differences)
    deviation = sample.differences.std(axis=0)
    standard = (sample.differences - sample.means) / deviation
    squares = np.square(standard)
    for done in range(0, resamples, CHUNK):
        some = min(CHUNK, resamples - done)
        drawn = counts(stationary_indices(size, sample.length, some, generator), size) / size
        means = drawn @ standard
        noise = means * (deviation / sample.error)
        if spread == "sample":
            yield noise, 1.0
            continue
        variance = drawn @ squares
        variance -= means * means
        # Of a resample of equal values only the sign is left, and it counts as far out.
        yield noise, np.sqrt(np.maximum(variance, 1e-12))


def _described(sample: _Sample, resamples: int) -> dict[str, float | int]:
    return {
        "models": sample.models,
        "models_tested": len(sample.kept),
        "block_length": sample.length,
        "resamples": resamples,
    }


def _rows(values: npt.ArrayLike) -> int:
    return len(np.asarray(values))
