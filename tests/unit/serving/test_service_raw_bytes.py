"""A real server is sent bytes that no client would send: each is refused, and none does harm."""

from __future__ import annotations

import json
import logging
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from assay.serving.server.http_server import HttpServer

BODY = b'{"features": [1.0, 2.0, 3.0]}'
FIELDS = b"host: a\r\ncontent-type: application/json\r\nx-assay-manifest: " + b"a" * 64 + b"\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
UPGRADE = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"


def post(
    more: bytes = b"", body: bytes = BODY, *, path: bytes = b"/inference/predict", length: Any = 0
) -> bytes:
    size = b"" if length is None else b"content-length: %d\r\n" % (length or len(body))
    return b"POST " + path + b" HTTP/1.1\r\n" + FIELDS + more + size + b"\r\n" + body


def get(path: bytes = b"/health/live", more: bytes = b"") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nhost: a\r\n" + more + b"\r\n"


GOOD = post()
RAW: dict[str, tuple[bytes, int]] = {
    "a byte beyond ASCII in the path": (get(b"/\xff"), 400),
    "an escaped byte that is no UTF-8": (get(b"/%ff%00"), 404),
    "a host that is none": (get(b"http://[::1/health"), 400),
    "a port that is none": (get(b"http://a:999999999/health"), 400),
    "a tunnel": (b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "the server as a whole": (b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", 404),
    "the next version": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a socket of another protocol": (get(more=UPGRADE), 200),
    "the same instead of a body": (post(UPGRADE), 400),
    "two lengths": (post(b"content-length: 5\r\n"), 400),
    "a negative length": (post(length=-5), 400),
    "a length beyond 64 bits": (post(length=10**30), 400),
    "a length and chunks": (post(CHUNKED), 400),
    "a chunk whose length is none": (post(CHUNKED, b"zz\r\n", length=None), 400),
    "an encoding that is none": (post(b"transfer-encoding: gzip\r\n", length=None), 400),
    "a line break alone": (b"GET /health/live HTTP/1.1\nhost: a\n\n", 400),
    "a line break inside": (get(more=b"x-request-id: a\rb\r\n"), 400),
    "a zero byte": (get(more=b"x: \x00\r\n"), 400),
    "an id beyond ASCII": (get(more=b"x-request-id: \xff\xfe\r\n"), 200),
    "a manifest beyond ASCII": (post(b"x-assay-manifest: \xff\r\n"), 409),
    "a deadline beyond ASCII": (post(b"x-deadline-ms: \xff\r\n"), 422),
    "a deadline that is over": (post(b"x-deadline-ms: 0.000001\r\n"), 504),
    "a kind beyond ASCII": (post(b"content-type: \xff\xfe\r\n"), 415),
    "a kind of the web": (post(b"content-type: text/plain\r\n"), 415),
    "a path without an end": (get(b"/" + b"a" * 500_000), 431),
    "a value without an end": (get(more=b"x: " + b"a" * 4_000_000), 431),
    "names without an end": (get(more=b"a: b\r\n" * 600_000), 431),
    "a body too large": (post(body=b" " * 30_000), 413),
    "chunks too large": (
        post(CHUNKED, (b"1000\r\n" + b" " * 4_096 + b"\r\n") * 50, length=None), 413
    ),
    "a tensor longer than its body": (
        post(b"inference-header-content-length: 99999\r\n", path=b"/v2/models/fx_vol/infer"), 422
    ),
    "the beginning of encryption": (bytes.fromhex("1603010200010001fc0303") + bytes(500), 400),
    "what a proxy says first": (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n" + GOOD, 400),
}  # fmt: skip


@contextmanager
def serving(service: Any) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        begun = threading.Event()
        server = HttpServer(service, started=begun.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert begun.wait(30)
            yield listening.getsockname()[:2]
        finally:
            server.should_exit = True
            thread.join()


def send(address: tuple[str, int], data: bytes, *, ends: bool = False) -> int:
    """The status of the first answer to some bytes, 0 where the connection was closed instead.

    A client that ``ends`` says that nothing more will come, so that nobody waits for it.
    """
    with closing(socket.create_connection(address, timeout=30)) as connection:
        try:
            connection.sendall(data)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before everything was sent; the answer may still be here
        try:
            first = connection.recv(65_536)
        except ConnectionError:
            return 0
    return int(first.split(b" ", 2)[1]) if first.startswith(b"HTTP/1.1 ") else 0


def check(address: tuple[str, int]) -> None:
    with closing(socket.create_connection(address, timeout=30)) as connection:
        connection.sendall(GOOD)
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["prediction"] == 321.0


def defects(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_bytes_that_no_client_sends_are_refused_and_the_next_request_is_answered(
    stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    found = {}
    with serving(stage.service) as address:
        for name, (data, _) in RAW.items():
            found[name] = send(address, data)
            check(address)
    # A client that is still sending when it is refused may see its connection reset instead.
    late = {"a value without an end", "names without an end", "chunks too large"}
    expected = {name: status for name, (_, status) in RAW.items()}
    assert {
        name: (found[name], expected[name])
        for name in RAW
        if found[name] != expected[name] and not (name in late and found[name] == 0)
    } == {}
    assert defects(caplog) == []


def test_large_requests_sent_at_once_are_not_taken_for_a_head_without_an_end(stage: Any) -> None:
    body = json.dumps({"batch": [[1.0, 2.0, 3.0]] * 1_000}).encode()
    sent = post(path=b"/inference/batch", body=body) * 6 + GOOD
    with (
        serving(stage.service) as address,
        closing(socket.create_connection(address, timeout=30)) as connection,
    ):
        cut = len(sent) - len(GOOD) + 40
        connection.sendall(sent[:cut])
        answers = b""
        while answers.count(b"HTTP/1.1 200 ") < 6:
            answers += connection.recv(65_536)
        connection.sendall(sent[cut:])
        while answers.count(b"HTTP/1.1 200 ") < 7:
            more = connection.recv(65_536)
            assert more
            answers += more


def damaged(generator: random.Random) -> bytes:
    """A request with some of its bytes changed, left out, or put in twice; or mere noise."""
    if generator.random() < 0.1:
        return generator.randbytes(generator.randrange(1, 400))
    paths = (b"/predict", b"/inference/predict", b"/inference/batch", b"/v2/models/fx_vol/infer",
             b"/feedback", b"/model/reload", b"/health")  # fmt: skip
    data = bytearray(post(path=generator.choice(paths)))
    for _ in range(generator.randrange(1, 6)):
        at = generator.randrange(len(data))
        match generator.randrange(4):
            case 0:
                data[at] = generator.randrange(256)
            case 1:
                del data[at : at + generator.randrange(1, 20)]
            case 2:
                data[at:at] = generator.randbytes(generator.randrange(1, 8))
            case _:
                data[at:at] = data[at : at + generator.randrange(1, 40)]
        if not data:
            return b"\x00"
    return bytes(data)


@pytest.mark.parametrize("trials", [200, pytest.param(20_000, marks=pytest.mark.long)])
def test_damaged_requests_never_get_a_defect_nor_do_harm(
    stage: Any, caplog: pytest.LogCaptureFixture, trials: int
) -> None:
    generator = random.Random(1)
    seen = set()
    with serving(stage.service) as address:
        for trial in range(trials):
            status = send(address, damaged(generator), ends=True)
            assert status != 500, f"trial {trial}"
            seen.add(status)
        check(address)
    assert seen >= {0, 400, 422}
    assert defects(caplog) == []
