"""Several workers under one supervisor: what is killed is replaced, and nothing else is lost."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
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
from assay.domain.instants import parse
from assay.registry import ModelRegistry
from assay.storage.locks import FileLock
from assay.testing.versions import AUTHOR, make_candidate, make_registry
from assay.testing.waiting import until

WORKER = Path(__file__).with_name("service_worker.py")
ROW = [2.0, 1.0]
EXPECTED = {"v1.0.0": 2.0, "v2.0.0": -2.0}
LOST = (ConnectionError, http.client.HTTPException, TimeoutError)


class Service:
    """A supervisor and its workers, asked from outside."""

    def __init__(self, process: subprocess.Popen[str], port: int, folder: Path) -> None:
        self.process, self.port, self._folder = process, port, folder

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Over a new connection, which any worker may accept."""
        with closing(self.connect()) as connection:
            return ask(connection, method, path, body)

    def workers(self) -> dict[str, Any]:
        """What the workers of the board say of themselves, by their numbers."""
        found: dict[str, Any] = self.ask("GET", "/health")[1]["dependencies"]["workers"]["detail"]
        return found

    def metric(self, name: str) -> float:
        text = self.ask("GET", "/metrics")[1]
        return sum(
            float(one) for one in re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        )

    def predicted(self) -> float:
        text = self.ask("GET", "/metrics")[1]
        lines = re.findall(r"^assay_predictions_total{.*} (\S+)$", text, re.MULTILINE)
        return sum(map(float, lines))

    def recorded(self) -> list[dict[str, Any]]:
        text = (self._folder / "serving.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None
) -> tuple[int, Any]:
    headers = {"content-type": "application/json"} if body is not None else {}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    is_json = "json" in answer.headers["content-type"]
    return answer.status, json.loads(content) if is_json else content.decode()


def is_gone(process: str) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"  # its parent was killed, and whoever inherits it has not looked yet


@contextmanager
def running(folder: Path, workers: int = 2, silence: float = 30.0) -> Iterator[Service]:
    process = subprocess.Popen(
        [sys.executable, str(WORKER), str(folder), str(workers), str(silence)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        service = Service(process, int(process.stdout.readline()), folder)
        until(lambda: len(service.workers()) == workers)
        yield service
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """Two versions that answer 2 and -2 to the same row; the second one is live."""
    registry = make_registry(tmp_path, SystemClock())
    registry.register(make_candidate(version="1.0.0", weights=(1.0, 0.0)))
    registry.register(make_candidate(version="2.0.0", weights=(-1.0, 0.0)))
    for version in ("1.0.0", "2.0.0"):
        break_glass(
            registry, "fx_vol", version, initiated_by=AUTHOR, reason="a test",
            clock=registry.clock, monotonic=time.monotonic,
        )  # fmt: skip
    return registry


class Load:
    """Threads that ask for predictions, each over a connection that it renews when it is lost."""

    def __init__(self, service: Service, threads: int) -> None:
        self._service = service
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(threads)]
        self.answered = 0
        self.lost = 0
        self.wrong: list[Any] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self) -> None:
        connection = self._service.connect()
        while not self._done.is_set():
            try:
                status, answer = ask(connection, "POST", "/inference/predict", {"features": ROW})
            except LOST:
                self.lost += 1
                connection.close()
                connection = self._service.connect()
                continue
            if status != 200 or answer["prediction"] != EXPECTED[answer["model_version"]]:
                self.wrong.append((status, answer))
            self.answered += 1
        connection.close()


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_a_worker_killed_under_load_costs_its_requests_in_flight_and_is_replaced(
    tmp_path: Path, registry: ModelRegistry, kills: int
) -> None:
    assert registry.current("fx_vol") is not None
    victims: list[int] = []
    with running(tmp_path) as service, Load(service, 4) as load:
        for number in range(1, kills + 1):
            before = set(service.workers())
            counted = service.predicted()
            until(lambda: load.answered > 50 * number)  # noqa: B023 - called at once
            # Whatever happens before the spare one has loaded takes as long as loading does.
            until(lambda: len(list(tmp_path.glob("loaded-*"))) == 2 + number)  # noqa: B023
            victim = sorted(before)[number % 2]
            victims.append(int(victim))
            os.kill(int(victim), signal.SIGKILL)
            until(lambda: service.metric("assay_worker_restarts_total") == number)  # noqa: B023
            until(lambda: len(set(service.workers()) - {victim}) == 2)  # noqa: B023
            assert service.predicted() >= counted  # what the dead one counted stays counted
    assert load.wrong == []
    assert load.lost <= 4 * kills  # one request on each of the connections that it had
    started = [one["process"] for one in service.recorded() if one["event"] == "started"]
    loaded = [one["process"] for one in service.recorded() if one["event"] == "loaded"]
    assert started == loaded
    assert len(set(started)) == 2 + kills  # a spare one that never answered records nothing
    ended = [one for one in service.recorded() if one["event"] == "ended"]
    assert [(one["process"], one["status"]) for one in ended] == [(one, -9) for one in victims]
    began = [one["at"] for one in service.recorded() if one["event"] == "started"][2:]
    took = sorted(
        (parse(start) - parse(one["at"])) / 1e9 for one, start in zip(ended, began, strict=True)
    )
    sys.stderr.write(f"{kills} kills: replaced after {took[len(took) // 2]:.2f} s, at most "
                     f"{took[-1]:.2f}\n")  # fmt: skip
    assert service.process.returncode == 0


