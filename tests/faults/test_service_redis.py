"""A service over a real Redis that stops, hangs, dies or talks nonsense while it is asked.

Every request is answered within its deadline, by a prediction or by the documented refusal; those
that need no store are not touched; and when the server is back so are the predictions.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from assay.domain.clock import SystemClock
from assay.domain.versions import RISK_MODEL, InputSchema
from assay.features.online import OnlineStore, StoredRow
from assay.serving import (
    KillSwitch,
    LiveModel,
    LiveModels,
    OnnxModel,
    Predictor,
    ServiceRecord,
)
from assay.serving.http.service import Operation, Service, ServiceFiles
from assay.serving.server.http_server import HttpServer
from assay.testing.redis_server import RedisServer, free_port
from assay.testing.serving import FixedLive, StoreRows
from assay.testing.versions import linear_onnx
from assay.testing.waiting import until

MANIFEST = "a" * 64
NAMES = ("ret_1", "vol_5")
DEADLINE_MS = 300.0
_PAUSE = threading.Event()


@contextmanager
def serving(folder: Path, store: OnlineStore) -> Iterator[int]:
    """The port of a service over rows of a store."""
    clock = SystemClock()
    store.write("view", [StoredRow("USD_SGD", 1, 1, 0, 0, MANIFEST, np.array([2.0, 3.0]))])
    model = OnnxModel.from_bytes(linear_onnx((1.0, 10.0)), InputSchema.of(NAMES))
    live = LiveModels(
        {"fx": LiveModel("fx", "1.0.0", "0" * 64, RISK_MODEL, MANIFEST, model, 0)}, "fx"
    )
    record = ServiceRecord(folder / "serving.jsonl", clock, process=1)
    switch = KillSwitch(folder / "KILL", record)
    rows = StoreRows(store, "view", NAMES, MANIFEST, ["USD_SGD"], may_wait=True)
    service = Service(
        Predictor(live, {MANIFEST: rows}, clock, switch=switch), FixedLive(live), switch, record,
        ServiceFiles(folder / "predictions.jsonl", folder / "feedback.jsonl"), clock,
        lambda: "open", version="0",
        operation=Operation(deadline_ms=DEADLINE_MS, store_threads=4),
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as listening:
        begun = threading.Event()
        server = HttpServer(service, started=begun.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        port = listening.getsockname()[1]
        thread.start()
        try:
            assert begun.wait(30)
            yield port
        finally:
            server.should_exit = True
            thread.join()


class Load:
    """Clients that ask for predictions with and without the store, and note what they got."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._done = threading.Event()
        bodies = [("/predict", {"instrument": "USD_SGD"})] * 3
        bodies.append(("/inference/predict", {"features": [2.0, 3.0]}))
        self._threads = [threading.Thread(target=self._ask_on, args=one) for one in bodies]
        self.seen: Counter[tuple[str, int, str]] = Counter()
        self.values: set[float] = set()
        self.slowest = 0.0
        self.errors: list[Exception] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self, path: str, body: Any) -> None:
        headers = {"content-type": "application/json", "x-assay-manifest": MANIFEST}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            while not self._done.wait(0.002):
                begun = time.monotonic()
                connection.request("POST", path, json.dumps(body), headers)
                answer = connection.getresponse()
                document = json.loads(answer.read())
                self.slowest = max(self.slowest, time.monotonic() - begun)
                slug = document.get("type", "").rpartition(":")[2]
                self.seen[path, answer.status, slug] += 1
                if answer.status == 200:
                    self.values.add(document["prediction"])
        except Exception as error:
            self.errors.append(error)
        finally:
            connection.close()

    def until(self, path: str, status: int, more: int = 20) -> None:
        """Until so many more answers of this status have come."""
        before = self._count(path, status)
        until(lambda: self.errors or self._count(path, status) >= before + more, str(self.seen))
        assert not self.errors

    def until_refused(self, more: int) -> None:
        """Until so many more requests were refused."""
        before = self._refused()
        until(lambda: self.errors or self._refused() >= before + more, str(self.seen))
        assert not self.errors

    def _refused(self) -> int:
        return self._sum(lambda one: one[1] >= 500)

    def _count(self, path: str, status: int) -> int:
        return self._sum(lambda one: one[:2] == (path, status))

    def _sum(self, wanted: Callable[[tuple[str, int, str]], bool]) -> int:
        return sum(count for one, count in list(self.seen.items()) if wanted(one))


