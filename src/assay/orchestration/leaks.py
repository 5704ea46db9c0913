"""Whether a view or a recipe of the desk knows what it cannot know.

A view is asked about its values, by :func:`~assay.features.detect_look_ahead`; a recipe about its
training, by :func:`~assay.training.train_on_shuffled_labels`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from assay.errors import ContractViolation
from assay.features import (
    FeatureView,
    LookAheadReport,
    OfflineDriver,
    detect_look_ahead,
    measure_look_back,
)
from assay.orchestration.building import read_source
from assay.orchestration.desk import Desk
from assay.orchestration.modelling import build_training_set
from assay.orchestration.progress import Progress
from assay.orchestration.tabular import moments, read_table
from assay.training import ShuffledLabels, train, train_on_shuffled_labels

_FIRST: Final = ("event_time", "known_time")


@dataclass(frozen=True, slots=True)
class ViewCheck:
    """What asking a view found.

    Attributes
    ----------
    report: the questions and whose values changed.
    declared, measured: rows of an entity before the first one that its values need, by the
        definition and by trial; ``measured`` is None where all of these rows were not enough.
    rows: rows that it was computed from.
    """

    report: LookAheadReport
    declared: int
    measured: int | None
    rows: int

    @property
    def holds(self) -> bool:
        return self.report.holds

    def to_json(self) -> dict[str, Any]:
        return {
            **self.report.to_json(),
            "rows": self.rows,
            "look_back": {"declared": self.declared, "measured": self.measured},
        }


def check_view(
    desk: Desk,
    name: str,
    progress: Progress,
    *,
    event_times: int,
    cuts: int,
    data: Path | None = None,
) -> ViewCheck:
    """Ask whether any value of a view knew the future, over the end of its history.

    Parameters
    ----------
    event_times: the last so many event times are used.
    data: a file of rows instead of the desk's own history; see :func:`read_rows`.

    Raises
    ------
    NotFound: silver is empty, or there is no such file.
    ContractViolation: there are too few event times, or the file does not fit the view.
    """
    view = desk.view(name)
    frame = read_source(desk, view) if data is None else read_rows(data, view)
    times = frame["event_time"].unique().sort()
    frame = frame.filter(pl.col("event_time") >= times[max(0, times.len() - event_times)])
    run, entity = OfflineDriver(view).run, view.entity
    progress.event(f"{name}: computing {frame.height:,} rows with other futures")
    report = detect_look_ahead(run, frame, entity=entity, look_back=view.remembered, cuts=cuts)
    progress.event(f"{name}: measuring how many rows of the past it needs")
    measured = measure_look_back(run, frame, entity=entity)
    return ViewCheck(report, view.remembered, measured, frame.height)


def read_rows(path: Path, view: FeatureView) -> pl.DataFrame:
    """Rows for a view from a file ``.parquet`` or ``.csv``, typed and sorted as for the drivers.

    It has the view's entity and columns and ``event_time``. Where it has no ``known_time``, a row
    was known when it happened; where it has no ``source_rank`` or ``sequence``, they are zero.
    Moments are nanoseconds since the epoch, ISO 8601 with a time zone, or date-times with one.

    Raises
    ------
    NotFound: there is no such file. ConfigurationError: it is of another kind.
    ContractViolation: it cannot be read, lacks a column, or names a row twice.
    """
    frame = read_table(path)
    for name in (view.entity, "event_time"):
        if name not in frame.columns:
            raise ContractViolation(
                f"{path} has no column {name!r}: it has {', '.join(frame.columns)}"
            )
    frame = frame.with_columns(
        moments(path, frame[name]) for name in _FIRST if name in frame.columns
    )
    if "known_time" not in frame.columns:
        frame = frame.with_columns(known_time=pl.col("event_time"))
    for name in ("source_rank", "sequence"):
        if name in frame.columns and not frame.schema[name].is_integer():
            raise ContractViolation(
                f"{path}: column {name} is {frame.schema[name]}, expected whole numbers"
            )
        given = pl.col(name).cast(pl.Int64) if name in frame.columns else pl.lit(0, pl.Int64)
        frame = frame.with_columns(given.alias(name))
    view.check(frame.columns)
    keys = [view.entity, "event_time"]
    twice = frame.filter(frame.select(keys).is_duplicated())
    if len(twice):
        raise ContractViolation(
            f"{path}: {twice.height} rows share an {view.entity} and an event_time with another",
            hint="give the version of each row that was known first",
        )
    for name in view.columns:
        kind = frame.schema[name]
        if not (kind.is_numeric() or kind == pl.Boolean):
            raise ContractViolation(f"{path}: column {name} is {kind}, expected numbers or flags")
    numbers = [name for name in view.columns if frame.schema[name] != pl.Boolean]
    return frame.with_columns(pl.col(numbers).cast(pl.Float64)).sort(keys)


def shuffle_labels_of(
    desk: Desk, name: str, progress: Progress, *, shuffles: int = 3
) -> ShuffledLabels:
    """Train a recipe of the desk on shuffled labels, and see that nothing is learnt.

    Raises
    ------
    NotFound: the view has not been built. Conflict: it or its source changed since.
    """
    recipe = desk.recipe(name)
    training_set = build_training_set(desk, recipe)

    def run(frame: pl.DataFrame) -> pl.DataFrame:
        return train(
            recipe, frame, features=training_set.features, threads=desk.layout.threads
        ).predictions

    progress.event(f"{name}: training {shuffles} times on shuffled labels")
    return train_on_shuffled_labels(run, training_set.frame, shuffles=shuffles)
