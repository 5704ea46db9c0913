"""The online driver: a view, event by event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import Instant, render
from assay.errors import Conflict, ContractViolation, OutOfOrder, did_you_mean
from assay.features.definition.manifest import Manifest
from assay.features.definition.views import FeatureView
from assay.features.kernel.calendar import CalendarInputs
from assay.features.kernel.engine import SEGMENT_WIDTH
from assay.features.kernel.frames import TIMES, Rows, check_rows, result_frame
from assay.features.kernel.layout import LEAST_ROOM, Machine, features_of
from assay.features.kernel.sections import Latest, Sections
from assay.features.online.checkpoint import Checkpoint

_NEVER = -(2**63)
_new_tuple = tuple.__new__
_Array = np.ndarray


def _words(array: NDArray[Any]) -> memoryview:
    """A one-dimensional array's memory as Python integers, faster one by one than the array."""
    words: Any = array.reshape(-1).view(np.int64)
    return memoryview(words)


class FeatureRow(NamedTuple):
    """One computed row; ``values`` are in the order of the view's features, missing ones NaN."""

    entity: str
    event_time: Instant
    known_time: Instant
    source_rank: int
    sequence: int
    values: NDArray[np.float64]


class _Waiting(NamedTuple):
    """A row behind the barrier: its keys, and what the first stage computed."""

    entity: str
    source_rank: int
    sequence: int
    first: NDArray[np.float64]


