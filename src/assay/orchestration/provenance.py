"""Which revision of the desk's own files made a model."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHANGED = "+changes"


@dataclass(frozen=True, slots=True)
class GitState:
    """A commit, and how the desk's files differ from it.

    Attributes
    ----------
    changes: how many files differ or are not tracked. changes_sha256: of what differs and of the
        list of files that are not tracked, so that the same state is known again; None for none.
    """

    commit: str
    changes: int = 0
    changes_sha256: str | None = None

    @property
    def dirty(self) -> bool:
        return self.changes > 0

    @property
    def revision(self) -> str:
        """The commit, with ``+changes`` when the files differ from it."""
        return self.commit + (_CHANGED if self.dirty else "")

    def to_json(self) -> dict[str, Any]:
        return {
            "commit": self.commit,
            "dirty": self.dirty,
            "changes": self.changes,
            "changes_sha256": self.changes_sha256,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> GitState:
        return cls(document["commit"], document["changes"], document["changes_sha256"])


def git_state(root: Path) -> GitState | None:
    """The state of the desk's files under version control.

    None where the desk is not under version control: outside of a repository, or ignored by the
    repository around it, whose commit would say nothing about the desk.
    """
    git = shutil.which("git")
    if git is None or _run(git, root, "ls-files", "--error-unmatch", "assay.yaml") is None:
        return None
    commit = _run(git, root, "rev-parse", "HEAD")
    changes = _run(git, root, "status", "--porcelain", "--", ".")
    if commit is None:
        return None
    if not changes:
        return GitState(commit)
    differs = _run(git, root, "diff", "--binary", "HEAD", "--", ".") or ""
    text = f"{changes}\n{differs}"
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return GitState(commit, len(changes.splitlines()), digest)


def git_revision(root: Path) -> str | None:
    """The commit of the desk's files, with ``+changes`` when they differ from it; or None."""
    state = git_state(root)
    return None if state is None else state.revision


def has_commit(root: Path, commit: str) -> bool | None:
    """Whether the repository around ``root`` has a commit; None where there is no repository."""
    git = shutil.which("git")
    if git is None or _run(git, root, "rev-parse", "--git-dir") is None:
        return None
    return _run(git, root, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def _run(git: str, root: Path, *arguments: str) -> str | None:
    done = subprocess.run(  # noqa: S603 - git itself, with fixed arguments
        [git, "-C", str(root), *arguments], capture_output=True, check=False
    )
    # A file of the desk need not be text: what git prints of it must not end a training run.
    return done.stdout.decode(errors="surrogateescape").strip() if done.returncode == 0 else None
