"""A live feed: facts arrive, rows of features leave for the online store.

The rule. What a feed gives depends on nothing but the batches of arrivals that it was given:

1. The version of a fact (entity, event time) that counts is the largest by (known time, source
   rank, sequence) of those that have arrived. An older version, or the same one again, is ignored.
2. After each batch, the row of a fact is the value of the view over the facts that count then. A
   row that was not issued before is issued with the known time that the kernel gives it.
3. A row that was issued and whose values have changed by a bit is issued again. Its known time is
   the largest of: what the kernel gives, the latest known time in the batch, one nanosecond after
   the known time it was last issued with. So the versions of a row are ordered as they were issued,
   and none claims to have been known before what it corrects.
4. Only the last ``margin`` event times that stood before the batch, and later ones, get rows; of an
   entity where the view has no barrier, of all entities together where it has one. Older facts
   still count for the windows of later rows.
5. Behind a barrier the latest event time is open: its rows wait. It closes when a later event time
   arrives, with the batch where the feed was opened so, or by :meth:`OnlineFeed.close`. An arrival
   for an event time that is not the open one is late, and rule 3 covers it.

:func:`assay.features.offline.arrivals.as_known_history` computes the same from a table of arrivals.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, Instant, render
from assay.domain.order import ORDER_COLUMNS
from assay.errors import Conflict, ContractViolation, OutOfOrder
from assay.features.definition.lateness import Lateness, lateness_for
from assay.features.definition.views import FeatureView
from assay.features.kernel.frames import batch_starts, last_rows
from assay.features.online.arrivals import Arrival, Facts, batches_of
from assay.features.online.checkpoint import FeedCheckpoint
from assay.features.online.driver import FeatureRow, OnlineDriver
from assay.features.online.store import OnlineStore, StoredRow
from assay.storage.files import write_atomic

MARGIN = 32
"""Event times whose rows are issued again, unless the feed is told otherwise."""

_NEVER = MIN_INSTANT


class OnlineFeed:
    """Takes arrivals, keeps an online store up to date, and survives being killed.

    Parameters
    ----------
    view: what to compute.
    store: where rows go, under the name of the view.
    checkpoint_path: where the feed remembers itself; an existing file is continued from. None means
        that nothing is remembered.
    margin, close_with_batch: what a :class:`~assay.features.definition.lateness.Lateness` says as
        event_times and closes_with_batch, by default ``MARGIN`` and False; to be left out where the
        view declares one.
    checkpoint_every: arrivals between two checkpoints.

    Not for use by several threads at once.

    Raises
    ------
    Conflict: the view declares another lateness.
    IncompatibleVersion: the checkpoint is of another manifest, margin or layout.
    Tampered: the checkpoint is damaged.
    """

    def __init__(
        self,
        view: FeatureView,
        store: OnlineStore,
        checkpoint_path: Path | None = None,
        *,
        margin: int | None = None,
        checkpoint_every: int = 1_000,
        close_with_batch: bool | None = None,
    ) -> None:
        if checkpoint_every < 1:
            raise ContractViolation(f"checkpoint_every {checkpoint_every}: expected at least one")
        allowed = lateness_for(view.name, view.lateness, margin, close_with_batch)
        allowed = allowed or Lateness(MARGIN, bool(close_with_batch))
        self.view = view
        self.position = 0
        self._driver = OnlineDriver(view)
        self._store = store
        self._path = checkpoint_path
        self._margin = allowed.event_times
        self._every = checkpoint_every
        self._close_with_batch = allowed.closes_with_batch
        self._facts: dict[str, Facts] = {}
        self._issued: dict[str, dict[Instant, _Issued]] = {}
        # Of a view with a barrier: the latest event time, whether it is open, the last closed ones.
        self._latest: Instant = _NEVER
        self._is_open = False
        self._times: list[Instant] = []
        self._unwritten: list[StoredRow] = []
        self._saved_at = 0
        if checkpoint_path is not None and checkpoint_path.exists():
            self._restore(checkpoint_path.read_bytes())

    def take(
        self, arrivals: Iterable[Arrival], *, position: int | None = None, close: bool = False
    ) -> list[StoredRow]:
        """Take what arrived at once; the rows that it gave, which are in the store by then.

        Arrivals that become known at the same time belong into one batch: the rows between them
        would never be seen. After a restart, batches are given again as they were.

        Parameters
        ----------
        position: the place of the batch's end in the log that arrivals are read from. A batch that
            does not lead beyond the feed's own position was taken before and is passed over. By
            default arrivals are counted.
        close: the latest event time is complete after this batch.

        Returns
        -------
        New rows and new versions of rows, by event time, then entity.

        Raises
        ------
        Conflict: two arrivals at one place of the total order differ. Nothing was taken.
        ContractViolation: an arrival is malformed. Nothing was taken.
        """
        batch = list(arrivals)
        if position is not None and position <= self.position:
            self._write()
            return []
        self._check(batch)
        rows = self._advance(batch, close=close or self._close_with_batch)
        self.position = self.position + len(batch) if position is None else position
        stored = [StoredRow(*row[:5], self._driver.manifest.hash, row.values) for row in rows]
        self._unwritten += stored
        self._write()
        if self._path is not None and self.position - self._saved_at >= self._every:
            self.checkpoint()
        return stored

    def close(self) -> list[StoredRow]:
        """Say that the latest event time is complete; its rows. For views with a barrier."""
        return self.take((), close=True)

    def warm_up(self, arrivals: pl.DataFrame, *, position: int | None = None) -> None:
        """Take history without writing to the store, in place of a lost checkpoint.

        Afterwards the feed gives what one gives that took every arrival. Only the last ``margin``
        event times are gone through batch by batch; of what was known before them, the facts that
        count are loaded at once.

        Parameters
        ----------
        arrivals: in the order of arrival, from the first one on; see :func:`batches_of`.
        position: the place of its end in the log that arrivals are read from.

        Raises
        ------
        OutOfOrder: the feed has taken arrivals already.
        """
        if self._facts:
            raise OutOfOrder(
                f"feed of view {self.view.name} stands at position {self.position}: "
                "expected a new one to warm up"
            )
        start = self._first_that_matters(arrivals)
        self._load(arrivals[:start])
        for batch in batches_of(self.view, arrivals[start:]):
            self._check(batch)
            self._advance(batch, close=self._close_with_batch)
        self.position = arrivals.height if position is None else position
        self._saved_at = self.position

    def checkpoint(self) -> None:
        """Write down where the feed stands, atomically; a checkpoint never lags half behind.

        Raises
        ------
        Conflict: the feed was opened without a path.
        """
        if self._path is None:
            raise Conflict(f"feed of view {self.view.name} was opened without checkpoint_path")
        self._write()
        write_atomic(self._path, self._remembered().to_bytes())
        self._saved_at = self.position

    def _first_that_matters(self, arrivals: pl.DataFrame) -> int:
        """The first row of the batch in which the first of the last event times arrives.

        Rows that may be issued again were issued from there on, so their known times follow.
        """
        times = pl.col("event_time")
        if self.view.has_barrier:
            closed = arrivals["event_time"].unique().sort()
            if not self._close_with_batch:
                closed = closed[:-1]
            if len(closed) < self._margin:
                return 0
            recent = times >= closed[-self._margin]
        else:
            place = times.rank("dense", descending=True).over(self.view.entity)
            recent = place <= self._margin
        found = arrivals.select(recent.arg_true().first().alias("row"))["row"][0]
        starts = batch_starts(arrivals)
        return 0 if found is None else starts[bisect_right(starts, found) - 1]

    def _load(self, arrivals: pl.DataFrame) -> None:
        """Let the facts of a table count, without rows."""
        if arrivals.is_empty():
            return
        keys = [self.view.entity, "event_time"]
        facts = arrivals.sort(self.view.key_columns).unique(keys, keep="last", maintain_order=True)
        if self.view.has_barrier:
            self._latest = int(arrivals["event_time"].to_numpy().max())
            self._is_open = not self._close_with_batch
        # What is issued from here on looks back no further; an open row is one more.
        facts = last_rows(facts, self.view.entity, self.view.remembered + 1)
        for (entity,), own in facts.group_by(self.view.entity, maintain_order=True):
            self._facts[str(entity)] = Facts.of(self.view, own)
            self._issued[str(entity)] = {}
        self._warm_driver()

    def _warm_driver(self) -> None:
        # The driver's state depends on its last rows alone: it is computed rather than stored.
        upto = self._latest - self._is_open if self.view.has_barrier else MAX_INSTANT
        self._driver.warm_up(self._frame(sorted(self._facts), upto))

    def _advance(self, batch: list[Arrival], *, close: bool) -> list[FeatureRow]:
        """Apply a checked batch to the facts that count, and compute what follows from it."""
        if self._driver.view.has_barrier:
            rows = self._advance_sections(batch, close=close)
        else:
            rows = self._advance_entities(batch)
        rows.sort(key=lambda row: (row.event_time, row.entity))
        return rows

    def _advance_entities(self, batch: list[Arrival]) -> list[FeatureRow]:
        horizons: dict[str, Instant] = {}
        counted: list[Arrival] = []
        in_order = True
        for arrival in batch:
            entity = arrival.entity
            facts = self._facts.get(entity)
            if facts is None:
                facts = self._facts[entity] = Facts(len(self.view.columns))
                self._issued[entity] = {}
            horizons.setdefault(entity, facts.horizon(self._margin))
            is_next = arrival.event_time > facts.last
            if facts.apply(arrival):
                counted.append(arrival)
                in_order &= is_next
        if in_order:
            rows = []
            for arrival in counted:
                row = self._push(arrival)
                assert row is not None
                rows.append(self._issue(row))
        else:
            rebuilt = self._rebuild(sorted(horizons), MAX_INSTANT, min(horizons.values()))
            wanted = [row for row in rebuilt if row.event_time >= horizons[row.entity]]
            rows = self._issue_changes(wanted, batch)
        for entity in horizons:
            facts = self._facts[entity]
            self._trim(entity, facts.horizon(self._margin))
        return rows

    def _advance_sections(self, batch: list[Arrival], *, close: bool) -> list[FeatureRow]:
        horizon = self._times[0] if len(self._times) == self._margin else _NEVER
        in_order = True
        times = {self._latest} if self._is_open else set()
        for arrival in batch:
            time = arrival.event_time
            if time > self._latest:
                self._latest, self._is_open = time, True
            facts = self._facts.get(arrival.entity)
            if facts is None:
                facts = self._facts[arrival.entity] = Facts(len(self.view.columns))
                self._issued[arrival.entity] = {}
            if facts.apply(arrival):
                times.add(time)
                in_order &= time == self._latest and self._is_open
        if close:
            self._is_open = False
        upto = self._latest - self._is_open
        closed = sorted(time for time in times if time <= upto)
        if in_order:
            rows = [self._issue(row) for time in closed for row in self._close(time)]
        else:
            rebuilt = self._rebuild(sorted(self._facts), upto, horizon)
            rows = self._issue_changes(rebuilt, batch)
        self._times = sorted({*self._times, *closed})[-self._margin :]
        horizon = self._times[0] if len(self._times) == self._margin else _NEVER
        for entity in {arrival.entity for arrival in batch}:
            self._trim(entity, horizon)
        return rows

    def _push(self, arrival: Arrival) -> FeatureRow | None:
        return self._driver.push(
            arrival.entity,
            arrival.event_time,
            arrival.known_time,
            arrival.values,
            source_rank=arrival.source_rank,
            sequence=arrival.sequence,
        )

    def _close(self, time: Instant) -> list[FeatureRow]:
        """Push the facts of an event time, which waited in case they were revised."""
        for entity, facts in self._facts.items():
            found = facts.at(entity, time)
            if found is not None:
                self._push(found)
        return self._driver.close(time)

    def _rebuild(
        self, entities: Sequence[str], upto: Instant, since: Instant
    ) -> Iterator[FeatureRow]:
        rows = self._driver.rebuild(self._frame(entities, upto), since)
        values = np.ascontiguousarray(rows.select(self.view.feature_names).to_numpy())
        keys = rows.select(self.view.key_columns).iter_rows()
        return (
            FeatureRow(entity, event_time, known_time, rank, sequence, row)
            for (entity, event_time, known_time, rank, sequence), row in zip(
                keys, values, strict=True
            )
        )

    def _frame(self, entities: Sequence[str], upto: Instant) -> pl.DataFrame:
        """The facts that count, as the drivers take them."""
        kept = [(entity, self._facts[entity].upto(upto)) for entity in entities]
        names = [entity for entity, _ in kept]
        counts = [keys.shape[0] for _, (keys, _) in kept]
        keys = np.concatenate([np.empty((0, 4), np.int64), *(keys for _, (keys, _) in kept)])
        width = len(self.view.columns)
        values = np.concatenate([np.empty((0, width)), *(values for _, (_, values) in kept)])
        column = pl.Series(self.view.entity, names, dtype=pl.String)
        which = np.repeat(np.arange(len(names)), counts)
        return pl.DataFrame(
            [
                column.gather(which) if names else column,
                *(pl.Series(name, keys[:, index]) for index, name in enumerate(ORDER_COLUMNS)),
                *(pl.Series(name, values[:, i]) for i, name in enumerate(self.view.columns)),
            ]
        )

    def _issue(self, row: FeatureRow) -> FeatureRow:
        issued = _Issued(row.known_time, row.values.tobytes())
        self._issued[row.entity][row.event_time] = issued
        return row

    def _issue_changes(
        self, rows: Iterable[FeatureRow], batch: Sequence[Arrival]
    ) -> list[FeatureRow]:
        arrived = max(arrival.known_time for arrival in batch)
        found = []
        for row in rows:
            before = self._issued[row.entity].get(row.event_time)
            if before is None:
                found.append(self._issue(row))
            elif before.values != row.values.tobytes():
                known = max(row.known_time, arrived, before.known_time + 1)
                found.append(self._issue(row._replace(known_time=known)))
        return found

    def _trim(self, entity: str, horizon: Instant) -> None:
        self._facts[entity].trim(horizon, self.view.remembered)
        issued = self._issued[entity]
        for time in [time for time in issued if time < horizon]:
            del issued[time]

    def _check(self, batch: Sequence[Arrival]) -> None:
        """Refuse what cannot be taken before anything has changed."""
        seen: dict[tuple[str, tuple[int, ...]], bytes] = {}
        for arrival in batch:
            values = arrival.values
            if values.shape != (len(self.view.columns),) or values.dtype != np.float64:
                raise ContractViolation(
                    f"view {self.view.name}: arrival of {arrival.entity} with "
                    f"{values.dtype}{list(values.shape)}, expected one float64 for each of "
                    + ", ".join(self.view.columns)
                )
            key = arrival.key
            content = values.tobytes()
            facts = self._facts.get(arrival.entity)
            held = None if facts is None else facts.at(arrival.entity, arrival.event_time)
            same = held is None or held.key != key or held.values.tobytes() == content
            if not same or seen.setdefault((arrival.entity, key), content) != content:
                raise Conflict(
                    f"view {self.view.name}: fact of {arrival.entity} at "
                    f"{render(arrival.event_time)}, known {render(arrival.known_time)}, rank "
                    f"{arrival.source_rank}, sequence {arrival.sequence} arrived with other values",
                    hint="a revision needs a later known time, a higher rank or a later sequence",
                )

    def _write(self) -> None:
        # A store that failed is written to again before anything else: no row is skipped.
        if self._unwritten:
            self._store.write(self.view.name, self._unwritten)
            self._unwritten = []

    def _remembered(self) -> FeedCheckpoint:
        entities = tuple(self._facts)
        facts = [self._facts[entity].upto(MAX_INSTANT) for entity in entities]
        issued = [row for entity in entities for row in self._issued[entity].items()]
        width, features = len(self.view.columns), len(self.view.features)
        return FeedCheckpoint(
            manifest=self._driver.manifest.hash,
            margin=self._margin,
            position=self.position,
            latest=None if self._latest == _NEVER else self._latest,
            is_open=self._is_open,
            times=tuple(self._times),
            entities=entities,
            facts=tuple(keys.shape[0] for keys, _ in facts),
            issued=tuple(len(self._issued[entity]) for entity in entities),
            fact_keys=np.concatenate([np.empty((0, 4), np.int64), *(keys for keys, _ in facts)]),
            fact_values=np.concatenate([np.empty((0, width)), *(values for _, values in facts)]),
            issued_keys=np.array(
                [(time, row.known_time) for time, row in issued], dtype=np.int64
            ).reshape(-1, 2),
            issued_values=np.frombuffer(b"".join(row.values for _, row in issued)).reshape(
                -1, features
            ),
        )

    def _restore(self, data: bytes) -> None:
        found = FeedCheckpoint.from_bytes(
            data, manifest=self._driver.manifest.hash, margin=self._margin
        )
        self.position = self._saved_at = found.position
        self._latest = _NEVER if found.latest is None else found.latest
        self._is_open = found.is_open
        self._times = list(found.times)
        keys, values = found.issued_keys.tolist(), [row.tobytes() for row in found.issued_values]
        start, first = 0, 0
        for entity, facts, issued in zip(found.entities, found.facts, found.issued, strict=True):
            stop, last = start + facts, first + issued
            self._facts[entity] = Facts(
                len(self.view.columns), found.fact_keys[start:stop], found.fact_values[start:stop]
            )
            self._issued[entity] = {
                keys[row][0]: _Issued(keys[row][1], values[row]) for row in range(first, last)
            }
            start, first = stop, last
        self._warm_driver()


class _Issued(NamedTuple):
    """The last version of a row that was issued; values by their bytes."""

    known_time: Instant
    values: bytes
