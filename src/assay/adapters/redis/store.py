"""The online store on Redis: one server or a cluster, shared by many processes and machines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from assay.adapters.redis.address import RedisAddress
from assay.adapters.redis.batches import Batch, Expiry
from assay.adapters.redis.connection import Connection
from assay.adapters.redis.keys import (
    PLACE_SIZE,
    ViewKeys,
    moment_bytes,
    place_bytes,
    views_key,
)
from assay.adapters.redis.scripts import AS_OF, HISTORY, WRITE
from assay.domain.clock import Clock
from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, Instant
from assay.errors import ConfigurationError, ContractViolation, Tampered
from assay.features.online.store import MAX_VERSIONS, StoredRow, unpack_row

_SURROGATE = re.compile("[\ud800-\udfff]")


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
        if max_versions < 1:
            raise ContractViolation(f"max_versions {max_versions}: expected at least one")
        if not namespace:
            raise ConfigurationError("namespace '': expected a name")
        for view, nanos in (retention or {}).items():
            if nanos < 1:
                raise ContractViolation(
                    f"view {view}: retention {nanos} ns, expected a positive time"
                )
        self._namespace = namespace
        self._max_versions = max_versions
        if retention and clock is None:
            raise ConfigurationError("a retention needs a clock", hint="clock=SystemClock()")
        self._expiry = {
            view: Expiry(nanos, clock) for view, nanos in (retention or {}).items() if clock
        }
        self._keys: dict[str, ViewKeys] = {}
        self._registered: set[str] = set()
        address = RedisAddress.parse(url)
        self._connection = Connection(
            address, key=views_key(namespace), evictable=bool(retention), timeout=timeout
        )

    def __repr__(self) -> str:
        return f"RedisStore({self._connection.address}, namespace={self._namespace!r})"

    def write(self, view: str, rows: Iterable[StoredRow]) -> int:
        """See :meth:`assay.features.online.store.OnlineStore.write`.

        Raises
        ------
        Unavailable: the server went away or takes no writes. Whether the batch is stored may be
            unknown then; writing it again is harmless, and counts only what was missing.
        """
        try:
            keys = self._keys_of(view)
        except UnicodeEncodeError:
            raise ContractViolation(f"view {view!r}: the name has no UTF-8 form") from None
        batch = Batch.of(
            view, rows, keys, max_versions=self._max_versions, expiry=self._expiry.get(view)
        )
        if not batch.rows:
            return 0
        if view not in self._registered:
            # Before the rows: a name without rows is not listed, rows without a name would not be.
            self._register(view)

        answer: list[int] = self._connection.run(WRITE, batch.keys, batch.arguments)
        added, about = answer
        if added < 0:
            raise batch.refusal(added, about, str(self._connection.address))
        if about:
            self._register(view)  # it may have been lost together with the rows before these
        return added

    def read(
        self, view: str, entities: Sequence[str], as_of: Instant | None = None
    ) -> list[StoredRow | None]:
        """See :meth:`assay.features.online.store.OnlineStore.read`.

        One round trip; a second one where the newest row of an entity is later than ``as_of``.
        """
        if not entities:
            return []
        try:
            keys = self._keys_of(view)
        except UnicodeEncodeError:
            return [None] * len(entities)
        try:
            names = [entity.encode() for entity in entities]
        except UnicodeEncodeError:
            # Such a name cannot have been written, and no entity is called "".
            names = [b"" if _SURROGATE.search(entity) else entity.encode() for entity in entities]
        newest = keys.newest
        found = self._connection.execute("MGET", *[newest + name for name in names])
        rows = [
            None if data is None else unpack_row(entity, data)
            for entity, data in zip(entities, found, strict=True)
        ]
        if as_of is None or all(
            row is None or (row.event_time <= as_of and row.known_time <= as_of) for row in rows
        ):
            return rows
        return self._read_past(keys, entities, names, as_of)

    def _read_past(
        self, keys: ViewKeys, entities: Sequence[str], names: Sequence[bytes], as_of: Instant
    ) -> list[StoredRow | None]:
        """Everything anew from one script: answers of two round trips are of two states."""
        if as_of < MIN_INSTANT:
            return [None] * len(entities)
        after = b"+" if as_of >= MAX_INSTANT else b"(" + moment_bytes(as_of + 1)
        both = [part + name for name in names for part in (keys.newest, keys.earlier)]
        found = self._connection.run(AS_OF, both, (moment_bytes(as_of), after))
        return [
            None if data is None else unpack_row(entity, data)
            for entity, data in zip(entities, found, strict=True)
        ]

    def history(self, view: str, entity: str) -> list[StoredRow]:
        """See :meth:`assay.features.online.store.OnlineStore.history`."""
        try:
            keys, name = self._keys_of(view), entity.encode()
        except UnicodeEncodeError:
            return []
        found = self._connection.run(HISTORY, (keys.newest + name, keys.earlier + name), ())
        if not found:
            return []
        newest, earlier = found
        rows = [_row_behind_place(entity, member) for member in earlier]
        return [*rows, unpack_row(entity, newest)]

    def views(self) -> tuple[str, ...]:
        """Names of the views that have rows, sorted."""
        return tuple(
            name
            for name in sorted(self._names())
            if self._connection.execute("EXISTS", self._keys_of(name).marker)
        )

    def forget(self) -> None:
        """Remove every row and view of the namespace, by the names of its views."""
        for view in self._names():
            self._connection.remove(self._keys_of(view).tag)
        self._connection.execute("DEL", views_key(self._namespace))
        self._registered.clear()

    def close(self) -> None:
        """Close the connections of all threads."""
        self._connection.close()

    def _names(self) -> list[str]:
        """Views that were ever written, with rows or without."""
        found = self._connection.execute("SMEMBERS", views_key(self._namespace))
        return [name.decode() for name in found]

    def _keys_of(self, view: str) -> ViewKeys:
        keys = self._keys.get(view)
        if keys is None:
            keys = self._keys[view] = ViewKeys.of(self._namespace, view)
        return keys

    def _register(self, view: str) -> None:
        self._connection.execute("SADD", views_key(self._namespace), view.encode())
        self._registered.add(view)


def _row_behind_place(entity: str, member: bytes) -> StoredRow:
    row = unpack_row(entity, member[PLACE_SIZE:])
    if place_bytes(row.key) != member[:PLACE_SIZE]:
        raise Tampered(f"stored row of {entity!r} does not stand at its place in the order")
    return row
