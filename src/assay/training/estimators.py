"""Fitting gradient-boosted trees with XGBoost, and predicting with them natively.

An ensemble has one booster per seed. Its margin is the mean, over seeds, of the sum of the trees;
the estimator's link turns the margin into a prediction:

* ``variance_correction``: max(offset, floor) * exp(margin / 2), a volatility per session;
* ``rise_probability``: 1 / (1 + exp(-margin));
* ``regression``: the margin.

A booster is fitted on one thread, always: sums of gradients then have one order, so a model does
not depend on how many cores the machine has. Parallelism is over folds (see ``run``).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from assay.domain.canonical import canonical_bytes
from assay.errors import ContractViolation
from assay.training.learners import Boosting
from assay.training.recipe import (
    Baseline,
    Learned,
    Regression,
    RiseProbability,
    VarianceCorrection,
    estimator_json,
)
from assay.training.trees import Tree, read_trees

if TYPE_CHECKING:
    import xgboost

Inputs: TypeAlias = NDArray[np.float32]
Predictions: TypeAlias = NDArray[np.float64]

_LOSSES: Final = {
    "squared_error": "reg:squarederror",
    "absolute_error": "reg:absoluteerror",
    "huber": "reg:pseudohubererror",
}
_FORMAT = "assay-xgboost-ensemble/1"
# Fixed, so that equal ensembles have equal bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """A fitted estimator: one booster per seed.

    Attributes
    ----------
    estimator: what was fitted.
    features: names of the input columns, in order.
    seeds: one per booster.
    boosters: the fitted members.
    """

    estimator: Learned
    features: tuple[str, ...]
    seeds: tuple[int, ...]
    boosters: tuple[xgboost.Booster, ...]

    model_file = "model.zip"

    def margins(self, inputs: Inputs) -> Predictions:
        """Mean over seeds of the sum of the trees, shape (rows,)."""
        total = np.zeros(len(inputs), dtype=np.float64)
        for booster in self.boosters:
            total += booster.inplace_predict(inputs, predict_type="margin")
        return total / len(self.boosters)

    def predict(self, inputs: Inputs) -> Predictions:
        """Predictions of float32 ``inputs`` of shape (rows, features), shape (rows,)."""
        return linked(self.estimator, self.features, inputs, self.margins(inputs))

    def trees(self) -> tuple[Tree, ...]:
        """All trees of all seeds, seed by seed."""
        return tuple(tree for booster in self.boosters for tree in read_trees(booster))

    def to_bytes(self) -> bytes:
        """A zip archive: ``ensemble.json`` and one XGBoost UBJSON file per seed. No pickle.

        Equal ensembles give equal bytes.
        """
        settings = {
            "format": _FORMAT,
            "estimator": estimator_json(self.estimator),
            "features": list(self.features),
            "seeds": list(self.seeds),
        }
        members = {"ensemble.json": canonical_bytes(settings)}
        for seed, booster in zip(self.seeds, self.boosters, strict=True):
            members[_member(seed)] = bytes(booster.save_raw("ubj"))
        return pack(members)


def pack(members: Mapping[str, bytes]) -> bytes:
    """A zip archive whose bytes depend on nothing but its members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
    return buffer.getvalue()


def linked(
    estimator: Learned, features: tuple[str, ...], inputs: Inputs, margins: Predictions
) -> Predictions:
    """What the estimator's link makes of margins, shape (rows,)."""
    match estimator:
        case VarianceCorrection():
            start = offsets(inputs, features, estimator.offset, estimator.floor)
            return start * np.exp(0.5 * margins)
        case RiseProbability():
            return 1.0 / (1.0 + np.exp(-margins))
        case Regression():
            return margins


def read_ensemble(data: bytes) -> Ensemble:
    """Read what :meth:`Ensemble.to_bytes` wrote.

    Raises
    ------
    ContractViolation: the bytes are not such an archive.
    """
    import xgboost  # takes over a second to import

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            settings = json.loads(archive.read("ensemble.json"))
            if settings["format"] != _FORMAT:
                raise ContractViolation(f"format {settings['format']!r}: expected {_FORMAT!r}")
            seeds = tuple(settings["seeds"])
            boosters = []
            for seed in seeds:
                booster = xgboost.Booster()
                booster.load_model(bytearray(archive.read(_member(seed))))
                boosters.append(booster)
            estimator = _read_estimator(settings["estimator"])
    except (
        zipfile.BadZipFile,
        KeyError,
        TypeError,
        ValueError,
        xgboost.core.XGBoostError,
    ) as error:
        raise ContractViolation(f"bytes are not a readable {_FORMAT} archive: {error}") from error
    return Ensemble(estimator, tuple(settings["features"]), seeds, tuple(boosters))


def _read_estimator(document: dict[str, Any]) -> Learned:
    boosting = Boosting(**document["boosting"])
    match document["name"]:
        case "rise_probability":
            return RiseProbability(boosting)
        case "regression":
            return Regression(boosting, document["loss"])
        case _:
            return VarianceCorrection(document["offset"], boosting, document["floor"])


def _member(seed: int) -> str:
    return f"seed_{seed}.ubj"


