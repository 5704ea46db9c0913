"""Connections whose answers leave in one piece, and whose number and patience are bounded.

uvicorn writes an answer's head and its body one after the other, and each write is a call into the
kernel that wakes the client. Written together they cost one, the client wakes once, and the answers
to requests that came together are made one after the other before the first of them is sent.

A request that comes while too many are under way is marked when its head has been read, so that it
is refused in its turn for little; connections beyond a number are refused before anything is read.
Once in a while all connections are looked at, and those that keep a part of a request back, or do
not take their answer, are closed. The requests themselves do nothing for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from assay.serving.asgi import LATE
from assay.serving.reception import ARRIVED, REFUSED

_LOOK_SECONDS = 0.25
_HEAD = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s"
)
_HEAD_BODY = (
    b'{"type":"urn:assay:problem:head-too-large","title":"The head of the request is too large",'
    b'"status":431,"detail":"the head of the request does not end","found":null,'
    b'"expected":"at most %d bytes"}'
)
_FULL = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/problem+json\r\n"
    b"retry-after: 1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
)
_FULL_BODY = (
    b'{"type":"urn:assay:problem:over-capacity","title":"More requests are under way than are '
    b'taken","status":429,"detail":"too many connections","found":null,"expected":"fewer '
    b'connections, each used for many requests"}'
)


@dataclass(slots=True)
class Gate:
    """How much is let in to one server, and how long it may take to come in.

    Attributes
    ----------
    capacity: requests under way. connections: open ones.
    head_bytes: after which a head that has not ended is refused.
    part_seconds: that a head or a body may take to come whole.
    idle_seconds: that a new connection may say nothing.
    answer_seconds: from a request's arrival until its client has taken the answer.
    ticks: nanoseconds on a clock that never goes back.
    """

    capacity: int = 256
    connections: int = 1_024
    head_bytes: int = 65_536
    part_seconds: float = 10.0
    idle_seconds: float = 75.0
    answer_seconds: float = 60.0
    ticks: Callable[[], int] = perf_counter_ns
    _looking: bool = field(default=False, init=False)

    def look(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        """Look after a server's connections from now on."""
        if not self._looking:
            self._looking = True
            loop.call_later(_LOOK_SECONDS, self._look, loop, connections)

    def _look(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        now = self.ticks()
        for one in list(connections):
            if isinstance(one, Connection):
                one.look_after(now)
        if connections:
            loop.call_later(_LOOK_SECONDS, self._look, loop, connections)
        else:
            self._looking = False


class JoinedWrites:
    """A transport that sends what is written in one turn of the event loop at once.

    Answers of the service are whole, so no more waits than the answers of one turn.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send ``data`` at the end of this turn."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._transport.write(data)

    def close(self) -> None:
        """Send what waits, and close."""
        self.flush()
        self._transport.close()


class Exchange(RequestResponseCycle):
    """One request and its answer. A whole answer of ours leaves without being taken apart first:
    its headers need none of the checks that those of any application do.
    """

    def send_whole(self, status: int, body: bytes, kind: bytes, request_id: bytes) -> bool:
        """Send an answer; False where it has to go the long way.

        Parameters
        ----------
        request_id: checked before, as nothing else that a client sent gets into a head.
        """
        if self.response_started or self.waiting_for_100_continue or self.flow.write_paused:
            return False
        if self.disconnected:
            return True
        parts = [STATUS_LINE[status]]
        for name, value in self.default_headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(
            b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
            % (kind, len(body), request_id)
        )
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        parts.append(body)
        self.transport.write(b"".join(parts))
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True


class Connection(HttpToolsProtocol):
    """One connection of the service's HTTP server.

    ``uvicorn.Config(http=Connection)``, or ``http=partial(Connection, gate=Gate(...))``.
    """

    def __init__(self, *given: Any, gate: Gate | None = None, **named: Any) -> None:
        super().__init__(*given, **named)
        self._gate = gate or Gate()
        self._capacity = self._gate.capacity
        self._ticks = self._gate.ticks
        self._flush: Callable[[], None] = lambda: None
        self._head: object = None
        self._head_size = 0
        self._part: object = None
        self._part_since = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or refuse to."""
        if len(self.connections) >= self._gate.connections:
            self.transport = transport
            transport.write(_FULL % (len(_FULL_BODY), _FULL_BODY))
            transport.close()
            return
        self._gate.look(self.loop, self.connections)
        joined = JoinedWrites(transport, self.loop)
        self._flush = joined.flush
        super().connection_made(cast("asyncio.Transport", joined))

    def data_received(self, data: bytes) -> None:
        """Hand what came to the parser, which would keep a head that never ends whole."""
        HttpToolsProtocol.data_received(self, data)
        begun: Any = self.scope  # None before the first request; has a path when a head is whole
        if begun is None or "path" in begun:
            return
        if begun is not self._head:
            # What stands before a head in the same piece belongs to the request before it.
            self._head, self._head_size = begun, 0
            return
        self._head_size += len(data)
        if self._head_size > self._gate.head_bytes and not self.transport.is_closing():
            body = _HEAD_BODY % self._gate.head_bytes
            self.transport.write(_HEAD % (len(body), body))
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Mark a request with the time, and with how many there were if it is too many."""
        scope = cast("dict[str, Any]", self.scope)
        scope[ARRIVED] = self._ticks()
        under_way = len(self.tasks)
        if under_way >= self._capacity:
            scope[REFUSED] = (under_way, self._capacity)
        super().on_headers_complete()
        # None where another protocol was asked for. uvicorn leaves no other way to its class.
        if self.cycle is not None:
            self.cycle.__class__ = Exchange

    def eof_received(self) -> None:
        """The client will send no more; the event loop closes the connection after this."""
        self._flush()

    def look_after(self, now: int) -> None:
        """Tell a request that its body is late; close a connection whose client is."""
        gate = self._gate
        # None before the first request, whatever their types say.
        cycle, begun = cast("Any", self.cycle), cast("Any", self.scope)
        if cycle is not None and not cycle.response_complete:
            scope: dict[str, Any] = cycle.scope
            age = (now - scope.get(ARRIVED, now)) / 1e9
            if age > gate.answer_seconds:
                self.transport.abort()
            elif cycle.more_body and age > gate.part_seconds and LATE not in scope:
                scope[LATE] = gate.part_seconds
                cycle.message_event.set()
            return
        # A scope has a path from when the head is whole.
        part: object = self if begun is None else begun
        if begun is not None and "path" in begun:
            self._part = None
        elif part is not self._part:
            self._part, self._part_since = part, now
        else:
            limit = gate.idle_seconds if begun is None else gate.part_seconds
            if now - self._part_since > limit * 1e9:
                self.transport.close()
