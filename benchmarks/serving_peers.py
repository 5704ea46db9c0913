"""Beside MLServer and BentoML: one XGBoost model, one row of 40 features, one process each.

They do not agree with all of our dependencies, so each runs in an environment of its own::

    python -m venv .mlserver && .mlserver/bin/pip install mlserver xgboost-cpu scikit-learn
    .mlserver/bin/pip install --no-deps mlserver-xgboost
    python -m venv .bentoml && .bentoml/bin/pip install bentoml xgboost-cpu
    python -m benchmarks serving_peers

``ASSAY_BENCH_MLSERVER`` and ``ASSAY_BENCH_BENTOML`` name the Python of such an environment
elsewhere, and ``ASSAY_BENCH_PEERS=make`` makes those that are missing. Without one there are no
rows of it.

MLServer is asked what we are asked, byte for byte: the Open Inference Protocol. It runs with
``parallel_workers`` 0, which answers in the process that listens (its default starts a worker that
does not survive uvloop 0.23), and with its metrics and access log off. BentoML is asked for the
same features in its own form; its worker is a process of its own. Both keep XGBoost, we run what we
converted it to; before anything is timed, all three have to give the same number. We do more on the
way: a manifest, a kill switch, a log of predictions.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from assay.domain.clock import SystemClock
from assay.domain.versions import RISK_MODEL, InputSchema
from assay.features.online import SqliteStore
from assay.serving import KillSwitch, LiveModel, LiveModels, OnnxModel, Predictor, ServiceRecord
from assay.testing.serving import FixedLive
from benchmarks.load import one_at_a_time, peak_rate, post
from benchmarks.serving import FEATURES, HEADERS, INFER, MANIFEST, NAMES, VALUES, rows_of

ROUNDS = 5
MODEL = "fx"
OIP_PATH = f"/v2/models/{MODEL}/infer"
OIP = post(
    OIP_PATH,
    {"inputs": [{"name": "features", "shape": [1, FEATURES], "datatype": "FP32", "data": VALUES}]},
    HEADERS,
)
BENTO_SIDE = Path(__file__).with_name("bentoml_side.py")
PACKAGES = {
    "mlserver": ("mlserver", "xgboost-cpu", "scikit-learn"),
    "bentoml": ("bentoml", "xgboost-cpu"),
}
WITHOUT_DEPENDENCIES = {"mlserver": ("mlserver-xgboost",)}  # names xgboost, which we have as -cpu
START_SECONDS = 60.0
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # for one row more threads cost more than they bring
QUIET = {
    "debug": False,
    "parallel_workers": 0,
    "metrics_endpoint": None,
    "host": "127.0.0.1",
    "environments_dir": ".",
}


def rows() -> list[dict[str, Any]]:
    """Measure; nothing of a peer where no environment has it."""
    found = {name: _python(name) for name in PACKAGES}
    peers = {name: python for name, python in found.items() if python is not None}
    if not peers:
        return []
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        native, onnx = _train(folder)
        ours = stack.enter_context(_ours(onnx, folder))
        asked: dict[str, tuple[int, bytes]] = {
            "/inference/predict": (ours, INFER),
            OIP_PATH: (ours, OIP),
        }
        if "mlserver" in peers:
            port = stack.enter_context(_mlserver(peers["mlserver"], native, folder))
            asked[f"MLServer {_version(peers['mlserver'], 'mlserver')}"] = (port, OIP)
        if "bentoml" in peers:
            port = stack.enter_context(_bentoml(peers["bentoml"], native, folder))
            message = post("/predict", {"features": VALUES}, {})
            asked[f"BentoML {_version(peers['bentoml'], 'bentoml')}"] = (port, message)
        _check_answers(asked)
        return list(_compare(asked))


def _compare(asked: Mapping[str, tuple[int, bytes]]) -> Iterator[dict[str, Any]]:
    """Rounds alternate, because the speed of a shared machine changes within seconds."""
    alone: dict[str, list[float]] = {name: [] for name in asked}
    rates: dict[str, list[float]] = {name: [] for name in asked}
    for number in range(ROUNDS + 1):
        for name, (port, message) in asked.items():
            is_ours = name.startswith("/")
            taken = one_at_a_time(port, message, 200)
            rate = peak_rate(port, message, 3_000 if is_ours else 600)
            if number > 0:  # the first round warms up
                alone[name].extend(taken)
                rates[name].append(rate)
    mine = [name for name in asked if name.startswith("/")]
    for peer in (name for name in asked if not name.startswith("/")):
        for path in mine:
            ratios = [a / b for a, b in zip(rates[path], rates[peer], strict=True)]
            ratio = statistics.median(ratios)
            yield {
                "name": f"POST {path}, peak rate ({peer})",
                "unit": "1/s",
                "ours": statistics.median(rates[path]),
                "reference": statistics.median(rates[peer]),
                "ratio": ratio,
                "ratios": sorted(ratios),
                "target": ">= 5 x",
                "met": ratio >= 5,
            }
            for percent in (50, 99):
                here, there = (float(np.percentile(alone[one], percent)) for one in (path, peer))
                yield {
                    "name": f"POST {path}, one at a time, p{percent} ({peer})",
                    "unit": "us",
                    "ours": here,
                    "reference": there,
                    "ratio": here / there,
                    "target": "reported",
                    "met": True,
                }


def _check_answers(asked: Mapping[str, tuple[int, bytes]]) -> None:
    """Nobody is compared who answers something else."""
    numbers = {name: _number(_ask(port, message)) for name, (port, message) in asked.items()}
    if max(numbers.values()) - min(numbers.values()) > 1e-6:
        raise AssertionError(f"the answers differ: {numbers}")


def _ask(port: int, message: bytes) -> Any:
    head, _, body = message.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = dict(line.split(": ", 1) for line in lines)
        connection.request("POST", first.split()[1], body, headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise AssertionError(f"{first}: {answer.status} {data[:500]!r}")
        return json.loads(data)
    finally:
        connection.close()


def _number(answer: Any) -> float:
    if isinstance(answer, dict):
        return float(answer["outputs"][0]["data"][0] if "outputs" in answer else
                     answer["prediction"])  # fmt: skip
    return float(answer)


def _train(folder: Path) -> tuple[Path, Path]:
    """One booster: as XGBoost writes it, and as we convert it."""
    from assay.training import RiseProbability
    from assay.training.estimators import fit
    from assay.training.onnx_export import export_onnx

    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((20_000, FEATURES)).astype(np.float32)
    returns = 0.1 * inputs[:, 0].astype(np.float64) + rng.standard_normal(len(inputs))
    fitted = fit(RiseProbability(), NAMES, (1,), inputs, returns)
    native, onnx = folder / "model.ubj", folder / "model.onnx"
    (booster,) = fitted.boosters
    booster.save_model(native)
    onnx.write_bytes(export_onnx(fitted))
    return native, onnx


# -- the three servers --------------------------------------------------------------------------


def _serve(onnx: Path, folder: Path, pipe: Connection) -> None:
    from assay.serving.http.service import Service, ServiceFiles
    from assay.serving.server.http_server import HttpServer

    model = OnnxModel.from_bytes(onnx.read_bytes(), InputSchema.of(NAMES))
    record = ServiceRecord(folder / "serving.jsonl", SystemClock(), process=1)
    switch = KillSwitch(folder / "KILL", record)
    live = LiveModel(MODEL, "1.0.0", "0" * 64, RISK_MODEL, MANIFEST, model, 0)
    sources = {MANIFEST: rows_of(SqliteStore(folder / "online.db"))}
    predictor = Predictor(LiveModels({MODEL: live}, MODEL), sources, SystemClock(), switch=switch)
    service = Service(
        predictor, FixedLive(predictor.live), switch, record,
        ServiceFiles(folder / "predictions.jsonl", folder / "feedback.jsonl"),
        SystemClock(), lambda: "fixed", version=version("assay"),
    )  # fmt: skip
    listening = socket.create_server(("127.0.0.1", 0))
    pipe.send(listening.getsockname()[1])
    HttpServer(service).run_on(listening)


@contextmanager
def _ours(onnx: Path, folder: Path) -> Iterator[int]:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(onnx, folder, theirs), daemon=True)
    process.start()
    theirs.close()  # so that a server which dies ends the waiting for its port
    try:
        yield mine.recv()
    finally:
        process.terminate()
        process.join()


@contextmanager
def _mlserver(python: str, native: Path, folder: Path) -> Iterator[int]:
    place = folder / "mlserver"
    place.mkdir()
    http, grpc = _free_ports(2)
    settings = {**QUIET, "http_port": http, "grpc_port": grpc}
    (place / "settings.json").write_text(json.dumps(settings))
    (place / "logging.json").write_text(
        json.dumps({"version": 1, "root": {"level": "WARNING"}, "disable_existing_loggers": False})
    )
    model = {
        "name": MODEL,
        "implementation": "mlserver_xgboost.XGBoostModel",
        "parameters": {"uri": str(native)},
    }
    (place / "model-settings.json").write_text(json.dumps(model))
    command = [str(Path(python).with_name("mlserver")), "start", str(place)]
    with _running(command, place, {}):
        _wait(http, f"/v2/models/{MODEL}/ready", place)
        yield http


@contextmanager
def _bentoml(python: str, native: Path, folder: Path) -> Iterator[int]:
    place = folder / "bentoml"
    place.mkdir()
    (port,) = _free_ports(1)
    (place / "service.py").write_bytes(BENTO_SIDE.read_bytes())
    command = [str(Path(python).with_name("bentoml")), "serve", "service:Single", "--host",
               "127.0.0.1", "--port", str(port)]  # fmt: skip
    own = {
        "ASSAY_BENCH_MODEL": str(native),
        "BENTOML_HOME": str(place / "home"),
        "BENTOML_DO_NOT_TRACK": "True",  # nothing leaves this machine
    }
    with _running(command, place, own):
        _wait(port, "/readyz", place)
        yield port


@contextmanager
def _running(command: list[str], place: Path, own: Mapping[str, str]) -> Iterator[None]:
    """A server with its whole group of processes, which ends with it."""
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=place, env=os.environ | ONE_THREAD | own, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(port: int, path: str, place: Path) -> None:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise RuntimeError(f"it does not answer: {(place / 'log').read_text()[-2_000:]}")


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in opened]
    for one in opened:
        one.close()
    return ports


# -- environments -------------------------------------------------------------------------------


def _python(name: str) -> str | None:
    """The Python of an environment that has a peer."""
    chosen = os.environ.get(f"ASSAY_BENCH_{name.upper()}")
    python = Path(chosen) if chosen else Path(f".{name}", "bin", "python").absolute()
    if python.exists():
        return str(python)
    if chosen is None and os.environ.get("ASSAY_BENCH_PEERS") == "make":
        install: Callable[..., Any] = lambda *words: subprocess.run(  # noqa: E731
            [python, "-m", "pip", "install", "--quiet", *words], check=True
        )
        subprocess.run([sys.executable, "-m", "venv", f".{name}"], check=True)
        install(*PACKAGES[name])
        for package in WITHOUT_DEPENDENCIES.get(name, ()):
            install("--no-deps", package)
        return str(python)
    sys.stderr.write(f"no environment with {name}: see benchmarks/serving_peers.py\n")
    return None


def _version(python: str, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
