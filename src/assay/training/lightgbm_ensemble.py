"""Recipes fitted by LightGBM: one booster per seed, one thread each, margins averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from assay.domain.canonical import canonical_bytes
from assay.training.conversion import import_lightgbm
from assay.training.conversion.lightgbm_models import LightGBMModel, read_lightgbm
from assay.training.estimators import Inputs, Predictions, Target, linked, pack, target_of
from assay.training.learners import LightGBM
from assay.training.recipe import (
    Learned,
    Regression,
    RiseProbability,
    VarianceCorrection,
    estimator_json,
)
from assay.training.trees import Tree

if TYPE_CHECKING:
    import lightgbm

_FORMAT: Final = "assay-lightgbm-ensemble/1"
_LOSSES: Final = {
    "squared_error": "regression",
    "absolute_error": "regression_l1",
    "huber": "huber",
}


@dataclass(frozen=True, slots=True, eq=False)
class LightGBMEnsemble:
    """A fitted estimator: one booster per seed. It has the face of the XGBoost ensemble."""

    estimator: Learned
    features: tuple[str, ...]
    seeds: tuple[int, ...]
    members: tuple[LightGBMModel, ...]

    model_file = "model.zip"

    def predict(self, inputs: Inputs) -> Predictions:
        """Predictions of float32 ``inputs`` of shape (rows, features), shape (rows,)."""
        total = np.zeros(len(inputs))
        for member in self.members:
            total += member.margins(inputs)[:, 0]
        return linked(self.estimator, self.features, inputs, total / len(self.members))

    def trees(self) -> tuple[Tree, ...]:
        """All trees of all seeds, seed by seed."""
        return tuple(tree for member in self.members for tree in member.trees())

    def to_bytes(self) -> bytes:
        """A zip archive: ``ensemble.json`` and one LightGBM text per seed. No pickle."""
        settings = {
            "format": _FORMAT,
            "estimator": estimator_json(self.estimator),
            "features": list(self.features),
            "seeds": list(self.seeds),
        }
        texts = {
            f"seed_{seed}.txt": member.to_file()[1]
            for seed, member in zip(self.seeds, self.members, strict=True)
        }
        return pack({"ensemble.json": canonical_bytes(settings), **texts})


def fit_lightgbm(
    estimator: Learned,
    features: tuple[str, ...],
    seeds: tuple[int, ...],
    inputs: Inputs,
    labels: NDArray[np.float64],
    *,
    rounds: tuple[int, ...] | None = None,
) -> LightGBMEnsemble:
    """Fit one booster per seed; parameters and errors are those of XGBoost's ``fit``.

    Raises
    ------
    ConfigurationError: LightGBM is not installed.
    """
    library = import_lightgbm()
    settings = _settings(estimator)
    target = target_of(estimator, features, inputs, labels)
    members = []
    for seed, count in zip(seeds, rounds or (settings.rounds,) * len(seeds), strict=True):
        booster = _train(library, estimator, target, seed, count)
        members.append(read_lightgbm(booster, features))
    return LightGBMEnsemble(estimator, features, seeds, tuple(members))


def best_rounds_of_lightgbm(
    estimator: Learned,
    features: tuple[str, ...],
    seeds: tuple[int, ...],
    train: tuple[Inputs, NDArray[np.float64]],
    held_back: tuple[Inputs, NDArray[np.float64]],
    patience: int,
) -> tuple[int, ...]:
    """For each seed, the number of trees with the least loss on rows that were held back."""
    library = import_lightgbm()
    target = target_of(estimator, features, *train)
    judged = target_of(estimator, features, *held_back)
    stop = library.early_stopping(patience, verbose=False)
    count = _settings(estimator).rounds
    return tuple(
        _train(library, estimator, target, seed, count, judged, [stop]).best_iteration
        for seed in seeds
    )


def _train(
    library: Any,
    estimator: Learned,
    target: Target,
    seed: int,
    rounds: int,
    judged: Target | None = None,
    callbacks: list[Callable[..., None]] | None = None,
) -> lightgbm.Booster:
    parameters = _parameters(estimator, seed)
    data = library.Dataset(target.inputs, target.labels, init_score=target.start, params=parameters)
    valid = []
    if judged is not None:
        valid = [
            library.Dataset(judged.inputs, judged.labels, init_score=judged.start, reference=data)
        ]
    booster: lightgbm.Booster = library.train(
        parameters, data, rounds, valid_sets=valid or None, callbacks=callbacks or None
    )
    return booster


def _settings(estimator: Learned) -> LightGBM:
    assert isinstance(estimator.learner, LightGBM)
    return estimator.learner


def _parameters(estimator: Learned, seed: int) -> dict[str, Any]:
    settings = _settings(estimator)
    match estimator:
        case VarianceCorrection():
            objective = {"objective": "gamma", "boost_from_average": False}
        case RiseProbability():
            objective = {"objective": "binary", "boost_from_average": False}
        case Regression():
            objective = {"objective": _LOSSES[estimator.loss], "boost_from_average": True}
    return {
        **objective,
        "num_leaves": settings.leaves,
        "max_depth": -1 if settings.depth is None else settings.depth,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.min_rows,
        "min_sum_hessian_in_leaf": settings.min_child_weight,
        "bagging_fraction": settings.row_share,
        "bagging_freq": 1,
        "feature_fraction": settings.column_share,
        "max_bin": settings.bins,
        "lambda_l2": settings.l2,
        "seed": seed,
        "num_threads": 1,
        # Equal rows give equal bits, in any run.
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }
