"""Writes into a record of access in a thread of its own, so that no request waits for the disk.

A line is synced to the disk under a lock that other processes take as well. Whoever stops
predictions must not wait for that, nor behind strangers whose refusals are written down.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Lock, Thread
from typing import Final

from assay.access.access_log import AccessEvent, AccessLog
from assay.access.repeated import WINDOW_SECONDS, RepeatedRefusals
from assay.errors import AssayError

_LOG = logging.getLogger("assay.access")
NOT_WRITTEN: Final = "not_written"
"""The code of a line that stands for events which came faster than they could be written."""
_WAITING: Final = 256
_PATIENCE: Final = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class _Waiting:
    event: AccessEvent
    place: str


class RecordWriter:
    """Writes events one after the other, those of strangers in a bounded number of lines.

    What cannot be written is told to the log of the process. Events beyond ``most`` that wait, and
    refusals beyond half of that, are counted, and one line says how many they were.

    Parameters
    ----------
    log: where events of known callers go. refusals: where those of strangers go.
    """

    def __init__(self, log: AccessLog, refusals: RepeatedRefusals, *, most: int = _WAITING) -> None:
        self._log = log
        self._refusals = refusals
        self._most = most
        self._queue: Queue[_Waiting | None] = Queue(most)
        self._mutex = Lock()
        self._thread: Thread | None = None
        self._lost = 0

    def write(self, event: AccessEvent, place: str) -> None:
        """Have an event written; an event without a subject is a stranger's, at that place."""
        with self._mutex:
            # Deeds have room that no number of refusals takes.
            full = bool(event.code) and self._queue.qsize() >= self._most // 2
            if full or not self._runs():
                self._lost += 1
                return
            try:
                self._queue.put_nowait(_Waiting(event, place))
            except Full:
                self._lost += 1

    def _runs(self) -> bool:
        """Whether there is a thread that writes, which is begun with the first event."""
        if self._thread is None:
            thread = Thread(target=self._run, name="record of access", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has no further one: the next event tries again
                return False
            self._thread = thread
        return True

    def stop(self) -> None:
        """Write what waits and every count; a disk that hangs is not waited for long."""
        with self._mutex:
            thread, self._thread = self._thread, None
        if thread is not None:
            with suppress(Full):
                self._queue.put(None, timeout=_PATIENCE)
            thread.join(_PATIENCE)

    def _run(self) -> None:
        ends = False
        while not ends:
            try:
                waiting = self._queue.get(timeout=WINDOW_SECONDS)
            except Empty:
                self._try(None)
            else:
                ends = waiting is None
                self._try(waiting, everything=ends)

    def _try(self, waiting: _Waiting | None, *, everything: bool = False) -> None:
        try:
            if waiting is not None:
                self._write(waiting)
            else:
                self._refusals.write_counts(everything=everything)
        except (AssayError, OSError) as error:
            _tell(None if waiting is None else waiting.event.to_json(), error)
        try:
            self._write_lost()
        except (AssayError, OSError) as error:
            _tell(f"{self._lost} events that were not waited for", error)

    def _write(self, waiting: _Waiting) -> None:
        if waiting.event.subject:
            self._log.record(waiting.event)
        else:
            self._refusals.record(waiting.place, waiting.event)

    def _write_lost(self) -> None:
        """Say how many were counted; they count on where that cannot be written."""
        lost = self._lost
        if not lost:
            return
        words = "events came faster than they could be written"
        self._log.record(AccessEvent("refused", "", "", code=NOT_WRITTEN, detail=words, count=lost))
        with self._mutex:
            self._lost -= lost


def _tell(what: object, error: Exception) -> None:
    _LOG.warning("not in the record of access, which cannot be written: %s (%s)", what, error)
