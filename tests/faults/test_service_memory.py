"""A server that answers a million requests of every kind has the memory that it began with."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("steady_worker.py")
AT_ONCE = 64
CONNECTIONS = 8
GROWTH_MIB = 8


@contextmanager
def server(folder: Path) -> Iterator[tuple[int, int]]:
    """The number and the port of a server process."""
    process = subprocess.Popen(
        [sys.executable, str(WORKER), str(folder)], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
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


def request(path: str, body: Any, status: int, **headers: str) -> tuple[bytes, int]:
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: a", "content-type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, f"content-length: {len(data)}", "", ""])
    return head.encode() + data, status


MANIFEST = {"x_assay_manifest": "a" * 64}
TENSOR = {"name": "features", "shape": [1, 2], "datatype": "FP64", "data": [1.0, 2.0]}


def every_kind(turn: int) -> list[tuple[bytes, int]]:
    """Requests that are answered, and requests that are refused, and the statuses of both."""
    one = {"features": [2.0, float(turn % 100)]}
    return [
        request("/predict", {"instrument": f"E{turn % 30}"}, 200, **MANIFEST),
        request("/predict", {"instrument": f"E{turn % 7}"}, 200, **MANIFEST,
                x_request_id=f"turn-{turn}"),
        request("/predict", {"instruments": ["E1", "E2", "nobody"]}, 200, **MANIFEST),
        request("/inference/predict", one, 200, **MANIFEST),
        request("/inference/batch", {"batch": [[1.0, 2.0]] * 4}, 200, **MANIFEST),
        request("/v2/models/fx/infer", {"inputs": [TENSOR]}, 200, **MANIFEST),
        request("/predict", {"instrument": f"unknown {turn}"}, 404, **MANIFEST),
        request("/inference/predict", one, 409, x_assay_manifest=f"{turn:064d}"),
        request("/inference/predict", one | {"model_name": f"m{turn}"}, 404, **MANIFEST),
        request("/inference/predict", {"features": [f"{turn}"]}, 422, **MANIFEST),
        request(f"/unknown/{turn}", {}, 404),
    ]  # fmt: skip


def ask(port: int, requests: int, predictions: Path) -> None:
    """Send so many requests over some connections, many at once, and check their statuses."""
    connections = [
        socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(CONNECTIONS)
    ]
    sent, turn = 0, 0
    try:
        while sent < requests:
            asked: list[list[int]] = []
            for connection in connections:
                kinds = [one for _ in range(AT_ONCE // 11 + 1) for one in every_kind(turn)]
                turn += 1
                asked.append([status for _, status in kinds])
                connection.sendall(b"".join(data for data, _ in kinds))
            for connection, expected in zip(connections, asked, strict=True):
                assert statuses(connection, len(expected)) == expected
                sent += len(expected)
            if turn % (64 * CONNECTIONS) == 0:
                predictions.unlink(missing_ok=True)  # a disk is not what is measured here
    finally:
        for connection in connections:
            connection.close()


def statuses(connection: socket.socket, count: int) -> list[int]:
    """The statuses of so many answers, whose bodies are read whole."""
    found: list[int] = []
    data = b""
    while len(found) < count:
        end = data.find(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", data[:end]) if end >= 0 else None
        whole = end + 4 + int(length[1]) if length else None
        if whole is None or len(data) < whole:
            more = connection.recv(262_144)
            assert more
            data += more
            continue
        found.append(int(data[9:12]))
        data = data[whole:]
    assert data == b""
    return found


def memory(process: int) -> float:
    """MiB that a process holds."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_million_requests_leave_no_memory_behind(tmp_path: Path, record_property: Any) -> None:
    with server(tmp_path) as (process, port):
        predictions = tmp_path / "predictions.jsonl"
        ask(port, 200_000, predictions)  # what is remembered for feedback is full after these
        before = memory(process)
        figures = []
        for _ in range(4):
            ask(port, 200_000, predictions)
            figures.append(memory(process))
        with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as connection:
            connection.sendall(request("/inference/predict", {"features": [1.0, 2.0]}, 200,
                                       **MANIFEST)[0])  # fmt: skip
            assert statuses(connection, 1) == [200]
    sys.stderr.write(f"memory: {before:.1f} MiB, then {figures}\n")
    record_property("memory", [before, *figures])
    assert max(figures) - before <= GROWTH_MIB
