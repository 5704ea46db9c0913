"""The vectorised join gives what the plain definition of "as of" gives, row by row."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.domain.order import VersionKey, as_of
from assay.features.offline.point_in_time import (
    FeatureTable,
    Knowledge,
    TimeToLive,
    as_of_join,
)
from assay.features.offline.sessions import SessionCalendar

SCHEMA = {
    "instrument": pl.String,
    "event_time": pl.Int64,
    "known_time": pl.Int64,
    "source_rank": pl.Int32,
    "sequence": pl.Int64,
    "value": pl.Float64,
}
moments = st.integers(0, 12)
keys = st.tuples(st.sampled_from("ABC"), moments, moments, st.integers(0, 1), st.integers(0, 2))
tables = st.lists(keys, max_size=25, unique=True).flatmap(st.permutations)
spines = st.lists(st.tuples(st.sampled_from("ABCD"), st.integers(-1, 14)), max_size=25)
cut_offs = st.none() | st.integers(14, 20)


def value(key):
    """A number that names its row, so that a wrong answer cannot look right."""
    code = ord(key[0])
    for part in key[1:]:
        code = code * 31 + part
    return float(code)


def feature_table(rows, ttl=None):
    frame = pl.DataFrame([(*row, value(row)) for row in rows], schema=SCHEMA, orient="row")
    return FeatureTable("gold/x", frame, ("value",), "s", "m", ttl=ttl)


def spine_frame(spine):
    return pl.DataFrame(spine, schema={"instrument": pl.String, "as_of": pl.Int64}, orient="row")


def oracle(rows, entity, moment):
    """The winning row by the definition in the domain, or None."""
    versions = [VersionKey(*row[1:]) for row in rows if row[0] == entity]
    winner = as_of(versions, moment)
    return None if winner is None else (entity, *winner)


@settings(max_examples=300, deadline=None)
@given(tables, spines)
def test_every_row_gets_the_largest_version_visible_at_its_moment(rows, spine):
    joined = as_of_join(spine_frame(spine), feature_table(rows))
    winners = [oracle(rows, *asked) for asked in spine]
    assert joined["value"].to_list() == [None if w is None else value(w) for w in winners]
    assert joined.select("instrument", "as_of").rows() == spine
    assert not joined["stale.x"].any()


@settings(max_examples=150, deadline=None)
@given(tables, spines, st.integers(0, 8))
def test_a_stale_answer_is_no_answer(rows, spine, nanos):
    joined = as_of_join(spine_frame(spine), feature_table(rows, TimeToLive(nanos=nanos)))
    for (entity, moment), got, stale in zip(spine, joined["value"], joined["stale.x"], strict=True):
        winner = oracle(rows, entity, moment)
        expired = winner is not None and moment - winner[1] > nanos
        assert stale == expired
        assert got == (None if winner is None or expired else value(winner))


@settings(max_examples=150, deadline=None)
@given(tables, spines, st.integers(0, 3), st.lists(moments, max_size=6, unique=True))
def test_time_to_live_in_sessions_counts_those_since_the_event(rows, spine, count, sessions):
    calendar = SessionCalendar(pl.Series(sorted(sessions), dtype=pl.Int64).to_numpy())
    table = feature_table(rows, TimeToLive(sessions=count))
    joined = as_of_join(spine_frame(spine), table, calendar=calendar)
    for (entity, moment), stale in zip(spine, joined["stale.x"], strict=True):
        winner = oracle(rows, entity, moment)
        age = sum(winner[1] < s <= moment for s in sessions) if winner else 0
        assert stale == (age > count)


@settings(max_examples=150, deadline=None)
@given(tables, spines, cut_offs, st.lists(keys, max_size=5))
def test_what_is_known_after_the_cut_off_changes_nothing(rows, spine, known_at, later):
    cut = 14 if known_at is None else known_at
    future = [(*row[:2], cut + 1 + n, *row[3:]) for n, row in enumerate(later)]
    one = as_of_join(spine_frame(spine), feature_table(rows), known_at=cut)
    other = as_of_join(spine_frame(spine), feature_table([*rows, *future]), known_at=cut)
    assert one.equals(other)
    # Nor does it change what was known at any row's moment, cut-off or not.
    assert as_of_join(spine_frame(spine), feature_table([*rows, *future])).equals(one)


@settings(max_examples=200, deadline=None)
@given(tables, spines, st.integers(14, 20))
def test_corrected_history_shows_the_last_version_of_the_facts_that_were_visible(
    rows, spine, known_at
):
    joined = as_of_join(
        spine_frame(spine), feature_table(rows), knowledge=Knowledge.AS_CORRECTED, known_at=known_at
    )
    for (entity, moment), got in zip(spine, joined["value"], strict=True):
        mine = [row for row in rows if row[0] == entity and row[2] <= known_at]
        visible = {row[1] for row in mine if row[1] <= moment and row[2] <= moment}
        versions = [row for row in mine if visible and row[1] == max(visible)]
        assert got == (value(max(versions)) if versions else None)
