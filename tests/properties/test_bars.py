"""Bars of any stream of ticks: the same bits from history, feed and checkpoint, and what they say.

The oracle is plain Python: it sorts all ticks of a bar at every moment at which a version is due.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.domain.instants import NANOS_PER_SECOND, from_datetime, parse
from assay.features import (
    Aggregate,
    Bars,
    Duration,
    FeatureView,
    OfflineDriver,
    OnlineDriver,
    SessionRule,
    SessionWindow,
    TimeWindow,
    col,
    sessions_of_rule,
)
from assay.features.offline.arrivals import as_known_history
from assay.features.offline.bars import bars_as_corrected, bars_as_known, count_ticks
from assay.features.online import BarFeed, MemoryStore, OnlineFeed, batches_of

SECOND = NANOS_PER_SECOND
START = parse("2024-03-29T23:00Z")
COLUMNS = {
    "open": Aggregate.first("price"),
    "close": Aggregate.last("price"),
    "high": Aggregate.highest("price"),
    "low": Aggregate.lowest("price"),
    "mean": Aggregate.mean("price"),
    "volume": Aggregate.total("size"),
    "prices": Aggregate.count("price"),
    "ticks": Aggregate.count(),
}
SCHEMA = {
    "entity": pl.String,
    "event_time": pl.Int64,
    "known_time": pl.Int64,
    "source_rank": pl.Int64,
    "sequence": pl.Int64,
    "price": pl.Float64,
    "size": pl.Float64,
}


def bars_of(lateness=3, keep=6, every=10, columns=COLUMNS):
    lengths = {
        name: Duration(length * SECOND)
        for name, length in (("lateness", lateness), ("keep", keep))
        if length
    }
    return Bars("bars", "ticks", "entity", Duration(every * SECOND), columns, **lengths)


def nearest_float(exact):
    try:
        return float(exact)
    except OverflowError:
        return math.nan


def said_by(ticks):
    """The columns of COLUMNS over ticks, as floats; oracle."""
    ticks = sorted(
        ticks, key=lambda tick: (tick["event_time"], tick["source_rank"], tick["sequence"])
    )
    prices = [tick["price"] for tick in ticks if math.isfinite(tick["price"])]
    sizes = [tick["size"] for tick in ticks if math.isfinite(tick["size"])]
    total = nearest_float(sum(map(Fraction, prices)))
    some = bool(prices)
    return [
        prices[0] if some else math.nan,
        prices[-1] if some else math.nan,
        max(prices) if some else math.nan,
        min(prices) if some else math.nan,
        total / len(prices) if some else math.nan,
        nearest_float(sum(map(Fraction, sizes))) if sizes else math.nan,
        float(len(prices)),
        float(len(ticks)),
    ]


def bits(values):
    return tuple((float(value) + 0.0).hex() for value in values)


def value_order(tick):
    return tuple(-math.inf if math.isnan(x) else x for x in (tick["price"], tick["size"]))


def expected_versions(bars, frame, now=None, ever=False):
    """Every version of every bar as (known, entity, end, version, values); oracle for bars in UTC
    without a calendar.
    """
    every, wait = bars.every.nanos, bars.wait
    rows = frame.to_dicts()
    clock = max((row["known_time"] for row in rows), default=0) if now is None else now
    groups = {}
    for row in rows:
        end = row["event_time"] // every * every + every
        if ever or row["known_time"] <= end + wait + bars.kept:
            groups.setdefault((row["entity"], end), []).append(row)
    found = []
    for (entity, end), ticks in groups.items():
        dues = sorted({max(end + wait, tick["known_time"]) for tick in ticks})
        before, version = None, 0
        for due in dues:
            if due >= clock:
                break
            counting = {}
            known = [tick for tick in ticks if tick["known_time"] <= due]
            for tick in known:
                key = (tick["event_time"], tick["source_rank"], tick["sequence"])
                counting.setdefault(key, []).append(tick)
            latest = [
                max(versions, key=lambda tick: (tick["known_time"], value_order(tick)))
                for versions in counting.values()
            ]
            values = bits(said_by(latest))
            if values != before:
                found.append((due, entity, end, version, values))
                before, version = values, version + 1
    return sorted(found)


@st.composite
def streams(draw, most=40, numbers=None):
    """Ticks whose times wander: in order, late, far too late, twice, revised, at equal times."""
    if numbers is None:
        numbers = st.sampled_from([1.0, 1.25, -0.0, 0.1, 1e16, -1e16, 3e9, math.nan, 2.0**-80])
    rows, known = [], START
    for _ in range(draw(st.integers(1, most))):
        known += draw(st.sampled_from([0, 0, 1, SECOND, 4 * SECOND]))
        kind = draw(st.sampled_from(["next", "next", "late", "again", "revise"]))
        if kind in ("again", "revise") and rows:
            row = dict(rows[draw(st.integers(0, len(rows) - 1))], known_time=known)
            if kind == "revise":
                row |= {"price": draw(numbers), "size": draw(numbers)}
        else:
            late = draw(st.sampled_from([0, 0, 1, SECOND, 15 * SECOND]))
            row = {
                "entity": draw(st.sampled_from("AB")),
                "event_time": (known - late) // SECOND * SECOND
                if draw(st.booleans())
                else known - late,
                "known_time": known,
                "source_rank": draw(st.integers(0, 1)),
                "sequence": draw(st.integers(0, 2)),
                "price": draw(numbers),
                "size": draw(numbers),
            }
        rows.append(row)
    return pl.DataFrame(rows, schema=SCHEMA)


def as_tuples(rows):
    """Rows of a feed, values by their bits."""
    return [
        (row.known_time, row.entity, row.event_time, row.sequence, bits(row.values)) for row in rows
    ]


def frame_tuples(frame, columns=tuple(COLUMNS)):
    keys = frame.select("known_time", "entity", "event_time", "sequence").iter_rows()
    values = frame.select(columns).iter_rows()
    return [(*key, bits(row)) for key, row in zip(keys, values, strict=True)]


def push_all(feed, frame):
    rows = []
    for tick in frame.iter_rows(named=True):
        rows += feed.push(
            tick["entity"],
            tick["event_time"],
            tick["known_time"],
            {name: tick[name] for name in feed.bars.reads},
            source_rank=tick["source_rank"],
            sequence=tick["sequence"],
        )
    return rows


def check_versions(bars, frame, cuts, extra):
    """History, a feed tick by tick, and one in batches that dies at every cut agree with all."""
    now = frame["known_time"][-1] + extra * SECOND
    expected = expected_versions(bars, frame, now)
    assert frame_tuples(bars_as_known(bars, frame, now=now)) == expected

    feed = BarFeed(bars)
    rows = push_all(feed, frame) + feed.close(now)
    assert as_tuples(rows) == expected
    assert feed.frame(rows).equals(bars_as_known(bars, frame, now=now))
    assert feed.counts == count_ticks(bars, frame)

    other = BarFeed(bars)
    rows = []
    places = sorted({min(cut, frame.height) for cut in cuts} | {0, frame.height})
    for start, stop in pairwise(places):
        rows += other.take(frame[start:stop])
        other = BarFeed.restore(bars, other.checkpoint())
        if start % 2:
            rows += other.close(other.clock)
    rows += other.close(now)
    assert as_tuples(rows) == expected
    assert other.counts == feed.counts
    assert other.open_bars == feed.open_bars


LENGTHS = {"lateness": st.sampled_from([0, 3]), "keep": st.sampled_from([0, 6, 1000])}


@settings(max_examples=60)
@given(
    frame=streams(),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    extra=st.sampled_from([0, 1, 4, 2000]),
    **LENGTHS,
)
def test_history_and_feed_give_the_versions_that_the_oracle_gives(
    frame, cuts, extra, lateness, keep
):
    check_versions(bars_of(lateness, keep), frame, cuts, extra)


@pytest.mark.long
@settings(max_examples=500)
@given(
    frame=streams(150),
    cuts=st.lists(st.integers(0, 150), max_size=10),
    extra=st.sampled_from([0, 1, 4, 2000]),
    **LENGTHS,
)
def test_history_and_feed_give_the_versions_of_long_streams(frame, cuts, extra, lateness, keep):
    check_versions(bars_of(lateness, keep), frame, cuts, extra)


@settings(max_examples=60)
@given(frame=streams(), seed=st.integers(0, 1_000))
def test_the_order_of_ticks_known_at_one_moment_changes_no_bit(frame, seed):
    bars = bars_of()
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed).sort(
        "known_time", maintain_order=True
    )
    now = frame["known_time"][-1] + 100 * SECOND
    assert frame_tuples(bars_as_known(bars, shuffled, now=now)) == frame_tuples(
        bars_as_known(bars, frame, now=now)
    )


@settings(max_examples=60)
@given(frame=streams())
def test_corrected_bars_are_the_last_versions_when_nothing_is_too_late(frame):
    bars = bars_of()
    now = frame["known_time"][-1] + 100 * SECOND
    last = {}
    for row in expected_versions(bars, frame, now, ever=True):
        last[row[1], row[2]] = row
    corrected = bars_as_corrected(bars, frame, now=now)
    assert frame_tuples(corrected) == [last[key] for key in sorted(last)]
    OfflineDriver(VIEW).run(corrected)  # the contract of views holds


ANY = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1.7e308, -1.7e308, 5e-324, -5e-324, 2.0**-1022, 0.1, math.inf, -math.inf]),
    st.floats(0.5, 2.0).map(lambda x: x * 1e15),
)


@settings(max_examples=300)
@given(sizes=st.lists(ANY, min_size=1, max_size=30))
def test_a_total_is_the_exact_sum_rounded_once(sizes):
    bars = bars_of(columns={"volume": Aggregate.total("size"), "mean": Aggregate.mean("size")})
    frame = pl.DataFrame(
        [
            dict(zip(SCHEMA, ("A", START + i, START + i, 0, 0, 0.0, size), strict=True))
            for i, size in enumerate(sizes)
        ],
        schema=SCHEMA,
    )
    finite = [size for size in sizes if math.isfinite(size)]
    total = nearest_float(sum(map(Fraction, finite))) if finite else math.nan
    mean = total / len(finite) if finite else math.nan
    (row,) = bars_as_known(bars, frame, now=START + 100 * SECOND).select("volume", "mean").rows()
    assert bits(row) == bits([total, mean])


VIEW = FeatureView(
    "on_bars",
    "bars",
    "entity",
    {
        "mean_5": col("close").rolling_mean(3, min_count=1),
        "mean_time": col("close").rolling_mean(TimeWindow(30 * SECOND, 10), min_count=1),
        "today": col("volume").rolling_mean(SessionWindow("desk", 1, 1_000), min_count=1),
        "mean_ticks": col("ticks").rolling_mean(TimeWindow(25 * SECOND, 10), min_count=1),
    },
    Duration.of(minutes=5),
    calendars=(
        sessions_of_rule(
            "desk",
            SessionRule(
                "Europe/London", "00:00", "23:59", ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
            ),
            date(2024, 3, 20),
            date(2024, 4, 20),
        ),
    ),
)


@settings(max_examples=25)
@given(frame=streams(60, numbers=st.sampled_from([1.0, 1.25, 7.5, math.nan])))
def test_a_view_over_bars_has_equal_bits_offline_and_online(frame):
    bars = bars_of()
    now = frame["known_time"][-1] + 100 * SECOND
    corrected = bars_as_corrected(bars, frame, now=now)
    offline = OfflineDriver(VIEW).run(corrected)
    online = OnlineDriver(VIEW).replay(corrected)
    assert frame_tuples(offline, VIEW.feature_names) == frame_tuples(online, VIEW.feature_names)

    feed, store = BarFeed(bars), MemoryStore()
    features = OnlineFeed(VIEW, store)
    issued = feed.frame(push_all(feed, frame) + feed.close(now))
    for batch in batches_of(VIEW, issued):
        features.take(batch)
    history = as_known_history(VIEW, bars_as_known(bars, frame, now=now), margin=32)
    stored = [row for entity in "AB" for row in store.history(VIEW.name, entity)]
    assert [
        (row.entity, row.event_time, row.known_time, row.values.tobytes()) for row in stored
    ] == [
        (*key, values.tobytes())
        for key, values in zip(
            history.select("entity", "event_time", "known_time").iter_rows(),
            history.select(VIEW.feature_names).to_numpy(),
            strict=True,
        )
    ]


ZONES = ("UTC", "Europe/London", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
LONG = {"4 h": (4, 0), "1 day": (24, 0), "1 day from 17:00": (24, 17), "8 h from 01:30": (8, 1.5)}


def shown_edges(zone, hours, offset, day):
    """The moments at which a local clock first shows the times of day, near a date; oracle.

    It steps through the half hours of the days around, where all of these lie.
    """
    cuts, best = [], None
    moment = datetime.combine(day, datetime.min.time(), UTC) - timedelta(days=3)
    for _ in range(6 * 48):
        local = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        passed = local - timedelta(hours=offset) - datetime(2000, 1, 1)
        number = passed // timedelta(hours=hours)
        if best is None or number > best:
            best = number
            cuts.append(from_datetime(moment))
        moment += timedelta(minutes=30)
    return cuts[1:]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("length", LONG)
@pytest.mark.parametrize(
    "day", ["2024-03-10", "2024-03-31", "2024-04-07", "2024-10-06", "2024-10-27", "2024-11-03"]
)
def test_long_bars_are_cut_at_local_times_on_both_sides_of_a_clock_change(zone, length, day):
    hours, offset = LONG[length]
    edges = shown_edges(zone, hours, offset, date.fromisoformat(day))
    nanos = int(offset * 3600) * SECOND
    bars = Bars(
        "bars",
        "ticks",
        "entity",
        Duration.of(hours=hours),
        {"ticks": Aggregate.count()},
        timezone=zone,
        offset=Duration(nanos) if nanos else None,
    )
    inside = [moment for edge in edges for moment in (edge - 1, edge, edge + 1)]
    frame = pl.DataFrame(
        [dict(zip(SCHEMA, ("A", t, t, 0, 0, 1.0, 1.0), strict=True)) for t in inside], schema=SCHEMA
    )
    made = bars_as_known(bars, frame, now=inside[-1] + 10**15)
    assert made["event_time"].to_list()[:-1] == edges
    assert made["ticks"].to_list() == [1.0] + [3.0] * (len(edges) - 1) + [2.0]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(("seconds", "offset"), [(1, 0), (60, 0), (900, 0), (3600, 0), (3600, 600)])
@pytest.mark.parametrize(
    "change", ["2024-03-10T07:00Z", "2024-03-31T01:00Z", "2024-04-06T15:00Z", "2024-11-03T06:00Z"]
)
def test_short_bars_start_at_local_hours_and_none_holds_a_clock_change(
    zone, seconds, offset, change
):
    moment, every = parse(change), seconds * SECOND
    times = [
        moment + shift + n * 1200 * SECOND for n in range(-6, 7) for shift in (-1, 0, 1, 7 * SECOND)
    ]
    bars = Bars(
        "bars",
        "ticks",
        "entity",
        Duration(every),
        {"ticks": Aggregate.count()},
        timezone=zone,
        offset=Duration(offset * SECOND) if offset else None,
    )
    names = [f"{number:03}" for number in range(len(times))]
    frame = pl.DataFrame(
        [
            dict(zip(SCHEMA, (name, time, max(times), 0, 0, 1.0, 1.0), strict=True))
            for name, time in zip(names, times, strict=True)
        ],
        schema=SCHEMA,
    )
    made = bars_as_corrected(bars, frame, now=max(times) + 10**15)
    assert made["entity"].to_list() == names
    for time, end in zip(times, made["event_time"].to_list(), strict=True):
        clock = local_clock(zone, time)
        whole = time - (clock - offset * SECOND) % every + every
        # The bar ends with the grid of the clock that shows when it begins, or at its change.
        assert time < end <= whole
        if end < whole:
            before, after = (local_clock(zone, t) - t for t in (end - 1, end))
            assert before != after
        assert local_clock(zone, end - 1) - (end - 1) == clock - time


def local_clock(zone, time):
    """Nanoseconds since 1970 on a local clock."""
    whole = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time // SECOND)
    shown = whole.astimezone(ZoneInfo(zone)).replace(tzinfo=UTC)
    return from_datetime(shown) + time % SECOND
