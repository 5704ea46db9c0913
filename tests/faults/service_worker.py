"""A real server over a registry of linear models; prints its URL, then serves.

``service_worker.py FOLDER`` is one process, ``service_worker.py FOLDER 3`` three under a
supervisor, which starts ``service_worker.py worker`` for each.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.domain.clock import SystemClock
from assay.serving import ServiceRecord
from assay.serving.server.supervisor import Patience, Supervisor
from assay.serving.telemetry.worker_board import WorkerBoard

if TYPE_CHECKING:
    from assay.serving.http.service import Service


def make_service(folder: Path, board: str | None = None) -> Service:
    # A supervisor needs none of this, and so loads none of it.
    from assay.delivery.live import RegistryLiveSource
    from assay.registry import KeyRing, ModelRegistry
    from assay.serving import KillSwitch, Limits, Predictor
    from assay.serving.http.service import Operation, Service, ServiceFiles
    from assay.serving.reloading import load_all

    clock = SystemClock()
    desk = folder / "desk"
    root = desk / "data" / "models"
    source = RegistryLiveSource(
        lambda: ModelRegistry(root, KeyRing(desk / "keys", None), clock),
        root,
        monotonic=time.monotonic,
    )
    record = ServiceRecord(folder / "serving.jsonl", clock, process=os.getpid())
    switch = KillSwitch(folder / "KILL", record)
    predictor = Predictor(
        load_all(source, "fx_vol"), {}, clock, switch=switch, limits=Limits(require_manifest=False)
    )
    return Service(
        predictor,
        source,
        switch,
        record,
        ServiceFiles(folder / "predictions.jsonl", folder / "feedback.jsonl"),
        clock,
        lambda: f"{len(source.wanted())} models in production",
        version="0",
        operation=Operation(instance=str(os.getpid()), deadline_ms=30_000),
        board=None if board is None else WorkerBoard(Path(board), os.getpid()),
    )


def make(orders: Mapping[str, Any]) -> tuple[Service, Mapping[str, Any]]:
    print("what the code of a desk prints")
    print(5)
    folder = Path(orders["folder"])
    service = make_service(folder, orders["board"])
    (folder / f"loaded-{os.getpid()}").touch()
    return service, {"process": os.getpid()}


def say(listening: socket.socket) -> None:
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()


def supervise(folder: Path, workers: int, silence: float) -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=2_048)
    with tempfile.TemporaryDirectory() as board:
        (folder / "board").symlink_to(board)
        program = folder / "program"
        record = ServiceRecord(folder / "serving.jsonl", SystemClock(), process=os.getpid())
        Supervisor(
            [str(program) if program.exists() else sys.executable, __file__, "worker"],
            {"folder": str(folder), "board": board},
            [listening],
            WorkerBoard(Path(board), os.getpid()),
            workers=workers,
            monotonic=time.monotonic,
            patience=Patience(silence=silence),
            ended=lambda process, status: record.note("ended", process=process, status=status),
        ).run(lambda _: say(listening))
    (folder / "supervisor.json").write_text(json.dumps({"ended": True}))


def alone(folder: Path) -> None:
    from assay.serving.server.http_server import HttpServer

    service = make_service(folder)
    listening = socket.create_server(("127.0.0.1", 0))
    say(listening)
    HttpServer(service).run_on(listening)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        from assay.serving.server.worker import run_worker

        sys.exit(run_worker(make))
    given = Path(sys.argv[1])
    if len(sys.argv) > 2:
        supervise(given, int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 30.0)
    else:
        alone(given)
