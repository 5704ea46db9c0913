"""A real server process over a registry of linear models; prints its URL, then serves."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import uvicorn

from assay.delivery.live import RegistryLiveSource
from assay.domain.clock import SystemClock
from assay.registry import KeyRing, ModelRegistry
from assay.serving import KillSwitch, Limits, Predictor, ServiceRecord
from assay.serving.reloading import load_all
from assay.serving.service import Service, ServiceFiles


def main(folder: Path) -> None:
    clock = SystemClock()
    desk = folder / "desk"
    root = desk / "data" / "models"
    source = RegistryLiveSource(
        lambda: ModelRegistry(root, KeyRing(desk / "keys", None), clock),
        root,
        monotonic=time.monotonic,
    )
    record = ServiceRecord(folder / "serving.jsonl", clock, process=1)
    switch = KillSwitch(folder / "KILL", record)
    predictor = Predictor(
        load_all(source, "fx_vol"), {}, clock, switch=switch, limits=Limits(require_manifest=False)
    )
    service = Service(
        predictor,
        source,
        switch,
        record,
        ServiceFiles(folder / "predictions.jsonl", folder / "feedback.jsonl"),
        clock,
        lambda: "open",
        version="0",
    )
    listening = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(service, lifespan="on", log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
