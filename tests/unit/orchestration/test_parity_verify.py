"""What was trained can be made again, in the environment it was made in, or it is said why not."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assay.bootstrap import example_path, open_desk
from assay.cli.app import app
from assay.domain.instants import parse
from assay.domain.verdicts import Verdict
from assay.errors import ConfigurationError
from assay.orchestration.desk import Desk
from assay.orchestration.environment import (
    Lock,
    Mismatch,
    check_environment,
    desk_lock,
    environment_of,
)
from assay.orchestration.modelling import register_run, train_recipe
from assay.orchestration.parity import DeskVerification, RecipeVerification, verify_desk
from assay.testing.clocks import FixedClock

NOW = parse("2024-06-01T12:00Z")


class Silent:
    def event(self, text: str) -> None:
        pass


def opened(folder: Path) -> Desk:
    return open_desk(folder, clock=FixedClock(NOW))


def verify(folder: Path) -> dict[str, RecipeVerification]:
    return {one.recipe: one for one in verify_desk(opened(folder), Silent()).recipes}


def run_folder(folder: Path) -> Path:
    (found,) = (folder / "artifacts/runs").iterdir()
    return found


def test_a_training_set_is_made_again_with_the_same_hashes(trained: Path) -> None:
    found = verify(trained)
    baseline = found["fx_vol_baseline"]
    assert (baseline.verdict, baseline.model, baseline.version) == (Verdict.PASS, "fx_vol", "1.0.0")
    assert baseline.digest == baseline.rebuilt_digest
    record = json.loads((run_folder(trained) / "run.json").read_text())
    assert record["training_set"]["digest"] == baseline.digest
    assert record["environment"]["lock_sha256"] == baseline.environment.lock.now  # type: ignore[union-attr]
    assert baseline.manifests == {
        "gold/fx_daily": record["training_set"]["query"]["tables"][0]["manifest"]
    }
    learned = found["fx_vol"]
    assert (learned.untrained, learned.run) == (True, None)
    assert verify_desk(opened(trained), Silent()).verdict is Verdict.PASS
    assert learned.findings == ("no version was registered from it yet: assay train fx_vol",)


def test_the_latest_version_of_a_recipe_is_the_one_that_is_made_again(copied: Path) -> None:
    path = copied / "models/fx_vol.py"
    text = path.read_text()
    assert "horizon=1" in text
    path.write_text(text.replace("horizon=1", "horizon=2"))
    desk = opened(copied)
    register_run(desk, train_recipe(desk, "fx_vol_baseline", Silent()), author="quant")
    assert verify(copied)["fx_vol_baseline"].version != "1.0.0"


def test_an_absent_or_changed_manifest_is_found(copied: Path) -> None:
    (path,) = (copied / "data/manifests").glob("*.json")
    path.chmod(0o644)
    path.write_text(path.read_text().replace("fx_daily", "fx_hourly", 1))
    found = verify(copied)["fx_vol_baseline"]
    assert found.verdict is Verdict.FAIL
    assert any("is not what its name says" in one for one in found.findings)
    path.unlink()
    found = verify(copied)["fx_vol_baseline"]
    assert found.findings[0] == f"manifest {path.stem[:12]} of gold/fx_daily is not archived"


@pytest.mark.parametrize("table", ["gold/fx_daily", "silver/market"])
@pytest.mark.parametrize("damage", ["a byte", "no list"])
def test_a_damaged_archive_is_named(copied: Path, table: str, damage: str) -> None:
    snapshot = opened(copied).lake.table(table).current()
    assert snapshot is not None
    if damage == "a byte":
        path = copied / "data" / table / "files" / f"{snapshot.files[0].sha256}.parquet"
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path = copied / "data" / table / "snapshots" / f"{snapshot.id}.json"
        path.unlink()
    found = verify(copied)["fx_vol_baseline"]
    assert (found.verdict, found.rebuilt_digest) == (Verdict.FAIL, None)
    assert any(table in one for one in found.findings)


def test_a_changed_record_of_the_run_vouches_for_nothing(copied: Path) -> None:
    path = run_folder(copied) / "run.json"
    record = json.loads(path.read_text())
    record["environment"]["packages"]["numpy"] = "1.0"
    path.write_text(json.dumps(record))
    found = verify(copied)["fx_vol_baseline"]
    assert found.verdict is Verdict.FAIL
    assert "its record has changed since" in found.findings[0]
    shutil.rmtree(path.parent)
    gone = verify(copied)["fx_vol_baseline"]
    assert gone.verdict is Verdict.INDETERMINATE
    assert "no training run" in gone.findings[0]
    assert not gone.untrained
    assert verify_desk(opened(copied), Silent()).verdict is Verdict.INDETERMINATE


def test_a_lock_that_has_changed_since_training_is_found(copied: Path) -> None:
    released = desk_lock(opened(copied))
    assert released is not None
    assert not released.own
    numpy = importlib.metadata.version("numpy")
    (copied / "requirements.lock").write_text(f"numpy=={numpy} \\\n    --hash=sha256:{'0' * 64}\n")
    found = verify(copied)["fx_vol_baseline"]
    assert found.verdict is Verdict.FAIL
    own = desk_lock(opened(copied))
    assert own is not None
    assert own.own
    assert found.findings == (
        f"lock: SHA-256 {released.sha256[:16]} in training, {own.sha256[:16]} now",
    )
    assert found.digest == found.rebuilt_digest, "the training set is another matter"


# Environments


LOCK = """\
# made by a tool
numpy=={numpy} \\
    --hash=sha256:{zeros}
