"""The served file is the trained model: formula, thresholds, and checks that can fail."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable

import numpy as np
import onnx
import polars as pl
import pytest

from assay.training import Baseline, Recipe
from assay.training.estimators import BaselineForecast, Ensemble, fit
from assay.training.onnx_checks import bench_onnx, check_parity, run_onnx, threshold_rows
from assay.training.onnx_export import export_onnx, open_session
from assay.training.trees import split_nodes

FEATURES = ("ewm_vol", "driver", "noise_1", "noise_2")


@pytest.fixture(scope="module")
def rows(vol_frame: pl.DataFrame) -> np.ndarray:
    return np.ascontiguousarray(vol_frame.select(FEATURES).to_numpy().astype(np.float32))


@pytest.fixture(scope="module")
def vol_model(vol_recipe: Recipe, vol_frame: pl.DataFrame, rows: np.ndarray) -> Ensemble:
    labels = vol_frame["label"].to_numpy()
    return fit(vol_recipe.estimator, FEATURES, vol_recipe.seeds, rows, labels)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def direction_model(direction_recipe: Recipe, direction_frame: pl.DataFrame) -> Ensemble:
    inputs = np.ascontiguousarray(direction_frame.select(FEATURES).to_numpy().astype(np.float32))
    labels = direction_frame["label"].to_numpy()
    return fit(direction_recipe.estimator, FEATURES, direction_recipe.seeds, inputs, labels)  # type: ignore[arg-type]


def margin_by_hand(model: Ensemble, row: np.ndarray) -> float:
    """Mean over seeds of the leaves that a row reaches, read from XGBoost's text dump."""
    totals = []
    for booster in model.boosters:
        total = 0.0
        for text in booster.get_dump(dump_format="json"):
            node = json.loads(text)
            while "leaf" not in node:
                value = row[int(node["split"].removeprefix("f"))]
                goes = node["yes"] if value < np.float32(node["split_condition"]) else node["no"]
                node = next(child for child in node["children"] if child["nodeid"] == goes)
            total += node["leaf"]
        totals.append(total)
    return sum(totals) / len(totals)


def test_the_volatility_graph_is_the_formula(vol_model: Ensemble, rows: np.ndarray) -> None:
    served = run_onnx(export_onnx(vol_model), rows[:60])
    for row, prediction in zip(rows[:60], served, strict=True):
        variance = float(row[0]) ** 2 * math.exp(margin_by_hand(vol_model, row))
        assert prediction == pytest.approx(math.sqrt(variance), rel=2e-6)


def test_the_direction_graph_is_the_formula(direction_model: Ensemble, rows: np.ndarray) -> None:
    served = run_onnx(export_onnx(direction_model), rows[:60])
    for row, prediction in zip(rows[:60], served, strict=True):
        margin = margin_by_hand(direction_model, row)
        assert prediction == pytest.approx(1 / (1 + math.exp(-margin)), rel=2e-6)


def test_native_and_served_agree_on_real_rows_and_at_every_threshold(
    vol_model: Ensemble, direction_model: Ensemble, rows: np.ndarray
) -> None:
    for model in (vol_model, direction_model):
        splits = sum(
            1 for tree in model.trees() for node in range(len(tree)) if tree.left[node] >= 0
        )
        parity = check_parity(model, export_onnx(model), rows)
        assert parity["rows"] == len(rows)
        assert parity["threshold_rows"] == 3 * splits > 300
        assert parity["within_limit"] is True
        assert parity["largest_difference"] <= 1e-6
        assert parity["largest_relative_difference"] <= 2e-6


def test_every_probe_reaches_its_split_and_the_neighbours_part_there(
    direction_model: Ensemble, rows: np.ndarray
) -> None:
    trees = direction_model.trees()
    splits = tuple(split_nodes(trees))
    probes = threshold_rows(splits, rows)
    assert np.isfinite(probes).all()
    for split, (below, at, above) in zip(
        splits, probes.reshape(-1, 3, probes.shape[1]), strict=True
    ):
        tree = trees[split.tree]
        took = []
        for probe in (below, at, above):
            node = 0
            while node != split.node:
                goes_left = probe[tree.feature[node]] < tree.threshold[node]
                node = int((tree.left if goes_left else tree.right)[node])
                assert not tree.is_leaf(node) or node == split.node
            took.append(bool(probe[tree.feature[node]] < tree.threshold[node]))
        assert took == [True, False, False]
        assert below[split.feature] < at[split.feature] < above[split.feature]


def damaged(model: bytes, change: Callable[[onnx.AttributeProto], None], attribute: str) -> bytes:
    document = onnx.load_from_string(model)
    trees = next(n for n in document.graph.node if n.op_type == "TreeEnsembleRegressor")
    change(next(a for a in trees.attribute if a.name == attribute))
    return document.SerializeToString()


