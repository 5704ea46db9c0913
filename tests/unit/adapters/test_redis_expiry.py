"""Rows end by their view's retention, measured from the event by the clock that is given."""

from __future__ import annotations

import pytest

from assay.domain.instants import MAX_INSTANT
from assay.errors import ConfigurationError, ContractViolation
from assay.testing.clocks import FixedClock
from assay.testing.online_store import stored_row

redis = pytest.importorskip("redis")

from assay.adapters.redis import RedisStore  # noqa: E402
from assay.adapters.redis.batches import LEAST_LIFE  # noqa: E402

HOUR = 3_600 * 10**9
DAY = 24 * HOUR
NOON = 1_700_000_000 * 10**9
KEYS = ("{assay:fx}newest:A", "{assay:fx}earlier:A", "{assay:fx}view")


@pytest.fixture
def client(redis_server):
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        yield client


@pytest.fixture
def open_store(redis_server):
    opened = []

    def open_store(clock, days=3, **options):
        store = RedisStore(redis_server.url, retention={"fx": days * DAY}, clock=clock, **options)
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        store.close()


def hours_left(client, key):
    """Hours until a key ends, by the server's clock; None where it never does."""
    left = client.pttl(key)
    assert left != -2, key
    return None if left == -1 else left / 3_600_000


def about(hours):
    return pytest.approx(hours, abs=0.02)  # a minute, for a slow machine


def test_rows_live_for_the_retention_after_their_newest_event(open_store, client):
    clock = FixedClock(NOON)
    store = open_store(clock)
    store.write("fx", [stored_row("A", NOON - 10 * HOUR), stored_row("A", NOON - 4 * HOUR)])
    assert [hours_left(client, key) for key in KEYS] == [about(68)] * 3
    clock.advance(HOUR)
    store.write("fx", [stored_row("A", NOON - 20 * HOUR)])  # an older one changes nothing
    assert hours_left(client, KEYS[0]) == about(68)
    store.write("fx", [stored_row("A", NOON + HOUR)])
    assert [hours_left(client, key) for key in KEYS] == [about(72)] * 3
    store.write("fx", [stored_row("B", NOON)])
    assert hours_left(client, "{assay:fx}newest:B") == about(71)
    assert hours_left(client, KEYS[2]) == about(72)  # of the longest one
    store.write("fx", [stored_row("C", NOON + 9 * HOUR), stored_row("D", NOON + 8 * HOUR)])
    assert hours_left(client, KEYS[2]) == about(80)


def test_rows_of_a_promoted_manifest_live_as_long_as_those_of_their_view(open_store, client):
    store = open_store(FixedClock(NOON))
    store.write("fx@0123456789ab.1", [stored_row("A", NOON)])
    store.write("other@0123456789ab.1", [stored_row("A", NOON)])
    assert hours_left(client, "{assay:fx%400123456789ab.1}newest:A") == about(72)
    assert hours_left(client, "{assay:other%400123456789ab.1}newest:A") is None


def test_a_replay_of_old_rows_lives_as_long_as_they_did_then(open_store, client):
    clock = FixedClock(0)
    store = open_store(clock)
    for day in range(5):
        clock.advance(DAY)
        store.write("fx", [stored_row("A", (day + 1) * DAY - HOUR)])
        assert hours_left(client, KEYS[0]) == about(71)
    assert len(store.history("fx", "A")) == 5


def test_a_backfill_of_what_is_past_its_retention_stays_long_enough_to_be_proven(
    open_store, client
):
    store = open_store(FixedClock(NOON))
    assert store.write("fx", [stored_row("A", NOON - 365 * DAY)]) == 1
    assert hours_left(client, KEYS[0]) == about(LEAST_LIFE / HOUR)
    assert store.read("fx", ["A"]) == [stored_row("A", NOON - 365 * DAY)]


def test_an_older_row_that_begins_the_history_ends_with_the_newest(open_store, client):
    store = open_store(FixedClock(NOON))
    store.write("fx", [stored_row("A", NOON)])
    store.write("fx", [stored_row("A", NOON - 40 * HOUR)])
    assert [hours_left(client, key) for key in KEYS] == [about(72)] * 3


