"""Health checks as they are standard over gRPC: the service ``grpc.health.v1.Health``.

Names and numbers are those of https://github.com/grpc/grpc, src/proto/grpc/health/v1/health.proto;
they must never change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from assay.serving.grpc.messages import SERVICE, message_classes
from assay.serving.rejections import OVER_CAPACITY, UNKNOWN_PATH, Rejected

HEALTH_SERVICE: Final = "grpc.health.v1.Health"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
# The status is an enumeration there; on the wire that is an int32.
HEALTH_MESSAGES: Final = message_classes(
    "grpc.health.v1",
    {"HealthCheckRequest": "string service = 1", "HealthCheckResponse": "int32 status = 1"},
)
"""The class of each message, by its name without the package."""
_KNOWN: Final = ("", SERVICE)
_LOOK_SECONDS: Final = 0.25


class Health:
    """Says whether predictions are answered: once, or for as long as somebody watches.

    Belongs to one event loop.

    Parameters
    ----------
    ready: whether they are answered, as ``GET /health/ready`` finds it.
    look_seconds: how often that is asked while somebody watches.
    """

    def __init__(self, ready: Callable[[], bool], *, look_seconds: float = _LOOK_SECONDS) -> None:
        self._ready = ready
        self._look_seconds = look_seconds
        self._stopping = False
        self._watching = 0
        self._looks = False
        self._seen = False
        self._changed = asyncio.Event()

    def check(self, service: str) -> bytes:
        """The status of a service, as a message.

        Raises
        ------
        Rejected: there is no such service.
        """
        if service not in _KNOWN:
            raise Rejected(
                UNKNOWN_PATH, f"no service {service[:120]!r} is here",
                found=service, expected=list(_KNOWN),
            )  # fmt: skip
        return _message(self._status())

    async def watch(
        self, service: str, send: Callable[[bytes], Awaitable[None]], *, most: int
    ) -> None:
        """Send the status of a service, and again whenever it is another, until the server stops.

        Parameters
        ----------
        send: sends a message. most: how many may watch at once.

        Raises
        ------
        Rejected: there are too many.
        """
        if self._watching >= most:
            raise Rejected(
                OVER_CAPACITY,
                f"{self._watching} watch the health of this process: expected at most {most}",
                found=self._watching, expected=most, hint="ask Check from time to time instead",
            )  # fmt: skip
        self._watching += 1
        told = 0
        try:
            self._look()
            self._look_on()
            while True:
                changed = self._changed
                status = SERVICE_UNKNOWN
                if service in _KNOWN:
                    status = NOT_SERVING if self._stopping or not self._seen else SERVING
                if status != told:
                    await send(_message(status))
                    told = status
                if self._stopping:
                    return
                await changed.wait()
        finally:
            self._watching -= 1

    def stop(self) -> None:
        """Say that nothing is answered any more, and let go of those who watch."""
        self._stopping = True
        self._wake()

    def _status(self) -> int:
        return SERVING if self._ready() and not self._stopping else NOT_SERVING

    def _look(self) -> None:
        """Ask once for all who watch."""
        ready = self._ready()
        if ready != self._seen:
            self._seen = ready
            self._wake()

    def _look_on(self) -> None:
        """Look from time to time, as long as somebody watches."""
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(self._look_seconds, self._look_again)

    def _look_again(self) -> None:
        self._looks = False
        if self._watching and not self._stopping:
            self._look()
            self._look_on()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _message(status: int) -> bytes:
    data: bytes = HEALTH_MESSAGES["HealthCheckResponse"](status=status).SerializeToString()
    return data
