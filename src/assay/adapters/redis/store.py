"""The online store on Redis: one server or a cluster, shared by many processes and machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from assay.adapters.redis.address import RedisAddress
from assay.adapters.redis.calls import Calls, Steps
from assay.adapters.redis.connection import Connection
from assay.adapters.redis.faults import NONSENSE, explain_nonsense
from assay.domain.clock import Clock
from assay.domain.instants import Instant
from assay.features.online.store import MAX_VERSIONS, StoredRow

T = TypeVar("T")


class RedisStore:
    """Packed rows in Redis 6.2 or later, at most ``max_versions`` for each entity of a view.

    The newest row of an entity is one string, so that many are read by one MGET; those before it
    are a sorted set. A write is one script: newer wins, a conflict is refused, and a batch is
    written whole or not at all. A view lies in one slot of a cluster, so both promises hold there
    too. Rows are idempotent: after an error that leaves open whether a batch was written, write it
    again.

    Parameters
    ----------
    url: ``redis://[[user]:password@]host[:port][/database]``, ``rediss://`` or ``unix://path``; any
        node of a cluster.
    namespace: keeps stores apart that share a server.
    retention: view -> nanoseconds after its newest event for which the rows of an entity are kept;
        views that are not named keep theirs. It must not be shorter than the view's time to live.
    clock: what "now" is when the rest of that time is reckoned, needed with a retention. A replay
        passes its own clock, so that old rows do not end at once.
    timeout: seconds that the server may take to answer.

    Raises
    ------
    Unavailable: no server answers, or it is loading.
    ConfigurationError: the URL is wrong, the server refuses the password, is older than 6.2, or
        drops keys when memory is short.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "assay",
        max_versions: int = MAX_VERSIONS,
        retention: Mapping[str, int] | None = None,
        clock: Clock | None = None,
        timeout: float = 5.0,
    ) -> None:
        self._calls = Calls(
            namespace=namespace, max_versions=max_versions, retention=retention, clock=clock
        )
        address = RedisAddress.parse(url)
        self._connection = Connection(
            address, key=self._calls.views_key, evictable=bool(retention), timeout=timeout
        )

    def __repr__(self) -> str:
        return f"RedisStore({self._connection.address}, namespace={self._calls.namespace!r})"

    def write(self, view: str, rows: Iterable[StoredRow]) -> int:
        """See :meth:`assay.features.online.store.OnlineStore.write`.

        Raises
        ------
        Unavailable: the server went away or takes no writes. Whether the batch is stored may be
            unknown then; writing it again is harmless, and counts only what was missing.
        """
        return self._finish(self._calls.write(view, rows, str(self._connection.address)))

    def read(
        self, view: str, entities: Sequence[str], as_of: Instant | None = None
    ) -> list[StoredRow | None]:
        """See :meth:`assay.features.online.store.OnlineStore.read`.

        One round trip; a second one where the newest row of an entity is later than ``as_of``.
        """
        return self._finish(self._calls.read(view, entities, as_of))

    def read_views(
        self, asked: Mapping[str, Sequence[str]], as_of: Instant | None = None
    ) -> dict[str, list[StoredRow | None]]:
        """See :meth:`assay.features.online.store.OnlineStore.read_views`.

        One round trip, and a second one as for :meth:`read`. On a cluster one to each node that has
        some of the views, all of them under way at once; each view is then of a state of its own.
        """
        return self._finish(
            self._calls.read_views(asked, as_of, spread=self._connection.is_cluster)
        )

    def history(self, view: str, entity: str) -> list[StoredRow]:
        """See :meth:`assay.features.online.store.OnlineStore.history`."""
        return self._finish(self._calls.history(view, entity))

    def entities(self, view: str) -> list[str]:
        """See :meth:`assay.features.online.store.OnlineStore.entities`.

        The server's keys are gone through in pages, other views' too; the names are sorted here.
        """
        return self._finish(self._calls.entities(view))

    def views(self) -> tuple[str, ...]:
        """Names of the views that have rows, sorted."""
        return self._finish(self._calls.views(spread=self._connection.is_cluster))

    def drop(self, view: str) -> int:
        """See :meth:`assay.features.online.store.OnlineStore.drop`."""
        return self._finish(self._calls.drop(view))

    def forget(self) -> None:
        """Remove every row and view of the namespace."""
        self._finish(self._calls.forget())

    def close(self) -> None:
        """Close the connections of all threads."""
        self._connection.close()

    def _finish(self, steps: Steps[T]) -> T:
        """Answer each request of a call until it has its result."""
        try:
            request = next(steps)
            while True:
                answer = self._connection.answer(request)
                try:
                    request = steps.send(answer)
                except NONSENSE as error:
                    raise explain_nonsense(error, self._connection.address) from error
        except StopIteration as end:
            result: T = end.value
            return result
