"""What the drivers accept, refuse and remember."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from assay.errors import Conflict, ContractViolation, IncompatibleVersion, OutOfOrder, Tampered
from assay.features import (
    FeatureView,
    OfflineDriver,
    OnlineDriver,
    Sessions,
    col,
    day_number,
    day_of_week,
    month_end,
    month_start,
    quarter_end,
)
from assay.features.kernel.calendar import CalendarInputs

MID = col("mid")
DAY = 86_400 * 10**9
VIEW = FeatureView(
    "fx",
    "market",
    "instrument",
    {"ret_1": MID.simple_return(1), "mean_3": MID.rolling_mean(3)},
    Sessions(3),
)
ACROSS = FeatureView(
    "across", "market", "instrument", {"rank": MID.cs_rank()}, Sessions(3), members="member"
)


def market(entities: int = 2, rows: int = 4) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "instrument": f"E{entity}",
                "event_time": row * DAY,
                "known_time": row * DAY + 5,
                "source_rank": 1,
                "sequence": row,
                "mid": 1.0 + entity + row / 8,
                "member": entity != 1,
            }
            for entity in range(entities)
            for row in range(rows)
        ]
    )


def test_rows_out_are_rows_in_with_the_keys_and_then_the_features() -> None:
    found = OfflineDriver(VIEW).run(market())
    assert found.columns == [
        "instrument",
        "event_time",
        "known_time",
        "source_rank",
        "sequence",
        "ret_1",
        "mean_3",
    ]
    assert found.select("instrument", "event_time", "source_rank", "sequence").equals(
        market().select("instrument", "event_time", "source_rank", "sequence")
    )
    assert found.null_count().sum_horizontal().item() == 0
    assert math.isnan(found["ret_1"][4])  # the second entity starts afresh
    assert found["mean_3"][2] == 1.125


@pytest.mark.parametrize("view", [VIEW, ACROSS])
def test_no_rows_give_no_rows(view: FeatureView) -> None:
    for found in (OfflineDriver(view).run(market()[:0]), OnlineDriver(view).replay(market()[:0])):
        assert found.height == 0
        assert found.columns[5:] == list(view.feature_names)
        assert found.schema[view.feature_names[0]] == pl.Float64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop("mid"), "no column 'mid'"),
        (lambda f: f.drop("known_time"), "no column 'known_time'"),
        (lambda f: f.with_columns(pl.col("mid").cast(pl.String)), "column mid is String"),
        (lambda f: f.with_columns(pl.col("event_time").cast(pl.Float64)), "event_time is Float64"),
        (lambda f: f.with_columns(known_time=None).cast({"known_time": pl.Int64}), "null in row 0"),
        (lambda f: f.reverse(), "row 1 .*follows row 0"),
        (lambda f: pl.concat([f[:2], f[1:]]), "row 2 .*the same key as"),
        (lambda f: f.sort("event_time", "instrument"), "row 2 "),
    ],
)
def test_a_frame_that_breaks_the_contract_is_refused_with_the_row(
    change: object, words: str
) -> None:
    for driver in (OfflineDriver(VIEW).run, OnlineDriver(VIEW).replay, OnlineDriver(VIEW).warm_up):
        with pytest.raises(ContractViolation, match=words):
            driver(change(market()))


def test_nulls_and_booleans_become_numbers() -> None:
    view = FeatureView("v", "s", "instrument", {"m": col("member"), "x": MID}, Sessions(1))
    frame = market().with_columns(
        mid=pl.when(pl.col("sequence") == 2).then(None).otherwise(pl.col("mid"))
    )
    found = OfflineDriver(view).run(frame)
    assert found["m"].to_list() == [1.0] * 4 + [0.0] * 4
    assert math.isnan(found["x"][2])


def test_an_event_gives_its_row_by_name_or_by_array() -> None:
    driver, other = OnlineDriver(VIEW), OnlineDriver(VIEW)
    driver.push("E0", 1, 9, {"mid": 2.0, "unused": 1})
    other.push("E0", 1, 9, np.array([2.0]))
    row = driver.push("E0", 5, 6, {"mid": 3.0}, source_rank=4, sequence=7)
    assert row is not None
    assert row[:5] == ("E0", 5, 9, 4, 7)
    assert row.values[0] == 0.5
    same = other.push("E0", 5, 6, np.array([3.0]))
    assert same is not None
    assert same.values.tobytes() == row.values.tobytes()
    with pytest.raises(ContractViolation, match="no column 'mid'"):
        driver.push("E0", 6, 6, {"mud": 3.0})
    with pytest.raises(ContractViolation, match="shape"):
        driver.push("E9", 6, 6, np.array([3.0, 4.0]))
    assert driver.entities == ("E0",)
    missing = driver.push("E0", 7, 7, {"mid": None})
    assert missing is not None
    assert math.isnan(missing.values[0])


@pytest.mark.parametrize("late", [5, 4])
def test_an_event_that_is_not_later_than_the_last_is_refused_and_changes_nothing(late: int) -> None:
    driver, clean = OnlineDriver(VIEW), OnlineDriver(VIEW)
    for one in (driver, clean):
        one.push("E0", 5, 5, {"mid": 2.0})
    with pytest.raises(OutOfOrder, match="E0 at 1970-01-01T00:00:00"):
        driver.push("E0", late, 6, {"mid": 9.0})
    with pytest.raises(OutOfOrder):
        driver.push_many(
            ["E0", "E1", "E1"], np.array([6, 6, 6]), np.array([6, 6, 6]), np.ones((1, 3))
        )
    assert driver.entities == ("E0",)
    a, b = (one.push("E0", 7, 7, {"mid": 3.0}) for one in (driver, clean))
    assert a is not None
    assert b is not None
    assert a.values.tobytes() == b.values.tobytes()


def test_rows_wait_behind_the_barrier_until_their_event_time_is_closed() -> None:
    driver = OnlineDriver(ACROSS)
    for entity, mid, member in (("C", 3.0, True), ("A", 1.0, True), ("B", 2.0, False)):
        assert driver.push(entity, 10, 11, {"mid": mid, "member": member}) is None
    driver.push("A", 20, 21, {"mid": 1.0, "member": True})
    with pytest.raises(Conflict, match="still open"):
        driver.close(20)
    rows = driver.close(10)
    assert [row.entity for row in rows] == ["A", "B", "C"]
    assert [row.values[0] for row in rows][::2] == [0.5, 1.0]
    assert math.isnan(rows[1].values[0])
    with pytest.raises(OutOfOrder, match="closed"):
        driver.push("D", 10, 30, {"mid": 1.0, "member": True})
    with pytest.raises(OutOfOrder, match="cannot be closed"):
        driver.close(10)
    assert driver.close(15) == []
    assert len(driver.close(20)) == 1
    with pytest.raises(Conflict, match="no barrier"):
        OnlineDriver(VIEW).close(1)
    with pytest.raises(Conflict, match="barrier"):
        driver.push_many(["A"], np.array([50]), np.array([50]), np.ones((2, 1)))


def test_a_checkpoint_keeps_rows_that_wait_behind_the_barrier() -> None:
    driver = OnlineDriver(ACROSS)
    driver.push("B", 10, 12, {"mid": 3.0, "member": True}, source_rank=2, sequence=3)
    restored = OnlineDriver.restore(ACROSS, driver.checkpoint())
    for one in (driver, restored):
        one.push("A", 10, 11, {"mid": 1.0, "member": True})
    assert [row[:5] for row in restored.close(10)] == [row[:5] for row in driver.close(10)]
    assert restored.checkpoint() == driver.checkpoint()


def test_a_checkpoint_of_another_manifest_or_with_another_byte_is_refused() -> None:
    driver = OnlineDriver(VIEW)
    driver.push("E0", 5, 5, {"mid": 2.0})
    data = driver.checkpoint()
    with pytest.raises(IncompatibleVersion, match="manifest"):
        OnlineDriver.restore(ACROSS, data)
    for place in (0, 9, 40, len(data) // 2, len(data) - 1):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(Tampered):
            OnlineDriver.restore(VIEW, bytes(damaged))
    with pytest.raises(Tampered):
        OnlineDriver.restore(VIEW, data[:-1])
    with pytest.raises(Tampered):
        OnlineDriver.restore(VIEW, b"")


def test_drivers_need_at_least_one_row_and_one_worker() -> None:
    with pytest.raises(ContractViolation, match="chunk 0"):
        OfflineDriver(VIEW, chunk=0)
    with pytest.raises(ContractViolation, match="workers 0"):
        OfflineDriver(VIEW).run(market(), workers=0)


def test_stretches_of_history_follow_each_other_in_time() -> None:
    frame = market(rows=9)
    times = frame["event_time"].unique().sort()
    early = frame.filter(pl.col("event_time") <= times[3])
    late = frame.filter(pl.col("event_time") > times[3])
    driver = OfflineDriver(VIEW)
    whole = driver.run(frame)
    parts = driver.run_stretches([early.clear(), early, early.clear(), late, late.clear()])
    assert pl.concat(parts).sort("instrument", "event_time").equals(whole)
    with pytest.raises(OutOfOrder, match="a stretch of history begins at"):
        list(driver.run_stretches([late, early]))
    with pytest.raises(OutOfOrder, match="cut history by event time"):
        list(driver.run_stretches(frame.partition_by("instrument", maintain_order=True)))
    with pytest.raises(ContractViolation, match="follows row"):
        list(driver.run_stretches([early, late.reverse()]))
    with pytest.raises(ContractViolation, match="no column"):
        list(driver.run_stretches([early.drop("event_time")]))


@pytest.mark.parametrize("feature", [MID, MID.cs_rank()], ids=["own", "across"])
def test_a_view_that_looks_back_at_nothing_is_computed_in_stretches_as_well(feature) -> None:
    view = FeatureView("now", "market", "instrument", {"now": feature}, Sessions(3))
    frame = market(rows=9)
    early = pl.col("event_time") < 4 * DAY
    parts = OfflineDriver(view).run_stretches([frame.filter(early), frame.filter(~early)])
    found = pl.concat(parts).sort("instrument", "event_time")
    assert found.equals(OfflineDriver(view).run(frame))


KINDS = ("month_start", "month_end", "quarter_end", "day_of_week", "day_number")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Africa/Monrovia"])
def test_calendar_inputs_follow_the_local_date(zone: str) -> None:
    # Both changes of the clock, a leap day, a year's end, and Liberia's odd offset before 1972.
    starts = ["1971-12-30", "2024-02-27", "2024-03-08", "2024-03-29", "2024-10-25", "2024-12-29"]
    times = [
        int(datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp()) * 10**9
        + step * 701 * 10**9
        for start in starts
        for step in range(700)
    ]
    found = CalendarInputs(KINDS, zone).at(np.array(times))
    for column, time in enumerate(times):
        date = (
            (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time // 10**9))
            .astimezone(ZoneInfo(zone))
            .date()
        )
        month = [
            day
            for day in (date.replace(day=1) + timedelta(days=n) for n in range(31))
            if day.month == date.month and day.weekday() < 5
        ]
        expected = (
            float(date == month[0]),
            float(date == month[-1]),
            float(date == month[-1] and date.month in {3, 6, 9, 12}),
            float(date.weekday()),
            float((date - datetime(1970, 1, 1).date()).days),
        )
        assert tuple(found[:, column]) == expected, (time, date)
        alone, start, stop = CalendarInputs(KINDS, zone).around(time)
        assert tuple(alone) == expected
        assert start <= time < stop


def test_calendar_flags_are_features_like_any_other() -> None:
    view = FeatureView(
        "cal",
        "s",
        "instrument",
        {
            "start": month_start(),
            "end": month_end(),
            "quarter": quarter_end(),
            "monday": day_of_week().eq(0),
            "day": day_number(),
        },
        Sessions(1),
        timezone="Asia/Singapore",
    )
    frame = market(entities=1, rows=90)
    offline = OfflineDriver(view).run(frame)
    assert offline["start"].sum() == 3
    assert offline["end"].sum() == 3
    assert offline["quarter"].sum() == 1
    assert offline.equals(OnlineDriver(view).replay(frame))
