"""A store that was damaged or falls behind: the row is found and named, whatever the damage.

A feed fills a SQLite store from arrivals with a revision and a late fact; what history says is
computed from the table of arrivals. Then one thing is changed in the file.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.domain.instants import NANOS_PER_SECOND, parse, render
from assay.domain.verdicts import Verdict
from assay.errors import ConfigurationError, NotFound
from assay.features import Duration, FeatureView, Manifest, Sessions, col
from assay.features.offline.arrivals import as_known_history
from assay.features.online import OnlineFeed, SqliteStore, batches_of
from assay.features.parity import (
    Authority,
    Horizon,
    OfflineStoreValidator,
    ParityPolicy,
    StoreValidation,
    compare_store,
    complete_since,
    read_stored,
)
from assay.testing.clocks import FixedClock

DAY = 86_400 * NANOS_PER_SECOND
START = parse("2026-03-02T15:00Z")
VIEW = FeatureView(
    name="daily",
    source="market",
    entity="instrument",
    ttl=Sessions(3),
    features={
        "mid": col("mid"),
        "ret_1": col("mid").simple_return(1),
        "mean_3": col("mid").rolling_mean(3),
    },
)
RULE: Any = {"margin": 32, "close_with_batch": True}


def arrivals(sessions: int = 20) -> pl.DataFrame:
    """Two instruments a day, known an hour later; one value revised, one late."""
    generator = np.random.default_rng(5)
    rows = []
    for n in range(sessions):
        for name in ("EUR_SGD", "USD_SGD"):
            event = START + n * DAY
            known = event + 3_600 * NANOS_PER_SECOND
            value = 1.5 + 0.01 * float(generator.standard_normal())
            if (name, n) == ("USD_SGD", 12):
                known += DAY + 7_200 * NANOS_PER_SECOND  # after the next session's
            rows.append((name, event, known, 0, n, value))
            if (name, n) == ("EUR_SGD", 9):
                rows.append((name, event, known + DAY + 3_600 * NANOS_PER_SECOND, 0, 900, 1.7))
    schema = ["instrument", "event_time", "known_time", "source_rank", "sequence", "mid"]
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.sort("known_time", "event_time", "instrument")


@pytest.fixture(scope="module")
def history() -> pl.DataFrame:
    return as_known_history(VIEW, arrivals(), **RULE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "online.db"
    store = SqliteStore(path)
    feed = OnlineFeed(VIEW, store, **RULE)
    for batch in batches_of(VIEW, arrivals()):
        feed.take(batch)
    store.close()
    return path


def validated(path: Path, history: pl.DataFrame, **options: Any) -> StoreValidation:
    store = SqliteStore(path)
    try:
        validator = OfflineStoreValidator(
            VIEW, store, lambda: Authority("s" * 64, history), FixedClock(START), every=DAY,
            **options,
        )  # fmt: skip
        return validator.validate()
    finally:
        store.close()


def change(path: Path, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(path)
    with connection:
        assert connection.execute(statement, values).rowcount == 1
    connection.close()


def packed(path: Path, entity: str, event: int, known: int) -> bytes:
    connection = sqlite3.connect(path)
    (found,) = connection.execute(
        "SELECT packed FROM online_rows WHERE entity = ? AND event_time = ? AND known_time = ?",
        (entity, event, known),
    ).fetchone()
    connection.close()
    return bytes(found)


def put(path: Path, entity: str, event: int, known: int, data: bytes) -> None:
    change(
        path,
        "UPDATE online_rows SET packed = ? WHERE entity = ? AND event_time = ? AND known_time = ?",
        data, entity, event, known,
    )  # fmt: skip


def forged(data: bytes, change_body: Callable[[bytearray], None]) -> bytes:
    """Row bytes with another content and a checksum that fits: what no checksum shows."""
    body = bytearray(data[8:])
    change_body(body)
    return struct.pack("<HxxI", 1, zlib.crc32(bytes(body))) + bytes(body)


def said(validation: StoreValidation) -> str:
    return "\n".join(validation.findings)


def name_of(entity: str, event: int, known: int) -> str:
    return f"{entity} at {render(event)}, known {render(known)}"


def test_an_undamaged_store_has_the_rows_and_roots_of_history(
    path: Path, history: pl.DataFrame
) -> None:
    found = validated(path, history)
    assert (found.verdict, found.findings) == (Verdict.PASS, ())
    assert found.rows == (history.height, history.height)
    assert history.height > 40, "revisions are versions of their own"
    assert len(found.days) == 20
    assert all(day.equal for day in found.days)


@pytest.mark.parametrize("bit", [0, 21, 51, 63])
def test_a_bit_of_one_value_is_found_and_the_row_named(
    path: Path, history: pl.DataFrame, bit: int
) -> None:
    entity, event, known = "USD_SGD", START + 5 * DAY, START + 5 * DAY + 3_600 * NANOS_PER_SECOND
    data = packed(path, entity, event, known)

    def flip(body: bytearray) -> None:
        place = len(body) - 16 + bit // 8  # in ret_1
        body[place] ^= 1 << bit % 8

    put(path, entity, event, known, forged(data, flip))
    found = validated(path, history)
    assert found.verdict is Verdict.FAIL
    assert f"first changed: {name_of(entity, event, known)}" in said(found)
    assert [day.day for day in found.days if not day.equal] == ["2026-03-07"]
    assert found.comparison is not None
    report = found.comparison.report
    (difference,) = report.differences
    assert (difference.key[:3], difference.feature) == ((entity, event, known), "ret_1")
    assert report.bitwise_equal == report.values_compared - 1
    assert "ret_1: 1 of" in said(found)


def test_a_bit_that_the_checksum_shows_is_named_too_and_the_other_rows_still_compared(
    path: Path, history: pl.DataFrame
) -> None:
    entity, event, known = "USD_SGD", START + 5 * DAY, START + 5 * DAY + 3_600 * NANOS_PER_SECOND
    data = bytearray(packed(path, entity, event, known))
    data[-3] ^= 1
    put(path, entity, event, known, bytes(data))
    found = validated(path, history)
    assert found.verdict is Verdict.FAIL
    assert f"the store cannot give {name_of(entity, event, known)}" in said(found)
    assert "does not have its checksum" in said(found)
    assert found.comparison is not None
    report = found.comparison.report
    assert (report.missing, report.extra) == (0, 0)
    assert report.values_compared == 3 * (history.height - 1 - hidden(history, entity))


def hidden(history: pl.DataFrame, entity: str) -> int:
    """Versions of an entity that were never the newest: they cannot be asked for by moment."""
    keys = history.filter(pl.col("instrument") == entity).select(
        "event_time", "known_time", "source_rank", "sequence"
    ).rows()  # fmt: skip
    seen = set()
    for event, known, *_ in keys:
        moment = max(event, known)
        seen.add(max(key for key in keys if key[0] <= moment and key[1] <= moment))
    return len(keys) - len(seen)


def test_a_row_that_is_gone_is_named(path: Path, history: pl.DataFrame) -> None:
    entity, event, known = "EUR_SGD", START + 15 * DAY, START + 15 * DAY + 3_600 * NANOS_PER_SECOND
    change(
        path,
        "DELETE FROM online_rows WHERE entity = ? AND event_time = ? AND known_time = ?",
        entity, event, known,
    )  # fmt: skip
    found = validated(path, history)
    assert found.verdict is Verdict.FAIL
    assert f"first missing: {name_of(entity, event, known)}" in said(found)
    assert "1 row is missing online" in said(found)
    assert found.rows == (history.height, history.height - 1)
    (day,) = [day for day in found.days if not day.equal]
    assert (day.day, day.offline_rows, day.online_rows) == ("2026-03-17", 2, 1)


def test_a_row_that_history_does_not_know_is_named(path: Path, history: pl.DataFrame) -> None:
    entity, event, known = "EUR_SGD", START + 15 * DAY, START + 15 * DAY + 3_600 * NANOS_PER_SECOND
    later = known + 1

    def move(body: bytearray) -> None:
        struct.pack_into("<q", body, 8, later)

    data = forged(packed(path, entity, event, known), move)
    change(
        path,
        "INSERT INTO online_rows VALUES ('daily', ?, ?, ?, 0, 15, ?)",
        entity, event, later, data,
    )  # fmt: skip
    found = validated(path, history)
    assert found.verdict is Verdict.FAIL
    assert f"first extra: {name_of(entity, event, later)}" in said(found)
    assert "1 row is online and not in history" in said(found)


def test_a_store_that_still_serves_the_version_before_a_revision_is_told_so(
    path: Path, history: pl.DataFrame
) -> None:
    revised = history.filter(
        (pl.col("instrument") == "EUR_SGD") & (pl.col("event_time") == START + 9 * DAY)
    )
    assert revised.height == 2
    known = int(revised["known_time"].to_numpy()[-1])
    change(
        path,
        "DELETE FROM online_rows WHERE entity = 'EUR_SGD' AND event_time = ? AND known_time = ?",
        START + 9 * DAY, known,
    )  # fmt: skip
    found = validated(path, history)
    assert found.verdict is Verdict.FAIL
    assert f"first missing: {name_of('EUR_SGD', START + 9 * DAY, known)}" in said(found)


def test_an_old_value_under_a_new_version_is_found(path: Path, history: pl.DataFrame) -> None:
    first, second = history.filter(
        (pl.col("instrument") == "EUR_SGD") & (pl.col("event_time") == START + 9 * DAY)
    )["known_time"].to_list()
    old = packed(path, "EUR_SGD", START + 9 * DAY, first)

    def keep_old_values(body: bytearray) -> None:
        body[-24:] = old[-24:]

    data = packed(path, "EUR_SGD", START + 9 * DAY, second)
    put(path, "EUR_SGD", START + 9 * DAY, second, forged(data, keep_old_values))
    found = validated(path, history)
    assert found.verdict is Verdict.FAIL
    assert f"first changed: {name_of('EUR_SGD', START + 9 * DAY, second)}" in said(found)
    assert found.comparison is not None
    (difference,) = found.comparison.report.differences
    assert difference.others == 2
    assert difference.offline != difference.online


def test_a_row_of_another_manifest_is_counted_apart_and_not_called_missing(
    path: Path, history: pl.DataFrame
) -> None:
    entity, event, known = "EUR_SGD", START + 3 * DAY, START + 3 * DAY + 3_600 * NANOS_PER_SECOND
    other = Manifest.of(replace(VIEW, features={**VIEW.features, "lag": col("mid").lag(1)})).hash

    def rename(body: bytearray) -> None:
        body[32:64] = bytes.fromhex(other)

    put(path, entity, event, known, forged(packed(path, entity, event, known), rename))
    found = validated(path, history)
    assert found.verdict is Verdict.FAIL
    assert f"1 row is computed under another manifest, {other[:12]}" in said(found)
    assert found.comparison is not None
    assert found.comparison.report.missing == 0
    assert found.comparison.foreign_keys[0][:3] == (entity, event, known)


def test_a_store_that_is_behind_is_told_from_which_row(
    tmp_path: Path, history: pl.DataFrame
) -> None:
    path = tmp_path / "behind.db"
    store = SqliteStore(path)
    feed = OnlineFeed(VIEW, store, **RULE)
    for batch in list(batches_of(VIEW, arrivals()))[:-1]:
        feed.take(batch)
    store.close()
    found = validated(path, history)
    assert found.verdict is Verdict.FAIL
    assert [day.day for day in found.days if not day.equal] == ["2026-03-21"]
    assert found.days[-1].online_rows == 0


def test_a_store_that_was_warmed_up_is_compared_from_its_first_whole_day(
    tmp_path: Path, history: pl.DataFrame
) -> None:
    path = tmp_path / "warm.db"
    store = SqliteStore(path)
    feed = OnlineFeed(VIEW, store, **RULE)
    everything = arrivals()
    live = START + 8 * DAY
    feed.warm_up(everything.filter(pl.col("known_time") < live))
    for batch in batches_of(VIEW, everything.filter(pl.col("known_time") >= live)):
        feed.take(batch)
    stored = read_stored(VIEW, store, history)
    since = complete_since(history, stored, max_versions=1_000)
    assert since == parse("2026-03-10T00:00Z")
    store.close()
    assert validated(path, history).verdict is Verdict.PASS
    assert validated(path, history, since=START).verdict is Verdict.FAIL, "asked for more"


def test_versions_that_a_bounded_store_dropped_are_not_called_missing(
    tmp_path: Path, history: pl.DataFrame
) -> None:
    path = tmp_path / "bounded.db"
    store = SqliteStore(path, max_versions=7)
    feed = OnlineFeed(VIEW, store, **RULE)
    for batch in batches_of(VIEW, arrivals()):
        feed.take(batch)
    store.close()
    found = validated(path, history, max_versions=7)
    assert found.verdict is Verdict.PASS
    assert 4 <= len(found.days) < 7


def test_a_bounded_store_of_minutes_is_compared_within_its_day(tmp_path: Path) -> None:
    view = FeatureView(
        "minutes", "ticks", "pair", {"mean": col("x").rolling_mean(3)}, Duration.of(days=1)
    )
    minute = 60 * 10**9
    begun = START + 13 * 60 * minute
    times = [begun + number * minute for number in range(90)]
    facts = pl.DataFrame(
        {
            "pair": "A",
            "event_time": times,
            "known_time": times,
            "source_rank": [0] * 90,
            "sequence": [0] * 90,
            "x": [float(number % 7) for number in range(90)],
        }
    )
    history = as_known_history(view, facts, margin=8)
    store = SqliteStore(tmp_path / "minutes.db", max_versions=50)
    feed = OnlineFeed(view, store, margin=8)
    for batch in batches_of(view, facts):
        feed.take(batch)
    validator = OfflineStoreValidator(
        view, store, lambda: Authority("", history), FixedClock(0), every=1, max_versions=50
    )
    found = validator.validate()
    assert (found.verdict, found.rows) == (Verdict.PASS, (49, 49))
    store.close()


def test_an_empty_store_and_a_failing_authority_decide_nothing(
    tmp_path: Path, history: pl.DataFrame
) -> None:
    empty = validated(tmp_path / "empty.db", history)
    assert empty.verdict is Verdict.INDETERMINATE
    assert "has no rows of daily" in said(empty)

    def absent() -> Authority:
        raise NotFound("table silver/market is empty")

    store = SqliteStore(tmp_path / "empty.db")
    clock = FixedClock(START)
    found = OfflineStoreValidator(VIEW, store, absent, clock, every=DAY).validate()
    assert (found.verdict, found.snapshot) == (Verdict.INDETERMINATE, None)
    assert found.findings == ("table silver/market is empty",)
    with pytest.raises(ConfigurationError, match="every 0 ns"):
        OfflineStoreValidator(VIEW, store, absent, clock, every=0)
    store.close()


def test_the_clock_decides_when_a_look_is_due(path: Path, history: pl.DataFrame) -> None:
    store, clock = SqliteStore(path), FixedClock(START)
    looks = []

    def authority() -> Authority:
        looks.append(clock.now())
        return Authority("s" * 64, history)

    validator = OfflineStoreValidator(VIEW, store, authority, clock, every=DAY)
    first = validator.validate_if_due()
    assert first is not None
    assert first.at == START
    assert validator.validate_if_due() is None
    clock.advance(DAY - 1)
    assert validator.validate_if_due() is None
    clock.advance(1)
    assert validator.validate_if_due() is not None
    assert looks == [START, START + DAY]
    assert first.to_json()["verdict"] == "PASS"
    store.close()


@pytest.mark.parametrize(
    ("column", "moved"), [("known_time", -1), ("known_time", 1), ("event_time", DAY)]
)
def test_a_whole_row_that_is_served_at_other_moments_is_a_wrong_answer(
    path: Path, history: pl.DataFrame, column: str, moved: int
) -> None:
    entity, event, known = "USD_SGD", START + 5 * DAY, START + 5 * DAY + 3_600 * NANOS_PER_SECOND
    change(
        path,
        f"UPDATE online_rows SET {column} = {column} + ? "
        "WHERE entity = ? AND event_time = ? AND known_time = ?",
        moved, entity, event, known,
    )  # fmt: skip
    found = validated(path, history)
    assert found.verdict is Verdict.FAIL
    assert found.comparison is not None
    assert found.comparison.report.holds, "every bit is right"
    answers = found.comparison.answers
    assert answers is not None
    assert answers.first[0].entity == entity
    if column == "known_time":
        moment = known - 1 if moved < 0 else known
        assert answers.wrong == 1
        assert f"the first for {entity} at {render(moment)}" in said(found)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(0, 42), byte=st.integers(0, 95), bit=st.integers(0, 7))
def test_whatever_bit_of_a_row_is_turned_the_store_does_not_pass(
    path: Path, history: pl.DataFrame, row: int, byte: int, bit: int
) -> None:
    if byte in {2, 3}:
        return  # two bytes of padding, which mean nothing
    keys = history.select("instrument", "event_time", "known_time").row(row)
    data = packed(path, *keys)
    assert len(data) == 8 + 32 + 32 + 3 * 8 == 96
    turned = bytearray(data)
    turned[byte] ^= 1 << bit
    put(path, *keys, bytes(turned))
    found = validated(path, history)
    put(path, *keys, data)
    assert found.verdict is Verdict.FAIL
    assert keys[0] in said(found)


def test_a_horizon_leaves_out_what_lies_outside(path: Path, history: pl.DataFrame) -> None:
    entity, event, known = "EUR_SGD", START + 15 * DAY, START + 15 * DAY + 3_600 * NANOS_PER_SECOND
    data = bytearray(packed(path, entity, event, known))
    data[-3] ^= 1
    put(path, entity, event, known, bytes(data))
    store = SqliteStore(path)
    stored = read_stored(VIEW, store, history)
    store.close()
    before = compare_store(VIEW, stored, history, Horizon(START, event))
    assert before.report.holds
    assert not any(one.damaged for one in before.refused), "only the revised row, never the newest"
    assert len(before.days) == 15
    assert any("unreadable beside" in one for one in before.judge(ParityPolicy()).reasons)
    at = compare_store(VIEW, stored, history, Horizon(event, event + 1))
    assert [one.key and one.key[:3] for one in at.refused] == [(entity, event, known)]
