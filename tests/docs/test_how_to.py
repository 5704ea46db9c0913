"""The Python in the how-to pages runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs/how-to"


@pytest.mark.parametrize("name", ["add-a-feature", "add-a-model", "add-a-source"])
def test_the_code_of_the_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    lines = [line.removeprefix(indent) for indent, body in blocks for line in body.splitlines()]
    monkeypatch.chdir(tmp_path)
    # One module for the page: later blocks use what earlier ones define.
    code = compile("\n".join(lines), f"{name}.md", "exec", dont_inherit=True)
    exec(code, {"__name__": "page"})