Scikit_Learn==0.0.1 ; python_version >= "3.11"
scikit-learn==0.0.2 ; python_version < "3.11"
polars[timezone]=={polars}
not-installed-anywhere==1.0
"""


def a_lock(folder: Path, *, own: bool) -> Lock:
    path = folder / "requirements.lock"
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "polars")}
    path.write_text(LOCK.format(zeros="0" * 64, **versions))
    return Lock.read(path, own=own)


def recorded(lock: Lock | None, **changes: str | None) -> dict[str, Any]:
    packages = {}
    for name in (
        "assay", "cryptography", "lightgbm", "llvmlite", "numba", "numpy", "onnx", "onnxruntime",
        "polars", "scikit-learn", "scipy", "xgboost-cpu",
    ):  # fmt: skip
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found = {
        "python": platform.python_version(), "implementation": platform.python_implementation(),
        "system": platform.system(), "machine": platform.machine(), "packages": packages,
        "lock_sha256": None if lock is None else lock.sha256,
    }  # fmt: skip
    for name, value in changes.items():
        if name in found:
            found[name] = value
        elif value is None:
            packages.pop(name)
        else:
            packages[name] = value
    return found


def test_a_lock_is_read_with_its_names_markers_and_hash(tmp_path: Path) -> None:
    lock = a_lock(tmp_path, own=True)
    assert set(lock.pins) == {"numpy", "scikit-learn", "polars", "not-installed-anywhere"}
    assert lock.pins["scikit-learn"] == {"0.0.1", "0.0.2"}
    assert lock.sha256 == hashlib.sha256(lock.path.read_bytes()).hexdigest()
    (tmp_path / "empty.lock").write_text("# nothing\n")
    with pytest.raises(ConfigurationError, match="pins no package"):
        Lock.read(tmp_path / "empty.lock", own=True)


def test_an_equal_environment_passes_and_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "requirements.lock"
    path.write_text(f"numpy=={importlib.metadata.version('numpy')}\n")
    lock = Lock.read(path, own=True)
    check = check_environment(recorded(lock), lock)
    assert (check.verdict, check.findings) == (Verdict.PASS, ())


def test_what_differs_is_told_by_package(tmp_path: Path) -> None:
    path = tmp_path / "requirements.lock"
    path.write_text(f"numpy=={importlib.metadata.version('numpy')}\n")
    lock = Lock.read(path, own=True)
    check = check_environment(
        recorded(lock, numpy="1.0", polars=None, tensorflow="2.0", python="3.9.0"), lock
    )
    assert check.verdict is Verdict.FAIL
    assert check.packages == (
        Mismatch("numpy", "1.0", importlib.metadata.version("numpy")),
        Mismatch("polars", None, importlib.metadata.version("polars")),
        Mismatch("tensorflow", "2.0", None),
    )
    assert check.findings == (
        f"python: 3.9.0 in training, {platform.python_version()} now",
        f"numpy: 1.0 in training, {importlib.metadata.version('numpy')} now",
        f"polars: absent in training, {importlib.metadata.version('polars')} now",
        "tensorflow: 2.0 in training, absent now",
    )


def test_without_a_lock_on_either_side_nothing_is_proven(tmp_path: Path) -> None:
    path = tmp_path / "requirements.lock"
    path.write_text(f"numpy=={importlib.metadata.version('numpy')}\n")
    lock = Lock.read(path, own=True)
    for before, now, where in ((None, lock, "in training"), (lock, None, "now")):
        check = check_environment(recorded(before), now)
        assert check.verdict is Verdict.INDETERMINATE
        assert check.findings == (f"no lock was found {where}, so the locks cannot be compared",)


@pytest.mark.parametrize(("own", "verdict"), [(True, Verdict.FAIL), (False, Verdict.PASS)])
def test_a_package_that_is_not_as_locked_breaks_the_desks_own_lock_only(
    tmp_path: Path, own: bool, verdict: Verdict
) -> None:
    path = tmp_path / "requirements.lock"
    path.write_text("numpy==0.0.1\nnot-installed-anywhere==1.0\n")
    lock = Lock.read(path, own=own)
    check = check_environment(recorded(lock), lock)
    assert check.verdict is verdict
    now = importlib.metadata.version("numpy")
    assert check.not_locked == (Mismatch("numpy", "0.0.1", now),)
    assert f"numpy: {now} installed, 0.0.1 in the" in check.findings[0]


def test_this_process_records_what_it_is(trained: Path) -> None:
    desk = opened(trained)
    lock = desk_lock(desk)
    assert lock is not None
    assert environment_of(desk) == recorded(lock)


def test_the_verdict_of_a_desk_is_the_worst_of_its_recipes(trained: Path) -> None:
    def of(*verdicts: Verdict, version: str | None = "1.0.0") -> Verdict:
        recipes = tuple(
            RecipeVerification(str(n), one, (), version=version) for n, one in enumerate(verdicts)
        )
        return DeskVerification(NOW, recipes, None).verdict

    assert of(Verdict.PASS, Verdict.PASS) is Verdict.PASS
    assert of(Verdict.PASS, Verdict.INDETERMINATE) is Verdict.INDETERMINATE
    assert of(Verdict.INDETERMINATE, Verdict.FAIL) is Verdict.FAIL
    assert of() is Verdict.INDETERMINATE
    assert of(Verdict.INDETERMINATE, version=None) is Verdict.INDETERMINATE
    assert of(Verdict.FAIL, version=None) is Verdict.FAIL


# The command and the desk's Makefile


def test_the_command_says_each_recipe_and_exits_by_the_verdict(copied: Path) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["parity", "verify", *arguments, "--desk", str(copied)])

    good = run()
    assert good.exit_code == 0, good.output
    assert "fx_vol_baseline: PASS, training set of fx_vol 1.0.0" in good.output
    assert "made again, the same" in good.output
    assert "fx_vol: never trained" in good.output
    assert "the desk is reproducible" in good.output
    assert json.loads(run("--json").stdout)["verdict"] == "PASS"
    shutil.rmtree(copied / "data/manifests")
    bad = run()
    assert bad.exit_code == 1
    assert "is not archived" in bad.output
    assert "the desk is NOT reproducible" in bad.output


@pytest.mark.long
def test_a_desks_makefile_verifies_it(copied: Path) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("no make on this machine: apt-get install make")
    assert (copied / "Makefile").read_bytes() == (example_path() / "Makefile").read_bytes()
    command = Path(sys.executable).with_name("assay")
    done = subprocess.run(
        [make, "-C", str(copied), "parity-verify", f"ASSAY={command}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "fx_vol_baseline: PASS" in done.stdout, done.stderr
    assert done.returncode == 0
    shutil.rmtree(copied / "artifacts/runs")
    again = subprocess.run(
        [make, "-C", str(copied), "parity-verify", f"ASSAY={command}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode != 0
    assert "not proven to be reproducible" in again.stdout
    listed = subprocess.run(
        [make, "-C", str(copied), "help"], capture_output=True, text=True, check=True
    )
    assert "parity-verify" in listed.stdout
