"""The kill switch: one file that stops every prediction, from the next request on."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from assay.serving.rejections import KILLED, Rejected
from assay.serving.service_record import ServiceRecord
from assay.storage.files import sync_directory, write_atomic


@dataclass(frozen=True, slots=True)
class Kill:
    """Who switched predictions off and why; ``by`` is ``a file`` when somebody made it by hand."""

    by: str
    reason: str


class KillSwitch:
    """On while its file exists, or since a start that asked for it.

    Every request asks the operating system for the file, a microsecond or two, so there is no
    moment between switching and stopping. What cannot be decided counts as on: an unreadable
    folder stops predictions. The file outlives the process, and stops all processes of a desk.

    Parameters
    ----------
    path: the file. Its content is JSON from :meth:`on`, or whatever a person wrote.
    record: where changes are recorded, whoever made them.
    at_start: switched on from the beginning, until :meth:`off`.
    """

    def __init__(self, path: Path, record: ServiceRecord, *, at_start: bool = False) -> None:
        self.path = path
        self._record = record
        self._text = os.fspath(path)
        self._mutex = threading.Lock()
        self._started: Kill | None = Kill("the start", "SERVE_KILL=1") if at_start else None
        self._seen = False
        self.observe()

    def check(self) -> None:
        """Refuse when the switch is on.

        Raises
        ------
        Rejected: it is on; says by whom and why.
        """
        if not self._is_on():
            if self._seen:
                self.observe()
            return
        kill = self.observe()
        if kill is None:  # switched off between the two looks
            return
        raise Rejected(
            KILLED,
            f"predictions are switched off by {kill.by}: {kill.reason}",
            found="on",
            expected="off",
            hint=f"POST /unkill, or remove {self.path.name}; GET /health tells the state",
        )

    def observe(self) -> Kill | None:
        """The switch as it is now, and a record if it changed since the last look."""
        with self._mutex:
            kill = self._read() if self._is_on() else None
            if kill is not None and not self._seen:
                self._seen = True
                self._record.append("killed", by=kill.by, reason=kill.reason)
            elif kill is None and self._seen:
                self._seen = False
                self._record.append("unkilled", by="a file", reason="the file was removed")
            return kill

    def on(self, *, by: str, reason: str) -> Kill:
        """Switch predictions off, for every process that watches the file."""
        with self._mutex:
            self._record.append("killed", by=by, reason=reason)
            self._seen = True
            # Even where the file cannot be written, this process stops.
            self._started = Kill(by, reason)
            document = json.dumps({"by": by, "reason": reason}, ensure_ascii=False)
            write_atomic(self.path, document.encode("utf-8") + b"\n")
            self._started = None
            return Kill(by, reason)

    def off(self, *, by: str, reason: str) -> None:
        """Let predictions go on: remove the file and forget a start that asked for it."""
        with self._mutex:
            self._record.append("unkilled", by=by, reason=reason)
            self.path.unlink(missing_ok=True)
            if self.path.parent.is_dir():
                sync_directory(self.path.parent)
            self._started = None
            self._seen = False

    def _is_on(self) -> bool:
        if self._started is not None:
            return True
        try:
            os.lstat(self._text)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def _read(self) -> Kill:
        if self._started is not None:
            return self._started
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError as error:
            return Kill("a file", f"{self.path} cannot be read: {error.strerror}")
        try:
            document = json.loads(text)
            return Kill(str(document["by"])[:200], str(document["reason"])[:1000])
        except (ValueError, TypeError, KeyError, RecursionError):
            return Kill("a file", text[:1000] or f"{self.path} exists")
