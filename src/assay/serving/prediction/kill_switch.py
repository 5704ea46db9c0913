"""The kill switch: one file that stops every prediction, from the next request on."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from assay.errors import Unavailable
from assay.serving.prediction.service_record import ServiceRecord
from assay.serving.rejections import KILLED, Rejected
from assay.storage.files import sync_directory, write_atomic


@dataclass(frozen=True, slots=True)
class Kill:
    """Who switched predictions off and why; ``by`` is ``a file`` when somebody made it by hand."""

    by: str
    reason: str


class KillSwitch:
    """On while its file exists, or since a start that asked for it.

    The operating system is asked for the file by each request, or once for several that had all
    come before (:meth:`assume`), so that every request sent after the switch finds it. What cannot
    be decided counts as on: an unreadable folder stops predictions. The file outlives the process,
    and stops all processes of a desk.

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
        self._assumed_off = False
        self.observe()

    def check(self) -> None:
        """Refuse when the switch is on.

        Raises
        ------
        Rejected: it is on; says by whom and why.
        """
        started = self._started
        if started is not None:  # without waiting for whoever is switching
            raise self._refusal(started)
        if self._assumed_off:
            return
        if not self._is_on():
            if self._seen:
                self.observe()
            return
        kill = self.observe()
        if kill is not None:  # not switched off between the two looks
            raise self._refusal(kill)

    def _refusal(self, kill: Kill) -> Rejected:
        return Rejected(
            KILLED,
            f"predictions are switched off by {kill.by}: {kill.reason}",
            found="on",
            expected="off",
            hint=f"POST /unkill, or remove {self.path.name}; GET /health tells the state",
        )

    def is_off(self) -> bool:
        """Whether predictions may be made, as :meth:`check` finds it now."""
        if self._is_on():
            return False
        if self._seen:
            self.observe()
        return True

    def assume(self, *, off: bool) -> None:
        """Let :meth:`check` believe what was found just before, instead of looking again.

        For a thread that answers several requests which all had come before the look: asking the
        operating system is a tenth of what a prediction costs under load.
        """
        self._assumed_off = off

    def observe(self) -> Kill | None:
        """The switch as it is now, and a record if it changed since the last look."""
        with self._mutex:
            kill = self._read() if self._is_on() else None
            changed = self._seen is (kill is None)
            self._seen = kill is not None
        # Not while others wait: a request may be among them.
        if changed and kill is not None:
            self._record.note("killed", by=kill.by, reason=kill.reason)
        elif changed:
            self._record.note("unkilled", by="a file", reason="the file was removed")
        return kill

    def on(self, *, by: str, reason: str) -> Kill:
        """Switch predictions off, for every process that watches the file.

        Nothing that goes wrong on the way lets this process go on.

        Raises
        ------
        Unavailable: the file cannot be made, so that other processes go on.
        """
        with self._mutex:
            self._started = kill = Kill(by, reason)
            self._assumed_off = False
            self._seen = True
            document = json.dumps({"by": by, "reason": reason}, ensure_ascii=False)
            try:
                self._make(document.encode("utf-8") + b"\n")
            except OSError as error:
                raise Unavailable(
                    f"{self.path} cannot be made: {error.strerror}; this process predicts nothing "
                    "any more, others go on",
                    hint="make the file by hand, or stop the service",
                ) from error
            finally:
                self._record.note("killed", by=by, reason=reason)
            self._started = None  # from here on the file is asked for
            return kill

    def _make(self, content: bytes) -> None:
        try:
            write_atomic(self.path, content)
        except OSError:
            # A full disk often has room for a name, and the name is what counts.
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644))

    def off(self, *, by: str, reason: str) -> None:
        """Let predictions go on: remove the file and forget a start that asked for it.

        Raises
        ------
        OSError, Unavailable: it cannot be recorded, or the file cannot be removed. Then it stays.
        """
        self._record.append("unkilled", by=by, reason=reason)
        with self._mutex:
            self.path.unlink(missing_ok=True)
            self._started = None
            self._seen = False
        if self.path.parent.is_dir():
            sync_directory(self.path.parent)

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
