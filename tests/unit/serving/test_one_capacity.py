"""A process takes as many requests as it was told to, by whatever face of the service they come."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from assay.serving.server.http_server import HttpServer
from assay.testing.waiting import until

grpc = pytest.importorskip("grpc", reason="pip install assay[grpc]")

from assay.serving.grpc.messages import MESSAGES, SERVICE  # noqa: E402

BODY = json.dumps({"features": [1.0, 2.0, 3.0]}).encode()
HEAD = (
    b"POST /inference/predict HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
    b"x-assay-manifest: " + b"a" * 64 + b"\r\ncontent-length: %d\r\n\r\n" % len(BODY)
)
MANIFEST = ("x-assay-manifest", "a" * 64)
ASKED = MESSAGES["ModelInferRequest"](
    model_name="fx_vol",
    inputs=[{"name": "features", "datatype": "FP64", "shape": [1, 3]}],
    raw_input_contents=[struct.pack("<3d", 1.0, 2.0, 3.0)],
).SerializeToString()
WORDS = "3 requests are under way in this process: expected at most 3"


class Both:
    """A service with three places, asked over HTTP and gRPC."""

    def __init__(self, server: HttpServer, address: tuple[str, int], channel: Any) -> None:
        self.gate = server.config.http.keywords["gate"]  # type: ignore[union-attr]
        self._address = address
        self._channel = channel

    def hold_http(self, stack: ExitStack) -> socket.socket:
        """A request over HTTP whose body has not come whole."""
        connection = stack.enter_context(
            closing(socket.create_connection(self._address, timeout=30))
        )
        taken = self.gate.under_way
        connection.sendall(HEAD + BODY[:4])
        until(lambda: self.gate.under_way == taken + 1, "the server has read the head")
        return connection

    def hold_call(self) -> tuple[Any, threading.Event]:
        """A call whose message has not come; it comes after the event."""
        may_go = threading.Event()

        def messages() -> Iterator[bytes]:
            assert may_go.wait(30)
            yield ASKED

        taken = self.gate.under_way
        stream = self._channel.stream_unary(f"/{SERVICE}/ModelInfer")
        call = stream.future(messages(), metadata=(MANIFEST,), timeout=30)
        until(lambda: self.gate.under_way == taken + 1, "the server has read the head")
        return call, may_go

    def ask_slowly(self, method: str, stack: ExitStack) -> None:
        """A call whose message does not come while the stack is open."""
        end = threading.Event()

        def messages() -> Iterator[bytes]:
            end.wait(30)
            yield from ()

        call = self._channel.stream_unary(f"/{SERVICE}/{method}").future(messages(), timeout=30)
        stack.callback(call.cancel)
        stack.callback(end.set)

    def post(self) -> tuple[int, Any]:
        """A whole prediction over HTTP."""
        with closing(socket.create_connection(self._address, timeout=30)) as connection:
            connection.sendall(HEAD + BODY)
            head, _, body = connection.recv(65_536).partition(b"\r\n\r\n")
            return int(head.split(b" ", 2)[1]), json.loads(body)

    def call(self, method: str = "ModelInfer", data: bytes = ASKED) -> Any:
        """A whole call: its answer or its error."""
        try:
            return self._channel.unary_unary(f"/{SERVICE}/{method}")(
                data, metadata=(MANIFEST,), timeout=30
            )
        except grpc.RpcError as error:
            return error


@contextmanager
def both(stage: Any) -> Iterator[Both]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()[:2]
        begun = threading.Event()
        server = HttpServer(stage.service, started=begun.set, grpc="127.0.0.1:0")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert begun.wait(30)
            assert server._beside is not None
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(f"127.0.0.1:{server._beside.port}", options) as channel:
                yield Both(server, address, channel)
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize("over_http", [3, 2, 0])
def test_what_waits_on_one_face_takes_its_place_on_the_other(staged: Any, over_http: int) -> None:
    with both(staged(capacity=3)) as asked, ExitStack() as stack:
        bodies = [asked.hold_http(stack) for _ in range(over_http)]
        calls = [asked.hold_call() for _ in range(3 - over_http)]
        status, problem = asked.post()
        assert (status, problem["type"]) == (429, "urn:assay:problem:over-capacity")
        assert (problem["detail"], problem["found"], problem["expected"]) == (WORDS, 3, 3)
        refused = asked.call()
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.details().startswith(WORDS)
        assert dict(refused.trailing_metadata())["x-assay-problem"] == problem["type"]
        # Whether the service is there is told however much it has to do.
        alive = MESSAGES["ServerLiveResponse"].FromString(asked.call("ServerLive", b""))
        assert alive.live
        for connection in bodies:
            connection.sendall(BODY[4:])
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        for call, may_go in calls:
            may_go.set()
            made = MESSAGES["ModelInferResponse"].FromString(call.result())
            assert struct.unpack("<d", made.raw_output_contents[0]) == (321.0,)
        until(lambda: asked.gate.under_way == 0, "every place is free again")
        assert asked.post()[0] == 200
        assert isinstance(asked.call(), bytes)


def test_what_is_not_refused_for_want_of_a_place_takes_none(staged: Any) -> None:
    with both(staged(capacity=3)) as asked, ExitStack() as stack:
        for _ in range(6):
            asked.ask_slowly("ServerLive", stack)
        assert isinstance(asked.call("ServerLive", b""), bytes)  # came after them, by the same way
        assert asked.gate.under_way == 0
        assert asked.post()[0] == 200
        assert isinstance(asked.call(), bytes)