def fit(
    estimator: Learned,
    features: tuple[str, ...],
    seeds: tuple[int, ...],
    inputs: Inputs,
    labels: NDArray[np.float64],
    *,
    rounds: tuple[int, ...] | None = None,
) -> Ensemble:
    """Fit one booster per seed.

    Parameters
    ----------
    inputs: float32, shape (rows, features), finite.
    labels: float64, shape (rows,): squared returns for a variance correction, signed forward
        returns for a rise probability, anything for a regression.
    rounds: trees per seed; None for as many as are declared.

    Raises
    ------
    ContractViolation: a squared return is negative, or no label says anything about direction.
    """
    import xgboost  # takes over a second to import

    settings = boosting_of(estimator)
    target = target_of(estimator, features, inputs, labels)
    matrix = _matrix(xgboost, settings, target)
    boosters = tuple(
        xgboost.train(_parameters(estimator, settings, target, seed), matrix, count)
        for seed, count in zip(seeds, rounds or (settings.rounds,) * len(seeds), strict=True)
    )
    return Ensemble(estimator, features, seeds, boosters)


def best_rounds(
    estimator: Learned,
    features: tuple[str, ...],
    seeds: tuple[int, ...],
    train: tuple[Inputs, NDArray[np.float64]],
    held_back: tuple[Inputs, NDArray[np.float64]],
    patience: int,
) -> tuple[int, ...]:
    """For each seed, the number of trees with the least loss on rows that were held back."""
    import xgboost

    settings = boosting_of(estimator)
    target = target_of(estimator, features, *train)
    judged = target_of(estimator, features, *held_back)
    matrix = _matrix(xgboost, settings, target)
    tail = xgboost.DMatrix(judged.inputs, label=judged.labels, base_margin=judged.start, nthread=1)
    return tuple(
        xgboost.train(
            _parameters(estimator, settings, target, seed),
            matrix,
            settings.rounds,
            evals=[(tail, "tail")],
            early_stopping_rounds=patience,
            verbose_eval=False,
        ).best_iteration
        + 1
        for seed in seeds
    )


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What trees are fitted to: the rows that count, their labels, and the margins they start from.

    ``start`` is None where they start from one number for all rows.
    """

    inputs: Inputs
    labels: NDArray[np.float64]
    start: NDArray[np.float64] | None


def target_of(
    estimator: Learned,
    features: tuple[str, ...],
    inputs: Inputs,
    labels: NDArray[np.float64],
) -> Target:
    """What an estimator makes of the labels.

    Raises
    ------
    ContractViolation: a squared return is negative, or no label says anything about direction.
    """
    match estimator:
        case VarianceCorrection():
            if labels.min() < 0.0:
                raise ContractViolation(
                    f"label {labels.min():g}: a variance correction expects squared returns, >= 0"
                )
            start = 2.0 * np.log(offsets(inputs, features, estimator.offset, estimator.floor))
            return Target(inputs, np.maximum(labels, estimator.floor**2), start)
        case RiseProbability():
            moved = labels != 0.0
            if not moved.any():
                raise ContractViolation("every label is zero: expected some rises or falls")
            rise = (labels[moved] > 0.0).astype(np.float64)
            return Target(inputs if moved.all() else inputs[moved], rise, np.zeros(len(rise)))
        case Regression():
            return Target(inputs, labels, None)


def boosting_of(estimator: Learned) -> Boosting:
    """The settings of an estimator that XGBoost fits."""
    assert isinstance(estimator.learner, Boosting)
    return estimator.learner


def _matrix(xgboost: Any, settings: Boosting, target: Target) -> Any:
    return xgboost.QuantileDMatrix(
        target.inputs,
        label=target.labels,
        base_margin=target.start,
        max_bin=settings.bins,
        nthread=1,
    )


def _parameters(
    estimator: Learned, settings: Boosting, target: Target, seed: int
) -> dict[str, Any]:
    # The base scores are those whose margin is zero, so that a booster is its trees and no more.
    match estimator:
        case VarianceCorrection():
            objective = {"objective": "reg:gamma", "base_score": 1.0}
        case RiseProbability():
            objective = {"objective": "binary:logistic", "base_score": 0.5}
        case Regression():
            # Trees as small as ours would take many rounds to reach the level of the labels.
            level = float(np.float32(target.labels.mean()))
            objective = {"objective": _LOSSES[estimator.loss], "base_score": level}
    return {
        **objective,
        "tree_method": "hist",
        "max_depth": settings.depth,
        "learning_rate": settings.learning_rate,
        "min_child_weight": settings.min_child_weight,
        "subsample": settings.row_share,
        "colsample_bytree": settings.column_share,
        "max_bin": settings.bins,
        "reg_lambda": settings.l2,
        "seed": seed,
        "nthread": 1,
    }


def offsets(
    inputs: Inputs, features: tuple[str, ...], offset: str, floor: float
) -> NDArray[np.float64]:
    """The offset feature of each row, floored, shape (rows,).

    The floor is rounded to float32 first, as it stands in the ONNX graph.
    """
    column = inputs[:, features.index(offset)].astype(np.float64)
    return np.maximum(column, float(np.float32(floor)))


@dataclass(frozen=True, slots=True)
class BaselineForecast:
    """The baseline as a model: it has the same face as :class:`Ensemble`."""

    estimator: Baseline
    features: tuple[str, ...]

    model_file = "model.json"

    def predict(self, inputs: Inputs) -> Predictions:
        """The feature itself, floored, shape (rows,)."""
        return offsets(inputs, self.features, self.estimator.feature, self.estimator.floor)

    def trees(self) -> tuple[Tree, ...]:
        """None: nothing was learned."""
        return ()

    def to_bytes(self) -> bytes:
        """Canonical JSON of the feature and the floor."""
        return canonical_bytes(
            {
                "format": "assay-baseline/1",
                "estimator": asdict(self.estimator),
                "features": list(self.features),
            }
        )
