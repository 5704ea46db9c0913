"""Bars: what a declaration refuses, sessions, clock changes by hand, memory and checkpoints."""

from __future__ import annotations

import json
import math
import pickle
from datetime import date
from itertools import permutations

import numpy as np
import polars as pl
import pytest

from assay.domain.canonical import canonical_bytes
from assay.domain.instants import NANOS_PER_SECOND, parse, render
from assay.errors import (
    ContractViolation,
    DefinitionError,
    IncompatibleVersion,
    OutOfOrder,
    Tampered,
)
from assay.features import (
    Aggregate,
    Bars,
    Duration,
    FeatureView,
    Manifest,
    SessionRule,
    Sessions,
    col,
    sessions_of_rule,
)
from assay.features.kernel.engine import source_hash
from assay.features.offline.bars import bars_as_corrected, bars_as_known, count_ticks
from assay.features.online import BarFeed

SECOND = NANOS_PER_SECOND
COUNT = {"ticks": Aggregate.count()}
NEW_YORK_DAY = {"timezone": "America/New_York", "offset": Duration.of(hours=17)}


def make(every, columns=COUNT, **others):
    return Bars("bars", "ticks", "entity", every, columns, **others)


def ticks(*times, known=None, values=None, entity="EUR_USD"):
    moments = [parse(time) if isinstance(time, str) else time for time in times]
    return pl.DataFrame(
        {
            "entity": [entity] * len(times),
            "event_time": moments,
            "known_time": moments if known is None else known,
            "source_rank": [0] * len(times),
            "sequence": list(range(len(times))),
            "mid": [1.0] * len(times) if values is None else values,
        },
        schema_overrides={"mid": pl.Float64},
    )


def ends(bars, frame):
    return [render(time) for time in bars_as_corrected(bars, frame, now=2**62)["event_time"]]


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"every": Duration.of(minutes=7)}, "divides an hour or a day", "15 seconds or minutes"),
        ({"every": Duration.of(hours=48)}, "divides an hour or a day", "1 day"),
        ({"every": 60}, "every 60, expected a Duration", "Duration.of"),
        ({"offset": Duration.of(minutes=5)}, "less than the length of a bar", "whole bars"),
        ({"keep": Duration.of(days=500)}, "at most 400 days", None),
        ({"lateness": 3}, "lateness 3, expected a Duration", "lateness=Duration.of"),
        ({"timezone": "Europe/Londn"}, "unknown time zone 'Europe/Londn'", "Europe/London"),
        ({"calendar": "XNYS"}, "expected a SessionTable", "sessions_of_rule"),
        ({"name": "ticks"}, "made from ticks of the same name", None),
        ({"columns": {}}, "no columns", "Aggregate.last"),
        ({"columns": {"Close": Aggregate.count()}}, "lower-case letter", None),
        ({"columns": {"known_time": Aggregate.count()}}, "name of a key column", "event_time"),
        ({"columns": {"close": "last"}}, "expected an Aggregate", "Aggregate.count()"),
        ({"columns": {"x": Aggregate.last("sequence")}}, "reads the key column sequence", None),
    ],
)
def test_a_declaration_that_cannot_mean_what_it_says_is_refused(change, message, hint):
    given = {
        "name": "bars",
        "source": "ticks",
        "entity": "entity",
        "every": Duration.of(minutes=1),
        "columns": COUNT,
    }
    with pytest.raises(DefinitionError) as error:
        Bars(**(given | change))
    assert message in error.value.message
    assert hint is None or hint in error.value.hint


def test_an_aggregate_names_the_nearest_kind_and_misses_its_column():
    with pytest.raises(DefinitionError, match="did you mean 'highest'"):
        Aggregate("highst", "mid")
    with pytest.raises(DefinitionError, match=r'Aggregate.mean\("mid"\)'):
        Aggregate("mean")


def test_the_digest_covers_all_that_decides_a_value_and_survives_a_journey():
    table = sessions_of_rule(
        "desk",
        SessionRule.of("Europe/London", "08:00", "17:00"),
        date(2024, 1, 1),
        date(2024, 2, 1),
    )
    base = {"every": Duration.of(hours=4), "timezone": "Europe/London"}
    variants = [
        make(**base),
        make(**base, offset=Duration.of(hours=1)),
        make(**base, lateness=Duration.of(seconds=1)),
        make(**base, keep=Duration.of(seconds=1)),
        make(**base, calendar=table),
        make(Duration.of(hours=4)),
        make(Duration.of(hours=4), {"ticks": Aggregate.count("mid")}),
        make(Duration.of(hours=4), {"n": Aggregate.count()}),
    ]
    assert len({bars.digest for bars in variants}) == len(variants)
    for bars in variants:
        assert json.loads(canonical_bytes(bars.to_json())) == bars.to_json()
        again = pickle.loads(pickle.dumps(bars))
        assert again == bars
        assert again.digest == bars.digest


