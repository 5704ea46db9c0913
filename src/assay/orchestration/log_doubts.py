"""What a desk knows that contradicts its registry's log, said with the answers that rest on it."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, Final

from assay.errors import AssayError
from assay.orchestration.desk import Desk
from assay.registry import ModelRegistry
from assay.registry.doubts import Seen, doubts_about

HINT: Final = "assay audit verify"
_TAIL: Final = 65_536
"""So much of the end of a service's record is read."""


class LogDoubts:
    """Asks again only where log, catalogue or the service's record have changed since."""

    def __init__(self, desk: Desk) -> None:
        self._record = desk.layout.serving_record
        self._mark: Hashable = None
        self._found: dict[str | None, tuple[str, ...]] = {}

    def about(self, registry: ModelRegistry, name: str | None = None) -> tuple[str, ...]:
        """In words, why the log may lack entries; nothing where nobody contradicts it.

        Parameters
        ----------
        name: the model that was asked about; None for no one in particular.
        """
        mark = (registry.journal.ledger.mark(), _state_of(self._record))
        if mark != self._mark:
            self._mark, self._found = mark, {}
        found = self._found.get(name)
        if found is None:
            try:
                doubts = doubts_about(registry, name, known=_seen_by_servers(self._record))
            except (AssayError, OSError) as error:
                # The answer does not depend on those who could contradict it.
                return (f"who has seen more of it could not be asked: {error}",)
            found = self._found[name] = tuple(str(doubt) for doubt in doubts)
        return found


def _seen_by_servers(path: Path) -> Iterator[Seen]:
    """The latest ends of the log that lines of a service's record name.

    Unverified: a line that was put there is found by whoever verifies what this gives rise to.
    """
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - _TAIL))
            lines = handle.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return
    for line in lines:
        try:
            said: Any = json.loads(line)
            head = said["log_head"]
            seen = int(head["seq"]), str(head["hash"]), f"{path.name}, server {said['server']}"
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # the first one is seldom whole; others name no end
        yield seen


def _state_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns
