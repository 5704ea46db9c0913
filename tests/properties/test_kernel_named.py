"""Another entity's latest value, and baskets, against plain Python that reads whole histories."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import DefinitionError
from assay.features import Duration, FeatureView, OfflineDriver, OnlineDriver, Sessions, col, lit

X = col("x")
WITHIN = Duration(5)
TIMES = ("event_time", "known_time")
WEIGHTS = {"A": 1.0, "B": 0.5, "C": 0.25}


def view(**features: Any) -> FeatureView:
    return FeatureView("named", "source", "entity", features, Sessions(1))


def frame(rows: list[tuple[str, int, int, float]]) -> pl.DataFrame:
    """Entity, event time, known time, x."""
    rows = sorted(rows)
    return pl.DataFrame(
        {
            "entity": [row[0] for row in rows],
            "event_time": [row[1] for row in rows],
            "known_time": [row[2] for row in rows],
            "source_rank": np.zeros(len(rows), dtype=np.int64),
            "sequence": np.zeros(len(rows), dtype=np.int64),
            "x": [row[3] for row in rows],
        },
        schema_overrides={"entity": pl.String, "x": pl.Float64, **dict.fromkeys(TIMES, pl.Int64)},
    )


@st.composite
def histories(draw: Any) -> list[tuple[str, int, int, float]]:
    keys = draw(
        st.lists(st.tuples(st.sampled_from("ABCD"), st.integers(-9, 40)), min_size=1, unique=True)
    )
    value = st.one_of(st.just(math.nan), st.integers(-4, 4).map(float))
    return [(name, time, draw(st.integers(-9, 99)), draw(value)) for name, time in keys]


def latest(rows: list[Any], name: str, time: int) -> tuple[int, int, float] | None:
    """Event time, known time and value of an entity's last row up to a time."""
    own = [(event, known, x) for entity, event, known, x in rows if entity == name]
    return max((row for row in own if row[0] <= time), default=None, key=lambda row: row[0])


def of(rows: list[Any], name: str, entity: str, time: int, *, own: bool = True) -> float:
    found = latest(rows, name, time)
    if found is None or time - found[0] > WITHIN.nanos or (entity == name and not own):
        return math.nan
    return found[2]


def basket(rows: list[Any], entity: str, time: int, *, least: int, own: bool) -> float:
    values = {name: of(rows, name, entity, time, own=own) for name in WEIGHTS}
    there = [name for name in WEIGHTS if not math.isnan(values[name])]
    counted = len(WEIGHTS) - (entity in WEIGHTS and not own)
    if len(there) < min(least, counted):
        return math.nan
    # Weights and values are sums of few powers of two: every order of adding gives the same.
    return sum(WEIGHTS[name] * values[name] for name in there) / sum(map(WEIGHTS.get, there))  # type: ignore[arg-type]


NAMED = view(
    own=X,
    b=X.of("B", within=WITHIN),
    before=X.diff(1).of("B", within=WITHIN),
    others=X.of("A", within=WITHIN, own=False),
    nobody=X.of("Z", within=WITHIN),
    all=X.of_basket(WEIGHTS, within=WITHIN),
    some=X.of_basket(WEIGHTS, within=WITHIN, min_count=2),
    without=X.of_basket(WEIGHTS, within=WITHIN, own=False),
    without_some=X.of_basket(WEIGHTS, within=WITHIN, min_count=2, own=False),
)


@settings(max_examples=150, deadline=None)
@given(rows=histories())
def test_a_named_entity_is_read_as_of_the_event_time(rows: list[Any]) -> None:
    found = OfflineDriver(NAMED).run(frame(rows)).rows(named=True)
    assert len(found) == len(rows)
    for row in found:
        entity, time = row["entity"], row["event_time"]
        expected = {
            "b": of(rows, "B", entity, time),
            "others": of(rows, "A", entity, time, own=False),
            "nobody": math.nan,
            "all": basket(rows, entity, time, least=3, own=True),
            "some": basket(rows, entity, time, least=2, own=True),
            "without": basket(rows, entity, time, least=3, own=False),
            "without_some": basket(rows, entity, time, least=2, own=False),
        }
        before = latest(rows, "B", time)
        if before is not None and time - before[0] <= WITHIN.nanos:
            earlier = latest(rows, "B", before[0] - 1)
            expected["before"] = before[2] - (earlier[2] if earlier else math.nan)
        for name, value in expected.items():
            assert row[name] == value or (math.isnan(row[name]) and math.isnan(value)), name


@settings(max_examples=100, deadline=None)
@given(rows=histories())
def test_a_row_is_known_when_all_that_it_read_is(rows: list[Any]) -> None:
    plain = view(b=X.of("B", within=WITHIN), c=X.of("C", within=WITHIN))
    for row in OfflineDriver(plain).run(frame(rows)).rows(named=True):
        entity, time = row["entity"], row["event_time"]
        read = [latest(rows, name, time) for name in (entity, "B", "C")]
        assert row["known_time"] == max(found[1] for found in read if found is not None)


