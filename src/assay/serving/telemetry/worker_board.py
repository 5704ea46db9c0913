"""What the processes of one service know of each other: a folder with a file for each.

A process writes what it has loaded and counted a few times a second, and once more when it is asked
for the figures of all, so that no counter is ever seen to go back. The file of one that has ended
is folded into those of the supervisor: what it counted stays counted.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from assay.serving.telemetry.beside import Beside
from assay.serving.telemetry.metrics import Families, Family, merged, without_gauges

_LOG = logging.getLogger("assay.serving")

_PAUSE = 0.25
_RELOAD = "reload"
_SUPERVISOR = "supervisor"


class Said(msgspec.Struct):
    """What a process tells of itself: its number, what it has loaded, what it has counted, and what
    runs beside.
    """

    process: int
    models: dict[str, str]
    trouble: str | None
    figures: Families
    beside: list[Beside] = []
    includes: int = 0
    """A process that has ended and whose figures are among these."""


_decode = msgspec.json.Decoder(Said).decode
_encode = msgspec.json.Encoder().encode


class WorkerBoard:
    """One process's view of the folder.

    Parameters
    ----------
    folder: of this service; readable and writable by its user only.
    process: this process's number.

    Attributes
    ----------
    trouble: why this process cannot tell anything; None while it can.
    """

    def __init__(self, folder: Path, process: int) -> None:
        self._folder = folder
        self._process = process
        self._said: Callable[[], Said] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.trouble: str | None = None

    def start(self, said: Callable[[], Said]) -> None:
        """Tell what ``said`` gives from now on."""
        self._said = said
        self.tell()
        self._thread = threading.Thread(target=self._tell_on, name="worker-board", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell it once more, and no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self.tell()

    def tell(self) -> None:
        """Tell what this process has to say now."""
        if self._said is None:
            return
        try:
            self._write(str(self._process), self._said())
        except OSError as error:
            if self.trouble is None:
                _LOG.warning("the figures of this process cannot be told: %s", error)
            self.trouble = str(error)
        else:
            self.trouble = None

    def everyone(self) -> list[Said]:
        """What every process says, this one's included, and the supervisor's.

        A process that ends while this reads is counted once: the supervisor's file, which is read
        last, names the one that it includes.
        """
        self.tell()
        found = []
        for path in sorted(self._folder.glob("*.json")):
            one = self._read(path)
            if one is not None:  # else it ended meanwhile
                found.append(one)
        included = {one.includes for one in found}
        return [one for one in found if one.process == 0 or one.process not in included]

    def workers(self) -> list[Said]:
        """What every process says that answers requests."""
        return [one for one in self.everyone() if one.process > 0]

    def figures(self) -> Families:
        """The figures of all processes together."""
        return merged(one.figures for one in self.everyone())

    # -- reloading together ------------------------------------------------------------------------

    def ask_to_reload(self) -> None:
        """Have every process look at what should be live."""
        self._write_bytes(_RELOAD, os.urandom(8).hex().encode())

    def asked_to_reload(self) -> object:
        """Compares unequal after :meth:`ask_to_reload`; costs a look at a file."""
        try:
            found = (self._folder / _RELOAD).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    # -- for the supervisor ------------------------------------------------------------------------

    def retire(self, process: int, *, workers: int, restarts: int) -> None:
        """Keep what a process counted that has ended, and tell how many there are.

        Parameters
        ----------
        workers: processes that answer. restarts: processes that another took the place of.
        """
        gone = self._read(self._folder / f"{process}.json")
        before = self._read(self._folder / f"{_SUPERVISOR}.json")
        kept = merged(without_gauges(one.figures) for one in (before, gone) if one is not None)
        for name, kind, what, value in (
            ("assay_workers", "gauge", "Processes that answer requests.", workers),
            ("assay_worker_restarts_total", "counter",
             "Processes that ended and had their place taken by another.", restarts),
        ):  # fmt: skip
            kept[name] = Family(kind, what, {name: value})
        self._write(_SUPERVISOR, Said(0, {}, None, kept, includes=process))
        (self._folder / f"{process}.json").unlink(missing_ok=True)

    @staticmethod
    def _read(path: Path) -> Said | None:
        try:
            return _decode(path.read_bytes())
        except (OSError, msgspec.DecodeError):
            return None

    # -- else --------------------------------------------------------------------------------------

    def _tell_on(self) -> None:
        while not self._stop.wait(_PAUSE):
            try:
                self.tell()
            except Exception:  # noqa: BLE001 - the next figures may be fine
                _LOG.exception("the figures of this process cannot be told: a defect")

    def _write(self, name: str, said: Said) -> None:
        self._write_bytes(f"{name}.json", _encode(said))

    def _write_bytes(self, name: str, data: bytes) -> None:
        # Not synced: it is about processes, and ends with them.
        temporary = self._folder / f".{name}.{self._process}.{threading.get_ident()}"
        temporary.write_bytes(data)
        temporary.replace(self._folder / name)
