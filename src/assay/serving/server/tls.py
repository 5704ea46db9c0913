"""TLS for a service: a certificate and its key, read when it starts, and connections that agree on
them before anything is answered.

A connection that is agreeing holds a place among those that are taken, and for some seconds only:
whoever opens many and says nothing gets no further than without TLS.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from assay.domain.instants import Instant, from_datetime
from assay.errors import ConfigurationError

CERTIFICATE, KEY = "serving.tls_certificate", "serving.tls_key"
_LOG = logging.getLogger("assay.serving")
_AGAIN_SECONDS: Final = 0.25
_FAREWELL_SECONDS: Final = 2.0
"""That a client may take to read the last answer and to say goodbye, when a connection ends."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that can be used.

    Attributes
    ----------
    chain, key: in PEM. context: of connections over HTTP. begins, ends: when it holds.
    """

    chain: bytes
    key: bytes
    context: ssl.SSLContext
    begins: Instant
    ends: Instant


def read_certificate(certificate: Path, key: Path) -> Certificate:
    """Read a certificate, with those between it and an authority behind it, and its private key.

    Raises
    ------
    ConfigurationError: a file cannot be read or holds something else, the key is another one's, has
        a password, or can be read by everybody.
    """
    chain, private = _read(certificate, CERTIFICATE), _read(key, KEY)
    try:
        first = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise ConfigurationError(
            f"{CERTIFICATE}: {certificate} holds no certificate in PEM: {error}",
            hint="the server's certificate comes first, then those between it and the authority",
        ) from None
    try:
        secret = load_pem_private_key(private, None)
    except TypeError:
        raise ConfigurationError(
            f"{KEY}: {key} is encrypted: expected a key without a password",
            hint="nobody is there to type it when a worker starts; protect the file instead",
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{KEY}: {key} holds no private key in PEM: {error}") from None
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if first.public_key().public_bytes(*form) != secret.public_key().public_bytes(*form):
        raise ConfigurationError(
            f"{KEY}: {key} is not the key of {certificate}",
            hint="the first certificate of the file must be the server's own",
        )
    _check_private(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{CERTIFICATE}: {certificate} cannot be used: {error.reason or error}"
        ) from None
    if (chain, private) != (_read(certificate, CERTIFICATE), _read(key, KEY)):
        raise ConfigurationError(
            f"{CERTIFICATE}: {certificate} or {key} was exchanged while it was read",
            hint="start again",
        )
    period = from_datetime(first.not_valid_before_utc), from_datetime(first.not_valid_after_utc)
    return Certificate(chain, private, context, *period)


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path} cannot be read: {error.strerror}") from None


def _check_private(key: Path) -> None:
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigurationError(
            f"{KEY}: {key} has mode {mode:04o}: expected a file that only its owner and its group "
            "can read",
            hint=f"chmod 640 {key}",
        )


class TlsDoor:
    """Accepts connections, and has each agree on TLS before it is answered.

    Belongs to one event loop.

    Parameters
    ----------
    make: makes what answers a connection.
    is_full: whether no further connection is taken beside those that are agreeing.
    seconds: that agreeing may take.
    """

    def __init__(
        self,
        certificate: Certificate,
        make: Callable[[], asyncio.Protocol],
        is_full: Callable[[Iterable[asyncio.Protocol]], bool],
        *,
        seconds: float,
    ) -> None:
        self._context = certificate.context
        self._make = make
        self._is_full = is_full
        self._seconds = seconds
        self._accepting: list[asyncio.Task[None]] = []
        self._agreeing: dict[asyncio.Task[None], asyncio.Protocol] = {}

    def open(self, listening: socket.socket) -> None:
        """Accept on a socket from now on."""
        listening.setblocking(False)
        loop = asyncio.get_running_loop()
        self._accepting.append(loop.create_task(self._accept(listening)))

    async def close(self) -> None:
        """Accept nothing more, and let go of those that are agreeing."""
        tasks = [*self._accepting, *self._agreeing]
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except ConnectionAbortedError:  # the client has left already
                continue
            except OSError as error:  # no descriptor is free, or no memory
                _LOG.warning("a connection cannot be accepted: %s", error)
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if self._is_full(self._agreeing.values()):
                connection.close()
                continue
            made = self._make()
            agreeing = loop.create_task(self._agree(connection, made))
            self._agreeing[agreeing] = made
            agreeing.add_done_callback(self._agreeing.pop)

    async def _agree(self, connection: socket.socket, made: asyncio.Protocol) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: made, connection, ssl=self._context,
                ssl_handshake_timeout=self._seconds, ssl_shutdown_timeout=_FAREWELL_SECONDS,
            )  # fmt: skip
        except OSError:  # no TLS, another version, or a client that left or took too long
            connection.close()
