"""XGBoost boosters: float32 thresholds, rows go left below them, float32 sums in order of trees."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from assay.errors import ContractViolation
from assay.training.conversion.tree_model import Link, TreeModel
from assay.training.trees import Tree, read_tree

if TYPE_CHECKING:
    import xgboost

_IDENTITY = Link()
_LINKS: Final = {
    **dict.fromkeys(
        (
            "reg:squarederror",
            "reg:squaredlogerror",
            "reg:absoluteerror",
            "reg:pseudohubererror",
            "reg:quantileerror",
            "reg:expectileerror",
            "binary:logitraw",
            "rank:pairwise",
            "rank:ndcg",
            "rank:map",
        ),
        _IDENTITY,
    ),
    **dict.fromkeys(("binary:logistic", "reg:logistic"), Link("sigmoid")),
    **dict.fromkeys(
        ("reg:gamma", "reg:tweedie", "count:poisson", "survival:cox", "survival:aft"), Link("exp")
    ),
    "multi:softprob": Link("softmax"),
}
_INSTEAD: Final = {
    "multi:softmax": "train with multi:softprob, which gives a probability for each class",
    "binary:hinge": "train with binary:logistic",
}


@dataclass(frozen=True, slots=True, eq=False)
class XGBoostModel:
    """A booster with the names of its inputs."""

    booster: xgboost.Booster
    features: tuple[str, ...]
    model: TreeModel

    library = "xgboost"

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """XGBoost's own predictions, shape (rows, outputs)."""
        answer = self.booster.inplace_predict(inputs)
        return np.asarray(answer, dtype=np.float64).reshape(len(inputs), -1)

    def trees(self) -> tuple[Tree, ...]:
        return self.model.trees

    def to_file(self) -> tuple[str, bytes]:
        """Name and content of the native model file: UBJSON."""
        return "model.ubj", bytes(self.booster.save_raw("ubj"))


def read_xgboost(model: Any, features: tuple[str, ...]) -> XGBoostModel:
    """A ``Booster``, or an ``XGBModel`` of its scikit-learn face, cut at its best iteration as its
    own ``predict`` does. The booster is set to one thread.

    Raises
    ------
    ContractViolation: it has another number of inputs, an objective without an exact counterpart,
        or is not made of trees with numerical splits.
    """
    booster = model
    if hasattr(model, "get_booster"):
        if not np.isnan(model.missing):
            raise ContractViolation(
                f"the model takes {model.missing} for missing: ONNX can say that of NaN only"
            )
        booster = model.get_booster()
        if getattr(model, "early_stopping_rounds", None):
            booster = booster[: model.best_iteration + 1]
    booster.set_param({"nthread": 1})
    # Names of columns that it was fitted with would be asked of every array.
    booster.feature_names = None
    booster.feature_types = None
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    return XGBoostModel(booster, features, _tree_model(learner, len(features)))


def _tree_model(learner: dict[str, Any], width: int) -> TreeModel:
    parameters, objective = learner["learner_model_param"], learner["objective"]["name"]
    found = int(parameters["num_feature"])
    if found != width:
        raise ContractViolation(f"the booster reads {found} inputs: {width} names were given")
    if objective not in _LINKS:
        raise ContractViolation(
            f"objective {objective!r} has no exact counterpart in ONNX: expected one of "
            f"{', '.join(_LINKS)}",
            hint=_INSTEAD.get(objective),
        )
    link = _LINKS[objective]
    gradient_booster = learner["gradient_booster"]
    kind, weights = gradient_booster["name"], None
    if kind == "dart":
        weights = [np.float32(weight) for weight in gradient_booster["weight_drop"]]
        gradient_booster = gradient_booster["gbtree"]
    elif kind != "gbtree":
        raise ContractViolation(f"booster {kind!r}: expected gbtree or dart")
    document = gradient_booster["model"]
    outputs = max(int(parameters["num_class"]), int(parameters["num_target"]), 1)
    trees: list[Tree] = []
    targets: list[int] = []
    for number, (tree, target) in enumerate(
        zip(document["trees"], document["tree_info"], strict=True)
    ):
        weight = np.float32(1) if weights is None else weights[number]
        vector = int(tree["tree_param"]["size_leaf_vector"]) > 1
        for output in range(outputs) if vector else (int(target),):
            trees.append(_scaled(_scalar(tree, output, outputs) if vector else tree, weight))
            targets.append(output)
    base = _base_margins(parameters["base_score"], link, outputs)
    return TreeModel(tuple(trees), tuple(targets), base, link, np.float32)


def _scalar(tree: dict[str, Any], output: int, outputs: int) -> dict[str, Any]:
    """A tree with vectors in its leaves, for one output. A leaf's right child is its number."""
    leaf = np.asarray(tree["left_children"]) < 0
    vectors = np.asarray(tree["leaf_weights"], dtype=np.float64).reshape(-1, outputs)
    values = np.asarray(tree["split_conditions"], dtype=np.float64).copy()
    values[leaf] = vectors[np.asarray(tree["right_children"])[leaf], output]
    return {
        **tree,
        "split_conditions": values,
        "tree_param": {**tree["tree_param"], "size_leaf_vector": "1"},
    }


def _scaled(document: dict[str, Any], weight: np.float32) -> Tree:
    tree = read_tree(document)
    values = np.where(tree.left < 0, tree.threshold * weight, tree.threshold)
    return Tree(tree.feature, values, tree.left, tree.right, tree.default_left)


def _base_margins(text: str, link: Link, outputs: int) -> NDArray[np.float32]:
    """Base scores stand in the model as predictions, save under softmax, and start as margins."""
    scores = np.atleast_1d(np.asarray(json.loads(text), dtype=np.float64).astype(np.float32))
    scores = np.broadcast_to(scores, outputs)
    one = np.float32(1)
    with np.errstate(divide="ignore"):
        match link.name:
            case "sigmoid":
                return _log(one / scores - one, sign=-1.0)
            case "exp":
                return _log(scores)
            case _:
                return np.asarray(scores, dtype=np.float32)


def _log(values: NDArray[np.float32], sign: float = 1.0) -> NDArray[np.float32]:
    # Rounded once, as the C library does; a float32 logarithm of NumPy may be off by a bit.
    return np.asarray(sign * np.log(values.astype(np.float64)), dtype=np.float32)
