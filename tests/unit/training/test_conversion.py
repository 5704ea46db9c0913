"""Fitted models of other libraries: the same numbers on thresholds, missing values and edges."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
import xgboost
from onnx import numpy_helper
from sklearn import ensemble, linear_model, naive_bayes, neighbors, svm, tree
from sklearn.base import BaseEstimator
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from threadpoolctl import threadpool_limits

from assay.errors import ContractViolation
from assay.training.conversion import convert, read_native
from assay.training.onnx_checks import check_parity, run_onnx_outputs

NAMES = ("a", "b", "c", "d", "e")
ROWS = 600
_RNG = np.random.default_rng(0)
WHOLE = _RNG.standard_normal((ROWS, len(NAMES))).astype(np.float32)
HOLES = np.where(_RNG.random(WHOLE.shape) < 0.1, np.float32("nan"), WHOLE)
LEVEL = WHOLE[:, 0] + np.sin(3 * WHOLE[:, 1]) + 0.1 * _RNG.standard_normal(ROWS)
RISE = (LEVEL > 0).astype(int)
THREE = np.digitize(LEVEL, [-0.5, 0.5])
PAIR = np.stack([LEVEL, LEVEL**2], axis=1)
POSITIVE = np.exp(LEVEL)

XGBOOST: list[tuple[str, Any, dict[str, Any]]] = [
    ("reg:squarederror", LEVEL, {}),
    ("reg:squarederror", LEVEL, {"base_score": 17.3}),
    ("reg:squarederror", PAIR, {}),
    ("reg:squarederror", PAIR, {"multi_strategy": "multi_output_tree"}),
    ("reg:squarederror", LEVEL, {"booster": "dart", "rate_drop": 0.3}),
    ("reg:squarederror", LEVEL, {"num_parallel_tree": 3, "subsample": 0.5}),
    ("reg:absoluteerror", LEVEL, {}),
    ("reg:quantileerror", LEVEL, {"quantile_alpha": [0.1, 0.9]}),
    ("reg:gamma", POSITIVE, {}),
    ("count:poisson", THREE, {}),
    ("binary:logistic", RISE, {}),
    ("binary:logistic", RISE, {"base_score": 0.2}),
    ("multi:softprob", THREE, {"num_class": 3}),
    ("rank:ndcg", RISE, {}),
]

LIGHTGBM: list[tuple[str, Any, dict[str, Any]]] = [
    ("regression", LEVEL, {}),
    ("regression", LEVEL, {"reg_sqrt": True}),
    ("regression", LEVEL, {"boosting": "dart"}),
    ("regression", LEVEL, {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}),
    ("regression", LEVEL, {"use_missing": False}),
    ("quantile", LEVEL, {}),
    ("huber", LEVEL, {}),
    ("poisson", THREE, {}),
    ("gamma", POSITIVE, {}),
    ("binary", RISE, {"sigmoid": 0.7}),
    ("cross_entropy", RISE, {}),
    ("multiclass", THREE, {"num_class": 3}),
    ("multiclassova", THREE, {"num_class": 3}),
    ("lambdarank", RISE, {}),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine would take minutes."""
    with threadpool_limits(limits=1):
        yield


