"""The tutorial works as it is written: every command in it is run, on generated rates."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs/tutorials/first-desk.md"


def commands(page: Path) -> list[tuple[str, bool]]:
    """Commands in console blocks, and whether the page says that one may exit 1."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [(line.partition("#")[0].strip(), "# exits 1" in line) for line in lines]


@pytest.mark.xdist_group("tutorial")
def test_every_command_of_the_tutorial_does_what_the_page_says(shell: Any, archive: Any) -> None:
    folder = shell.home
    for command, may_refuse in commands(TUTORIAL):
        arguments = shlex.split(command)
        if arguments[0] == "cd":
            folder = folder / arguments[1]
            archive(folder / "configs/rates.zip")
            path = folder / "configs/sources.yaml"
            document = yaml.safe_load(path.read_text())
            document["sources"]["ecb"]["path"] = "rates.zip"
            document["universe"]["min_observed"] = 300
            path.write_text(yaml.safe_dump(document))
            continue
        result = shell.run(*arguments[1:], cwd=folder)
        allowed = {0, 1} if may_refuse else {0}
        assert result.returncode in allowed, f"{command}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr, result.stderr
        assert result.stdout or result.stderr
