"""The command line's manners: grouped help, precise errors without tracebacks, a next step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assay.bootstrap import Member, create_desk, example_path
from assay.errors import Conflict


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
        (("models", "live", "fx_vol", "--at", "15 January"), "expected ISO 8601"),
        (("models", "live", "fx_vol", "--at", "2026-01-15T10:30"), "without a zone"),
        (("models", "validate", "fx_vol", "1.0.0"), "no model 'fx_vol'"),
        (("gates", "check", "fx_vol", "1.0.0"), "no model 'fx_vol'"),
        (("models", "rollback", "fx_vol", "--reason", "x"), "fx_vol"),
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


def test_the_example_desk_holds_no_data_and_no_keys() -> None:
    names = {path.name for path in example_path().iterdir()}
    assert names & {"data", "artifacts", "keys"} == set()
