"""A live feed of bars: ticks arrive, rows of bars leave, late ticks correct them.

The rule. What a feed gives depends on nothing but the ticks and on how far its clock has come:

1. The clock is the latest known time that was seen, of a tick or by :meth:`BarFeed.close`. It never
   goes back: a tick known before it is refused.
2. A bar is due when it is complete (its end plus the lateness), and again at the known time of each
   tick that changes it afterwards. Its row is issued once the clock has passed that moment, so that
   everything known at the same moment is in one version, in whatever order it came.
3. The known time of a version is the moment at which it was due.
4. A version whose values equal those of the last one to the bit is not issued.
5. A bar is forgotten when the clock has passed its completion by the time for which it is kept.

:func:`assay.features.offline.bars.bars_as_known` gives the same from a table of ticks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import MIN_INSTANT, Instant, render
from assay.errors import ContractViolation, OutOfOrder, did_you_mean
from assay.features.definition.bars import Bars
from assay.features.kernel import bars as steps
from assay.features.kernel.bar_edges import BarEdges
from assay.features.kernel.bar_machine import (
    BarMachine,
    Counts,
    Ticks,
    bar_frame,
    capacity_for,
)
from assay.features.online.checkpoint import BarCheckpoint

_Words = NDArray[np.int64]
_Key = tuple[str, Instant]
_Share = tuple[str, Instant, int, int]
"""Entity, end of the bar, first record, record after the last."""


class BarRow(NamedTuple):
    """One version of a bar; ``values`` are in the order of the declaration's columns.

    ``event_time`` is the end of the bar, ``sequence`` the number of its versions before.
    """

    entity: str
    event_time: Instant
    known_time: Instant
    source_rank: int
    sequence: int
    values: NDArray[np.float64]


class BarFeed:
    """Makes bars of ticks as they become known, with the same compiled step as over history.

    Memory holds the ticks of the bars that are open or can be corrected. Not for use by several
    threads at once.

    Parameters
    ----------
    bars: the declaration.
    """

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.clock: Instant = MIN_INSTANT
        self._machine = BarMachine(bars)
        self._edges = BarEdges(bars)
        self._open: dict[_Key, _OpenBar] = {}
        # When bars are due, and when they are forgotten. A bar is due at what it says itself: an
        # entry that says otherwise is passed over.
        self._due: list[tuple[Instant, str, Instant]] = []
        self._forgotten: list[tuple[Instant, str, Instant]] = []
        self._counts = np.zeros(steps.COUNTS, dtype=np.int64)
        self._outside = 0
        # The bar, or the time between sessions, that held the last tick taken by itself.
        self._start: Instant = 0
        self._end: Instant = 0
        self._is_inside = False

    @property
    def counts(self) -> Counts:
        """What became of the ticks so far."""
        return Counts.of(self._counts, self._outside)

    @property
    def open_bars(self) -> int:
        """Bars that are remembered: open ones, and those that can be corrected."""
        return len(self._open)

    def push(
        self,
        entity: str,
        event_time: Instant,
        known_time: Instant,
        values: Mapping[str, float | bool | None] | NDArray[np.float64],
        *,
        source_rank: int = 0,
        sequence: int = 0,
    ) -> list[BarRow]:
        """Take one tick; the rows that its known time makes due, in the order of :meth:`take`.

        Parameters
        ----------
        values: by column name, or (faster) a float64 array in the order of ``bars.reads``; missing
            is NaN or None.

        Raises
        ------
        OutOfOrder: the tick became known before one that was taken, or before the feed was closed.
        ContractViolation: a column is missing, the array has another length, or the calendar does
            not cover the event time. Nothing was taken.
        """
        if known_time < self.clock:
            raise OutOfOrder(
                f"bars {self.bars.name}: tick of {entity} became known at {render(known_time)}, "
                f"expected {render(self.clock)} or later",
                hint="give ticks in the order in which they became known",
            )
        record = np.empty((1, self._machine.width), dtype=np.int64)
        record[0, :4] = event_time, source_rank, sequence, known_time
        record.view(np.float64)[0, 4:] = self._values(values)
        if not self._start <= event_time < self._end:
            starts, ends, is_inside = self._edges.of(np.array([event_time], dtype=np.int64))
            self._start, self._end = int(starts[0]), int(ends[0])
            self._is_inside = bool(is_inside[0])
        if not self._is_inside:
            self._outside += 1
            return self._advance([], record, known_time)
        return self._advance([(entity, self._end, 0, 1)], record, known_time)

    def take(self, ticks: pl.DataFrame) -> list[BarRow]:
        """Take ticks in the order of their known times; the rows that this makes due.

        Parameters
        ----------
        ticks: see :func:`~assay.features.offline.bars.bars_as_known`.

        Returns
        -------
        Rows by known time, entity and event time; never one that is known before a row that was
        given earlier.

        Raises
        ------
        ContractViolation, OutOfOrder: the table breaks its contract. Nothing was taken.
        """
        found = Ticks.of(self.bars, self._edges, ticks, self.clock)
        if found.latest is None:
            return []
        self._outside += found.outside
        firsts = found.firsts.tolist()
        shares = zip(found.entities, found.ends.tolist(), firsts[:-1], firsts[1:], strict=True)
        return self._advance(list(shares), found.records, found.latest)

    def close(self, now: Instant) -> list[BarRow]:
        """Let the clock come to ``now``; the rows that this makes due.

        Everything known before ``now`` has been given. A time before the clock changes nothing.
        """
        empty = np.empty((0, self._machine.width), dtype=np.int64)
        return self._advance([], empty, max(now, self.clock))

    def frame(self, rows: Sequence[BarRow]) -> pl.DataFrame:
        """Rows as a table: the layout of history, which views read."""
        keys = np.array(
            [(row.event_time, row.known_time, row.sequence) for row in rows], dtype=np.int64
        ).reshape(-1, 3)
        values = np.array([row.values for row in rows]).reshape(len(rows), len(self.bars.columns))
        return bar_frame(self.bars, [row.entity for row in rows], keys, values)

    def checkpoint(self) -> bytes:
        """Everything that the feed remembers."""
        open_bars = self._open.values()
        ticks = [self._machine.ticks_of(bar.block) for bar in open_bars]
        heads = [self._machine.head_of(bar.block) for bar in open_bars]
        shape = (-1, 2 + len(self.bars.columns))
        return BarCheckpoint(
            bars=self.bars.digest,
            clock=self.clock,
            counts=tuple(self._counts.tolist()),
            outside=self._outside,
            entities=tuple(entity for entity, _ in self._open),
            ends=tuple(end for _, end in self._open),
            ticks=tuple(len(records) for records in ticks),
            heads=np.array(heads, dtype=np.int64).reshape(shape),
            records=np.concatenate([np.empty((0, self._machine.width), np.int64), *ticks]),
        ).to_bytes()

    @classmethod
    def restore(cls, bars: Bars, data: bytes) -> BarFeed:
        """A feed that continues where the one stood that wrote ``data``.

        Raises
        ------
        IncompatibleVersion: the checkpoint is of another declaration or layout.
        Tampered: the bytes are not what was written.
        """
        found = BarCheckpoint.from_bytes(data, bars=bars.digest)
        feed = cls(bars)
        feed.clock = found.clock
        feed._counts[:] = found.counts
        feed._outside = found.outside
        start = 0
        for entity, end, ticks, head in zip(
            found.entities, found.ends, found.ticks, found.heads, strict=True
        ):
            capacity = capacity_for(ticks)
            records = found.records[start : start + ticks]
            feed._remember((entity, end), feed._machine.restored(records, capacity, head))
            start += ticks
        return feed

    def _values(self, values: Any) -> Any:
        if isinstance(values, np.ndarray):
            if values.shape != (len(self.bars.reads),):
                raise ContractViolation(
                    f"values of shape {values.shape}: expected {(len(self.bars.reads),)}, one for "
                    "each of " + ", ".join(self.bars.reads)
                )
            return values
        for name in self.bars.reads:
            if name not in values:
                raise ContractViolation(
                    f"bars {self.bars.name}: the tick has no column {name!r}",
                    hint=did_you_mean(name, values),
                )
        return [np.nan if values[name] is None else values[name] for name in self.bars.reads]

    def _advance(self, shares: list[_Share], records: _Words, clock: Instant) -> list[BarRow]:
        """Take each bar's share of the records and let the clock come to ``clock``."""
        touched = {(entity, end) for entity, end, _, _ in shares}
        due = [key for key in self._come_due(clock) if key not in touched]
        shares = [*shares, *((entity, end, 0, 0) for entity, end in due)]
        rows = self._run(shares, records, clock) if shares else []
        self.clock = clock
        while self._forgotten and self._forgotten[0][0] < clock:
            _, entity, end = heappop(self._forgotten)
            del self._open[entity, end]
        return rows

    def _come_due(self, clock: Instant) -> list[_Key]:
        """The bars that are due before ``clock``."""
        found = []
        while self._due and self._due[0][0] < clock:
            due, entity, end = heappop(self._due)
            bar = self._open.get((entity, end))
            if bar is not None and bar.queued == due:
                bar.queued = steps.NOTHING_DUE
                found.append((entity, end))
        return found

    def _run(self, shares: list[_Share], records: _Words, clock: Instant) -> list[BarRow]:
        segments = np.empty((len(shares), steps.SEGMENT), dtype=np.int64)
        used = []
        for place, (entity, end, start, stop) in enumerate(shares):
            bar = self._room_for((entity, end), stop - start)
            used.append(bar)
            address, complete = bar.block.ctypes.data, end + self.bars.wait
            segments[place] = address, start, stop, complete, complete + self.bars.kept, 0
        rows = self._machine.advance(segments, records, clock, len(records), self._counts)
        for bar, (entity, end, _, _) in zip(used, shares, strict=True):
            if bar.block[steps.TICKS] == 0:  # all that came was too late
                continue
            if (entity, end) not in self._open:
                self._remember((entity, end), bar.block)
            else:
                self._queue((entity, end), bar)
        values = rows[:, steps.ROW :].view(np.float64)
        issued = [
            BarRow(shares[segment][0], shares[segment][1], known, 0, version, values[row].copy())
            for row, (segment, known, version) in enumerate(rows[:, : steps.ROW].tolist())
        ]
        issued.sort(key=_place)
        return issued

    def _room_for(self, key: _Key, ticks: int) -> _OpenBar:
        """The bar, with room for so many more ticks; a new one is not remembered yet."""
        bar = self._open.get(key)
        if bar is None:
            capacity = capacity_for(ticks)
            nothing = np.empty((0, self._machine.width), dtype=np.int64)
            head = np.zeros(2 + len(self.bars.columns), dtype=np.int64)
            head[1] = steps.NOTHING_DUE
            return _OpenBar(self._machine.restored(nothing, capacity, head))
        needed = int(bar.block[steps.TICKS]) + ticks
        if needed > bar.block[steps.CAPACITY]:
            kept, head = self._machine.ticks_of(bar.block), self._machine.head_of(bar.block)
            bar.block = self._machine.restored(kept, capacity_for(needed), head)
        return bar

    def _remember(self, key: _Key, block: _Words) -> None:
        bar = self._open[key] = _OpenBar(block)
        entity, end = key
        heappush(self._forgotten, (end + self.bars.wait + self.bars.kept, entity, end))
        self._queue(key, bar)

    def _queue(self, key: _Key, bar: _OpenBar) -> None:
        due = int(bar.block[steps.DUE])
        if due not in (steps.NOTHING_DUE, bar.queued):
            heappush(self._due, (due, *key))
        bar.queued = due


class _OpenBar:
    """A bar that is remembered, and when the queue says that it is due."""

    __slots__ = ("block", "queued")

    def __init__(self, block: _Words) -> None:
        self.block = block
        self.queued = steps.NOTHING_DUE


def _place(row: BarRow) -> tuple[Instant, str, Instant]:
    return row.known_time, row.entity, row.event_time