def test_events_at_the_end_of_time_do_not_overflow(open_store, client):
    store = open_store(FixedClock(-(2**63)))
    store.write("fx", [stored_row("A", MAX_INSTANT), stored_row("A", MAX_INSTANT - 1)])
    assert hours_left(client, KEYS[0]) > 24 * 365 * 500
    assert len(store.history("fx", "A")) == 2


def test_rows_never_end_unless_a_retention_is_given(open_store, redis_server, client):
    store = open_store(FixedClock(NOON))
    store.write("news", [stored_row("A", NOON), stored_row("A", NOON - 1)])
    assert client.pttl("{assay:news}newest:A") == client.pttl("{assay:news}earlier:A") == -1
    assert client.pttl("{assay:news}view") == -1
    store.write("fx", [stored_row("A", NOON), stored_row("A", NOON - 1)])
    lasting = RedisStore(redis_server.url)
    lasting.write("fx", [stored_row("A", NOON + 1)])
    assert [client.pttl(key) for key in KEYS] == [-1] * 3
    store.write("fx", [stored_row("B", NOON)])
    assert client.pttl(KEYS[2]) == -1  # while any row of the view lasts
    lasting.close()


def test_a_view_whose_rows_have_all_ended_is_not_listed_and_begins_anew(open_store, client):
    store = open_store(FixedClock(NOON))
    store.write("fx", [stored_row("A", NOON), stored_row("A", NOON - 1)])
    assert store.views() == ("fx",)
    for key in KEYS:
        client.pexpireat(key, 1)  # the server's clock is not ours to move
    assert store.read("fx", ["A"]) == [None]
    assert store.history("fx", "A") == []
    assert store.views() == ()
    assert store.write("fx", [stored_row("A", NOON - 1)]) == 1
    assert store.views() == ("fx",)


def test_a_retention_needs_a_clock_and_a_positive_time(redis_server):
    with pytest.raises(ConfigurationError, match="clock"):
        RedisStore(redis_server.url, retention={"fx": DAY})
    with pytest.raises(ContractViolation, match="view fx: retention 0"):
        RedisStore(redis_server.url, retention={"fx": 0}, clock=FixedClock(0))


def test_a_server_that_logs_scripts_in_place_of_their_writes_is_no_exception(start_redis):
    server = start_redis("--appendonly", "yes")
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        try:
            client.config_set("lua-replicate-commands", "no")
        except redis.ResponseError:
            pytest.skip("servers from 7.0 on have no such setting")
    options = {"retention": {"fx": DAY}, "clock": FixedClock(NOON)}
    store = RedisStore(server.url, **options)
    for time in (NOON, NOON + 2, NOON + 1):
        assert store.write("fx", [stored_row("A", time), stored_row("B", time)]) == 2
    server.kill()
    server.start()
    assert [row.event_time for row in store.history("fx", "B")] == [NOON, NOON + 1, NOON + 2]
    store.close()


def test_switching_a_retention_on_and_off_again_keeps_whole_histories(
    open_store, redis_server, client
):
    lasting, ending = RedisStore(redis_server.url), open_store(FixedClock(NOON))
    for entity in "AB":
        lasting.write("fx", [stored_row(entity, NOON - n) for n in range(3)])
    assert client.get(KEYS[2]) == b"1"
    ending.write("fx", [stored_row("A", NOON + 1), stored_row("B", NOON + 1)])
    assert [hours_left(client, key) for key in KEYS[:2]] == [about(72)] * 2
    assert (client.get(KEYS[2]), client.pttl(KEYS[2])) == (b"2", -1)
    lasting.write("fx", [stored_row("A", NOON + 2)])
    lasting.write("fx", [stored_row("B", NOON + 2)])
    for entity in "AB":
        for part in ("newest", "earlier"):
            assert client.pttl(f"{{assay:fx}}{part}:{entity}") == -1
    assert client.get(KEYS[2]) == b"2"
    lasting.close()
