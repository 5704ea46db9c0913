"""What a challenger in shadow costs a server: latency and processor time per request.

One process, whose challenger comes and goes: two processes of one program differ by several percent
in how they lie in memory. Processor time is that of all its threads until no pair waits any more.
"""

from __future__ import annotations

import multiprocessing
import re
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from assay.domain.clock import SystemClock
from assay.serving import Deployed, LiveModel, LiveModels
from assay.testing.serving import FixedLive
from assay.testing.waiting import until
from benchmarks.load import one_at_a_time
from benchmarks.serving import INFER, PREDICT, Running, make_predictor, row

ROUNDS = 24
REQUESTS = 2_000  # takes a quarter of a second, in which a shared machine changes little
WARM = 200
QUIET = 0.3  # seconds, more than a challenger waits for
MOST = 1.05
FLAG = "challenged"
WAITING = re.compile(rb"^assay_shadow_waiting\{.*\} [1-9]", re.MULTILINE)


class Challenged(FixedLive):
    """One challenger in shadow while a file is there: another version of the same size."""

    def __init__(self, live: LiveModels, flag: Path) -> None:
        super().__init__(live)
        self._flag = flag
        self._challenger = replace(live.models["fx"], version="2.0.0", digest="1" * 64)

    def pointer(self) -> object:
        return self._flag.exists()

    def deployed(self) -> tuple[Deployed, ...]:
        return (Deployed("fx", "2.0.0", "1" * 64, 1),) if self._flag.exists() else ()

    def load_version(self, _name: str, _version: str) -> LiveModel:
        return self._challenger


def serve(folder: Path, pipe: Connection) -> None:
    from assay.serving.http.service import Service, ServiceFiles
    from assay.serving.server.http_server import HttpServer

    predictor, switch, record = make_predictor(folder)
    service = Service(
        predictor, Challenged(predictor.live, folder / FLAG), switch, record,
        ServiceFiles(folder / "predictions.jsonl", folder / "feedback.jsonl"),
        SystemClock(), lambda: "fixed", version="0",
    )  # fmt: skip
    listening = socket.create_server(("127.0.0.1", 0))
    pipe.send(listening.getsockname()[1])
    HttpServer(service).run_on(listening)  # as `assay serve` does


@dataclass(frozen=True)
class Switched:
    """A server whose challenger comes and goes."""

    running: Running
    folder: Path

    def turn(self, *, shadowed: bool) -> None:
        """Have the challenger run, or not."""
        flag = self.folder / FLAG
        if shadowed:
            flag.touch()
        else:
            flag.unlink(missing_ok=True)
        answer = self._ask("POST", "/model/reload")
        assert b'"reloaded":true' in answer, answer
        one_at_a_time(self.running.port, PREDICT, WARM)
        self.settle()

    def settle(self) -> None:
        """Wait until no pair waits."""
        time.sleep(QUIET)  # asking all the time would be counted as well
        until(lambda: not WAITING.search(self._ask("GET", "/metrics")), "all pairs are written")

    def _ask(self, method: str, path: str) -> bytes:
        with closing(HTTPConnection("127.0.0.1", self.running.port)) as connection:
            connection.request(method, path, "{}", {"content-type": "application/json"})
            return connection.getresponse().read()


@contextmanager
def server() -> Iterator[Switched]:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=serve, args=(Path(folder), theirs), daemon=True)
        process.start()
        theirs.close()
        try:
            port = mine.recv()
            assert process.pid is not None
            yield Switched(Running(port, process.pid), Path(folder))
        finally:
            process.terminate()
            process.join()


def processor_time(process: int) -> int:
    """Nanoseconds that all threads of a process have run."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in tasks)


def measured(server: Switched, message: bytes) -> tuple[float, float]:
    """Median latency and processor time per request, both in microseconds."""
    before = processor_time(server.running.process)
    taken = one_at_a_time(server.running.port, message, REQUESTS)
    server.settle()  # asks for metrics at least once, with or without a challenger
    used = processor_time(server.running.process) - before
    return float(np.median(taken)), used / REQUESTS / 1e3


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with server() as one:
        for name, message in (("/predict", PREDICT), ("/inference/predict", INFER)):
            both: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for turn in range(ROUNDS + 1):
                # Each begins every other round: neither always follows the other.
                for shadowed in (True, False) if turn % 2 else (False, True):
                    one.turn(shadowed=shadowed)
                    figures = measured(one, message)
                    if turn:  # the first round warms up
                        both[shadowed].append(figures)
            for number, what in enumerate(("p50", "processor time per request")):
                reference = statistics.median(figures[number] for figures in both[False])
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
