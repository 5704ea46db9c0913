"""Connections that answer predictions where they read them, and whose number and patience are
bounded.

Between a request's last byte and an application stand a task, an event, and messages for the body,
the head and the body of the answer: half of what a prediction costs. A whole request to a
prediction route needs none of them, because nothing that it asks for has to be waited for: it is
answered from the parser's callback. Everything else goes uvicorn's way.

A request that comes while too many are under way is marked when its head has been read, so that it
is refused in its turn for little; connections beyond a number are refused before anything is read.
Once in a while all connections are looked at, and those that keep a part of a request back, or do
not take their answer, are closed. The requests themselves do nothing for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from assay.serving.requests.asgi import LATE, Direct, Headers
from assay.serving.requests.reception import ARRIVED, REFUSED

_LOOK_SECONDS = 0.25
_AT_ONCE = 8
"""Requests of one connection that are answered in one turn; the others of it wait for theirs."""
_CLOSE = (b"connection", b"close")
_NOTHING = Direct(lambda _: None, lambda *_: None)
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


class Turn:
    """A turn of the event loop: what is put off to its end, and what is looked at once in it.

    It begins with the first request that it brings. All others that it brings had come by then.
    """

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []
        self._is_looked = False

    def put_off(self, call: Callable[[], None]) -> None:
        """Call at the end of this turn."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._end)
        self._waiting.append(call)

    def look(self, direct: Direct) -> None:
        """Begin with what is answered at once."""
        if not self._is_looked:
            self._is_looked = True
            direct.begin()
            self.put_off(direct.end)

    def _end(self) -> None:
        waiting, self._waiting, self._is_looked = self._waiting, [], False
        for call in waiting:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - the others are no worse off for it
                context = {"message": "at the end of a turn", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


@dataclass(slots=True)
class Gate:
    """How much is let in to one server, and how long it may take to come in.

    Attributes
    ----------
    capacity: requests under way, by whatever face of the service. connections: open ones, of HTTP.
    head_bytes: after which a head that has not ended is refused.
    part_seconds: that a head or a body may take to come whole.
    idle_seconds: that a new connection may say nothing.
    answer_seconds: from a request's arrival until its client has taken the answer.
    ticks: nanoseconds on a clock that never goes back.
    turn: of the server's event loop.
    tasks: the requests of HTTP that are under way; the server's own collection.
    beside: the requests of other faces of the service, which count theirs here.
    """

    capacity: int = 256
    connections: int = 1_024
    head_bytes: int = 65_536
    part_seconds: float = 10.0
    idle_seconds: float = 75.0
    answer_seconds: float = 60.0
    ticks: Callable[[], int] = perf_counter_ns
    turn: Turn = field(default_factory=Turn, init=False, compare=False)
    tasks: Collection[Any] = field(default=(), init=False, compare=False)
    beside: int = field(default=0, init=False, compare=False)
    _looking: bool = field(default=False, init=False)
    _named: Headers = field(default=(), init=False, compare=False)
    _head: bytes = field(default=b"", init=False, compare=False)

    @property
    def under_way(self) -> int:
        """How many requests are."""
        return len(self.tasks) + self.beside

    def head(self, named: Headers) -> bytes:
        """The lines of the headers of all answers, which uvicorn exchanges every second."""
        if named is not self._named:
            self._head = b"".join(b"%b: %b\r\n" % pair for pair in named)
            self._named = named
        return self._head

    def look(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        """Look after a server's connections from now on."""
        if not self._looking:
            self._looking = True
            loop.call_later(_LOOK_SECONDS, self._look, loop, connections)

    def _look(self, loop: asyncio.AbstractEventLoop, connections: set[Any]) -> None:
        if connections:
            loop.call_later(_LOOK_SECONDS, self._look, loop, connections)
        else:
            self._looking = False
        now = self.ticks()
        for one in list(connections):
            if isinstance(one, Connection):
                one.look_after(now)


class JoinedWrites:
    """A transport that sends what is written in one turn of the event loop at once.

    An application's answer comes as a head and a body, and each of them sent alone would wake the
    client. A write that wakes somebody also costs more than making an answer, so the answers to
    requests that came together are made one after the other before the first of them is sent.
    """

    def __init__(self, transport: asyncio.Transport, turn: Turn) -> None:
        self._transport = transport
        self._turn = turn
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send ``data`` at the end of this turn."""
        if not self._waiting:
            self._turn.put_off(self.flush)
        self._waiting.append(data)

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._transport.write(data)

    def forget(self) -> None:
        """Send nothing of it: there is nobody to send it to."""
        self._waiting.clear()

    def close(self) -> None:
        """Send what waits, and close."""
        self.flush()
        self._transport.close()


class Connection(HttpToolsProtocol):
    """One connection of the service's HTTP server.

    ``uvicorn.Config(http=Connection)``, or ``http=partial(Connection, gate=Gate(...))``.

    Parameters
    ----------
    direct: answers whole requests to some paths at once, without a task and messages between; None
        for none. Everything else about HTTP is uvicorn's: a request whose body comes in parts, that
        is too many, or whose answer has to wait goes the way of any ASGI application.
    """

    def __init__(
        self, *given: Any, gate: Gate | None = None, direct: Direct | None = None, **named: Any
    ) -> None:
        super().__init__(*given, **named)
        self._gate = gate or Gate()
        self._capacity = self._gate.capacity
        self._ticks = self._gate.ticks
        self._direct = direct or _NOTHING
        self._path: str | None = None  # of a request that may be answered at once
        self._arrived = 0
        self._held: bytes | None = None  # its body so far
        self._in_head = False
        self._head_of = self._head_size = 0
        self._messages = 0
        self._seen = (0, False)
        self._seen_at = 0
        self._quick = 0  # answered in this turn
        self._is_ended = False  # an answer said that it was the last one
        self._full_since: int | None = None

    # -- what the event loop and the parser call ---------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or refuse to."""
        self._joined = JoinedWrites(transport, self._gate.turn)
        if len(self.connections) >= self._gate.connections:
            self.transport = transport
            transport.write(_FULL % (len(_FULL_BODY), _FULL_BODY))
            transport.close()
            return
        self._seen_at = self._ticks()
        self._gate.look(self.loop, self.connections)
        super().connection_made(cast("asyncio.Transport", self._joined))

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._quick = 0
        super().data_received(data)
        if self._held is not None and not self.transport.is_closing():
            self._take_long_way()  # its body is not whole: somebody has to wait for it
        if not self._in_head:
            return
        if self._messages != self._head_of:
            # What stands before a head in the same piece belongs to the request before it.
            self._head_of, self._head_size = self._messages, 0
            return
        self._head_size += len(data)  # the parser would keep a head that never ends whole
        if self._head_size > self._gate.head_bytes and not self.transport.is_closing():
            body = _HEAD_BODY % self._gate.head_bytes
            self.transport.write(_HEAD % (len(body), body))
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to read a request. uvicorn begins it again where it goes the long way."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._messages += 1
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what follows a body is none."""
        if self._in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Hold a request back that may be answered at once, and hand every other one on."""
        self._in_head = False
        if self._is_ended:
            return
        self._arrived = self._ticks()
        self._path = self._direct.path_of(self.url)
        if (
            self._path is not None
            and self._quick < _AT_ONCE
            and self.parser.get_method() == b"POST"
            and not self._is_busy()
            and len(self.tasks) + self._gate.beside < self._capacity
            and not self.flow.write_paused
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
        ):
            self._held = b""
        else:
            self._hand_on()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        if self._is_ended:
            return
        if self._held is None:
            super().on_body(body)
        else:
            self._held = self._held + body if self._held else body

    def on_message_complete(self) -> None:
        """Answer at once, or let the application go on."""
        if self._is_ended:
            return
        if self._held is None or not self._answer_at_once(self._held):
            super().on_message_complete()

    def eof_received(self) -> None:
        """The client will send no more; the event loop closes the connection after this."""
        self._joined.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or has been sent everything."""
        self._joined.forget()
        super().connection_lost(exc)

    # -- the two ways ------------------------------------------------------------------------------

    def _answer_at_once(self, body: bytes) -> bool:
        assert self._path is not None
        self._gate.turn.look(self._direct)
        found = self._direct.answer(self._path, self.headers, body, self._arrived)
        if found is None:
            self._take_long_way()
            return False
        self._held = None
        status, content, kind, headers = found
        parts = [STATUS_LINE[status], self._gate.head(self.server_state.default_headers)]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"content-type: %b\r\ncontent-length: %d\r\n" % (kind, len(content)))
        if _CLOSE in headers:
            stays = False
            parts.append(b"\r\n")
        else:
            stays = self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1"
            parts.append(b"\r\n" if stays else b"connection: close\r\n\r\n")
        parts.append(content)
        self._joined.write(b"".join(parts))
        self.server_state.total_requests += 1
        self._quick += 1
        if not stays:
            self._is_ended = True
            self.transport.close()
        return True

    def _take_long_way(self) -> None:
        body, self._held = self._held, None
        self._hand_on()
        if body:
            super().on_body(body)

    def _hand_on(self) -> None:
        """Let uvicorn and the application have a request whose head has been read, marked with the
        time, and with how many there were if it is too many.
        """
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)
        scope = cast("dict[str, Any]", self.scope)
        scope[ARRIVED] = self._arrived
        under_way = len(self.tasks) + self._gate.beside
        if under_way >= self._capacity:
            scope[REFUSED] = (under_way, self._capacity)
        super().on_headers_complete()

    def _is_busy(self) -> bool:
        """Whether a request is under way on the long way."""
        cycle = cast("Any", self.cycle)  # None before the first one, whatever its type says
        return cycle is not None and not cycle.response_complete

    def look_after(self, now: int) -> None:
        """Tell a request that its body is late; close a connection whose client is, or that takes
        no answer.
        """
        gate = self._gate
        if not self._joined.get_write_buffer_size():
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now - self._full_since > gate.answer_seconds * 1e9:
            self._joined.abort()  # it does not take what it was sent
            return
        if self._is_busy():
            cycle = self.cycle
            scope = cast("dict[str, Any]", cycle.scope)
            age = (now - scope.get(ARRIVED, now)) / 1e9
            if age > gate.answer_seconds:
                self.transport.abort()
            elif cycle.more_body and age > gate.part_seconds and LATE not in scope:
                scope[LATE] = gate.part_seconds
                cycle.message_event.set()
            return
        state = (self._messages, self._in_head)
        limit = gate.part_seconds if self._in_head else gate.idle_seconds
        if state != self._seen:
            self._seen, self._seen_at = state, now
        elif now - self._seen_at > limit * 1e9:
            self.transport.close()
