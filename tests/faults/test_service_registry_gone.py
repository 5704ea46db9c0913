"""The registry's database is damaged, locked or gone while a server answers: it goes on answering.

What it has loaded needs no registry. It says in words what is wrong, within its time, and follows
again by itself when the registry is back.
"""

from __future__ import annotations

import http.client
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from assay.delivery.promotion import break_glass
from assay.delivery.rollback import rollback
from assay.domain.clock import SystemClock
from assay.registry import ModelRegistry
from assay.storage.locks import FileLock
from assay.testing.versions import AUTHOR, make_candidate, make_registry
from assay.testing.waiting import until

WORKER = Path(__file__).with_name("service_worker.py")
EXPECTED = {"v1.0.0": 2.0, "v2.0.0": -2.0}


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """Two versions that answer 2 and -2 to the same row; the second one is live."""
    registry = make_registry(tmp_path, SystemClock())
    for version, weight in (("1.0.0", 1.0), ("2.0.0", -1.0)):
        registry.register(make_candidate(version=version, weights=(weight, 0.0)))
        break_glass(
            registry, "fx_vol", version, initiated_by=AUTHOR, reason="a test",
            clock=registry.clock, monotonic=time.monotonic,
        )  # fmt: skip
    return registry


def go_back(registry: ModelRegistry, version: str) -> None:
    rollback(
        registry, "fx_vol", target=version, reason="a test", initiated_by=AUTHOR, keep=True,
        monotonic=time.monotonic,
    )  # fmt: skip


class Asked:
    """A server, and a client that asks it for predictions all the time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask_on)
        self.answered = 0
        self.version = ""
        self.wrong: list[Any] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)) as one:
            return self._ask(one, method, path, body)

    @staticmethod
    def _ask(
        connection: http.client.HTTPConnection, method: str, path: str, body: Any
    ) -> tuple[int, Any]:
        headers = {} if body is None else {"content-type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", "/health")[1]
        return found

    def _ask_on(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)) as one:
            while not self._done.wait(0.001):
                try:
                    status, answer = self._ask(
                        one, "POST", "/inference/predict", {"features": [2.0, 1.0]}
                    )
                except OSError as error:
                    self.wrong.append(error)
                    return
                if status != 200 or answer["prediction"] != EXPECTED[answer["model_version"]]:
                    self.wrong.append((status, answer))
                    continue
                self.answered += 1
                self.version = answer["model_version"]

    def goes_on(self) -> None:
        """Until so many more requests were answered."""
        before = self.answered
        until(lambda: self.answered > before + 50 or bool(self.wrong))
        assert self.wrong == []


@contextmanager
def server(folder: Path) -> Iterator[Asked]:
    process = subprocess.Popen(
        [sys.executable, str(WORKER), str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        with Asked(int(process.stdout.readline())) as asked:
            until(lambda: asked.answered > 0)
            yield asked
            assert asked.wrong == []
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.mark.long
def test_a_damaged_database_is_told_and_followed_again_when_it_was_made_again(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    with server(tmp_path) as asked:
        for path in registry.root.glob("registry.db*"):
            if not path.name.endswith(".lock"):
                path.unlink()
        (registry.root / "registry.db").write_bytes(b"garbage" * 999)
        assert asked.ask("POST", "/model/reload", {})[0] == 409
        health = asked.health()
        assert health["status"] == "degraded"
        assert "registry.db" in health["dependencies"]["model_loaded"]["detail"]
        asked.goes_on()
        (registry.root / "registry.db").unlink()
        again = make_registry_again(registry)
        go_back(again, "1.0.0")
        until(lambda: asked.version == "v1.0.0")
        assert asked.health()["dependencies"]["model_loaded"]["ok"]


def make_registry_again(registry: ModelRegistry) -> ModelRegistry:
    return ModelRegistry(registry.root, registry.keyring, registry.clock)


@pytest.mark.long
def test_a_database_that_is_locked_delays_no_prediction_and_no_answer_about_health(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    with server(tmp_path) as asked:
        go_back(registry, "1.0.0")
        until(lambda: asked.version == "v1.0.0")
        # Somebody holds both locks and does not let go; and the database is behind its log, so
        # that whoever opens it has to wait for them.
        manifest = registry.root / "manifest.json"
        with (
            FileLock(registry.root / "registry.db.lock"),
            closing(sqlite3.connect(registry.root / "registry.db")) as connection,
        ):
            connection.execute("BEGIN EXCLUSIVE")
            manifest.unlink()
            begun = time.monotonic()
            health = asked.health()
            waited = time.monotonic() - begun
            assert health["dependencies"]["registry"] == {
                "ok": False, "detail": "the registry has not answered within 1 s"
            }  # fmt: skip
            assert waited < 20  # a lock is waited for half a minute
            threads = [threading.Thread(target=asked.health) for _ in range(60)]
            for thread in threads:
                thread.start()
            assert asked.ask("GET", "/health/live")[0] == 200
            asked.goes_on()
            for thread in threads:
                thread.join()
            connection.rollback()
        until(lambda: asked.health()["dependencies"]["registry"]["ok"])
        go_back(registry, "2.0.0")
        until(lambda: asked.version == "v2.0.0")


def test_a_folder_that_is_gone_for_a_while_withdraws_nothing(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    elsewhere = tmp_path / "elsewhere"
    with server(tmp_path) as asked:
        for emptied in (False, True):
            shutil.move(registry.root, elsewhere)
            if emptied:  # as where a file system was mounted
                registry.root.mkdir()
            until(lambda: not asked.health()["dependencies"]["model_loaded"]["ok"])
            assert asked.ask("POST", "/model/reload", {})[0] == 409
            asked.goes_on()
            words = asked.health()["dependencies"]["registry"]
            assert not words["ok"]
            assert "had come to entry" in words["detail"]
            shutil.rmtree(registry.root, ignore_errors=True)
            shutil.move(elsewhere, registry.root)
            until(lambda: asked.health()["dependencies"]["model_loaded"]["ok"])
        go_back(registry, "1.0.0")
        until(lambda: asked.version == "v1.0.0")
