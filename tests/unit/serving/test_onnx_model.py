import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import xgboost
from onnx import TensorProto, helper
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from assay.domain.versions import InputSchema
from assay.errors import ContractViolation, IncompatibleVersion
from assay.serving import OnnxModel
from assay.testing.versions import linear_onnx

AB = InputSchema.of(["a", "b"])


def rows(*values):
    return np.asarray(values, dtype=np.float32)


def model(inputs=("x",), shape=(None, 2), outputs=(("y", (None, 1)),), kind=TensorProto.FLOAT):
    """A model that passes its input on to every output."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [inputs[0]], [name]) for name, _ in outputs],
        "pass",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info(name, kind, None) for name, _ in outputs],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return made.SerializeToString()


def test_a_regressor_answers_one_double_per_row():
    loaded = OnnxModel.from_bytes(linear_onnx((0.5, -0.25), 1.0), AB)
    answer = loaded.predict(rows([0, 0], [1, 1], [2, -4]))
    assert (answer.dtype, answer.shape) == (np.float64, (3,))
    assert answer.tolist() == [1.0, 1.25, 3.0]


def test_no_rows_give_no_answers():
    loaded = OnnxModel.from_bytes(linear_onnx((1, 1)), AB)
    assert loaded.predict(np.empty((0, 2), np.float32)).shape == (0,)


def test_rows_may_lie_anyhow_in_memory():
    loaded = OnnxModel.from_bytes(linear_onnx((1, 10)), AB)
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert loaded.predict(wide[::-1, ::2]).tolist() == [108.0, 64.0, 20.0]
    assert loaded.predict(np.asfortranarray(wide[:, :2])).tolist() == [10.0, 54.0, 98.0]


@pytest.fixture(scope="module")
def trees():
    generator = np.random.default_rng(7)
    table = generator.normal(size=(400, 3)).astype(np.float32)
    label = (table[:, 0] + 0.3 * table[:, 1] > 0).astype(int)
    return table, label


def converted(estimator, width):
    made = convert_xgboost(
        estimator, initial_types=[("rows", FloatTensorType([None, width]))], target_opset=15
    )
    return made.SerializeToString()


def test_a_classifier_answers_the_probability_of_a_rise(trees):
    table, label = trees
    estimator = xgboost.XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1).fit(table, label)
    loaded = OnnxModel.from_bytes(converted(estimator, 3), InputSchema.of(["a", "b", "c"]))
    expected = estimator.predict_proba(table)[:, 1]
    answer = loaded.predict(table)
    assert loaded.task == "classification"
    assert np.max(np.abs(answer - expected)) <= 1e-5
    assert np.corrcoef(answer, label)[0, 1] > 0.9


def test_trees_answer_alone_as_in_a_batch(trees):
    table, label = trees
    estimator = xgboost.XGBRegressor(n_estimators=50, max_depth=4, n_jobs=1).fit(table, label)
    loaded = OnnxModel.from_bytes(converted(estimator, 3), InputSchema.of(["a", "b", "c"]))
    batch = loaded.predict(table)
    alone = np.concatenate([loaded.predict(table[i : i + 1]) for i in range(len(table))])
    assert batch.tobytes() == alone.tobytes()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (np.zeros((1, 2)), "rows are float64"),
        (np.zeros((1, 2), np.int32), "rows are int32"),
        ([[0.0, 0.0]], "rows are list"),
        (None, "rows are NoneType"),
        (np.zeros(2, np.float32), r"shape \(2,\): expected \(n, 2\)"),
        (np.zeros((1, 3), np.float32), r"shape \(1, 3\)"),
        (np.zeros((1, 1, 2), np.float32), r"shape \(1, 1, 2\)"),
        (rows([0, 0], [0, np.nan]), "row 1, column b is nan"),
        (rows([np.inf, 0]), "row 0, column a is inf"),
        (rows([0, -np.inf]), "row 0, column b is -inf"),
    ],
)
def test_rows_that_are_not_what_was_declared_are_refused(value, why):
    loaded = OnnxModel.from_bytes(linear_onnx((1, 1)), AB)
    with pytest.raises(ContractViolation, match=why):
        loaded.predict(value)


def test_missing_values_are_for_models_made_for_them(trees):
    table, label = trees
    holes = table.copy()
    holes[::3, 1] = np.nan
    estimator = xgboost.XGBRegressor(n_estimators=10, max_depth=3, n_jobs=1).fit(holes, label)
    schema = InputSchema.of(["a", "b", "c"])
    loaded = OnnxModel.from_bytes(converted(estimator, 3), schema, allow_missing=True)
    assert np.max(np.abs(loaded.predict(holes) - estimator.predict(holes))) <= 1e-5
    holes[5, 2] = np.inf
    with pytest.raises(ContractViolation, match="row 5, column c is inf: expected a number or NaN"):
        loaded.predict(holes)


def test_an_answer_that_is_no_number_is_refused():
    loaded = OnnxModel.from_bytes(linear_onnx((3e38, 3e38)), AB)
    assert loaded.predict(rows([0, 1])).size == 1
    with pytest.raises(IncompatibleVersion, match="answered inf to row 1"):
        loaded.predict(rows([0, 1], [1, 1]))


def test_a_probability_outside_zero_and_one_is_refused():
    loaded = OnnxModel.from_bytes(model(outputs=(("probabilities", (None, 2)),)), AB)
    assert loaded.predict(rows([0.2, 0.8])).tolist() == [np.float32(0.8)]
    with pytest.raises(IncompatibleVersion, match="expected a probability"):
        loaded.predict(rows([0.0, 1.5]))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cannot be loaded"),
        (b"nonsense", "cannot be loaded"),
        (linear_onnx((1, 1))[:-7], "cannot be loaded"),
        (linear_onnx((1, 1, 1)), "schema has 2 columns"),
        (model(inputs=("x", "z")), "expected one float32 input"),
        (model(kind=TensorProto.DOUBLE), "expected one float32 input"),
        (model(shape=(1, 2)), "reads exactly 1 rows"),
        (model(shape=(None,)), "schema has 2 columns"),
        (model(outputs=(("y", None), ("z", None))), "expected one, or 'probabilities'"),
    ],
)
def test_a_model_that_is_not_what_the_schema_says_is_not_loaded(data, why):
    with pytest.raises(IncompatibleVersion, match=why):
        OnnxModel.from_bytes(data, AB)


def test_an_answer_of_another_shape_is_refused():
    loaded = OnnxModel.from_bytes(model(), AB)
    with pytest.raises(IncompatibleVersion, match=r"answered shape \(3, 2\) to 3 rows"):
        loaded.predict(rows([0, 1], [1, 2], [2, 3]))


def test_classes_as_dictionaries_are_refused_with_the_way_out(trees):
    graph = helper.make_graph(
        [
            helper.make_node(
                "ZipMap", ["x"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]
            )
        ],
        "zipped",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [
            helper.make_value_info(
                "probabilities",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(
                        TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
                    )
                ),
            )
        ],
    )
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=9,
    )
    onnx.checker.check_model(made)
    with pytest.raises(IncompatibleVersion, match="without ZipMap"):
        OnnxModel.from_bytes(made.SerializeToString(), AB)


def test_loading_uses_one_thread():
    loaded = OnnxModel.from_bytes(linear_onnx((1, 1)), AB)
    options = loaded._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_importing_serving_loads_no_runtime():
    code = "import sys, json, assay.serving; print(json.dumps('onnxruntime' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert json.loads(done.stdout) is False
