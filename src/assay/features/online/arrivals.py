"""Facts as they arrive, and those of them that count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import MIN_INSTANT, Instant
from assay.domain.order import ORDER_COLUMNS
from assay.features.definition.views import FeatureView
from assay.features.kernel.frames import batch_starts


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """One version of a fact. ``values`` are float64 in the order of the view's ``columns``."""

    entity: str
    event_time: Instant
    known_time: Instant
    source_rank: int
    sequence: int
    values: NDArray[np.float64]

    @property
    def key(self) -> tuple[int, int, int, int]:
        """The place in the total order of versions."""
        return (self.event_time, self.known_time, self.source_rank, self.sequence)


def batches_of(view: FeatureView, arrivals: pl.DataFrame) -> Iterator[list[Arrival]]:
    """A table of arrivals, in their order, as the batches that a feed takes.

    A batch is a run of rows with the same ``batch`` where the table has such a column, otherwise
    with the same known time.
    """
    view.check(arrivals.columns)
    keys = arrivals.select(view.key_columns).iter_rows()
    values = column_values(view, arrivals)
    rows = [
        Arrival(entity, event_time, known_time, rank, sequence, row)
        for (entity, event_time, known_time, rank, sequence), row in zip(keys, values, strict=True)
    ]
    for start, stop in pairwise(batch_starts(arrivals)):
        yield rows[start:stop]


def column_values(view: FeatureView, frame: pl.DataFrame) -> NDArray[np.float64]:
    """The view's columns, one row per row; what is missing is NaN."""
    values = np.empty((frame.height, len(view.columns)))
    for index, name in enumerate(view.columns):
        values[:, index] = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return values


class Facts:
    """The facts of one entity that count, by event time, in arrays that grow at the end."""

    __slots__ = ("_keys", "_size", "_values", "last")

    def __init__(
        self,
        width: int,
        keys: NDArray[np.int64] | None = None,
        values: NDArray[np.float64] | None = None,
    ) -> None:
        self._keys = np.empty((0, 4), dtype=np.int64) if keys is None else keys
        self._values = np.empty((0, width)) if values is None else values
        self._size: int = self._keys.shape[0]
        self.last: Instant = int(self._keys[-1, 0]) if self._size else MIN_INSTANT

    @classmethod
    def of(cls, view: FeatureView, frame: pl.DataFrame) -> Facts:
        """The rows of a frame, which has one for each event time, in order."""
        keys = np.array(frame.select(ORDER_COLUMNS).to_numpy(), dtype=np.int64, order="C")
        return cls(len(view.columns), keys, column_values(view, frame))

    def horizon(self, margin: int) -> Instant:
        """The event time of the ``margin``-th last fact."""
        return int(self._keys[self._size - margin, 0]) if self._size >= margin else MIN_INSTANT

    def at(self, entity: str, time: Instant) -> Arrival | None:
        """The fact of an event time."""
        if time > self.last or not self._size:
            return None
        place = self._place(time)
        found, known_time, rank, sequence = self._keys[place].tolist()
        if found != time:
            return None
        return Arrival(entity, time, known_time, rank, sequence, self._values[place])

    def upto(self, time: Instant) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Keys and values of the facts up to an event time."""
        stop = self._size
        if time < self.last:
            stop = int(np.searchsorted(self._keys[:stop, 0], time, side="right"))
        return self._keys[:stop], self._values[:stop]

    def apply(self, arrival: Arrival) -> bool:
        """Let an arrival count; False when what counts already is as new."""
        key = arrival.key
        if key[0] > self.last or not self._size:
            if self._size == self._keys.shape[0]:
                room = max(8, self._size // 2)
                self._keys = np.pad(self._keys, ((0, room), (0, 0)))
                self._values = np.pad(self._values, ((0, room), (0, 0)))
            self._keys[self._size], self._values[self._size] = key, arrival.values
            self._size += 1
            self.last = key[0]
            return True
        place = self._place(key[0])
        if self._keys[place, 0] == key[0]:
            if key <= tuple(self._keys[place].tolist()):
                return False
            self._keys[place], self._values[place] = key, arrival.values
            return True
        self._keys = np.insert(self._keys[: self._size], place, key, axis=0)
        self._values = np.insert(self._values[: self._size], place, arrival.values, axis=0)
        self._size += 1
        return True

    def trim(self, horizon: Instant, rows: int) -> None:
        """Keep the facts from ``horizon`` on, and as many rows before them."""
        surplus = self._place(horizon) - rows
        # Moving rows to the front costs; half of the room may be surplus.
        if surplus > max(16, self._size // 2):
            self._keys = self._keys[surplus : self._size].copy()
            self._values = self._values[surplus : self._size].copy()
            self._size -= surplus

    def _place(self, time: Instant) -> int:
        if time == self.last:
            return self._size - 1
        return int(np.searchsorted(self._keys[: self._size, 0], time))
