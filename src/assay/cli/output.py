"""What commands print: one line per event, tables, the next command, or one JSON document.

Lines for people go to standard output unless ``--json`` was asked for; then standard output holds
exactly one JSON document and progress goes to standard error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any


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
        """One event, for people."""
        stream = sys.stderr if self.as_json else sys.stdout
        stream.write(text + "\n")
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

        table = Table(*columns, header_style="bold", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*("" if cell is None else str(cell) for cell in row))
        Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)

    def next_step(self, *commands: str) -> None:
        """What to type next."""
        if commands:
            self.line("next: " + "\n      ".join(commands))

    def result(self, document: Any) -> None:
        """The one JSON document, when asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=1, allow_nan=False) + "\n")
