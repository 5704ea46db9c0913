"""Connections whose answers leave in one piece.

uvicorn writes an answer's head and its body one after the other, and each write is a call into the
kernel that wakes the client. Written together they cost one, the client wakes once, and the answers
to requests that came together are made one after the other before the first of them is sent.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


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


class Connection(HttpToolsProtocol):
    """One connection of the service's HTTP server: ``uvicorn.Config(http=Connection)``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        joined = JoinedWrites(transport, self.loop)
        self._flush = joined.flush
        super().connection_made(cast("asyncio.Transport", joined))

    def eof_received(self) -> None:
        """The client will send no more; the event loop closes the connection after this."""
        self._flush()
