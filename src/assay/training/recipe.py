"""What a desk declares about a model: the data it learns from, the estimator, and how it is judged.

A recipe is a frozen value in a plain Python file of the desk (``models/*.py``). Its canonical JSON
is hashed, so that a trained version names exactly the recipe that made it. A recipe holds no data,
no path and no version number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from assay.domain.canonical import content_hash
from assay.domain.versions import check_name
from assay.errors import DefinitionError, did_you_mean
from assay.features.definition.declarations import load_declarations
from assay.training.learners import (
    Boosting,
    Calibration,
    EarlyStopping,
    Learner,
    LightGBM,
    SklearnEstimator,
)
from assay.training.splits import CombinatorialPurged, WalkForward

DEFAULT_FLOOR = 1e-5
"""Smallest volatility per session of a forecast or a label: a tenth of a basis point."""


@dataclass(frozen=True, slots=True)
class LabelDeclaration:
    """What is forecast. Training passes it on; whoever builds the training set gives it meaning.

    Attributes
    ----------
    name: the measurement, for example ``log_return`` or ``squared_log_return``.
    horizon: sessions that the label covers.
    entry: session, counted from the decision's own, at whose price the label starts: 0 for the
        last price known at the decision, 1 for the next one, at which one could still trade.
    """

    name: str
    horizon: int = 1
    entry: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.horizon < 1 or self.entry < 0:
            raise DefinitionError(
                f"label {self.name} with horizon={self.horizon}, entry={self.entry}: expected at "
                "least 1 and 0"
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Baseline:
    """Forecast one feature's own value: volatility = max(feature, floor). Nothing is learned."""

    feature: str
    floor: float = DEFAULT_FLOOR
    name: Literal["baseline"] = field(default="baseline", init=False)

    def __post_init__(self) -> None:
        _check_floor(self.floor)


@dataclass(frozen=True, slots=True)
class VarianceCorrection:
    """Volatility = max(offset, floor) * exp(trees(x) / 2), trained with gamma deviance.

    In variances: h = offset^2 * exp(trees(x)). The label is a squared return y, floored at
    floor^2. Gamma deviance of y around h is the QLIKE loss y/h - log(y/h) - 1 up to its factor of
    two (A. Patton, "Volatility forecast comparison using imperfect volatility proxies", Journal of
    Econometrics 160, 2011), so the trees learn only what the offset's forecast misses. The learner
    must be able to start from a forecast: XGBoost's trees or LightGBM's.
    """

    offset: str
    learner: Boosting | LightGBM = field(default_factory=Boosting)
    floor: float = DEFAULT_FLOOR
    name: Literal["variance_correction"] = field(default="variance_correction", init=False)

    def __post_init__(self) -> None:
        _check_floor(self.floor)
        _check_learner(self.name, self.learner, (Boosting, LightGBM))


@dataclass(frozen=True, slots=True)
class RiseProbability:
    """Probability that the label, a forward return, is positive: logistic loss over trees, or any
    scikit-learn classifier that gives probabilities.

    An unchanged price says nothing about direction: rows whose label is exactly zero are not
    trained on, and are still predicted out of sample.
    """

    learner: Learner = field(default_factory=Boosting)
    name: Literal["rise_probability"] = field(default="rise_probability", init=False)

    def __post_init__(self) -> None:
        _check_learner(self.name, self.learner, (Boosting, LightGBM, SklearnEstimator))


@dataclass(frozen=True, slots=True)
class Regression:
    """The label itself, by the loss that is named; a scikit-learn regressor brings its own.

    ``huber`` is LightGBM's Huber loss, and XGBoost's smooth version of it.
    """

    learner: Learner = field(default_factory=Boosting)
    loss: Literal["squared_error", "absolute_error", "huber"] = "squared_error"
    name: Literal["regression"] = field(default="regression", init=False)

    def __post_init__(self) -> None:
        _check_learner(self.name, self.learner, (Boosting, LightGBM, SklearnEstimator))
        known = {"squared_error", "absolute_error", "huber"}
        if self.loss not in known:
            raise DefinitionError(
                f"regression with loss {self.loss!r}: expected one of {', '.join(sorted(known))}",
                hint=did_you_mean(str(self.loss), sorted(known)),
            )
        if isinstance(self.learner, SklearnEstimator) and self.loss != "squared_error":
            raise DefinitionError(
                f"regression with loss {self.loss!r} and {self.learner.path}: its loss is a "
                "setting of the estimator",
                hint='SklearnEstimator(..., {"loss": ...}) where it has one',
            )


