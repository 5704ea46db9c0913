"""The edges of the compiled step of bars: tables of ticks in, blocks of bars, rows out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import render
from assay.domain.order import ORDER_COLUMNS
from assay.errors import ContractViolation, OutOfOrder, did_you_mean
from assay.features.definition.bars import KINDS, Bars
from assay.features.kernel import bars as steps
from assay.features.kernel.bar_edges import BarEdges
from assay.features.kernel.engine import source_hash
from assay.features.kernel.exact_sums import CHUNKS
from assay.features.kernel.words import get_word, put_word

_Words = NDArray[np.int64]
_SUMMED = ("total", "mean")
HEAD_END = steps.DUE + 1
LEAST_CAPACITY = 16
"""Ticks for which a bar has room at least."""


@dataclass(frozen=True)
class Counts:
    """What became of the ticks.

    Attributes
    ----------
    taken: distinct ticks that are, or were, part of a bar.
    duplicates: ticks that said again what was known.
    corrections: ticks that said something else than before, known later.
    conflicts: ticks that said something else than one known at the same time.
    outside: ticks outside of the calendar's sessions.
    too_late: ticks that came when their bar could not be corrected any more.
    """

    taken: int = 0
    duplicates: int = 0
    corrections: int = 0
    conflicts: int = 0
    outside: int = 0
    too_late: int = 0

    @classmethod
    def of(cls, counts: _Words, outside: int) -> Counts:
        """From what the step counted, and what did not come to it."""
        taken, duplicates, corrections, conflicts, too_late = counts.tolist()
        return cls(taken, duplicates, corrections, conflicts, outside, too_late)


class BarMachine:
    """A declaration, laid out for the compiled step."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.width = steps.KEY + len(bars.reads)
        self.row_width = steps.ROW + len(bars.columns)
        summed = {item.column for item in bars.columns.values() if item.kind in _SUMMED}
        at = sums = steps.HEADER + steps.CELL * len(bars.reads)
        places = []
        for column in bars.reads:
            places.append(at if column in summed else -1)
            at += CHUNKS if column in summed else 0
        self.issued = at
        self.records = at + len(bars.columns)
        said = [
            (KINDS.index(item.kind), -1 if item.column is None else bars.reads.index(item.column))
            for item in bars.columns.values()
        ]
        head = [len(bars.reads), len(bars.columns), sums, self.issued, self.records]
        self._layout = np.array([*head, *places, *(n for pair in said for n in pair)], np.int64)
        self.function, self._restore = compiled_steps()

    def block(self, capacity: int) -> _Words:
        """Memory of a bar with room for so many ticks, a power of two; not begun."""
        return np.empty(self.records + (self.width + 2) * capacity, dtype=np.int64)

    def advance(
        self, segments: _Words, records: _Words, clock: int, late: int, counts: _Words
    ) -> _Words:
        """Run the step over segments; the rows that it issued, see :mod:`~.kernel.bars`.

        ``late`` is how many records are known after their bar was complete, or more.
        """
        rows = np.empty((len(segments) + late + 1, self.row_width), dtype=np.int64)
        call = self.call(segments, records, rows, counts)
        call[4] = clock
        self.function(call.ctypes.data)
        return rows[: int(call[7])]

    def call(self, segments: _Words, records: _Words, rows: _Words, counts: _Words) -> _Words:
        """The argument of ``function``, for a caller that uses the same arrays again.

        Word 4 is the clock; word 7 says afterwards how many rows there are. Whoever keeps it keeps
        the arrays as well.
        """
        arrays = (self._layout, segments, records, rows, counts)
        layout, first, second, third, fourth = (array.ctypes.data for array in arrays)
        words = (layout, first, len(segments), second, 0, third, fourth, 0)
        return np.array(words, dtype=np.int64)

    def ticks_of(self, block: _Words) -> _Words:
        """The records of a block, in the order of their arrival."""
        stop = self.records + self.width * int(block[steps.TICKS])
        return block[self.records : stop].reshape(-1, self.width)

    def head_of(self, block: _Words) -> _Words:
        """What a block says about versions: how many, when due, the values last issued."""
        kept: _Words = np.r_[block[steps.VERSIONS : HEAD_END], block[self.issued : self.records]]
        return kept

    def restored(self, records: _Words, capacity: int, head: _Words) -> _Words:
        """A block of these ticks, which have different keys, and of this head."""
        block = self.block(capacity)
        unused = np.zeros(steps.COUNTS, dtype=np.int64)
        arrays = (self._layout, block, records, unused)
        layout, state, given, counts = (array.ctypes.data for array in arrays)
        call = np.array([layout, state, capacity, given, len(records), counts], dtype=np.int64)
        self._restore(call.ctypes.data)
        block[steps.VERSIONS : HEAD_END] = head[:2]
        block[self.issued : self.records] = head[2:]
        return block


