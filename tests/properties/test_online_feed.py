"""A feed and the table of what was known when, over arrivals in any order, agree to the bit."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features import Duration, FeatureView, OfflineDriver, Sessions, col
from assay.features.offline.arrivals import as_known_history
from assay.features.online import Arrival, MemoryStore, OnlineFeed, batches_of

X = col("x")
OWN = {
    "x": X,
    "lag": X.lag(2),
    "mean": X.rolling_mean(3, min_count=1),
    "std": X.simple_return(1).rolling_std(3, min_count=2),
}
PLAIN = FeatureView("plain", "source", "entity", OWN, Sessions(2))
ACROSS = FeatureView(
    "across",
    "source",
    "entity",
    {**OWN, "rank": X.cs_rank(), "gap": X.simple_return(1).cs_demean()},
    Sessions(2),
    members="member",
)
NAMED = FeatureView(
    "named",
    "source",
    "entity",
    {
        "other": X.rolling_mean(2).of("B", within=Duration(9)),
        "majors": X.of_basket({"A": 1.0, "B": 0.5}, within=Duration(4), min_count=1, own=False),
    },
    Sessions(2),
)
# Nothing before a row has to be remembered.
ROW_BY_ROW = FeatureView("row_by_row", "source", "entity", {"twice": X + X}, Sessions(2))
VIEWS = pytest.mark.parametrize(
    "view", [PLAIN, ACROSS, NAMED, ROW_BY_ROW], ids=lambda view: view.name
)


@st.composite
def tables(draw, most=40):
    """Arrivals whose times wander: in order, late, twice, revised, with ties of known times."""
    count = draw(st.integers(1, most))
    rows, said, clock, batch, known = [], {}, 100, 0, 100
    for _ in range(count):
        kind = draw(st.sampled_from(["next", "next", "next", "late", "revise", "again"]))
        entity = draw(st.sampled_from("ABC"))
        if kind == "again" and rows:
            row = dict(rows[draw(st.integers(0, len(rows) - 1))])
        else:
            if kind == "next" or not rows:
                clock += draw(st.integers(0, 2))
                event = clock
            elif kind == "late":
                event = draw(st.integers(90, clock))
            else:
                old = rows[draw(st.integers(0, len(rows) - 1))]
                entity, event = old["entity"], old["event_time"]
            known = max(known, clock) + draw(st.sampled_from([0, 0, 1, 5]))
            early = draw(st.sampled_from([0, 0, 0, 3]))  # some claim to have been known earlier
            row = {
                "entity": entity,
                "event_time": event,
                "known_time": known - early,
                "source_rank": draw(st.integers(0, 1)),
                "sequence": draw(st.integers(0, 1)),
                "x": draw(st.sampled_from([1.0, 1.25, 2.0, 7.5, math.nan])),
                "member": draw(st.sampled_from([True, True, False])),
            }
        key = tuple(row[name] for name in list(row)[:5])
        row |= said.setdefault(key, {"x": row["x"], "member": row["member"]})
        batch += draw(st.sampled_from([0, 1]))
        rows.append({**row, "batch": batch})
    frame = pl.DataFrame(rows, schema_overrides={"x": pl.Float64, "member": pl.Boolean})
    return frame if draw(st.booleans()) else frame.drop("batch")


def as_tuples(rows):
    """Everything about rows, values as bytes, by entity and the total order."""
    return sorted((row.entity, *row.key, row.values.tobytes()) for row in rows)


def frame_tuples(view, frame):
    values = frame.select(view.feature_names).to_numpy()
    keys = frame.select(view.key_columns).iter_rows()
    return sorted((*key, row.tobytes()) for key, row in zip(keys, values, strict=True))


def check(view, table, margin, close):
    store = MemoryStore()
    feed = OnlineFeed(view, store, margin=margin, close_with_batch=close)
    rows = [row for batch in batches_of(view, table) for row in feed.take(batch)]
    expected = as_known_history(view, table, margin=margin, close_with_batch=close)
    assert as_tuples(rows) == frame_tuples(view, expected)
    kept = [row for entity in "ABC" for row in store.history(view.name, entity)]
    assert as_tuples(kept) == as_tuples(rows)


@VIEWS
@settings(max_examples=30)
@given(table=tables(), margin=st.sampled_from([1, 2, 3, 50]), close=st.booleans())
def test_a_feed_gives_the_versions_that_the_table_of_arrivals_has(view, table, margin, close):
    check(view, table, margin, close)


@pytest.mark.long
@VIEWS
@settings(max_examples=300)
@given(table=tables(120), margin=st.integers(1, 60), close=st.booleans())
def test_a_feed_gives_the_versions_that_long_tables_of_arrivals_have(view, table, margin, close):
    check(view, table, margin, close)


@VIEWS
@settings(max_examples=20)
@given(table=tables(), close=st.booleans())
def test_the_last_version_of_every_row_is_the_value_over_the_facts_that_count(view, table, close):
    feed = OnlineFeed(view, MemoryStore(), margin=1_000, close_with_batch=close)
    last = {}
    for batch in batches_of(view, table):
        for row in feed.take(batch):
            before = last.get((row.entity, row.event_time))
            assert before is None or before.known_time < row.known_time
            assert before is None or before.values.tobytes() != row.values.tobytes()
            last[row.entity, row.event_time] = row
    for row in feed.close():
        last[row.entity, row.event_time] = row
    facts = {}
    for row in table.drop("batch", strict=False).iter_rows(named=True):
        key = tuple(row[name] for name in list(row)[:5])
        facts[key[:2]] = max(facts.get(key[:2], (key, row)), (key, row), key=lambda item: item[0])
    frame = pl.DataFrame(
        [facts[place][1] for place in sorted(facts)],
        schema_overrides={"x": pl.Float64, "member": pl.Boolean},
    )
    corrected = OfflineDriver(view).run(frame)
    values = corrected.select(view.feature_names).to_numpy()
    expected = {
        (entity, time): row.tobytes()
        for entity, time, row in zip(
            corrected["entity"], corrected["event_time"], values, strict=True
        )
    }
    assert {place: row.values.tobytes() for place, row in last.items()} == expected


@VIEWS
@settings(max_examples=12)
@given(table=tables(), data=st.data())
def test_a_restart_between_any_two_batches_changes_no_bit(view, table, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("feed") / "feed.ckp"
    close = data.draw(st.booleans())
    options = {"margin": 3, "close_with_batch": close}
    never_stopped = OnlineFeed(view, MemoryStore(), **options)
    batches = list(batches_of(view, table))
    ends = [sum(map(len, batches[: n + 1])) for n in range(len(batches))]
    expected = [
        never_stopped.take(batch, position=end) for batch, end in zip(batches, ends, strict=True)
    ]
    store = MemoryStore()
    feed = OnlineFeed(view, store, path, **options)
    for n, (batch, end) in enumerate(zip(batches, ends, strict=True)):
        assert as_tuples(feed.take(batch, position=end)) == as_tuples(expected[n])
        match data.draw(st.sampled_from(["go on", "save", "kill", "stop"])):
            case "save":
                feed.checkpoint()
            case "stop":
                feed.checkpoint()
                feed = OnlineFeed(view, store, path, **options)
                assert feed.position == end
            case "kill":
                feed = OnlineFeed(view, store, path, **options)
                for again, at in zip(batches[: n + 1], ends, strict=False):
                    feed.take(again, position=at)
    kept = [row for entity in "ABC" for row in store.history(view.name, entity)]
    assert as_tuples(kept) == as_tuples([row for rows in expected for row in rows])


@VIEWS
@settings(max_examples=25)
@given(table=tables(), cut=st.floats(0, 1), close=st.booleans())
def test_a_feed_warmed_up_on_history_goes_on_like_one_that_never_stopped(view, table, cut, close):
    options = {"margin": 3, "close_with_batch": close}
    batches = list(batches_of(view, table))
    start = int(cut * len(batches))
    height = sum(map(len, batches[:start]))
    one, other = (OnlineFeed(view, MemoryStore(), **options) for _ in range(2))
    for batch in batches[:start]:
        one.take(batch)
    other.warm_up(table[:height])
    assert other.position == one.position
    for batch in batches[start:]:
        assert as_tuples(one.take(batch)) == as_tuples(other.take(batch))


@VIEWS
@settings(max_examples=12)
@given(table=tables(), data=st.data())
def test_arrivals_that_come_again_give_nothing(view, table, data):
    feed = OnlineFeed(view, MemoryStore(), margin=1_000)
    batches = list(batches_of(view, table))
    for n, batch in enumerate(batches):
        feed.take(batch)
        again = data.draw(st.lists(st.integers(0, n), max_size=2))
        for index in again:
            assert feed.take(batches[index]) == []


def test_a_batch_may_be_given_as_arrivals_made_by_hand():
    feed = OnlineFeed(PLAIN, MemoryStore())
    (row,) = feed.take([Arrival("A", 1, 2, 3, 4, pl.Series([1.5]).to_numpy())])
    assert tuple(row.key) == (1, 2, 3, 4)
    assert row.values[0] == 1.5
