"""A dependency that hangs holds up whoever asks about it, for a moment, and no one else."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from assay.errors import Unavailable
from assay.serving.http import control
from assay.serving.server.http_server import HttpServer

OPS = {"by": "ops", "reason": "a test"}


@contextmanager
def serving(service: Any) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        begun = threading.Event()
        server = HttpServer(service, started=begun.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert begun.wait(30)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def send(port: int, method: str, path: str, body: Any = None) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {} if body is None else {"content-type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    return connection


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    with closing(send(port, method, path, body)) as connection:
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_PATIENCE", 0.05)


@pytest.mark.usefixtures("impatient")
def test_health_is_told_in_time_whatever_hangs_and_asks_it_once(staged: Any) -> None:
    goes_on, asked = threading.Event(), []

    def hang() -> str:
        asked.append(1)
        assert goes_on.wait(30)
        return "open"

    stage = staged(registry_state=hang)
    with serving(stage.service) as port:
        try:
            for _ in range(3):
                status, document = ask(port, "GET", "/health")
                assert (status, document["status"]) == (200, "degraded")
                assert document["dependencies"]["registry"] == {
                    "ok": False, "detail": "the registry has not answered within 0.05 s"
                }  # fmt: skip
            assert asked == [1]
        finally:
            goes_on.set()
        while not ask(port, "GET", "/health")[1]["dependencies"]["registry"]["ok"]:
            pass


@pytest.mark.usefixtures("impatient")
def test_a_store_that_hangs_is_told_of_like_one_that_cannot_be_read(staged: Any) -> None:
    goes_on = threading.Event()
    stage = staged()
    state = stage.rows.state
    stage.rows.state = lambda at: goes_on.wait(30) and state(at)
    with serving(stage.service) as port:
        try:
            status, document = ask(port, "GET", "/health")
            assert status == 503
            store = document["dependencies"]["online_store"]
            assert not store["ok"]
            assert "has not answered" in store["detail"]["online store"]["detail"]
        finally:
            goes_on.set()


def test_predictions_are_switched_off_while_every_thread_for_slow_routes_is_taken(
    staged: Any,
) -> None:
    goes_on = threading.Event()
    stage = staged()
    wanted = stage.shelf.wanted
    with serving(stage.service) as port, ExitStack() as clients:
        stage.shelf.wanted = lambda: goes_on.wait(30) and wanted()
        try:
            for _ in range(60):  # there are 40 such threads
                clients.enter_context(closing(send(port, "POST", "/model/reload", {})))
            for path in ("/health/live", "/v2/health/live", "/health/ready", "/v2/health/ready"):
                assert ask(port, "GET", path)[0] == 200
            with closing(send(port, "GET", "/metrics")) as connection:
                assert connection.getresponse().status == 200
            assert ask(port, "GET", "/model")[0] == 200
            assert ask(port, "POST", "/kill", OPS)[0] == 200
            assert ask(port, "POST", "/inference/predict", {"features": [1.0, 2.0, 3.0]})[0] == 503
            assert ask(port, "GET", "/health/ready")[0] == 503
            assert ask(port, "POST", "/unkill", OPS)[0] == 200
        finally:
            goes_on.set()


def test_a_disk_that_refuses_is_told_in_words(staged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = staged()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    body = {"instrument": "USD_SGD", "timestamp": "2023-11-14T22:13:20Z"}
    assert stage.ask("POST", "/predict", body).status == 200
    monkeypatch.setattr("assay.serving.telemetry.prediction_log.append_line", full)
    answer = stage.ask("POST", "/feedback", body | {"realized_value": 1.0})
    assert (answer.status, answer.json()["type"]) == (503, "urn:assay:problem:unavailable")
    assert "No space left" in answer.json()["detail"]


def test_a_record_that_cannot_be_written_is_degraded_and_written_later(
    stage: Any, live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("assay.serving.prediction.service_record.append_lines", full)
        stage.shelf.put(live(version="2.0.0"))
        assert stage.ask("POST", "/model/reload", {}).status == 200
        health = stage.ask("GET", "/health").json()
        assert (health["status"], health["dependencies"]["record"]["ok"]) == ("degraded", False)
    stage.service.start()
    stage.service.stop()
    assert stage.ask("GET", "/health").json()["status"] == "ok"
    events = [(line["event"], line.get("version")) for line in stage.recorded()]
    assert events[:3] == [("loaded", "2.0.0"), ("started", None), ("loaded", "2.0.0")]


def test_the_end_of_a_service_waits_for_no_registry_that_hangs(staged: Any) -> None:
    goes_on, hangs = threading.Event(), threading.Event()
    stage = staged()

    def hang() -> dict[str, str]:
        hangs.set()
        assert goes_on.wait(60)
        raise Unavailable("at last")

    stage.shelf.wanted = hang
    stage.service.start()
    assert hangs.wait(30)
    stage.service.stop()
    events = [line["event"] for line in stage.recorded()]
    goes_on.set()
    assert events == ["started", "loaded", "stopped"]
