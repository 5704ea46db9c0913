"""Trees as plain arrays, and how XGBoost's are read from its own JSON.

The JSON holds the shortest decimal form of each float32, so reading it back is exact. Both the
ONNX graph and the rows that probe it are built from these arrays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay.errors import ContractViolation

if TYPE_CHECKING:
    import xgboost

_LEAF = -1


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """One regression tree; entry i of every array is node i, node 0 is the root.

    A row goes left when ``inputs[feature] < threshold``; where ``at_most``, when it is at most the
    threshold. Thresholds are float32 (XGBoost) or float64 (LightGBM, scikit-learn), and are
    compared in that type. In a leaf ``left`` is -1 and ``threshold`` holds its value.
    ``default_left`` says where NaN goes.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.floating[Any]]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    default_left: NDArray[np.bool_]
    at_most: bool = False

    def is_leaf(self, node: int) -> bool:
        return bool(self.left[node] == _LEAF)

    def __len__(self) -> int:
        return len(self.feature)


@dataclass(frozen=True, slots=True)
class SplitNode:
    """A node that parts rows, and the box of inputs that reaches it.

    ``threshold`` is the largest float32 that is at most the tree's own threshold: with its two
    neighbours it stands on both sides of the split. ``bounds`` maps a feature to [low, high): what
    the splits above let through.
    """

    tree: int
    node: int
    feature: int
    threshold: np.float32
    bounds: dict[int, tuple[np.float32, np.float32]]


def read_trees(booster: xgboost.Booster) -> tuple[Tree, ...]:
    """The trees of a booster, in order.

    Raises
    ------
    ContractViolation: the booster is not made of scalar trees with numerical splits.
    """
    document = json.loads(bytes(booster.save_raw("json")))
    gradient_booster = document["learner"]["gradient_booster"]
    if gradient_booster["name"] != "gbtree":
        raise ContractViolation(f"booster '{gradient_booster['name']}': expected gbtree")
    return tuple(read_tree(tree) for tree in gradient_booster["model"]["trees"])


def read_tree(tree: dict[str, Any]) -> Tree:
    """One tree of the JSON.

    Raises
    ------
    ContractViolation: it has categorical splits or vectors in its leaves.
    """
    if any(tree["split_type"]) or tree["tree_param"]["size_leaf_vector"] != "1":
        raise ContractViolation(
            f"tree {tree['id']} has categorical splits or vector leaves: expected numerical splits "
            "and one value per leaf"
        )
    return Tree(
        feature=np.asarray(tree["split_indices"], dtype=np.int64),
        threshold=np.asarray(tree["split_conditions"], dtype=np.float64).astype(np.float32),
        left=np.asarray(tree["left_children"], dtype=np.int64),
        right=np.asarray(tree["right_children"], dtype=np.int64),
        default_left=np.asarray(tree["default_left"], dtype=bool),
    )


def split_nodes(trees: tuple[Tree, ...]) -> Iterator[SplitNode]:
    """Every splitting node of every tree, with the box of inputs that reaches it."""
    everything = (np.float32(-np.inf), np.float32(np.inf))
    for number, tree in enumerate(trees):
        pending: list[tuple[int, dict[int, tuple[np.float32, np.float32]]]] = [(0, {})]
        while pending:
            node, bounds = pending.pop()
            if tree.is_leaf(node):
                continue
            feature, threshold = int(tree.feature[node]), round_down(tree.threshold[node])
            yield SplitNode(number, node, feature, threshold, bounds)
            first = next_float(threshold) if tree.at_most else threshold
            low, high = bounds.get(feature, everything)
            left = {**bounds, feature: (low, min(high, first))}
            right = {**bounds, feature: (max(low, first), high)}
            pending.append((int(tree.right[node]), right))
            pending.append((int(tree.left[node]), left))


def round_down(value: float | np.floating[Any]) -> np.float32:
    """The largest finite float32 that is at most ``value``; the smallest where none is.

    A float32 is at most ``value`` exactly when it is at most this, so comparing with it moves no
    row to the other side. Rounding to the nearest instead moves those that sit on the threshold.
    """
    limit = np.finfo(np.float32).max
    with np.errstate(over="ignore"):
        near = np.float32(value)
    if float(near) > float(value):
        near = next_float(near, upwards=False)
    return np.float32(min(max(near, -limit), limit))


def next_float(value: np.float32, *, upwards: bool = True) -> np.float32:
    """The float32 beside ``value``; beside the last finite one stands infinity."""
    with np.errstate(over="ignore"):
        return np.float32(np.nextafter(value, np.float32(np.inf if upwards else -np.inf)))
