"""What was computed before stays what it was: stale gold and changed runs are refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

PEOPLE = ("quant.demo", "risk.demo", "head.demo", "ops.demo")


@pytest.fixture
def desk(travelled: tuple[Path, Any, Any], tmp_path: Path) -> Path:
    folder = tmp_path / "desk"
    shutil.copytree(travelled[0], folder, symlinks=True)
    return folder


def refused(shell: Any, desk: Path, *arguments: str) -> str:
    result = shell.run(*arguments, "--desk", str(desk))
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stderr
    return str(result.stderr)


def test_features_of_an_older_definition_are_neither_trained_on_nor_proved(
    shell: Any, desk: Path
) -> None:
    view = desk / "features/fx.py"
    text = view.read_text()
    assert "alpha=0.06" in text
    view.write_text(text.replace("alpha=0.06", "alpha=0.05"))
    for command in (("train", "fx_vol", "--as", "quant.demo"), ("parity", "run")):
        error = refused(shell, desk, *command)
        assert "was built from manifest" in error
        assert "assay features build fx_daily" in error


def test_features_of_older_facts_are_neither_trained_on_nor_proved(shell: Any, desk: Path) -> None:
    archive = desk / "configs/rates.zip"
    _append_session(archive)
    assert shell.json("ingest", "--desk", str(desk))["pulls"]["ecb"]["added"] > 0
    for command in (("train", "fx_vol", "--as", "quant.demo"), ("parity", "run")):
        assert "was built from source" in refused(shell, desk, *command)


def _append_session(archive: Path) -> None:
    import zipfile

    with zipfile.ZipFile(archive) as opened:
        header, last, *rest = opened.read("eurofxref-hist.csv").decode().splitlines()
    newer = "2026-01-05," + last.split(",", 1)[1]
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("eurofxref-hist.csv", "\n".join([header, newer, last, *rest]) + "\n")


def test_a_version_is_judged_by_the_recipe_that_made_it(shell: Any, desk: Path) -> None:
    before = shell.json("models", "show", "fx_vol", "1.0.0", "--desk", str(desk))["evidence"]
    path = desk / "models/fx_vol.py"
    text = path.read_text()
    assert '"squared_log_return", horizon=1' in text
    path.write_text(
        text.replace('"squared_log_return", horizon=1', '"squared_log_return", horizon=5')
    )
    shell.run("gates", "check", "fx_vol", "1.0.0", "--as", "quant.demo", "--desk", str(desk))
    after = shell.json("models", "show", "fx_vol", "1.0.0", "--desk", str(desk))["evidence"]
    named = {item["name"]: item for item in after}
    assert {item["name"]: item for item in before}["var_coverage"] == named["var_coverage"]


@pytest.mark.parametrize("damage", ["record", "moved", "predictions", "gone"])
def test_a_changed_training_run_is_named_and_vouches_for_nothing(
    travelled: tuple[Path, Any, Any], shell: Any, desk: Path, damage: str
) -> None:
    first, second = (item["run"]["id"] for item in travelled[1]["versions"][:2])
    folder = desk / "artifacts/runs" / second
    if damage == "record":
        (folder / "run.json").write_text('{"x')
    elif damage == "moved":
        shutil.rmtree(folder)
        shutil.copytree(desk / "artifacts/runs" / first, folder)
    elif damage == "predictions":
        with (folder / "predictions.parquet").open("ab") as handle:
            handle.write(b"x")
    else:
        (folder / "predictions.parquet").unlink()
    error = refused(shell, desk, "gates", "check", "fx_vol", "1.1.0", "--as", "quant.demo")
    assert second in error
    assert "train again" in error


def test_predictions_changed_together_with_their_record_vouch_for_nothing(
    travelled: tuple[Path, Any, Any], shell: Any, desk: Path
) -> None:
    import hashlib
    import json

    import polars as pl

    (story,) = [one for one in travelled[1]["versions"] if one["recipe"] == "fx_vol"]
    folder = desk / "artifacts/runs" / story["run"]["id"]
    path = folder / "predictions.parquet"
    pl.read_parquet(path).with_columns(prediction=pl.col("label").sqrt() + 1e-5).write_parquet(path)
    record = json.loads((folder / "run.json").read_text())
    record["files"]["predictions.parquet"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "run.json").write_text(json.dumps(record))
    error = refused(shell, desk, "gates", "check", "fx_vol", story["version"], "--as", "ops.demo")
    assert "is not what fx_vol" in error
    assert "was registered from" in error
