"""Thousands of answers of several workers while what is live changes under them.

Every answer is computed again here from the weights of the version that it names, so one that
mixed two versions would be seen, in a batch as well.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from assay.delivery.promotion import break_glass
from assay.delivery.rollback import rollback
from assay.domain.clock import SystemClock
from assay.domain.instants import parse
from assay.registry import ModelRegistry
from assay.testing.versions import AUTHOR, make_candidate, make_registry
from assay.testing.waiting import until

WORKER = Path(__file__).with_name("service_worker.py")
WEIGHTS = {"v1.0.0": (1.5, -0.25), "v2.0.0": (-2.0, 0.75)}
WORKERS = 3
LOST = (ConnectionError, http.client.HTTPException, TimeoutError)


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """Two versions; the second one is live."""
    registry = make_registry(tmp_path, SystemClock())
    for label, weights in WEIGHTS.items():
        registry.register(make_candidate(version=label[1:], weights=weights))
        break_glass(
            registry, "fx_vol", label[1:], initiated_by=AUTHOR, reason="a test",
            clock=registry.clock, monotonic=time.monotonic,
        )  # fmt: skip
    return registry


def swap(registry: ModelRegistry, version: str) -> None:
    rollback(
        registry, "fx_vol", target=version, reason="a test", initiated_by=AUTHOR, keep=True,
        monotonic=time.monotonic,
    )  # fmt: skip


@contextmanager
def running(folder: Path) -> Iterator[tuple[int, int]]:
    """The number of a supervisor, and the port of its workers."""
    process = subprocess.Popen(
        [sys.executable, str(WORKER), str(folder), str(WORKERS)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


class Record:
    """``serving.jsonl``, read on as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_to = 0
        self.loads: list[dict[str, Any]] = []
        self.started: list[int] = []
        self.stopped: list[int] = []
        self.refused = 0

    def read_on(self) -> None:
        with self._path.open("rb") as handle:
            handle.seek(self._read_to)
            whole, found, _ = handle.read().rpartition(b"\n")
        self._read_to += len(whole) + len(found)
        for line in map(json.loads, whole.splitlines()):
            if line["event"] == "loaded":
                self.loads.append(line)
            elif line["event"] in {"started", "stopped"}:
                (self.started if line["event"] == "started" else self.stopped).append(
                    line["process"]
                )
            self.refused += line["event"] == "reload_refused"

    def have(self, version: str, processes: set[int]) -> bool:
        """Whether these processes have loaded this version last."""
        self.read_on()
        last = {line["process"]: line["version"] for line in self.loads}
        return all(last.get(one) == version for one in processes)


class Load:
    """Clients that ask for rows of their own, alone and in batches, and compute what they get."""

    def __init__(self, port: int, threads: int) -> None:
        self._port = port
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask_on, args=(number,)) for number in range(threads)
        ]
        self.answered: Counter[str] = Counter()
        self.lost = 0
        self.wrong: list[Any] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self, number: int) -> None:
        generator = random.Random(number)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._done.is_set():
            # Halves and their products have no rounding, whoever computes them.
            rows = [
                [generator.randrange(-64, 65) / 2, generator.randrange(-64, 65) / 2]
                for _ in range(generator.choice((1, 1, 1, 8)))
            ]
            single = len(rows) == 1
            body = {"features": rows[0]} if single else {"batch": rows}
            path = "/inference/predict" if single else "/inference/batch"
            try:
                connection.request(
                    "POST", path, json.dumps(body), {"content-type": "application/json"}
                )
                answer = connection.getresponse()
                status, document = answer.status, json.loads(answer.read())
            except LOST:
                self.lost += 1
                connection.close()
                continue
            if status == 200:
                first, second = WEIGHTS[document["model_version"]]
                made = [document["prediction"]] if single else document["predictions"]
                if made == [first * a + second * b for a, b in rows]:
                    self.answered[document["model_version"]] += 1
                    continue
            self.wrong.append((status, document, rows))
        connection.close()


