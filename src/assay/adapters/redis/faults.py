"""The errors of the client and of the server, in Assay's words."""

from __future__ import annotations

import struct

from redis import exceptions

from assay.adapters.redis.address import RedisAddress
from assay.errors import AssayError, ConfigurationError, Tampered, Unavailable

FAILURES = (exceptions.RedisError, OSError)
NONSENSE = (TypeError, ValueError, AttributeError, LookupError, struct.error)
"""What reading an answer raises that no Redis gives to what was asked."""

PERMITTED = (
    "+get +mget +set +del +exists +type +pttl +persist +pexpireat +zadd +zcard +zrange "
    "+zrangebylex +zrevrangebylex +zremrangebyrank +sadd +srem +smembers +smismember +scan +unlink "
    "+eval +evalsha +time +info +select +cluster"
)
# How a server says it from inside a script, where the error has no name.
_DENIED = ("NOPERM", "can't run this command", "can't access at least one of the keys")


def explain(error: Exception, address: RedisAddress) -> AssayError:
    """What an error of the client or the server means for whoever reads or writes rows."""
    where, text = f"Redis at {address}", str(error)
    word = text.split(" ", 1)[0]
    if isinstance(error, exceptions.AuthenticationError) or word in {"NOAUTH", "WRONGPASS"}:
        # The server's own words only: what the client adds may name the user.
        return ConfigurationError(
            f"{where} refuses the password, or wants one",
            hint="give it in the URL, from the environment: "
            "ASSAY_FEATURES__ONLINE_STORE=redis://:PASSWORD@HOST:PORT/0",
        )
    if isinstance(error, exceptions.NoPermissionError) or any(one in text for one in _DENIED):
        return ConfigurationError(
            f"{where} denies its user a command or a key: {text}",
            hint=f"the user needs {PERMITTED}",
        )
    if isinstance(error, exceptions.ReadOnlyError) or "READONLY" in text:
        return Unavailable(
            f"{where} is a replica and takes no writes", hint="name the primary server instead"
        )
    if isinstance(error, exceptions.OutOfMemoryError) or "OOM command" in text:
        return Unavailable(
            f"{where} is out of memory and takes no rows; nothing was written",
            hint="raise maxmemory, keep fewer versions or give rows a retention",
        )
    if isinstance(error, exceptions.BusyLoadingError):
        return Unavailable(f"{where} is still loading its data", hint="try again in a moment")
    if isinstance(error, exceptions.TimeoutError):
        return Unavailable(
            f"{where} did not answer in time; a write may or may not have happened",
            hint="write the same rows again: what is stored already changes nothing",
        )
    if isinstance(error, exceptions.ConnectionError):
        return Unavailable(
            f"{where} cannot be reached, or went away: {text}",
            hint="start it, or check features.online_store; to try one: redis-server --port 6379",
        )
    if "WRONGTYPE" in text:
        return Tampered(f"{where}: a key of the online store holds something else: {text}")
    if "DB index is out of range" in text or "SELECT is not allowed" in text:
        return ConfigurationError(f"{where}: the server has no such database")
    return Unavailable(f"{where}: {text}")


def explain_nonsense(error: Exception, address: RedisAddress) -> AssayError:
    """The error for an answer of a form that no Redis gives: something else listens there."""
    return Unavailable(
        f"Redis at {address} gave an answer that cannot be read: {error}",
        hint="check features.online_store: something else may listen there",
    )
