"""What a serving process did, one line per event: loads, failures, kills. Append only."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from assay.domain.clock import Clock
from assay.domain.instants import render
from assay.storage.files import append_line, drop_torn_tail
from assay.storage.locks import FileLock


class ServiceRecord:
    """``artifacts/serving.jsonl``: which bytes answered from when on, and who stopped them.

    The registry says what was meant to be live; this says what was. Each line is on the disk when
    :meth:`append` returns. Several processes may append to one file.
    """

    def __init__(self, path: Path, clock: Clock, *, process: int) -> None:
        self._path = path
        self._clock = clock
        self._process = process
        self._mutex = threading.Lock()

    def append(self, event: str, **fields: Any) -> None:
        """Write one event with its time and this process's number."""
        line = {"at": render(self._clock.now()), "event": event, "process": self._process, **fields}
        with self._mutex, FileLock(self._path.with_name(self._path.name + ".lock")):
            drop_torn_tail(self._path)
            append_line(self._path, json.dumps(line, ensure_ascii=False).encode("utf-8"))
