"""Models that were fitted elsewhere become versions: converted, compared, with golden rows."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest
import xgboost
from sklearn.linear_model import Ridge

from assay.bootstrap import open_desk
from assay.delivery.activation import activate
from assay.errors import AssayError
from assay.orchestration.fitted import register_fitted
from assay.orchestration.registering import register_files
from assay.serving import Runtime
from assay.serving.models.native_trees import SIZES
from assay.testing.versions import AUTHOR

BY = {"author": AUTHOR, "reason": "fitted elsewhere"}


@pytest.fixture(scope="module")
def desk(shell: Any) -> Path:
    folder: Path = shell.home / "takes"
    assert shell.run("init", str(folder), "--as", AUTHOR).returncode == 0
    return folder


@pytest.fixture(scope="module")
def native(shell: Any) -> tuple[Path, Path]:
    """A LightGBM model in its own file, and rows of its inputs."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((400, 3))
    data = lightgbm.Dataset(rows, rows[:, 0] + 0.1 * rng.standard_normal(400))
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1, "num_leaves": 7}, data, 10)
    folder: Path = shell.home / "fitted_elsewhere"
    folder.mkdir()
    booster.save_model(folder / "theirs.txt")
    pl.DataFrame(rows, schema=["c", "a", "b"], orient="row").write_parquet(folder / "rows.parquet")
    return folder / "theirs.txt", folder / "rows.parquet"


def register(shell: Any, desk: Path, *given: str) -> Any:
    return shell.run(
        "models", "register", "theirs", *given, "--kind", "risk_model", "--reason", "theirs",
        "--as", AUTHOR, "--desk", str(desk), "--json",
    )  # fmt: skip


def test_a_native_model_is_converted_compared_and_registered(
    shell: Any, desk: Path, native: tuple[Path, Path]
) -> None:
    model, rows = native
    made = register(shell, desk, str(model), "--rows", str(rows))
    assert made.returncode == 0, made.stderr
    folder = desk / "data/models/artifacts/theirs/1.0.0"
    parity = json.loads((folder / "parity.json").read_text())
    assert parity["within_limit"] is True
    assert (parity["rows"], parity["rows_unequal"]) == (400, 0)
    assert parity["threshold_rows"] == 3 * 6 * 10
    assert set(json.loads((folder / "bench.json").read_text())["native"]["batches"]) == {
        "1", "32", "1024",
    }  # fmt: skip
    assert json.loads((folder / "sidecar.json").read_text())["names"] == ["c", "a", "b"]
    golden = json.loads((folder / "golden.json").read_text())
    theirs = lightgbm.Booster(model_str=(folder / "model.txt").read_text())
    assert len(golden["rows"]) == 16 + 3 * 16
    assert golden["predictions"] == theirs.predict(np.asarray(golden["rows"])).tolist()
    known = open_desk(desk).registry.open_version("theirs", "1.0.0").metadata
    assert known.config["fitted_with"]["library"] == "lightgbm"
    assert activate(
        open_desk(desk).registry, "theirs", "1.0.0", monotonic=time.monotonic
    ).stored_rows


def test_rows_and_native_files_that_do_not_fit_are_refused(
    desk: Path, native: tuple[Path, Path]
) -> None:
    model, rows = native
    narrow = rows.with_name("narrow.csv")
    pl.read_parquet(rows).drop("a").write_csv(narrow)
    empty = rows.with_name("empty.csv")
    pl.read_parquet(rows).with_columns(a=None).write_csv(empty)
    schema = rows.with_name("schema.json")
    schema.write_text('{"names": ["a", "b", "d"]}')
    opened = open_desk(desk)
    for files, rows_file, names, message in (
        ([model], narrow, None, "reads 3 inputs: 2 names were given"),
        ([model], empty, None, "none of 400 rows is finite"),
        ([model], rows, schema, "no column 'd'"),
        ([model], model, None, r"expected a .parquet or .csv file"),
        ([model, rows], rows, None, "2 files with rows to compare on"),
        ([rows], rows, None, "expected a native model"),
    ):
        with pytest.raises(AssayError, match=message):
            register_files(
                opened, "theirs", "risk_model", files, rows=rows_file, schema=names, **BY
            )


def test_a_fitted_estimator_is_registered_from_python_and_many_outputs_are_not(
    desk: Path, native: tuple[Path, Path], shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(shell.home / "config"))
    rows = pl.read_parquet(native[1])
    inputs = rows.to_numpy()
    opened = open_desk(desk)
    ridge = Ridge().fit(inputs, inputs[:, 0])
    with pytest.raises(AssayError, match="2 numbers for a row"):
        register_fitted(opened, Ridge().fit(inputs, inputs[:, :2]), rows, "pair", "x", **BY)
    made = register_fitted(opened, ridge, rows, "ridge", "risk_model", **BY)
    assert made.created
    assert not register_fitted(opened, ridge, rows, "ridge", "risk_model", **BY).created
    files = opened.registry.open_version("ridge", made.version).files
    assert not {name for name in files if name.startswith("model.")} - {"model.onnx"}


def test_large_batches_go_through_the_registered_trees_with_the_same_bits(
    desk: Path, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(shell.home / "config"))
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((2_000, 3)).astype(np.float32)
    settings = {"objective": "binary:logistic", "max_depth": 6, "nthread": 1}
    booster = xgboost.train(settings, xgboost.DMatrix(inputs, inputs[:, 0] > 0.1), 60)
    frame = pl.DataFrame(inputs, schema=["a", "b", "c"], orient="row")
    opened = open_desk(desk)
    made = register_fitted(opened, booster, frame, "rises", "alpha_weights", **BY)
    answers = {}
    for native in (False, True):
        ready = activate(
            opened.registry, "rises", made.version, monotonic=time.monotonic,
            runtime=Runtime(native_batches=native),
        )  # fmt: skip
        # Whether it is faster is this machine's and this moment's business.
        assert ready.loaded.native_from in {None, *(SIZES if native else ())}
        if native and ready.loaded.native_from is None:
            ready.loaded.use_native(
                ready.version.onnx, ready.version.files, inputs[:50], always_faster()
            )
            assert ready.loaded.native_from == SIZES[0]
        answers[native] = ready.loaded.predict(inputs)
    assert np.array_equal(answers[True], answers[False])


def always_faster() -> Callable[[], int]:
    """A stopwatch by which the native trees, timed first, take less."""
    took = itertools.cycle([1] * 5 + [9] * 5)
    moments = itertools.chain.from_iterable((0, time) for time in took)
    return lambda: next(moments)