@settings(max_examples=60, deadline=None)
@given(rows=histories(), data=st.data())
def test_one_by_one_and_from_a_checkpoint_the_same_is_read(rows: list[Any], data: Any) -> None:
    expected = OfflineDriver(NAMED).run(frame(rows))
    cut = data.draw(st.sampled_from(sorted({row[1] for row in rows})))
    driver = OnlineDriver(NAMED)
    past = driver.replay(frame([row for row in rows if row[1] < cut]))
    again = OnlineDriver.restore(NAMED, driver.checkpoint())
    found = pl.concat([past, again.replay(frame([row for row in rows if row[1] >= cut]))])
    assert found.sort("entity", "event_time").equals(expected, null_equal=True)


def test_how_old_the_other_row_may_be_includes_the_limit() -> None:
    rows = [("A", 10, 0, 7.0), ("B", 15, 0, 1.0), ("B", 16, 0, 1.0)]
    values = OfflineDriver(view(a=X.of("A", within=WITHIN))).run(frame(rows))["a"].to_list()
    assert values[:2] == [7.0, 7.0]
    assert math.isnan(values[2])


def test_a_constant_of_an_entity_says_whether_it_has_a_recent_row() -> None:
    rows = [("A", 10, 0, math.nan), ("B", 9, 0, 1.0), ("B", 15, 0, 1.0), ("B", 16, 0, 1.0)]
    seen = lit(1.0).of("A", within=WITHIN).is_valid()
    found = OfflineDriver(view(seen=seen)).run(frame(rows))
    assert found.sort("event_time")["seen"].to_list() == [0.0, 1.0, 1.0, 0.0]


def test_rows_that_are_there_for_being_named_are_in_no_cross_section() -> None:
    rows = [("A", 1, 0, 100.0), ("B", 2, 0, 1.0), ("C", 2, 0, 3.0)]
    of_both = view(a=X.of("A", within=WITHIN), gap=X.cs_demean())
    found = OfflineDriver(of_both).run(frame(rows))
    assert found["a"].to_list() == [100.0] * 3
    assert found["gap"].to_list() == [0.0, -1.0, 1.0]


def test_what_names_no_entity_keeps_its_manifest() -> None:
    assert "named" not in view(rank=X.cs_rank()).plan.to_json()
    assert view(b=X.of("B", within=WITHIN)).plan.to_json()["named"] == ["B"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: X.of("", within=WITHIN), "name of an entity"),
        (lambda: X.of("A", within=5), "how old the other row may be"),
        (lambda: X.of("A", within=Duration(2**62)), "at most"),
        (lambda: view(a=X.of("A", within=WITHIN).rolling_mean(3)), "over a cross-section"),
        (lambda: view(a=X.cs_rank().of("A", within=WITHIN)), "of over a cross-section"),
        (lambda: X.of("A", within=WITHIN, own="no"), "own 'no', expected True or False"),  # type: ignore[arg-type]
        (lambda: X.of_basket({}, within=WITHIN), "at least one, by entity"),
        (lambda: X.of_basket(["A"], within=WITHIN), "at least one, by entity"),  # type: ignore[arg-type]
        (lambda: X.of_basket({"A": 1.0, 1: 1.0}, within=WITHIN), "1, expected the name"),  # type: ignore[dict-item]
        (lambda: X.of_basket({"A": 0.0}, within=WITHIN), "above 0"),
        (lambda: X.of_basket({"A": math.nan}, within=WITHIN), "not finite"),
        (lambda: X.of_basket(WEIGHTS, within=WITHIN, min_count=4), "expected 1 to 3"),
        (lambda: X.of_basket(WEIGHTS, within=WITHIN, min_count=0), "expected 1 to 3"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        make()


@settings(max_examples=40, deadline=None)
@given(rows=histories(), cuts=st.lists(st.integers(-9, 41), max_size=5))
def test_history_in_stretches_of_time_knows_the_latest_rows_of_the_stretches_before(
    rows: list[tuple[str, int, int, float]], cuts: list[int]
) -> None:
    of_all = view(
        other=X.of("B", within=WITHIN),
        lagged=X.lag(1).of("A", within=Duration(30)),
        mean=X.rolling_mean(3, min_count=1) - X.of_basket(WEIGHTS, within=WITHIN, min_count=1),
    )
    history = frame(rows)
    edges = [-(10**6), *sorted(cuts), 10**6]
    time = pl.col("event_time")
    stretches = [history.filter((time >= a) & (time < b)) for a, b in pairwise(edges)]
    found = pl.concat(OfflineDriver(of_all).run_stretches(stretches)).sort("entity", "event_time")
    expected = OfflineDriver(of_all).run(history)
    assert found.select(of_all.key_columns).equals(expected.select(of_all.key_columns))
    for name in of_all.feature_names:
        a, b = (one[name].to_numpy().view(np.int64) for one in (found, expected))
        assert (a == b).all(), name
