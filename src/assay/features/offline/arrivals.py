"""What was known when: every version of every row, from a table of arrivals.

The offline counterpart of the online feed, whose rule is written down in
:mod:`assay.features.online.feed`. It shares the drivers' kernel with it and nothing else: facts are
whole tables here, and rows are compared as tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import MIN_INSTANT, Instant
from assay.errors import Conflict, ContractViolation
from assay.features.definition.lateness import lateness_for
from assay.features.definition.views import FeatureView
from assay.features.kernel.frames import batch_starts, last_rows
from assay.features.offline.driver import OfflineDriver


def as_known_history(
    view: FeatureView,
    arrivals: pl.DataFrame,
    *,
    margin: int | None = None,
    close_with_batch: bool | None = None,
) -> pl.DataFrame:
    """All versions of all rows, as a feed issues them that takes these arrivals.

    Parameters
    ----------
    arrivals: versions of facts in the order of their arrival: the view's key columns and columns,
        typed as for the drivers. They arrive in batches: runs of equal values in the column
        ``batch`` where there is one, otherwise runs of equal known times.
    margin, close_with_batch: what a :class:`~assay.features.definition.lateness.Lateness` says as
        event_times and closes_with_batch; to be left out where the view declares one.

    Returns
    -------
    The key columns and features, one row per version, sorted by entity, event time and known time.

    Raises
    ------
    Conflict: two arrivals at one place of the total order differ.
    Conflict: the view declares another lateness.
    ContractViolation: ``margin`` is below one or nowhere said, or the table breaks the drivers'
        contract.
    """
    allowed = lateness_for(view.name, view.lateness, margin, close_with_batch)
    if allowed is None:
        raise ContractViolation(
            f"view {view.name} declares no lateness, and there is no margin",
            hint="margin=32, or FeatureView(..., lateness=Lateness(event_times=32))",
        )
    margin, close_with_batch = allowed.event_times, allowed.closes_with_batch
    view.check(arrivals.columns)
    columns = [*view.key_columns, *view.columns]
    _refuse_ambiguity(view, arrivals.select(columns).unique())
    driver = OfflineDriver(view)
    facts = arrivals.select(columns).clear()
    issued = driver.run(facts)
    versions = [issued]
    horizon = _horizon(view, issued, margin)
    for start, stop, is_disturbed in _steps(view, arrivals, close_with_batch):
        step = arrivals[start:stop].select(columns)
        facts = _that_count(view, pl.concat([facts, step]))
        closed = facts
        if view.has_barrier and not close_with_batch:
            closed = facts.filter(pl.col("event_time") < arrivals["event_time"][:stop].max())
        rows = _since(view, driver.run(closed), horizon)
        keys = [view.entity, "event_time"]
        fresh = rows.join(issued, on=keys, how="anti")
        changed = rows.clear()
        if is_disturbed:
            changed = _changed(view, rows, issued, int(step["known_time"].max()))  # type: ignore[arg-type]
        versions += [fresh, changed]
        current = pl.concat([issued, fresh, changed]).unique(keys, keep="last")
        horizon = _horizon(view, closed, margin)
        issued = _since(view, current, horizon)
        facts = _needed(view, facts, horizon)
    return pl.concat(versions).sort(view.entity, "event_time", "known_time")


def _steps(
    view: FeatureView, arrivals: pl.DataFrame, close_with_batch: bool
) -> Iterator[tuple[int, int, bool]]:
    """Rows from, rows to, and whether the step may change rows that were issued before.

    Batches that only add later rows are computed together: what follows does not change them.
    """
    newest: dict[str, Instant] = {}
    entities, times = arrivals[view.entity].to_list(), arrivals["event_time"].to_list()
    begun = 0
    for start, stop in pairwise(batch_starts(arrivals)):
        names = [""] * (stop - start) if view.has_barrier else entities[start:stop]
        batch = list(zip(names, times[start:stop], strict=True))
        joins_open = view.has_barrier and not close_with_batch
        is_disturbed = any(
            name in newest and (time < newest[name] or (time == newest[name] and not joins_open))
            for name, time in batch
        )
        for name, time in batch:
            newest[name] = max(time, newest.get(name, MIN_INSTANT))
        if is_disturbed:
            if begun < start:
                yield begun, start, False
            yield start, stop, True
            begun = stop
    if begun < arrivals.height:
        yield begun, arrivals.height, False


def _refuse_ambiguity(view: FeatureView, distinct: pl.DataFrame) -> None:
    twice = distinct.filter(pl.struct(view.key_columns).is_duplicated())
    if twice.height:
        key = twice.select(view.key_columns).row(0)
        raise Conflict(
            f"view {view.name}: arrivals at {key} differ",
            hint="a revision needs a later known time, a higher rank or a later sequence",
        )


def _that_count(view: FeatureView, versions: pl.DataFrame) -> pl.DataFrame:
    """Of each fact the largest version."""
    keys = [view.entity, "event_time"]
    return versions.sort(view.key_columns).unique(keys, keep="last", maintain_order=True)


def _horizon(view: FeatureView, rows: pl.DataFrame, margin: int) -> pl.DataFrame:
    """From which event time on rows are issued: per entity, or one for all behind a barrier.

    Where there are fewer than ``margin`` event times there is no row: everything is issued.
    """
    if view.has_barrier:
        times = rows["event_time"].unique().sort(descending=True)
        return pl.DataFrame({"horizon": times[margin - 1 : margin]})
    place = pl.col("event_time").rank("ordinal", descending=True).over(view.entity)
    last = rows.filter(place == margin)
    return last.select(view.entity, horizon="event_time")


def _with_horizon(view: FeatureView, frame: pl.DataFrame, horizon: pl.DataFrame) -> pl.DataFrame:
    if view.has_barrier:
        value = horizon["horizon"][0] if horizon.height else MIN_INSTANT
        return frame.with_columns(horizon=pl.lit(value, dtype=pl.Int64))
    joined = frame.join(horizon, on=view.entity, how="left", maintain_order="left")
    return joined.with_columns(pl.col("horizon").fill_null(MIN_INSTANT))


def _since(view: FeatureView, rows: pl.DataFrame, horizon: pl.DataFrame) -> pl.DataFrame:
    kept = _with_horizon(view, rows, horizon)
    return kept.filter(pl.col("event_time") >= pl.col("horizon")).drop("horizon")


def _needed(view: FeatureView, facts: pl.DataFrame, horizon: pl.DataFrame) -> pl.DataFrame:
    """The facts on which rows from the horizon on depend."""
    marked = _with_horizon(view, facts, horizon)
    older = marked.filter(pl.col("event_time") < pl.col("horizon"))
    older = last_rows(older, view.entity, view.remembered)
    newer = marked.filter(pl.col("event_time") >= pl.col("horizon"))
    return pl.concat([older.select(facts.columns), newer.select(facts.columns)])


def _changed(
    view: FeatureView, rows: pl.DataFrame, issued: pl.DataFrame, arrived: Instant
) -> pl.DataFrame:
    """New versions of the rows whose values differ in a bit from those issued last."""
    pairs = rows.join(issued, on=[view.entity, "event_time"], suffix="_before")
    differs = np.zeros(pairs.height, dtype=bool)
    for name in view.feature_names:
        differs |= _bits(pairs[name]) != _bits(pairs[f"{name}_before"])
    known = pl.max_horizontal("known_time", pl.lit(arrived), pl.col("known_time_before") + 1)
    return pairs.filter(pl.Series(differs)).with_columns(known_time=known).select(rows.columns)


def _bits(values: pl.Series) -> NDArray[np.int64]:
    return np.ascontiguousarray(values.to_numpy()).view(np.int64)