@pytest.mark.long
def test_every_worker_follows_what_is_live_and_each_records_its_own_loads(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    with running(tmp_path, 3) as service, Load(service, 3) as load:
        for number in range(6):
            version = ("1.0.0", "2.0.0")[number % 2]
            rollback(
                registry, "fx_vol", target=version, reason="a test", initiated_by=AUTHOR,
                keep=True, monotonic=time.monotonic,
            )  # fmt: skip
            until(lambda: all(
                one["models"]["fx_vol"].startswith(f"v{version} ")  # noqa: B023
                for one in service.workers().values()
            ))  # fmt: skip
        assert service.ask("GET", "/health")[1]["dependencies"]["workers"]["ok"]
    assert load.wrong == []
    assert load.lost == 0
    loads: dict[int, list[str]] = {}
    for one in service.recorded():
        if one["event"] == "loaded":
            loads.setdefault(one["process"], []).append(one["version"])
    assert len(loads) == 3
    assert all(one == ["2.0.0", *["1.0.0", "2.0.0"] * 3] for one in loads.values())


@pytest.mark.long
def test_what_one_worker_is_told_holds_for_all(tmp_path: Path, registry: ModelRegistry) -> None:
    assert registry.current("fx_vol") is not None
    with running(tmp_path, 3) as service:
        turn = {"by": "ops", "reason": "a test"}
        for path, status in (("/kill", 503), ("/unkill", 200)):
            assert service.ask("POST", path, turn)[0] == 200
            answers = {
                service.ask("POST", "/inference/predict", {"features": ROW})[0] for _ in range(30)
            }
            assert answers == {status}
        until(lambda: service.predicted() == 30)  # whoever is asked
        for _ in range(30):
            service.ask("POST", "/inference/batch", {"batch": [ROW, ROW]})
        until(lambda: service.predicted() == 90)
        reloads = service.metric('assay_reloads_total{outcome="done"}')
        assert service.ask("POST", "/model/reload", {})[0] == 200
        until(lambda: service.metric('assay_reloads_total{outcome="done"}') >= reloads + 4)
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    ids = [json.loads(line)["request_id"] for line in lines]
    assert len(set(ids)) == len(ids) == 60


def test_told_to_stop_it_answers_what_is_under_way_and_leaves_nobody_behind(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    assert registry.current("fx_vol") is not None
    with running(tmp_path) as service:
        workers = service.workers()
        body = json.dumps({"features": ROW}).encode()
        with closing(socket.create_connection(("127.0.0.1", service.port), timeout=30)) as half:
            half.sendall(
                b"POST /inference/predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json"
                b"\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body[:5])
            )
            # That its head was read is known when a later request on any worker is answered.
            for _ in range(10):
                assert service.ask("GET", "/health/live")[0] == 200
            service.process.terminate()
            until(lambda: refuses(service.port))
            half.sendall(body[5:])
            assert half.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert service.process.wait(30) == 0
    assert all(map(is_gone, workers))
    ends = [one["process"] for one in service.recorded() if one["event"] == "stopped"]
    assert sorted(ends) == sorted(map(int, workers))


def refuses(port: int) -> bool:
    """Whether nobody listens any more."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False


@pytest.mark.long
def test_workers_end_when_their_supervisor_is_killed(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    assert registry.current("fx_vol") is not None
    with running(tmp_path) as service:
        workers = service.workers()
        service.process.kill()
        until(lambda: all(map(is_gone, workers)))
        until(lambda: refuses(service.port))  # the spare one looks when it has loaded


def test_a_supervisor_survives_the_loss_of_its_folder_and_of_the_program(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    assert registry.current("fx_vol") is not None
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    with running(tmp_path) as service:
        board = (tmp_path / "board").resolve()
        victim = min(service.workers())
        elsewhere, away = tmp_path / "elsewhere", tmp_path / "away"
        board.rename(elsewhere)
        program.rename(away)
        os.kill(int(victim), signal.SIGKILL)
        until(lambda: is_gone(victim))
        for _ in range(20):
            assert service.ask("POST", "/inference/predict", {"features": ROW})[0] == 200
        away.rename(program)
        elsewhere.rename(board)
        until(lambda: len(set(service.workers()) - {victim}) == 2)


@pytest.mark.long
def test_a_registry_that_hangs_keeps_no_worker_from_taking_a_place(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    with running(tmp_path) as service:
        victim = min(service.workers())
        until(lambda: len(list(tmp_path.glob("loaded-*"))) == 3)  # one of them is waiting
        # Whoever opens the registry now waits for the lock, to write what is missing.
        with FileLock(registry.root / "registry.db.lock"):
            (registry.root / "manifest.json").unlink()
            os.kill(int(victim), signal.SIGKILL)
            until(lambda: len(set(service.workers()) - {victim}) == 2)
            assert service.ask("POST", "/inference/predict", {"features": ROW})[0] == 200


@pytest.mark.long
def test_a_worker_that_hangs_is_killed_and_replaced(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    assert registry.current("fx_vol") is not None
    with running(tmp_path, silence=3.0) as service:
        victim = next(iter(service.workers()))
        os.kill(int(victim), signal.SIGSTOP)
        until(lambda: is_gone(victim))
        until(lambda: len(set(service.workers()) - {victim}) == 2)
        assert service.metric("assay_worker_restarts_total") == 1


def test_a_worker_that_cannot_load_ends_the_start_with_its_own_words(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    model = registry.root / "artifacts/fx_vol/2.0.0/model.onnx"
    model.chmod(0o644)
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = subprocess.run(
        [sys.executable, str(WORKER), str(tmp_path), "2"], capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert "model.onnx" in done.stderr
