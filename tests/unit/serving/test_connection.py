"""Answers leave whole and in the order of the requests, whichever way they were made."""

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

from assay.serving.http.connection import Connection, JoinedWrites, Turn
from assay.serving.server.http_server import HttpServer

MANIFEST = "a" * 64
HEALTH = b"GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n"


def application_only(service: Any) -> uvicorn.Server:
    """The connection class without anything that answers at once."""
    return uvicorn.Server(
        uvicorn.Config(service, http=Connection, loop="uvloop", log_level="warning")
    )


@pytest.fixture(params=[HttpServer, application_only], ids=["at once", "through the application"])
def address(request: pytest.FixtureRequest, stage: Any) -> Iterator[tuple[str, int]]:
    """Where a server on this connection class answers with the service of the test."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = request.param(stage.service)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[:2]
        finally:
            server.should_exit = True
            thread.join()


def post(path: str, body: bytes, more: str = "", kind: str = "application/json") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: {kind}\r\n"
        f"x-assay-manifest: {MANIFEST}\r\n{more}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def request(first: float, more: str = "") -> bytes:
    return post("/inference/predict", json.dumps({"features": [first, 0.0, 0.0]}).encode(), more)


def answers(text: bytes) -> Iterator[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of whole answers, each of its stated length."""
    while text:
        head, _, rest = text.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        assert len(headers) == len(lines)
        length = int(headers["content-length"])
        yield int(first.split()[1]), headers, rest[:length]
        text = rest[length:]


def read_all(connection: socket.socket) -> bytes:
    parts = iter(lambda: connection.recv(65_536), b"")
    return b"".join(parts)


def predictions(text: bytes) -> list[float]:
    """The predictions of whole answers, each of its stated length, with nothing beside them."""
    found = list(answers(text))
    assert {status for status, _, _ in found} == {200}, text
    return [json.loads(body)["prediction"] for _, _, body in found]


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


INFER = "/inference/predict"
OPEN = "/v2/models/fx_vol/infer"
ASKED = {
    "a prediction": post(INFER, b'{"features": [1.0, 2.0, 3.0]}'),
    "its own id": post(INFER, b'{"features": [1.0, 2.0, 3.0]}', "x-request-id: order-17\r\n"),
    "stored features": post("/predict", b'{"instrument": "USD_SGD"}'),
    "an unknown instrument": post("/predict", b'{"instrument": "USD_SGX"}'),
    "several instruments": post("/predict", b'{"instruments": ["USD_SGD", "nobody"]}'),
    "a batch": post("/inference/batch", b'{"batch": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]}'),
    "too few features": post(INFER, b'{"features": [1.0]}'),
    "not a number": post(INFER, b'{"features": [1.0, NaN, 3.0]}'),
    "no JSON": post(INFER, b"{"),
    "no body": post(INFER, b""),
    "another type": post(INFER, b"features=1", kind="application/x-www-form-urlencoded"),
    "another manifest": post(INFER, b'{"features": [1.0, 2.0, 3.0]}').replace(b"aaaa", b"bbbb"),
    "a deadline that is none": post(INFER, b"{}", "x-deadline-ms: soon\r\n"),
    "a deadline that is over": post(INFER, b"{}", "x-deadline-ms: 0.000001\r\n"),
    "an open inference": post(
        OPEN, b'{"inputs": [{"name": "features", "shape": [1, 3], "datatype": "FP32", '
        b'"data": [1.0, 2.0, 3.0]}]}',
    ),
    "an open inference of nothing": post(OPEN, b'{"inputs": []}'),
    "an open inference elsewhere": post("/v2/models/nobody/infer", b'{"inputs": []}'),
    "a model's name with a slash": post("/v2/models/a/b/infer", b'{"inputs": []}'),
    "a path with a question": post(INFER + "?x=1", b'{"features": [1.0, 2.0, 3.0]}'),
    "a trailer": post(INFER, b"", "transfer-encoding: chunked\r\n").replace(
        b"content-length: 0\r\n", b""
    ) + b'1d\r\n{"features": [1.0, 2.0, 3.0]}\r\n0\r\nx-assay-manifest: bb\r\n\r\n',
    "a body too long": post(INFER, b" " * 30_000 + b"{}"),
}  # fmt: skip
VARIES = {"latency_ms", "timestamp"}


