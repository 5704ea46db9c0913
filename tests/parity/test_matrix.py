"""Every operator over every kind of window, under everything that can happen to rows: equal bits.

The view below holds every operator of the table over every kind of window that it takes; a test
keeps it whole. Each condition is one way in which rows can come, against the offline driver over
the same facts. Nothing is excepted: an operator that could not keep its bits under one of these
would have to be named here, with the reason.
"""

from __future__ import annotations

import inspect
import math
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.domain.instants import parse
from assay.features import (
    FX_SESSIONS,
    OPERATORS,
    Duration,
    Expression,
    FeatureView,
    OfflineDriver,
    OnlineDriver,
    Sessions,
    SessionWindow,
    StepFunction,
    TimeWindow,
    col,
    day_of_week,
    half_day,
    in_session,
    lit,
    sessions_of_rule,
    since_open,
    until_close,
    where,
)
from assay.features.offline.arrivals import as_known_history
from assay.features.online import MemoryStore, OnlineFeed, batches_of

X, Y = col("x"), col("y")
HOUR = 3_600 * 10**9
START = parse("2024-10-25T06:00Z")  # clocks change in London two days later, in New York nine
WINDOWS = {
    "rows": 6,
    "time": TimeWindow.of(hours=7, max_rows=9),
    "session": SessionWindow("fx_london", 1, max_rows=9),
}
RANGE = StepFunction(
    "def spread(a, b):\n"
    "    most = a[0] - b[0]\n"
    "    for i in range(len(a)):\n"
    "        most = max(most, a[i] - b[i])\n"
    "    return most\n"
)
WINDOWED: dict[str, Any] = {
    "rolling_sum": X.rolling_sum,
    "rolling_mean": lambda w: X.rolling_mean(w, min_count=1),
    "rolling_var": lambda w: X.rolling_var(w, min_count=2),
    "rolling_std": lambda w: (X * 1e9).rolling_std(w, min_count=2),
    "rolling_count": X.rolling_count,
    "rolling_min": lambda w: X.rolling_min(w, min_count=1),
    "rolling_max": X.rolling_max,
    "rolling_median": lambda w: X.rolling_median(w, min_count=1),
    "rolling_quantile": lambda w: X.rolling_quantile(w, 0.3, min_count=2),
    "rolling_rank": lambda w: X.rolling_rank(w, percent=True, min_count=1),
    "rolling_skew": lambda w: X.rolling_skew(w, min_count=3),
    "rolling_kurt": lambda w: X.rolling_kurt(w, min_count=4),
    "rolling_slope": lambda w: X.rolling_slope(w, min_count=2),
    "rolling_cov": lambda w: X.rolling_cov(Y, w, min_count=2),
    "rolling_corr": lambda w: X.rolling_corr(Y, w, min_count=2),
    "rolling_beta": lambda w: X.rolling_beta(Y, w),
    "zscore": lambda w: X.zscore(w, min_count=2),
    "step_function": lambda w: RANGE(X, Y, window=w, min_count=1),
}
PLAIN = {
    "arithmetic": (X + Y) * (X - 2.0) / (Y + 0.5) + (-X).abs() * Y.sign() + X.sqrt() + lit(1.5),
    "functions": X.log() + (Y * 0.01).exp() + (X.abs() + 1.0) ** 1.5 + X.clip(-1.0, 2.0),
    "logic": where((X < Y) | ~(X <= 1.0) & X.eq(1.0), X.is_valid(), Y.fill_missing(-1.0)),
    "earlier": X.lag(2) + X.diff(1) + X.simple_return(1) + X.log_return(3),
    "recent": X.last_valid(4) + (X > Y).rows_since(6) + (X > Y).time_since(6),
    "ewm": X.ewm_mean(span=4, horizon=9, min_count=1) + X.ewm_std(alpha=0.3, horizon=9),
    "decayed": X.ewm_mean(halflife=Duration.of(hours=2), horizon=TimeWindow(20 * HOUR, 30)),
    "decayed_std": X.ewm_std(
        halflife=Duration.of(hours=2), horizon=TimeWindow(20 * HOUR, 30), min_count=2
    ),
    "calendar": day_of_week() + in_session("fx_asian") + half_day("fx_new_york"),
    "clock": since_open("fx_london") - until_close("fx_london"),
}
RECENT = Duration.of(hours=8)
NAMED = {
    "other": X.diff(1) - Y.of("B", within=RECENT),
    "basket": X - X.of_basket({"A": 0.5, "C": 2.0}, within=RECENT, min_count=1, own=False),
}
ACROSS = NAMED | {
    "rank": X.cs_rank(),
    "demean": X.cs_demean() * Y,
    "score": X.rolling_mean(3).cs_zscore(),
}
OWN = PLAIN | {
    f"{name}_{kind}": make(window)
    for name, make in WINDOWED.items()
    for kind, window in WINDOWS.items()
}
TABLES = tuple(
    sessions_of_rule(name, rule, date(2024, 10, 1), date(2025, 12, 31))
    for name, rule in FX_SESSIONS.items()
)


