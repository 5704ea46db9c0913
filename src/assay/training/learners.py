"""What a desk declares about how a model learns: the library, its settings, when it stops.

Declarations are frozen values with a canonical JSON form. They import none of the libraries they
name, so that a recipe can be read where only its hash is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from assay.errors import DefinitionError

Setting: TypeAlias = str | int | float | bool | tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class Boosting:
    """Settings of XGBoost's trees; declared up front and never searched.

    Attributes
    ----------
    rounds, depth: trees per seed, and levels per tree.
    learning_rate: share of each tree's correction that is kept.
    min_child_weight: least sum of second derivatives in a leaf.
    row_share, column_share: share of rows and of features that each tree is offered.
    bins: histogram bins per feature.
    l2: ridge penalty on leaf values.
    """

    rounds: int = 80
    depth: int = 3
    learning_rate: float = 0.06
    min_child_weight: float = 200.0
    row_share: float = 0.7
    column_share: float = 0.5
    bins: int = 64
    l2: float = 1.0

    def __post_init__(self) -> None:
        _check(
            "boosting",
            self,
            whole={"rounds": 1, "depth": 1, "bins": 2},
            shares=("learning_rate", "row_share", "column_share"),
            penalties=("min_child_weight", "l2"),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LightGBM:
    """Settings of LightGBM's trees, which grow leaf by leaf.

    Attributes
    ----------
    rounds, leaves: trees per seed, and leaves per tree.
    depth: most levels per tree; None for any.
    learning_rate: share of each tree's correction that is kept.
    min_rows: fewest rows in a leaf. min_child_weight: least sum of second derivatives in one.
    row_share, column_share: share of rows and of features that each tree is offered.
    bins: histogram bins per feature.
    l2: ridge penalty on leaf values.
    """

    rounds: int = 80
    leaves: int = 8
    depth: int | None = None
    learning_rate: float = 0.06
    min_rows: int = 200
    min_child_weight: float = 1e-3
    row_share: float = 0.7
    column_share: float = 0.5
    bins: int = 64
    l2: float = 1.0

    def __post_init__(self) -> None:
        whole = {"rounds": 1, "leaves": 2, "min_rows": 1, "bins": 2}
        _check(
            "LightGBM",
            self,
            whole=whole if self.depth is None else {**whole, "depth": 1},
            shares=("learning_rate", "row_share", "column_share"),
            penalties=("min_child_weight", "l2"),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field, and which library it is of."""
        return {"library": "lightgbm", **asdict(self)}


@dataclass(frozen=True, slots=True)
class SklearnEstimator:
    """A scikit-learn estimator: which class, with which settings, behind which transformations.

    ``random_state`` is each seed in turn and ``n_jobs`` stays at one; neither is a setting.

    Attributes
    ----------
    path: module and class, such as ``sklearn.linear_model.Ridge``.
    settings: constructor's arguments by name, plain values; given as a mapping, kept in order of
        name.
    before: transformations ahead of it, first one first, such as
        ``SklearnEstimator("sklearn.preprocessing.StandardScaler")``.
    """

    path: str
    settings: Mapping[str, Setting] | tuple[tuple[str, Setting], ...] = ()
    before: tuple[SklearnEstimator, ...] = ()

    def __post_init__(self) -> None:
        module, _, name = self.path.rpartition(".")
        if not (module == "sklearn" or module.startswith("sklearn.")) or not name[:1].isupper():
            raise DefinitionError(
                f"estimator {self.path!r}: expected a class of scikit-learn by its module, such as "
                "'sklearn.linear_model.Ridge'"
            )
        given = self.settings.items() if isinstance(self.settings, Mapping) else self.settings
        settings = tuple(sorted((str(key), _plain(self.path, key, value)) for key, value in given))
        for key, _value in settings:
            if key in {"random_state", "n_jobs"}:
                raise DefinitionError(
                    f"estimator {self.path} with {key}: seeds are the recipe's, and each fit runs "
                    "on one thread",
                    hint="seeds=(1, 2) in the recipe",
                )
        object.__setattr__(self, "settings", settings)
        object.__setattr__(self, "before", tuple(self.before))

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field, and which library it is of."""
        return {
            "library": "scikit-learn",
            "path": self.path,
            "settings": {key: _listed(value) for key, value in self.pairs},
            "before": [step.to_json() for step in self.before],
        }

    @property
    def pairs(self) -> tuple[tuple[str, Setting], ...]:
        """The settings by name, in order."""
        return self.settings  # type: ignore[return-value]


Learner: TypeAlias = Boosting | LightGBM | SklearnEstimator


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """How many rounds: as many as the last dates of the training rows go on asking for.

    The last dates are cut off the training rows and purged of what reaches into them; trees are
    added until the loss on them has not fallen for ``patience`` rounds. Then all training rows are
    fitted with the best number of rounds. No row of a test block has a part in it.

    Attributes
    ----------
    patience: rounds without a better loss.
    share: share of the training dates that are held back.
    """

    patience: int = 20
    share: float = 0.2

    def __post_init__(self) -> None:
        if self.patience < 1 or not 0.0 < self.share < 1.0:
            raise DefinitionError(
                f"early stopping with patience={self.patience}, share={self.share}: expected at "
                "least 1, and between 0 and 1"
            )


@dataclass(frozen=True, slots=True)
class Calibration:
    """A monotone map from the model's probabilities to those that its own mistakes suggest.

    It is fitted to predictions of the training rows by models that had not seen them (purged
    k-fold on label intervals, inside the training rows), and put behind the model in its ONNX file.

    Attributes
    ----------
    method: ``platt``, a logistic curve of the log-odds; or ``isotonic``, rising straight lines.
    folds: of the k-fold.
    """

    method: Literal["platt", "isotonic"] = "platt"
    folds: int = 4

    def __post_init__(self) -> None:
        if self.method not in {"platt", "isotonic"} or self.folds < 2:
            raise DefinitionError(
                f"calibration with method={self.method!r}, folds={self.folds}: expected 'platt' or "
                "'isotonic', and at least 2"
            )


def _check(
    what: str,
    value: Any,
    *,
    whole: Mapping[str, int],
    shares: Iterable[str],
    penalties: Iterable[str],
) -> None:
    wrong = [
        *(name for name, least in whole.items() if getattr(value, name) < least),
        *(name for name in shares if not 0.0 < getattr(value, name) <= 1.0),
        *(
            name
            for name in penalties
            if not (math.isfinite(getattr(value, name)) and getattr(value, name) >= 0.0)
        ),
    ]
    if wrong:
        least = ", ".join(f"{name} >= {limit}" for name, limit in whole.items())
        raise DefinitionError(
            f"{what} with {', '.join(f'{name}={getattr(value, name)}' for name in wrong)}: "
            f"expected {least}, shares in (0, 1], penalties >= 0"
        )


def _plain(path: str, key: str, value: Any) -> Setting:
    if isinstance(value, (list, tuple)):
        return tuple(_plain(path, key, one) for one in value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise DefinitionError(
        f"estimator {path}: {key} is {type(value).__name__}, expected text, a number, a truth "
        "value, None, or a tuple of such"
    )


def _listed(value: Setting) -> Any:
    return [_listed(one) for one in value] if isinstance(value, tuple) else value
