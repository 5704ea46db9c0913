"""What commands print: one line per event, tables, the next command, or one JSON document.

Lines for people go to standard output unless ``--json`` was asked for; then standard output holds
exactly one JSON document and progress goes to standard error.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from typing import Any, TextIO


class Output:
    """Where one command's words go.

    Parameters
    ----------
    as_json: whether standard output is reserved for one JSON document.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._started = time.monotonic()

    def line(self, text: str = "") -> None:
        """One event, for people; in a terminal it is broken between words."""
        stream = sys.stderr if self.as_json else sys.stdout
        stream.write(_fitted(text, stream) + "\n")
        stream.flush()

    def event(self, text: str) -> None:
        """Progress of a step: seen by a waiting person, never part of a result."""
        sys.stderr.write(f"[{time.monotonic() - self._started:6.1f} s] {text}\n")
        sys.stderr.flush()

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table for people; silent under ``--json``, where the object holds the same."""
        if self.as_json:
            return
        from rich.console import Console
        from rich.table import Table

        table = Table(header_style="bold", box=None, pad_edge=False)
        for number, column in enumerate(columns):
            # The first column holds names, which must stay whole to be copied.
            table.add_column(column, no_wrap=number == 0, overflow="fold")
        for row in rows:
            table.add_row(*("" if cell is None else str(cell) for cell in row))
        # Asked here: rich takes some terminals for 80 columns wide, whatever they say.
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 160
        Console(highlight=False, width=width, height=25).print(table)

    def next_step(self, *commands: str) -> None:
        """What to type next."""
        if commands:
            # Never broken: a command is copied as it stands.
            stream = sys.stderr if self.as_json else sys.stdout
            stream.write("next: " + "\n      ".join(commands) + "\n")

    def result(self, document: Any) -> None:
        """The one JSON document, when asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=1, allow_nan=False) + "\n")


def _fitted(text: str, stream: TextIO) -> str:
    if not stream.isatty() or not text.strip():
        return text
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    return textwrap.fill(
        text,
        shutil.get_terminal_size().columns,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
