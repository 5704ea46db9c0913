"""The command line's manners: grouped help, precise errors without tracebacks, a next step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from assay.bootstrap import Member, create_desk, example_path
from assay.domain.clock import SystemClock
from assay.errors import Conflict
from assay.registry import KeyRing, ModelRegistry
from assay.testing.versions import make_candidate


def test_help_is_grouped_by_intent_and_says_where_to_start(shell: Any) -> None:
    result = shell.run("--help")
    assert result.returncode == 0
    for group in ("Start", "Data and features", "Models", "The record"):
        assert group in result.stdout
    assert "Start with: assay demo" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("ingest",), "no desk project in", "assay init"),
        (("models", "list", "--desk", "nowhere"), "no desk project in nowhere", "assay init"),
    ],
)
def test_a_missing_desk_exits_1_and_says_how_to_make_one(
    shell: Any, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    result = shell.run(*arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert hint in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def empty_desk(shell: Any) -> Path:
    folder: Path = shell.home / "empty"
    made = shell.run("init", str(folder), "--as", "quant", "--as", "risk")
    assert made.returncode == 0, made.stderr
    assert "next: cd" in made.stdout
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("features", "build", "fx_dayly"), "did you mean 'fx_daily'?"),
        (("features", "build"), "assay ingest"),
        (("parity", "run"), "assay features build"),
        (("train", "fx_vo", "--as", "quant"), "did you mean 'fx_vol'?"),
        (("train", "fx_vol", "--as", "quant"), "assay features build"),
        (("models", "validate", "fx_vol", "1.0.0"), "no model 'fx_vol'"),
        (("gates", "check", "fx_vol", "1.0.0"), "no model 'fx_vol'"),
        (("models", "rollback", "fx_vol", "--reason", "x"), "no model 'fx_vol'"),
        (("models", "live", "fx_vol"), "no model 'fx_vol'"),
        (("models", "history", "fx_vol"), "no model 'fx_vol'"),
        (("models", "list", "fx_vol"), "no model 'fx_vol'"),
    ],
)
def test_a_mistake_exits_1_with_what_to_do_and_no_traceback(
    shell: Any, empty_desk: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = shell.run(*arguments, "--desk", str(empty_desk))
    assert result.returncode == 1, result.stdout
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_private_keys_lie_outside_the_desk_and_only_their_owner_reads_them(
    shell: Any, empty_desk: Path
) -> None:
    private = shell.home / "config/assay/keys"
    for identity in ("quant", "risk"):
        assert (private / f"{identity}.pem").stat().st_mode & 0o777 == 0o600
    assert not [p for p in empty_desk.rglob("*") if p.is_file() and b"PRIVATE" in p.read_bytes()]
    assert (empty_desk / "keys/trust.json").is_file()


def test_init_never_overwrites_a_folder_that_holds_something(
    shell: Any, empty_desk: Path, tmp_path: Path
) -> None:
    assert shell.run("init", str(empty_desk)).returncode == 1
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(Conflict, match="not empty"):
        create_desk(tmp_path, name=None, members=[Member("quant", ("version",))])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_init_that_died_halfway_leaves_no_desk_and_can_be_repeated(
    shell: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "2026"
    (tmp_path / ".2026.init").mkdir()
    (tmp_path / ".2026.init/assay.yaml").write_text("half")
    assert shell.run("init", str(folder), "--as", "quant").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["2026"]
    assert shell.run("models", "list", "--desk", str(folder)).returncode == 0


def test_the_example_desk_holds_no_data_and_no_keys() -> None:
    names = {path.name for path in example_path().iterdir()}
    assert names & {"data", "artifacts", "keys"} == set()


@pytest.mark.parametrize(
    ("arguments", "code", "error", "hint"),
    [
        (("train", "fx_vo", "--as", "quant"), 1, "no recipe 'fx_vo'", "did you mean 'fx_vol'?"),
        (("models", "live", "fx_vol"), 1, "no model 'fx_vol'", "assay train"),
        (("models", "rollback", "fx_vol"), 2, "--reason", "assay models rollback --help"),
        (("audit", "show", "--last", "0"), 2, "--last", "assay audit show --help"),
    ],
)
def test_under_json_a_mistake_is_one_object_on_standard_output(
    shell: Any, empty_desk: Path, arguments: tuple[str, ...], code: int, error: str, hint: str
) -> None:
    result = shell.run(*arguments, "--json", "--desk", str(empty_desk))
    assert result.returncode == code
    document = json.loads(result.stdout)
    assert set(document) == {"error", "hint"}
    assert error in document["error"]
    assert hint in document["hint"]
    assert "Traceback" not in result.stderr


def test_what_the_operating_system_refuses_is_told_with_its_path(
    shell: Any, empty_desk: Path, tmp_path: Path
) -> None:
    desk = tmp_path / "desk"
    shutil.copytree(empty_desk, desk)
    (desk / "configs/gates.yaml").write_text("")
    (desk / "configs/sources.yaml").unlink()
    (desk / "configs/sources.yaml").mkdir()
    result = shell.run("ingest", "--desk", str(desk))
    assert result.returncode == 1
    assert "sources.yaml" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_interrupted_command_says_so_and_exits_130(
    shell: Any, empty_desk: Path, tmp_path: Path
) -> None:
    desk = tmp_path / "desk"
    shutil.copytree(empty_desk, desk)
    # Ctrl-C at a moment that is known: while the desk's own file is being read.
    (desk / "features" / "fx_daily.py").write_text("raise KeyboardInterrupt\n")
    result = shell.run("features", "show", "fx_daily", "--json", "--desk", str(desk))
    assert result.returncode == 130
    assert json.loads(result.stdout)["error"].startswith("interrupted")
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def live(shell: Any, empty_desk: Path) -> Path:
    """A copy of the desk with one version in its registry."""
    desk: Path = shell.home / "live"
    shutil.copytree(empty_desk, desk)
    keyring = KeyRing(desk / "keys", shell.home / "config/assay/keys")
    registry = ModelRegistry(
        desk / "data/models",
        keyring,
        SystemClock(),
        audit_path=desk / "observability/audit/model_events.jsonl",
    )
    registry.register(make_candidate(author="quant"))
    return desk


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("15 January", "expected ISO 8601"),
        ("2026-01-15T10:30", "without a zone"),
        ("", "expected ISO 8601"),
        ("1500-01-01", "expected one of the years"),
        ("2199-01-01", "has not come yet"),
    ],
)
def test_a_moment_that_cannot_be_answered_is_refused(
    shell: Any, live: Path, at: str, message: str
) -> None:
    result = shell.run("models", "live", "fx_vol", "--at", at, "--desk", str(live))
    assert result.returncode == 1
    assert message in result.stderr


def test_a_mistyped_model_is_no_answer_about_production(shell: Any, live: Path) -> None:
    result = shell.run("models", "live", "fx_vo", "--desk", str(live))
    assert result.returncode == 1
    assert "did you mean 'fx_vol'?" in result.stderr


def test_a_damaged_catalogue_is_rebuilt_by_the_command_that_its_error_names(
    shell: Any, live: Path, tmp_path: Path
) -> None:
    desk = tmp_path / "desk"
    shutil.copytree(live, desk, symlinks=True)
    for path in (desk / "data/models").glob("registry.db*"):
        path.unlink()
    (desk / "data/models/registry.db").write_bytes(b"not a database" * 1_000)
    refused = shell.run("models", "list", "--desk", str(desk))
    assert refused.returncode == 1
    assert "assay models rebuild" in refused.stderr
    assert shell.json("models", "rebuild", "--as", "quant", "--desk", str(desk)) == {"versions": 1}
    (record,) = shell.json("models", "list", "--desk", str(desk))
    assert record["version"] == "1.0.0"


def test_a_folder_whose_name_is_no_desk_name_is_made_under_another(
    shell: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "börse 名"
    refused = shell.run("init", str(folder), "--as", "quant")
    assert refused.returncode == 1
    assert "--name" in refused.stderr
    assert not folder.exists()
    assert shell.run("init", str(folder), "--as", "quant", "--name", "desk").returncode == 0
    assert shell.run("models", "list", "--desk", str(folder)).returncode == 0
