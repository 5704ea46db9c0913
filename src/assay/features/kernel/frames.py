"""The contract of frames: what the drivers accept, and how columns become kernel inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import render
from assay.errors import ContractViolation
from assay.features.definition.views import FeatureView
from assay.features.kernel.calendar import CalendarInputs

TIMES = 2
"""Inputs before the columns: known time and event time."""

_INTEGERS = ("event_time", "known_time", "source_rank", "sequence")


@dataclass(frozen=True)
class Rows:
    """A checked frame as arrays.

    ``inputs`` has one row per input of the view's first program, the known times and event times
    (as int64 bits) first; ``starts`` are the first rows of the entities in ``entities``, and the
    number of rows at the end.
    """

    keys: pl.DataFrame
    entities: tuple[str, ...]
    starts: NDArray[np.int64]
    event_times: NDArray[np.int64]
    inputs: NDArray[np.float64]

    @property
    def count(self) -> int:
        return int(self.event_times.size)


def check_rows(view: FeatureView, frame: pl.DataFrame) -> Rows:
    """Hold a frame to the contract of a view and turn it into arrays.

    The contract: column ``view.entity`` (String), event_time and known_time (Int64, nanoseconds
    UTC), source_rank and sequence (Int64), no nulls in these; the view's columns Float64 or
    Boolean, nulls allowed; rows sorted by (entity, event_time), at most one for each.

    Raises
    ------
    ContractViolation: which column or row breaks it, and how.
    """
    view.check(frame.columns)
    _check_types(view, frame)
    keys = frame.select(view.key_columns)
    check_order(view, keys)
    event_times = keys["event_time"].to_numpy()
    inputs = np.empty((TIMES + len(view.columns) + len(view.plan.calendar), frame.height))
    inputs[0].view(np.int64)[:] = keys["known_time"].to_numpy()
    inputs[1].view(np.int64)[:] = event_times
    for index, name in enumerate(view.columns, start=TIMES):
        inputs[index] = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    if view.plan.calendar:
        made = CalendarInputs.of(view).at(event_times)
        # Copied as integers: some of them are, in the bits of a float.
        inputs[TIMES + len(view.columns) :].view(np.int64)[:] = made.view(np.int64)
    lengths = keys[view.entity].rle().struct.unnest()
    starts = np.zeros(lengths.height + 1, dtype=np.int64)
    np.cumsum(lengths["len"].to_numpy(), out=starts[1:])
    return Rows(keys, tuple(lengths["value"].to_list()), starts, event_times, inputs)


def result_frame(
    view: FeatureView, rows: Rows, outputs: Sequence[NDArray[np.float64]]
) -> pl.DataFrame:
    """Key columns of the input, the known times and features of the output, in the input's
    order.
    """
    known = pl.Series("known_time", outputs[0].view(np.int64))
    features = [
        pl.Series(name, outputs[index]) for index, name in enumerate(view.feature_names, start=1)
    ]
    return rows.keys.with_columns(known).hstack(features)


def _check_types(view: FeatureView, frame: pl.DataFrame) -> None:
    expected: dict[str, tuple[pl.DataType, ...]] = {view.entity: (pl.String(),)}
    expected |= {name: (pl.Int64(),) for name in _INTEGERS}
    expected |= {name: (pl.Float64(), pl.Boolean()) for name in view.columns}
    for name, types in expected.items():
        if frame.schema[name] not in types:
            raise ContractViolation(
                f"view {view.name}: column {name} is {frame.schema[name]}, "
                f"expected {' or '.join(map(str, types))}",
                hint=f"cast it before: frame.with_columns(pl.col({name!r}).cast(pl.{types[0]}))",
            )
    for name in view.key_columns:
        if frame[name].null_count():
            row = frame[name].is_null().arg_true()[0]
            raise ContractViolation(f"view {view.name}: column {name} is null in row {row}")


def check_order(view: FeatureView, keys: pl.DataFrame) -> None:
    """Refuse rows that are not sorted by (entity, event_time), one for each.

    Raises
    ------
    ContractViolation: the first row that breaks the order, and the one before it.
    """
    entity, time = keys[view.entity], keys["event_time"]
    same = entity == entity.shift(1)
    wrong = (
        ((entity < entity.shift(1)) | (same & (time <= time.shift(1)))).fill_null(False).arg_true()
    )
    if wrong.is_empty():
        return
    row = int(wrong[0])
    here = f"{entity[row]} at {render(time[row])}"
    before = f"{entity[row - 1]} at {render(time[row - 1])}"
    what = "the same key as" if here == before else "expected after"
    raise ContractViolation(
        f"view {view.name}: row {row} ({here}) follows row {row - 1} ({before}): {what} that row",
        hint="deduplicate by the total order, then sort: "
        f"frame.sort({view.entity!r}, 'event_time')",
    )


def last_rows(frame: pl.DataFrame, entity: str, count: int) -> pl.DataFrame:
    """The last ``count`` rows of each entity, entity by entity; none of any where it is zero."""
    if count == 0:
        return frame.clear()  # Polars gives a row of nulls for each group that it takes none of
    return frame.group_by(entity, maintain_order=True).tail(count).select(frame.columns)


def batch_starts(arrivals: pl.DataFrame) -> list[int]:
    """First rows of the batches of a table of arrivals, and its height at the end.

    A batch is what reaches a process at once. Where the table has a column ``batch``, a new one
    starts where that changes; otherwise where the known time changes.
    """
    name = "batch" if "batch" in arrivals.columns else "known_time"
    column = arrivals[name]
    changes = (column != column.shift(1)).fill_null(True).arg_true()
    return [*changes.to_list(), arrivals.height]