class OnlineDriver:
    """Computes rows as events arrive, with the same compiled kernel as the offline driver.

    Rows of one entity must arrive in the order of their event times. A view with features across
    entities has a
    barrier: its rows wait until :meth:`close` says that an event time is complete. Not for use by
    several threads at once.
    """

    def __init__(self, view: FeatureView) -> None:
        self.view = view
        self.manifest = Manifest.of(view)
        self.columns = view.columns
        self._machine = Machine.build(view.plan.first, 1)
        self._slots: dict[str, int] = {}
        self._last: list[Instant] = []
        self._closed: Instant = _NEVER
        self._waiting: dict[Instant, list[_Waiting]] = {}
        self._bulk: Machine | None = None
        self._sections = Sections(view) if view.has_barrier else None
        self._latest = Latest.none_yet(view)
        # One event's buffers, reused: what is handed out is a copy.
        self._input = np.empty((len(view.plan.first.inputs), 1))
        self._output = np.empty((len(view.plan.first.outputs), 1))
        self._segment = np.array([[0, 0, 1, 0]], dtype=np.int64)
        self._known_in = _words(self._input[0])
        self._event_in = _words(self._input[1])
        self._known_out = _words(self._output[0])
        self._segment_words = _words(self._segment)
        self._barrier = view.plan.second is not None
        self._shape = (len(self.columns),)
        self._values_in = self._input[TIMES : TIMES + len(self.columns), 0]
        self._calendar_in = self._input[TIMES + len(self.columns) :].reshape(-1)
        self._values_out = self._output[1:, 0]
        # The calendar inputs in the buffer hold for event times from the one to before the other.
        self._date_from, self._date_to = 0, 0
        self._calendars = CalendarInputs.of(view)
        self._function = self._machine.function
        self._use(np.empty((0, self._machine.template.size)))

    @property
    def entities(self) -> tuple[str, ...]:
        """The entities seen so far."""
        return tuple(self._slots)

    def push(
        self,
        entity: str,
        event_time: Instant,
        known_time: Instant,
        values: Mapping[str, float | bool | None] | NDArray[np.float64],
        *,
        source_rank: int = 0,
        sequence: int = 0,
    ) -> FeatureRow | None:
        """Take one event; its row, or None when it waits behind the barrier.

        Parameters
        ----------
        values: by column name, or (faster) a float64 array in the order of :attr:`columns`; missing
            is NaN or None.

        Raises
        ------
        OutOfOrder: the event is not later than the entity's last one, or its event time is closed.
            Nothing changed.
        ContractViolation: a column is missing, or the array has another length.
        """
        if isinstance(values, _Array):
            if values.shape != self._shape:
                raise ContractViolation(
                    f"values of shape {values.shape}: expected {self._shape}, one for each of "
                    + ", ".join(self.columns)
                )
            given: Any = values
        else:
            given = self._from_mapping(values)
        slot = self._slots.get(entity, -1)
        if slot < 0 or event_time <= self._last[slot] or event_time <= self._closed:
            self._check_order(entity, event_time, self._last_of(entity))
            if not self._date_from <= event_time < self._date_to:
                self._turn_calendar(event_time)  # refuses what no calendar covers
            slot = self._slot_of(entity)
        self._values_in[...] = given
        self._known_in[0] = known_time
        self._event_in[0] = event_time
        if not self._date_from <= event_time < self._date_to:
            self._turn_calendar(event_time)
        self._segment_words[0] = slot
        self._function(self._call_address)
        self._last[slot] = event_time
        if self._barrier:
            waiting = _Waiting(entity, source_rank, sequence, self._output[:, 0].copy())
            self._waiting.setdefault(event_time, []).append(waiting)
            return None
        row = (
            entity,
            event_time,
            self._known_out[0],
            source_rank,
            sequence,
            self._values_out.copy(),
        )
        return _new_tuple(FeatureRow, row)  # a third of a microsecond less than FeatureRow(...)

    def push_many(
        self,
        entities: Sequence[str],
        event_times: NDArray[np.int64],
        known_times: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Take a micro-batch of a view without a barrier, in one call of the kernel.

        Parameters
        ----------
        entities, event_times, known_times: one per event, in the order of arrival; an entity may
            occur several times.
        values: one row per column of :attr:`columns`, one column per event.

        Returns
        -------
        The known times, and one row per feature with one column per event: the same bits as from
            :meth:`push`.

        Raises
        ------
        OutOfOrder: as in :meth:`push`; nothing of the batch was taken.
        """
        if self._barrier:
            raise Conflict(f"view {self.view.name} has a barrier: push its events one by one")
        count = len(entities)
        if values.shape != (len(self.columns), count):
            raise ContractViolation(
                f"values of shape {values.shape}: expected {(len(self.columns), count)}"
            )
        times = event_times.tolist()
        last: dict[str, Instant] = {}
        for entity, time in zip(entities, times, strict=True):
            earlier = last.get(entity)
            if earlier is None:
                earlier = self._last_of(entity)
            if time <= earlier or time <= self._closed:
                self._check_order(entity, time, earlier)
            last[entity] = time
        inputs = np.empty((len(self._machine.program.inputs), count))
        inputs[0].view(np.int64)[:] = known_times
        inputs[1].view(np.int64)[:] = event_times
        inputs[TIMES : TIMES + len(self.columns)] = values
        if self.view.plan.calendar and count:
            calendar = self._calendar(event_times, min(times), max(times))
            inputs[TIMES + len(self.columns) :].view(np.int64)[:] = calendar.view(np.int64)
        segments = np.zeros((count, SEGMENT_WIDTH), dtype=np.int64)
        segments[:, 0] = [self._slot_of(entity) for entity in entities]
        segments[:, 1] = np.arange(count)
        segments[:, 2] = segments[:, 1] + 1
        outputs = np.empty((len(self._machine.program.outputs), count))
        self._machine.run(self._states, segments, inputs, outputs)
        for entity, time in last.items():
            self._last[self._slots[entity]] = time
        return outputs[0].view(np.int64), outputs[1:]

    def close(self, event_time: Instant) -> list[FeatureRow]:
        """Say that every row of an event time has arrived; its rows, in the order of entity names.

        Raises
        ------
        OutOfOrder: this or a later event time was closed before.
        Conflict: an earlier event time is still open, or the view has no barrier.
        """
        if self._sections is None:
            raise Conflict(f"view {self.view.name} has no barrier: push returns its rows")
        if event_time <= self._closed:
            raise OutOfOrder(
                f"view {self.view.name}: event time {render(event_time)} cannot be closed after "
                f"{render(self._closed)}"
            )
        earliest = min(self._waiting, default=event_time)
        if earliest < event_time:
            raise Conflict(
                f"view {self.view.name}: event time {render(earliest)} is still open",
                hint="close event times in their order",
            )
        self._closed = event_time
        rows = sorted(self._waiting.pop(event_time, []))
        if not rows:
            return []
        first = np.column_stack([row.first for row in rows])
        names = [row.entity for row in rows]
        second = self._sections.one(names, event_time, first, self._latest)
        outputs = np.array(features_of(self.view, first, second))
        known = outputs[0].view(np.int64).tolist()
        values = np.ascontiguousarray(outputs[1:].T)
        return [
            FeatureRow(row.entity, event_time, known[i], row.source_rank, row.sequence, values[i])
            for i, row in enumerate(rows)
        ]

    def warm_up(self, frame: pl.DataFrame) -> None:
        """Take history without giving rows: the last ``view.remembered`` rows of an entity suffice.

        After it, rows have the same bits as in a process that ran from the first row on. The frame
        obeys the same contract as offline; its event times count as closed.
        """
        rows = check_rows(self.view, frame)
        for entity, start in zip(rows.entities, rows.starts[:-1], strict=True):
            self._check_order(entity, int(rows.event_times[start]), self._last_of(entity))
        self._take(rows, afresh=False)

    def rebuild(self, frame: pl.DataFrame, since: Instant) -> pl.DataFrame:
        """Take the history of some entities in place of all that they gave before.

        This is how a late or revised row enters: what the driver remembers of these entities is
        forgotten, and their rows are taken again with it. Where every entity has at least
        ``view.remembered`` rows before ``since`` in the frame, or all that there are, the result
        has the bits of a driver that took everything in order.

        Parameters
        ----------
        frame: the contract is that of the offline driver. For a view with a barrier it holds the
            rows of all entities, from ``since`` on completely; its event times count as closed.
        since: rows are given for event times from here on.

        Raises
        ------
        Conflict: rows wait behind the barrier.
        """
        if self._waiting:
            raise Conflict(f"view {self.view.name}: rows wait for their event time to be closed")
        rows = check_rows(self.view, frame)
        first = self._take(rows, afresh=True)
        second = None
        if self._sections is not None:
            second = self._sections.of_history(rows, first, since=since)
        outputs = features_of(self.view, first, second)
        wanted = pl.Series(rows.event_times >= since)
        return result_frame(self.view, rows, outputs).filter(wanted)

    def _take(self, rows: Rows, *, afresh: bool) -> NDArray[np.float64]:
        """Run the first stage over histories; the event times of a view with a barrier close."""
        outputs = np.empty((len(self._machine.program.outputs), rows.count))
        if rows.count == 0:
            return outputs
        self._reserve(len(set(rows.entities).difference(self._slots)))
        slots = [self._slot_of(entity) for entity in rows.entities]
        # Many rows at a time cost a tenth of one by one; what is remembered is the same.
        if self._bulk is None:
            self._bulk = Machine.build(self.view.plan.first, LEAST_ROOM)
        bulk = self._bulk
        scratch = bulk.states(1)
        for slot, start, stop in zip(slots, rows.starts[:-1], rows.starts[1:], strict=True):
            if not afresh:
                bulk.adopt(scratch[0], self._machine, self._states[slot])
            segment = np.array([[0, start, stop, afresh]], dtype=np.int64)
            bulk.run(scratch, segment, rows.inputs, outputs)
            self._machine.adopt(self._states[slot], bulk, scratch[0])
            self._last[slot] = int(rows.event_times[stop - 1])
        if self._sections is not None:
            self._closed = max(int(rows.event_times.max()), self._closed)
            self._sections.latest_of(rows, outputs, self._latest)
        return outputs

    def replay(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Push every row of a frame in the order of event times; the same layout as offline."""
        rows = check_rows(self.view, frame)
        outputs = np.empty((1 + len(self.view.features), rows.count))
        known = outputs[0].view(np.int64)
        names = rows.keys[self.view.entity].to_list()
        times = rows.event_times.tolist()
        arrived = rows.inputs[0].view(np.int64).tolist()
        values = np.ascontiguousarray(rows.inputs[TIMES : TIMES + len(self.columns)].T)
        order = np.argsort(rows.event_times, kind="stable").tolist()
        barrier = self.view.plan.second is not None
        waiting: list[int] = []
        for place, row in enumerate(order):
            result = self.push(names[row], times[row], arrived[row], values[row])
            waiting.append(row)
            if barrier and place + 1 < len(order) and times[order[place + 1]] == times[row]:
                continue
            results = self.close(times[row]) if barrier else [result]
            for index, done in zip(waiting, results, strict=True):
                assert done is not None
                known[index] = done.known_time
                outputs[1:, index] = done.values
            waiting.clear()
        return result_frame(self.view, rows, list(outputs))

    def checkpoint(self) -> bytes:
        """Everything that the driver remembers, as bytes."""
        waiting = [(time, row) for time, rows in self._waiting.items() for row in rows]
        return Checkpoint(
            manifest=self.manifest.hash,
            entities=self.entities,
            last_times=tuple(self._last),
            closed=None if self._closed == _NEVER else self._closed,
            waiting=tuple((t, row.entity, row.source_rank, row.sequence) for t, row in waiting),
            states=self._states[: len(self._slots)],
            open_rows=np.array([row.first for _, row in waiting]).reshape(
                len(waiting), len(self._machine.program.outputs)
            ),
            latest_times=self._latest.event_times,
            latest_values=self._latest.values,
        ).to_bytes()

    @classmethod
    def restore(cls, view: FeatureView, data: bytes) -> OnlineDriver:
        """A driver that continues, bit for bit, where :meth:`checkpoint` was taken.

        Raises
        ------
        IncompatibleVersion: the checkpoint is of another manifest or layout.
        Tampered: the bytes are not what was written.
        """
        driver = cls(view)
        found = Checkpoint.from_bytes(data, manifest=driver.manifest.hash)
        driver._slots = {entity: slot for slot, entity in enumerate(found.entities)}
        driver._last = list(found.last_times)
        driver._closed = _NEVER if found.closed is None else found.closed
        driver._use(found.states)
        driver._latest = Latest(found.latest_times, found.latest_values)
        for (time, entity, rank, sequence), first in zip(
            found.waiting, found.open_rows, strict=True
        ):
            row = _Waiting(entity, rank, sequence, first.copy())
            driver._waiting.setdefault(time, []).append(row)
        return driver

    def _last_of(self, entity: str) -> Instant:
        slot = self._slots.get(entity)
        return _NEVER if slot is None else self._last[slot]

    def _check_order(self, entity: str, event_time: Instant, earlier: Instant) -> None:
        if event_time <= earlier:
            raise OutOfOrder(
                f"view {self.view.name}: event of {entity} at {render(event_time)}, expected one "
                f"after its last, {render(earlier)}",
                hint="late and revised facts enter by a rebuild from history: see OnlineFeed",
            )
        if event_time <= self._closed:
            raise OutOfOrder(
                f"view {self.view.name}: event of {entity} at {render(event_time)}, but event "
                f"times up to {render(self._closed)} are closed"
            )

    def _turn_calendar(self, event_time: Instant) -> None:
        """Put the calendar inputs of an event time into the buffer of single events."""
        made, self._date_from, self._date_to = self._calendars.around(event_time)
        self._calendar_in.view(np.int64)[:] = made.view(np.int64)

    def _calendar(
        self, event_times: NDArray[np.int64], first: Instant, last: Instant
    ) -> NDArray[np.float64]:
        """The calendar inputs of a micro-batch, most of which lie within one day or session."""
        if not self._date_from <= first < self._date_to:
            self._turn_calendar(first)
        if last < self._date_to:
            return self._calendar_in[:, None]
        return self._calendars.at(event_times)

    def _use(self, states: NDArray[np.float64]) -> None:
        """Work on these states, one row per entity; the call of a single event is made once."""
        self._states = states
        self._call = self._machine.call(states, self._segment, self._input, self._output)
        self._call_address = self._call.ctypes.data

    def _slot_of(self, entity: str) -> int:
        slot = self._slots.get(entity)
        if slot is None:
            slot = self._slots[entity] = len(self._slots)
            self._last.append(_NEVER)
            if slot >= self._states.shape[0]:
                self._reserve(max(8, slot))
        return slot

    def _reserve(self, more: int) -> None:
        """Let there be states for so many entities that are not known yet."""
        missing = len(self._slots) + more - self._states.shape[0]
        if missing > 0:
            self._use(np.vstack((self._states, self._machine.states(missing))))

    def _from_mapping(self, values: Mapping[str, Any]) -> list[float]:
        try:
            found = [values[name] for name in self.columns]
        except KeyError as error:
            name = error.args[0]
            raise ContractViolation(
                f"view {self.view.name}: the event has no column {name!r}",
                hint=did_you_mean(name, values),
            ) from None
        return [float("nan") if value is None else float(value) for value in found]
