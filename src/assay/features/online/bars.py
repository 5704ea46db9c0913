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

from bisect import bisect_right
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
        # One tick's buffers, reused: what is handed out is a copy.
        self._record = np.empty((1, self._machine.width), dtype=np.int64)
        self._segment = np.zeros((1, steps.SEGMENT), dtype=np.int64)
        self._rows = np.empty((3, self._machine.row_width), dtype=np.int64)
        self._call = self._machine.call(self._segment, self._record, self._rows, self._counts)
        self._call_address = self._call.ctypes.data
        self._record_words, self._segment_words, self._call_words = map(
            _words_of, (self._record, self._segment, self._call)
        )
        self._values_in = self._record.view(np.float64)[0, steps.KEY :]
        # Bars, and times between sessions, around the last tick that was taken by itself.
        self._starts: list[Instant] = []
        self._ends: list[Instant] = []
        self._insides: list[bool] = []

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
        self._values_in[...] = self._values(values)
        end, is_inside = self._bar_at(event_time)
        words = self._record_words
        words[0], words[1], words[2], words[3] = event_time, source_rank, sequence, known_time
        if not is_inside:
            self._outside += 1
            return self._advance([], self._record, known_time)
        if self._due and self._due[0][0] < known_time:
            return self._advance([(entity, end, 0, 1)], self._record, known_time)
        return self._take_one(entity, end, known_time)

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
            block = feed._machine.restored(records, capacity, head)
            feed._settle((entity, end), _OpenBar(block))
            start += ticks
        return feed

    def _bar_at(self, time: Instant) -> tuple[Instant, bool]:
        """When the bar ends that holds a moment, and whether it is one."""
        place = bisect_right(self._starts, time) - 1
        if place < 0 or time >= self._ends[place]:
            found = self._edges.near(time)
            self._starts, self._ends = found.starts.tolist(), found.ends.tolist()
            self._insides = found.is_inside.tolist()
            place = bisect_right(self._starts, time) - 1
        return self._ends[place], self._insides[place]

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
        if self._due and self._due[0][0] < clock:
            touched = {(entity, end) for entity, end, _, _ in shares}
            due = [key for key in self._come_due(clock) if key not in touched]
            shares = [*shares, *((entity, end, 0, 0) for entity, end in due)]
        rows = self._run(shares, records, clock) if shares else []
        self._forget(clock)
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
        wait, keep = self.bars.wait, self.bars.kept
        words: list[int] = []
        used = []
        for entity, end, start, stop in shares:
            bar, fresh = self._room_for((entity, end), stop - start)
            used.append(bar)
            complete = end + wait
            words += (bar.address, start, stop, complete, complete + keep, fresh)
        segments = np.array(words, dtype=np.int64).reshape(-1, steps.SEGMENT)
        rows = self._machine.advance(segments, records, clock, len(records), self._counts)
        for bar, (entity, end, _, _) in zip(used, shares, strict=True):
            self._settle((entity, end), bar)
        return _issued(rows, shares)

    def _take_one(self, entity: str, end: Instant, clock: Instant) -> list[BarRow]:
        """The same for the one tick in the buffers, where no bar is due."""
        bar, fresh = self._room_for((entity, end), 1)
        complete = end + self.bars.wait
        words = self._segment_words
        words[0], words[2], words[3] = bar.address, 1, complete
        words[4], words[5] = complete + self.bars.kept, fresh
        self._call_words[4] = clock
        self._machine.function(self._call_address)
        self._settle((entity, end), bar)
        self._forget(clock)
        issued = self._call_words[7]
        return _issued(self._rows[:issued], [(entity, end, 0, 1)]) if issued else []

    def _settle(self, key: _Key, bar: _OpenBar) -> None:
        """Remember a bar, and when it is due next."""
        if key not in self._open:
            if bar.words[steps.TICKS] == 0:  # all that came was too late
                return
            self._open[key] = bar
            heappush(self._forgotten, (key[1] + self.bars.wait + self.bars.kept, *key))
        due = bar.words[steps.DUE]
        if due not in (steps.NOTHING_DUE, bar.queued):
            heappush(self._due, (due, *key))
        bar.queued = due

    def _forget(self, clock: Instant) -> None:
        """Let the clock come to ``clock``, and go what cannot be corrected then."""
        self.clock = clock
        while self._forgotten and self._forgotten[0][0] < clock:
            _, entity, end = heappop(self._forgotten)
            del self._open[entity, end]

    def _room_for(self, key: _Key, ticks: int) -> tuple[_OpenBar, int]:
        """The bar, with room for so many more ticks.

        A new one is not remembered yet, and begins with the capacity that is the second result.
        """
        bar = self._open.get(key)
        if bar is None:
            capacity = capacity_for(ticks)
            return _OpenBar(self._machine.block(capacity)), capacity
        needed = bar.words[steps.TICKS] + ticks
        if needed > bar.words[steps.CAPACITY]:
            kept, head = self._machine.ticks_of(bar.block), self._machine.head_of(bar.block)
            bar.use(self._machine.restored(kept, capacity_for(needed), head))
        return bar, 0


class _OpenBar:
    """A bar that is remembered, and when the queue says that it is due."""

    __slots__ = ("address", "block", "queued", "words")

    def __init__(self, block: _Words) -> None:
        self.queued = steps.NOTHING_DUE
        self.use(block)

    def use(self, block: _Words) -> None:
        """Let it be this block; single words are read faster from memory than from the array."""
        self.block = block
        self.words = _words_of(block)
        self.address: int = block.ctypes.data


def _words_of(array: Any) -> memoryview:
    """An array's memory as Python integers, faster one by one than the array."""
    return memoryview(array.reshape(-1))


def _issued(rows: _Words, shares: Sequence[_Share]) -> list[BarRow]:
    """Rows of the step, in the order in which they leave."""
    if not rows.size:
        return []
    values = rows[:, steps.ROW :].view(np.float64)
    keys = rows[:, : steps.ROW].tolist()
    issued = [
        BarRow(shares[segment][0], shares[segment][1], known, 0, version, values[row].copy())
        for row, (segment, known, version) in enumerate(keys)
    ]
    issued.sort(key=_place)
    return issued


def _place(row: BarRow) -> tuple[Instant, str, Instant]:
    return row.known_time, row.entity, row.event_time
