"""The HTTP server around a service: uvicorn, as this service needs it."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import uvicorn

from assay.serving.http.connection import Connection, Gate
from assay.serving.http.service import Service
from assay.serving.server.descriptors import room_for

if TYPE_CHECKING:
    from assay.serving.grpc.server import GrpcServer
    from assay.serving.server.tls import Certificate, TlsDoor

GRACE_SECONDS = 5
"""How long requests under way may take when the server is told to stop."""


class HttpServer(uvicorn.Server):
    """A server over one service.

    Parameters
    ----------
    started: called when requests are accepted.
    grpc: ``host:port`` where calls over gRPC are answered as well; None for nowhere.
    tls: what is spoken over the network; None for plain HTTP and gRPC. A socket in the file system
        needs none.
    """

    def __init__(
        self,
        service: Service,
        *,
        started: Callable[[], None] = lambda: None,
        grpc: str | None = None,
        tls: Certificate | None = None,
    ) -> None:
        chosen = service.operation
        self._gate = gate = Gate(chosen.capacity, chosen.connections)
        super().__init__(
            uvicorn.Config(
                service,
                loop="uvloop",
                http=partial(Connection, gate=gate, direct=service.direct),  # type: ignore[arg-type] # is called as a class
                lifespan="on",
                log_config=None,
                access_log=False,
                ws="none",
                proxy_headers=False,  # who asks is not asked for
                timeout_keep_alive=75,
                timeout_graceful_shutdown=GRACE_SECONDS,
                server_header=False,
            )
        )
        gate.tasks = self.server_state.tasks
        self._tls = tls
        self._door: TlsDoor | None = None
        self._is_started = started
        self._beside: GrpcServer | None = None
        if grpc is not None:
            from assay.serving.grpc.server import GrpcServer  # an extra

            pair = None if tls is None else (tls.key, tls.chain)
            self._beside = GrpcServer(service, grpc, gate=gate, certificate=pair)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, and say so."""
        if self._tls is None or sockets is None:
            await super().startup(sockets)
        else:
            await super().startup([one for one in sockets if one.family == socket.AF_UNIX])
            self._door = self._door_for(self._tls)
            for one in sockets:
                if one.family != socket.AF_UNIX:
                    self._door.open(one)
        if self._beside is not None:
            await self._beside.start()
        self._is_started()

    def _door_for(self, tls: Certificate) -> TlsDoor:
        """Accepts connections over TLS for what uvicorn would answer plain ones with."""
        from assay.serving.server.tls import TlsDoor

        config, state, gate = self.config, self.server_state, self._gate

        def make() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg] # as in uvicorn
                config=config, server_state=state, app_state=self.lifespan.state
            )

        def is_full(agreeing: Iterable[asyncio.Protocol]) -> bool:
            # Whoever has agreed is among the connections a moment before its task has ended.
            beside = sum(one not in state.connections for one in agreeing)
            return len(state.connections) + beside >= gate.connections

        return TlsDoor(tls, make, is_full, seconds=gate.part_seconds)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, and answer what is under way."""
        if self._door is not None:
            await self._door.close()
        if self._beside is not None:
            await self._beside.stop()
        await super().shutdown(sockets)

    def run_on(self, *listening: socket.socket) -> None:
        """Serve until a signal; returns after everything under way has been answered."""
        self._gate.connections = room_for(self._gate.connections)
        # What is loaded stays. A collector that walks through it stops every request for 0.1 s.
        gc.collect()
        gc.freeze()
        self.run(sockets=list(listening))
