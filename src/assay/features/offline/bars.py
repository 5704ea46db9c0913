"""Bars over a history of ticks.

The same compiled step as in the feed of :mod:`assay.features.online.bars`, over whole tables: ticks
are sorted by bar, and each bar is run through to its end before the next.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, Instant
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


def bars_as_known(bars: Bars, ticks: pl.DataFrame, *, now: Instant | None = None) -> pl.DataFrame:
    """All versions of all bars, as a feed issues them that takes these ticks.

    Parameters
    ----------
    ticks: in the order of known times: the entity (String), event_time, known_time, source_rank and
        sequence (Int64), the columns that are read (Float64 or Boolean).
    now: when the feed is asked; what is due by then or later is not there yet. By default the
        latest known time of the ticks.

    Returns
    -------
    The entity, event_time (the end of the bar), known_time, source_rank (0), sequence (the number
    of versions before), then the columns (Float64), sorted by known time, entity and event time:
    arrivals, as :func:`~assay.features.offline.arrivals.as_known_history` takes them.

    Raises
    ------
    ContractViolation, OutOfOrder: the table breaks its contract.
    """
    frame, _ = _run(bars, ticks, now, bars.kept)
    return frame.sort("known_time", bars.entity, "event_time")


def bars_as_corrected(
    bars: Bars, ticks: pl.DataFrame, *, now: Instant | None = None
) -> pl.DataFrame:
    """One row per bar, over all ticks, those that came too late for a feed included.

    Parameters and errors are those of :func:`bars_as_known`. The known time is that of the version
    that first had these values, so that a join on known times shows nothing too early.

    Returns
    -------
    As :func:`bars_as_known`, sorted by entity and event time: what the drivers take.
    """
    frame, _ = _run(bars, ticks, now, None)
    keys = [bars.entity, "event_time"]
    return frame.unique(keys, keep="last", maintain_order=True).sort(keys)


def count_ticks(bars: Bars, ticks: pl.DataFrame) -> Counts:
    """What becomes of the ticks of a table in a feed: how many are left out, and why."""
    return _run(bars, ticks, None, bars.kept)[1]


def _run(
    bars: Bars, frame: pl.DataFrame, now: Instant | None, keep: int | None
) -> tuple[pl.DataFrame, Counts]:
    """The rows of each bar after another, versions in their order; and the counts."""
    machine = BarMachine(bars)
    if now is not None and "known_time" in frame.columns:
        frame = frame.filter(pl.col("known_time") <= now)
    ticks = Ticks.of(bars, BarEdges(bars), frame, MIN_INSTANT)
    latest = MIN_INSTANT if ticks.latest is None else ticks.latest
    clock = latest if now is None else now
    counts = np.zeros(steps.COUNTS, dtype=np.int64)
    lengths = np.diff(ticks.firsts)
    complete = ticks.ends + bars.wait
    # One block serves all bars, one after the other.
    block = machine.block(capacity_for(int(lengths.max(initial=1))))
    segments = np.empty((lengths.size, steps.SEGMENT), dtype=np.int64)
    segments[:, 0] = block.ctypes.data
    segments[:, 1], segments[:, 2] = ticks.firsts[:-1], ticks.firsts[1:]
    segments[:, 3] = complete
    segments[:, 4] = MAX_INSTANT if keep is None else complete + keep
    segments[:, 5] = [capacity_for(length) for length in lengths.tolist()]
    late = int(np.count_nonzero(ticks.records[:, 3] > np.repeat(complete, lengths)))
    rows = machine.advance(segments, ticks.records, clock, late, counts)
    keys = np.column_stack((ticks.ends[rows[:, 0]], rows[:, 1], rows[:, 2]))
    entities = [ticks.entities[segment] for segment in rows[:, 0].tolist()]
    made = bar_frame(bars, entities, keys, rows[:, steps.ROW :].view(np.float64))
    return made, Counts.of(counts, ticks.outside)