def test_a_day_with_a_clock_change_has_one_bar_of_three_or_five_hours():
    bars = make(Duration.of(hours=4), timezone="Europe/London")
    # 31 March 2024: clocks go forward at 01:00 UTC; midnight is 00:00 UTC before and 23:00 after.
    spring = ticks("2024-03-31T00:00Z", "2024-03-31T02:59:59.999999999Z", "2024-03-31T03:00Z")
    assert ends(bars, spring) == ["2024-03-31T03:00:00Z", "2024-03-31T07:00:00Z"]
    # 27 October 2024: back at 01:00 UTC.
    autumn = ticks("2024-10-26T23:00Z", "2024-10-27T03:59:59.999999999Z", "2024-10-27T04:00Z")
    assert ends(bars, autumn) == ["2024-10-27T04:00:00Z", "2024-10-27T08:00:00Z"]


def test_a_day_from_five_to_five_in_new_york_follows_its_clock():
    bars = make(Duration.of(days=1), **NEW_YORK_DAY)
    frame = ticks(
        "2024-03-08T21:59:59.999999999Z", "2024-03-08T22:00Z", "2024-03-09T22:00Z",
        "2024-03-10T20:59:59.999999999Z", "2024-03-10T21:00Z",
    )  # fmt: skip
    assert ends(bars, frame) == [
        "2024-03-08T22:00:00Z",
        "2024-03-09T22:00:00Z",
        "2024-03-10T21:00:00Z",  # 23 hours
        "2024-03-11T21:00:00Z",
    ]


def test_minutes_and_seconds_do_not_notice_a_clock_change():
    for length in (1, 60):
        bars = make(Duration.of(seconds=length), timezone="America/New_York")
        change = parse("2024-11-03T06:00Z")
        frame = ticks(change - 1, change, change + length * SECOND)
        found = bars_as_corrected(bars, frame, now=2**62)["event_time"].to_list()
        assert [end - change for end in found] == [0, length * SECOND, 2 * length * SECOND]


def test_bars_of_an_hour_begin_at_local_hours():
    bars = make(Duration.of(hours=1), timezone="Asia/Kolkata", offset=Duration.of(minutes=10))
    assert ends(bars, ticks("2024-01-01T00:00Z")) == ["2024-01-01T00:40:00Z"]


def half_day():
    rule = SessionRule(
        "America/New_York", "09:30", "16:00", half_days={date(2024, 11, 29): "13:00"}
    )
    return sessions_of_rule("desk", rule, date(2024, 11, 27), date(2024, 12, 2))


def test_no_bar_crosses_a_close_and_ticks_between_sessions_are_counted():
    bars = make(Duration.of(hours=4), timezone="America/New_York", calendar=half_day())
    frame = ticks(
        "2024-11-27T14:30Z",  # the open; bars begin at 08:00, 12:00 and 16:00 local
        "2024-11-27T20:59:59.999999999Z",
        "2024-11-27T21:00Z",  # the close: outside
        "2024-11-29T16:59Z",
        "2024-11-29T17:30Z",  # the half day closes at 13:00 local
        "2024-11-29T18:00Z",
        "2024-12-02T14:00Z",
        "2024-12-02T14:30Z",
    )
    expected = [
        "2024-11-27T17:00:00Z",
        "2024-11-27T21:00:00Z",
        "2024-11-29T17:00:00Z",
        "2024-11-29T18:00:00Z",
        "2024-12-02T17:00:00Z",
    ]
    with pytest.raises(ContractViolation, match="calendar desk knows sessions from"):
        ends(bars, ticks("2024-11-26T15:00Z"))
    assert ends(bars, frame) == expected
    assert count_ticks(bars, frame).outside == 3
    feed = BarFeed(bars)
    rows = []
    for moment in frame["event_time"]:
        rows += feed.push("EUR_USD", moment, moment, {})
    with pytest.raises(ContractViolation, match="longer range"):
        feed.push("EUR_USD", parse("2025-01-01"), parse("2025-01-01"), {})
    rows += feed.close(2**62)
    assert [render(row.event_time) for row in rows] == expected
    assert feed.counts.outside == 3


