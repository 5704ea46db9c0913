"""scikit-learn estimators: tree ensembles by their own arrays, everything else by skl2onnx.

Tree ensembles round inputs to float32 and compare them with float64 thresholds (the histogram
ones compare in float64). All other estimators compute in float64; so does their graph wherever
ONNX Runtime has the operators, and in float32 where it has not, which the parity check judges.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from assay.errors import ContractViolation
from assay.training.conversion.graph import (
    EARLIER_ML_OPSET,
    INPUT,
    ML_OPSET,
    OPSET,
    OUTPUT,
    cast,
    node,
    tree_nodes,
    write_model,
)
from assay.training.conversion.tree_model import Link, Number, TreeModel
from assay.training.trees import Tree

_FORESTS: Final = frozenset(
    {
        "RandomForestRegressor",
        "RandomForestClassifier",
        "ExtraTreesRegressor",
        "ExtraTreesClassifier",
    }
)
_SINGLE: Final = frozenset(
    {"DecisionTreeRegressor", "DecisionTreeClassifier", "ExtraTreeRegressor", "ExtraTreeClassifier"}
)
_SCALERS: Final = frozenset({"StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"})
_GRADIENT: Final = frozenset({"GradientBoostingRegressor", "GradientBoostingClassifier"})
_HISTOGRAM: Final = frozenset({"HistGradientBoostingRegressor", "HistGradientBoostingClassifier"})


@dataclass(frozen=True, slots=True, eq=False)
class SklearnModel:
    """A fitted estimator, or a pipeline that ends in one, with the names of its inputs.

    ``model`` is None where it is not made of trees. ``classes`` counts those of a classifier, 0
    otherwise.
    """

    estimator: Any
    features: tuple[str, ...]
    model: TreeModel | None
    classes: int

    library = "scikit-learn"

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """scikit-learn's own answers, shape (rows, outputs).

        A classifier of two classes gives the probability of the second, one of more gives all.
        """
        wide = inputs.astype(np.float64)
        if not self.classes:
            answer = np.asarray(self.estimator.predict(wide), dtype=np.float64)
        else:
            answer = np.asarray(self.estimator.predict_proba(wide), dtype=np.float64)
            answer = answer[:, 1] if self.classes == 2 else answer
        return answer.reshape(len(inputs), -1)

    def trees(self) -> tuple[Tree, ...]:
        """The trees, with the thresholds that the inputs meet; none behind a transformation that
        mixes or bends them.
        """
        columns = np.arange(len(self.features))
        before = _steps(self.estimator)
        if before is None:
            if self.model is not None:
                return self.model.trees
            return tuple(_nested(_last(self.estimator), columns))
        if self.model is None or not all(
            type(step).__name__ in _SCALERS for _, step in before.steps
        ):
            return ()
        return tuple(_before_scaling(tree, before, len(self.features)) for tree in self.model.trees)

    def to_file(self) -> None:
        """None: scikit-learn writes pickles only, and the ONNX file is the model's file."""
        return


def read_sklearn(estimator: Any, features: tuple[str, ...]) -> SklearnModel:
    """A fitted estimator.

    Raises
    ------
    ContractViolation: it is not fitted, has another number of inputs, or is a classifier without
        probabilities.
    """
    from sklearn.base import is_classifier, is_regressor
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise ContractViolation(f"{type(estimator).__name__} is not fitted") from error
    found = getattr(estimator, "n_features_in_", len(features))
    if found != len(features):
        raise ContractViolation(
            f"the estimator reads {found} inputs: {len(features)} names were given"
        )
    if not (is_classifier(estimator) or is_regressor(estimator)):
        raise ContractViolation(
            f"{type(_last(estimator)).__name__}: expected a regressor or a classifier"
        )
    classes = 0
    if is_classifier(estimator):
        if not hasattr(estimator, "predict_proba"):
            raise ContractViolation(
                f"{type(estimator).__name__} gives labels without probabilities",
                hint="calibrate it: CalibratedClassifierCV gives probabilities",
            )
        classes = len(estimator.classes_)
    plain = _without_passing(estimator)
    return SklearnModel(plain, features, _tree_model(_last(plain), classes), classes)


def export_sklearn(model: SklearnModel) -> bytes:
    """The model as ONNX: ``X`` float32, ``prediction`` with one column per output.

    Raises
    ------
    ContractViolation: skl2onnx knows no conversion, or ONNX Runtime cannot run it.
    """
    before = _steps(model.estimator)
    if model.model is not None and before is None:
        nodes, constants = tree_nodes(model.model, INPUT, OUTPUT)
        return write_model(
            nodes,
            constants,
            model.features,
            name="sklearn",
            outputs=model.model.outputs,
            number=model.model.number,
            probability=model.classes == 2,
        )
    number: Number
    failures: list[str] = []
    for number in (np.float64, np.float32):
        try:
            data = _converted(model, before, number)
            _run_once(data, len(model.features))
            return data
        except Exception as error:  # noqa: BLE001 - converter and runtime share no base class
            failures.append(f"{number.__name__}: {str(error).splitlines()[0][:160]}")
    raise ContractViolation(
        f"{type(_last(model.estimator)).__name__} does not convert to ONNX; {'; '.join(failures)}"
    )