def test_a_threshold_off_by_one_float_is_caught_and_placed(
    direction_model: Ensemble, rows: np.ndarray
) -> None:
    def lower_first(attribute: onnx.AttributeProto) -> None:
        attribute.floats[0] = np.nextafter(np.float32(attribute.floats[0]), np.float32(-np.inf))

    broken = damaged(export_onnx(direction_model), lower_first, "nodes_values")
    assert np.abs(direction_model.predict(rows) - run_onnx(broken, rows)).max() < 1e-6
    parity = check_parity(direction_model, broken, rows)
    root = direction_model.trees()[0]
    assert parity["within_limit"] is False
    assert parity["at"]["kind"] == "threshold"
    assert parity["at"]["side"] == "below"
    assert parity["at"]["feature"] == FEATURES[root.feature[0]]
    assert parity["at"]["threshold"] == root.threshold[0]


def test_a_wrong_leaf_is_caught(vol_model: Ensemble, rows: np.ndarray) -> None:
    def raise_last(attribute: onnx.AttributeProto) -> None:
        attribute.floats[-1] += 0.5

    parity = check_parity(
        vol_model, damaged(export_onnx(vol_model), raise_last, "target_weights"), rows
    )
    assert parity["within_limit"] is False


def test_a_prediction_that_is_not_finite_is_never_within_the_limit(
    vol_model: Ensemble, rows: np.ndarray
) -> None:
    def to_infinity(attribute: onnx.AttributeProto) -> None:
        attribute.floats[0] = float("inf")

    parity = check_parity(
        vol_model, damaged(export_onnx(vol_model), to_infinity, "target_weights"), rows
    )
    assert parity["within_limit"] is False
    assert parity["largest_difference"] is None
    assert parity["at"]["onnx"] is None


def test_a_row_alone_gets_the_bits_that_it_gets_in_a_batch(
    vol_model: Ensemble, direction_model: Ensemble, rows: np.ndarray
) -> None:
    for model in (vol_model, direction_model):
        session = open_session(export_onnx(model))
        batch = session.run(None, {"X": rows})[0]
        alone = np.concatenate([session.run(None, {"X": rows[i : i + 1]})[0] for i in range(200)])
        assert alone.tobytes() == batch[:200].tobytes()


def test_the_face_of_every_model_is_the_same(
    vol_model: Ensemble, direction_model: Ensemble, rows: np.ndarray
) -> None:
    baseline = BaselineForecast(Baseline("ewm_vol"), ("ewm_vol",))
    for model in (vol_model, direction_model, baseline):
        data = export_onnx(model)
        assert data == export_onnx(model)
        session = open_session(data)
        (given,), (returned,) = session.get_inputs(), session.get_outputs()
        assert (given.name, given.type, given.shape[1]) == (
            "X",
            "tensor(float)",
            len(model.features),
        )
        assert (returned.name, returned.type, returned.shape[1]) == (
            "prediction",
            "tensor(float)",
            1,
        )
        assert session.run(None, {"X": rows[:0, : len(model.features)]})[0].shape == (0, 1)
        properties = session.get_modelmeta().custom_metadata_map
        assert json.loads(properties["features"]) == list(model.features)
        document = onnx.load_from_string(data)
        assert not any(tensor.external_data for tensor in document.graph.initializer)


def test_the_baseline_graph_returns_its_feature_bit_for_bit_and_keeps_the_floor() -> None:
    baseline = BaselineForecast(Baseline("ewm_vol", floor=1e-4), ("other", "ewm_vol"))
    rows = np.asarray([[9, 0.0051], [9, 1e-4], [9, 5e-5], [9, 0.0], [9, -1.0]], dtype=np.float32)
    floor = np.float32(1e-4)
    expected = np.asarray([rows[0, 1], floor, floor, floor, floor], dtype=np.float64)
    data = export_onnx(baseline)
    assert run_onnx(data, rows).tolist() == expected.tolist()
    assert baseline.predict(rows).tolist() == expected.tolist()
    parity = check_parity(baseline, data, rows)
    assert parity["largest_difference"] == 0.0
    assert parity["threshold_rows"] == 0


def test_the_bench_document_counts_microseconds_of_the_given_stopwatch(
    vol_model: Ensemble, rows: np.ndarray
) -> None:
    ticks = itertools.count(step=7_000)
    bench = bench_onnx(export_onnx(vol_model), rows, lambda: next(ticks))
    assert set(bench["batches"]) == {"1", "32", "1024"}
    for timing in bench["batches"].values():
        assert (timing["p50_us"], timing["p95_us"], timing["p99_us"]) == (7.0, 7.0, 7.0)
        assert timing["runs"] >= 30
    assert bench["threads"] == 1
