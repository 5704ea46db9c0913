"""A value depends on its window alone: not on where the run began, nor on how the rows were cut."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features import (
    FeatureView,
    OfflineDriver,
    OnlineDriver,
    Sessions,
    col,
    day_of_week,
    days_since_previous_row,
    month_end,
    where,
)

X = col("x")
CHANGE = X.simple_return(2)
HOUR = 3_600 * 10**9
VIEW = FeatureView(
    "everything",
    "source",
    "entity",
    {
        "x": X,
        "log": X.log_return(3),
        "lag": X.lag(9),
        "sum": X.rolling_sum(6),
        "mean": CHANGE.rolling_mean(11),
        "mean_gaps": CHANGE.rolling_mean(11, min_count=3),
        "std": X.rolling_std(7),
        "std_gaps": X.rolling_std(17, min_count=2),
        "std_of_std": X.rolling_std(5).rolling_std(6, min_count=2),
        "far": (X * 1e9).rolling_std(8, min_count=2),
        "z": X.zscore(10),
        "low": X.rolling_min(13),
        "high": X.rolling_max(19, min_count=4),
        "count": X.rolling_count(15),
        "ewm": X.ewm_mean(alpha=0.1, horizon=21),
        "ewm_gaps": X.ewm_mean(alpha=0.1, horizon=21, min_count=1),
        "ewm_std": X.ewm_std(span=9, horizon=13),
        "ewm_std_gaps": CHANGE.ewm_std(span=9, horizon=13, min_count=3),
        "regime": where(CHANGE.rolling_std(4) > 1.5 * CHANGE.rolling_std(16), 1, X.sign()),
        "weekday": day_of_week(),
        "month_end": month_end(),
        "days": days_since_previous_row(),
    },
    Sessions(2),
    timezone="America/New_York",
)
ACROSS = FeatureView(
    "across",
    "source",
    "entity",
    {
        **VIEW.features,
        "rank": CHANGE.cs_rank(),
        "gap": X.cs_demean() * 2,
        "score": X.rolling_std(5).cs_zscore(),
        "nested": (X - X.cs_rank()).cs_demean(),
    },
    Sessions(2),
    members="member",
    timezone="America/New_York",
)

VALUES = st.one_of(
    st.just(math.nan),
    st.floats(0.9, 1.1),
    st.floats(19_999.99, 20_000.01),
    st.floats(-3e7, 3e7),
    st.just(1.0),
)


def history(values: list[list[float]], gaps: int = 0, step: int = HOUR) -> pl.DataFrame:
    """One list of values per entity; event times have gaps that depend on the row."""
    parts = []
    for number, column in enumerate(values):
        rows = np.arange(len(column), dtype=np.int64)
        times = (rows * 5 + (rows * gaps) % 3 + 1) * step + 1_700_000_000 * 10**9
        parts.append(
            pl.DataFrame(
                {
                    "entity": pl.Series([f"e{number}"] * len(column), dtype=pl.String),
                    "event_time": times,
                    "known_time": times + (rows * 7 + number) % 11 * HOUR,
                    "source_rank": np.zeros_like(rows),
                    "sequence": rows,
                    "x": pl.Series(column, dtype=pl.Float64),
                    "member": (rows + number) % 4 != 0,
                }
            )
        )
    return pl.concat(parts)


def known(frame: pl.DataFrame) -> list[int]:
    return frame["known_time"].to_list()


def assert_equal_bits(found: pl.DataFrame, expected: pl.DataFrame, view: FeatureView) -> None:
    assert found.columns == expected.columns
    assert found.select(view.key_columns).equals(expected.select(view.key_columns))
    for name in view.feature_names:
        a, b = found[name].to_numpy().view(np.int64), expected[name].to_numpy().view(np.int64)
        rows = np.flatnonzero(a != b)
        assert rows.size == 0, (
            name,
            rows[:5],
            found[name][int(rows[0])],
            expected[name][int(rows[0])],
        )


COLUMN = st.lists(VALUES, min_size=1, max_size=70)


@settings(max_examples=25, deadline=None)
@given(column=COLUMN, gaps=st.integers(0, 5))
def test_a_value_over_all_history_equals_the_value_of_its_window_alone(
    column: list[float], gaps: int
) -> None:
    frame = history([column], gaps)
    whole = OfflineDriver(VIEW).run(frame)
    for row in {len(column) - 1, len(column) // 2, min(len(column) - 1, 40)}:
        window = frame[max(0, row - VIEW.look_back) : row + 1]
        alone = OfflineDriver(VIEW).run(window)
        assert_equal_bits(alone[-1:], whole[row : row + 1], VIEW)


@settings(max_examples=15, deadline=None)
@given(
    column=st.lists(VALUES, min_size=45, max_size=70),
    before=st.lists(st.floats(-1e15, 1e15) | VALUES, max_size=300),
)
def test_what_came_before_the_window_does_not_reach_a_bit(
    column: list[float], before: list[float]
) -> None:
    short = OfflineDriver(VIEW).run(history([column]))
    frame = history([before + column])
    values = OfflineDriver(VIEW).run(frame).drop("entity", *VIEW.key_columns, strict=False)
    for name in ("std", "std_gaps", "mean", "far", "z", "low", "ewm", "ewm_std_gaps", "std_of_std"):
        a = values[name].to_numpy()[-5:].view(np.int64)
        b = short[name].to_numpy()[-5:].view(np.int64)
        assert (a == b).all(), name


@settings(max_examples=12, deadline=None)
@given(columns=st.lists(COLUMN, min_size=1, max_size=4), gaps=st.integers(0, 5))
def test_batch_and_event_by_event_have_equal_bits(columns: list[list[float]], gaps: int) -> None:
    frame = history(columns, gaps)
    for view in (VIEW, ACROSS):
        batch = OfflineDriver(view).run(frame)
        assert_equal_bits(OnlineDriver(view).replay(frame), batch, view)


@settings(max_examples=15, deadline=None)
@given(
    columns=st.lists(COLUMN, min_size=1, max_size=4),
    chunk=st.sampled_from([1, 2, 3, 16, 31, 512]),
    workers=st.integers(1, 3),
)
def test_chunk_size_and_worker_count_change_no_bit(
    columns: list[list[float]], chunk: int, workers: int
) -> None:
    frame = history(columns)
    expected = OfflineDriver(ACROSS).run(frame)
    found = OfflineDriver(ACROSS, chunk=chunk).run(frame, workers=workers)
    assert_equal_bits(found, expected, ACROSS)


@settings(max_examples=20, deadline=None)
@given(
    columns=st.lists(COLUMN, min_size=1, max_size=4),
    gaps=st.integers(0, 5),
    cuts=st.lists(st.floats(0, 1), max_size=6),
    workers=st.integers(1, 3),
)
def test_history_in_stretches_of_time_has_the_bits_of_history_at_once(
    columns: list[list[float]], gaps: int, cuts: list[float], workers: int
) -> None:
    frame = history(columns, gaps)
    times = frame["event_time"].unique().sort().to_list()
    edges = [0, *sorted(times[int(cut * (len(times) - 1))] for cut in cuts), times[-1] + 1]
    time = pl.col("event_time")
    stretches = [frame.filter((time >= a) & (time < b)) for a, b in pairwise(edges)]
    for view in (VIEW, ACROSS):
        expected = OfflineDriver(view).run(frame)
        # Not a list: the next stretch is asked for when the rows of this one have been taken.
        found = list(OfflineDriver(view).run_stretches(iter(stretches), workers=workers))
        assert [len(part) for part in found] == [len(part) for part in stretches]
        together = pl.concat(found).sort("entity", "event_time")
        assert_equal_bits(together, expected, view)
        assert known(together) == known(expected)


@settings(max_examples=12, deadline=None)
@given(column=st.lists(VALUES, min_size=2, max_size=90), data=st.data())
def test_a_driver_warmed_up_on_the_look_back_goes_on_like_one_that_ran_for_ever(
    column: list[float], data: st.DataObject
) -> None:
    frame = history([column, column[::-1]])
    start = data.draw(st.integers(1, len(column) - 1))
    time = frame["event_time"].unique().sort()[start]
    past = frame.filter(pl.col("event_time") < time)
    recent = past.filter(
        pl.col("sequence") >= pl.col("sequence").max().over("entity") - VIEW.look_back + 1
    )
    future = frame.filter(pl.col("event_time") >= time)
    for view in (VIEW, ACROSS):
        driver = OnlineDriver(view)
        driver.warm_up(recent)
        expected = OfflineDriver(view).run(frame).filter(pl.col("event_time") >= time)
        assert_equal_bits(driver.replay(future), expected, view)


@settings(max_examples=10, deadline=None)
@given(columns=st.lists(COLUMN, min_size=1, max_size=3), data=st.data())
def test_a_checkpoint_at_any_point_changes_no_bit(
    columns: list[list[float]], data: st.DataObject
) -> None:
    frame = history(columns).sort("event_time", "entity")
    cut = data.draw(st.integers(0, frame.height))
    for view in (VIEW, ACROSS):
        kept, restored = OnlineDriver(view), OnlineDriver(view)
        for place, row in enumerate(frame.iter_rows(named=True)):
            if place == cut:
                restored = OnlineDriver.restore(view, kept.checkpoint())
            event = (row["entity"], row["event_time"], row["known_time"], row)
            expected = kept.push(*event)
            found = restored.push(*event) if place >= cut else expected
            last = place + 1 == frame.height or frame["event_time"][place + 1] > row["event_time"]
            a, b = ([expected], [found])
            if view.has_barrier:
                a = kept.close(row["event_time"]) if last else []
                b = restored.close(row["event_time"]) if last and place >= cut else a
            for one, other in zip(a, b, strict=True):
                assert one[:5] == other[:5]
                assert one.values.tobytes() == other.values.tobytes()


@settings(max_examples=15, deadline=None)
@given(columns=st.lists(COLUMN, min_size=1, max_size=4))
def test_a_micro_batch_has_the_bits_of_single_events(columns: list[list[float]]) -> None:
    frame = history(columns).sort("event_time", "entity")
    one, many = OnlineDriver(VIEW), OnlineDriver(VIEW)
    times = frame["event_time"].to_numpy()
    known_times = frame["known_time"].to_numpy()
    values = frame["x"].to_numpy().reshape(1, -1)
    for start in range(0, frame.height, 17):
        stop = min(frame.height, start + 17)
        arrived, features = many.push_many(
            frame["entity"][start:stop].to_list(),
            times[start:stop],
            known_times[start:stop],
            np.ascontiguousarray(values[:, start:stop]),
        )
        for row in range(start, stop):
            single = one.push(
                frame["entity"][row], int(times[row]), int(known_times[row]), values[:, row]
            )
            assert single is not None
            assert single.known_time == arrived[row - start]
            assert single.values.tobytes() == features[:, row - start].tobytes()


@settings(max_examples=15, deadline=None)
@given(column=COLUMN)
def test_the_known_time_is_the_latest_within_the_look_back(column: list[float]) -> None:
    frame = history([column])
    result = OfflineDriver(VIEW).run(frame)
    arrivals = frame["known_time"].to_list()
    for row, found in enumerate(known(result)):
        assert found == max(arrivals[max(0, row - VIEW.look_back) : row + 1])


@pytest.mark.parametrize("view", [VIEW, ACROSS], ids=lambda view: view.name)
def test_missing_values_have_one_bit_pattern(view: FeatureView) -> None:
    frame = history(
        [[0.0, -0.0, math.nan, 1e308, -1e308, 0.0] * 9, [math.inf, -math.inf, 1.0] * 18]
    )
    found = OfflineDriver(view).run(frame).select(view.feature_names).to_numpy()
    patterns = set(found.view(np.int64)[np.isnan(found)].tolist())
    assert patterns == {0x7FF8000000000000}
    assert np.isfinite(found[~np.isnan(found)]).all()


def test_running_sums_may_wrap_around_without_a_trace() -> None:
    # 2**24 in units of 2**-20 is 2**44: after 2**19 rows the top limb has passed 2**63.
    rows = 2**19 + 3_000
    column = np.full(rows, 2.0**24 - 1.0)
    column[-40:] = np.linspace(0.5, 0.75, 40)
    view = FeatureView(
        "v", "s", "entity", {"mean": X.rolling_mean(30), "std": X.rolling_std(30)}, Sessions(1)
    )
    frame = history([column.tolist()], step=10**9)
    long, short = OfflineDriver(view).run(frame)[-1:], OfflineDriver(view).run(frame[-40:])[-1:]
    assert long["mean"][0] == short["mean"][0]
    assert long["std"][0] == short["std"][0]
    assert abs(long["std"][0] - np.std(column[-30:], ddof=1)) < 1e-12


@pytest.mark.long
@settings(max_examples=400, deadline=None)
@given(columns=st.lists(st.lists(VALUES, min_size=1, max_size=300), min_size=1, max_size=6))
def test_batch_and_event_by_event_have_equal_bits_over_many_histories(
    columns: list[list[float]],
) -> None:
    frame = history(columns)
    batch = OfflineDriver(ACROSS, chunk=13).run(frame, workers=2)
    assert_equal_bits(OnlineDriver(ACROSS).replay(frame), batch, ACROSS)
