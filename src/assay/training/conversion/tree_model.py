"""A fitted ensemble of trees, whatever library fitted it: what it adds up, and what it makes of it.

Reading a library's own format into this value, and writing this value as ONNX, are two steps; what
cannot be told exactly in between is refused by the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from assay.training.trees import Tree

LinkName: TypeAlias = Literal["identity", "exp", "sigmoid", "softmax", "signed_square"]
Number: TypeAlias = type[np.float32] | type[np.float64]


@dataclass(frozen=True, slots=True)
class Link:
    """From margins to predictions, output by output; ``softmax`` over all of them.

    ``identity``: m; ``exp``: exp(m); ``sigmoid``: 1 / (1 + exp(-factor m)); ``softmax``:
    exp(m) / sum exp(m); ``signed_square``: sign(m) m^2.
    """

    name: LinkName = "identity"
    factor: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class TreeModel:
    """Predictions = link(scale * (base + sum of the trees)), one margin per output.

    Attributes
    ----------
    trees: the trees, in the order in which the library adds them up.
    targets: which output each tree adds to.
    base: starting margins, shape (outputs,).
    link: what the library makes of the margins.
    number: type in which the library compares and adds.
    scale: what the sum is multiplied with, such as one over the number of trees.
    narrow: inputs are rounded to float32 before they are compared, whatever their type.
    """

    trees: tuple[Tree, ...]
    targets: tuple[int, ...]
    base: NDArray[Any]
    link: Link
    number: Number
    scale: float = 1.0
    narrow: bool = False

    @property
    def outputs(self) -> int:
        return len(self.base)


def constant_tree(value: float, number: Number) -> Tree:
    """A single leaf. As the first tree it starts the sum, in the order of those who start with it.

    Adding a base score last, as ONNX's own attribute for it does, rounds otherwise.
    """
    return Tree(
        feature=np.zeros(1, dtype=np.int64),
        threshold=np.asarray([value], dtype=number),
        left=np.full(1, -1, dtype=np.int64),
        right=np.full(1, -1, dtype=np.int64),
        default_left=np.zeros(1, dtype=bool),
    )


def mean_of(models: Sequence[TreeModel], *, link: Link, share: float = 1.0) -> TreeModel:
    """``share`` of the mean of several models' margins, as one ensemble over all their trees."""
    first = models[0]
    return TreeModel(
        tuple(tree for model in models for tree in model.trees),
        tuple(target for model in models for target in model.targets),
        np.sum([model.base for model in models], axis=0),
        link,
        first.number,
        scale=share * first.scale / len(models),
        narrow=first.narrow,
    )
