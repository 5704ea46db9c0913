"""The Python and the commands in the how-to pages run as they are printed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from assay.domain.instants import parse

PAGES = Path(__file__).parents[2] / "docs/how-to"


@pytest.mark.parametrize(
    "name",
    [
        "add-a-feature",
        "add-a-model",
        "add-a-source",
        "other-instruments",
        "request-time-features",
        "resample-ticks",
        "windows-and-sessions",
    ],
)
def test_the_code_of_the_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    file = re.search(r"^```yaml\n(years:.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    if file is not None:
        windows = tmp_path / "configs/features/windows.yaml"
        windows.parent.mkdir(parents=True)
        windows.write_text(file[1], encoding="utf-8")
    assert blocks
    lines = [line.removeprefix(indent) for indent, body in blocks for line in body.splitlines()]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # as with --desk
    # One module for the page: later blocks use what earlier ones define.
    code = compile("\n".join(lines), f"{name}.md", "exec", dont_inherit=True)
    exec(code, {"__name__": "page", "__file__": str(tmp_path / "features/page.py")})


@pytest.mark.xdist_group("journey")
def test_the_commands_of_serving_a_model_do_what_the_page_says(
    travelled: tuple[Path, Any, Any], tmp_path: Path, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = tmp_path / "my-desk"
    shutil.copytree(travelled[0], desk, symlinks=True)
    page = PAGES / "serve-a-model.md"
    person = reader(desk)
    person.follow(page)
    assert person.port
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"moment": parse("2023-12-26T17:00Z")}
    exec(compile(code, page.name, "exec", dont_inherit=True), names)
    assert names["made"].value > 0


@pytest.mark.xdist_group("journey")
def test_the_commands_of_keeping_rows_fresh_do_what_the_page_says(
    travelled: tuple[Path, Any, Any], tmp_path: Path, reader: Any, shell: Any
) -> None:
    desk = tmp_path / "my-desk"
    shutil.copytree(travelled[0], desk, symlinks=True)
    assert not (desk / "data" / "online.db").exists()
    reader(desk).follow(PAGES / "keep-online-rows-fresh.md")
    (found,) = shell.json("features", "status", "--desk", str(desk))
    assert (found["behind"], found["pending"]) == (0, 0)
    assert found["entities"] == found["known"] > 5
    for file in desk.glob("data/online.db*"):
        file.unlink()
    told = shell.run("features", "status", "--desk", str(desk))
    assert "next: assay features materialize fx_daily --full\n" in told.stdout
    shell.run("features", "materialize", "fx_daily", "--full", "--desk", str(desk))
    assert shell.json("features", "status", "--desk", str(desk)) == [found]
