"""LightGBM boosters: float64 thresholds, rows go left up to them, float64 sums in order of trees.

LightGBM takes a number within 1e-35 of zero for zero before it asks any tree. Thresholds in that
band are therefore moved to the end of the band that the row would reach as a zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from assay.errors import ContractViolation
from assay.training.conversion.tree_model import Link, TreeModel
from assay.training.trees import Tree

if TYPE_CHECKING:
    import lightgbm

_LINKS: Final = {
    **dict.fromkeys(
        (
            "regression",
            "regression_l1",
            "huber",
            "fair",
            "quantile",
            "mape",
            "lambdarank",
            "rank_xendcg",
        ),
        "identity",
    ),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "exp"),
    **dict.fromkeys(("binary", "multiclassova", "cross_entropy"), "sigmoid"),
    "multiclass": "softmax",
}
# As float32, the type in which LightGBM holds it.
_ZERO: Final = float(np.float32(1e-35))
# What LightGBM writes into JSON where it holds an infinite threshold.
_INFINITE: Final = 1e300


@dataclass(frozen=True, slots=True, eq=False)
class LightGBMModel:
    """A booster with the names of its inputs."""

    booster: lightgbm.Booster
    features: tuple[str, ...]
    model: TreeModel

    library = "lightgbm"

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """LightGBM's own predictions, shape (rows, outputs)."""
        answer = self.booster.predict(inputs, num_threads=1)
        return np.asarray(answer, dtype=np.float64).reshape(len(inputs), -1)

    def margins(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """LightGBM's own raw scores, shape (rows, outputs)."""
        answer = self.booster.predict(inputs, raw_score=True, num_threads=1)
        return np.asarray(answer, dtype=np.float64).reshape(len(inputs), -1)

    def trees(self) -> tuple[Tree, ...]:
        return self.model.trees

    def to_file(self) -> tuple[str, bytes]:
        """Name and content of the native model file: LightGBM's text."""
        return "model.txt", self.booster.model_to_string().encode()


def read_lightgbm(model: Any, features: tuple[str, ...]) -> LightGBMModel:
    """A ``Booster``, or an ``LGBMModel`` of its scikit-learn face; up to its best iteration, as its
    own ``predict`` does.

    Raises
    ------
    ContractViolation: it has another number of inputs, an objective without an exact counterpart,
        categorical splits, linear leaves, or zeros that count as missing.
    """
    booster = model.booster_ if hasattr(model, "booster_") else model
    document = booster.dump_model()
    found = document["max_feature_idx"] + 1
    if found != len(features):
        raise ContractViolation(
            f"the booster reads {found} inputs: {len(features)} names were given"
        )
    outputs = int(document["num_tree_per_iteration"])
    trees = tuple(_tree(one) for one in document["tree_info"])
    rounds = max(1, len(trees) // outputs)
    read = TreeModel(
        trees,
        tuple(number % outputs for number in range(len(trees))),
        np.zeros(outputs),
        _link(str(document.get("objective", ""))),
        np.float64,
        scale=1.0 / rounds if document["average_output"] else 1.0,
    )
    return LightGBMModel(booster, features, read)


def _link(objective: str) -> Link:
    name, *settings = objective.split() or ["regression"]
    if name not in _LINKS:
        raise ContractViolation(
            f"objective {objective!r} has no exact counterpart in ONNX: expected one of "
            f"{', '.join(_LINKS)}"
        )
    link = _LINKS[name]
    given = dict(one.split(":", 1) for one in settings if ":" in one)
    if "sqrt" in settings:
        return Link("signed_square")
    return Link(link, float(given.get("sigmoid", 1.0)) if link == "sigmoid" else 1.0)  # type: ignore[arg-type]


def _tree(document: dict[str, Any]) -> Tree:
    """A tree as arrays, its nodes numbered from the root down."""
    number = document["tree_index"]
    feature: list[int] = []
    value: list[float] = []
    left: list[int] = []
    right: list[int] = []
    default_left: list[bool] = []
    pending = [(document["tree_structure"], left, -1)]
    while pending:
        node, place, parent = pending.pop()
        here = len(feature)
        if parent >= 0:
            place[parent] = here
        leaf = "leaf_value" in node
        if node.get("leaf_features"):
            raise ContractViolation(f"tree {number} has linear leaves: expected a number in each")
        feature.append(0 if leaf else node["split_feature"])
        value.append(node["leaf_value"] if leaf else _threshold(node, number))
        left.append(-1)
        right.append(-1)
        default_left.append(not leaf and _missing_goes_left(node, number))
        if not leaf:
            pending.append((node["right_child"], right, here))
            pending.append((node["left_child"], left, here))
    return Tree(
        np.asarray(feature, dtype=np.int64),
        np.asarray(value, dtype=np.float64),
        np.asarray(left, dtype=np.int64),
        np.asarray(right, dtype=np.int64),
        np.asarray(default_left, dtype=bool),
        at_most=True,
    )


def _threshold(node: dict[str, Any], tree: int) -> float:
    if node["decision_type"] != "<=":
        raise ContractViolation(
            f"tree {tree} has a categorical split on input {node['split_feature']}: expected "
            "numerical splits, which ONNX compares exactly",
            hint="train without categorical_feature, on codes or on one column per category",
        )
    threshold = float(node["threshold"])
    if abs(threshold) >= _INFINITE:
        return float(np.copysign(np.inf, threshold))
    if 0.0 <= threshold < _ZERO:
        return _ZERO
    if -_ZERO <= threshold < 0.0:
        return float(np.nextafter(np.float32(-_ZERO), np.float32(-np.inf)))
    return threshold


def _missing_goes_left(node: dict[str, Any], tree: int) -> bool:
    match node["missing_type"]:
        case "NaN":
            return bool(node["default_left"])
        case "None":
            # Then LightGBM takes a NaN for a zero.
            return bool(node["threshold"] >= 0.0)
        case kind:
            raise ContractViolation(
                f"tree {tree} takes {kind.lower()} for missing on input {node['split_feature']}: "
                "ONNX can say that of NaN only",
                hint="train with zero_as_missing=false",
            )
