"""What was known when: every version of every row, from a table of arrivals.

The offline counterpart of the online feed, whose rule is written down in
:mod:`assay.features.online.feed`. It shares the drivers' kernel with it and nothing else: facts are
whole tables here, and rows are compared as tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
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
    history = AsKnown(view, margin=margin, close_with_batch=close_with_batch)
    return history.take(arrivals).sort(view.entity, "event_time", "known_time")


class _Step(Enum):
    """What batches do: add rows, change some, or count for rows that are issued later alone."""

    IN_ORDER = auto()
    DISTURBED = auto()
    ASIDE = auto()


class AsKnown:
    """:func:`as_known_history` of arrivals that are too many for memory, a stretch at a time.

    What is remembered between two stretches are the facts that later rows depend on and the rows
    that may still be issued again.

    Parameters
    ----------
    margin, close_with_batch: as for :func:`as_known_history`.
    workers: threads, as for :meth:`~assay.features.offline.driver.OfflineDriver.run`.

    Raises
    ------
    Conflict, ContractViolation: as :func:`as_known_history`.
    """

    def __init__(
        self,
        view: FeatureView,
        *,
        margin: int | None = None,
        close_with_batch: bool | None = None,
        workers: int = 1,
    ) -> None:
        allowed = lateness_for(view.name, view.lateness, margin, close_with_batch)
        if allowed is None:
            raise ContractViolation(
                f"view {view.name} declares no lateness, and there is no margin",
                hint="margin=32, or FeatureView(..., lateness=Lateness(event_times=32))",
            )
        self._view, self._margin, self._workers = view, allowed.event_times, workers
        # Behind a barrier, either a batch completes its latest event time or a later one does.
        self._joins_open = view.has_barrier and not allowed.closes_with_batch
        self._driver = OfflineDriver(view)
        self._latest = MIN_INSTANT
        self._newest = pl.DataFrame(schema={"name": pl.String, "time": pl.Int64})
        self._facts: pl.DataFrame | None = None
        self._issued = self._horizon = pl.DataFrame()
        self._reach: dict[str, Instant] | None = None

    def take(self, arrivals: pl.DataFrame) -> pl.DataFrame:
        """The versions of rows that a feed issues when these arrive, after all that came before.

        Parameters
        ----------
        arrivals: as for :func:`as_known_history`; no batch lies in two stretches.

        Returns
        -------
        The key columns and features; the versions of a row in the order of their known times.

        Raises
        ------
        ContractViolation, Conflict: as :func:`as_known_history`; conflicts inside the stretch.
        """
        view = self._view
        view.check(arrivals.columns)
        _refuse_ambiguity(view, arrivals)
        columns = [*view.key_columns, *view.columns]
        if self._facts is None:
            self._facts = arrivals.select(columns).clear()
            self._issued = self._driver.run(self._facts)
            self._horizon = _horizon(view, self._issued, self._margin)
        versions = [self._issued.clear()]
        for start, stop, kind in self._steps(arrivals):
            versions += self._step(arrivals[start:stop].select(columns), kind)
        return pl.concat(versions)

    def _step(self, step: pl.DataFrame, kind: _Step) -> list[pl.DataFrame]:
        assert self._facts is not None
        self._reach = None
        view, issued, keys = self._view, self._issued, [self._view.entity, "event_time"]
        facts = _that_count(view, pl.concat([self._facts, step]))
        if kind is _Step.ASIDE:
            self._facts = _needed(view, facts, self._horizon)
            return []
        closed = facts
        self._latest = max(self._latest, _largest(step["event_time"]))
        if self._joins_open:
            closed = facts.filter(pl.col("event_time") < self._latest)
        concerned = closed
        if kind is _Step.DISTURBED and not view.has_barrier:
            names = step[view.entity].unique().to_list()
            concerned = closed.filter(pl.col(view.entity).is_in(names))
        rows = self._driver.run(concerned, workers=self._workers)
        # Rows are looked for by their keys and gathered once: a stretch of features is large.
        places = _since(view, rows.select(keys).with_row_index("place"), self._horizon)
        is_new = places.join(issued.select(keys), on=keys, how="anti", maintain_order="left")
        fresh = rows[is_new["place"]]
        changed = rows.clear()
        if kind is _Step.DISTURBED:
            arrived = _largest(step["known_time"])
            changed = _changed(view, rows[places["place"]], issued, arrived)
        self._horizon = _horizon(view, closed, self._margin)
        current = _since(view, pl.concat([issued, fresh, changed]), self._horizon)
        self._issued = current.unique(keys, keep="last", maintain_order=True)
        self._facts = _needed(view, facts, self._horizon)
        return [fresh, changed]

    def _steps(self, arrivals: pl.DataFrame) -> Iterator[tuple[int, int, _Step]]:
        """Rows from, rows to, and what they do; what is yielded is taken before the next.

        Batches that only add later rows are computed together: what follows does not change them.
        """
        starts = batch_starts(arrivals)
        disturbed = set(self._disturbed(arrivals, starts))
        begun, kind = 0, _Step.IN_ORDER
        for number, (start, stop) in enumerate(pairwise(starts)):
            before, kind = kind, _Step.IN_ORDER
            if number in disturbed:
                if before is _Step.IN_ORDER and begun < start:
                    yield begun, start, before
                    begun = start
                aside = self._changes_nothing(arrivals[start:stop])
                kind = _Step.ASIDE if aside else _Step.DISTURBED
            if begun < start and kind is not before:
                yield begun, start, before
                begun = start
            if kind is _Step.DISTURBED:
                yield start, stop, kind
                begun, kind = stop, _Step.IN_ORDER
        if begun < arrivals.height:
            yield begun, arrivals.height, kind

    def _changes_nothing(self, batch: pl.DataFrame) -> bool:
        """Whether no row that may still be issued depends on any of these facts.

        So it is with almost all of a history that is loaded later, and there are thousands.
        """
        if self._reach is None:
            self._reach = self._reach_of_rows()
        facts = batch.select(self._view.entity, "event_time").iter_rows()
        horizon = self._horizon["horizon"]
        unknown = MIN_INSTANT
        if self._view.has_barrier and len(horizon):
            unknown = horizon[0]
        named = self._view.plan.named
        return all(
            time < self._reach.get(name, MIN_INSTANT if name in named else unknown)
            for name, time in facts
        )

    def _reach_of_rows(self) -> dict[str, Instant]:
        """Per entity, before which event time new facts change no row that may still be issued."""
        assert self._facts is not None
        view, time = self._view, pl.col("event_time")
        marked = _with_horizon(view, self._facts, self._horizon)
        older = time < pl.col("horizon")
        counted = marked.group_by(view.entity).agg(
            pl.col("horizon").first(),
            oldest=time.min(),
            older=older.sum(),
            is_over=older.all(),
        )
        found = {}
        for name, horizon, oldest, count, is_over in counted.iter_rows():
            # Without a row since the horizon, facts count only for those that look at the entity.
            if view.has_barrier and is_over and name not in view.plan.named:
                found[name] = horizon
            elif count < view.remembered:
                found[name] = MIN_INSTANT
            else:
                found[name] = oldest if view.remembered else horizon
        return found

    def _disturbed(self, arrivals: pl.DataFrame, starts: list[int]) -> list[int]:
        """The batches that bring a fact not later than one of an earlier batch.

        Of the same entity, or of any behind a barrier; there, a fact of the event time that is
        open disturbs nothing.
        """
        name = pl.lit("") if self._view.has_barrier else pl.col(self._view.entity)
        lengths = np.diff(starts)
        batch = pl.Series("batch", np.repeat(np.arange(lengths.size, dtype=np.int64), lengths))
        facts = arrivals.select("event_time", name.alias("name")).with_columns(batch)
        before = self._newest.select("name", pl.lit(-1, dtype=pl.Int64).alias("batch"), "time")
        newest = facts.group_by("name", "batch").agg(time=pl.col("event_time").max())
        newest = pl.concat([before, newest]).sort("name", "batch")
        self._newest = newest.group_by("name").agg(pl.col("time").max())
        newest = newest.select(
            "name", "batch", before=pl.col("time").cum_max().shift(1).over("name")
        )
        time, last = pl.col("event_time"), pl.col("before")
        is_late = time < last if self._joins_open else time <= last
        late = facts.join(newest, on=["name", "batch"]).filter(is_late)
        return late["batch"].unique().sort().to_list()


def _largest(times: pl.Series) -> Instant:
    return int(times.max())  # type: ignore[arg-type]


def _refuse_ambiguity(view: FeatureView, arrivals: pl.DataFrame) -> None:
    distinct = arrivals.select(*view.key_columns, *view.columns).unique()
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
