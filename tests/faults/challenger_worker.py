"""A real server process over a desk's registry, with challengers; prints its port, then serves."""

from __future__ import annotations

import socket
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import uvicorn

from assay import bootstrap
from assay.delivery.canary import CanaryPolicy
from assay.delivery.live import RegistryLiveSource
from assay.orchestration.challengers import CanaryWatch
from assay.orchestration.service import watch_canaries
from assay.serving import KillSwitch, Limits, Predictor, ServiceRecord, SourceRow, SourceState
from assay.serving.http.service import Service, ServiceFiles
from assay.serving.reloading import load_all

MANIFEST = "a" * 64


class Rows:
    """Four features that differ by instrument and moment; the first is 2 to 3."""

    names = ("x0", "x1", "x2", "x3")
    manifest = MANIFEST
    may_wait = False

    def rows(self, entities: Sequence[str], as_of: int) -> list[SourceRow | None]:
        return [
            SourceRow(values_of(one, as_of), as_of - 2, as_of - 1, MANIFEST, stale=False)
            for one in entities
        ]

    def entities(self) -> set[str]:
        return {"E00"}

    def refresh(self) -> None:
        return

    def state(self, as_of: int) -> SourceState:
        return SourceState(reachable=True, fresh=True, detail=f"{as_of}")


def values_of(entity: str, as_of: int) -> np.ndarray:
    values = np.random.default_rng(zlib.crc32(f"{entity} {as_of}".encode())).standard_normal(4)
    values[0] = 2.0 + values[0] ** 2 / (1.0 + values[0] ** 2)
    return values


def main(folder: Path, slow_ms: float) -> None:
    desk = bootstrap.open_desk(folder)
    root = desk.layout.registry
    source = RegistryLiveSource(desk.open_registry, root, monotonic=time.monotonic)
    record = ServiceRecord(folder / "artifacts/serving.jsonl", desk.clock, process=1)
    switch = KillSwitch(folder / "artifacts/KILL", record)
    predictor = Predictor(
        load_all(source, "fx_vol"), {MANIFEST: Rows()}, desk.clock, switch=switch,
        limits=Limits(require_manifest=False),
    )  # fmt: skip
    files = bootstrap.challenger_files(folder)
    watch = CanaryWatch(desk, files, CanaryPolicy(slow_ms=slow_ms), initiated_by="canary-watch")
    service = Service(
        predictor,
        source,
        switch,
        record,
        ServiceFiles(folder / "artifacts/predictions.jsonl", files.feedback),
        desk.clock,
        lambda: "open",
        version="0",
        follow=lambda: watch_canaries(service, watch),
    )
    service.metrics.ask(watch.samples)
    listening = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(service, lifespan="on", log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
