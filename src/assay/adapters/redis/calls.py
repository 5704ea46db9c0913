"""What each call of the port asks of Redis and makes of the answers, without any connection.

A call is a generator: it yields requests, is sent their answers, and returns the result. One driver
waits for the answers in a thread, another one in an event loop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
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
from assay.features.online.store import StoredRow, unpack_row, unpack_rows

AT_ONCE = 1_000
"""Keys that are listed, or removed, by one command."""

_SURROGATE = re.compile("[\ud800-\udfff]")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A command with its arguments, or a script with its keys and arguments."""

    parts: Sequence[Any]
    script: Script | None = None
    arguments: Sequence[Any] = ()

    def command(self, *, whole: bool) -> Sequence[Any]:
        """What is sent: a script by its name, or ``whole`` to a server that does not have it."""
        if self.script is None:
            return self.parts
        name = ("EVAL", self.script.source) if whole else ("EVALSHA", self.script.sha)
        return (*name, len(self.parts), *self.parts, *self.arguments)


@dataclass(frozen=True, slots=True)
class Listing:
    """Asks for the names of all keys that begin so, page by page: the server is never held up."""

    prefix: bytes

    @property
    def pattern(self) -> bytes:
        """The same for SCAN; names are percent-encoded, so nothing in it has another meaning."""
        return self.prefix + b"*"


Steps: TypeAlias = Generator[Request | tuple[Request, ...] | Listing, Any, T]
"""What a call asks, one after the other; a tuple is sent together, and answered by a list."""


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
        """The newest rows; where one of them is not visible, everything anew from a script."""
        if not entities:
            return []
        # The most frequent call, written out: a mapping of views costs a tenth of the round trip.
        try:
            keys, names = self.keys_of(view), _encoded(entities)
        except UnicodeEncodeError:
            return [None] * len(entities)
        newest = keys.newest
        found = yield Request(["MGET", *[newest + name for name in names]])
        rows = unpack_rows(entities, found)
        if as_of is None or _visible(rows, as_of):
            return rows
        past = yield from _past({view: entities}, {view: (keys, names)}, as_of, spread=False)
        return past[view]

    def read_views(
        self, asked: Mapping[str, Sequence[str]], as_of: Instant | None, *, spread: bool
    ) -> Steps[dict[str, list[StoredRow | None]]]:
        """The newest rows of several views, as :meth:`read` gives those of one.

        Parameters
        ----------
        spread: whether views lie on several nodes. Each is then asked for by a command of its own,
            all of them sent together, and has a state of its own; otherwise one command asks for
            all, and they belong to one state.
        """
        found: dict[str, list[StoredRow | None]] = {
            view: [None] * len(entities) for view, entities in asked.items()
        }
        places = {}
        for view, entities in asked.items():
            try:
                if entities:
                    places[view] = self.keys_of(view), _encoded(entities)
            except UnicodeEncodeError:
                continue  # nothing can have been written under such a name
        if not places:
            return found
        newest = {
            view: [keys.newest + one for one in names] for view, (keys, names) in places.items()
        }
        packed = yield from _each(newest, lambda keys: Request(["MGET", *keys]), spread=spread)
        for view, data in packed.items():
            found[view] = unpack_rows(asked[view], data)
        if as_of is None:
            return found
        late = {view for view in places if not _visible(found[view], as_of)}
        if late:
            again = {view: one for view, one in places.items() if view in late or not spread}
            found |= yield from _past(asked, again, as_of, spread=spread)
        return found

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

    def entities(self, view: str) -> Steps[list[str]]:
        """Names of the entities that have rows of a view, sorted."""
        try:
            prefix = self.keys_of(view).newest
        except UnicodeEncodeError:
            return []
        # A key may be listed twice. Strings sort by code points, as their UTF-8 does by bytes.
        found = yield Listing(prefix)
        return sorted({name[len(prefix) :].decode() for name in found})

    def drop(self, view: str) -> Steps[int]:
        """Remove a view's rows, then what says that it has some; how many entities had rows."""
        try:
            keys = self.keys_of(view)
        except UnicodeEncodeError:
            return 0
        found = set((yield Listing(keys.tag))) - {keys.marker}
        names = sorted(found)
        for start in range(0, len(names), AT_ONCE):
            yield Request(("UNLINK", *names[start : start + AT_ONCE]))
        # Until here the view is listed: whoever was killed finds it again.
        yield Request(("UNLINK", keys.marker))
        yield Request(("SREM", self.views_key, view.encode()))
        self._registered.discard(view)
        return sum(name.startswith(keys.newest) for name in found)

    def views(self, *, spread: bool) -> Steps[tuple[str, ...]]:
        """Names of the views that have rows, sorted."""
        markers = {name: [self.keys_of(name).marker] for name in (yield from self.names())}
        if not markers:
            return ()
        lives = yield from _each(markers, lambda keys: Request(["MGET", *keys]), spread=spread)
        return tuple(name for name in markers if lives[name] != [None])

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

    def forget(self) -> Steps[None]:
        """Remove every view, those whose rows have ended too."""
        for view in (yield from self.names()):
            yield from self.drop(view)


def _each(
    keys: Mapping[str, Sequence[bytes]],
    request: Callable[[Sequence[bytes]], Request],
    *,
    spread: bool,
    keys_each: int = 1,
) -> Steps[dict[str, list[bytes | None]]]:
    """One answer for each key, or each ``keys_each`` keys, of every view."""
    if spread and len(keys) > 1:
        answers = yield tuple(request(of_view) for of_view in keys.values())
        return dict(zip(keys, answers, strict=True))
    together = yield request([key for of_view in keys.values() for key in of_view])
    found, end = {}, 0
    for view, of_view in keys.items():
        start, end = end, end + len(of_view) // keys_each
        found[view] = together[start:end]
    return found


def _past(
    asked: Mapping[str, Sequence[str]],
    places: Mapping[str, tuple[ViewKeys, Sequence[bytes]]],
    as_of: Instant,
    *,
    spread: bool,
) -> Steps[dict[str, list[StoredRow | None]]]:
    """The rows of some views as of a moment, newest or earlier ones.

    They are of another state than rows that were read before, which are therefore let go.
    """
    if as_of < MIN_INSTANT:
        return {view: [None] * len(asked[view]) for view in places}
    after = b"+" if as_of >= MAX_INSTANT else b"(" + moment_bytes(as_of + 1)
    bounds = (moment_bytes(as_of), after)
    both = {
        view: [part + name for name in names for part in (keys.newest, keys.earlier)]
        for view, (keys, names) in places.items()
    }
    packed = yield from _each(
        both, lambda keys: Request(keys, AS_OF, bounds), spread=spread, keys_each=2
    )
    return {view: unpack_rows(asked[view], data) for view, data in packed.items()}


def _encoded(entities: Sequence[str]) -> list[bytes]:
    try:
        return [entity.encode() for entity in entities]
    except UnicodeEncodeError:
        # Such a name cannot have been written, and no entity is called "".
        return [b"" if _SURROGATE.search(entity) else entity.encode() for entity in entities]


def _visible(rows: Iterable[StoredRow | None], as_of: Instant) -> bool:
    return all(row is None or (row.event_time <= as_of and row.known_time <= as_of) for row in rows)


def _row_behind_place(entity: str, member: bytes) -> StoredRow:
    row = unpack_row(entity, member[PLACE_SIZE:])
    if place_bytes(row.key) != member[:PLACE_SIZE]:
        raise Tampered(f"stored row of {entity!r} does not stand at its place in the order")
    return row