Learned: TypeAlias = VarianceCorrection | RiseProbability | Regression
Estimator: TypeAlias = Baseline | Learned


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to train one model.

    Attributes
    ----------
    name: the recipe's own name, unique in the desk.
    kind: kind of model, which selects the promotion policy: ``risk_model``, ``alpha_weights``.
    view: feature view that the inputs come from.
    request: request view whose features join the view's; empty for none. Then a row of the
        training set is a past request, and a prediction needs what a request brings.
    label: what is forecast.
    estimator: :class:`Baseline`, :class:`VarianceCorrection`, :class:`RiseProbability` or
        :class:`Regression`.
    description: one or two sentences for people.
    model: line of models that versions of this recipe join; the recipe's name when empty.
    features: input features in order, or ``"all"`` for every feature of the view, then of the
        request view.
    exclude: features to leave out.
    seeds: one ensemble member per seed; the margins are averaged.
    walk_forward: how the out-of-sample predictions are made.
    robustness: also train on every split of this scheme and keep the predictions of its paths; the
        spread of what the paths earn becomes evidence. None trains the walk-forward alone.
    groups: name -> features that are left out together to see what they are worth; one group per
        view when empty. It changes no model.
    early_stopping: chooses the number of rounds inside each fold's training rows; the learner's
        ``rounds`` are then the most. None fits them all.
    calibration: of a rise probability; None leaves it as it is.
    """

    name: str
    kind: str
    view: str
    label: LabelDeclaration
    estimator: Estimator
    description: str
    model: str = ""
    features: Literal["all"] | tuple[str, ...] = "all"
    exclude: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1, 2)
    walk_forward: WalkForward = field(default_factory=WalkForward)
    request: str = ""
    robustness: CombinatorialPurged | None = None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    early_stopping: EarlyStopping | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        object.__setattr__(self, "model", check_name(self.model or self.name))
        check_name(self.kind)
        for part, wanted in (
            ("label", LabelDeclaration),
            ("estimator", Baseline | VarianceCorrection | RiseProbability | Regression),
            ("walk_forward", WalkForward),
            ("robustness", CombinatorialPurged | None),
            ("early_stopping", EarlyStopping | None),
            ("calibration", Calibration | None),
        ):
            value = getattr(self, part)
            if not isinstance(value, wanted):
                raise DefinitionError(
                    f"recipe {self.name}: {part} is {value!r}, expected {_type_names(wanted)}"
                )
        if self.robustness is not None and isinstance(self.estimator, Baseline):
            raise DefinitionError(
                f"recipe {self.name}: robustness of a baseline, which is not trained",
                hint="leave robustness out",
            )
        self._check_selection()
        self._check_groups()
        self._check_refinements()
        whole = all(type(seed) is int and 0 <= seed < 2**31 for seed in self.seeds)
        if not self.seeds or not whole or len(set(self.seeds)) != len(self.seeds):
            raise DefinitionError(
                f"recipe {self.name}: seeds are {self.seeds!r}, expected distinct whole numbers "
                "from 0 to 2147483647"
            )

    def _check_selection(self) -> None:
        # A desk's file is not type-checked, and a string is a sequence of strings.
        features: Any = self.features
        exclude: Any = self.exclude
        request: Any = self.request
        if not isinstance(request, str):
            raise DefinitionError(
                f"recipe {self.name}: request is {type(request).__name__}, expected the name of a "
                "request view"
            )
        if features != "all" and (isinstance(features, str) or not features):
            raise DefinitionError(
                f"recipe {self.name}: features is {features!r}, expected 'all' or a tuple of names"
            )
        if isinstance(exclude, str):
            raise DefinitionError(
                f"recipe {self.name}: exclude is {exclude!r}, expected a tuple of names",
                hint=f"exclude=({exclude!r},)",
            )

    def _check_groups(self) -> None:
        groups: Any = self.groups
        if not isinstance(groups, Mapping) or any(
            isinstance(members, str) or not members for members in groups.values()
        ):
            raise DefinitionError(
                f"recipe {self.name}: groups is {groups!r}, expected names with tuples of features",
                hint='groups={"volatility": ("vol_20", "vol_60")}',
            )
        members = [member for group in groups.values() for member in group]
        twice = sorted({member for member in members if members.count(member) > 1})
        if twice:
            raise DefinitionError(
                f"recipe {self.name}: {', '.join(twice)} in two groups: expected one"
            )
        named = {check_name(name): tuple(group) for name, group in groups.items()}
        object.__setattr__(self, "groups", named)

    def _check_refinements(self) -> None:
        learner = getattr(self.estimator, "learner", None)
        if self.early_stopping is not None and not isinstance(learner, (Boosting, LightGBM)):
            raise DefinitionError(
                f"recipe {self.name}: early stopping adds trees one by one, and "
                f"{self.estimator.name} has no learner that does",
                hint="expected Boosting or LightGBM",
            )
        if self.calibration is not None and not isinstance(self.estimator, RiseProbability):
            raise DefinitionError(
                f"recipe {self.name}: calibration is of probabilities, and {self.estimator.name} "
                "gives none",
                hint="expected estimator=RiseProbability(...)",
            )

    def select_features(self, available: Sequence[str]) -> tuple[str, ...]:
        """The input features in order, chosen from those of the view and the request view.

        Raises
        ------
        DefinitionError: a name is not in the view, is listed twice, or the estimator's own feature
            is not among the chosen.
        """
        named = () if self.features == "all" else self.features
        grouped = (member for group in self.groups.values() for member in group)
        for name in (*named, *self.exclude, *grouped):
            if name not in available:
                raise DefinitionError(
                    f"recipe {self.name}: feature '{name}' is not in view {self.view}"
                    + (f" or request view {self.request}" if self.request else ""),
                    hint=did_you_mean(name, available),
                )
        if isinstance(self.estimator, Baseline) and self.features == "all":
            named = (self.estimator.feature,)
        chosen = tuple(name for name in named or available if name not in self.exclude)
        if not chosen or len(set(chosen)) != len(chosen):
            raise DefinitionError(
                f"recipe {self.name} selects {list(chosen)}: expected distinct features, at least 1"
            )
        anchor = _anchor(self.estimator)
        if anchor is not None and anchor not in chosen:
            raise DefinitionError(
                f"recipe {self.name}: estimator {self.estimator.name} needs feature '{anchor}', "
                "which is not among the selected",
                hint=did_you_mean(anchor, chosen),
            )
        return chosen

    def to_json(self) -> dict[str, Any]:
        """A canonical JSON object with every field; those that came later only where they are
        used, so that recipes without keep the hash that they had before.
        """
        asked: dict[str, Any] = {"request": self.request} if self.request else {}
        if self.robustness is not None:
            asked["robustness"] = self.robustness.to_json()
        if self.groups:
            asked["groups"] = {name: list(group) for name, group in self.groups.items()}
        if self.early_stopping is not None:
            asked["early_stopping"] = asdict(self.early_stopping)
        if self.calibration is not None:
            asked["calibration"] = asdict(self.calibration)
        return {
            "format": "assay-recipe/1",
            "name": self.name,
            "model": self.model,
            "kind": self.kind,
            "view": self.view,
            **asked,
            "features": self.features if self.features == "all" else list(self.features),
            "exclude": list(self.exclude),
            "label": self.label.to_json(),
            "estimator": estimator_json(self.estimator),
            "seeds": list(self.seeds),
            "walk_forward": self.walk_forward.to_json(),
            "description": self.description,
        }

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON."""
        return content_hash(self.to_json())


