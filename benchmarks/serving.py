"""Predictions over HTTP against servers that answer a constant, and in process.

Each server is a process of its own with one worker; the client (:mod:`benchmarks.load`) is a third.
The name of a row says in brackets what its reference is.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

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
)
from assay.testing.serving import FixedLive, StoreRows
from benchmarks.load import one_at_a_time, open_loop, peak_rate, post

FEATURES = 40
ROWS = 1_024
ROUNDS = 5
NAMES = tuple(f"feature_{number}" for number in range(FEATURES))
MANIFEST = "a" * 64
HEADERS = {"x-assay-manifest": MANIFEST}
CONSTANT = b'{"prediction":0.5}'
MATRIX = np.random.default_rng(1).standard_normal((ROWS, FEATURES)).round(6)
VALUES = MATRIX[0].tolist()
INFER = post("/inference/predict", {"features": VALUES}, HEADERS)
PREDICT = post("/predict", {"instrument": "USD_SGD"}, HEADERS)
ENTITIES = 12_000
"""More than the service remembers rows of: asked in turn, each is read as if for the first time."""
UNREAD = [post("/predict", {"instrument": f"E{number}"}, HEADERS) for number in range(ENTITIES)]
COMPARED = ("ours", "constant")
REFERENCES = {
    "constant": "the same server, a constant",
    "plain uvicorn": "uvicorn as it comes, a constant",
    "FastAPI": "FastAPI with pydantic, a constant",
}


def rows_of(store: SqliteStore) -> StoreRows:
    """The SQLite online store as a feature source, without a desk around it."""
    return StoreRows(store, "view", NAMES, MANIFEST, ["USD_SGD"])


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
         for day in range(1, 500)]
        + [StoredRow(f"E{number}", 1, 1, 0, 0, MANIFEST, rng.standard_normal(FEATURES))
           for number in range(ENTITIES)],
    )  # fmt: skip
    record = ServiceRecord(folder / "serving.jsonl", SystemClock(), process=1)
    switch = KillSwitch(folder / "KILL", record)
    live = LiveModel("fx", "1.0.0", "0" * 64, RISK_MODEL, MANIFEST, model, 0)
    predictor = Predictor(
        LiveModels({"fx": live}, "fx"), {MANIFEST: rows_of(store)}, SystemClock(), switch=switch
    )
    return predictor, switch, record


async def constant(_scope: Any, receive: Any, send: Any) -> None:
    """The least that a server can do with a request."""
    await receive()
    headers = [(b"content-type", b"application/json"),
               (b"content-length", str(len(CONSTANT)).encode())]  # fmt: skip
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": CONSTANT})


class Body(BaseModel):
    """What a request is checked against by the framework."""

    features: list[float]
    model_name: str = "champion"
    feature_names: list[str] | None = None


class Answer(BaseModel):
    prediction: float


def framework() -> FastAPI:
    """The usual way to write such a route; it answers a constant, too."""
    application = FastAPI()

    @application.post("/inference/predict")
    async def predict(body: Body) -> Answer:  # noqa: ARG001 - reading it is the work
        return Answer(prediction=0.5)

    return application


def ours(folder: Path) -> Any:
    from assay.serving.http.service import Service, ServiceFiles

    predictor, switch, record = make_predictor(folder)
    return Service(
        predictor, FixedLive(predictor.live), switch, record,
        ServiceFiles(folder / "predictions.jsonl", folder / "feedback.jsonl"),
        SystemClock(), lambda: "fixed", version="0",
    )  # fmt: skip


def serve(kind: str, folder: Path, pipe: Connection) -> None:
    """Run one server, and tell its port when it answers."""
    import uvicorn

    from assay.serving.http.connection import Connection as OneWrite

    application = {
        "ours": lambda: ours(folder),
        "constant": lambda: constant,
        "plain uvicorn": lambda: constant,
        "FastAPI": framework,
    }[kind]()
    listening = socket.create_server(("127.0.0.1", 0))
    if kind == "ours":
        from assay.serving.server.http_server import HttpServer

        pipe.send(listening.getsockname()[1])
        HttpServer(application).run_on(listening)
        return
    config = uvicorn.Config(
        application, loop="uvloop", http="httptools" if kind == "plain uvicorn" else OneWrite,
        log_level="warning", access_log=False, lifespan="off",
    )  # fmt: skip
    gc.collect()
    gc.freeze()  # as `assay serve` does
    pipe.send(listening.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listening])


@dataclass(frozen=True)
class Running:
    """A server process."""

    port: int
    process: int

    def resident(self) -> float:
        """MiB of memory that it holds."""
        pages = int(Path(f"/proc/{self.process}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20


@contextmanager
def server(kind: str, folder: Path) -> Iterator[Running]:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=serve, args=(kind, folder, theirs), daemon=True)
    process.start()
    theirs.close()  # so that a server which dies ends the waiting for its port
    try:
        port = mine.recv()
        assert process.pid is not None
        yield Running(port, process.pid)
    finally:
        process.terminate()
        process.join()


def microseconds(call: Callable[[], object], runs: int) -> float:
    """Median of ``runs``, the first tenth of them left out."""
    taken = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - start) / 1_000)
    return statistics.median(taken[runs // 10 :])


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


def over_http(folder: Path, model: OnnxModel) -> Iterator[dict[str, Any]]:
    """One worker of the service beside servers that answer a constant."""
    with ExitStack() as stack:
        kinds = ("ours", "constant", "plain uvicorn", "FastAPI")
        running = {kind: stack.enter_context(server(kind, folder)) for kind in kinds}
        yield from closed_loop("/inference/predict", INFER, running, 0.6)
        del running["FastAPI"]
        yield from closed_loop("/predict", PREDICT, running, 0.5)
        yield unread_rows(running["ours"], running["constant"])
        yield from open_loops(running["ours"].port, running["constant"].port)
        yield memory(running["ours"])
        yield batch_over_http(running["ours"].port, model)


def closed_loop(
    path: str, message: bytes, running: Mapping[str, Running], share: float
) -> Iterator[dict[str, Any]]:
    """Latency one at a time, and peak rates, which are to reach a ``share`` of a constant's. The
    rounds alternate between the servers, because the speed of a shared machine changes within
    seconds.
    """
    taken: dict[str, list[float]] = {kind: [] for kind in running}
    rates: dict[str, list[float]] = {kind: [] for kind in running}
    for number in range(ROUNDS + 1):
        for kind, one in running.items():
            alone = one_at_a_time(one.port, message, 300)
            rate = peak_rate(one.port, message, 2_000)
            if number > 0:  # the first round warms up
                taken[kind].extend(alone)
                rates[kind].append(rate)
    for percent, target in ((50, "reported"), (99, "<= 5 ms")):
        mine, theirs = (float(np.percentile(taken[kind], percent)) for kind in COMPARED)
        name = f"POST {path}, one at a time, p{percent} (a constant)"
        yield row(name, "us", mine, theirs, target, met=percent == 50 or mine <= 5_000)
    for kind in list(running)[1:]:
        ratios = [mine / theirs for mine, theirs in zip(rates["ours"], rates[kind], strict=True)]
        ratio = statistics.median(ratios)
        judged = kind == "constant"
        measured = row(
            f"POST {path}, peak rate ({REFERENCES[kind]})",
            "1/s",
            statistics.median(rates["ours"]),
            statistics.median(rates[kind]),
            f">= {share} x" if judged else "reported",
            met=not judged or ratio >= share,
        )
        yield measured | {"ratio": ratio, "ratios": sorted(ratios)}


def unread_rows(mine: Running, constant: Running) -> dict[str, Any]:
    """The peak where no request finds a row that was read before."""
    rates = [
        (peak_rate(mine.port, UNREAD, ENTITIES), peak_rate(constant.port, UNREAD, ENTITIES))
        for _ in range(3)
    ]
    found, reference = sorted(rates, key=lambda pair: pair[0] / pair[1])[1]
    name = "POST /predict, peak rate, every row for the first time (the same server, a constant)"
    return row(name, "1/s", found, reference, "reported", met=True)


def open_loops(mine: int, constant: int) -> Iterator[dict[str, Any]]:
    """Latency from the moment when a request was due, at given rates and at half of the peak."""
    loads: list[tuple[str, bytes, float, str, float, int]] = [
        ("/inference/predict", INFER, 100, "100/s", 4, 5),
        ("/inference/predict", INFER, 200, "200/s", 3, 5),
        ("/inference/predict", INFER, 500, "500/s", 2, 15),
    ]
    for path, message in (("/inference/predict", INFER), ("/predict", PREDICT)):
        half = peak_rate(mine, message, 4_000) / 2
        loads.append((path, message, half, f"half of its peak, {half:,.0f}/s", 2, 5))
    for path, message, rate, name, seconds, limit in loads:
        taken = open_loop(mine, message, rate, seconds)
        reference = open_loop(constant, message, rate, seconds) if rate > 500 else None
        for percent in (50, 99):
            value = float(np.percentile(taken, percent))
            yield row(
                f"POST {path}, open loop at {name}, p{percent}"
                + ("" if reference is None else " (a constant)"),
                "us",
                value,
                None if reference is None else float(np.percentile(reference, percent)),
                "reported" if percent == 50 else f"<= {limit} ms",
                met=percent == 50 or value <= limit * 1_000,
            )


def memory(one: Running) -> dict[str, Any]:
    """Growth of a server that has answered tens of thousands of requests before."""
    before = one.resident()
    peak_rate(one.port, INFER, 20_000)
    grown = one.resident() - before
    return row("memory grown over 20,000 requests", "MiB", grown, None, "<= 2 MiB", met=grown <= 2)


def batch_over_http(port: int, model: OnnxModel) -> dict[str, Any]:
    """A batch with everything around it, JSON and the log included."""
    message = post("/inference/batch", {"batch": MATRIX.tolist()}, HEADERS)
    mine = ROWS / statistics.median(one_at_a_time(port, message, 25)[5:])
    name = f"POST /inference/batch of {ROWS:,} rows (ONNX Runtime alone)"
    return row(name, "rows/us", mine, ROWS / bare_batch(model), "reported", met=True)


def bare_batch(model: OnnxModel) -> float:
    """Microseconds that the runtime takes for :data:`MATRIX`."""
    inputs = {model._input: MATRIX.astype(np.float32)}
    return microseconds(lambda: model._session.run(model._outputs, inputs), 60)


def in_process(predictor: Predictor) -> Iterator[dict[str, Any]]:
    model = predictor.live.models["fx"].model
    array = np.array([VALUES], dtype=np.float32)
    alone = microseconds(lambda: model.predict(array), 3_000)
    given = microseconds(lambda: predictor.predict_features(VALUES, manifest=MANIFEST), 3_000)
    stored = microseconds(lambda: predictor.predict("USD_SGD", manifest=MANIFEST), 3_000)
    batch = microseconds(lambda: predictor.predict_batch(MATRIX, manifest=MANIFEST), 60)
    bare = bare_batch(model)
    yield row("Predictor, 40 given features (the model alone)", "us", given, alone, "<= 60 us",
              met=given <= 60)  # fmt: skip
    yield row("Predictor, features from SQLite (the model alone)", "us", stored, alone,
              "<= 150 us", met=stored <= 150)  # fmt: skip
    yield row(f"Predictor, an array of {ROWS:,} rows (ONNX Runtime alone)", "rows/us",
              ROWS / batch, ROWS / bare, ">= 0.8 x", met=bare >= 0.8 * batch)  # fmt: skip


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as name:
        folder = Path(name, "in-process")
        folder.mkdir()
        predictor, _, _ = make_predictor(folder)
        model = predictor.live.models["fx"].model
        return [*over_http(Path(name), model), *in_process(predictor)]
