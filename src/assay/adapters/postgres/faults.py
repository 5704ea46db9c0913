"""The errors of the client and of the server, in Assay's words."""

from __future__ import annotations

from psycopg import Error, errors

from assay.adapters.postgres.address import PostgresAddress
from assay.errors import (
    AssayError,
    ConfigurationError,
    Conflict,
    ContractViolation,
    Tampered,
    Unavailable,
)

_TLS = ("certificate", "does not support SSL")
_PASSWORD = "give it in the URL, from the environment: ASSAY_REGISTRY__CATALOGUE=postgresql://..."


def explain(error: Error, address: PostgresAddress) -> AssayError:
    """What an error of the client or the server means for whoever asks the registry."""
    where, text = f"PostgreSQL at {address}", _first_line(error)
    if isinstance(error, errors.InvalidPassword | errors.InvalidAuthorizationSpecification) or (
        # What refuses a connection has no code, only words.
        "password authentication failed" in text or "no password supplied" in text
    ):
        return ConfigurationError(f"{where} refuses the user or the password", hint=_PASSWORD)
    if isinstance(error, errors.InvalidCatalogName) or (
        "database" in text and "does not exist" in text
    ):
        return ConfigurationError(
            f"{where}: the server has no such database", hint=f"createdb {address.database}"
        )
    if isinstance(error, errors.OperationalError) and any(mark in text for mark in _TLS):
        return ConfigurationError(
            f"{where} is not trusted over TLS: {text}",
            hint="sslrootcert=FILE names who signed its certificate, which must name the host; "
            "sslmode=verify-full asks for both",
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return ConfigurationError(
            f"{where} denies its user something: {text}",
            hint=f"GRANT USAGE, CREATE ON SCHEMA {address.schema} TO its user, who owns the tables",
        )
    if "too many clients" in text or "too many connections" in text:
        return Unavailable(
            f"{where} has no connection left: {text}",
            hint="each registry that is open keeps one, and a second one while it writes",
        )
    if isinstance(error, errors.LockNotAvailable):
        return Unavailable(
            f"{where}: another process has been changing the registry for over half a minute",
            hint="SELECT pid, application_name, client_addr FROM pg_stat_activity "
            "JOIN pg_locks USING (pid) WHERE locktype = 'advisory' says which",
        )
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return Unavailable(
            f"{where} takes no writes: it is a replica or read-only", hint="name the primary server"
        )
    if isinstance(error, errors.DiskFull | errors.OutOfMemory | errors.IoError):
        return Unavailable(
            f"{where} cannot write: {text}; nothing was changed",
            hint="make room on its disk, then do the same again",
        )
    if isinstance(error, errors.DataCorrupted | errors.IndexCorrupted):
        return Tampered(
            f"{where} is damaged: {text}",
            hint="assay models rebuild makes the catalogue again; the log from a backup",
        )
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
        return Tampered(
            f"{where}: a table of the registry is not what it was: {text}",
            hint="assay models rebuild makes the catalogue again from the log",
        )
    if isinstance(error, errors.IntegrityError):
        return Conflict(f"{where} refuses the change: {text}")
    if isinstance(error, errors.DataError):
        return ContractViolation(f"{where} cannot hold a value: {text}")
    if isinstance(error, errors.OperationalError):
        return Unavailable(
            f"{where} cannot be reached, or went away: {text}",
            hint="start it, or check registry.catalogue; pg_isready says whether it listens",
        )
    return Unavailable(f"{where}: {text}")


def _first_line(error: Error) -> str:
    """What the server says, without its details, which can repeat values."""
    return error.diag.message_primary or (str(error).strip().splitlines() or ["no reason given"])[0]