def test_a_late_tick_corrects_a_bar_and_one_that_is_too_late_is_counted():
    bars = make(
        Duration.of(minutes=1),
        {"close": Aggregate.last("mid"), "ticks": Aggregate.count()},
        lateness=Duration.of(seconds=2),
        keep=Duration.of(seconds=10),
    )
    start = parse("2024-05-01T10:00Z")
    end = start + 60 * SECOND
    feed = BarFeed(bars)
    assert feed.push("A", start, start, {"mid": 1.0}) == []
    # Known at the very moment at which the bar is complete: part of its first version.
    assert feed.push("A", start + 1, end + 2 * SECOND, {"mid": 2.0}, sequence=1) == []
    (first,) = feed.push("A", start + 2, end + 3 * SECOND, {"mid": 3.0}, sequence=2)
    assert (first.event_time, first.known_time, first.sequence) == (end, end + 2 * SECOND, 0)
    assert first.values.tolist() == [2.0, 2.0]
    # A revision of the first tick changes the bar only where it shows.
    (second,) = feed.push("A", start, end + 4 * SECOND, {"mid": 9.0})
    assert (second.known_time, second.sequence) == (end + 3 * SECOND, 1)
    assert second.values.tolist() == [3.0, 3.0]
    # The last moment at which a correction counts.
    assert feed.push("A", start + 4, end + 12 * SECOND, {"mid": math.nan}, sequence=4) == []
    assert feed.open_bars == 1
    (third,) = feed.push("A", start + 3, end + 13 * SECOND, {"mid": 4.0}, sequence=3)
    assert third.values.tolist() == [3.0, 4.0]
    assert feed.open_bars == 0
    counts = feed.counts
    assert (counts.taken, counts.corrections, counts.too_late) == (4, 1, 1)
    # The corrected history has what came too late for the feed.
    frame = pl.DataFrame(
        {
            "entity": ["A"] * 2,
            "event_time": [start, start + 3],
            "known_time": [start, end + 13 * SECOND],
            "source_rank": [0, 0],
            "sequence": [0, 3],
            "mid": [1.0, 4.0],
        }
    )
    assert bars_as_known(bars, frame, now=2**62)["close"].to_list() == [1.0]
    (row,) = bars_as_corrected(bars, frame, now=2**62).iter_rows(named=True)
    assert (row["close"], row["known_time"]) == (4.0, end + 13 * SECOND)


@pytest.mark.parametrize("order", list(permutations([(0, 1.0), (5, 1.0), (5, 0.5), (5, 2.0)])))
def test_of_ticks_that_contradict_each_other_at_one_moment_the_same_one_counts(order):
    bars = make(Duration.of(minutes=1), {"close": Aggregate.last("mid")})
    start = parse("2024-05-01T10:00Z")
    feed = BarFeed(bars)
    for known, mid in sorted(order, key=lambda tick: tick[0]):
        feed.push("A", start, start + known, {"mid": mid})
    (row,) = feed.close(2**62)
    assert row.values.tolist() == [2.0]
    assert feed.counts.conflicts >= 1


def test_what_is_said_again_at_the_moment_of_a_revision_contradicts_it():
    bars = make(Duration.of(minutes=1), {"close": Aggregate.last("mid")})
    start = parse("2024-05-01T10:00Z")
    for mids in ([1.0, 0.5], [0.5, 1.0]):
        feed = BarFeed(bars)
        feed.push("A", start, start, {"mid": 1.0})
        for mid in mids:
            feed.push("A", start, start + 5, {"mid": mid})
        assert feed.close(2**62)[0].values.tolist() == [1.0]
        assert feed.counts.conflicts == 1


def test_a_bar_closes_by_the_clock_and_a_history_ends_with_its_last_complete_bar():
    bars = make(Duration.of(minutes=1))
    frame = ticks("2024-05-01T10:00:30Z", "2024-05-01T10:01:30Z")
    end = parse("2024-05-01T10:01Z")
    assert bars_as_known(bars, frame)["event_time"].to_list() == [end]
    feed = BarFeed(bars)
    assert [row.event_time for row in feed.take(frame)] == [end]
    assert feed.close(end + 60 * SECOND) == []
    assert [row.event_time for row in feed.close(end + 60 * SECOND + 1)] == [end + 60 * SECOND]
    assert feed.close(0) == []
    assert bars_as_known(bars, frame, now=0).is_empty()