@pytest.mark.long
@pytest.mark.parametrize("swaps", [100, 1_000])
def test_no_answer_of_any_worker_fails_or_mixes_versions_while_they_are_swapped(
    tmp_path: Path, registry: ModelRegistry, swaps: int, record_property: Any
) -> None:
    with running(tmp_path) as (_, port):
        record = Record(tmp_path / "serving.jsonl")
        until(lambda: record.read_on() or len(record.loads) == WORKERS)
        processes = {line["process"] for line in record.loads}
        assert len(processes) == WORKERS
        memory: list[dict[int, float]] = []
        with Load(port, 4) as load:
            for number in range(swaps):
                if number in {swaps // 2, swaps - 1}:
                    memory.append({one: memory_of(one) for one in processes})
                version = ("1.0.0", "2.0.0")[number % 2]
                before = sum(load.answered.values())
                swap(registry, version)
                until(lambda: record.have(version, processes))  # noqa: B023 - called at once
                until(lambda: sum(load.answered.values()) > before)  # noqa: B023
        assert load.wrong[:3] == []
        assert load.lost == 0
    record.read_on()
    assert record.refused == 0
    assert set(load.answered) == set(WEIGHTS)
    for process in processes:
        loads = [line["version"] for line in record.loads if line["process"] == process]
        assert loads == ["2.0.0", *(("1.0.0", "2.0.0")[number % 2] for number in range(swaps))]
    assert sorted(record.stopped) == sorted(processes)
    grown = max(memory[1][one] - memory[0][one] for one in processes)
    sys.stderr.write(f"memory after half of the swaps {memory[0]}, in the end {memory[1]}\n")
    assert grown <= 16, memory
    took = times_to_every_worker(registry, record, processes, swaps)
    record_property("swaps", swaps)
    record_property("answers", sum(load.answered.values()))
    record_property("median seconds to the last worker", took[len(took) // 2])
    record_property("longest seconds to the last worker", took[-1])


def memory_of(process: int) -> float:
    """MiB that a process holds; nothing where that cannot be known."""
    path = Path(f"/proc/{process}/status")
    found = re.search(r"VmRSS:\s+(\d+)", path.read_text()) if path.exists() else None
    return int(found[1]) / 1024 if found else 0.0


def times_to_every_worker(
    registry: ModelRegistry, record: Record, processes: set[int], swaps: int
) -> list[float]:
    """Seconds from the registry's entry until the last worker answered with it, ascending."""
    meant = [entry.at for entry in registry.history("fx_vol") if entry.type == "rollback"]
    assert len(meant) == swaps
    ready = [
        [parse(line["ready_at"]) for line in record.loads if line["process"] == process][1:]
        for process in processes
    ]
    took = sorted((max(every) - at) / 1e9 for at, *every in zip(meant, *ready, strict=True))
    sys.stderr.write(
        f"{swaps} swaps: {took[len(took) // 2]:.3f} s to the last worker, at most {took[-1]:.3f}\n"
    )
    return took


@pytest.mark.long
def test_workers_killed_between_swaps_cost_their_requests_in_flight_and_no_version(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    kills = 20
    with running(tmp_path) as (_, port), Load(port, 4) as load:
        record = Record(tmp_path / "serving.jsonl")
        until(lambda: record.read_on() or len(record.loads) == WORKERS)
        alive = {line["process"] for line in record.loads}
        for number in range(kills):
            version = ("1.0.0", "2.0.0")[number % 2]
            victim = sorted(alive)[number % WORKERS]
            os.kill(victim, signal.SIGKILL)
            swap(registry, version)
            alive.remove(victim)
            until(lambda: record.read_on() or len(record.started) == WORKERS + number + 1)  # noqa: B023
            alive.add(record.started[-1])
            # Also the one that was waiting while the version changed.
            until(lambda: record.have(version, alive))  # noqa: B023
    assert load.wrong[:3] == []
    assert load.lost <= 4 * kills
    assert set(load.answered) == set(WEIGHTS)
