"""Trees as plain arrays, read from an XGBoost model's own JSON.

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

    A row goes left when ``inputs[feature] < threshold`` in float32. In a leaf ``left`` is -1 and
    ``threshold`` holds its value. ``default_left`` says where NaN goes.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    default_left: NDArray[np.bool_]

    def is_leaf(self, node: int) -> bool:
        return bool(self.left[node] == _LEAF)

    def __len__(self) -> int:
        return len(self.feature)


@dataclass(frozen=True, slots=True)
class SplitNode:
    """A node that parts rows, and the box of inputs that reaches it.

    ``bounds`` maps a feature to [low, high): what the splits above let through.
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
    return tuple(_read(tree) for tree in gradient_booster["model"]["trees"])


def _read(tree: dict[str, Any]) -> Tree:
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
            feature, threshold = int(tree.feature[node]), np.float32(tree.threshold[node])
            yield SplitNode(number, node, feature, threshold, bounds)
            low, high = bounds.get(feature, everything)
            left = {**bounds, feature: (low, min(high, threshold))}
            right = {**bounds, feature: (max(low, threshold), high)}
            pending.append((int(tree.right[node]), right))
            pending.append((int(tree.left[node]), left))
