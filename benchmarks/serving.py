"""Predictions over HTTP against the same server answering a constant, and in process.

Server and client are two processes; the client is plain sockets and bytes made beforehand, so that
the server is what is measured. Peak rates keep sixteen requests under way.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from assay.domain.clock import SystemClock
from assay.domain.versions import RISK_MODEL, InputSchema
from assay.features.online import SqliteStore, StoredRow
from assay.serving import (
    KillSwitch,
    LiveModel,
    LiveModels,
    OnnxModel,
    Predictor,
    ServiceRecord,
    SourceRow,
    SourceState,
)

FEATURES = 40
NAMES = tuple(f"feature_{number}" for number in range(FEATURES))
MANIFEST = "a" * 64
WAY = 16
REQUESTS = 4_000
CONSTANT = b'{"prediction":0.5}'


class StoreSource:
    """The SQLite online store as a feature source, without a desk around it."""

    names = NAMES
    manifest = MANIFEST

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def rows(self, entities: Sequence[str], as_of: int) -> list[SourceRow | None]:
        return [
            None if row is None
            else SourceRow(row.values, row.event_time, row.known_time, row.manifest, stale=False)
            for row in self._store.read("view", entities, as_of)
        ]  # fmt: skip

    def entities(self) -> set[str]:
        return {"USD_SGD"}

    def refresh(self) -> None:
        return

    def state(self, as_of: int) -> SourceState:
        return SourceState(reachable=True, fresh=True, detail=f"{as_of}")


def make_predictor(folder: Path) -> tuple[Predictor, KillSwitch, ServiceRecord]:
    """A boosted model of the example desk's size over a SQLite store with one instrument."""
    from assay.training import RiseProbability
    from assay.training.estimators import fit
    from assay.training.onnx_export import export_onnx

    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((20_000, FEATURES)).astype(np.float32)
    returns = 0.1 * inputs[:, 0].astype(np.float64) + rng.standard_normal(len(inputs))
    data = export_onnx(fit(RiseProbability(), NAMES, (1, 2), inputs, returns))
    model = OnnxModel.from_bytes(data, InputSchema.of(NAMES))
    store = SqliteStore(folder / "online.db")
    store.write(
        "view",
        [StoredRow("USD_SGD", day, day, 0, 0, MANIFEST, rng.standard_normal(FEATURES))
         for day in range(1, 500)],
    )  # fmt: skip
    record = ServiceRecord(folder / "serving.jsonl", SystemClock(), process=1)
    switch = KillSwitch(folder / "KILL", record)
    live = LiveModel("fx", "1.0.0", "0" * 64, RISK_MODEL, MANIFEST, model, 0)
    predictor = Predictor(
        LiveModels({"fx": live}, "fx"), {MANIFEST: StoreSource(store)}, SystemClock(), switch=switch
    )
    return predictor, switch, record


class Fixed:
    """What is live does not change here."""

    def __init__(self, predictor: Predictor) -> None:
        self._live = predictor.live

    def pointer(self) -> object:
        return 0

    def wanted(self) -> dict[str, str]:
        return {name: model.digest for name, model in self._live.models.items()}

    def load(self, name: str) -> LiveModel:
        return self._live.models[name]


def serve(folder: Path, constant: bool, pipe: Connection) -> None:
    """Run one server and tell its port."""
    import uvicorn

    from assay.serving.service import Service, ServiceFiles

    async def answer_constant(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"application/json"),
                   (b"content-length", str(len(CONSTANT)).encode())]  # fmt: skip
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": CONSTANT})

    application: Any = answer_constant
    if not constant:
        predictor, switch, record = make_predictor(folder)
        application = Service(
            predictor, Fixed(predictor), switch, record,
            ServiceFiles(folder / "predictions.jsonl", folder / "feedback.jsonl"),
            SystemClock(), lambda: "fixed", version="0",
        )  # fmt: skip
    listening = socket.create_server(("127.0.0.1", 0))
    pipe.send(listening.getsockname()[1])
    config = uvicorn.Config(
        application, loop="uvloop", http="httptools", log_level="warning", access_log=False,
        lifespan="off" if constant else "on",
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])