def view(features: dict[str, Expression]) -> FeatureView:
    return FeatureView(
        "matrix", "source", "entity", features, Sessions(1), None, "Europe/London", TABLES
    )


ALONE, TOGETHER = view(OWN), view({**OWN, **ACROSS})
BESIDE = view({"mean": X.rolling_mean(4, min_count=1), **NAMED})


def test_every_operator_over_every_kind_of_window_stands_in_the_matrix() -> None:
    def names(expression: Expression) -> set[str]:
        return {expression.operator}.union(*map(names, expression.inputs))

    assert set().union(*map(names, TOGETHER.features.values())) == set(OPERATORS)
    takes_a_window = {
        name
        for name in OPERATORS
        if "window" in inspect.signature(getattr(Expression, name, lambda: 0)).parameters
    }
    assert takes_a_window | {"step_function"} == set(WINDOWED)


VALUE = st.one_of(
    st.just(math.nan),
    st.integers(-2, 3).map(float),
    st.floats(-50, 50).map(lambda value: round(value, 3)),
    st.just(3e7),
)


@st.composite
def histories(draw: Any, most: int = 25, entities: str = "ABC") -> pl.DataFrame:
    """Rows of some entities: gaps, runs of missing values, equal times across entities."""
    rows = []
    for entity in entities[: draw(st.integers(1, len(entities)))]:
        time = START
        for _ in range(draw(st.integers(1, most))):
            time += draw(st.sampled_from([1, HOUR // 7, HOUR, HOUR, 5 * HOUR, 40 * HOUR]))
            rows.append((entity, time, draw(VALUE), draw(VALUE)))
    count = len(rows)
    return pl.DataFrame(
        {
            "entity": [row[0] for row in rows],
            "event_time": [row[1] for row in rows],
            "known_time": [row[1] + 5 for row in rows],
            "source_rank": np.zeros(count, dtype=np.int64),
            "sequence": np.arange(count),
            "x": [row[2] for row in rows],
            "y": [row[3] for row in rows],
        },
        schema_overrides={"x": pl.Float64, "y": pl.Float64},
    )


def bits(frame: pl.DataFrame, of: FeatureView) -> dict[Any, bytes]:
    """Every row's known time and values, by its key."""
    values = frame.select(of.feature_names).to_numpy()
    keys = frame.select("entity", "event_time", "known_time").iter_rows()
    return {key: row.tobytes() for key, row in zip(keys, values, strict=True)}


def assert_equal(found: pl.DataFrame, expected: pl.DataFrame, of: FeatureView) -> None:
    if bits(found, of) == bits(expected, of):
        return
    both = found.join(expected, on=["entity", "event_time"], suffix="_expected")
    assert both.height == expected.height, "rows are missing"
    for name in of.feature_names:
        a, b = (both[column].to_numpy().view(np.int64) for column in (name, f"{name}_expected"))
        assert (a == b).all(), (name, both.filter(pl.Series(a != b)).row(0, named=True))
    raise AssertionError("known times differ")


def events(frame: pl.DataFrame) -> pl.DataFrame:
    """As a process sees them: by event time, entities mixed."""
    return frame.sort("event_time", "entity")


def one_by_one(of: FeatureView, frame: pl.DataFrame, _: Any) -> pl.DataFrame:
    return OnlineDriver(of).replay(frame)


def in_other_chunks(of: FeatureView, frame: pl.DataFrame, data: Any) -> pl.DataFrame:
    return OfflineDriver(of, chunk=data.draw(st.integers(1, 9))).run(frame)


def in_two_threads(of: FeatureView, frame: pl.DataFrame, _: Any) -> pl.DataFrame:
    return OfflineDriver(of).run(frame, workers=2)


def entity_by_entity(of: FeatureView, frame: pl.DataFrame, _: Any) -> pl.DataFrame:
    parts = frame.partition_by("entity", maintain_order=True)
    return pl.concat([OfflineDriver(of).run(part) for part in parts])


def in_micro_batches(of: FeatureView, frame: pl.DataFrame, data: Any) -> pl.DataFrame:
    rows, driver, made = events(frame), OnlineDriver(of), []
    start = 0
    while start < rows.height:
        batch = rows[start : start + data.draw(st.integers(1, 20))]
        start += batch.height
        known, values = driver.push_many(
            batch["entity"].to_list(),
            batch["event_time"].to_numpy(),
            batch["known_time"].to_numpy(),
            np.ascontiguousarray(batch.select(of.columns).to_numpy().T),
        )
        columns = dict(zip(of.feature_names, values, strict=True))
        made.append(batch.select(of.key_columns).with_columns(known_time=known, **columns))
    return pl.concat(made)


def after_warming_up(of: FeatureView, frame: pl.DataFrame, data: Any) -> pl.DataFrame:
    moment = data.draw(st.sampled_from(frame["event_time"].to_list()))
    past, rest = (frame.filter(pl.col("event_time") <= moment), frame)
    rest = rest.filter(pl.col("event_time") > moment)
    driver = OnlineDriver(of)
    driver.warm_up(past.group_by("entity", maintain_order=True).tail(max(1, of.remembered)))
    before = OfflineDriver(of).run(past)
    return before if rest.is_empty() else pl.concat([before, driver.replay(rest)])


def from_a_checkpoint(of: FeatureView, frame: pl.DataFrame, data: Any) -> pl.DataFrame:
    moment = data.draw(st.sampled_from(frame["event_time"].to_list()))
    past = frame.filter(pl.col("event_time") <= moment)
    rest = frame.filter(pl.col("event_time") > moment)
    driver = OnlineDriver(of)
    made = [driver.replay(past)]
    again = OnlineDriver.restore(of, driver.checkpoint())
    return pl.concat([*made, again.replay(rest)]) if rest.height else made[0]


CONDITIONS = {
    "one by one": one_by_one,
    "in other chunks": in_other_chunks,
    "in two threads": in_two_threads,
    "after warming up": after_warming_up,
    "from a checkpoint": from_a_checkpoint,
}
ALONE_ONLY = {"entity by entity": entity_by_entity, "in micro-batches": in_micro_batches}


@pytest.mark.parametrize("condition", [*CONDITIONS, *ALONE_ONLY])
@settings(max_examples=12, deadline=None)
@given(frame=histories(), data=st.data())
def test_bits_do_not_depend_on_how_rows_come(condition: str, frame: Any, data: Any) -> None:
    expected = OfflineDriver(ALONE).run(frame)
    come = (CONDITIONS | ALONE_ONLY)[condition]
    assert_equal(come(ALONE, frame, data), expected, ALONE)


@pytest.mark.long
@pytest.mark.parametrize("condition", [*CONDITIONS, *ALONE_ONLY])
@settings(max_examples=60, deadline=None)
@given(frame=histories(most=120), data=st.data())
def test_bits_of_long_histories_do_not_depend_on_how_rows_come(
    condition: str, frame: Any, data: Any
) -> None:
    expected = OfflineDriver(ALONE).run(frame)
    assert_equal((CONDITIONS | ALONE_ONLY)[condition](ALONE, frame, data), expected, ALONE)


@pytest.mark.parametrize("of", [TOGETHER, BESIDE], ids=["all", "named"])
@pytest.mark.parametrize("condition", CONDITIONS)
@settings(max_examples=8, deadline=None)
@given(frame=histories(), data=st.data())
def test_bits_across_entities_do_not_depend_on_how_rows_come(
    of: FeatureView, condition: str, frame: Any, data: Any
) -> None:
    expected = OfflineDriver(of).run(frame)
    assert_equal(CONDITIONS[condition](of, frame, data), expected, of)


@st.composite
def arrivals(draw: Any) -> pl.DataFrame:
    """Facts that come late, twice, revised, out of order, several at one moment."""
    frame = draw(histories(most=10))
    rows = frame.rows(named=True)
    come = []
    for row in rows:
        late = draw(st.sampled_from([0, 0, 0, HOUR, 12 * HOUR]))
        come.append({**row, "known_time": row["known_time"] + late})
        kind = draw(st.sampled_from(["once", "once", "once", "twice", "revised"]))
        if kind == "twice":
            come.append(dict(come[-1]))
        elif kind == "revised":
            later = come[-1]["known_time"] + draw(st.sampled_from([1, HOUR, 30 * HOUR]))
            come.append({**row, "known_time": later, "x": draw(VALUE)})
    schema = frame.schema
    return pl.DataFrame(come, schema=schema).sort("known_time", "event_time", "entity")


@pytest.mark.parametrize("of", [ALONE, TOGETHER, BESIDE], ids=["alone", "across", "named"])
@settings(max_examples=12, deadline=None)
@given(table=arrivals(), margin=st.sampled_from([1, 4, 50]))
def test_late_revised_and_doubled_facts_give_the_versions_of_history(
    of: FeatureView, table: pl.DataFrame, margin: int
) -> None:
    store = MemoryStore()
    feed = OnlineFeed(of, store, margin=margin, close_with_batch=True)
    rows = [row for batch in batches_of(of, table) for row in feed.take(batch)]
    expected = as_known_history(of, table, margin=margin, close_with_batch=True)
    found = {(row.entity, row.event_time, row.known_time): row.values.tobytes() for row in rows}
    assert found == bits(expected, of)
