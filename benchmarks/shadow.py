"""What a challenger in shadow costs a server: latency and processor time per request.

Two servers that differ in nothing else, asked in turn within one run.
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from assay.domain.clock import SystemClock
from assay.serving import Deployed, LiveModel, LiveModels
from assay.testing.serving import FixedLive
from benchmarks.load import one_at_a_time
from benchmarks.serving import INFER, PREDICT, Running, make_predictor, row

ROUNDS = 36
REQUESTS = 500
MOST = 1.05


class WithChallenger(FixedLive):
    """One challenger in shadow: another version of the same size."""

    def __init__(self, live: LiveModels) -> None:
        super().__init__(live)
        self._challenger = replace(live.models["fx"], version="2.0.0", digest="1" * 64)

    def deployed(self) -> tuple[Deployed, ...]:
        return (Deployed("fx", "2.0.0", "1" * 64, 1),)

    def load_version(self, _name: str, _version: str) -> LiveModel:
        return self._challenger


def serve(shadowed: bool, folder: Path, pipe: Connection) -> None:
    from assay.serving.http.service import Service, ServiceFiles
    from assay.serving.server.http_server import HttpServer

    predictor, switch, record = make_predictor(folder)
    service = Service(
        predictor, (WithChallenger if shadowed else FixedLive)(predictor.live), switch, record,
        ServiceFiles(folder / "predictions.jsonl", folder / "feedback.jsonl"),
        SystemClock(), lambda: "fixed", version="0",
    )  # fmt: skip
    listening = socket.create_server(("127.0.0.1", 0))
    pipe.send(listening.getsockname()[1])
    HttpServer(service).run_on(listening)  # as `assay serve` does


@contextmanager
def server(*, shadowed: bool) -> Iterator[Running]:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=serve, args=(shadowed, Path(folder), theirs), daemon=True)
        process.start()
        theirs.close()
        try:
            port = mine.recv()
            assert process.pid is not None
            yield Running(port, process.pid)
        finally:
            process.terminate()
            process.join()


def processor_time(process: int) -> int:
    """Nanoseconds that all threads of a process have run."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in tasks)


def measured(running: Running, message: bytes) -> tuple[float, float]:
    """Median latency and processor time per request, both in microseconds."""
    before = processor_time(running.process)
    taken = one_at_a_time(running.port, message, REQUESTS)
    used = processor_time(running.process) - before
    return float(np.median(taken)), used / REQUESTS / 1e3


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with server(shadowed=True) as shadowed, server(shadowed=False) as alone:
        for name, message in (("/predict", PREDICT), ("/inference/predict", INFER)):
            both: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for turn in range(ROUNDS + 1):
                # Each begins every other round: neither always follows the other.
                order = (True, False) if turn % 2 else (False, True)
                for which in order:
                    one = measured(shadowed if which else alone, message)
                    if turn:  # the first round warms up
                        both[which].append(one)
            for number, what in enumerate(("p50", "processor time per request")):
                reference = statistics.median(one[number] for one in both[False])
                # A round is over in a second, in which a shared machine changes less than in all.
                more = (
                    with_one[number] - without[number]
                    for with_one, without in zip(both[True], both[False], strict=True)
                )
                ours = reference + statistics.median(more)
                found.append(
                    row(
                        f"{name} with a shadow, {what} [the same server without]",
                        "us",
                        ours,
                        reference,
                        f"<= {MOST}x",
                        ours <= MOST * reference,
                    )
                )
    return found
