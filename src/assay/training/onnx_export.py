"""One self-contained ONNX file per model.

Input ``X``: float32, shape (rows, features). Output ``prediction``: float32, shape (rows, 1).

XGBoost's trees of all seeds stand in one ``TreeEnsembleRegressor``, written from the float32
thresholds and leaves of the native model. Around it stand the few nodes of the estimator's link::

    variance_correction   X -> trees -> * 1/(2 seeds) -> exp ----------> * -> prediction
                          X -> gather offset -> max floor ---------------^
    rise_probability      X -> trees -> * 1/seeds -> sigmoid -> prediction
    baseline              X -> gather feature -> max floor -> prediction

offset * exp(margin / 2) is sqrt(exp(log(offset^2) + margin)) without squaring small numbers and
taking their logarithm, which would cost digits in float32.

LightGBM's trees stand in one ensemble of float64 with the same link, and their output is float64.
scikit-learn's estimators are converted one by one and averaged; a regression is the mean of its
trees; a calibration stands behind everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from assay.training.calibration import CalibratedModel, append_map
from assay.training.conversion.graph import (
    cast,
    constant,
    node,
    properties,
    tree_nodes,
    write_model,
)
from assay.training.conversion.sklearn_models import export_sklearn
from assay.training.conversion.tree_model import Link, Number, mean_of
from assay.training.conversion.xgboost_models import read_xgboost
from assay.training.estimators import BaselineForecast, Ensemble
from assay.training.lightgbm_ensemble import LightGBMEnsemble
from assay.training.recipe import Baseline, Regression, RiseProbability, VarianceCorrection
from assay.training.sklearn_ensemble import SklearnEnsemble
from assay.training.trees import Tree

if TYPE_CHECKING:
    import onnxruntime

INPUT = "X"
OUTPUT = "prediction"

Model: TypeAlias = (
    Ensemble | LightGBMEnsemble | SklearnEnsemble | CalibratedModel | BaselineForecast
)

# Old enough for every ONNX Runtime since 1.16, new enough for each operator used.
_OPSET, _ML_OPSET, _IR_VERSION = 17, 3, 8


def export_onnx(model: Model) -> bytes:
    """The model as the bytes of an ONNX file; equal models give equal bytes."""
    match model:
        case CalibratedModel():
            inner = model.model
            assert isinstance(inner, Ensemble | LightGBMEnsemble | SklearnEnsemble)
            return append_map(export_onnx(inner), model.map)
        case LightGBMEnsemble():
            return _export_lightgbm(model)
        case SklearnEnsemble():
            return _mean_of_graphs([export_sklearn(member) for member in model.members])
        case Ensemble(estimator=Regression()):
            return _export_regression(model)
        case _:
            return _export_linked(model)


def _export_regression(model: Ensemble) -> bytes:
    read = [read_xgboost(booster, model.features).model for booster in model.boosters]
    trees = mean_of(read, link=Link())
    nodes, constants = tree_nodes(trees, INPUT, OUTPUT)
    return write_model(
        nodes,
        constants,
        model.features,
        name=model.estimator.name,
        outputs=1,
        number=trees.number,
    )


def _export_lightgbm(model: LightGBMEnsemble) -> bytes:
    read = [member.model for member in model.members]
    estimator = model.estimator
    link = Link("sigmoid") if isinstance(estimator, RiseProbability) else Link()
    if isinstance(estimator, VarianceCorrection):
        trees = mean_of(read, link=Link("exp"), share=0.5)
        nodes, constants = tree_nodes(trees, INPUT, "ratio")
        column = np.asarray([model.features.index(estimator.offset)], dtype=np.int64)
        constants += [
            _constant("column", column),
            # As float32 in the other graphs, and so in the native formula.
            constant("floor", np.float32(estimator.floor), np.float64),
        ]
        nodes += [
            node("Gather", [INPUT, "column"], "narrow", axis=1),
            cast("narrow", "raw", np.float64),
            node("Max", ["raw", "floor"], "volatility"),
            node("Mul", ["volatility", "ratio"], OUTPUT),
        ]
    else:
        nodes, constants = tree_nodes(mean_of(read, link=link), INPUT, OUTPUT)
    return write_model(
        nodes,
        constants,
        model.features,
        name=estimator.name,
        outputs=1,
        number=np.float64,
        probability=isinstance(estimator, RiseProbability),
    )


def _mean_of_graphs(members: list[bytes]) -> bytes:
    """Several graphs of one kind over one input, their outputs averaged."""
    import onnx
    from onnx.compose import add_prefix

    if all(data == members[0] for data in members):
        return members[0]  # chance had no part in fitting
    first, *_ = documents = [
        add_prefix(onnx.load_from_string(data), f"m{number}_", rename_inputs=False)
        for number, data in enumerate(members)
    ]
    graph = first.graph
    for other in documents[1:]:
        graph.node.extend(other.graph.node)
        graph.initializer.extend(other.graph.initializer)
    outputs = [document.graph.output[0].name for document in documents]
    double = graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
    number: Number = np.float64 if double else np.float32
    graph.initializer.append(constant("share", 1.0 / len(members), number))
    graph.node.extend([node("Sum", outputs, "sum"), node("Mul", ["sum", "share"], OUTPUT)])
    graph.output[0].name = OUTPUT
    onnx.checker.check_model(first, full_check=True)
    return bytes(first.SerializeToString(deterministic=True))


def _export_linked(model: Ensemble | BaselineForecast) -> bytes:
    import onnx  # takes over a second to import
    from onnx import TensorProto, helper

    nodes, constants = _graph(model)
    graph = helper.make_graph(
        nodes,
        model.estimator.name,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, len(model.features)])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1])],
        constants,
    )
    document = helper.make_model(
        graph,
        producer_name="assay",
        ir_version=_IR_VERSION,
        opset_imports=[
            helper.make_opsetid("", _OPSET),
            helper.make_opsetid("ai.onnx.ml", _ML_OPSET),
        ],
    )
    rises = isinstance(model.estimator, RiseProbability)
    helper.set_model_props(document, properties(model.features, probability=rises))
    onnx.checker.check_model(document, full_check=True)
    return bytes(document.SerializeToString(deterministic=True))


def _graph(model: Ensemble | BaselineForecast) -> tuple[list[Any], list[Any]]:
    """Nodes and constants of the whole graph."""
    match model.estimator:
        case Baseline() as estimator:
            return _floored(model.features, estimator.feature, estimator.floor, OUTPUT)
        case VarianceCorrection() as estimator:
            base, base_constants = _floored(
                model.features, estimator.offset, estimator.floor, "volatility"
            )
            trees, tree_constants = _scaled_trees(model, share=0.5)
            link = [
                _node("Exp", ["margin"], "ratio"),
                _node("Mul", ["volatility", "ratio"], OUTPUT),
            ]
            return [*base, *trees, *link], [*base_constants, *tree_constants]
        case RiseProbability():
            trees, constants = _scaled_trees(model, share=1.0)
            return [*trees, _node("Sigmoid", ["margin"], OUTPUT)], constants
        case Regression():
            raise AssertionError("a regression is exported on its own")
        case _ as unreachable:
            assert_never(unreachable)


def _floored(
    features: tuple[str, ...], feature: str, floor: float, output: str
) -> tuple[list[Any], list[Any]]:
    column = np.asarray([features.index(feature)], dtype=np.int64)
    nodes = [
        _node("Gather", [INPUT, "column"], "raw", axis=1),
        _node("Max", ["raw", "floor"], output),
    ]
    return nodes, [
        _constant("column", column),
        _constant("floor", np.asarray([floor], dtype=np.float32)),
    ]


def _scaled_trees(
    model: Ensemble | BaselineForecast, *, share: float
) -> tuple[list[Any], list[Any]]:
    """Nodes that leave ``share`` of the mean margin over seeds in ``margin``."""
    assert isinstance(model, Ensemble)
    nodes = [
        _node(
            "TreeEnsembleRegressor",
            [INPUT],
            "total",
            domain="ai.onnx.ml",
            n_targets=1,
            post_transform="NONE",
            **_tree_attributes(model.trees()),
        ),
        _node("Mul", ["total", "share"], "margin"),
    ]
    return nodes, [_constant("share", np.asarray([share / len(model.seeds)], dtype=np.float32))]


def _tree_attributes(trees: tuple[Tree, ...]) -> dict[str, list[Any]]:
    """The attributes of one ``TreeEnsembleRegressor`` over all trees."""
    leaf = np.concatenate([tree.left < 0 for tree in trees])
    number = np.concatenate([np.full(len(tree), i) for i, tree in enumerate(trees)])
    node = np.concatenate([np.arange(len(tree)) for tree in trees])
    value = np.concatenate([tree.threshold for tree in trees])

    def of_splits(column: NDArray[Any]) -> list[int]:
        return [int(entry) for entry in np.where(leaf, 0, column)]

    return {
        "nodes_treeids": number.tolist(),
        "nodes_nodeids": node.tolist(),
        "nodes_modes": ["LEAF" if is_leaf else "BRANCH_LT" for is_leaf in leaf],
        "nodes_featureids": of_splits(np.concatenate([tree.feature for tree in trees])),
        "nodes_values": np.where(leaf, np.float32(0), value).tolist(),
        "nodes_truenodeids": of_splits(np.concatenate([tree.left for tree in trees])),
        "nodes_falsenodeids": of_splits(np.concatenate([tree.right for tree in trees])),
        "nodes_missing_value_tracks_true": of_splits(
            np.concatenate([tree.default_left for tree in trees])
        ),
        "target_treeids": number[leaf].tolist(),
        "target_nodeids": node[leaf].tolist(),
        "target_ids": [0] * int(leaf.sum()),
        "target_weights": value[leaf].tolist(),
    }


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(operator, inputs, [output], name=output, **attributes)


def _constant(name: str, value: NDArray[Any]) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(value, name)


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on one thread, as serving runs it."""
    import onnxruntime  # takes half a second to import

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
