"""How a model is run: threads, a card, and large batches through the native trees."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnxruntime
import pytest
import xgboost

from assay.domain.versions import InputSchema
from assay.errors import ConfigurationError
from assay.serving import OnnxModel, Runtime
from assay.serving.models.native_trees import SIZES, faster_from, open_native
from assay.training import Boosting, Regression, RiseProbability, VarianceCorrection
from assay.training.calibration import CalibratedModel, Isotonic, Platt, append_map
from assay.training.conversion import convert
from assay.training.estimators import fit
from assay.training.onnx_checks import probe_rows
from assay.training.onnx_export import export_onnx

NAMES = ("level", "b", "c", "d")
SCHEMA = InputSchema.of(NAMES)
_RNG = np.random.default_rng(5)
ROWS = np.abs(_RNG.standard_normal((3_000, 4))).astype(np.float32)
RETURNS = _RNG.standard_normal(3_000) * ROWS[:, 0] + 0.3 * ROWS[:, 1] - 0.2
TREES = Boosting(rounds=12, depth=4, min_child_weight=5.0, learning_rate=0.2)


def versions() -> list[tuple[str, bytes, dict[str, bytes], np.ndarray]]:
    """Name, ONNX, native file and golden rows of every kind of version with XGBoost's trees."""
    made = []
    for estimator, labels in (
        (RiseProbability(TREES), RETURNS),
        (VarianceCorrection("level", TREES), RETURNS**2),
    ):
        model = fit(estimator, NAMES, (1, 2, 3), ROWS, labels)
        golden = np.concatenate([ROWS[:16], probe_rows(model, ROWS)])
        made.append((estimator.name, export_onnx(model), {"model.zip": model.to_bytes()}, golden))
        if isinstance(estimator, RiseProbability):
            for curve in (Platt(0.8, 0.1), Isotonic((0.2, 0.5, 0.7), (0.3, 0.5, 0.6))):
                whole = CalibratedModel(model, curve)
                data = append_map(export_onnx(model), curve)
                name = f"calibrated by {type(curve).__name__}"
                made.append((name, data, {"model.zip": whole.to_bytes()}, golden))
    for objective, labels in (
        ("binary:logistic", RETURNS > 0),
        ("reg:squarederror", RETURNS),
        ("reg:gamma", RETURNS**2),
    ):
        booster = xgboost.train(
            {"objective": objective, "nthread": 1}, xgboost.DMatrix(ROWS, labels), 10
        )
        converted = convert(booster, NAMES)
        file, data = converted.native.to_file()  # type: ignore[misc]
        golden = np.concatenate([ROWS[:16], probe_rows(converted.native, ROWS)])
        made.append((objective, converted.onnx, {file: data}, golden))
    return made


@pytest.mark.parametrize("version", versions(), ids=lambda version: version[0])
def test_native_trees_answer_large_batches_with_the_bits_of_every_other_row(version: Any) -> None:
    _, onnx, files, golden = version
    plain = OnnxModel.from_bytes(onnx, SCHEMA)
    model = OnnxModel.from_bytes(onnx, SCHEMA)
    # A stopwatch by which the native trees, timed first, always take less.
    ticks = itertools.chain.from_iterable(
        (now, now + took)
        for now, took in zip(
            itertools.count(0, 100), itertools.cycle([1] * 5 + [9] * 5), strict=False
        )
    )
    assert model.use_native(onnx, files, golden, lambda: next(ticks)) == SIZES[0]
    assert model.native_from == 128
    native = open_native(onnx, files, Runtime().options())
    assert native is not None
    assert native.run(ROWS).reshape(-1).astype(np.float64).tolist() == plain.predict(ROWS).tolist()
    for count in (1, 127, 128, 3_000):
        assert np.array_equal(model.predict(ROWS[:count]), plain.predict(ROWS[:count]))


def test_native_trees_of_another_model_are_not_used() -> None:
    model = fit(RiseProbability(TREES), NAMES, (1,), ROWS, RETURNS)
    other = fit(RiseProbability(TREES), NAMES, (2,), ROWS, RETURNS)
    onnx = export_onnx(model)
    served = OnnxModel.from_bytes(onnx, SCHEMA)
    ticks = itertools.count()
    files = {"model.zip": other.to_bytes()}
    assert served.use_native(onnx, files, ROWS[:50], lambda: next(ticks)) is None
    assert served.native_from is None


def test_versions_without_trees_that_could_answer_alike_have_none() -> None:
    level = fit(Regression(TREES), NAMES, (1, 2), ROWS, RETURNS)
    regression = OnnxModel.from_bytes(export_onnx(level), SCHEMA)
    files = {"model.zip": level.to_bytes()}
    # Each booster starts from the level of the labels: chained, they would count it twice.
    assert regression.use_native(export_onnx(level), files, ROWS[:50], lambda: 0) is None
    options = Runtime().options()
    onnx = export_onnx(level)
    for files in ({}, {"model.zip": b"no archive"}, {"model.json": b"{}"}):
        assert open_native(onnx, files, options) is None


def test_native_trees_are_used_from_where_they_stay_faster() -> None:
    def found(*faster: bool) -> int | None:
        """Native and served are timed in turn, five times each, for every size."""
        taken = [time for yes in faster for time in [1 if yes else 9] * 5 + [5] * 5]
        ticks = itertools.chain.from_iterable((0, time) for time in taken)
        return faster_from(len, len, ROWS[:10], lambda: next(ticks))

    assert found(True, True, True, True) == 128
    assert found(False, False, True, True) == 512
    assert found(True, False, False, True) == 1_024
    assert found(True, True, True, False) is None


def test_threads_are_as_asked_for_and_numbers_stay() -> None:
    model = fit(RiseProbability(TREES), NAMES, (1, 2), ROWS, RETURNS)
    onnx = export_onnx(model)
    assert Runtime(threads=3).options().intra_op_num_threads == 3
    one = OnnxModel.from_bytes(onnx, SCHEMA)
    two = OnnxModel.from_bytes(onnx, SCHEMA, runtime=Runtime(threads=2))
    assert np.allclose(one.predict(ROWS), two.predict(ROWS), rtol=0, atol=1e-6)
    with pytest.raises(ConfigurationError, match="0 threads"):
        Runtime(threads=0)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is a card"
)
def test_a_card_that_is_not_there_is_refused_and_never_replaced_in_silence() -> None:
    model = fit(RiseProbability(TREES), NAMES, (1,), ROWS, RETURNS)
    with pytest.raises(ConfigurationError, match=r"CUDA, and ONNX Runtime .* has .*CPU"):
        OnnxModel.from_bytes(export_onnx(model), SCHEMA, runtime=Runtime(cuda=True))


def test_a_probability_of_a_rise_says_so_to_whoever_serves_it() -> None:
    for name, onnx, _, _ in versions():
        model = OnnxModel.from_bytes(onnx, SCHEMA)
        rises = name.startswith(("rise", "calibrated", "binary"))
        assert model.gives_probability == rises, name
