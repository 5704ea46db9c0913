"""What each commit of a table brought: the order in which rows were stored.

A row's known time says when a fact was known in the world; the commit says when this lake had it. A
fact that was known early and stored late has a small known time and a large commit, and whoever
asks only for later known times never sees it. Commits are counted from 0 along the table's history,
which is never rewritten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from assay.domain.instants import Instant
from assay.domain.order import ORDER_COLUMNS
from assay.lake.snapshots import HistoryEntry, Snapshot, Table


@dataclass(frozen=True, slots=True)
class TableCommit:
    """The rows that came with one commit.

    Attributes
    ----------
    number: its place in the table's history, from 0.
    snapshot: the id of the state after it.
    committed_at: when, by the clock of the lake.
    rows: the new rows. A row whose key was there with other content, or was withdrawn and is back,
        comes again as a revision: what the table says now was known when it was committed, so that
        is its known time. Versions that
        a later one has superseded do not come again: they would pass for the newest.
    withdrawn: keys that were there before and are gone.
    """

    number: int
    snapshot: str
    committed_at: Instant
    rows: pl.DataFrame
    withdrawn: int


def commits_of(
    table: Table, *, keys: Sequence[str], columns: Sequence[str], after: int = -1
) -> Iterator[TableCommit]:
    """The commits of a table that follow the commit ``after``, in their order.

    Parameters
    ----------
    keys: the columns that name a version of a fact, those of the total order among them; rows come
        sorted by known time, then by these.
    columns: the other columns that are looked at; a change in any other is none. One that the table
        gained later is null before.
    """
    history = table.history()
    current = table.current()
    if current is None:
        return
    files = {file.sha256 for file in current.files}
    layout = table.read(current, columns=[*keys, *columns], without=files)
    for number in range(after + 1, len(history)):
        new = table.snapshot(history[number].snapshot)
        rows, withdrawn = _difference(table, history[: number + 1], new, [*keys], layout)
        yield TableCommit(number, new.id, history[number].committed_at, rows, withdrawn)


def first_commit(
    table: Table, *, keys: Sequence[str], columns: Sequence[str], rows: int
) -> Iterator[pl.DataFrame]:
    """The rows of commit 0 as :func:`commits_of` gives them, in runs of about ``rows`` rows.

    All rows of one known time come in one run, and runs follow one another in known time. What is
    in memory is a run, and the rows of parts that were read which were known later than rows of
    parts that were not: corrections, in a table that is kept by year.
    """
    history, current = table.history(), table.current()
    if current is None:
        return
    snapshot = table.snapshot(history[0].snapshot)
    files = {file.sha256 for file in current.files}
    layout = table.read(current, columns=[*keys, *columns], without=files)
    order = ["known_time", *(name for name in keys if name != "known_time")]
    held = [layout]
    for file, later in zip(snapshot.files, _first_known_after(table, snapshot), strict=True):
        present = [name for name in layout.columns if name in snapshot.schema]
        held.append(_typed(table.read_part(file, present), layout))
        if later is not None and sum(map(len, held)) < rows:
            continue
        gathered = pl.concat(held)
        is_due = pl.lit(value=True) if later is None else pl.col("known_time") < later
        yield gathered.filter(is_due).sort(order)
        held = [gathered.filter(~is_due)]


def _first_known_after(table: Table, snapshot: Snapshot) -> list[Instant | None]:
    """Per part of a snapshot the first known time in the parts behind it, None where none is."""
    found: list[Instant | None] = [None]
    for file in snapshot.files[:0:-1]:
        times = [table.read_part(file, ["known_time"])["known_time"].min(), found[-1]]
        found.append(min((time for time in times if isinstance(time, int)), default=None))
    return found[::-1]


def _difference(
    table: Table,
    history: Sequence[HistoryEntry],
    new: Snapshot,
    keys: list[str],
    layout: pl.DataFrame,
) -> tuple[pl.DataFrame, int]:
    """The rows that came with the last commit of a history, and how many went."""
    *earlier, last = history
    old = table.snapshot(earlier[-1].snapshot) if earlier else None
    shared = {file.sha256 for file in old.files} if old else set()
    shared &= {file.sha256 for file in new.files}
    order = ["known_time", *(name for name in keys if name != "known_time")]
    now = _read(table, new, layout, shared)
    if old is None:
        return now.sort(order), 0
    then = _read(table, old, layout, shared)
    # NaN and null are values here: they equal themselves.
    fresh = now.join(then, on=layout.columns, how="anti", nulls_equal=True)
    first = fresh.join(then, on=keys, how="anti")
    late = first.filter(pl.col("known_time") <= earlier[-1].committed_at)
    back = _those_that_were_there(table, late, keys, layout, earlier[:-1])
    first = first.join(back, on=keys, how="anti")
    fact = [name for name in keys if name not in ORDER_COLUMNS[1:]]
    newest = now.select(keys).sort(*fact, *ORDER_COLUMNS[1:]).unique(fact, keep="last")
    # Later than what it takes the place of, also where the source's clock is ahead of the lake's.
    stored = pl.max_horizontal(pl.col("known_time") + len(earlier), pl.lit(last.committed_at))
    again = (
        pl.concat([fresh.join(then, on=keys, how="semi"), back])
        .join(newest, on=keys, how="semi")
        .with_columns(known_time=stored)
    )
    withdrawn = then.join(now, on=keys, how="anti").height
    return pl.concat([first, again]).sort(order), withdrawn


def _those_that_were_there(
    table: Table,
    rows: pl.DataFrame,
    keys: list[str],
    layout: pl.DataFrame,
    earlier: Sequence[HistoryEntry],
) -> pl.DataFrame:
    """Those of some rows whose keys stood in an earlier state: they were withdrawn and are back."""
    found, read = rows.clear(), set[str]()
    for entry in reversed(earlier):
        if rows.is_empty():
            break
        state = table.snapshot(entry.snapshot)
        before = _read(table, state, layout, read)
        found = pl.concat([found, rows.join(before, on=keys, how="semi")])
        rows = rows.join(before, on=keys, how="anti")
        read |= {file.sha256 for file in state.files}
    return found


def _read(
    table: Table, snapshot: Snapshot, layout: pl.DataFrame, without: Collection[str]
) -> pl.DataFrame:
    """A state of the table in the columns and types that it has now."""
    present = [name for name in layout.columns if name in snapshot.schema]
    return _typed(table.read(snapshot, columns=present, without=without), layout)


def _typed(rows: pl.DataFrame, layout: pl.DataFrame) -> pl.DataFrame:
    gained = [pl.lit(None).alias(name) for name in layout.columns if name not in rows.columns]
    return rows.with_columns(gained).select(layout.columns).cast(layout.schema)
