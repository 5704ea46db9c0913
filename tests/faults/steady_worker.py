"""A real server over one model and rows in memory; prints its port, then serves."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
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
    SourceRow,
    SourceState,
)
from assay.serving.http_server import HttpServer
from assay.serving.service import Operation, Service, ServiceFiles
from assay.testing.versions import linear_onnx

MANIFEST = "a" * 64
NAMES = ("ret_1", "vol_5")


class Source:
    """The rows of a store, as a service reads them."""

    names, manifest, may_wait = NAMES, MANIFEST, False

    def __init__(self) -> None:
        self._store = MemoryStore(max_versions=1)
        for number in range(30):
            row = StoredRow(f"E{number}", 1, 1, 0, 0, MANIFEST, np.array([2.0, float(number)]))
            self._store.write("view", [row])

    def rows(self, entities: Sequence[str], as_of: int) -> list[SourceRow | None]:
        return [
            None if row is None
            else SourceRow(row.values, row.event_time, row.known_time, row.manifest, stale=False)
            for row in self._store.read("view", entities, as_of)
        ]  # fmt: skip

    def entities(self) -> set[str]:
        return {f"E{number}" for number in range(30)}

    def refresh(self) -> None:
        return

    def state(self, as_of: int) -> SourceState:
        return SourceState(reachable=True, fresh=True, detail=f"{as_of}")


class Fixed:
    """What is live does not change here."""

    def __init__(self, live: LiveModels) -> None:
        self._live = live

    def pointer(self) -> object:
        return 0

    def wanted(self) -> dict[str, str]:
        return {name: one.digest for name, one in self._live.models.items()}

    def load(self, name: str) -> LiveModel:
        return self._live.models[name]


def make_service(folder: Path) -> Service:
    clock = SystemClock()
    model = OnnxModel.from_bytes(linear_onnx((1.0, 10.0)), InputSchema.of(NAMES))
    live = LiveModels(
        {"fx": LiveModel("fx", "1.0.0", "0" * 64, RISK_MODEL, MANIFEST, model, 0)}, "fx"
    )
    record = ServiceRecord(folder / "serving.jsonl", clock, process=os.getpid())
    switch = KillSwitch(folder / "KILL", record)
    return Service(
        Predictor(live, {MANIFEST: Source()}, clock, switch=switch), Fixed(live), switch, record,
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
