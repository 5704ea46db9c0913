from __future__ import annotations

import subprocess
from pathlib import Path

from assay.orchestration.provenance import git_revision


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=quant", "-c", "user.email=quant@desk.example")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_revision_is_the_commit_of_the_desks_own_files(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "assay.yaml").write_text("desk: {}\n")
    assert git_revision(tmp_path) is None, "not tracked yet"
    git(tmp_path, "add", "assay.yaml")
    git(tmp_path, "commit", "-q", "-m", "desk")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_revision(tmp_path) == commit
    (tmp_path / "assay.yaml").write_text("desk: {name: x}\n")
    assert git_revision(tmp_path) == f"{commit}+changes"


def test_a_desk_ignored_by_the_repository_around_it_has_no_revision(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("desk/\n")
    git(tmp_path, "add", ".gitignore")
    git(tmp_path, "commit", "-q", "-m", "around")
    (tmp_path / "desk").mkdir()
    (tmp_path / "desk/assay.yaml").write_text("")
    assert git_revision(tmp_path / "desk") is None
