"""The same store for an event loop: it waits for Redis without holding up anything else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol, Self, TypeVar, cast

from redis import exceptions
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from assay.adapters.redis.address import RedisAddress
from assay.adapters.redis.calls import AT_ONCE, Calls, Listing, Request, Steps
from assay.adapters.redis.connection import check_memory, settings, too_old
from assay.adapters.redis.faults import FAILURES, NONSENSE, explain, explain_nonsense
from assay.domain.clock import Clock
from assay.domain.instants import Instant
from assay.errors import Unavailable
from assay.features.online.store import MAX_VERSIONS, StoredRow

T = TypeVar("T")


class Client(Protocol):
    """What is used of redis-py's asynchronous half."""

    async def execute_command(self, *command: Any, **options: Any) -> Any:
        """One command and its answer."""
        ...

    def scan_iter(self, *, match: bytes, count: int) -> AsyncIterator[bytes]:
        """Names of keys that fit a pattern, on every node."""
        ...

    def pipeline(self) -> Any:
        """Collects commands that are sent together."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


class AsyncRedisStore:
    """:class:`~assay.adapters.redis.store.RedisStore` with methods to be awaited.

    The calls and their promises are the same, and so are the keys: what one writes the other reads.
    It belongs to the event loop in which :meth:`open` was awaited.
    """

    def __init__(self, calls: Calls, address: RedisAddress, client: Client) -> None:
        self._calls = calls
        self._address = address
        self._client: Client | None = client
        self._is_cluster = isinstance(client, RedisCluster)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        namespace: str = "assay",
        max_versions: int = MAX_VERSIONS,
        retention: Mapping[str, int] | None = None,
        clock: Clock | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109 - of each answer, not of this call
    ) -> Self:
        """Connect; parameters and errors are those of the store that is not awaited."""
        calls = Calls(
            namespace=namespace, max_versions=max_versions, retention=retention, clock=clock
        )
        address = RedisAddress.parse(url)
        try:
            client = await _open(
                address, settings(address, timeout), key=calls.views_key, evictable=bool(retention)
            )
        except FAILURES as error:
            raise explain(error, address) from error
        return cls(calls, address, client)

    def __repr__(self) -> str:
        return f"AsyncRedisStore({self._address}, namespace={self._calls.namespace!r})"

    async def write(self, view: str, rows: Iterable[StoredRow]) -> int:
        """See :meth:`assay.features.online.store.OnlineStore.write`.

        A task that is cancelled leaves open whether the batch was written: write it again.
        """
        return await self._finish(self._calls.write(view, rows, str(self._address)))

    async def read(
        self, view: str, entities: Sequence[str], as_of: Instant | None = None
    ) -> list[StoredRow | None]:
        """See :meth:`assay.features.online.store.OnlineStore.read`."""
        return await self._finish(self._calls.read(view, entities, as_of))

    async def read_views(
        self, asked: Mapping[str, Sequence[str]], as_of: Instant | None = None
    ) -> dict[str, list[StoredRow | None]]:
        """See :meth:`assay.features.online.store.OnlineStore.read_views`."""
        return await self._finish(self._calls.read_views(asked, as_of, spread=self._is_cluster))

    async def history(self, view: str, entity: str) -> list[StoredRow]:
        """See :meth:`assay.features.online.store.OnlineStore.history`."""
        return await self._finish(self._calls.history(view, entity))

    async def entities(self, view: str) -> list[str]:
        """See :meth:`assay.features.online.store.OnlineStore.entities`."""
        return await self._finish(self._calls.entities(view))

    async def views(self) -> tuple[str, ...]:
        """Names of the views that have rows, sorted."""
        return await self._finish(self._calls.views(spread=self._is_cluster))

    async def drop(self, view: str) -> int:
        """See :meth:`assay.features.online.store.OnlineStore.drop`."""
        return await self._finish(self._calls.drop(view))

    async def close(self) -> None:
        """Close every connection; further calls are refused."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _finish(self, steps: Steps[T]) -> T:
        try:
            request = next(steps)
            while True:
                answer = await self._answer(request)
                try:
                    request = steps.send(answer)
                except NONSENSE as error:
                    raise explain_nonsense(error, self._address) from error
        except StopIteration as end:
            result: T = end.value
            return result

    async def _answer(self, request: Request | tuple[Request, ...] | Listing) -> Any:
        client = self._client or self._refuse()
        try:
            if isinstance(request, Listing):
                return [
                    name async for name in client.scan_iter(match=request.pattern, count=AT_ONCE)
                ]
            try:
                return await _send(client, request, whole=False)
            except exceptions.NoScriptError:
                return await _send(client, request, whole=True)
        except FAILURES as error:
            raise explain(error, self._address) from error
        except NONSENSE as error:
            raise explain_nonsense(error, self._address) from error

    def _refuse(self) -> NoReturn:
        raise Unavailable(f"online store {self._address} is closed")


async def _send(client: Client, request: Request | tuple[Request, ...], *, whole: bool) -> Any:
    if isinstance(request, Request):
        return await client.execute_command(*request.command(whole=whole))
    pipeline = client.pipeline()
    for one in request:
        pipeline.execute_command(*one.command(whole=whole))
    return await pipeline.execute()


async def _open(
    address: RedisAddress, given: dict[str, Any], *, key: bytes, evictable: bool
) -> Client:
    given = given | {"retry": Retry(NoBackoff(), 0)}  # of the asynchronous kind
    client = cast("Client", Redis(db=address.database, **given))
    try:
        information = await client.execute_command("INFO")
        servers = [information]
        if information.get("cluster_enabled"):
            await client.aclose()
            client = cast("Client", RedisCluster(**given))
            found = await client.execute_command("INFO", target_nodes="primaries")
            servers = [found] if "redis_version" in found else list(found.values())
        try:
            await client.execute_command("SMISMEMBER", key, "")
        except exceptions.ResponseError as error:
            refusal = too_old(error, information, address)
            if refusal is None:
                raise
            raise refusal from error
        for one in servers:
            check_memory(one, address, evictable=evictable)
    except BaseException:
        await client.aclose()
        raise
    return client