def estimator_json(estimator: Estimator) -> dict[str, Any]:
    """A canonical JSON object with every field of an estimator and its learner.

    XGBoost's settings stand under ``boosting``, as they did when there was no other learner.
    """
    learner = getattr(estimator, "learner", None)
    if learner is None:
        return asdict(estimator)
    others = {
        item.name: getattr(estimator, item.name)
        for item in fields(estimator)
        if item.name != "learner"
    }
    key = "boosting" if isinstance(learner, Boosting) else "learner"
    return {**others, key: learner.to_json()}


def _check_learner(what: str, learner: object, wanted: tuple[type, ...]) -> None:
    if not isinstance(learner, wanted):
        raise DefinitionError(
            f"{what} with learner {learner!r}: expected "
            f"{' or '.join(one.__name__ for one in wanted)}"
        )


def _anchor(estimator: Estimator) -> str | None:
    match estimator:
        case Baseline(feature=name):
            return name
        case VarianceCorrection(offset=name):
            return name
        case RiseProbability() | Regression():
            return None


def _check_floor(floor: float) -> None:
    if not (math.isfinite(floor) and floor > 0.0):
        raise DefinitionError(f"floor {floor}: expected a volatility above 0, such as 1e-5")


def _type_names(wanted: Any) -> str:
    return " or ".join(part.__name__ for part in getattr(wanted, "__args__", (wanted,)))


def load_recipes(path: Path) -> tuple[Recipe, ...]:
    """The recipes of a Python file, or of every ``*.py`` in a folder (by name), in file order.

    Raises
    ------
    NotFound: nothing is at ``path``.
    DefinitionError: a file does not run, declares no recipe, or two recipes share a name.
    """
    return load_declarations(path, Recipe, noun="recipe")