@contextmanager
def server(folder: Path, *, constant: bool) -> Iterator[int]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(folder, constant, theirs), daemon=True)
    process.start()
    theirs.close()  # so that a server which dies ends the waiting for its port
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def request(path: str, body: Any) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"x-assay-manifest: {MANIFEST}\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def read_answer(connection: socket.socket) -> None:
    data = connection.recv(65_536)
    head, found, body = data.partition(b"\r\n\r\n")
    assert found, data
    assert head.startswith(b"HTTP/1.1 200"), data
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65_536)


def measure(port: int, message: bytes) -> tuple[float, float, float]:
    """Median and 99th percentile in microseconds of one request at a time; requests a second."""
    many = [socket.create_connection(("127.0.0.1", port)) for _ in range(WAY)]
    for connection in many:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        taken = []
        for number in range(REQUESTS // 2):
            start = time.perf_counter_ns()
            many[0].sendall(message)
            read_answer(many[0])
            if number >= 200:
                taken.append((time.perf_counter_ns() - start) / 1_000)
        start = time.perf_counter_ns()
        for _ in range(REQUESTS // WAY):
            for connection in many:
                connection.sendall(message)
            for connection in many:
                read_answer(connection)
        rate = REQUESTS / ((time.perf_counter_ns() - start) / 1e9)
        return statistics.median(taken), float(np.percentile(taken, 99)), rate
    finally:
        for connection in many:
            connection.close()


def microseconds(call: Callable[[], object], runs: int = 3_000) -> float:
    taken = []
    for run in range(runs):
        start = time.perf_counter_ns()
        call()
        if run >= 100:
            taken.append((time.perf_counter_ns() - start) / 1_000)
    return statistics.median(taken)


def row(name: str, unit: str, ours: float, reference: float | None, target: str,
        met: bool) -> dict[str, Any]:  # fmt: skip
    return {
        "name": name,
        "unit": unit,
        "ours": ours,
        "reference": reference,
        "ratio": None if reference is None else ours / reference,
        "target": target,
        "met": met,
    }


def rows() -> list[dict[str, Any]]:
    values = np.random.default_rng(1).standard_normal(FEATURES).round(6).tolist()
    messages = {
        "/inference/predict": request("/inference/predict", {"features": values}),
        "/predict": request("/predict", {"instrument": "USD_SGD"}),
    }
    measured: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as name:
        with (
            server(Path(name), constant=True) as fixed,
            server(Path(name), constant=False) as port,
        ):
            for path, message in messages.items():
                p50_c, p99_c, rate_c = measure(fixed, message)
                p50, p99, rate = measure(port, message)
                what = f"POST {path}"
                measured += [
                    row(f"{what}, p50 against a constant", "us", p50, p50_c, "reported", met=True),
                    row(f"{what}, p99 against a constant", "us", p99, p99_c, "<= 5 ms",
                        met=p99 <= 5_000),
                    row(f"{what}, peak rate against a constant", "1/s", rate, rate_c, ">= 0.5 x",
                        met=rate >= 0.5 * rate_c),
                ]  # fmt: skip
        folder = Path(name, "in-process")
        folder.mkdir()
        predictor, _, _ = make_predictor(folder)
        model = predictor.live.models["fx"].model
        array = np.array([values], dtype=np.float32)
        bare = microseconds(lambda: model.predict(array))
        given = microseconds(lambda: predictor.predict_features(values, manifest=MANIFEST))
        stored = microseconds(lambda: predictor.predict("USD_SGD", manifest=MANIFEST))
        measured += [
            row("Predictor, 40 given features (reference: the model alone)", "us", given, bare,
                "<= 60 us", met=given <= 60),
            row("Predictor, features from SQLite (reference: the model alone)", "us", stored, bare,
                "<= 150 us", met=stored <= 150),
        ]  # fmt: skip
    return measured
