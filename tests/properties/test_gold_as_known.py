"""A training set over gold holds, at every decision, the row that an online store gave there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features import Duration, FeatureView, Lateness, OfflineDriver, col
from assay.features.offline.arrivals import AsKnown, as_known_history
from assay.features.offline.point_in_time import FeatureTable
from assay.features.offline.training_sets import Spine, get_training_set
from assay.features.online import MemoryStore, OnlineFeed, batches_of, read_as_of
from assay.lake import Lake, as_first_known, by_year
from assay.orchestration import building
from assay.orchestration.building import build_features, prove_parity
from assay.orchestration.feeding import all_arrivals, arrivals_by_commit, feed_rule
from assay.testing.clocks import FixedClock

DAY = 86_400 * 10**9
STEP = 60 * DAY  # six event times a year: histories lie in several parts
X = col("x")
OWN = {
    "x": X,
    "lag": X.lag(2),
    "mean": X.rolling_mean(3, min_count=1),
    "std": X.simple_return(1).rolling_std(3, min_count=2),
}
LIVES = Duration.of(days=400)
TIGHT = Lateness(event_times=3, closes_with_batch=True)
PLAIN = FeatureView("plain", "source", "entity", OWN, LIVES)
ACROSS = FeatureView(
    "across",
    "source",
    "entity",
    {**OWN, "rank": X.cs_rank(), "gap": X.simple_return(1).cs_demean()},
    LIVES,
    members="member",
)
NAMED = FeatureView(
    "named",
    "source",
    "entity",
    {
        "other": X.rolling_mean(2).of("B", within=Duration.of(days=300)),
        "majors": X.of_basket(
            {"A": 1.0, "B": 0.5}, within=Duration.of(days=200), min_count=1, own=False
        ),
    },
    LIVES,
)
TIGHT_PLAIN = FeatureView("tight_plain", "source", "entity", OWN, LIVES, lateness=TIGHT)
TIGHT_ACROSS = FeatureView(
    "tight_across", "source", "entity", {**OWN, "rank": X.cs_rank()}, LIVES, lateness=TIGHT
)
WAITING = FeatureView(
    "waiting",
    "source",
    "entity",
    {**OWN, "rank": X.cs_rank()},
    LIVES,
    lateness=Lateness(event_times=4),
)
VIEWS = (PLAIN, ACROSS, NAMED, TIGHT_PLAIN, TIGHT_ACROSS, WAITING)
QUIET = SimpleNamespace(event=lambda _: None)
SCHEMA = {
    "entity": pl.String,
    "event_time": pl.Int64,
    "known_time": pl.Int64,
    "source_rank": pl.Int32,
    "sequence": pl.Int64,
    "x": pl.Float64,
    "member": pl.Boolean,
}


@st.composite
def histories(draw):
    """States of a source, commit by commit: in order, late, revised, withdrawn, at equal times."""
    facts, states, clock, known = {}, [], 1, 0
    for _ in range(draw(st.integers(1, 4))):
        for _ in range(draw(st.integers(1, 12))):
            kind = draw(st.sampled_from(["next", "next", "next", "late", "revise", "withdraw"]))
            entity = draw(st.sampled_from("ABC"))
            if kind == "withdraw":
                if len(facts) > 1 and states:
                    del facts[draw(st.sampled_from(sorted(facts)))]
                continue
            event = clock
            if kind == "next":
                clock += draw(st.integers(0, 2))
                event = clock
            elif kind == "late":
                event = draw(st.integers(1, clock))
            elif facts:
                entity, event = draw(st.sampled_from(sorted(facts)))[:2]
            # Now and then something claims to have been known before it could be seen here.
            early = draw(st.sampled_from([0, 0, 0, 2]))
            known = max(known, clock) + draw(st.sampled_from([0, 0, 1]))
            key = (
                entity, event, max(known - early, event), draw(st.integers(0, 1)),
                draw(st.integers(0, 1)),
            )  # fmt: skip
            values = (draw(st.sampled_from([1.0, 1.25, 2.0, 7.5, None])), draw(st.booleans()))
            facts[key] = values
        if not facts:
            facts["A", clock, max(known, clock), 0, 0] = (1.0, True)
        states.append((known, dict(facts)))
    return states


def frame_of(facts):
    rows = [
        (entity, event * STEP, known * STEP + DAY, rank, sequence, *values)
        for (entity, event, known, rank, sequence), values in sorted(facts.items())
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


class Source:
    """A lake with the states of a source, and a desk over it."""

    def __init__(self, folder, states):
        self.clock = FixedClock(0)
        self.lake = Lake(folder, self.clock)
        self.table = self.lake.table("silver/source")
        for known, facts in states:
            self.clock.advance(max(0, known * STEP + 2 * DAY - self.clock.now()))
            self.table.commit(by_year(frame_of(facts)))
        self.views = {view.name: view for view in VIEWS}
        self.layout = SimpleNamespace(lake=self.lake.root, workers=1)
        self.view = self.views.__getitem__

    def fed(self, view):
        """A store that got every commit after it was made, batch by batch."""
        store = MemoryStore()
        feed = OnlineFeed(view, store, **feed_rule(view))
        for commit in arrivals_by_commit(self.table, view):
            for batch in batches_of(view, commit.rows):
                feed.take(batch)
        return store

    def gold(self, view):
        build_features(self, view.name, QUIET)
        return self.lake.table(f"gold/{view.name}").read()


def check(view, states, data, folder):
    source = Source(folder, states)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "ROWS_AT_ONCE", data.draw(st.sampled_from([1, 10, 1_000])))
        gold = source.gold(view)
    store = source.fed(view)
    moments = st.integers(0, 30 * 60).map(lambda day: day * DAY)
    asked = data.draw(st.lists(st.tuples(st.sampled_from("ABCD"), moments), min_size=30))
    asked += [(row[0], row[2]) for row in gold.select(view.key_columns).iter_rows()]
    spine = Spine.of(pl.DataFrame(asked, schema=["entity", "as_of"], orient="row"))
    table = FeatureTable("gold/g", gold, view.feature_names, "s", "m", "entity")
    found = get_training_set(spine, [table], known_at=2**62).frame
    answers = found.select(view.feature_names).iter_rows()
    for (entity, moment), row in zip(asked, answers, strict=True):
        (reading,) = read_as_of(store, view, [entity], moment)
        if reading is None:
            assert all(value is None for value in row)
        else:
            assert np.array(row, dtype=np.float64).tobytes() == reading.row.values.tobytes()
    if gold.height:  # where nothing was issued yet, nothing is proven
        assert prove_parity(source, view.name, QUIET).report.holds


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
@settings(max_examples=3)
@given(states=histories(), data=st.data())
def test_a_training_set_has_the_rows_that_were_served_at_its_decisions(
    view, states, data, tmp_path_factory
):
    check(view, states, data, tmp_path_factory.mktemp("lake"))


@pytest.mark.long
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
@settings(max_examples=100)
@given(states=histories(), data=st.data())
def test_many_training_sets_have_the_rows_that_were_served_at_their_decisions(
    view, states, data, tmp_path_factory
):
    check(view, states, data, tmp_path_factory.mktemp("lake"))


@pytest.mark.parametrize("view", VIEWS[:5], ids=lambda view: view.name)
@settings(max_examples=2)
@given(count=st.integers(1, 40), data=st.data())
def test_where_nothing_was_corrected_gold_is_made_of_the_facts_at_once(
    view, count, data, tmp_path_factory
):
    facts, states = {}, []
    for event in range(1, count):
        for entity in data.draw(st.sets(st.sampled_from("ABC"), min_size=1)):
            facts[entity, event, event, 0, 0] = (data.draw(st.sampled_from([1.0, 2.5, 4.0])), True)
        if data.draw(st.integers(0, 9)) == 0:
            states.append((event, dict(facts)))
    facts["A", count, count, 0, 0] = (3.0, True)
    source = Source(tmp_path_factory.mktemp("lake"), [*states, (count, facts)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "ROWS_AT_ONCE", data.draw(st.sampled_from([1, 20, 1_000])))
        source.gold(view)
    first = as_first_known(source.table.read()).with_columns(pl.col("source_rank").cast(pl.Int64))
    at_once = source.lake.table("gold/oracle").commit(by_year(OfflineDriver(view).run(first)))
    built = source.lake.table(f"gold/{view.name}").current()
    assert [file.sha256 for file in built.files] == [file.sha256 for file in at_once.files]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
@settings(max_examples=3)
@given(states=histories(), data=st.data())
def test_arrivals_in_stretches_give_the_versions_of_all_arrivals_at_once(
    view, states, data, tmp_path_factory
):
    source = Source(tmp_path_factory.mktemp("lake"), states)
    arrivals = all_arrivals(source.table, view)
    starts = arrivals.with_row_index().filter(
        (pl.col("batch") != pl.col("batch").shift(1)).fill_null(value=True)
    )["index"]
    cuts = [*sorted(data.draw(st.sets(st.sampled_from(starts.to_list())))), arrivals.height]
    history = AsKnown(view, **feed_rule(view))
    found = [
        history.take(arrivals[start:stop]) for start, stop in zip([0, *cuts], cuts, strict=False)
    ]
    whole = as_known_history(view, arrivals, **feed_rule(view))
    order = [view.entity, "event_time", "known_time"]
    assert pl.concat(found).sort(order).equals(whole)
