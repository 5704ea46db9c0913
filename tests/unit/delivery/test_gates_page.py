"""The page that explains gates is executed: its code runs and its policy loads."""

import re
from pathlib import Path

import pytest

from assay.delivery.policy_files import read_policy

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "explanation" / "evidence-and-gates.md").read_text(encoding="utf-8")


def blocks(language):
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    assert found
    return found


@pytest.mark.parametrize("code", blocks("python"))
def test_the_code_on_the_page_runs(code, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(compile(code, "evidence-and-gates.md", "exec"), {})


@pytest.mark.parametrize("text", blocks("yaml"))
def test_the_policy_on_the_page_loads(text):
    assert read_policy(text, source="page").gates("risk_model")
