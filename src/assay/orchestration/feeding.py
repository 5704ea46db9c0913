"""How the facts of a desk become the arrivals of a feed, and by which rule the feed issues rows.

Offline and online use the same two things, so what history says was known is what a feed gave.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypedDict

import polars as pl

from assay.errors import NotFound
from assay.features import FeatureView
from assay.lake import Table, TableCommit, commits_of


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
        rows = commit.rows.with_columns(pl.col("source_rank").cast(pl.Int64))
        batch = pl.lit(commit.number).cast(pl.String) + ":" + pl.col("known_time").cast(pl.String)
        rows = rows.sort("known_time", "event_time", view.entity).with_columns(batch=batch)
        yield TableCommit(
            commit.number, commit.snapshot, commit.committed_at, rows, commit.withdrawn
        )


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