def test_ticks_that_break_the_contract_are_refused_and_change_nothing():
    bars = make(Duration.of(minutes=1), {"close": Aggregate.last("mid")})
    good = ticks("2024-05-01T10:00:30Z", "2024-05-01T10:00:40Z")
    feed = BarFeed(bars)
    feed.take(good[1:])
    before = feed.checkpoint()
    with pytest.raises(OutOfOrder, match="2024-05-01T10:00:40Z or later"):
        feed.take(good)
    with pytest.raises(OutOfOrder, match="order in which they became known"):
        feed.push("A", 0, parse("2024-05-01"), {"mid": 1.0})
    with pytest.raises(ContractViolation, match="did you mean 'midd'"):
        feed.take(good[1:].rename({"mid": "midd"}))
    with pytest.raises(ContractViolation, match="column mid is String"):
        feed.take(good[1:].cast({"mid": pl.String}))
    with pytest.raises(ContractViolation, match="source_rank is null in row 0"):
        feed.take(good[1:].with_columns(source_rank=pl.lit(None, dtype=pl.Int64)))
    later = parse("2024-05-02")
    with pytest.raises(ContractViolation, match="no column 'mid'"):
        feed.push("A", later, later, {})
    with pytest.raises(ContractViolation, match=r"shape \(2,\)"):
        feed.push("A", later, later, np.zeros(2))
    with pytest.raises(ContractViolation, match="nanoseconds since 1970"):
        feed.push("A", 2**62 * 2 - 1, later, {"mid": 1.0})
    assert feed.checkpoint() == before


def test_a_checkpoint_of_another_declaration_or_a_damaged_one_is_refused():
    bars = make(Duration.of(minutes=1), {"close": Aggregate.last("mid")})
    feed = BarFeed(bars)
    feed.take(ticks("2024-05-01T10:00:30Z", "2024-05-01T10:02:30Z"))
    data = feed.checkpoint()
    assert BarFeed.restore(bars, data).checkpoint() == data
    other = make(Duration.of(minutes=5), {"close": Aggregate.last("mid")})
    with pytest.raises(IncompatibleVersion, match="this declaration of bars is"):
        BarFeed.restore(other, data)
    with pytest.raises(Tampered):
        BarFeed.restore(bars, data[:-40] + b"x" + data[-39:])


def test_a_bar_of_many_ticks_grows_and_ignores_those_that_come_twice():
    bars = make(Duration.of(days=1), {"mean": Aggregate.mean("mid"), "ticks": Aggregate.count()})
    generator = np.random.default_rng(3)
    prices = generator.normal(1e9, 1e8, 5_000)
    start = parse("2024-05-01")
    frame = ticks(*(start + n * SECOND for n in range(5_000)), values=prices)
    twice = pl.concat([frame, frame]).sort("known_time", maintain_order=True)
    feed = BarFeed(bars)
    rows = []
    for begin in range(0, twice.height, 700):
        rows += feed.take(twice[begin : begin + 700])
    (row,) = feed.close(2**62)
    assert rows == []
    assert row.values.tolist() == [math.fsum(prices) / 5_000, 5_000.0]
    assert feed.counts.duplicates == 5_000


def test_an_empty_table_gives_an_empty_table():
    bars = make(Duration.of(minutes=1), {"close": Aggregate.last("mid")})
    empty = ticks("2024-05-01T10:00Z")[:0]
    for made in (bars_as_known(bars, empty), bars_as_corrected(bars, empty)):
        assert made.is_empty()
        assert made.columns == [*bars.key_columns, "close"]
    feed = BarFeed(bars)
    assert feed.take(empty) == []
    assert feed.frame([]).equals(bars_as_known(bars, empty))


def test_the_step_of_bars_is_part_of_the_kernel_source(monkeypatch):
    from assay.features.kernel import bars as steps

    before = source_hash()
    monkeypatch.setattr(steps, "__file__", __file__)
    assert source_hash() != before


def test_a_view_over_bars_names_them_in_its_manifest_and_reads_no_column_they_lack() -> None:
    def view(bars: Bars | None, source: str = "fx_minutes", column: str = "close") -> FeatureView:
        features = {"mean": col(column).rolling_mean(3)}
        return FeatureView("v", source, "instrument", features, Sessions(1), bars=bars)

    def minutes(lateness: int, entity: str = "instrument") -> Bars:
        return Bars(
            "fx_minutes", "fx_ticks", entity, Duration.of(minutes=1),
            {"close": Aggregate.last("mid")}, lateness=Duration.of(seconds=lateness),
        )  # fmt: skip

    hashes = {Manifest.of(view(bars)).hash for bars in (None, minutes(1), minutes(2))}
    assert len(hashes) == 3
    travelled = pickle.loads(pickle.dumps(view(minutes(1))))
    assert Manifest.of(travelled).hash == Manifest.of(view(minutes(1))).hash
    with pytest.raises(DefinitionError, match="source market, but the bars fx_minutes"):
        view(minutes(1), source="market")
    with pytest.raises(DefinitionError, match="entity instrument, but the bars"):
        view(minutes(1, entity="pair"))
    with pytest.raises(DefinitionError, match="have no column 'clsoe'") as refused:
        view(minutes(1), column="clsoe")
    assert "close" in str(refused.value.hint)
