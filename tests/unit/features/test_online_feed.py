"""What a feed takes, refuses, issues again and remembers."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from assay.errors import (
    Conflict,
    ContractViolation,
    IncompatibleVersion,
    OutOfOrder,
    Tampered,
    Unavailable,
)
from assay.features import FeatureView, OfflineDriver, OnlineDriver, Sessions, col
from assay.features.offline.arrivals import as_known_history
from assay.features.online import Arrival, MemoryStore, OnlineFeed, batches_of

X = col("x")
VIEW = FeatureView("own", "source", "entity", {"x": X, "lag": X.lag(1)}, Sessions(2))
ACROSS = FeatureView("across", "source", "entity", {"rank": X.cs_rank()}, Sessions(2))


def fact(entity, event_time, x, known_time=None, sequence=0):
    known = event_time if known_time is None else known_time
    return Arrival(entity, event_time, known, 0, sequence, np.array([x]))


def brief(rows):
    return [(row.entity, row.event_time, row.known_time, *row.values.tolist()) for row in rows]


def test_a_revision_issues_its_row_and_the_rows_that_looked_back_at_it_again():
    store = MemoryStore()
    feed = OnlineFeed(VIEW, store)
    for time in (1, 2, 3):
        feed.take([fact("A", time, float(time))])
    again = feed.take([fact("A", 1, 1.5, known_time=9)])
    assert [row[:3] for row in brief(again)] == [("A", 1, 9), ("A", 2, 9)]
    assert again[0].values[0] == 1.5
    assert again[1].values.tolist() == [2.0, 1.5]
    # The newest row still answers; what was served before the revision can still be seen.
    assert store.read("own", ["A"])[0].event_time == 3
    (then,) = store.read("own", ["A"], 2)
    assert then.values.tolist() == [2.0, 1.0]


def test_a_late_fact_moves_between_its_neighbours():
    feed = OnlineFeed(VIEW, MemoryStore())
    feed.take([fact("A", 1, 1.0)])
    feed.take([fact("A", 5, 5.0)])
    rows = feed.take([fact("A", 3, 3.0, known_time=7)])
    assert brief(rows) == [("A", 3, 7, 3.0, 1.0), ("A", 5, 7, 5.0, 3.0)]
    assert brief(feed.take([fact("A", 8, 8.0)])) == [("A", 8, 8, 8.0, 5.0)]


def test_a_late_fact_of_one_entity_changes_the_ranks_of_the_others():
    feed = OnlineFeed(ACROSS, MemoryStore())
    assert feed.take([fact("A", 1, 1.0), fact("C", 1, 3.0)]) == []
    assert brief(feed.take([fact("A", 2, 1.0)])) == [("A", 1, 1, 0.5), ("C", 1, 1, 1.0)]
    rows = feed.take([fact("B", 1, 2.0, known_time=4)])
    assert brief(rows) == [("A", 1, 4, 1 / 3), ("B", 1, 4, 2 / 3)]
    assert brief(feed.close()) == [("A", 2, 2, 1.0)]
    assert feed.close() == []


def test_a_correction_that_claims_to_be_known_already_comes_after_what_was_issued():
    feed = OnlineFeed(VIEW, MemoryStore())
    feed.take([fact("A", 1, 1.0, known_time=5)])
    feed.take([fact("A", 3, 3.0, known_time=9)])
    rows = feed.take([fact("A", 2, 2.0, known_time=6)])
    assert brief(rows) == [("A", 2, 6, 2.0, 1.0), ("A", 3, 10, 3.0, 2.0)]


def test_arrivals_known_at_once_show_no_state_between_them():
    feed = OnlineFeed(VIEW, MemoryStore())
    feed.take([fact("A", 1, 1.0)])
    rows = feed.take([fact("A", 3, 3.0, known_time=4), fact("A", 2, 2.0, known_time=4)])
    assert [row[:3] for row in brief(rows)] == [("A", 2, 4), ("A", 3, 4)]
    assert rows[1].values.tolist() == [3.0, 2.0]


def test_only_the_last_event_times_are_issued_again():
    feed = OnlineFeed(VIEW, MemoryStore(), margin=2)
    for time in (1, 3, 5, 7):
        feed.take([fact("A", time, float(time))])
    assert feed.take([fact("A", 1, 1.5, known_time=20)]) == []
    assert feed.take([fact("A", 2, 2.0, known_time=21)]) == []
    # Too old for a row of its own, but the row of event time 5 looks back at it.
    assert brief(feed.take([fact("A", 4, 4.0, known_time=22)])) == [("A", 5, 22, 5.0, 4.0)]


def test_a_batch_that_cannot_be_taken_changes_nothing():
    feed, clean = OnlineFeed(VIEW, MemoryStore()), OnlineFeed(VIEW, MemoryStore())
    for one in (feed, clean):
        one.take([fact("A", 1, 1.0)])
    bad = [
        ([fact("A", 2, 2.0), fact("A", 1, 9.0)], Conflict),
        ([fact("A", 2, 2.0), fact("A", 2, 3.0)], Conflict),
        ([fact("A", 2, 2.0), Arrival("A", 3, 3, 0, 0, np.ones(2))], ContractViolation),
        ([fact("B", 2, 2.0), Arrival("A", 3, 3, 0, 0, np.ones(1, np.float32))], ContractViolation),
    ]
    for batch, error in bad:
        with pytest.raises(error):
            feed.take(batch)
    assert feed.position == clean.position == 1
    assert feed.take([fact("A", 2, 5.0)]) == clean.take([fact("A", 2, 5.0)])


def test_a_batch_from_before_the_position_is_passed_over():
    feed = OnlineFeed(VIEW, MemoryStore())
    feed.take([fact("A", 1, 1.0)], position=40)
    assert feed.take([fact("A", 2, 2.0)], position=40) == []
    assert feed.position == 40
    assert len(feed.take([fact("A", 2, 2.0)], position=41)) == 1


class FailingStore(MemoryStore):
    """Refuses to write while it is told to."""

    down = False

    def write(self, view, rows):
        if self.down:
            raise Unavailable("the store is down")
        return super().write(view, rows)


def test_rows_that_a_store_could_not_take_are_written_before_anything_else(tmp_path):
    store = FailingStore()
    feed = OnlineFeed(VIEW, store, tmp_path / "feed.ckp", checkpoint_every=1)
    store.down = True
    with pytest.raises(Unavailable):
        feed.take([fact("A", 1, 1.0)], position=1)
    with pytest.raises(Unavailable):
        feed.checkpoint()
    assert not (tmp_path / "feed.ckp").exists()
    store.down = False
    assert feed.take([fact("A", 1, 1.0)], position=1) == []
    assert [row.event_time for row in store.history("own", "A")] == [1]
    feed.take([fact("A", 2, 2.0)], position=2)
    assert OnlineFeed(VIEW, store, tmp_path / "feed.ckp").position == 2


def test_checkpoints_come_every_so_many_arrivals(tmp_path):
    path = tmp_path / "feed.ckp"
    feed = OnlineFeed(VIEW, MemoryStore(), path, checkpoint_every=3)
    positions = []
    for time in range(1, 8):
        feed.take([fact("A", time, 1.0)])
        again = OnlineFeed(VIEW, MemoryStore(), path, checkpoint_every=3)
        positions.append(again.position)
    assert positions == [0, 0, 3, 3, 3, 6, 6]


def test_a_checkpoint_of_another_view_or_margin_or_with_another_byte_is_refused(tmp_path):
    path = tmp_path / "feed.ckp"
    feed = OnlineFeed(VIEW, MemoryStore(), path, margin=4)
    feed.take([fact("A", 1, 1.0)])
    feed.checkpoint()
    with pytest.raises(IncompatibleVersion, match="margin of 4 event times, expected 5"):
        OnlineFeed(VIEW, MemoryStore(), path, margin=5)
    with pytest.raises(IncompatibleVersion, match="manifest"):
        OnlineFeed(ACROSS, MemoryStore(), path, margin=4)
    whole = path.read_bytes()
    for place in (0, 9, 60, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(Tampered):
            OnlineFeed(VIEW, MemoryStore(), path, margin=4)
    path.write_bytes(OnlineDriver(VIEW).checkpoint())
    with pytest.raises(Tampered):
        OnlineFeed(VIEW, MemoryStore(), path, margin=4)
    with pytest.raises(Conflict, match="without checkpoint_path"):
        OnlineFeed(VIEW, MemoryStore()).checkpoint()


def test_a_feed_that_has_taken_something_is_not_warmed_up():
    feed = OnlineFeed(VIEW, MemoryStore())
    feed.take([fact("A", 1, 1.0)])
    with pytest.raises(OutOfOrder, match="position 1"):
        feed.warm_up(table([("A", 0, 0, 1.0)]))
    for options in ({"margin": 0}, {"checkpoint_every": 0}):
        with pytest.raises(ContractViolation, match="at least one"):
            OnlineFeed(VIEW, MemoryStore(), **options)


def table(rows):
    frame = pl.DataFrame(rows, schema=["entity", "event_time", "known_time", "x"], orient="row")
    zeros = [pl.lit(0, dtype=pl.Int64).alias(name) for name in ("source_rank", "sequence")]
    return frame.with_columns(zeros)


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("margin", [1, 4])
def test_a_correction_after_the_warm_up_finds_the_facts_that_it_needs(margin, close):
    far = X.rolling_mean(9)
    for view in (
        FeatureView("own", "source", "entity", {"far": far, "lag": X.lag(5)}, Sessions(2)),
        FeatureView("across", "source", "entity", {"far": far, "r": X.cs_rank()}, Sessions(2)),
    ):
        rows = [(e, n, n, float((n * 7 + ord(e)) % 11)) for n in range(1, 60) for e in "AB"]
        options = {"margin": margin, "close_with_batch": close}
        one, other = (OnlineFeed(view, MemoryStore(), **options) for _ in range(2))
        for batch in batches_of(view, table(rows)):
            one.take(batch)
        other.warm_up(table(rows), position=7)
        assert other.position == 7
        revised = 58 if view.has_barrier and not close else 59
        for batch in (
            [fact("A", revised - margin + 1, 4.5, known_time=70)],
            [fact("B", revised - margin - 7, 4.5, known_time=71)],
            [fact("A", 60, 1.5, known_time=72), fact("B", 60, 2.5, known_time=72)],
            [fact("A", 61, 1.5, known_time=73)],
        ):
            expected = one.take(batch)
            assert expected
            assert other.take(batch) == expected


def test_rows_that_are_known_at_the_same_time_are_one_batch_unless_the_table_says_otherwise():
    arrivals = table([("A", 1, 5, 1.0), ("B", 1, 5, 1.0), ("A", 2, 6, 1.0), ("B", 2, 5, 1.0)])
    assert [len(batch) for batch in batches_of(VIEW, arrivals)] == [2, 1, 1]
    numbered = arrivals.with_columns(batch=pl.Series([0, 1, 1, 1]))
    assert [len(batch) for batch in batches_of(VIEW, numbered)] == [1, 3]
    assert list(batches_of(VIEW, arrivals.clear())) == []


def test_without_late_and_revised_facts_the_known_history_is_what_the_driver_computes():
    rows = [(entity, 10 * n, 10 * n + 3, float(n % 7)) for n in range(60) for entity in "ABC"]
    arrivals = table(rows)
    for view in (VIEW, ACROSS):
        expected = OfflineDriver(view).run(arrivals.sort("entity", "event_time"))
        found = as_known_history(view, arrivals, margin=1, close_with_batch=True)
        assert found.equals(expected)
    # The last event time stays open until something later arrives.
    found = as_known_history(ACROSS, arrivals, margin=1)
    assert found["event_time"].max() == 580


def test_two_arrivals_at_one_place_must_say_the_same_in_a_table_too():
    arrivals = table([("A", 1, 5, 1.0), ("A", 1, 5, 2.0)])
    with pytest.raises(Conflict, match="differ"):
        as_known_history(VIEW, arrivals, margin=1)
    with pytest.raises(ContractViolation, match="margin 0"):
        as_known_history(VIEW, arrivals, margin=0)
    assert as_known_history(VIEW, arrivals.clear(), margin=1).is_empty()


def test_a_rebuilt_driver_has_the_bits_of_one_that_took_the_rows_in_order():
    rows = [(entity, n, n, float((n * 7) % 5)) for entity in "AB" for n in range(1, 150)]
    for view in (VIEW, ACROSS):
        frame = table(rows)
        driver = OnlineDriver(view)
        driver.warm_up(frame.filter(pl.col("event_time") % 3 > 0))
        found = driver.rebuild(frame, 40)
        expected = OfflineDriver(view).run(frame).filter(pl.col("event_time") >= 40)
        assert found.equals(expected)
        clean = OnlineDriver(view)
        clean.warm_up(frame)
        for one in (driver, clean):
            with pytest.raises(OutOfOrder, match="OnlineFeed" if view is VIEW else None):
                one.push("A", 149, 150, np.array([1.0]))
        a, b = (one.push("A", 150, 150, np.array([1.0])) for one in (driver, clean))
        if view.has_barrier:
            with pytest.raises(Conflict, match="wait"):
                driver.rebuild(frame, 0)
            ((a,), (b,)) = (one.close(150) for one in (driver, clean))
        assert a.values.tobytes() == b.values.tobytes()
