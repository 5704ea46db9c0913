"""A crowd of connections under the system's limit of open files: told, and not left waiting."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from assay.testing.waiting import until

WORKER = Path(__file__).with_name("steady_worker.py")
HEALTH = b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n"


def status_of(address: tuple[str, int]) -> int:
    with closing(socket.create_connection(address, timeout=30)) as one:
        return asked(one)


def asked(one: socket.socket) -> int:
    try:
        one.sendall(HEALTH)
        return int(one.recv(65_536)[9:12])
    except ConnectionError:  # refused before what it asked was read
        return 429


@pytest.mark.parametrize(("soft", "hard", "served"), [(200, 2_000, 300), (200, 200, 72)])
def test_as_many_connections_are_taken_as_files_may_be_open_and_others_are_told(
    tmp_path: Path, soft: int, hard: int, served: int
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    process = subprocess.Popen(
        [sys.executable, str(WORKER), str(tmp_path)], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, preexec_fn=limit,  # noqa: PLW1509 - no threads yet
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = ("127.0.0.1", int(process.stdout.readline()))
        statuses = []
        with ExitStack() as crowd:
            for _ in range(300):
                one = crowd.enter_context(closing(socket.create_connection(address, timeout=30)))
                statuses.append(asked(one))
        assert statuses == [200] * served + [429] * (300 - served)
        # The server learns of each that left by itself, one after another.
        until(lambda: status_of(address) == 200, "a place is free again")
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
    assert (tmp_path / "serving.jsonl").read_text().count("\n") == 3
