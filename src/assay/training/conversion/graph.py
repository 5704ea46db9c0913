"""Trees as an ONNX graph that compares and adds as the library does.

All trees stand in one ``TreeEnsemble`` of the library's own type: float32 for XGBoost; float64 for
LightGBM and scikit-learn, whose double thresholds rounded to the nearest float32 would send rows
that sit on a threshold to the other side. Sums are taken tree by tree from the base margin, so
margins have the bits of the library's own where it adds in that order. Input ``X`` is float32,
shape (rows, features); output ``prediction``, shape (rows, outputs), has the library's type.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from assay.training.conversion.tree_model import Link, Number, TreeModel, constant_tree
from assay.training.trees import Tree

INPUT: Final = "X"
OUTPUT: Final = "prediction"
OPSET: Final = 21
ML_OPSET: Final = 5
EARLIER_ML_OPSET: Final = 3
"""The last one with the operators that converters other than ours use for trees."""
IR_VERSION: Final = 10

_AT_MOST, _BELOW = 0, 1  # TreeEnsemble's codes for <= and <


def write_model(
    nodes: Sequence[Any],
    constants: Sequence[Any],
    features: tuple[str, ...],
    *,
    name: str,
    outputs: int,
    number: Number,
    ml_opset: int = ML_OPSET,
    probability: bool = False,
) -> bytes:
    """The bytes of an ONNX file with ``X`` and ``prediction`` around the nodes.

    ``probability`` says that it answers with the probability of a rise.
    """
    import onnx  # takes over a second to import
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, len(features)])],
        [helper.make_tensor_value_info(OUTPUT, _element(number), [None, outputs])],
        list(constants),
    )
    document = helper.make_model(
        graph,
        producer_name="assay",
        ir_version=IR_VERSION,
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid("ai.onnx.ml", ml_opset),
        ],
    )
    helper.set_model_props(document, properties(features, probability=probability))
    onnx.checker.check_model(document, full_check=True)
    return bytes(document.SerializeToString(deterministic=True))


def properties(features: tuple[str, ...], *, probability: bool) -> dict[str, str]:
    """What a file says about itself to whoever serves it."""
    named = {"features": json.dumps(list(features))}
    return {**named, "answer": "probability"} if probability else named


def tree_nodes(
    model: TreeModel, source: str, output: str, *, prefix: str = ""
) -> tuple[list[Any], list[Any]]:
    """Nodes from a float tensor of any type to the model's predictions in its own type."""
    nodes = []
    read = source
    if model.narrow:
        nodes.append(cast(read, f"{prefix}narrow", np.float32))
        read = f"{prefix}narrow"
    nodes.append(cast(read, f"{prefix}inputs", model.number))
    total = f"{prefix}total"
    nodes.append(_ensemble(model, f"{prefix}inputs", total))
    constants = []
    if model.scale != 1.0:
        scale, scaled = constant(f"{prefix}scale", model.scale, model.number), f"{prefix}margin"
        constants.append(scale)
        nodes.append(node("Mul", [total, scale.name], scaled))
        total = scaled
    linked, more = link_nodes(model.link, total, output, model.number, prefix=prefix)
    return [*nodes, *linked], [*constants, *more]


def link_nodes(
    link: Link, margin: str, output: str, number: Number, *, prefix: str = ""
) -> tuple[list[Any], list[Any]]:
    """Nodes from margins to predictions."""
    match link.name:
        case "identity":
            return [node("Identity", [margin], output)], []
        case "exp":
            return [node("Exp", [margin], output)], []
        case "softmax":
            return [node("Softmax", [margin], output, axis=1)], []
        case "signed_square":
            absolute = f"{prefix}absolute"
            return [
                node("Abs", [margin], absolute),
                node("Mul", [margin, absolute], output),
            ], []
        case "sigmoid":
            if link.factor == 1.0:
                return [node("Sigmoid", [margin], output)], []
            factor = constant(f"{prefix}factor", link.factor, number)
            steep = f"{prefix}steep"
            return [
                node("Mul", [margin, factor.name], steep),
                node("Sigmoid", [steep], output),
            ], [factor]