def check(load: Load) -> None:
    assert load.errors == []
    assert load.values == {32.0}
    expected = {200: "", 503: "unavailable", 504: "deadline-exceeded"}
    assert all(expected[status] == slug for _, status, slug in load.seen), load.seen
    without_store = {status for path, status, _ in load.seen if path == "/inference/predict"}
    assert without_store == {200}


def open_store(url: str) -> OnlineStore:
    from assay.adapters.redis import RedisStore

    return RedisStore(url, timeout=DEADLINE_MS / 1e3)


def test_a_server_that_is_stopped_and_goes_on(
    tmp_path: Path, start_redis: Callable[..., RedisServer]
) -> None:
    redis = start_redis()
    with serving(tmp_path, open_store(redis.url)) as port, Load(port) as load:
        load.until("/predict", 200)
        assert redis._process is not None
        for _ in range(2):
            os.kill(redis._process.pid, signal.SIGSTOP)
            try:
                load.until("/predict", 504, 3)
                load.until("/predict", 503)  # at once, without asking it
                load.until("/inference/predict", 200)
            finally:
                os.kill(redis._process.pid, signal.SIGCONT)
            load.until("/predict", 200)
    check(load)


def test_a_server_that_is_killed_and_started_again(
    tmp_path: Path, start_redis: Callable[..., RedisServer]
) -> None:
    redis = start_redis("--appendonly", "yes", "--appendfsync", "always")
    with serving(tmp_path, open_store(redis.url)) as port, Load(port) as load:
        load.until("/predict", 200)
        redis.kill()
        load.until("/predict", 503)
        load.until("/inference/predict", 200)
        redis.start()
        load.until("/predict", 200)
    check(load)


NONSENSE = [
    b"$-5\r\n",
    b"*3\r\n$2\r\nno\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"*1\r\n$9999999999999\r\nx",
    b"*1\r\n$16\r\n" + bytes(range(16)) + b"\r\n",
    b"*1\r\n:7\r\n",
    b"-ERR nonsense\r\n",
    b"+OK\r\n",
    b"*x\r\n",
    b"*1\r\n$y\r\nz\r\n",
    os.urandom(64),
    b"",
]


class Proxy:
    """Between a service and Redis: hands on, later than it came or nonsense instead."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self.nonsense: bytes | None = None
        self.seconds = 0.0
        self.port = free_port()
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._path)
            self._open += [client, server]
            for pair in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._hand_on, args=pair, daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65_536):
                if answers and self.seconds:
                    _PAUSE.wait(self.seconds)
                if answers and self.nonsense is not None:
                    data = self.nonsense
                    if not data:
                        break
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


@pytest.mark.long
def test_a_server_that_is_slow_costs_no_more_than_the_deadline(
    tmp_path: Path, start_redis: Callable[..., RedisServer]
) -> None:
    redis = start_redis()
    with closing(Proxy(redis.socket)) as proxy:
        store = open_store(f"redis://127.0.0.1:{proxy.port}/0")
        with serving(tmp_path, store) as port, Load(port) as load:
            for _ in range(3):
                load.until("/predict", 200)
                proxy.seconds = DEADLINE_MS / 6e3  # slow, and in time
                load.until("/predict", 200)
                proxy.seconds = DEADLINE_MS * 3 / 1e3
                load.until("/predict", 504, 3)
                load.until("/predict", 503)
                load.until("/inference/predict", 200)
                proxy.seconds = 0.0
            load.until("/predict", 200)
    check(load)


def test_a_server_that_answers_nonsense(
    tmp_path: Path, start_redis: Callable[..., RedisServer]
) -> None:
    redis = start_redis()
    with closing(Proxy(redis.socket)) as proxy:
        store = open_store(f"redis://127.0.0.1:{proxy.port}/0")
        with serving(tmp_path, store) as port, Load(port) as load:
            for nonsense in NONSENSE:
                load.until("/predict", 200, 5)
                proxy.nonsense = nonsense
                load.until("/inference/predict", 200, 10)
                load.until_refused(5)
                proxy.nonsense = None
            load.until("/predict", 200)
    check(load)
