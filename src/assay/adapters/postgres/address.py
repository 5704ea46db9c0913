"""Where a PostgreSQL database is. A password is kept out of every text that people or logs see."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from assay.errors import ConfigurationError, did_you_mean

SCHEMES = ("postgresql", "postgres")
SCHEMA = "assay"
_PORT = 5432
_OPTIONS = ("host", "schema", "sslcert", "sslkey", "sslmode", "sslrootcert")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_EXAMPLE = "postgresql://user:password@host:5432/database?schema=assay&sslmode=verify-full"


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """One schema of one database, as a URL names it.

    ``str()`` and ``repr()`` show neither the user nor the password.
    """

    host: str
    port: int
    database: str
    schema: str = SCHEMA
    ssl: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> PostgresAddress:
        """Read ``postgresql://[user[:password]@]host[:port]/database[?option=value]``.

        Options are ``schema`` (``assay`` by default), ``host`` for the folder of a socket, and
        libpq's ``sslmode``, ``sslrootcert``, ``sslcert`` and ``sslkey``.

        Raises
        ------
        ConfigurationError: it is none of these. The message never repeats the URL.
        """
        try:
            parts = urlsplit(url)
            if parts.scheme not in SCHEMES:
                raise ConfigurationError(
                    f"address of PostgreSQL begins with {parts.scheme!r}: expected postgresql://",
                    hint=_EXAMPLE,
                )
            # Marks that a password may hold, but not as they are: what stands behind one would
            # be taken for a database or an option, and shown as such.
            if parts.fragment or "@" in parts.path or "@" in parts.query:
                raise ValueError
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
                           if parts.query else ())  # fmt: skip
            port = parts.port or _PORT
        except ValueError:
            raise ConfigurationError(
                "address of PostgreSQL has a host, port, database or option that cannot be read",
                hint=f"{_EXAMPLE}; in a password write / as %2F, ? as %3F, # as %23, @ as %40",
            ) from None  # the original message may hold the password
        for name in options:
            if name not in _OPTIONS:
                shown = repr(name) if _NAME.fullmatch(name) else "that cannot be read"
                raise ConfigurationError(
                    f"address of PostgreSQL has an option {shown}: expected one of "
                    + ", ".join(_OPTIONS),
                    hint=did_you_mean(name, _OPTIONS),
                )
        schema = options.pop("schema", SCHEMA)
        if not _NAME.fullmatch(schema) or schema.startswith("pg_"):
            raise ConfigurationError(
                "address of PostgreSQL has a schema that cannot be one: expected up to 63 "
                "lower-case letters, digits and _, not beginning with a digit or pg_"
            )
        database = unquote(parts.path.strip("/"))
        if not database:
            raise ConfigurationError("address of PostgreSQL names no database", hint=_EXAMPLE)
        return cls(
            host=options.pop("host", "") or parts.hostname or "localhost",
            port=port,
            database=database,
            schema=schema,
            ssl=tuple(sorted(options.items())),
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )

    def __str__(self) -> str:
        schema = f"schema={self.schema}"
        if self.host.startswith("/"):
            return f"postgresql:///{self.database}?host={self.host}&{schema}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{host}:{self.port}/{self.database}?{schema}"

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of a connection, secrets among them."""
        given = {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.user,
            "password": self.password,
            **dict(self.ssl),
        }
        return {name: value for name, value in given.items() if value is not None}
