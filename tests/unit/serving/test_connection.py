"""Answers leave whole: the head and the body of each together, in the order of the requests."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import uvicorn

from assay.serving.connection import Connection, JoinedWrites

MANIFEST = "a" * 64


@pytest.fixture
def address(stage: Any) -> Iterator[tuple[str, int]]:
    """Where a server on this connection class answers with the service of the test."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            stage.service, http=Connection, loop="uvloop", log_level="warning", access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[:2]
        finally:
            server.should_exit = True
            thread.join()


def request(first: float, more: str = "") -> bytes:
    body = json.dumps({"features": [first, 0.0, 0.0]}).encode()
    head = (
        "POST /inference/predict HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
        f"x-assay-manifest: {MANIFEST}\r\n{more}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def read_all(connection: socket.socket) -> bytes:
    parts = iter(lambda: connection.recv(65_536), b"")
    return b"".join(parts)


def predictions(text: bytes) -> list[float]:
    """The predictions of whole answers, each of its stated length, with nothing beside them."""
    found = []
    while text:
        head, _, rest = text.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(json.loads(rest[:length])["prediction"])
        text = rest[length:]
    return found


def test_an_answer_comes_in_one_piece(address: tuple[str, int]) -> None:
    with closing(socket.create_connection(address, timeout=30)) as connection:
        for number in range(50):
            connection.sendall(request(number))
            assert predictions(connection.recv(65_536)) == [number]


def test_an_answer_carries_the_id_of_its_request_and_nothing_else_of_it(
    address: tuple[str, int],
) -> None:
    with closing(socket.create_connection(address, timeout=30)) as connection:
        for given, echoed in (("order-17", "order-17"), ("a b", None), ("x" * 200, None)):
            connection.sendall(request(1.0, f"x-request-id: {given}\r\n"))
            head, _, _ = connection.recv(65_536).decode().partition("\r\n\r\n")
            names = [line.partition(":")[0] for line in head.split("\r\n")[1:]]
            assert set(names) - {"server", "date"} == {
                "content-length", "content-type", "x-request-id",
            }  # fmt: skip
            assert len(names) == len(set(names))
            found = head.partition("x-request-id: ")[2].partition("\r\n")[0]
            assert found == echoed or (echoed is None and found.startswith("local-"))


def test_requests_sent_at_once_are_answered_whole_and_in_order(address: tuple[str, int]) -> None:
    with closing(socket.create_connection(address, timeout=30)) as connection:
        connection.sendall(b"".join(map(request, range(20))) + request(20, "connection: close\r\n"))
        assert predictions(read_all(connection)) == list(range(21))


def test_what_is_no_http_is_answered_before_the_connection_closes(
    address: tuple[str, int],
) -> None:
    with closing(socket.create_connection(address, timeout=30)) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")


def test_what_waits_is_sent_before_a_transport_closes() -> None:
    async def closed_at_once() -> bytes:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            joined = JoinedWrites(transport, loop)
            joined.write(b"head, ")
            joined.write(b"body")
            joined.close()
            return theirs.recv(100)

    assert asyncio.run(closed_at_once()) == b"head, body"
