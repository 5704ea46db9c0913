"""The second stage: all rows of an event time together, a *section*.

Behind the rows of a section stand the latest rows of the entities that the view names, each of this
event time or of an earlier one. Both drivers put sections together here: from a whole history, or
one by one with a memory of what was latest.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from assay.domain.instants import MIN_INSTANT, Instant
from assay.features.definition.views import FeatureView
from assay.features.kernel.engine import SEGMENT_WIDTH
from assay.features.kernel.frames import Rows
from assay.features.kernel.layout import LEAST_ROOM, Floats, Machine

_NEVER: Final = np.int64(-(2**63))
_AT_ONCE = 2**18  # rows that are laid out at a time


@dataclass(frozen=True, slots=True, eq=False)
class Latest:
    """The latest rows of the named entities, in their order, as the first stage left them.

    Attributes
    ----------
    event_times: int64, the smallest one before an entity's first row.
    values: one row per value handed on, the known times (int64 bits) first, one column per entity.
    """

    event_times: NDArray[np.int64]
    values: Floats

    @classmethod
    def none_yet(cls, view: FeatureView) -> Latest:
        """Before the first row."""
        values = np.full((len(view.plan.handed_on), len(view.plan.named)), np.nan)
        values[:1].view(np.int64)[:] = _NEVER
        return cls(np.full(len(view.plan.named), _NEVER), values)

    def take(self, column: int, event_time: Instant, values: Floats) -> None:
        """Let a row be the latest of its entity."""
        self.event_times[column], self.values[:, column] = event_time, values


class Sections:
    """Runs the second program of a view.

    Not for use by several threads at once.
    """

    def __init__(self, view: FeatureView) -> None:
        assert view.plan.second is not None
        self._program = view.plan.second
        self._handed_on = list(view.plan.handed_on)
        self._named = view.plan.named
        self._places = view.plan.places
        self._columns = {name: column for column, name in enumerate(self._named)}
        self._machine = Machine.build(self._program, LEAST_ROOM)
        self._state = self._machine.states(1)

    def one(
        self, entities: Sequence[str], event_time: Instant, first: Floats, latest: Latest
    ) -> Floats:
        """One section: its rows in the order of entity names, ``first`` one column per row.

        ``latest`` is of the sections before; afterwards it is of this one.
        """
        count, extra = len(entities), len(self._named)
        handed_on = first[self._handed_on]
        if extra:
            for row, entity in enumerate(entities):
                column = self._columns.get(entity)
                if column is not None:
                    latest.take(column, event_time, handed_on[:, row])
            handed_on = np.hstack((handed_on, latest.values))
        inputs = handed_on
        if extra:
            inputs = np.empty((len(self._program.inputs), count + extra))
            inputs[0], inputs[3:] = handed_on[0], handed_on[1:]
            inputs[1].view(np.int64)[:count] = event_time
            inputs[1].view(np.int64)[count:] = latest.event_times
            inputs[2, :count] = [self._places.get(entity, 0) for entity in entities]
            inputs[2, count:] = np.nan
        if self._machine.chunk < count + extra:
            self._machine = Machine.build(self._program, 2 * (count + extra))
            self._state = self._machine.states(1)
        outputs = np.empty((len(self._program.outputs), count + extra))
        # Nothing looks at earlier rows: the state is scratch and is used again.
        segments = np.array([[0, 0, count + extra, 0]], dtype=np.int64)
        self._machine.run(self._state, segments, np.ascontiguousarray(inputs), outputs)
        return outputs[:, :count]

    def of_history(
        self, rows: Rows, first: Floats, *, since: Instant = MIN_INSTANT, workers: int = 1
    ) -> Floats:
        """All sections of a history from ``since`` on; rows before it get no values.

        ``first`` has one column per row, in the order of the rows, as the outputs have.
        """
        # Stable: inside an event time, rows stay in the order of entity names.
        order = np.argsort(rows.event_times, kind="stable")
        order = order[np.searchsorted(rows.event_times[order], since) :]
        outputs = np.empty((len(self._program.outputs), rows.count))
        if not order.size:
            return outputs
        times = rows.event_times[order]
        starts = np.flatnonzero(np.r_[True, times[1:] != times[:-1], True])
        handed_on = first[self._handed_on]
        sources = self._latest_rows(rows, times[starts[:-1]])
        places = np.repeat(
            [float(self._places.get(entity, 0)) for entity in rows.entities], np.diff(rows.starts)
        )
        widest = int(np.diff(starts).max()) + len(self._named)
        machine = Machine.build(self._program, widest)
        begin = 0
        while begin < starts.size - 1:
            # As many sections as are laid out at a time, at least one.
            limit = starts[begin] + _AT_ONCE
            end = max(begin + 1, int(np.searchsorted(starts, limit, side="right")) - 1)
            part = order[starts[begin] : starts[end]]
            inputs, cuts, own = self._lay_out(
                part, starts[begin : end + 1] - starts[begin], sources[begin:end], rows, handed_on,
                places,
            )  # fmt: skip
            results = np.empty((len(self._program.outputs), inputs.shape[1]))
            run_shares(machine, shares(cuts, workers, fresh=0), inputs, results)
            outputs[:, part] = results[:, own]
            begin = end
        return outputs

    def latest_of(self, rows: Rows, first: Floats, latest: Latest) -> None:
        """Let the last rows of the named entities in a history be the latest."""
        for entity, stop in zip(rows.entities, rows.starts[1:].tolist(), strict=True):
            column = self._columns.get(entity)
            if column is not None:
                values = first[self._handed_on, stop - 1]
                latest.take(column, int(rows.event_times[stop - 1]), values)

    def _latest_rows(self, rows: Rows, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Per section and named entity the row that is the latest then, -1 before its first."""
        found = np.full((times.size, len(self._named)), -1, dtype=np.int64)
        bounds = zip(
            rows.entities, rows.starts[:-1].tolist(), rows.starts[1:].tolist(), strict=True
        )
        for entity, start, stop in bounds:
            column = self._columns.get(entity)
            if column is not None:
                own = rows.event_times[start:stop]
                place = np.searchsorted(own, times, side="right") - 1
                found[:, column] = np.where(place < 0, -1, start + place)
        return found

    def _lay_out(
        self,
        order: NDArray[np.int64],
        starts: NDArray[np.int64],
        sources: NDArray[np.int64],
        rows: Rows,
        handed_on: Floats,
        places: Floats,
    ) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """Inputs of some sections, where each begins and the last ends, and where its rows are."""
        extra = len(self._named)
        if not extra:
            return handed_on.take(order, axis=1), starts, np.arange(order.size)
        cuts = starts + extra * np.arange(starts.size)
        own = np.arange(order.size) + extra * np.repeat(np.arange(starts.size - 1), np.diff(starts))
        others = (cuts[1:, None] - extra + np.arange(extra)).reshape(-1)
        which = np.empty(cuts[-1], dtype=np.int64)
        which[own], which[others] = order, sources.reshape(-1)
        inputs = np.empty((len(self._program.inputs), which.size))
        inputs[0], inputs[3:] = handed_on[0, which], handed_on[1:, which]
        inputs[1].view(np.int64)[:] = rows.event_times[which]
        inputs[2] = places[which]
        inputs[2, others] = np.nan
        absent = which < 0
        inputs[:2].view(np.int64)[:, absent] = _NEVER
        inputs[3:, absent] = np.nan
        return inputs, cuts, own


def shares(starts: NDArray[np.int64], workers: int, *, fresh: int) -> list[NDArray[np.int64]]:
    """Segments from ``starts``, in at most ``workers`` runs of about equally many rows."""
    count = starts.size - 1
    segments = np.zeros((count, SEGMENT_WIDTH), dtype=np.int64)
    segments[:, 1], segments[:, 2], segments[:, 3] = starts[:-1], starts[1:], fresh
    marks = np.linspace(0, starts[-1], workers + 1)[1:-1]
    cuts = np.searchsorted(starts[:-1] + np.diff(starts) / 2, marks)
    return [share for share in np.split(segments, cuts) if share.size]


def run_shares(
    machine: Machine, parts: list[NDArray[np.int64]], inputs: Floats, outputs: Floats
) -> None:
    """Run each share of the segments in a thread of its own, with a state of its own."""

    def run(segments: NDArray[np.int64]) -> None:
        machine.run(machine.states(1), segments, inputs, outputs)

    if len(parts) <= 1:
        for part in parts:
            run(part)
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        for done in [pool.submit(run, part) for part in parts]:
            done.result()
