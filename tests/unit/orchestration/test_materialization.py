"""Online rows follow what the lake stores, in the order in which it stored it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from assay.domain.order import as_of
from assay.errors import Conflict, ContractViolation, IncompatibleVersion, NotFound, Tampered
from assay.features import FeatureView, Lateness, Sessions, col
from assay.features.offline.arrivals import as_known_history
from assay.features.online import MemoryStore, NamespacedStore, OnlineFeed, batches_of
from assay.lake import Lake
from assay.orchestration.feeding import FEED, all_arrivals
from assay.orchestration.materialization import Freshness, Materializer, Target, freshness_of
from assay.testing.clocks import FixedClock

X = col("x")
VIEW = FeatureView(
    "live", "source", "entity", {"mean": X.rolling_mean(3), "rank": X.cs_rank()}, Sessions(2)
)
HOUR, DAY = 3_600 * 10**9, 86_400 * 10**9
SCHEMA = {
    "entity": pl.String,
    "event_time": pl.Int64,
    "known_time": pl.Int64,
    "source_rank": pl.Int32,
    "sequence": pl.Int64,
    "x": pl.Float64,
    "note": pl.String,
}
QUIET = SimpleNamespace(event=lambda _: None)


def fact(entity: str, day: int, x: float, *, known: int | None = None, sequence: int = 0) -> Any:
    return (entity, day * DAY, day * DAY + HOUR if known is None else known, 0, sequence, x, "")


def days(first: int, last: int, names: str = "AB") -> list[Any]:
    return [
        fact(name, day, day * (1 + n)) for day in range(first, last) for n, name in enumerate(names)
    ]


class Stage:
    """A lake with one silver table, and a store that its view is materialized into."""

    def __init__(self, folder: Any) -> None:
        self.clock = FixedClock(0)
        self.lake = Lake(folder / "data", self.clock)
        self.table = self.lake.table("silver/source")
        self.store = MemoryStore()
        self.view = VIEW
        self.rows: dict[Any, Any] = {}

    def commit(self, *facts: Any, at: int) -> None:
        """Add facts; one with a key that is there takes its place."""
        self.clock.advance(at - self.clock.now())
        self.rows |= {row[:5]: row for row in facts}
        frame = pl.DataFrame(sorted(self.rows.values()), schema=SCHEMA, orient="row")
        parts = frame.with_columns(month=pl.col("event_time") // (30 * DAY)).partition_by(
            "month", as_dict=True, include_key=False
        )
        self.table.commit({f"{key[0]:04d}": part for key, part in parts.items()})

    @property
    def materializer(self) -> Materializer:
        desk: Any = SimpleNamespace(
            lake=self.lake, layout=SimpleNamespace(lake=self.lake.root), clock=self.clock
        )
        target = Target(self.view.name, self.lake.root / "feed.checkpoint")
        return Materializer(desk, self.view, self.store, target)

    def freshness(self) -> Freshness:
        (found,) = freshness_of(self.store, [self.materializer])
        return found

    def run(self, **options: Any) -> Any:
        return self.materializer.run(QUIET, **options)

    def held(self) -> dict[Any, bytes]:
        return {
            (row.entity, *row.key): row.values.tobytes()
            for entity in "ABC"
            for row in self.store.history("live", entity)
        }

    def known(self) -> dict[Any, bytes]:
        """What history says, over everything that was committed, in that order."""
        frame = as_known_history(self.view, all_arrivals(self.table, self.view), **FEED)
        values = frame.select(self.view.feature_names).to_numpy()
        keys = frame.select(self.view.key_columns).iter_rows()
        return {key: row.tobytes() for key, row in zip(keys, values, strict=True)}


@pytest.fixture
def stage(tmp_path: Any) -> Stage:
    return Stage(tmp_path)


def test_each_run_takes_what_was_committed_since_the_last(stage: Stage) -> None:
    stage.commit(*days(1, 20), at=20 * DAY)
    first = stage.run()
    assert (first.commits, first.arrivals, first.rows, first.loaded) == (1, 38, 38, 0)
    assert first.newest == 19 * DAY
    again = stage.run()
    assert (again.commits, again.arrivals, again.rows) == (0, 0, 0)
    assert again.position == first.position == 38
    stage.commit(*days(20, 22), at=22 * DAY)
    stage.commit(*days(22, 23), at=23 * DAY)
    more = stage.run()
    assert (more.commits, more.arrivals, more.rows, more.position) == (2, 6, 6, 44)
    assert stage.held() == stage.known()


def test_a_fact_that_was_known_early_and_stored_late_is_not_missed(stage: Stage) -> None:
    facts = days(1, 12)
    late = facts.pop(12)  # A of day 7
    stage.commit(*facts, at=12 * DAY)
    stage.run()
    before = stage.held()
    assert ("A", 7 * DAY) not in {key[:2] for key in before}
    stage.commit(late, at=13 * DAY)
    assert stage.run().arrivals == 1
    assert stage.held() == stage.known()
    assert before.items() <= stage.held().items()
    newest = stage.store.read("live", ["A"])[0]
    assert newest is not None
    assert newest.event_time == 11 * DAY
    assert ("A", 7 * DAY) in {key[:2] for key in stage.held()}


def test_a_revision_gives_the_rows_that_it_changes_new_versions(stage: Stage) -> None:
    stage.commit(*days(1, 12), at=12 * DAY)
    stage.run()
    revision = fact("A", 9, 500.0, known=12 * DAY, sequence=7)
    stage.commit(revision, at=13 * DAY)
    assert stage.run().arrivals == 1
    assert stage.held() == stage.known()
    versions = [row for row in stage.store.history("live", "A") if row.event_time == 11 * DAY]
    assert [row.known_time for row in versions] == [11 * DAY + HOUR, 12 * DAY]
    assert versions[1].values[0] == (500.0 + 10 + 11) / 3
    # Nobody could have known it before.
    keys = [row.key for row in stage.store.history("live", "A")]
    assert as_of(keys, 12 * DAY - 1) == versions[0].key


def test_a_row_whose_content_changed_was_known_when_it_was_committed(stage: Stage) -> None:
    stage.commit(*days(1, 12), at=12 * DAY)
    stage.run()
    stage.commit(fact("B", 11, -3.0), at=15 * DAY)  # under the key of the one before
    assert stage.run().arrivals == 1
    assert stage.held() == stage.known()
    newest = stage.store.read("live", ["B"])[0]
    assert newest is not None
    assert newest.known_time == 15 * DAY


def test_content_that_changes_before_its_known_time_by_the_clock_of_the_lake_is_newer_each_time(
    stage: Stage,
) -> None:
    stage.commit(*days(1, 12), at=11 * DAY)  # the last rows are known an hour later
    stage.commit(fact("B", 11, -3.0), at=11 * DAY + 1)
    stage.commit(fact("B", 11, -4.0), at=11 * DAY + 2)
    stage.run()
    assert stage.held() == stage.known()
    newest = stage.store.read("live", ["B"])[0]
    assert newest is not None
    assert newest.values[0] == (18.0 + 20.0 - 4.0) / 3
    assert newest.known_time > 11 * DAY + HOUR


def test_of_a_fact_whose_versions_all_changed_the_newest_counts(stage: Stage) -> None:
    revision = fact("B", 11, 30.0, known=12 * DAY)
    stage.commit(*days(1, 12), revision, at=12 * DAY)
    stage.run()
    stage.commit(fact("B", 11, 23.0), (*revision[:5], 31.0, ""), at=15 * DAY)
    assert stage.run().arrivals == 1
    assert stage.held() == stage.known()
    newest = stage.store.read("live", ["B"])[0]
    assert newest is not None
    assert (newest.known_time, newest.values[0]) == (15 * DAY, (18.0 + 20.0 + 31.0) / 3)


def test_a_change_in_a_version_that_was_superseded_does_not_bring_it_back(stage: Stage) -> None:
    stage.commit(*days(1, 12), fact("B", 11, 30.0, known=12 * DAY), at=12 * DAY)
    stage.run()
    before = stage.held()
    stage.commit(fact("B", 11, 23.0), at=15 * DAY)
    assert stage.run().arrivals == 0
    assert stage.held() == stage.known() == before


def test_a_change_in_a_column_that_the_view_does_not_read_is_none(stage: Stage) -> None:
    stage.commit(*days(1, 12), at=12 * DAY)
    stage.run()
    row = [*fact("B", 11, 22.0)]
    row[-1] = "seen by somebody"
    stage.commit(tuple(row), at=15 * DAY)
    done = stage.run()
    assert (done.commits, done.arrivals) == (1, 0)


def test_of_a_long_history_the_last_sessions_get_rows(stage: Stage) -> None:
    stage.commit(*days(1, 100), at=100 * DAY)
    done = stage.run()
    assert (done.loaded, done.rows) == (2 * 67, 2 * 32)
    recent = {key: row for key, row in stage.known().items() if key[1] > 67 * DAY}
    assert stage.held() == recent
    stage.commit(*days(100, 103, "ABC"), at=103 * DAY)
    stage.run()
    assert stage.held() == {key: row for key, row in stage.known().items() if key[1] > 67 * DAY}


def test_a_backfill_writes_a_range_as_it_was_known_and_nothing_twice(stage: Stage) -> None:
    stage.commit(*days(1, 100), at=100 * DAY)
    stage.commit(fact("A", 98, 7.0, known=101 * DAY, sequence=9), at=101 * DAY)
    stage.run()
    assert stage.materializer.backfill(10 * DAY, 50 * DAY, QUIET).rows == 2 * 40
    assert stage.materializer.backfill(10 * DAY, 50 * DAY, QUIET).rows == 0
    done = stage.materializer.backfill(0, 200 * DAY, QUIET)
    assert (done.rows, done.let_go) == (2 * 27, 0)
    assert stage.held() == stage.known()
    with pytest.raises(ContractViolation, match="1970-02-20T00:00:00Z is empty"):
        stage.materializer.backfill(50 * DAY, 50 * DAY, QUIET)


def test_a_backfill_says_what_a_full_store_does_not_keep(stage: Stage) -> None:
    stage.store = MemoryStore(max_versions=40)
    stage.commit(*days(1, 100), at=100 * DAY)
    stage.run()
    for written in (2 * 8, 0):  # the last 32 are there
        done = stage.materializer.backfill(0, 200 * DAY, QUIET)
        assert (done.rows, done.let_go) == (written, 2 * (99 - 40))


def test_a_full_run_gives_the_rows_that_are_there(stage: Stage) -> None:
    stage.commit(*days(1, 40), at=40 * DAY)
    stage.commit(*days(40, 45), at=45 * DAY)
    stage.run()
    before = stage.held()
    done = stage.run(full=True)
    assert (done.commits, done.position) == (2, 88)
    assert stage.held() == before


def test_freshness_counts_what_is_not_there_yet(stage: Stage) -> None:
    stage.commit(*days(1, 20), at=20 * DAY)
    before = stage.freshness()
    assert (before.entities, before.known, before.newest) == (0, 2, None)
    assert (before.behind, before.pending) == (19, 1)
    stage.run()
    stage.commit(*days(20, 23, "ABC"), at=23 * DAY)
    found = stage.freshness()
    assert (found.entities, found.known, found.behind, found.pending) == (2, 3, 3, 1)
    assert (found.newest, found.source_newest) == (19 * DAY, 22 * DAY)
    stage.run()
    found = stage.freshness()
    assert (found.entities, found.behind, found.pending) == (3, 0, 0)


@pytest.mark.parametrize("byte", range(0, 60, 7))
def test_a_changed_byte_in_what_was_taken_passes_over_no_commit(stage: Stage, byte: int) -> None:
    stage.commit(*days(1, 20), at=20 * DAY)
    stage.run()
    stage.commit(*days(20, 22), at=22 * DAY)
    (marks,) = stage.lake.root.glob("materialization/live/*.ndjson")
    whole = bytearray(marks.read_bytes())
    whole[byte % len(whole)] ^= 1
    marks.write_bytes(whole)
    for call in (stage.run, stage.freshness):
        with pytest.raises(Tampered, match="line 1 has changed") as caught:
            call()
        assert caught.value.hint == "assay features materialize live --full"
    stage.run(full=True)
    assert stage.held() == stage.known()
    assert stage.run().commits == 0


def test_what_was_taken_of_a_longer_history_is_not_taken_for_this_one(stage: Stage) -> None:
    stage.commit(*days(1, 20), at=20 * DAY)
    silver = stage.lake.root / "silver"
    shutil.copytree(silver, stage.lake.root / "copy")
    stage.commit(*days(20, 22), at=22 * DAY)
    stage.run()
    shutil.rmtree(silver)
    shutil.move(stage.lake.root / "copy", silver)
    for call in (stage.run, stage.freshness):
        with pytest.raises(Conflict, match="its history is another one") as caught:
            call()
        assert caught.value.hint == "assay features materialize live --full"


@pytest.mark.parametrize("kept", [0, 10, 18])
def test_rows_that_a_store_lost_at_the_end_are_told_from_those_that_wait(
    stage: Stage, kept: int
) -> None:
    stage.commit(*days(1, 20), at=20 * DAY)
    assert not stage.freshness().lost
    stage.run()
    whole = stage.held()
    assert not stage.freshness().lost
    # A server without its power came back with what was on its disk.
    before, stage.store = stage.store, MemoryStore()
    stage.store.write("live", [row for name in "AB" for row in before.history("live", name)[:kept]])
    found = stage.freshness()
    assert (found.behind, found.pending, found.lost) == (19 - kept, 0, True)
    stage.run(full=True)
    assert stage.held() == whole
    assert not stage.freshness().lost


def test_an_event_time_that_is_still_open_is_not_lost(stage: Stage) -> None:
    stage.view = replace(VIEW, lateness=Lateness(event_times=32, closes_with_batch=False))
    stage.commit(*days(1, 20), at=20 * DAY)
    stage.run()
    found = stage.freshness()
    assert (found.behind, found.pending, found.lost) == (1, 0, False)


def test_what_leaves_the_source_keeps_the_rows_that_were_known(stage: Stage) -> None:
    stage.commit(*days(1, 20), at=20 * DAY)
    stage.run()
    before = stage.held()
    del stage.rows[fact("A", 19, 0.0)[:5]]
    stage.commit(at=21 * DAY)
    done = stage.run()
    assert (done.commits, done.arrivals, done.withdrawn) == (1, 0, 1)
    assert stage.held() == before


def test_what_left_the_source_and_is_back_with_other_content_is_known_from_then_on(
    stage: Stage,
) -> None:
    stage.commit(*days(1, 12), at=12 * DAY)
    left = stage.rows.pop(fact("A", 11, 0.0)[:5])
    stage.commit(at=13 * DAY)
    stage.commit(fact("A", 12, 12.0), at=14 * DAY)
    stage.commit((*left[:5], 7.0, ""), at=15 * DAY)
    stage.run()
    assert stage.held() == stage.known()
    versions = [row for row in stage.store.history("live", "A") if row.event_time == 11 * DAY]
    assert [(row.known_time, row.values[0]) for row in versions] == [
        (11 * DAY + HOUR, 10.0),
        (15 * DAY, (9.0 + 10.0 + 7.0) / 3),
    ]
    after = stage.freshness()
    assert (after.behind, after.pending) == (0, 0)


def test_another_definition_does_not_write_among_the_rows_of_the_first(stage: Stage) -> None:
    stage.commit(*days(1, 20), at=20 * DAY)
    stage.run()
    stage.view = replace(VIEW, features={**VIEW.features, "x": X})
    with pytest.raises(IncompatibleVersion, match="changed since its rows were last materialized"):
        stage.run()
    with pytest.raises(Conflict):
        stage.run(full=True)


def test_a_column_that_the_source_gained_later_was_not_known_before(stage: Stage) -> None:
    stage.view = replace(VIEW, features={"sum": col("x") + col("y").fill_missing(0.0)})
    frame = pl.DataFrame(days(1, 6), schema=SCHEMA, orient="row")
    stage.clock.advance(6 * DAY)
    stage.table.commit(frame)
    with pytest.raises(ContractViolation, match="source source has no column 'y'"):
        stage.run()
    with pytest.raises(ContractViolation, match="source source has no column 'y'"):
        stage.materializer.backfill(0, DAY, QUIET)
    stage.clock.advance(DAY)
    stage.table.commit(frame.with_columns(y=pl.lit(100.0)))
    assert stage.run().commits == 2
    assert stage.held() == stage.known()
    versions = [row for row in stage.store.history("live", "A") if row.event_time == 5 * DAY]
    assert [(row.known_time, row.values[0]) for row in versions] == [
        (5 * DAY + HOUR, 5.0),
        (7 * DAY, 105.0),
    ]


def test_an_empty_source_is_said(stage: Stage) -> None:
    for call in (
        stage.run,
        stage.freshness,
        lambda: stage.materializer.backfill(0, 1, QUIET),
    ):
        with pytest.raises(NotFound, match="silver/source is empty"):
            call()


def test_the_feed_of_a_promoted_manifest_is_gone_on_with(stage: Stage) -> None:
    stage.commit(*days(1, 20), at=20 * DAY)
    late = fact("A", 18, -9.0, known=18 * DAY + 5, sequence=3)
    stage.commit(*days(20, 22), at=22 * DAY)
    history = stage.table.history()
    # What a promotion leaves: a feed into a namespace that took the facts of the first commit.
    checkpoint = stage.lake.root / "feeds" / "promoted.checkpoint"
    store = NamespacedStore(stage.store, {VIEW.name: "promoted"})
    feed = OnlineFeed(VIEW, store, checkpoint, **FEED)
    for batch in batches_of(VIEW, all_arrivals(stage.table, VIEW, upto=history[0].snapshot)):
        feed.take(batch)
    feed.checkpoint()

    target = Target("promoted", checkpoint, begun=history[0].snapshot)

    def run() -> Any:
        desk: Any = SimpleNamespace(lake=stage.lake, layout=SimpleNamespace(lake=stage.lake.root))
        return Materializer(desk, VIEW, stage.store, target).run(QUIET)

    done = run()
    assert (done.name, done.commits, done.arrivals) == ("promoted", 1, 4)
    stage.commit(late, at=23 * DAY)
    assert run().arrivals == 1
    assert run().commits == 0
    found = {
        (row.entity, *row.key): row.values.tobytes()
        for entity in "AB"
        for row in stage.store.history("promoted", entity)
    }
    assert found == stage.known()
    assert stage.held() == {}


def test_facts_up_to_a_snapshot_are_those_of_the_commits_before_it(stage: Stage) -> None:
    stage.commit(*days(1, 5), at=5 * DAY)
    stage.commit(*days(5, 6), at=6 * DAY)
    first, second = (entry.snapshot for entry in stage.table.history())
    assert all_arrivals(stage.table, VIEW, upto=first).height == 8
    assert all_arrivals(stage.table, VIEW, upto=second).height == 10
    with pytest.raises(NotFound, match="no snapshot"):
        all_arrivals(stage.table, VIEW, upto="0" * 64)


def test_a_changed_byte_of_silver_is_no_row(stage: Stage) -> None:
    stage.commit(*days(1, 20), at=20 * DAY)
    (file,) = stage.lake.root.glob("silver/source/files/*.parquet")
    data = file.read_bytes()
    for place in range(0, len(data), 101):
        changed = bytearray(data)
        changed[place] ^= 1
        file.write_bytes(changed)
        for call in (stage.run, lambda: stage.materializer.backfill(0, 30 * DAY, QUIET)):
            with pytest.raises(Tampered, match=file.name):
                call()
    assert stage.held() == {}
    file.write_bytes(data)
    stage.run()
    assert stage.held() == stage.known()
