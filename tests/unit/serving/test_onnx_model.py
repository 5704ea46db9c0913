import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

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


def test_one_row_alone_has_the_bits_of_the_row_among_others_in_every_thread():
    generator = np.random.default_rng(3)
    trees = forest(generator, 5)
    loaded = OnnxModel.from_bytes(forest_onnx(trees, 5), InputSchema.of(list("abcde")))
    doubles = generator.normal(size=(400, 5)).tolist()
    together = loaded.predict(np.array(doubles, np.float32)).tolist()

    def alone(part):
        return [loaded.predict_one(row) for row in part]

    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(alone, [doubles[n::4] for n in range(4)])
    for n, part in enumerate(parts):
        assert part == together[n::4]


def test_one_row_is_refused_where_the_answer_is_no_number_or_has_a_wrong_shape():
    loaded = OnnxModel.from_bytes(linear_onnx((3e38, 3e38)), AB)
    assert loaded.predict_one([1.0, -1.0]) == 0.0
    with pytest.raises(IncompatibleVersion, match="inf to row 0"):
        loaded.predict_one([3.0, 3.0])
    assert loaded.predict_one([0.0, 0.0]) == 0.0, "the next row is answered as before"
    with pytest.raises(IncompatibleVersion, match="shape"):
        OnnxModel.from_bytes(model(), AB).predict_one([1.0, 2.0])


def forest(generator, width, count=30, depth=3, missing_left=True):
    """Random full binary trees: (feature, threshold) of each inner node, a value of each leaf."""
    inner = 2**depth - 1
    return [
        (
            generator.integers(0, width, inner),
            generator.normal(size=inner).astype(np.float32),
            generator.normal(size=inner + 1).astype(np.float32),
            missing_left,
        )
        for _ in range(count)
    ]


def walk(trees, row):
    """The sum of the leaves that a row reaches, one comparison at a time."""
    total = np.float64(0.0)
    for features, thresholds, leaves, missing_left in trees:
        node = 0
        while node < len(features):
            value = row[features[node]]
            left = missing_left if np.isnan(value) else value < thresholds[node]
            node = 2 * node + (1 if left else 2)
        total += leaves[node - len(features)]
    return total


def forest_onnx(trees, width):
    """The same trees for ONNX Runtime."""
    fields = {name: [] for name in ("tree", "node", "feature", "value", "mode", "yes", "no", "nan")}
    leaves = {name: [] for name in ("tree", "node", "target", "weight")}
    for tree, (features, thresholds, weights, missing_left) in enumerate(trees):
        inner = len(features)
        for node in range(2 * inner + 1):
            leaf = node >= inner
            fields["tree"].append(tree)
            fields["node"].append(node)
            fields["feature"].append(0 if leaf else int(features[node]))
            fields["value"].append(0.0 if leaf else float(thresholds[node]))
            fields["mode"].append("LEAF" if leaf else "BRANCH_LT")
            fields["yes"].append(0 if leaf else 2 * node + 1)
            fields["no"].append(0 if leaf else 2 * node + 2)
            fields["nan"].append(0 if leaf else int(missing_left))
            if leaf:
                leaves["tree"].append(tree)
                leaves["node"].append(node)
                leaves["target"].append(0)
                leaves["weight"].append(float(weights[node - inner]))
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=fields["tree"],
        nodes_nodeids=fields["node"],
        nodes_featureids=fields["feature"],
        nodes_values=fields["value"],
        nodes_modes=fields["mode"],
        nodes_truenodeids=fields["yes"],
        nodes_falsenodeids=fields["no"],
        nodes_missing_value_tracks_true=fields["nan"],
        target_treeids=leaves["tree"],
        target_nodeids=leaves["node"],
        target_ids=leaves["target"],
        target_weights=leaves["weight"],
    )
    graph = helper.make_graph(
        [node],
        "forest",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


@pytest.fixture(scope="module")
def trees():
    generator = np.random.default_rng(7)
    return forest(generator, 3), generator.normal(size=(400, 3)).astype(np.float32)


ABC = InputSchema.of(["a", "b", "c"])


def test_trees_answer_what_walking_them_gives(trees):
    grown, table = trees
    loaded = OnnxModel.from_bytes(forest_onnx(grown, 3), ABC)
    expected = np.array([walk(grown, row) for row in table])
    assert loaded.task == "regression"
    assert np.max(np.abs(loaded.predict(table) - expected)) <= 1e-5


def test_trees_answer_alone_as_in_a_batch(trees):
    grown, table = trees
    loaded = OnnxModel.from_bytes(forest_onnx(grown, 3), ABC)
    batch = loaded.predict(table)
    alone = np.concatenate([loaded.predict(table[i : i + 1]) for i in range(len(table))])
    assert batch.tobytes() == alone.tobytes()


def test_a_classifier_answers_the_probability_of_its_second_class():
    loaded = OnnxModel.from_bytes(
        model(outputs=(("probabilities", (None, 2)), ("label", None))), AB
    )
    answer = loaded.predict(rows([0.25, 0.75], [0.5, 0.5], [1.0, 0.0]))
    assert loaded.task == "classification"
    assert answer.tolist() == [0.75, 0.5, 0.0]


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


@pytest.mark.parametrize("missing_left", [True, False])
def test_missing_values_are_for_models_made_for_them(missing_left):
    generator = np.random.default_rng(8)
    grown = forest(generator, 3, missing_left=missing_left)
    table = generator.normal(size=(60, 3)).astype(np.float32)
    table[::3, 1] = np.nan
    loaded = OnnxModel.from_bytes(forest_onnx(grown, 3), ABC, allow_missing=True)
    expected = np.array([walk(grown, row) for row in table])
    assert np.max(np.abs(loaded.predict(table) - expected)) <= 1e-5
    table[5, 2] = np.inf
    with pytest.raises(ContractViolation, match="row 5, column c is inf: expected a number or NaN"):
        loaded.predict(table)


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


def test_classes_as_dictionaries_are_refused_with_the_way_out():
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
