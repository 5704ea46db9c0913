"""Which revision of the desk's own files made a model."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def git_revision(root: Path) -> str | None:
    """The commit of the desk's files, with ``+changes`` when they differ from it.

    None where the desk is not under version control: outside of a repository, or ignored by the
    repository around it, whose commit would say nothing about the desk.
    """
    git = shutil.which("git")
    if git is None or _run(git, root, "ls-files", "--error-unmatch", "assay.yaml") is None:
        return None
    commit = _run(git, root, "rev-parse", "HEAD")
    changes = _run(git, root, "status", "--porcelain", "--", ".")
    return None if commit is None else commit + ("+changes" if changes else "")


def _run(git: str, root: Path, *arguments: str) -> str | None:
    done = subprocess.run(  # noqa: S603 - git itself, with fixed arguments
        [git, "-C", str(root), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None
