"""A real server over one model and rows in memory; prints its port, then serves."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import numpy as np

from assay.domain.clock import SystemClock
from assay.domain.versions import RISK_MODEL, InputSchema
from assay.features.online import MemoryStore, StoredRow
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
from assay.testing.serving import FixedLive, StoreRows
from assay.testing.versions import linear_onnx

MANIFEST = "a" * 64
NAMES = ("ret_1", "vol_5")


ENTITIES = [f"E{number}" for number in range(30)]


def make_service(folder: Path) -> Service:
    clock = SystemClock()
    model = OnnxModel.from_bytes(linear_onnx((1.0, 10.0)), InputSchema.of(NAMES))
    live = LiveModels(
        {"fx": LiveModel("fx", "1.0.0", "0" * 64, RISK_MODEL, MANIFEST, model, 0)}, "fx"
    )
    store = MemoryStore(max_versions=1)
    store.write(
        "view",
        [StoredRow(name, 1, 1, 0, 0, MANIFEST, np.array([2.0, float(number)]))
         for number, name in enumerate(ENTITIES)],
    )  # fmt: skip
    rows = StoreRows(store, "view", NAMES, MANIFEST, ENTITIES)
    record = ServiceRecord(folder / "serving.jsonl", clock, process=os.getpid())
    switch = KillSwitch(folder / "KILL", record)
    return Service(
        Predictor(live, {MANIFEST: rows}, clock, switch=switch), FixedLive(live), switch, record,
        ServiceFiles(folder / "predictions.jsonl", folder / "feedback.jsonl"), clock,
        lambda: "open", version="0",
        operation=Operation(deadline_ms=60_000),  # many are sent at once
    )  # fmt: skip


if __name__ == "__main__":
    made = make_service(Path(sys.argv[1]))
    listening = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    HttpServer(made).run_on(listening)