def _converted(model: SklearnModel, before: Any, number: Number) -> bytes:
    """Nodes of skl2onnx, read from ``X`` in the given type; trees of our own behind them."""
    body = before if model.model is not None else model.estimator
    ml_opset = EARLIER_ML_OPSET if model.model is None else ML_OPSET
    graph = _skl2onnx(body, model, number, ml_opset)
    nodes: list[Any] = [cast(INPUT, graph.input[0].name, number), *graph.node]
    constants = list(graph.initializer)
    if model.model is not None:
        more, others = tree_nodes(model.model, graph.output[0].name, OUTPUT, prefix="trees_")
        return write_model(
            [*nodes, *more],
            [*constants, *others],
            model.features,
            name="sklearn",
            outputs=model.model.outputs,
            number=model.model.number,
            probability=model.classes == 2,
        )
    outputs = model.predict(np.zeros((1, len(model.features)), dtype=np.float32)).shape[1]
    answer = graph.output[-1].name
    if model.classes == 2:
        constants.append(_whole("asked_class", [1]))
        nodes.append(node("Gather", [answer, "asked_class"], "asked", axis=1))
        answer = "asked"
    # A regressor's answer may come without its second dimension.
    constants.append(_whole("asked_shape", [-1, outputs]))
    nodes += [node("Reshape", [answer, "asked_shape"], "asked_rows")]
    nodes += [cast("asked_rows", OUTPUT, number)]
    return write_model(
        nodes,
        constants,
        model.features,
        name="sklearn",
        outputs=outputs,
        number=number,
        ml_opset=ml_opset,
        probability=model.classes == 2,
    )


def _whole(name: str, values: list[int]) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(values, dtype=np.int64), name)


def _skl2onnx(body: Any, model: SklearnModel, number: Number, ml_opset: int) -> Any:
    """The graph of a converted estimator or transformation."""
    from skl2onnx import to_onnx  # an optional package
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = DoubleTensorType if number is np.float64 else FloatTensorType
    document = to_onnx(
        body,
        initial_types=[("inputs", kind([None, len(model.features)]))],
        options={"zipmap": False} if model.classes and body is model.estimator else None,
        target_opset={"": OPSET, "ai.onnx.ml": ml_opset},
    )
    return document.graph


def _run_once(data: bytes, width: int) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails comes as an exception
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    session.run(None, {INPUT: np.zeros((2, width), dtype=np.float32)})


def _steps(estimator: Any) -> Any | None:
    """What stands ahead of a pipeline's last step; None where nothing does."""
    if type(estimator).__name__ != "Pipeline" or len(estimator.steps) == 1:
        return None
    return estimator[:-1]


def _without_passing(estimator: Any) -> Any:
    """A pipeline without the steps that pass everything through, which skl2onnx does not know."""
    if type(estimator).__name__ != "Pipeline":
        return estimator
    steps = [step for step in estimator.steps if step[1] not in {"passthrough", None}]
    return type(estimator)(steps)


def _nested(estimator: Any, columns: NDArray[np.int64]) -> Iterator[Tree]:
    """The trees inside an ensemble of estimators, on the columns that each was given."""
    if hasattr(estimator, "tree_"):
        tree = estimator.tree_
        read = _tree(tree, tree.value[:, 0, 0])
        yield Tree(
            columns[read.feature], read.threshold, read.left, read.right, read.default_left, True
        )
        return
    members = np.ravel(np.asarray(getattr(estimator, "estimators_", []), dtype=object))
    chosen = getattr(estimator, "estimators_features_", None)
    for number, member in enumerate(members):
        if not isinstance(member, str):
            yield from _nested(member, columns if chosen is None else columns[chosen[number]])


def _before_scaling(tree: Tree, scalers: Any, width: int) -> Tree:
    """A tree with its thresholds as they stand ahead of scalers, column by column."""
    rows = np.arange(len(tree))
    table = np.zeros((len(tree), width))
    table[rows, tree.feature] = np.where(np.isfinite(tree.threshold), tree.threshold, 0.0)
    moved = scalers.inverse_transform(table)[rows, tree.feature]
    return replace(tree, threshold=np.where(tree.left < 0, tree.threshold, moved))


