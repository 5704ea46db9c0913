"""One definition of which version wins: every join and every store answers as it says.

A store of your own is added by one line in ``IMPLEMENTATIONS``.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.adapters.delta import DeltaStore
from assay.domain.order import VersionKey
from assay.features import Duration, FeatureView, col
from assay.features.offline.parquet import ParquetStore
from assay.features.offline.point_in_time import FeatureTable, TimeToLive, as_of_join
from assay.features.online import MemoryStore, SqliteStore
from assay.features.online.store import ServedView, StoredRow, read_as_of
from assay.testing.clocks import FixedClock
from assay.testing.order import (
    MANIFEST,
    Fact,
    answers_of_join,
    answers_of_offline,
    answers_of_online,
    expected,
    fact_rows,
    facts,
    questions,
)

IMPLEMENTATIONS = {
    "offline join": (answers_of_join, 200),
    "memory": (answers_of_online(lambda folder: MemoryStore()), 200),
    "sqlite": (answers_of_online(lambda folder: SqliteStore(folder / "online.db")), 25),
    "parquet": (answers_of_offline(lambda folder: ParquetStore(folder, FixedClock(0))), 15),
    "delta": (answers_of_offline(lambda folder: DeltaStore(folder, FixedClock(0))), 15),
}


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_the_largest_version_that_was_visible_is_the_answer(name):
    answers, examples = IMPLEMENTATIONS[name]

    @settings(max_examples=examples, deadline=None)
    @given(facts(), questions())
    def check(known, asked):
        assert answers(known, asked) == expected(known, asked)

    check()


def test_the_largest_version_that_was_visible_is_the_answer_of_redis(redis_server):
    from assay.adapters.redis import RedisStore

    answers = answers_of_online(
        lambda folder: RedisStore(redis_server.url, namespace=f"order {folder.name}")
    )

    @settings(max_examples=25, deadline=None)
    @given(facts(), questions())
    def check(known, asked):
        assert answers(known, asked) == expected(known, asked)

    check()


@settings(max_examples=100, deadline=None)
@given(facts(), questions(), st.integers(1, 4))
def test_an_answer_goes_stale_at_the_same_nanosecond_online_and_offline(known, asked, nanos):
    ttl = TimeToLive(nanos=nanos)
    spine = pl.DataFrame(asked, schema={"instrument": pl.String, "as_of": pl.Int64}, orient="row")
    table = FeatureTable("gold/order", fact_rows(known), ("value",), "", "", ttl=ttl)
    offline = as_of_join(spine, table)
    view = FeatureView("order", "facts", "instrument", {"v": col("value")}, Duration(nanos))
    store = MemoryStore()
    store.write("order", [
        StoredRow(fact.entity, *fact.key, MANIFEST, np.array([fact.value])) for fact in known
    ])  # fmt: skip
    for (entity, moment), value, stale in zip(
        asked, offline["value"], offline["stale.order"], strict=True
    ):
        (found,) = read_as_of(store, view, [entity], moment)
        assert stale == (found is not None and found.stale)
        served = None if found is None or found.stale else float(found.row.values[0])
        assert served == value


def test_an_answer_of_centuries_ago_is_stale_online_and_offline():
    first, moment = -(2**62) - 10, 2**62 + 10  # further apart than an int64 can say
    known = [Fact("A", VersionKey(first, first, 0, 0), 1.0)]
    spine = pl.DataFrame({"instrument": ["A"], "as_of": [moment]})
    table = FeatureTable(
        "gold/order", fact_rows(known), ("value",), "", "", ttl=TimeToLive(nanos=2**62)
    )
    assert as_of_join(spine, table).row(0) == ("A", moment, None, True)
    store = MemoryStore()
    store.write("order", [StoredRow("A", first, first, 0, 0, MANIFEST, np.array([1.0]))])
    (found,) = read_as_of(store, ServedView("order", Duration(2**62)), ["A"], moment)
    assert found is not None
    assert found.stale


@pytest.mark.long
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_the_largest_version_that_was_visible_is_the_answer_for_long(name):
    answers, examples = IMPLEMENTATIONS[name]

    @settings(max_examples=20 * examples, deadline=None)
    @given(facts(), questions())
    def check(known, asked):
        assert answers(known, asked) == expected(known, asked)

    check()
