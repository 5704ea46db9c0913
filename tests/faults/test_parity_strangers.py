"""Rows of entities that history does not know are seen by the parity proof, in every store."""

from __future__ import annotations

import sqlite3
from typing import Any

import numpy as np
import polars as pl
import pytest

from assay.domain.instants import NANOS_PER_SECOND, parse
from assay.domain.verdicts import Verdict
from assay.features import FeatureView, Manifest, Sessions, col
from assay.features.offline.arrivals import as_known_history
from assay.features.online import (
    MemoryStore,
    OnlineFeed,
    OnlineStore,
    SqliteStore,
    StoredRow,
    batches_of,
)
from assay.features.parity import Horizon, ParityPolicy, compare_store, complete_since, read_stored

DAY = 86_400 * NANOS_PER_SECOND
START = parse("2026-03-02T15:00Z")
VIEW = FeatureView(
    "daily", "market", "instrument", {"mean_3": col("mid").rolling_mean(3)}, Sessions(3)
)
RULE: Any = {"margin": 8, "close_with_batch": True}
FACTS = pl.DataFrame(
    [
        (name, START + n * DAY, START + n * DAY + 1, 0, n, 1.0 + n / 7)
        for n in range(12)
        for name in ("EUR_SGD", "USD_SGD")
    ],
    schema=["instrument", "event_time", "known_time", "source_rank", "sequence", "mid"],
    orient="row",
)
HISTORY = as_known_history(VIEW, FACTS, **RULE)
KEPT = 20


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request, tmp_path):
    if request.param == "memory":
        opened: OnlineStore = MemoryStore(max_versions=KEPT)
    elif request.param == "sqlite":
        opened = SqliteStore(tmp_path / "online.db", max_versions=KEPT)
    else:
        from assay.adapters.redis import RedisStore

        url = request.getfixturevalue("redis_server").url
        opened = RedisStore(url, max_versions=KEPT)
    feed = OnlineFeed(VIEW, opened, **RULE)
    feed.warm_up(FACTS.filter(pl.col("event_time") < START + 4 * DAY))
    for batch in batches_of(VIEW, FACTS.filter(pl.col("event_time") >= START + 4 * DAY)):
        feed.take(batch)
    yield opened
    opened.close()


def ghost(n: int, name: str = "XXX_YYY") -> StoredRow:
    time = START + n * DAY
    return StoredRow(name, time, time + 1, 0, n, Manifest.of(VIEW).hash, np.array([1.0]))


def compared(store: OnlineStore):
    stored = read_stored(VIEW, store, HISTORY)
    since = complete_since(HISTORY, stored, max_versions=KEPT)
    assert since == parse("2026-03-06T00:00Z")
    return compare_store(VIEW, stored, HISTORY, Horizon(since))


def test_a_row_of_an_unknown_entity_is_extra_and_named(store) -> None:
    assert compared(store).judge(ParityPolicy()).verdict is Verdict.PASS
    store.write("daily", [ghost(6), ghost(7, "AAA_BBB")])
    found = compared(store)
    assert (found.report.extra, found.report.missing) == (2, 0)
    assert sorted(key[0] for key in found.report.extra_keys) == ["AAA_BBB", "XXX_YYY"]
    assert found.online_rows == found.offline_rows + 2
    judged = found.judge(ParityPolicy())
    assert judged.verdict is Verdict.FAIL
    assert any("2 rows" in reason and "not in history" in reason for reason in judged.reasons)
    assert [day.equal for day in found.days].count(False) == 2


def test_unknown_entities_do_not_move_the_day_from_which_the_store_is_whole(store) -> None:
    # Known before everything else, and as many as the store keeps of an entity.
    store.write("daily", [ghost(n) for n in range(-12, KEPT - 12)])
    assert compared(store).report.extra == KEPT - 12 - 4


def test_a_damaged_row_of_an_unknown_entity_is_named(tmp_path) -> None:
    store = SqliteStore(tmp_path / "online.db")
    store.write("daily", [ghost(6)])
    connection = sqlite3.connect(tmp_path / "online.db")
    with connection:
        connection.execute("UPDATE online_rows SET packed = zeroblob(80)")
    connection.close()
    (refused,) = read_stored(VIEW, store, HISTORY).refused
    assert (refused.entity, refused.key, refused.damaged) == ("XXX_YYY", None, True)
    store.close()
