"""How the facts of a desk become the arrivals of a feed, and by which rule the feed issues rows.

Offline and online use the same two things, so what history says was known is what a feed gave.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypedDict

import numpy as np
import polars as pl

from assay.errors import NotFound
from assay.features import FeatureView
from assay.features.kernel.frames import batch_starts
from assay.features.online import MemoryStore, OnlineFeed, StoredRow, batches_of
from assay.lake import Table, TableCommit, commits_of, first_commit

_AT_ONCE: Final = 10_000  # arrivals whose rows are held one by one


class FeedRule(TypedDict):
    """See :class:`assay.features.online.OnlineFeed`."""

    margin: int
    close_with_batch: bool


FEED: Final[FeedRule] = {"margin": 32, "close_with_batch": True}
"""When rows of a desk are issued whose view declares no lateness: a session is complete with the
facts that become known at once, and the last 32 sessions are issued again when a fact of theirs is
revised."""


def feed_rule(view: FeatureView) -> FeedRule:
    """When rows of a view are issued."""
    if view.lateness is None:
        return FEED
    return {
        "margin": view.lateness.event_times,
        "close_with_batch": view.lateness.closes_with_batch,
    }


def arrivals_by_commit(
    table: Table, view: FeatureView, *, after: int = -1
) -> Iterator[TableCommit]:
    """The arrivals of a view by the commits of its source, from the commit after ``after`` on.

    Inside a commit, facts arrive in the order of known times, those of one known time together.
    """
    for commit in commits_of(table, keys=view.key_columns, columns=view.columns, after=after):
        rows = _arrivals(view, commit.number, commit.rows)
        yield TableCommit(
            commit.number, commit.snapshot, commit.committed_at, rows, commit.withdrawn
        )


def arrivals_in_stretches(
    table: Table, view: FeatureView, *, upto: int, rows: int
) -> Iterator[pl.DataFrame]:
    """The arrivals of :func:`all_arrivals` up to the commit ``upto``, about ``rows`` at a time.

    What is in memory is a stretch, and one commit that follows the first.
    """
    keys, columns = view.key_columns, view.columns
    for stretch in first_commit(table, keys=keys, columns=columns, rows=rows):
        yield _arrivals(view, 0, stretch)
    gathered: list[pl.DataFrame] = []
    for commit in arrivals_by_commit(table, view, after=0):
        if commit.number > upto:
            break
        gathered.append(commit.rows)
        if sum(map(len, gathered)) >= rows:
            yield pl.concat(gathered)
            gathered = []
    if any(map(len, gathered)):
        yield pl.concat(gathered)


def _arrivals(view: FeatureView, number: int, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of a commit in the order of arrival, with their batches."""
    batch = pl.lit(number).cast(pl.String) + ":" + pl.col("known_time").cast(pl.String)
    typed = rows.with_columns(pl.col("source_rank").cast(pl.Int64))
    return typed.sort("known_time", "event_time", view.entity).with_columns(batch=batch)


def all_arrivals(table: Table, view: FeatureView, *, upto: str | None = None) -> pl.DataFrame:
    """Every arrival of a view so far, as :func:`assay.features.offline.arrivals.as_known_history`
    takes them; with ``upto``, those of the commits up to that snapshot.

    Raises
    ------
    NotFound: the table has no such snapshot.
    """
    last = commit_of(table, upto) if upto is not None else None
    commits = arrivals_by_commit(table, view)
    return pl.concat([one.rows for one in commits if last is None or one.number <= last])


def rows_of_feed(view: FeatureView, arrivals: pl.DataFrame, *, after: int = 0) -> pl.DataFrame:
    """Every version of a row that an online feed issues, batch by batch.

    Parameters
    ----------
    after: so many arrivals, whole batches of them, are loaded as history, without rows.

    Returns
    -------
    The key columns and features, in the order in which the feed gave them.
    """
    feed = OnlineFeed(view, _Unkept(), **feed_rule(view))
    if after:
        feed.warm_up(arrivals[:after])
    frames = [_frame(view, [])]
    starts = [start for start in batch_starts(arrivals) if start >= after]
    begun = after
    for start in starts:
        if start - begun >= _AT_ONCE or start == arrivals.height:
            batches = batches_of(view, arrivals[begun:start])
            frames.append(_frame(view, [row for batch in batches for row in feed.take(batch)]))
            begun = start
    return pl.concat(frames, rechunk=True)


class _Unkept(MemoryStore):
    """For a feed whose rows are wanted and nothing else."""

    def write(self, view: str, rows: Iterable[StoredRow]) -> int:  # noqa: ARG002
        """Count them."""
        return sum(1 for _ in rows)


def _frame(view: FeatureView, rows: list[StoredRow]) -> pl.DataFrame:
    values = np.array([row.values for row in rows]).reshape(len(rows), len(view.features))
    keys = pl.DataFrame(
        [row[: len(view.key_columns)] for row in rows],
        schema=dict.fromkeys(view.key_columns, pl.Int64) | {view.entity: pl.String},
        orient="row",
    )
    features = [pl.Series(name, values[:, n]) for n, name in enumerate(view.feature_names)]
    return keys.hstack(features)


def commit_of(table: Table, snapshot: str) -> int:
    """The number of the commit that a snapshot came with, of several the last.

    Raises
    ------
    NotFound: the table has no such snapshot.
    """
    found = [n for n, entry in enumerate(table.history()) if entry.snapshot == snapshot]
    if not found:
        raise NotFound(f"table {table.name} has no snapshot {snapshot}")
    return found[-1]