def _ensemble(model: TreeModel, source: str, output: str) -> Any:
    """One ``TreeEnsemble`` over all trees, each output's base margin ahead of them."""
    bases = [constant_tree(float(base), model.number) for base in model.base if base != 0.0]
    first = [number for number, base in enumerate(model.base) if base != 0.0]
    columns = _columns((*bases, *model.trees), (*first, *model.targets), model.number)
    return node(
        "TreeEnsemble",
        [source],
        output,
        domain="ai.onnx.ml",
        n_targets=model.outputs,
        aggregate_function=1,
        post_transform=0,
        **columns,
    )


def _columns(
    trees: Sequence[Tree], targets: Sequence[int], number: Number
) -> dict[str, list[int] | Any]:
    """Splits and leaves are numbered apart, each through all trees."""
    from onnx import numpy_helper

    roots: list[int] = []
    parts: dict[str, list[NDArray[Any]]] = {
        key: []
        for key in ("feature", "split", "mode", "missing", "yes", "no", "yes_leaf", "no_leaf")
    }
    leaves: list[NDArray[Any]] = []
    leaf_targets: list[NDArray[np.int64]] = []
    splits_before = leaves_before = 0
    for tree, target in zip(trees, targets, strict=True):
        tree = _with_a_split(tree)  # noqa: PLW2901 - the format has no tree without one
        leaf = tree.left < 0
        place = np.where(
            leaf, np.cumsum(leaf) - 1 + leaves_before, np.cumsum(~leaf) - 1 + splits_before
        )
        split = np.flatnonzero(~leaf)
        roots.append(int(place[0]))
        for key, column in (
            ("feature", tree.feature[split]),
            ("split", tree.threshold[split].astype(number)),
            ("mode", np.full(len(split), _AT_MOST if tree.at_most else _BELOW, dtype=np.uint8)),
            ("missing", tree.default_left[split].astype(np.int64)),
            ("yes", place[tree.left[split]]),
            ("no", place[tree.right[split]]),
            ("yes_leaf", leaf[tree.left[split]].astype(np.int64)),
            ("no_leaf", leaf[tree.right[split]].astype(np.int64)),
        ):
            parts[key].append(column)
        leaves.append(tree.threshold[leaf].astype(number))
        leaf_targets.append(np.full(int(leaf.sum()), target, dtype=np.int64))
        splits_before += len(split)
        leaves_before += int(leaf.sum())
    joined = {key: np.concatenate(arrays) for key, arrays in parts.items()}
    return {
        "tree_roots": roots,
        "nodes_featureids": joined["feature"].tolist(),
        "nodes_splits": numpy_helper.from_array(joined["split"]),
        "nodes_modes": numpy_helper.from_array(joined["mode"]),
        "nodes_missing_value_tracks_true": joined["missing"].tolist(),
        "nodes_truenodeids": joined["yes"].tolist(),
        "nodes_falsenodeids": joined["no"].tolist(),
        "nodes_trueleafs": joined["yes_leaf"].tolist(),
        "nodes_falseleafs": joined["no_leaf"].tolist(),
        "leaf_targetids": np.concatenate(leaf_targets).tolist(),
        "leaf_weights": numpy_helper.from_array(np.concatenate(leaves)),
    }


def _with_a_split(tree: Tree) -> Tree:
    """A tree that is a single leaf, as a split with that leaf on both sides."""
    if len(tree) > 1:
        return tree
    value = tree.threshold[0]
    return Tree(
        feature=np.zeros(3, dtype=np.int64),
        threshold=np.asarray([0, value, value], dtype=tree.threshold.dtype),
        left=np.asarray([1, -1, -1], dtype=np.int64),
        right=np.asarray([2, -1, -1], dtype=np.int64),
        default_left=np.zeros(3, dtype=bool),
        at_most=tree.at_most,
    )


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    """A node that is named by its one output."""
    from onnx import helper

    return helper.make_node(operator, inputs, [output], name=output, **attributes)


def cast(source: str, output: str, number: Number) -> Any:
    """A node that gives a tensor another type."""
    return node("Cast", [source], output, to=_element(number))


def constant(name: str, value: Any, number: Number) -> Any:
    """A tensor of at least one dimension."""
    from onnx import numpy_helper

    return numpy_helper.from_array(np.atleast_1d(np.asarray(value, dtype=number)), name)


def _element(number: Number) -> int:
    from onnx import TensorProto

    return int(TensorProto.FLOAT if number is np.float32 else TensorProto.DOUBLE)