@dataclass(frozen=True)
class Ticks:
    """A checked table of ticks, by bar, then in the order of arrival.

    Attributes
    ----------
    records: one row per tick, as the step reads them.
    firsts: the first row of each bar, and the number of rows at the end.
    entities, ends: of each bar.
    latest: the latest known time, None where there is no tick.
    outside: ticks left out, as they lie outside of the sessions.
    """

    records: _Words
    firsts: _Words
    entities: tuple[str, ...]
    ends: _Words
    latest: int | None
    outside: int

    @classmethod
    def of(cls, bars: Bars, edges: BarEdges, frame: pl.DataFrame, since: int) -> Ticks:
        """Hold a table to the contract and sort it by bar.

        The contract: the columns ``bars.key_columns`` and ``bars.reads``, typed and without nulls
        as for a view; known times that never fall and are at least ``since``.

        Raises
        ------
        ContractViolation, OutOfOrder: which column or row breaks it.
        """
        _check(bars, frame, since)
        times = frame["event_time"].to_numpy()
        _, ends, is_inside = edges.of(times)
        rows = np.flatnonzero(is_inside)
        names = frame[bars.entity].unique().sort()
        codes = frame[bars.entity].cast(pl.Enum(names)).to_physical().to_numpy()
        # Stable: ticks of one bar stay in the order of arrival.
        order = rows[np.lexsort((ends[rows], codes[rows]))]
        records = np.empty((order.size, steps.KEY + len(bars.reads)), dtype=np.int64)
        for word, name in enumerate(("event_time", "source_rank", "sequence", "known_time")):
            records[:, word] = frame[name].to_numpy()[order]
        values = records.view(np.float64)
        for word, name in enumerate(bars.reads, start=steps.KEY):
            column = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            values[:, word] = column[order]
        ends, codes = ends[order], codes[order]
        is_first = (ends[1:] != ends[:-1]) | (codes[1:] != codes[:-1])
        begun = np.flatnonzero(np.r_[True, is_first][: order.size])
        listed = names.to_list()
        return cls(
            records,
            np.r_[begun, order.size].astype(np.int64),
            tuple(listed[code] for code in codes[begun].tolist()),
            ends[begun],
            frame["known_time"][-1] if frame.height else None,
            frame.height - order.size,
        )


def capacity_for(ticks: int) -> int:
    """The room that a bar of so many ticks gets: a power of two."""
    return max(LEAST_CAPACITY, 1 << max(ticks - 1, 0).bit_length())


def bar_frame(
    bars: Bars,
    entities: Sequence[str],
    keys: _Words,
    values: NDArray[np.float64],
) -> pl.DataFrame:
    """Rows of bars as a table that a view can read.

    ``keys`` has a row (event time, known time, version) for each; ``values`` one column per column.
    """
    event_time, known_time, version = (np.ascontiguousarray(keys[:, i]) for i in range(3))
    columns = {
        bars.entity: pl.Series(entities, dtype=pl.String),
        "event_time": event_time,
        "known_time": known_time,
        "source_rank": np.zeros(len(keys), dtype=np.int64),
        "sequence": version,
    }
    columns |= {
        name: np.ascontiguousarray(values[:, index]) for index, name in enumerate(bars.columns)
    }
    return pl.DataFrame(columns)


def _check(bars: Bars, frame: pl.DataFrame, since: int) -> None:
    for name in (*bars.key_columns, *bars.reads):
        if name not in frame.columns:
            raise ContractViolation(
                f"bars {bars.name}: source {bars.source} has no column {name!r}",
                hint=did_you_mean(name, frame.columns),
            )
    expected: dict[str, tuple[pl.DataType, ...]] = {bars.entity: (pl.String(),)}
    expected |= {name: (pl.Int64(),) for name in ORDER_COLUMNS}
    expected |= {name: (pl.Float64(), pl.Boolean()) for name in bars.reads}
    for name, types in expected.items():
        if frame.schema[name] not in types:
            raise ContractViolation(
                f"bars {bars.name}: column {name} is {frame.schema[name]}, "
                f"expected {' or '.join(map(str, types))}",
                hint=f"cast it before: frame.with_columns(pl.col({name!r}).cast(pl.{types[0]}))",
            )
    for name in bars.key_columns:
        if frame[name].null_count():
            row = frame[name].is_null().arg_true()[0]
            raise ContractViolation(f"bars {bars.name}: column {name} is null in row {row}")
    known = frame["known_time"].to_numpy()
    falls = np.flatnonzero(known < np.r_[since, known[:-1]][: known.size])
    if falls.size:
        row = int(falls[0])
        before = since if row == 0 else int(known[row - 1])
        raise OutOfOrder(
            f"bars {bars.name}: tick {row} became known at {render(int(known[row]))}, expected "
            f"{render(before)} or later",
            hint="ticks come in the order of their known times: frame.sort('known_time')",
        )


@lru_cache(maxsize=1)
def compiled_steps() -> tuple[Any, Any]:
    """``advance`` and ``restore`` by the address of their arguments; compiled once, then cached."""
    source = int(source_hash()[:15], 16)
    return _compiled(_make_advance(source)), _compiled(_make_restore(source))


def _compiled(function: Callable[[int], None]) -> Any:
    options = {"nogil": True, "error_model": "numpy"}
    signature = numba.void(numba.int64)
    try:
        return numba.njit(signature, cache=True, **options)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return numba.njit(signature, **options)(function)


def _make_advance(source: int) -> Callable[[int], None]:
    def advance(call: int) -> None:
        # A constant in the closure is part of numba's cache key, as in the engine.
        if source < 0:
            return
        rows = steps.advance(
            get_word(call, 0),
            get_word(call, 1),
            get_word(call, 2),
            get_word(call, 3),
            get_word(call, 4),
            get_word(call, 5),
            get_word(call, 6),
        )
        put_word(call, 7, rows)

    return advance


def _make_restore(source: int) -> Callable[[int], None]:
    def restore(call: int) -> None:
        if source < 0:
            return
        steps.restore(
            get_word(call, 0),
            get_word(call, 1),
            get_word(call, 2),
            get_word(call, 3),
            get_word(call, 4),
            get_word(call, 5),
        )

    return restore