def told(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """The next answer, without what differs from one to the next."""
    text = b""
    while True:
        text += connection.recv(65_536)
        head, _, rest = text.partition(b"\r\n\r\n")
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if length and len(rest) == int(length):
            break
    ((status, headers, body),) = answers(text)
    assert headers.pop("x-request-id").startswith(("local-", "order-17"))
    headers.pop("date")
    headers.pop("server", None)
    headers.pop("content-length")
    document = json.loads(body)
    return status, headers, {key: it for key, it in document.items() if key not in VARIES}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_a_request_in_one_piece_is_answered_as_one_in_two(
    address: tuple[str, int], asked: bytes
) -> None:
    with (
        closing(socket.create_connection(address, timeout=30)) as whole,
        closing(socket.create_connection(address, timeout=30)) as parts,
    ):
        whole.sendall(asked)
        middle = asked.index(b"\r\n\r\n") + 4
        parts.sendall(asked[:middle])
        parts.sendall(asked[middle:])
        once, twice = told(whole), told(parts)
        assert once[0] == twice[0]
        if "deadline" not in str(once[2].get("type", "")):  # tells by how much it is over
            assert once == twice


def test_requests_of_both_ways_sent_at_once_are_answered_in_order(
    address: tuple[str, int],
) -> None:
    many = [request(1.0), HEALTH, request(2.0), HEALTH, HEALTH, request(3.0)]
    with closing(socket.create_connection(address, timeout=30)) as connection:
        connection.sendall(b"".join(many) + request(4.0, "connection: close\r\n"))
        found = [json.loads(body) for _, _, body in answers(read_all(connection))]
    assert [one.get("prediction") for one in found] == [1.0, None, 2.0, None, None, 3.0, 4.0]


def test_nothing_behind_the_last_answer_of_a_connection_is_done(
    address: tuple[str, int], stage: Any
) -> None:
    first = request(1.0, "connection: keep-alive\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")
    with closing(socket.create_connection(address, timeout=30)) as connection:
        connection.sendall(first + request(2.0) + post("/kill", b'{"by": "x", "reason": "y"}'))
        assert predictions(read_all(connection)) == [1.0]
    assert sum(stage.service.metrics.predictions.values()) == 1
    stage.service.predictor.check_switch()


def test_a_client_that_sends_much_at_once_does_not_keep_others_waiting(stage: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = HttpServer(stage.service)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            address = listening.getsockname()[:2]
            with (
                closing(socket.create_connection(address, timeout=30)) as many,
                closing(socket.create_connection(address, timeout=30)) as one,
            ):
                one.sendall(request(1.0))
                assert one.recv(65_536)
                many.sendall(request(2.0) * 1_000)
                one.sendall(request(3.0))
                assert one.recv(65_536)
                assert sum(stage.service.metrics.predictions.values()) < 1_000
        finally:
            server.should_exit = True
            thread.join()


def test_a_client_of_http_1_0_is_answered_and_the_connection_closed(
    address: tuple[str, int],
) -> None:
    with closing(socket.create_connection(address, timeout=30)) as connection:
        connection.sendall(request(5.0).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert predictions(read_all(connection)) == [5.0]


def test_a_client_that_waits_to_be_asked_for_its_body_is(address: tuple[str, int]) -> None:
    asked = request(6.0, "expect: 100-continue\r\n")
    middle = asked.index(b"\r\n\r\n") + 4
    with closing(socket.create_connection(address, timeout=30)) as connection:
        connection.sendall(asked[:middle])
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(asked[middle:])
        assert predictions(connection.recv(65_536)) == [6.0]


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
            joined = JoinedWrites(transport, Turn())
            joined.write(b"head, ")
            joined.write(b"body, ")
            joined.write(b"the next answer, ")
            joined.write(b"and")
            joined.close()
            return theirs.recv(100)

    assert asyncio.run(closed_at_once()) == b"head, body, the next answer, and"


def test_what_one_connection_cannot_send_keeps_nothing_from_the_others() -> None:
    async def sent() -> tuple[list[str], list[BaseException]]:
        done: list[str] = []
        told: list[BaseException] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        turn = Turn()

        def fails() -> None:
            raise RuntimeError("the handler is closed")

        turn.put_off(lambda: done.append("first"))
        turn.put_off(fails)
        turn.put_off(lambda: done.append("last"))
        await asyncio.sleep(0)
        return done, told

    done, told = asyncio.run(sent())
    assert done == ["first", "last"]
    assert [str(error) for error in told] == ["the handler is closed"]
