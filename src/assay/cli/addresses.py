"""Where a service is asked: the sockets that it listens on, and what is told of them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from assay.errors import Unavailable

DEFAULT_PORT = 8_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where a service is to be asked.

    Attributes
    ----------
    port: for HTTP; None for none, 0 for a free one. unix, mode: a socket in the file system for
        HTTP, and who may use it. grpc_port: None for none. tls: spoken over the network.
    """

    host: str
    port: int | None
    unix: Path | None = None
    mode: int = 0o600
    grpc_port: int | None = None
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a service is asked.

    Attributes
    ----------
    sockets: listening, for HTTP. url: over the network. unix: the path of the socket.
    grpc: ``host:port`` for calls over gRPC, which whoever answers them listens on.
    """

    sockets: tuple[socket.socket, ...]
    url: str | None
    unix: Path | None
    grpc: str | None

    @property
    def is_exposed(self) -> bool:
        """Whether others than this machine's reach the service over HTTP."""
        return any(
            one.family != socket.AF_UNIX
            and not ipaddress.ip_address(one.getsockname()[0]).is_loopback
            for one in self.sockets
        )


@contextmanager
def listen_at(wanted: Wanted) -> Iterator[Addresses]:
    """Listen, before the addresses are told: whoever reads them can connect.

    Raises
    ------
    Unavailable: it cannot be listened there. Conflict: somebody else answers there.
    """
    from assay.serving.server.unix_socket import unix_socket

    with ExitStack() as stack:
        sockets, url, grpc = [], None, None
        if wanted.port is not None:
            sockets.append(stack.enter_context(listen(wanted.host, wanted.port)))
            url = f"{'https' if wanted.tls else 'http'}://{_address(sockets[0])}"
        if wanted.grpc_port is not None:
            reserved = stack.enter_context(_reserve(wanted.host, wanted.grpc_port))
            grpc = _address(reserved)
        if wanted.unix is not None:
            sockets.append(stack.enter_context(unix_socket(wanted.unix, mode=wanted.mode)))
        yield Addresses(tuple(sockets), url, wanted.unix, grpc)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises
    ------
    Unavailable: it cannot be listened there.
    """
    try:
        made = _bound(host, port, socket.SO_REUSEADDR)
        made.listen(2_048)
    except OSError as error:
        raise _not_there(host, port, error, "--port 0 takes a free one") from None
    return made


def _reserve(host: str, port: int) -> socket.socket:
    """A port that nobody else gets: every process of the service listens there for itself.

    The socket takes no connection. Those that do must allow others beside them, as the processes of
    another service of the same user do, so it is looked first whether there are any.
    """
    if find_spec("grpc") is None:
        raise Unavailable(
            "calls over gRPC need the package grpcio, which is not installed",
            hint="pip install 'assay[grpc]'",
        )
    try:
        if port:
            _bound(host, port, socket.SO_REUSEADDR).close()
        return _bound(host, port, socket.SO_REUSEPORT)
    except OSError as error:
        raise _not_there(host, port, error, "--grpc-port 0 takes a free one") from None


def _bound(host: str, port: int, option: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, option, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def _not_there(host: str, port: int, error: OSError, hint: str) -> Unavailable:
    return Unavailable(
        f"cannot listen on {host}:{port}: {error.strerror}", hint=f"choose another one: {hint}"
    )


def _address(bound: socket.socket) -> str:
    name, number = bound.getsockname()[:2]
    return f"[{name}]:{number}" if ":" in name else f"{name}:{number}"
