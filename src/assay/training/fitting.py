"""One model from some rows of the training set, as its recipe says.

1. Where the recipe stops early, the last dates of the rows are held back, purged of what reaches
   into them, and say how many rounds are enough.
2. All rows are fitted, by the library that the learner names.
3. Where the recipe calibrates, purged folds of the same rows are predicted by models that have not
   seen them, and a monotone map is fitted to that.

Everything happens inside the given rows, so a fold's test block has no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.training.calibration import CalibratedModel, fit_map
from assay.training.dataset import TrainingRows
from assay.training.estimators import Ensemble, best_rounds, fit
from assay.training.learners import Boosting, Calibration, EarlyStopping, LightGBM
from assay.training.lightgbm_ensemble import (
    LightGBMEnsemble,
    best_rounds_of_lightgbm,
    fit_lightgbm,
)
from assay.training.recipe import Baseline, Learned, Recipe
from assay.training.sklearn_ensemble import SklearnEnsemble, fit_sklearn
from assay.training.splits import RowTimes, WalkForward, purged_k_fold, walk_forward


@dataclass(frozen=True, slots=True, eq=False)
class FittedModel:
    """A model, the rounds of each seed where they were chosen, and its map where it has one."""

    model: Ensemble | LightGBMEnsemble | SklearnEnsemble | CalibratedModel
    rounds: tuple[int, ...]
    calibration: dict[str, Any] | None


def fit_rows(recipe: Recipe, rows: TrainingRows, index: NDArray[np.int64]) -> FittedModel:
    """Fit a recipe to the rows of an index, ascending.

    Raises
    ------
    ContractViolation: the labels do not suit the estimator, or there are too few dates to stop
        early or to calibrate.
    """
    estimator = recipe.estimator
    assert not isinstance(estimator, Baseline)
    rounds: tuple[int, ...] = ()
    if recipe.early_stopping is not None:
        rounds = _rounds(recipe, estimator, recipe.early_stopping, rows, index)
    model = _fit(recipe, estimator, rows, index, rounds)
    if recipe.calibration is None:
        return FittedModel(model, rounds, None)
    out_of_sample = _held_out(recipe, estimator, recipe.calibration, rows, index, rounds)
    labels = rows.labels[index]
    moved = labels != 0.0
    found = fit_map(recipe.calibration, out_of_sample[moved], labels[moved] > 0.0)
    return FittedModel(CalibratedModel(model, found), rounds, found.to_json())


def _fit(
    recipe: Recipe,
    estimator: Learned,
    rows: TrainingRows,
    index: NDArray[np.int64],
    rounds: tuple[int, ...],
) -> Ensemble | LightGBMEnsemble | SklearnEnsemble:
    given = (estimator, rows.features, recipe.seeds, rows.inputs[index], rows.labels[index])
    match estimator.learner:
        case Boosting():
            return fit(*given, rounds=rounds or None)
        case LightGBM():
            return fit_lightgbm(*given, rounds=rounds or None)
        case _:
            return fit_sklearn(*given)


def _rounds(
    recipe: Recipe,
    estimator: Learned,
    declared: EarlyStopping,
    rows: TrainingRows,
    index: NDArray[np.int64],
) -> tuple[int, ...]:
    scheme = WalkForward(
        folds=1,
        initial_share=1.0 - declared.share,
        embargo_days=recipe.walk_forward.embargo_days,
    )
    (split,) = walk_forward(_times(rows.times, index), scheme)
    train, tail = index[split.train_index], index[split.test_index]
    best = best_rounds if isinstance(estimator.learner, Boosting) else best_rounds_of_lightgbm
    return best(
        estimator,
        rows.features,
        recipe.seeds,
        (rows.inputs[train], rows.labels[train]),
        (rows.inputs[tail], rows.labels[tail]),
        declared.patience,
    )


def _held_out(
    recipe: Recipe,
    estimator: Learned,
    declared: Calibration,
    rows: TrainingRows,
    index: NDArray[np.int64],
    rounds: tuple[int, ...],
) -> NDArray[np.float64]:
    """A prediction of every row by a model whose labels do not reach into that row's."""
    times = _times(rows.times, index)
    made = np.empty(len(index))
    for split in purged_k_fold(times, declared.folds, recipe.walk_forward.embargo_days):
        model = _fit(recipe, estimator, rows, index[split.train_index], rounds)
        made[split.test_index] = model.predict(rows.inputs[index[split.test_index]])
    return made


def _times(times: RowTimes, index: NDArray[np.int64]) -> RowTimes:
    return RowTimes(
        times.as_of[index],
        times.label_start[index],
        times.label_end[index],
        times.label_known[index],
    )
