"""The online store in memory: for tests, for replays, and the oracle of the others."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from threading import Lock

from assay.domain.instants import Instant
from assay.domain.order import VersionKey
from assay.errors import ContractViolation
from assay.features.online.store import (
    MAX_VERSIONS,
    RowMemory,
    StoredRow,
    conflicting,
    pack_row,
    unpack_row,
)

_key = itemgetter(0)


class MemoryStore:
    """Keeps the newest ``max_versions`` rows of each entity, packed, in the total order."""

    def __init__(self, *, max_versions: int = MAX_VERSIONS) -> None:
        if max_versions < 1:
            raise ContractViolation(f"max_versions {max_versions}: expected at least one")
        self._max_versions = max_versions
        self._lock = Lock()
        self._memory = RowMemory()
        self._rows: dict[str, dict[str, list[tuple[VersionKey, bytes]]]] = {}

    def write(self, view: str, rows: Iterable[StoredRow]) -> int:
        """See :meth:`assay.features.online.store.OnlineStore.write`."""
        packed = [(row, row.key, pack_row(view, row)) for row in rows]
        with self._lock:
            kept = self._rows.get(view, {})
            fresh: dict[tuple[str, VersionKey], bytes] = {}
            for row, key, data in packed:
                versions = kept.get(row.entity, [])
                place = bisect_left(versions, key, key=_key)
                held = fresh.get((row.entity, key))
                if held is None and place < len(versions) and versions[place][0] == key:
                    held = versions[place][1]
                if held is None:
                    fresh[row.entity, key] = data
                elif held != data:
                    raise conflicting(view, row)
            # Nothing is touched before every row has been found to fit.
            for (entity, key), data in fresh.items():
                versions = self._rows.setdefault(view, {}).setdefault(entity, [])
                insort(versions, (key, data), key=_key)
                del versions[: -self._max_versions]
        return len(fresh)

    def read(
        self, view: str, entities: Sequence[str], as_of: Instant | None = None
    ) -> list[StoredRow | None]:
        """See :meth:`assay.features.online.store.OnlineStore.read`."""
        return self.read_views({view: entities}, as_of)[view]

    def read_views(
        self, asked: Mapping[str, Sequence[str]], as_of: Instant | None = None
    ) -> dict[str, list[StoredRow | None]]:
        """See :meth:`assay.features.online.store.OnlineStore.read_views`."""
        found: dict[str, list[bytes | None]] = {}
        with self._lock:
            for view, entities in asked.items():
                kept = self._rows.get(view, {})
                found[view] = [_newest(kept.get(entity, ()), as_of) for entity in entities]
        return {
            view: self._memory.unpack_all(view, asked[view], packed)
            for view, packed in found.items()
        }

    def history(self, view: str, entity: str) -> list[StoredRow]:
        """See :meth:`assay.features.online.store.OnlineStore.history`."""
        with self._lock:
            versions = list(self._rows.get(view, {}).get(entity, ()))
        return [unpack_row(entity, data) for _, data in versions]

    def entities(self, view: str) -> Iterable[str]:
        """See :meth:`assay.features.online.store.OnlineStore.entities`."""
        with self._lock:
            return sorted(self._rows.get(view, ()))

    def views(self) -> tuple[str, ...]:
        """Names of the views that have rows, sorted."""
        with self._lock:
            return tuple(sorted(self._rows))

    def drop(self, view: str) -> int:
        """See :meth:`assay.features.online.store.OnlineStore.drop`."""
        with self._lock:
            return len(self._rows.pop(view, ()))

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._rows.clear()


def _newest(versions: Sequence[tuple[VersionKey, bytes]], as_of: Instant | None) -> bytes | None:
    for key, data in reversed(versions):
        if as_of is None or key.visible_at(as_of):
            return data
    return None
