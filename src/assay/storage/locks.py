"""One writer at a time across processes: an advisory lock on a file.

The operating system releases it when the holder dies, however it dies, so a killed process never
leaves a lock behind. Within one process a lock file may be held once per ``FileLock`` object.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from assay.errors import Unavailable


class FileLock:
    """``with FileLock(path): ...`` holds an exclusive lock on ``path``.

    Parameters
    ----------
    path: the lock file; created when absent, never deleted (deleting would race).
    timeout: seconds to wait before :class:`~assay.errors.Unavailable`; None waits for ever.
    """

    def __init__(self, path: Path, timeout: float | None = 30.0) -> None:
        self._path = path
        self._timeout = timeout
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = self._open()
        try:
            self._acquire(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
        try:
            # Whoever only reads under the lock needs no more than the file of an earlier holder.
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Unavailable(
                f"lock {self._path} cannot be made: the file system is read-only"
            ) from None

    def _acquire(self, descriptor: int) -> None:
        if self._timeout is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            return
        deadline = time.monotonic() + self._timeout
        pause = 0.0005
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Unavailable(
                        f"lock {self._path} is held by another process for over {self._timeout} s",
                        hint="see which process holds it: fuser -v " + str(self._path),
                    ) from None
                time.sleep(pause)
                pause = min(pause * 2, 0.02)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # closing releases the lock
            self._descriptor = None
