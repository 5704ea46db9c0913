"""A small desk on generated rates: the whole journey in seconds, once per test run."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, settings

from assay.testing.postgres_server import INSTALL as INSTALL_POSTGRES
from assay.testing.postgres_server import PostgresServer, find_postgres
from assay.testing.redis_server import INSTALL, RedisServer, find_redis_server

CURRENCIES = ("USD", "SGD", "JPY", "GBP", "CHF", "AUD", "PEG")
SESSIONS = 1_300
# Tests judge what code does, never how long a busy machine took to do it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]
TESTS = Path(__file__).parent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile``, files that share the desk after its journey stay together, too.

    What a file makes once for its tests is then made once in the run. The marks of groups that
    pytest-xdist 3.8 offers for this have no effect under pytest 9.2.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    # By their names those that take long come first, and not those with many tests: the last one
    # to end should be short.
    config.option.loadscopereorder = False
    travellers = {
        path.relative_to(config.rootpath).as_posix()
        for path in TESTS.rglob("test_*.py")
        if "travelled:" in path.read_text(encoding="utf-8")
    }

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "travelled" if file in travellers else file

    return ByFile(config, log)


def write_archive(path: Path, *, sessions: int = SESSIONS, seed: int = 7) -> None:
    """Random walks with clustered volatility; PEG never moves; some cells are absent or broken."""
    generator = np.random.default_rng(seed)
    days = [date(2019, 1, 2) + timedelta(days=n) for n in range(sessions * 2)]
    days = [day for day in days if day.weekday() < 5][:sessions]
    shocks = generator.standard_normal((sessions, len(CURRENCIES)))
    volatility = 0.005 * np.exp(
        0.4 * np.sin(np.arange(sessions) / 40)[:, None] + 0.2 * generator.random(len(CURRENCIES))
    )
    levels = np.exp(np.cumsum(shocks * volatility, axis=0)) * np.array(
        [1.1, 1.5, 130, 0.8, 1, 1.6, 3]
    )
    levels[:, CURRENCIES.index("PEG")] = 3.0
    rows = [
        [day.isoformat(), *(f"{rate:.6g}" for rate in line)]
        for day, line in zip(days, levels, strict=True)
    ]
    rows[200][3] = "N/A"
    rows[300][4] = "-1.5"
    rows[400][5] = "one"
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([["Date", *CURRENCIES], *reversed(rows)])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("eurofxref-hist.csv", buffer.getvalue())


# Read when a command needs them, and not when libraries are loaded.
_READ_LATE = ("ASSAY_", "AWS_", "PYTEST_", "SERVE_", "XDG_", "_ASSAY_", "_TYPER_")


class LoadedCommands:
    """Runs commands in forks of one process that has loaded the libraries; see its file."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._turn = threading.Lock()
        self._link, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, str(TESTS / "loaded_commands.py"), str(other.fileno())],
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def can_run(self, environment: Mapping[str, str]) -> bool:
        """Whether libraries would not be other ones under this environment.

        Libraries of macOS do not survive a fork.
        """
        if sys.platform != "linux":
            return False
        changed = {name for name, _ in environment.items() ^ self._environment.items()}
        return all(name.startswith(_READ_LATE) for name in changed)

    def run(
        self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        order = {"argv": list(command), "cwd": str(cwd), "env": dict(environment)}
        body = json.dumps(order).encode()
        ended, told = os.pipe()
        with (
            Path(os.devnull).open("rb") as given,
            tempfile.TemporaryFile("w+", encoding="utf-8") as out,
            tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
            os.fdopen(ended, "rb") as ended_file,
        ):
            places = [given.fileno(), out.fileno(), errors.fileno(), told]
            with self._turn:
                socket.send_fds(self._link, [len(body).to_bytes(8)], places)
                self._link.sendall(body)
            os.close(told)
            code = ended_file.read()
            assert code, "the process that runs commands has ended"
            for file in (out, errors):
                file.seek(0)
            return subprocess.CompletedProcess(list(command), int(code), out.read(), errors.read())

    def close(self) -> None:
        self._link.close()
        self._process.wait(30)


@dataclass(frozen=True)
class Shell:
    """Runs the installed command line with a configuration folder of its own."""

    home: Path
    commands: LoadedCommands

    def run(
        self,
        *arguments: str,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        afresh: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run one command; ``afresh`` in a process that loads everything itself."""
        command = [str(Path(sys.executable).with_name("assay")), *arguments]
        own = {"XDG_CONFIG_HOME": str(self.home / "config"), **(environment or {})}
        place = cwd or self.home
        if not afresh and self.commands.can_run(os.environ | own):
            return self.commands.run(command, place, os.environ | own)
        return subprocess.run(
            command, cwd=place, env=os.environ | own, capture_output=True, text=True, check=False
        )

    def json(self, *arguments: str, expect: int = 0, afresh: bool = False) -> Any:
        result = self.run(*arguments, "--json", afresh=afresh)
        assert result.returncode == expect, result.stderr
        return json.loads(result.stdout)


def prepare_desk(shell: Shell, folder: Path, people: Sequence[str]) -> Path:
    """A desk made by ``assay init``, with the demo's policy, fed by a generated archive."""
    made = shell.run("init", str(folder), *(part for one in people for part in ("--as", one)))
    assert made.returncode == 0, made.stderr
    shutil.copy(ROOT / "examples/fx/configs/gates.yaml", folder / "configs/gates.yaml")
    write_archive(folder / "configs/rates.zip")
    path = folder / "configs/sources.yaml"
    document = yaml.safe_load(path.read_text())
    document["sources"]["ecb"]["path"] = "rates.zip"
    document["universe"]["min_observed"] = 300
    path.write_text(yaml.safe_dump(document))
    return folder


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    commands = LoadedCommands()
    yield Shell(tmp_path_factory.mktemp("shell"), commands)
    commands.close()


@pytest.fixture(scope="session")
def travelled(shell: Shell) -> tuple[Path, Any, Any]:
    """A desk after the demo's journey, twice: the folder and both results."""
    people = ("quant.demo", "risk.demo", "head.demo", "ops.demo")
    folder = prepare_desk(shell, shell.home / "travelled", people)
    # Each with its own order of sets, which nothing may depend on.
    first = shell.json("demo", "--desk", str(folder), afresh=True)
    second = shell.json("demo", "--desk", str(folder), afresh=True)
    return folder, first, second


@pytest.fixture(scope="session")
def archive() -> Callable[[Path], None]:
    """Writes a generated archive of rates to a path."""
    return write_archive


@pytest.fixture(scope="session")
def redis_executable() -> Path:
    """The program redis-server, and redis-py beside it; skips where either is missing."""
    pytest.importorskip("redis", reason="the Redis store needs its extra: pip install redis")
    found = find_redis_server()
    if found is None:
        pytest.skip(f"no redis-server on this machine: {INSTALL}")
    return found


@pytest.fixture(scope="session")
def shared_redis(redis_executable: Path) -> Iterator[RedisServer]:
    """One server for all tests that do no harm to it."""
    with RedisServer(redis_executable) as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """The shared server, empty."""
    from redis import Redis

    with Redis(unix_socket_path=str(shared_redis.socket)) as client:
        client.flushall()
    return shared_redis


@pytest.fixture
def start_redis(redis_executable: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers with options of their own; they end with the test."""
    started: list[RedisServer] = []

    def start(*options: str, **where: Any) -> RedisServer:
        started.append(RedisServer(redis_executable, options, **where).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """The folder of PostgreSQL's programs, and psycopg beside it; skips where either is missing."""
    pytest.importorskip("psycopg", reason="PostgreSQL needs its extra: pip install psycopg[binary]")
    found = find_postgres()
    if found is None:
        pytest.skip(f"no PostgreSQL on this machine: {INSTALL_POSTGRES}")
    return found


@pytest.fixture(scope="session")
def postgres(postgres_programs: Path) -> Iterator[PostgresServer]:
    """One server for all tests that do no harm to it."""
    with PostgresServer(postgres_programs) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """A schema of the shared server that nobody has used."""
    return postgres.url(f"test_{uuid.uuid4().hex}")


@pytest.fixture
def start_postgres(postgres_programs: Path) -> Iterator[Callable[..., PostgresServer]]:
    """Starts servers with options of their own; they end with the test."""
    started: list[PostgresServer] = []

    def start(*options: str, **where: Any) -> PostgresServer:
        started.append(PostgresServer(postgres_programs, options, **where).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of a real HTTP server that speaks S3, on a free port of this machine."""
    server = pytest.importorskip(
        "moto.server", reason="pip install 'assay[object-storage]' 'moto[s3]' flask flask-cors"
    ).ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    pytest.importorskip("s3fs", reason="pip install 'assay[object-storage]'")
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a new bucket; the client finds endpoint and credentials as it would elsewhere."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"desk-{uuid.uuid4().hex}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(name)
    return name


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for sockets, wherever tests are run."""
    with tempfile.TemporaryDirectory(prefix="a") as name:
        yield Path(name)
