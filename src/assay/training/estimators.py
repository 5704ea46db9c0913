"""Fitting gradient-boosted trees with XGBoost, and predicting with them natively.

An ensemble has one booster per seed. Its margin is the mean, over seeds, of the sum of the trees;
the estimator's link turns the margin into a prediction:

* ``variance_correction``: max(offset, floor) * exp(margin / 2), a volatility per session;
* ``rise_probability``: 1 / (1 + exp(-margin)).

A booster is fitted on one thread, always: sums of gradients then have one order, so a model does
not depend on how many cores the machine has. Parallelism is over folds (see ``run``).
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from assay.domain.canonical import canonical_bytes
from assay.errors import ContractViolation
from assay.training.recipe import Baseline, Boosting, RiseProbability, VarianceCorrection
from assay.training.trees import Tree, read_trees

if TYPE_CHECKING:
    import xgboost

Inputs: TypeAlias = NDArray[np.float32]
Predictions: TypeAlias = NDArray[np.float64]
Learned: TypeAlias = VarianceCorrection | RiseProbability

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

    def margins(self, inputs: Inputs) -> Predictions:
        """Mean over seeds of the sum of the trees, shape (rows,)."""
        total = np.zeros(len(inputs), dtype=np.float64)
        for booster in self.boosters:
            total += booster.inplace_predict(inputs, predict_type="margin")
        return total / len(self.boosters)

    def predict(self, inputs: Inputs) -> Predictions:
        """Predictions of float32 ``inputs`` of shape (rows, features), shape (rows,)."""
        margins = self.margins(inputs)
        match self.estimator:
            case VarianceCorrection() as estimator:
                return self._offsets(estimator, inputs) * np.exp(0.5 * margins)
            case RiseProbability():
                return 1.0 / (1.0 + np.exp(-margins))

    def trees(self) -> tuple[Tree, ...]:
        """All trees of all seeds, seed by seed."""
        return tuple(tree for booster in self.boosters for tree in read_trees(booster))

    def _offsets(self, estimator: VarianceCorrection, inputs: Inputs) -> Predictions:
        return offsets(inputs, self.features, estimator.offset, estimator.floor)

    def to_bytes(self) -> bytes:
        """A zip archive: ``ensemble.json`` and one XGBoost UBJSON file per seed. No pickle.

        Equal ensembles give equal bytes.
        """
        settings = {
            "format": _FORMAT,
            "estimator": asdict(self.estimator),
            "features": list(self.features),
            "seeds": list(self.seeds),
        }
        members = {"ensemble.json": canonical_bytes(settings)}
        for seed, booster in zip(self.seeds, self.boosters, strict=True):
            members[_member(seed)] = bytes(booster.save_raw("ubj"))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
        return buffer.getvalue()


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
    if document["name"] == "rise_probability":
        return RiseProbability(boosting)
    return VarianceCorrection(document["offset"], boosting, document["floor"])


def _member(seed: int) -> str:
    return f"seed_{seed}.ubj"


def fit(
    estimator: Learned,
    features: tuple[str, ...],
    seeds: tuple[int, ...],
    inputs: Inputs,
    labels: NDArray[np.float64],
) -> Ensemble:
    """Fit one booster per seed.

    Parameters
    ----------
    inputs: float32, shape (rows, features), finite.
    labels: float64, shape (rows,): squared returns for a variance correction, signed forward
        returns for a rise probability.

    Raises
    ------
    ContractViolation: a squared return is negative, or no label says anything about direction.
    """
    import xgboost  # takes over a second to import

    target, base, keep = _target(estimator, features, inputs, labels)
    settings = estimator.boosting
    matrix = xgboost.QuantileDMatrix(
        inputs[keep] if keep is not None else inputs,
        label=target,
        base_margin=base,
        max_bin=settings.bins,
        nthread=1,
    )
    boosters = tuple(
        xgboost.train(_parameters(estimator, seed), matrix, settings.rounds) for seed in seeds
    )
    return Ensemble(estimator, features, seeds, boosters)


def _target(
    estimator: Learned,
    features: tuple[str, ...],
    inputs: Inputs,
    labels: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_] | None]:
    """What the trees are fitted to, the margin they start from, and the rows that count."""
    match estimator:
        case VarianceCorrection():
            if labels.min() < 0.0:
                raise ContractViolation(
                    f"label {labels.min():g}: a variance correction expects squared returns, >= 0"
                )
            start = 2.0 * np.log(offsets(inputs, features, estimator.offset, estimator.floor))
            return np.maximum(labels, estimator.floor**2), start, None
        case RiseProbability():
            moved = labels != 0.0
            if not moved.any():
                raise ContractViolation("every label is zero: expected some rises or falls")
            rise = (labels[moved] > 0.0).astype(np.float64)
            return rise, np.zeros(len(rise)), None if moved.all() else moved


def _parameters(estimator: Learned, seed: int) -> dict[str, Any]:
    settings = estimator.boosting
    # The base scores are those whose margin is zero, so that a booster is its trees and no more.
    match estimator:
        case VarianceCorrection():
            objective = {"objective": "reg:gamma", "base_score": 1.0}
        case RiseProbability():
            objective = {"objective": "binary:logistic", "base_score": 0.5}
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
