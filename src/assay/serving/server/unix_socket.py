"""A listening socket in the file system: for callers on the same machine, and nobody else.

Who may connect is who may write to the file. A file that a process left behind when it was killed
is taken away; one that somebody answers on is not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from assay.errors import Conflict, Unavailable

OWNER: Final = 0o600
GROUP: Final = 0o660
_BACKLOG = 2_048
_PATIENCE = 5.0


@contextmanager
def unix_socket(path: Path, *, mode: int = OWNER) -> Iterator[socket.socket]:
    """A socket that listens at ``path``; the file is removed at the end, if it is still this one.

    Parameters
    ----------
    mode: permissions of the file.

    Raises
    ------
    Conflict: somebody answers there, or there is something else than a socket.
    Unavailable: no socket can be made there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        try:
            with _alone_in(path.parent):
                _take_away_stale(path)
                listening.bind(os.fspath(path))
                made = path.lstat()
                path.chmod(mode)  # nobody can connect before the next line
                listening.listen(_BACKLOG)
        except OSError as error:
            reason = error.strerror or str(error)  # no strerror: the path is too long
            raise Unavailable(
                f"cannot listen on {path}: {reason}",
                hint="choose a shorter path in a folder that exists and can be written",
            ) from None
        try:
            yield listening
        finally:
            with contextlib.suppress(OSError):
                now = path.lstat()
                if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
                    path.unlink()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep others out who start at the same moment, and would take this socket for a stale one."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _take_away_stale(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise Conflict(
            f"{path} is there and is no socket", hint="choose another path, or remove it"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_PATIENCE)
        try:
            asking.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except FileNotFoundError:  # it was removed meanwhile
            return
        except (TimeoutError, BlockingIOError):  # so many wait that one more cannot: it is answered
            pass
    raise Conflict(f"somebody answers on {path}", hint="stop it first, or choose another path")
