"""Feature rows that stay in an offline store, joined one partition at a time.

The total order begins with the event time, and partitions do not share one: the answer of a row
lies in the newest partition that holds anything visible at its moment. So partitions are asked
from the newest to the oldest until every row has its answer, and memory holds the spine's chunk and
a bounded number of partitions, however long the history is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import MAX_INSTANT, Instant
from assay.domain.order import ORDER_COLUMNS
from assay.errors import ConfigurationError, NotFound
from assay.features.definition.views import FeatureView, Sessions
from assay.features.offline.partitions import bounds
from assay.features.offline.point_in_time import (
    NOTHING,
    Answers,
    AsOfIndex,
    FeatureTable,
    JoinedTable,
    Knowledge,
    TimeToLive,
    check_spine,
    joined,
    stale_column,
)
from assay.features.offline.sessions import SessionCalendar
from assay.features.offline.store import OfflineStore, Partition

MANIFEST: Final = "manifest"
"""Under this name a snapshot's metadata holds the hash of the manifest it was computed under."""

CACHE_BYTES: Final = 256 * 2**20


@dataclass(frozen=True, slots=True)
class StoredFeatures:
    """What :class:`~assay.features.offline.point_in_time.FeatureTable` says, without its rows."""

    store: OfflineStore
    name: str
    features: tuple[str, ...]
    snapshot_id: str
    manifest_hash: str
    ttl: TimeToLive | None = None

    @classmethod
    def of(
        cls,
        store: OfflineStore,
        table: str,
        *,
        features: Collection[str] | None = None,
        snapshot: str | None = None,
        ttl: TimeToLive | None = None,
    ) -> Self:
        """The features of a table at a snapshot (None: the current one).

        Parameters
        ----------
        features: None means every column that is no key.

        Raises
        ------
        NotFound: there is no such table, snapshot or column.
        ConfigurationError: the snapshot does not say under which manifest it was computed.
        """
        found = store.snapshot(table, snapshot)
        if MANIFEST not in found.metadata:
            raise ConfigurationError(
                f"snapshot {found.id} of table {table} names no manifest",
                hint='commit with metadata={"manifest": manifest.hash}',
            )
        keys = (store.entity, *ORDER_COLUMNS)
        names = [name for name in found.schema if name not in keys]
        chosen = tuple(names if features is None else features)
        for name in chosen:
            if name not in found.schema:
                raise NotFound(f"table {table} has no column {name!r}: found {', '.join(names)}")
        return cls(store, table, chosen, found.id, found.metadata[MANIFEST], ttl)

    @property
    def entity(self) -> str:
        return self.store.entity

    @property
    def stale_column(self) -> str:
        """Name of the Boolean column that says that an answer existed but had gone stale."""
        return stale_column(self.name)

    def load(self) -> FeatureTable:
        """The same with all rows in memory."""
        columns = [self.entity, *ORDER_COLUMNS, *self.features]
        frame = self.store.read(self.name, self.snapshot_id, columns=columns)
        return FeatureTable(
            self.name,
            frame,
            self.features,
            self.snapshot_id,
            self.manifest_hash,
            self.entity,
            self.ttl,
        )


def time_to_live(view: FeatureView) -> TimeToLive:
    """The time to live that a view declares, as joins take it."""
    if isinstance(view.ttl, Sessions):
        return TimeToLive(sessions=view.ttl.count)
    return TimeToLive(nanos=view.ttl.nanos)


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """One partition, ready to answer."""

    index: AsOfIndex
    features: pl.DataFrame
    events: NDArray[np.int64]
    bytes: int


class StoredJoin:
    """:func:`~assay.features.offline.point_in_time.as_of_join` with a table in a store.

    A spine in the order of time reads each partition about once; one in any order reads it once
    per call of :meth:`rows` as far as the cache does not hold it.

    Parameters
    ----------
    cache: bytes of partitions kept in memory; the last one is always kept.
    """

    def __init__(
        self,
        table: StoredFeatures,
        *,
        knowledge: Knowledge = Knowledge.AS_KNOWN,
        known_at: Instant | None = None,
        calendar: SessionCalendar | None = None,
        cache: int = CACHE_BYTES,
    ) -> None:
        self._table, self._knowledge, self._known_at = table, knowledge, known_at
        self._calendar, self._cache = calendar, cache
        snapshot = table.store.snapshot(table.name, table.snapshot_id)
        self._partitions = snapshot.partitions[::-1]
        self._none = snapshot.empty().select(table.features)
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._entities: dict[str, pl.Series] = {}

    def rows(self, spine: pl.DataFrame, *, as_of: str = "as_of") -> pl.DataFrame:
        """See :func:`~assay.features.offline.point_in_time.as_of_join`."""
        table: JoinedTable = self._table
        check_spine(spine, table, as_of, self._known_at)
        moments = spine[as_of].to_numpy()
        answers = self._answers(spine[table.entity].cast(pl.String), moments)
        return joined(spine, table, answers, moments, self._calendar)

    def _answers(self, entities: pl.Series, moments: NDArray[np.int64]) -> Answers:
        answered, features, events = [], [self._none], [np.empty(0, dtype=np.int64)]
        is_open = np.ones(len(moments), dtype=np.bool_)
        open_rows = np.arange(len(moments))
        for partition in self._partitions:
            if not open_rows.size:
                break
            first, _ = bounds(partition.name)
            asked = open_rows[moments[open_rows] >= first]
            if not asked.size or not self._may_answer(partition, entities[asked]):
                continue
            loaded = self._load(partition)
            winners = loaded.index.rows(entities[asked], moments[asked])
            found = winners != NOTHING
            if found.any():
                answered.append(asked[found])
                features.append(loaded.features[winners[found]])
                events.append(loaded.events[winners[found]])
                is_open[asked[found]] = False
                open_rows = open_rows[is_open[open_rows]]
        # Oldest first: then a spine in the order of time finds its answers in its own order.
        places = np.concatenate([np.empty(0, dtype=np.int64), *answered[::-1]])
        index = np.full(len(moments), NOTHING, dtype=np.int64)
        index[places] = np.arange(len(places))
        in_order = np.array_equal(index, np.arange(len(moments)))
        rows = pl.concat(features[::-1], rechunk=not in_order)
        return Answers(rows, np.concatenate(events[::-1]), index)

    def _may_answer(self, partition: Partition, entities: pl.Series) -> bool:
        """Whether one of the entities has rows there; True before it has been looked at."""
        known = self._entities.get(partition.name)
        return known is None or bool(entities.is_in(known.implode()).any())

    def _load(self, partition: Partition) -> _Loaded:
        loaded = self._loaded.get(partition.name)
        if loaded is None:
            loaded = self._read(partition)
            self._loaded[partition.name] = loaded
            self._entities[partition.name] = loaded.index.entities
        self._loaded.move_to_end(partition.name)
        while len(self._loaded) > 1 and self._held() > self._cache:
            self._loaded.popitem(last=False)
        return loaded

    def _held(self) -> int:
        return sum(loaded.bytes for loaded in self._loaded.values())

    def _read(self, partition: Partition) -> _Loaded:
        table = self._table
        first, last = bounds(partition.name)
        frame = table.store.read(
            table.name,
            table.snapshot_id,
            columns=[table.entity, *ORDER_COLUMNS, *table.features],
            since=first,
            until=None if last == MAX_INSTANT else last + 1,
            known_by=self._known_at,
        )
        features = frame.select(table.features)
        index = AsOfIndex.of(frame, table, self._knowledge)
        events = frame["event_time"].to_numpy()
        return _Loaded(index, features, events, int(features.estimated_size()) + 24 * frame.height)