def xgboost_model(
    objective: str, labels: Any, settings: dict[str, Any], rows: np.ndarray = WHOLE
) -> xgboost.Booster:
    groups = [ROWS // 10] * 10 if objective.startswith("rank") else None
    matrix = xgboost.DMatrix(rows, labels, group=groups)
    return xgboost.train(
        {"objective": objective, "max_depth": 4, "nthread": 1, **settings}, matrix, 12
    )


def lightgbm_model(
    objective: str,
    labels: Any,
    settings: dict[str, Any],
    rows: np.ndarray = WHOLE,
    **given: Any,
) -> lightgbm.Booster:
    groups = [ROWS // 10] * 10 if objective == "lambdarank" else None
    data = lightgbm.Dataset(rows, labels, group=groups, **given)
    base = {"objective": objective, "num_threads": 1, "verbosity": -1, "num_leaves": 15}
    return lightgbm.train({**base, **settings}, data, 12)


def named(case: tuple[str, Any, dict[str, Any]]) -> str:
    return " ".join([case[0], *(f"{key}={value}" for key, value in case[2].items())])


@pytest.mark.parametrize("rows", [WHOLE, HOLES], ids=["whole", "holes"])
@pytest.mark.parametrize("case", XGBOOST, ids=named)
def test_xgboost_agrees_on_rows_thresholds_and_edges(case: Any, rows: np.ndarray) -> None:
    made = convert(xgboost_model(*case, rows), NAMES)
    parity = check_parity(made.native, made.onnx, rows)
    assert parity["threshold_rows"] > 100
    assert parity["edge_rows"] == 6 * (len(NAMES) + 1)
    assert parity["edge_rows_not_compared"] == 0
    assert parity["largest_difference"] < 2e-6  # sigmoid and exp of float32, by two libraries
    assert parity["within_limit"]
    if case[0] in {"reg:squarederror", "reg:absoluteerror"} and "booster" not in case[2]:
        assert parity["rows_unequal"] == 0  # added up in the same order


@pytest.mark.parametrize("rows", [WHOLE, HOLES], ids=["whole", "holes"])
@pytest.mark.parametrize("case", LIGHTGBM, ids=named)
def test_lightgbm_agrees_on_rows_thresholds_and_edges(case: Any, rows: np.ndarray) -> None:
    made = convert(lightgbm_model(*case, rows), NAMES)
    parity = check_parity(made.native, made.onnx, rows)
    assert parity["threshold_rows"] > 100
    assert parity["edge_rows_not_compared"] == 0
    assert parity["largest_relative_difference"] < 1e-14
    if case[0] in {"regression", "quantile", "huber"} and case[2].get("boosting") != "rf":
        assert parity["rows_unequal"] == 0


def test_a_tiny_number_is_a_zero_where_lightgbm_takes_it_for_one() -> None:
    rows = WHOLE.copy()
    rows[:300, 2] = 0.0  # so that splits part zeros from all others
    booster = lightgbm_model("regression", LEVEL + 2 * (rows[:, 2] == 0), {}, rows)
    made = convert(booster, NAMES)
    near = np.float32(1e-35)
    up = np.nextafter(near, np.float32(1))
    for value in (0.0, -0.0, 1e-40, near, -near, up, -up, 1e-34, -1e-34):
        row = rows[:50].copy()
        row[:, 2] = value
        assert np.array_equal(
            run_onnx_outputs(made.onnx, row)[:, 0], booster.predict(row, num_threads=1)
        )


def rounded(data: bytes, to_float: Callable[[float], np.float32]) -> bytes:
    """The same model with its thresholds rounded to float32, as a converter would."""
    document = onnx.load_from_string(data)
    trees = next(one for one in document.graph.node if one.op_type == "TreeEnsemble")
    splits = next(one for one in trees.attribute if one.name == "nodes_splits")
    values = numpy_helper.to_array(splits.t)
    finite = np.asarray([float(to_float(value)) for value in values])
    splits.t.CopyFrom(numpy_helper.from_array(finite, splits.t.name))
    return document.SerializeToString()


def test_thresholds_rounded_to_the_nearest_float_are_caught_where_random_rows_see_nothing() -> None:
    booster = lightgbm_model("regression", LEVEL, {}, WHOLE.astype(np.float64) * 1.1)
    made = convert(booster, NAMES)
    assert check_parity(made.native, made.onnx, WHOLE)["rows_unequal"] == 0
    nearest = rounded(made.onnx, np.float32)
    random = np.random.default_rng(1).standard_normal((20_000, len(NAMES))).astype(np.float32)
    assert np.array_equal(run_onnx_outputs(nearest, random), made.native.predict(random))
    parity = check_parity(made.native, nearest, random[:100])
    assert not parity["within_limit"]
    assert parity["rows_beyond_limit"] > 0.01 * parity["threshold_rows"]
    assert parity["at"]["kind"] == "threshold"
    differences = [abs(one["native"] - one["onnx"]) for one in parity["worst"]]
    assert differences == sorted(differences, reverse=True)
    assert differences[0] == parity["largest_difference"]
    assert 1 < len(differences) <= 5


def scaled(estimator: BaseEstimator) -> Pipeline:
    return make_pipeline(StandardScaler(), estimator)


SKLEARN: list[tuple[BaseEstimator, Any, float]] = [
    (linear_model.Ridge(), LEVEL, 1e-14),
    (linear_model.Ridge(), PAIR, 1e-14),
    (scaled(linear_model.Lasso(0.01)), LEVEL, 1e-14),
    (linear_model.GammaRegressor(), POSITIVE, 1e-13),
    (scaled(linear_model.LogisticRegression()), RISE, 1e-14),
    (scaled(linear_model.LogisticRegression()), THREE, 1e-14),
    (Pipeline([("nothing", "passthrough"), ("fit", linear_model.Ridge())]), LEVEL, 1e-14),
    (make_pipeline(PolynomialFeatures(2), linear_model.Ridge()), LEVEL, 1e-5),
    (scaled(MLPRegressor(hidden_layer_sizes=(8,), max_iter=30, random_state=0)), LEVEL, 1e-13),
    (MLPClassifier(hidden_layer_sizes=(8,), max_iter=30, random_state=0), THREE, 1e-13),
    (tree.DecisionTreeRegressor(max_depth=6), LEVEL, 0.0),
    (tree.DecisionTreeRegressor(max_depth=6), PAIR, 0.0),
    (tree.DecisionTreeClassifier(max_depth=6), THREE, 1e-15),
    (ensemble.RandomForestRegressor(8, max_depth=6), LEVEL, 1e-14),
    (ensemble.RandomForestClassifier(8, max_depth=6), RISE, 1e-14),
    (ensemble.ExtraTreesClassifier(8, max_depth=6), THREE, 1e-14),
    (ensemble.BaggingRegressor(n_estimators=4, max_features=0.6), LEVEL, 1e-14),
    (ensemble.GradientBoostingRegressor(n_estimators=20), LEVEL, 1e-14),
    (ensemble.GradientBoostingRegressor(n_estimators=20, loss="huber", init="zero"), LEVEL, 1e-14),
    (ensemble.GradientBoostingClassifier(n_estimators=20), RISE, 1e-14),
    (ensemble.GradientBoostingClassifier(n_estimators=9), THREE, 1e-14),
    (ensemble.GradientBoostingClassifier(n_estimators=20, loss="exponential"), RISE, 1e-14),
    (ensemble.HistGradientBoostingRegressor(max_iter=20), LEVEL, 1e-14),
    (ensemble.HistGradientBoostingRegressor(max_iter=20, loss="gamma"), POSITIVE, 1e-13),
    (ensemble.HistGradientBoostingClassifier(max_iter=20), RISE, 1e-14),
    (ensemble.HistGradientBoostingClassifier(max_iter=9), THREE, 1e-14),
    (scaled(ensemble.RandomForestRegressor(8, max_depth=6)), LEVEL, 1e-14),
    (scaled(ensemble.HistGradientBoostingRegressor(max_iter=9)), LEVEL, 1e-14),
    (ensemble.AdaBoostRegressor(n_estimators=5, random_state=0), LEVEL, 1e-5),
    (svm.SVR(), LEVEL, 1e-5),
    (naive_bayes.GaussianNB(), RISE, 1e-13),
    (neighbors.KNeighborsRegressor(), LEVEL, 1e-14),
]


@pytest.mark.parametrize(
    "case", SKLEARN, ids=lambda case: " ".join(str(case[0]).split())[:60] + f" {case[1].dtype}"
)
def test_scikit_learn_agrees_on_rows_thresholds_and_edges(case: Any) -> None:
    estimator, labels, bound = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(WHOLE.astype(np.float64), labels)
        made = convert(estimator, NAMES)
        parity = check_parity(made.native, made.onnx, WHOLE[:200])
    assert parity["largest_difference"] <= bound
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    grown = type(last).__module__.startswith(("sklearn.ensemble", "sklearn.tree"))
    assert (parity["threshold_rows"] > 0) == grown
    assert parity["edge_rows"] >= 3 * (len(NAMES) + 1)


def test_missing_values_go_where_scikit_learn_sends_them() -> None:
    for estimator in (
        ensemble.HistGradientBoostingRegressor(max_iter=10),
        ensemble.RandomForestRegressor(5, max_depth=6),
    ):
        made = convert(estimator.fit(HOLES.astype(np.float64), LEVEL), NAMES)
        assert np.allclose(
            run_onnx_outputs(made.onnx, HOLES), made.native.predict(HOLES), rtol=0, atol=1e-14
        )


def test_a_model_stopped_early_is_cut_where_its_own_predict_cuts_it() -> None:
    model = xgboost.XGBRegressor(n_estimators=60, early_stopping_rounds=2, n_jobs=1)
    model.fit(WHOLE[:300], LEVEL[:300], eval_set=[(WHOLE[300:], LEVEL[300:])], verbose=False)
    assert model.best_iteration < 40
    made = convert(model, NAMES)
    assert np.array_equal(run_onnx_outputs(made.onnx, WHOLE)[:, 0], model.predict(WHOLE))


def test_the_faces_of_both_libraries_convert_like_their_boosters() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1).fit(WHOLE, RISE)
        made = convert(model, NAMES)
        assert np.allclose(
            run_onnx_outputs(made.onnx, WHOLE)[:, 0], model.predict_proba(WHOLE)[:, 1], atol=1e-15
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: xgboost_model("multi:softmax", THREE, {"num_class": 3}), "no exact counterpart"),
        (lambda: xgboost_model("binary:hinge", RISE, {}), "no exact counterpart"),
        (lambda: xgboost_model("reg:squarederror", LEVEL, {"booster": "gblinear"}), "gblinear"),
        (lambda: xgboost_model("reg:squarederror", LEVEL, {}, WHOLE[:, :3]), "reads 3 inputs: 5"),
        (
            lambda: xgboost.XGBRegressor(missing=0.0, n_estimators=2, n_jobs=1).fit(WHOLE, LEVEL),
            "takes 0.0 for missing",
        ),
        (lambda: lightgbm_model("regression", LEVEL, {"linear_tree": True}), "linear leaves"),
        (
            lambda: lightgbm_model("regression", LEVEL, {"zero_as_missing": True}),
            "zero for missing",
        ),
        (lambda: lightgbm_model("cross_entropy_lambda", RISE, {}), "no exact counterpart"),
        (lambda: lightgbm_model("regression", LEVEL, {}, WHOLE[:, :3]), "reads 3 inputs: 5"),
        (linear_model.Ridge, "not fitted"),
        (lambda: linear_model.Ridge().fit(WHOLE[:, :3], LEVEL), "reads 3 inputs: 5"),
        (lambda: svm.LinearSVC().fit(WHOLE, RISE), "labels without probabilities"),
        (lambda: ensemble.IsolationForest().fit(WHOLE), "expected a regressor or a classifier"),
        (lambda: "a model", "expected one of XGBoost, LightGBM, scikit-learn"),
    ],
)
def test_what_cannot_be_exact_is_refused_in_words(make: Any, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make()
    with pytest.raises(ContractViolation, match=message):
        convert(model, NAMES)


def test_categorical_splits_are_refused_by_both_libraries() -> None:
    codes = np.random.default_rng(2).integers(0, 12, ROWS)
    rows = np.column_stack([codes, WHOLE[:, 1:]]).astype(np.float32)
    labels = LEVEL + codes % 3
    boosters = [
        lightgbm_model("regression", labels, {}, rows, categorical_feature=[0]),
        xgboost.train(
            {"nthread": 1, "max_depth": 3},
            xgboost.DMatrix(rows, labels, feature_types=["c", *"qqqq"], enable_categorical=True),
            3,
        ),
        ensemble.HistGradientBoostingRegressor(max_iter=3, categorical_features=[0]).fit(
            rows, labels
        ),
    ]
    for booster in boosters:
        with pytest.raises(ContractViolation, match="categorical split"):
            convert(booster, NAMES)


def test_native_files_read_back_to_the_same_model_and_others_are_refused() -> None:
    for model in (
        xgboost_model("binary:logistic", RISE, {}),
        lightgbm_model("binary", RISE, {}),
    ):
        made = convert(model, NAMES)
        file = made.native.to_file()
        assert file is not None
        assert convert(read_native(*file), NAMES).onnx == made.onnx
    for name, data, message in (
        ("model.ubj", b"nothing", "no XGBoost model"),
        ("model.json", b"{}", "no XGBoost model"),
        ("model.txt", b"nothing", "no LightGBM model"),
        ("model.pkl", b"", "expected a native model"),
    ):
        with pytest.raises(ContractViolation, match=message):
            read_native(name, data)


def test_the_same_model_gives_the_same_bytes() -> None:
    booster = lightgbm_model("regression", LEVEL, {})
    assert convert(booster, NAMES).onnx == convert(booster, NAMES).onnx
