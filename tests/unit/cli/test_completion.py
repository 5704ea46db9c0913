"""The shell completes commands and options, as the scripts that `assay` prints ask it to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def completed_by_bash(words: str) -> list[str]:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    script = """
    eval "$(_ASSAY_COMPLETE=source_bash assay)"
    COMP_WORDS=($1); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
    _assay_completion assay
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    folder = str(Path(sys.executable).parent)
    found = subprocess.run(
        [bash, "--noprofile", "--norc", "-c", script, "bash", words],
        env={"PATH": f"{folder}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return found.stdout.split()


def test_bash_completes_commands_and_options() -> None:
    assert completed_by_bash("assay mo") == ["models"]
    assert completed_by_bash("assay access au") == ["audit"]
    assert "--reason" in completed_by_bash("assay models rollback --r")


@pytest.mark.parametrize("shell_name", ["bash", "zsh"])
def test_a_script_for_each_shell_is_printed(shell: Any, shell_name: str) -> None:
    printed = shell.run(environment={"_ASSAY_COMPLETE": f"source_{shell_name}"})
    assert printed.returncode == 0, printed.stderr
    assert "_assay_completion" in printed.stdout
    assert {"bash": "COMPREPLY", "zsh": "compdef"}[shell_name] in printed.stdout


def test_zsh_is_told_commands_with_what_they_do(shell: Any) -> None:
    asked = {"_ASSAY_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "assay access au"}
    printed = shell.run(environment=asked)
    assert '"audit":"Who may do what' in printed.stdout
