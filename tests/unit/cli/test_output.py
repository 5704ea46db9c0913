"""What commands print fits the terminal, and what is copied from it stays whole."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import pytest

from assay.cli.output import Output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb")  # no colours among what is measured


def test_a_long_line_is_broken_between_words_and_indented() -> None:
    with redirect_stdout(Terminal()) as screen:
        Output(as_json=False).line("  blocks: coverage FAIL: 1.3e-10 is not above the threshold")
    assert screen.getvalue() == (
        "  blocks: coverage FAIL: 1.3e-10 is not\n    above the threshold\n"
    )


def test_a_command_and_a_name_are_never_broken() -> None:
    command = "assay gates explain fx_vol 1.1.0 --desk /a/long/folder/of/a/desk"
    with redirect_stdout(Terminal()) as screen:
        Output(as_json=False).next_step(command)
        Output(as_json=False).table(
            ("gate", "why"), [("training_set_rebuilt", "bit for bit, " * 5)]
        )
    lines = screen.getvalue().split("\n")
    assert lines[0] == f"next: {command}"
    assert any(line.startswith("training_set_rebuilt ") for line in lines)
    assert max(map(len, lines[1:])) <= 40


def test_a_pipe_gets_every_line_whole(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).line("word " * 60)
    assert capsys.readouterr().out == "word " * 60 + "\n"
