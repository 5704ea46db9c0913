"""Sessions of markets: right on both sides of every clock change, the same in both drivers."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.domain.instants import from_datetime, parse
from assay.errors import ContractViolation, DefinitionError
from assay.features import (
    FX_SESSIONS,
    FeatureView,
    Manifest,
    OfflineDriver,
    OnlineDriver,
    SessionRule,
    Sessions,
    SessionTable,
    SessionWindow,
    col,
    half_day,
    in_session,
    sessions_of_exchange,
    sessions_of_rule,
    since_open,
    until_close,
)

FIRST, LAST = date(2023, 1, 1), date(2025, 12, 31)
TABLES = tuple(sessions_of_rule(name, rule, FIRST, LAST) for name, rule in FX_SESSIONS.items())
HOURS = {
    "fx_asian": ("Asia/Tokyo", 9, 18),
    "fx_london": ("Europe/London", 8, 17),
    "fx_new_york": ("America/New_York", 8, 17),
}
X = col("x")


def view(features: dict, *tables: SessionTable) -> FeatureView:
    return FeatureView("fx", "ticks", "entity", features, Sessions(1), calendars=tables or TABLES)


def frame(times: list[int]) -> pl.DataFrame:
    count = len(times)
    return pl.DataFrame(
        {
            "entity": ["e"] * count,
            "event_time": times,
            "known_time": times,
            "source_rank": np.zeros(count, dtype=np.int64),
            "sequence": np.arange(count),
            "x": np.arange(count) + 1.0,
        }
    )


def moments(*days: str, minutes: int) -> list[int]:
    return [
        parse(day) + step * minutes * 60 * 10**9
        for day in days
        for step in range(3 * 24 * 60 // minutes)
    ]


# Three days around every change of a clock in London and New York in 2024, and a weekend.
CHANGES = moments("2024-03-09", "2024-03-30", "2024-10-26", "2024-11-02", minutes=17)


def local(time: int, zone: str) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time // 10**9)).astimezone(
        ZoneInfo(zone)
    )


@pytest.mark.parametrize("name", HOURS)
def test_a_session_of_the_currency_market_is_open_in_its_own_office_hours(name: str) -> None:
    zone, opens, closes = HOURS[name]
    features = {"open": in_session(name), "since": since_open(name), "until": until_close(name)}
    found = OfflineDriver(view(features)).run(frame(CHANGES))
    assert 0 < found["open"].sum() < len(CHANGES)
    for time, is_open, since, until in found.select("event_time", *features).iter_rows():
        there = local(time, zone)
        seconds = there.hour * 3600 + there.minute * 60 + there.second
        expected = there.weekday() < 5 and opens * 3600 <= seconds < closes * 3600
        assert is_open == expected, there
        if expected:
            assert (since, until) == (seconds - opens * 3600, closes * 3600 - seconds)
        else:
            assert np.isnan(since)
            assert np.isnan(until)


WINDOWED = {
    "to_date": X.rolling_count(SessionWindow("fx_london", 1, max_rows=500)),
    "two": X.rolling_sum(SessionWindow("fx_london", 2, max_rows=500), min_count=1),
    "open": in_session("fx_new_york"),
    "since": since_open("fx_asian"),
    "half": half_day("fx_asian"),
    "median": X.rolling_median(SessionWindow("fx_asian", 1, max_rows=500)),
}


def test_a_window_of_sessions_begins_where_its_first_session_opened() -> None:
    found = OfflineDriver(view(WINDOWED)).run(frame(CHANGES))
    opens = [
        from_datetime(datetime(day.year, day.month, day.day, 8, tzinfo=ZoneInfo("Europe/London")))
        for day in (FIRST + timedelta(days=n) for n in range((LAST - FIRST).days))
        if day.weekday() < 5
    ]
    for row, time in enumerate(CHANGES):
        passed = [moment for moment in opens if moment <= time]
        within = [n + 1.0 for n, t in enumerate(CHANGES) if passed[-1] <= t <= time]
        assert found["to_date"][row] == len(within)
        both = [n + 1.0 for n, t in enumerate(CHANGES) if passed[-2] <= t <= time]
        assert found["two"][row] == sum(both)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(parse("2024-10-24"), parse("2024-11-06")), min_size=1, max_size=40),
    st.integers(0, 39),
)
def test_sessions_have_equal_bits_in_both_drivers_in_batches_and_after_warming_up(
    times: list[int], cut: int
) -> None:
    table = frame(sorted(set(times)))
    fx = view(WINDOWED)
    offline = OfflineDriver(fx, chunk=3).run(table)
    online = OnlineDriver(fx).replay(table)
    batched = OnlineDriver(fx).push_many(
        ["e"] * table.height,
        table["event_time"].to_numpy(),
        table["known_time"].to_numpy(),
        table.select("x").to_numpy().T.copy(),
    )[1]
    start = min(cut, table.height)
    driver = OnlineDriver(fx)
    if start:
        driver.warm_up(table[max(0, start - fx.look_back) : start])
    rest = driver.replay(table[start:])
    for index, name in enumerate(fx.feature_names):
        bits = offline[name].to_numpy().view(np.int64)
        assert (bits == online[name].to_numpy().view(np.int64)).all(), name
        assert (bits == batched[index].view(np.int64)).all(), name
        assert (bits[start:] == rest[name].to_numpy().view(np.int64)).all(), name


def test_an_exchange_closes_early_and_not_at_all_as_its_calendar_says() -> None:
    pytest.importorskip("exchange_calendars")
    table = sessions_of_exchange("XNYS", "XNYS", date(2024, 6, 1), date(2024, 12, 31))
    assert table.source.startswith("exchange_calendars 4.")
    features = {"open": in_session("XNYS"), "half": half_day("XNYS")}
    # The eve of Independence Day ends at 13:00 in New York; the day itself has no session.
    hours = ["2024-07-02T19:00Z", "2024-07-03T16:59Z", "2024-07-03T17:00Z", "2024-07-04T15:00Z",
             "2024-07-05T13:30Z", "2024-11-29T17:59Z", "2024-11-29T18:00Z"]  # fmt: skip
    found = OfflineDriver(view(features, table)).run(frame([parse(hour) for hour in hours]))
    assert found["open"].to_list() == [1, 1, 0, 0, 1, 1, 0]
    assert found["half"].to_list() == [0, 1, 1, 1, 0, 1, 1]


def test_an_exchange_that_does_not_exist_is_named() -> None:
    pytest.importorskip("exchange_calendars")
    with pytest.raises(DefinitionError, match="XXXX"):
        sessions_of_exchange("XXXX", "XXXX", FIRST, LAST)


@pytest.mark.parametrize("moment", ["2022-12-31T00:00Z", "2026-01-02T00:00Z"])
def test_a_moment_that_no_table_covers_is_refused_by_both_drivers(moment: str) -> None:
    fx = view({"open": in_session("fx_london")})
    with pytest.raises(ContractViolation, match="fx_london knows sessions from 2023-01-02"):
        OfflineDriver(fx).run(frame([parse(moment)]))
    with pytest.raises(ContractViolation, match="fx_london knows sessions from 2023-01-02"):
        OnlineDriver(fx).push("e", parse(moment), parse(moment), {})


def test_the_manifest_covers_the_tables_that_are_read_and_no_others() -> None:
    features = {"open": in_session("fx_london")}
    london = TABLES[1]
    longer = sessions_of_rule("fx_london", FX_SESSIONS["fx_london"], FIRST, date(2026, 1, 31))
    assert Manifest.of(view(features)).hash == Manifest.of(view(features, london)).hash
    assert Manifest.of(view(features)).hash != Manifest.of(view(features, longer)).hash
    travelled = pickle.loads(pickle.dumps(view(features)))
    assert Manifest.of(travelled).hash == Manifest.of(view(features)).hash


def test_holidays_half_days_and_sessions_over_midnight() -> None:
    rule = SessionRule(
        "Europe/Berlin",
        "22:00",
        "06:00",
        weekdays=("mon", "tue", "wed"),
        holidays=frozenset({date(2024, 1, 2)}),
        half_days={date(2024, 1, 3): "23:00"},
    )
    table = sessions_of_rule("night", rule, date(2024, 1, 1), date(2024, 1, 5))
    assert [*zip(table.opens, table.closes, strict=True)] == [
        (parse("2024-01-01T21:00Z"), parse("2024-01-02T05:00Z")),
        (parse("2024-01-03T21:00Z"), parse("2024-01-03T22:00Z")),
    ]


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda: SessionRule.of("Europe/Londom", "08:00", "17:00"), "time zone 'Europe/Londom'"),
        (lambda: SessionRule.of("UTC", "8:00", "17:00"), "time of day '8:00'"),
        (lambda: SessionRule.of("UTC", "08:00", "17:00", ["monday"]), "'monday'"),
        (lambda: SessionTable("a b", "", (1,), (2,), 3), "calendar 'a b'"),
        (lambda: SessionTable("a", "", (1.0,), (2,), 3), "1.0 is float"),
        (lambda: SessionTable("a", "", (1, 5), (6, 7), 9), "ends before it opens or after"),
        (lambda: SessionTable("a", "", (), (), 9), "at least one"),
        (lambda: in_session(""), "expected a name"),
        (lambda: view({"open": in_session("fx_lodnon")}), "fx_lodnon"),
        (
            lambda: FeatureView("v", "s", "e", {"f": half_day("XNYS")}, Sessions(1)),
            "not among its calendars",
        ),
        (
            lambda: sessions_of_rule(
                "s", SessionRule.of("UTC", "08:00", "09:00", ["sun"]), date(2024, 1, 1),
                date(2024, 1, 5),
            ),
            "no session",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_a_session_is_refused_with_a_reason(write: object, words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        write()
