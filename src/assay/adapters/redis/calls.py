"""What each call of the port asks of Redis and makes of the answers, without any connection.

A call is a generator: it yields requests, is sent their answers, and returns the result. One driver
waits for the answers in a thread, another one in an event loop.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from assay.adapters.redis.batches import Batch, Expiry
from assay.adapters.redis.keys import (
    PLACE_SIZE,
    ViewKeys,
    moment_bytes,
    place_bytes,
    views_key,
)
from assay.adapters.redis.scripts import AS_OF, HISTORY, WRITE, Script
from assay.domain.clock import Clock
from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, Instant
from assay.errors import ConfigurationError, ContractViolation, Tampered
from assay.features.online.namespaces import view_of
from assay.features.online.store import StoredRow, unpack_row

_SURROGATE = re.compile("[\ud800-\udfff]")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A command with its arguments, or a script with its keys and arguments."""

    parts: Sequence[Any]
    script: Script | None = None
    arguments: Sequence[Any] = ()


Steps: TypeAlias = Generator[Request, Any, T]


class Calls:
    """The calls of one store; see :class:`assay.adapters.redis.store.RedisStore` for parameters."""

    def __init__(
        self,
        *,
        namespace: str,
        max_versions: int,
        retention: Mapping[str, int] | None,
        clock: Clock | None,
    ) -> None:
        if max_versions < 1:
            raise ContractViolation(f"max_versions {max_versions}: expected at least one")
        if not namespace:
            raise ConfigurationError("namespace '': expected a name")
        if retention and clock is None:
            raise ConfigurationError("a retention needs a clock", hint="clock=SystemClock()")
        for view, nanos in (retention or {}).items():
            if nanos < 1:
                raise ContractViolation(
                    f"view {view}: retention {nanos} ns, expected a positive time"
                )
        self.namespace = namespace
        self.views_key = views_key(namespace)
        self._max_versions = max_versions
        self._expiry = {
            view: Expiry(nanos, clock) for view, nanos in (retention or {}).items() if clock
        }
        self._keys: dict[str, ViewKeys] = {}
        self._registered: set[str] = set()

    def write(self, view: str, rows: Iterable[StoredRow], where: str) -> Steps[int]:
        """How many rows were added; ``where`` names the server in errors."""
        try:
            keys = self.keys_of(view)
        except UnicodeEncodeError:
            raise ContractViolation(f"view {view!r}: the name has no UTF-8 form") from None
        batch = Batch.of(
            view,
            rows,
            keys,
            max_versions=self._max_versions,
            expiry=self._expiry.get(view_of(view)),
        )
        if not batch.rows:
            return 0
        register = Request(("SADD", self.views_key, view.encode()))
        if view not in self._registered:
            # Before the rows: a name without rows is not listed, rows without a name would not be.
            yield register
            self._registered.add(view)
        added, about = yield Request(batch.keys, WRITE, batch.arguments)
        if added < 0:
            raise batch.refusal(added, about, where)
        if about:
            yield register  # it may have been lost together with the rows before these
        return int(added)

    def read(
        self, view: str, entities: Sequence[str], as_of: Instant | None
    ) -> Steps[list[StoredRow | None]]:
        """The newest rows; where one of them is not visible, everything anew from one script."""
        nothing: list[StoredRow | None] = [None] * len(entities)
        if not entities:
            return nothing
        try:
            keys = self.keys_of(view)
        except UnicodeEncodeError:
            return nothing
        try:
            names = [entity.encode() for entity in entities]
        except UnicodeEncodeError:
            # Such a name cannot have been written, and no entity is called "".
            names = [b"" if _SURROGATE.search(entity) else entity.encode() for entity in entities]
        newest = keys.newest
        rows = _rows(entities, (yield Request(["MGET", *[newest + name for name in names]])))
        if as_of is None or all(
            row is None or (row.event_time <= as_of and row.known_time <= as_of) for row in rows
        ):
            return rows
        if as_of < MIN_INSTANT:
            return nothing
        # These answers are of another state than the first ones, which are therefore let go.
        after = b"+" if as_of >= MAX_INSTANT else b"(" + moment_bytes(as_of + 1)
        both = [part + name for name in names for part in (keys.newest, keys.earlier)]
        return _rows(entities, (yield Request(both, AS_OF, (moment_bytes(as_of), after))))

    def history(self, view: str, entity: str) -> Steps[list[StoredRow]]:
        """Every version that is kept, oldest first."""
        try:
            keys, name = self.keys_of(view), entity.encode()
        except UnicodeEncodeError:
            return []
        found = yield Request((keys.newest + name, keys.earlier + name), HISTORY)
        if not found:
            return []
        newest, earlier = found
        rows = [_row_behind_place(entity, member) for member in earlier]
        return [*rows, unpack_row(entity, newest)]

    def views(self) -> Steps[tuple[str, ...]]:
        """Names of the views that have rows, sorted."""
        names = yield from self.names()
        lives = {}
        for name in names:
            lives[name] = yield Request(("EXISTS", self.keys_of(name).marker))
        return tuple(name for name in names if lives[name])

    def names(self) -> Steps[list[str]]:
        """Views that were ever written, with rows or without, sorted."""
        found = yield Request(("SMEMBERS", self.views_key))
        return sorted(name.decode() for name in found)

    def keys_of(self, view: str) -> ViewKeys:
        """The keys of a view."""
        keys = self._keys.get(view)
        if keys is None:
            keys = self._keys[view] = ViewKeys.of(self.namespace, view)
        return keys

    def forget_names(self) -> Steps[None]:
        """Let go of the names of views, whose rows are gone."""
        yield Request(("DEL", self.views_key))
        self._registered.clear()


def _rows(entities: Sequence[str], found: Sequence[bytes | None]) -> list[StoredRow | None]:
    return [
        None if data is None else unpack_row(entity, data)
        for entity, data in zip(entities, found, strict=True)
    ]


def _row_behind_place(entity: str, member: bytes) -> StoredRow:
    row = unpack_row(entity, member[PLACE_SIZE:])
    if place_bytes(row.key) != member[:PLACE_SIZE]:
        raise Tampered(f"stored row of {entity!r} does not stand at its place in the order")
    return row