def _last(estimator: Any) -> Any:
    return estimator.steps[-1][1] if type(estimator).__name__ == "Pipeline" else estimator


def _tree_model(estimator: Any, classes: int) -> TreeModel | None:
    """The trees of an estimator that is made of such; None for any other."""
    name = type(estimator).__name__
    if name in _SINGLE | _FORESTS:
        return _forest(estimator, classes)
    if name == "BaggingRegressor" and all(hasattr(m, "tree_") for m in estimator.estimators_):
        return _bagged_trees(estimator)
    if name in _GRADIENT:
        return _gradient_boosting(estimator, classes)
    if name in _HISTOGRAM:
        return _histogram_boosting(estimator, classes)
    return None


def _forest(estimator: Any, classes: int) -> TreeModel | None:
    members = getattr(estimator, "estimators_", [estimator])
    # (nodes, outputs, classes): several outputs, or several classes of one.
    values = [member.tree_.value for member in members]
    if classes and values[0].shape[1] > 1:
        return None
    columns = (1,) if classes == 2 else tuple(range(classes or values[0].shape[1]))
    trees, targets = [], []
    for member, value in zip(members, values, strict=True):
        table = (
            value[:, 0, :] / value[:, 0, :].sum(axis=1, keepdims=True)
            if classes
            else value[:, :, 0]
        )
        for target, column in enumerate(columns):
            trees.append(_tree(member.tree_, table[:, column]))
            targets.append(target)
    return TreeModel(
        tuple(trees),
        tuple(targets),
        np.zeros(len(columns)),
        Link(),
        np.float64,
        scale=1.0 / len(members),
        narrow=True,
    )


def _bagged_trees(estimator: Any) -> TreeModel | None:
    trees = tuple(_nested(estimator, np.arange(estimator.n_features_in_)))
    if any(member.tree_.value.shape[1] > 1 for member in estimator.estimators_):
        return None
    return TreeModel(
        trees,
        (0,) * len(trees),
        np.zeros(1),
        Link(),
        np.float64,
        scale=1.0 / len(trees),
        narrow=True,
    )


def _gradient_boosting(estimator: Any, classes: int) -> TreeModel | None:
    if estimator.init_ == "zero":
        base = np.zeros(estimator.estimators_.shape[1])
    elif type(estimator.init_).__name__.startswith("Dummy"):
        zero = np.zeros((1, estimator.n_features_in_), dtype=np.float32)
        base = np.asarray(estimator._raw_predict_init(zero), dtype=np.float64)[0]  # noqa: SLF001
    else:
        return None
    trees, targets = [], []
    for stage in estimator.estimators_:
        for target, member in enumerate(stage):
            values = estimator.learning_rate * member.tree_.value[:, 0, 0]
            trees.append(_tree(member.tree_, values))
            targets.append(target)
    # Exponential loss puts half of the log-odds into the margin.
    link = Link("sigmoid", 2.0) if estimator.loss == "exponential" else _class_link(classes)
    return TreeModel(tuple(trees), tuple(targets), base, link, np.float64, narrow=True)


def _histogram_boosting(estimator: Any, classes: int) -> TreeModel:
    base = np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1)  # noqa: SLF001
    trees, targets = [], []
    for stage in estimator._predictors:  # noqa: SLF001
        for target, predictor in enumerate(stage):
            nodes = predictor.nodes
            if nodes["is_categorical"].any():
                raise ContractViolation(
                    "a tree has a categorical split: expected numerical splits, which ONNX "
                    "compares exactly"
                )
            leaf = nodes["is_leaf"].astype(bool)
            trees.append(
                Tree(
                    feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
                    threshold=np.where(leaf, nodes["value"], nodes["num_threshold"]),
                    left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
                    right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
                    default_left=nodes["missing_go_to_left"].astype(bool) & ~leaf,
                    at_most=True,
                )
            )
            targets.append(target)
    loss = getattr(estimator, "loss", "")
    link = Link("exp") if loss in {"poisson", "gamma"} else _class_link(classes)
    return TreeModel(tuple(trees), tuple(targets), base, link, np.float64)


def _class_link(classes: int) -> Link:
    return Link() if not classes else Link("sigmoid") if classes == 2 else Link("softmax")


def _tree(tree: Any, values: NDArray[np.float64]) -> Tree:
    leaf = tree.children_left < 0
    return Tree(
        feature=np.where(leaf, 0, tree.feature).astype(np.int64),
        threshold=np.where(leaf, values, tree.threshold),
        left=np.where(leaf, -1, tree.children_left).astype(np.int64),
        right=np.where(leaf, -1, tree.children_right).astype(np.int64),
        default_left=np.asarray(tree.missing_go_to_left).astype(bool) & ~leaf,
        at_most=True,
    )
