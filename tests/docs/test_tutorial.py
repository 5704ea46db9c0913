"""The tutorial works as it is written: every command in it is run, on generated rates."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs/tutorials/first-desk.md"


def commands(page: Path) -> list[tuple[str, str]]:
    """Commands in console blocks, and the remark behind each."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [(line.partition(" #")[0].strip(), line.partition(" #")[2]) for line in lines]


def feed_with_generated_rates(folder: Path, archive: Any) -> None:
    archive(folder / "configs/rates.zip")
    path = folder / "configs/sources.yaml"
    document = yaml.safe_load(path.read_text())
    document["sources"]["ecb"]["path"] = "rates.zip"
    document["universe"]["min_observed"] = 300
    path.write_text(yaml.safe_dump(document))


def ask(url: str, body: str | None) -> tuple[int, dict[str, Any]]:
    """What curl would get."""
    request = urllib.request.Request(url, data=body.encode() if body else None)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.xdist_group("tutorial")
def test_every_command_of_the_tutorial_does_what_the_page_says(shell: Any, archive: Any) -> None:
    folder, server, port = shell.home, None, ""
    try:
        for line, remark in commands(TUTORIAL):
            # The generated rates end earlier than the real ones.
            words = shlex.split(line.replace("2026-10-30", "2023-12-26"))
            environment = {}
            while "=" in words[0]:
                name, _, value = words.pop(0).partition("=")
                environment[name] = value
            if words[0] == "cd":
                folder = folder / words[1]
                feed_with_generated_rates(folder, archive)
            elif words[:2] == ["assay", "serve"]:
                assert "keeps running" in remark
                words[words.index("--port") + 1] = "0"
                server, port = serve(shell, words, folder, environment)
            elif words[0] == "curl":
                status, answer = ask(
                    words[1].replace("8017", port), words[3] if len(words) > 3 else None
                )
                refused = re.search(r"refused: (\d+)", remark)
                assert status == (int(refused[1]) if refused else 200), (line, answer)
            else:
                result = shell.run(*words[1:], cwd=folder)
                allowed = {0, 1} if "exits 1" in remark else {0}
                assert result.returncode in allowed, f"{line}\n{result.stdout}\n{result.stderr}"
                assert "Traceback" not in result.stderr, result.stderr
                assert result.stdout or result.stderr
    finally:
        if server is not None:
            server.terminate()
            server.communicate(timeout=30)
    assert port, "the tutorial serves a model"


def serve(
    shell: Any, words: list[str], folder: Path, environment: dict[str, str]
) -> tuple[subprocess.Popen[str], str]:
    """The server of the page on a free port, once it listens."""
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("assay")), *words[1:]],
        cwd=folder,
        env=os.environ | {"XDG_CONFIG_HOME": str(shell.home / "config")} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        found = re.search(r"serving on http://127\.0\.0\.1:(\d+)", line)
        if found:
            return process, found[1]
    process.wait()
    raise AssertionError(f"the server ended: {said}")
