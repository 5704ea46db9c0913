"""Clients that hold back, do not listen, or come in crowds: each costs a connection, no more."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from assay.serving.http.connection import Gate
from assay.serving.server.http_server import HttpServer

_PAUSE = threading.Event()
BODY = json.dumps({"features": [1.0, 2.0, 3.0]}).encode()
HEAD = (
    b"POST /inference/predict HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
    b"x-assay-manifest: " + b"a" * 64 + b"\r\ncontent-length: %d\r\n\r\n" % len(BODY)
)


@contextmanager
def serving(service: Any, **limits: Any) -> Iterator[tuple[str, int]]:
    """The service over HTTP, with other limits of its gate."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()[:2]
        answers = threading.Event()
        server = HttpServer(service, started=answers.set)
        gate: Gate = server.config.http.keywords["gate"]
        for name, value in limits.items():
            setattr(gate, name, value)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert answers.wait(30)
            yield address
        finally:
            server.should_exit = True
            thread.join()


def send_for_ever(connection: socket.socket) -> None:
    """Until it is told that nobody is there any more."""
    while True:
        connection.sendall(b"G")
        _PAUSE.wait(0.05)


def connect(address: tuple[str, int]) -> Any:
    return closing(socket.create_connection(address, timeout=30))


def status(connection: socket.socket) -> int:
    return int(connection.recv(65_536).split(b" ", 2)[1])


def test_a_body_that_does_not_come_is_answered_and_the_connection_closed(stage: Any) -> None:
    with serving(stage.service, part_seconds=0.2) as address, connect(address) as connection:
        connection.sendall(HEAD + BODY[:4])
        data = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert data.startswith(b"HTTP/1.1 408 ")
        assert b"urn:assay:problem:request-timeout" in data


@pytest.mark.parametrize("sent", [b"", b"POST /pred", HEAD[:60]])
def test_a_head_that_does_not_come_ends_the_connection(stage: Any, sent: bytes) -> None:
    with (
        serving(stage.service, part_seconds=0.2, idle_seconds=0.2) as address,
        connect(address) as connection,
    ):
        connection.sendall(sent)
        assert connection.recv(65_536) == b""


def test_a_later_request_that_is_kept_back_ends_the_connection_too(stage: Any) -> None:
    with serving(stage.service, part_seconds=0.2) as address, connect(address) as connection:
        connection.sendall(HEAD + BODY)
        assert status(connection) == 200
        connection.sendall(HEAD[:30])
        assert connection.recv(65_536) == b""


def test_a_client_that_takes_no_answers_is_cut_off(stage: Any) -> None:
    with serving(stage.service, answer_seconds=0.3) as address, connect(address) as connection:
        connection.settimeout(0.2)
        try:
            for _ in range(20_000):
                connection.sendall(b"GET /docs HTTP/1.1\r\nhost: a\r\n\r\n")
        except (TimeoutError, ConnectionError):
            pass  # nothing is read from it any more, or it is closed already
        with connect(address) as other:
            other.sendall(HEAD + BODY)
            assert status(other) == 200
        connection.settimeout(30)
        try:
            while connection.recv(2**20):
                pass
        except ConnectionError:
            pass  # cut off, and not closed in order


def test_a_client_that_leaves_a_few_answers_untaken_is_cut_off_too(stage: Any) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        with serving(stage.service, answer_seconds=0.3) as address:
            connection.connect(address)
            connection.settimeout(30)
            connection.sendall((HEAD + BODY) * 400)  # their answers do not make it stop reading
            with pytest.raises(ConnectionError):
                send_for_ever(connection)


def test_while_the_slow_are_waited_for_the_others_are_answered(stage: Any) -> None:
    with serving(stage.service) as address, ExitStack() as stack:
        slow = [stack.enter_context(connect(address)) for _ in range(50)]
        for one in slow:
            one.sendall(HEAD + BODY[:4])
        with connect(address) as quick:
            for _ in range(20):
                quick.sendall(HEAD + BODY)
                assert status(quick) == 200
        for one in slow:
            one.sendall(BODY[4:])
        assert {status(one) for one in slow} == {200}


def test_over_capacity_the_surplus_is_refused_and_the_rest_is_answered(staged: Any) -> None:
    stage = staged(capacity=5)
    with serving(stage.service) as address, ExitStack() as stack:
        waiting = [stack.enter_context(connect(address)) for _ in range(5)]
        for one in waiting:
            one.sendall(HEAD + BODY[:4])
        with connect(address) as health:
            health.sendall(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n")
            assert status(health) == 200
        with connect(address) as surplus:
            surplus.sendall(HEAD + BODY)
            data = surplus.recv(65_536)
            assert data.startswith(b"HTTP/1.1 429 ")
            assert b"\r\nretry-after: 1\r\n" in data
        for one in waiting:
            one.sendall(BODY[4:])
        assert [status(one) for one in waiting] == [200] * 5
        with connect(address) as later:
            later.sendall(HEAD + BODY)
            assert status(later) == 200


def test_more_connections_than_are_taken_are_told_so(staged: Any) -> None:
    stage = staged(connections=3)
    with serving(stage.service) as address, ExitStack() as stack:
        taken = [stack.enter_context(connect(address)) for _ in range(3)]
        for one in taken:
            one.sendall(HEAD + BODY)
            assert status(one) == 200
        with connect(address) as surplus:
            data = b"".join(iter(lambda: surplus.recv(65_536), b""))
            head, _, body = data.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 429 ")
            assert json.loads(body)["type"] == "urn:assay:problem:over-capacity"
            assert f"content-length: {len(body)}".encode() in head
        taken[0].close()
        while True:  # until the server has seen the end of it
            with connect(address) as again:
                again.sendall(HEAD + BODY)
                if status(again) == 200:
                    break


def test_the_gate_of_a_server_is_what_its_service_was_told(staged: Any) -> None:
    stage = staged(capacity=7, connections=9)
    gate = HttpServer(stage.service).config.http.keywords["gate"]
    assert replace(gate) == replace(Gate(7, 9), ticks=gate.ticks)
