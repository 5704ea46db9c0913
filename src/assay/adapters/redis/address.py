"""Where a Redis server is. A password is kept out of every text that a person or a log sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from assay.errors import ConfigurationError, did_you_mean

SCHEMES = ("redis", "rediss", "unix")
_PORT = 6379
_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_EXAMPLE = "redis://host:6379/0, rediss://:password@host:6380/0 or unix:///run/redis.sock?db=0"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One server (or any node of a cluster), as a URL names it.

    ``str()`` and ``repr()`` show neither the user nor the password.
    """

    host: str
    port: int
    database: int
    path: str | None = None
    tls: bool = False
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Read ``redis://[[user]:password@]host[:port][/database]``, ``rediss://`` or ``unix://``.

        Certificates for ``rediss`` are given as ``?ssl_ca_certs=PATH``, ``ssl_certfile`` and
        ``ssl_keyfile``.

        Raises
        ------
        ConfigurationError: it is none of these. The message never repeats the URL.
        """
        try:
            parts = urlsplit(url)
            if parts.scheme not in SCHEMES:
                raise ConfigurationError(
                    f"address of Redis begins with {parts.scheme!r}: expected one of "
                    + ", ".join(f"{name}://" for name in SCHEMES),
                    hint=_EXAMPLE,
                )
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            unix = parts.scheme == "unix"
            database = query.pop("db", "") if unix else parts.path.strip("/")
            number = int(database or 0)
            port = parts.port or _PORT
            if number < 0:
                raise ValueError
        except ValueError:
            raise ConfigurationError(
                "address of Redis has a host, port or database that cannot be read", hint=_EXAMPLE
            ) from None  # the original message may hold the password
        for name in query:
            if parts.scheme != "rediss" or name not in _OPTIONS:
                raise ConfigurationError(
                    f"address of Redis has the option {name!r}, which {parts.scheme}:// has not",
                    hint=did_you_mean(name, _OPTIONS),
                )
        return cls(
            host=parts.hostname or "localhost",
            port=port,
            database=number,
            path=unquote(parts.path) if unix else None,
            tls=parts.scheme == "rediss",
            options=query,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix://{self.path}?db={self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.database}"

    def connection(self) -> dict[str, Any]:
        """Keyword arguments of a client of redis-py, secrets among them."""
        given: dict[str, Any] = {"username": self.username, "password": self.password}
        if self.path is not None:
            return given | {"unix_socket_path": self.path}
        given |= {"host": self.host, "port": self.port}
        return given | {"ssl": True, **self.options} if self.tls else given
