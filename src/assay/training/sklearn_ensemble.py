"""Recipes fitted by scikit-learn: one estimator per seed, predictions averaged."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.domain.canonical import canonical_bytes
from assay.errors import ConfigurationError, DefinitionError, did_you_mean
from assay.training.conversion.sklearn_models import SklearnModel, read_sklearn
from assay.training.estimators import Inputs, Predictions, target_of
from assay.training.learners import SklearnEstimator
from assay.training.recipe import Learned, RiseProbability, estimator_json
from assay.training.trees import Tree


@dataclass(frozen=True, slots=True, eq=False)
class SklearnEnsemble:
    """A fitted estimator: one member per seed, or one where chance has no part in fitting.

    It has the face of the XGBoost ensemble, and no file of its own: scikit-learn writes pickles
    only, so ``model.onnx`` is the model, and ``model.json`` says what was fitted.
    """

    estimator: Learned
    features: tuple[str, ...]
    seeds: tuple[int, ...]
    members: tuple[SklearnModel, ...]

    model_file = "model.json"

    def predict(self, inputs: Inputs) -> Predictions:
        """Predictions of float32 ``inputs`` of shape (rows, features), shape (rows,)."""
        total = np.zeros(len(inputs))
        for member in self.members:
            total += member.predict(inputs)[:, 0]
        return total / len(self.members)

    def trees(self) -> tuple[Tree, ...]:
        """All trees of all members that the inputs reach as they are."""
        return tuple(tree for member in self.members for tree in member.trees())

    def to_bytes(self) -> bytes:
        """Canonical JSON of what was fitted."""
        return canonical_bytes(
            {
                "format": "assay-sklearn/1",
                "estimator": estimator_json(self.estimator),
                "features": list(self.features),
                "members": len(self.members),
                "model": "model.onnx",
            }
        )


def fit_sklearn(
    estimator: Learned,
    features: tuple[str, ...],
    seeds: tuple[int, ...],
    inputs: Inputs,
    labels: NDArray[np.float64],
) -> SklearnEnsemble:
    """Fit one estimator per seed, on float64; parameters are those of XGBoost's ``fit``.

    Raises
    ------
    ConfigurationError: scikit-learn is not installed.
    DefinitionError: no such class or setting, or not of the kind that the recipe's estimator needs.
    """
    target = target_of(estimator, features, inputs, labels)
    rows = target.inputs.astype(np.float64)
    wanted = target.labels.astype(np.int64) if _classifies(estimator) else target.labels
    made = [build(_declared(estimator), seed) for seed in seeds]
    if not any("random_state" in key for key in made[0].get_params()):
        made = made[:1]
    members = []
    for one in made:
        _check_kind(estimator, one)
        members.append(read_sklearn(one.fit(rows, wanted), features))
    return SklearnEnsemble(estimator, features, seeds, tuple(members))


@contextmanager
def one_thread(estimator: Learned) -> Iterator[None]:
    """Linear algebra on one thread while scikit-learn fits, so that sums have one order."""
    if not isinstance(estimator.learner, SklearnEstimator):
        yield
        return
    _import("sklearn")
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    with threadpool_limits(limits=1):
        yield


def build(declared: SklearnEstimator, seed: int) -> Any:
    """The estimator as declared, not fitted; a pipeline where transformations stand before it."""
    steps = [_instance(step, seed) for step in (*declared.before, declared)]
    if len(steps) == 1:
        return steps[0]
    from sklearn.pipeline import make_pipeline

    return make_pipeline(*steps)


def _instance(declared: SklearnEstimator, seed: int) -> Any:
    module, _, name = declared.path.rpartition(".")
    package = _import(module)
    kind = getattr(package, name, None)
    if kind is None:
        raise DefinitionError(
            f"no class {declared.path}",
            hint=did_you_mean(name, [n for n in dir(package) if n[0].isupper()]),
        )
    try:
        made = kind(**dict(declared.pairs))
    except TypeError as error:
        raise DefinitionError(f"estimator {declared.path}: {error}") from None
    return made.set_params(random_state=seed) if "random_state" in made.get_params() else made


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == "sklearn":
            raise ConfigurationError(
                "scikit-learn is not installed", hint="pip install 'assay[sklearn]'"
            ) from None
        raise DefinitionError(f"no module {module}") from None


def _declared(estimator: Learned) -> SklearnEstimator:
    assert isinstance(estimator.learner, SklearnEstimator)
    return estimator.learner


def _classifies(estimator: Learned) -> bool:
    return isinstance(estimator, RiseProbability)


def _check_kind(estimator: Learned, made: Any) -> None:
    from sklearn.base import is_classifier, is_regressor

    fits = is_classifier(made) if _classifies(estimator) else is_regressor(made)
    if not fits:
        kind = "classifier" if _classifies(estimator) else "regressor"
        raise DefinitionError(
            f"{estimator.name} with {_declared(estimator).path}: expected a {kind}"
        )
