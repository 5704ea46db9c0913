"""What the Redis store does beyond the port: scripts, damaged keys, lost replies, many writers."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress

import pytest

from assay.domain.order import VersionKey
from assay.errors import (
    ConfigurationError,
    Conflict,
    ContractViolation,
    IncompatibleVersion,
    Tampered,
    Unavailable,
)
from assay.features.online.store import pack_row
from assay.testing.online_store import stored_row

redis = pytest.importorskip("redis")

from assay.adapters.redis import RedisStore, batches, calls  # noqa: E402
from assay.adapters.redis.keys import ViewKeys, moment_bytes, place_bytes  # noqa: E402

NEWEST, EARLIER = "{assay:fx}newest:A", "{assay:fx}earlier:A"


@pytest.fixture
def client(redis_server):
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        yield client


@pytest.fixture
def store(redis_server):
    store = RedisStore(redis_server.url)
    yield store
    store.close()


def everything(client):
    return {key: client.dump(key) for key in client.keys("*")}


def test_bytes_of_places_and_moments_sort_as_they_do():
    generator = random.Random(1)
    limits = [-(2**63), -(2**63) + 1, -1, 0, 1, 2**53, 2**53 + 1, 2**63 - 1]
    numbers = limits + [generator.randrange(-(2**63), 2**63) for _ in range(40)]
    assert sorted(numbers) == sorted(numbers, key=moment_bytes)
    places = [VersionKey(*(generator.choice(numbers) for _ in range(4))) for _ in range(400)]
    places += [VersionKey(*(generator.choice(limits[:3]) for _ in range(4))) for _ in range(400)]
    assert sorted(places) == sorted(places, key=place_bytes)
    assert len({place_bytes(place) for place in places}) == len(set(places))
    assert all(len(place_bytes(place)) == 32 for place in places)


def test_one_view_has_one_slot_whatever_it_is_called():
    views = ["fx", "a}b", "}", "{", "", "{}", "a:b", "%7D", "ключ", "a{x}b"]
    tags = set()
    for view in views:
        keys = ViewKeys.of("desk {1}", view)
        found = {key[key.index(b"{") + 1 : key.index(b"}")] for key in
                 (keys.marker, keys.nothing, keys.newest, keys.earlier)}  # fmt: skip
        assert len(found) == 1
        tags |= found
    assert len(tags) == len(views)


def test_a_newest_row_is_its_packed_bytes_and_nothing_else(store, client):
    row = stored_row(values=(1.5, 2.5))
    store.write("fx", [row])
    assert client.get(NEWEST) == pack_row("fx", row)
    assert sorted(client.keys("*")) == [b"{assay:fx}newest:A", b"{assay:fx}view", b"{assay}views"]


def test_a_server_that_forgot_the_scripts_is_told_them_again(store, client):
    rows = [stored_row(event_time=n) for n in range(3)]
    for number, row in enumerate(rows):
        client.script_flush()
        assert store.write("fx", [row]) == 1
        client.script_flush()
        assert store.read("fx", ["A"], number) == [row]
        client.script_flush()
        assert store.history("fx", "A") == rows[: number + 1]


def test_many_views_and_entities_are_one_command(store, client):
    for view in ("fx", "news", "macro"):
        store.write(view, [stored_row(name, time) for name in "ABC" for time in (1, 3)])
    asked = {"fx": ["A", "B"], "macro": ["C"], "nothing": ["A"], "news": ["C", "B", "A"]}
    store.read_views(asked, 1)  # the script is known from here on
    for as_of, commands in ((None, {"mget": 1}), (3, {"mget": 1}), (2, {"mget": 1, "evalsha": 1})):
        client.config_resetstat()
        store.read_views(asked, as_of)
        stats = client.info("commandstats")
        sent = {"mget", "evalsha", "eval", "get", "multi"}
        found = {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}
        inside = {"get"} if as_of == 2 else set()  # what the script does is no round trip
        assert {name: n for name, n in found.items() if name in sent - inside} == commands


def test_scripts_that_a_server_forgot_are_told_it_again_for_many_views(store, client):
    for view in ("fx", "news"):
        store.write(view, [stored_row("A", time) for time in (1, 3)])
    client.script_flush()
    assert store.read_views({"fx": ["A"], "news": ["A"]}, 2) == {
        "fx": [stored_row("A", 1)],
        "news": [stored_row("A", 1)],
    }


def test_a_dropped_view_leaves_no_key(store, client):
    for view in ("fx", "fx@1"):
        store.write(view, [stored_row(name, time) for name in "ABC" for time in (1, 2)])
    client.set("{assay:fx}", "somebody else's")
    assert store.drop("fx@1") == 3
    assert not client.keys("{assay:fx@1}*")
    assert not client.keys("{assay:fx%401}*")
    assert client.smembers("{assay}views") == {b"fx"}
    assert store.drop("fx") == 3
    assert client.keys("*") == []


def test_a_drop_that_is_cut_off_anywhere_is_found_and_finished(store, client, monkeypatch):
    monkeypatch.setattr(calls, "AT_ONCE", 2)
    rows = [stored_row(name, time) for name in "ABC" for time in (1, 2)]
    answer = store._connection.answer
    for requests in range(1, 8):
        store.write("fx", rows)
        store.write("other", rows)
        left = [None] * requests

        def cut_off(request, left=left):
            if not left:
                raise Unavailable("the process died here")
            left.pop()
            return answer(request)

        monkeypatch.setattr(store._connection, "answer", cut_off)
        finished = True
        try:
            store.drop("fx")
        except Unavailable:
            finished = False
        monkeypatch.setattr(store._connection, "answer", answer)
        has_rows = bool(client.keys("{assay:fx}*"))
        assert ("fx" in store.views()) == has_rows
        assert has_rows is (requests < 5)
        assert finished is (requests >= 6)
        store.drop("fx")
        assert client.keys("{assay:fx}*") == []
        assert store.history("other", "A") == [row for row in rows if row.entity == "A"]


def test_another_process_that_wrote_before_a_drop_lists_the_view_again(redis_server, store):
    other = RedisStore(redis_server.url)
    other.write("fx", [stored_row("A")])
    store.drop("fx")
    assert other.write("fx", [stored_row("B")]) == 1
    assert store.views() == ("fx",)
    assert store.entities("fx") == ["B"]
    other.close()


def test_namespaces_do_not_see_each_other(redis_server):
    one, other = (RedisStore(redis_server.url, namespace=name) for name in ("one", "other"))
    one.write("fx", [stored_row(values=(1.0,))])
    assert other.read("fx", ["A"]) == [None]
    assert other.views() == ()
    other.write("fx", [stored_row(values=(2.0,))])
    assert one.read("fx", ["A"]) == [stored_row(values=(1.0,))]
    with pytest.raises(ConfigurationError, match="namespace"):
        RedisStore(redis_server.url, namespace="")
    one.close()
    other.close()


def test_any_flipped_bit_of_a_newest_row_is_found_and_never_served(store, client):
    row = stored_row(values=(1.5, 2.5))
    store.write("fx", [row])
    whole = client.get(NEWEST)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        client.set(NEWEST, bytes(damaged))
        if place in {2, 3}:  # two bytes that mean nothing
            continue
        with pytest.raises((Tampered, IncompatibleVersion), match="'A'"):
            store.read("fx", ["B", "A"])
        with pytest.raises((Tampered, IncompatibleVersion)):
            store.history("fx", "A")


def test_a_damaged_earlier_row_is_found_and_never_served(store, client):
    store.write("fx", [stored_row(event_time=1), stored_row(event_time=2)])
    (member,) = client.zrange(EARLIER, 0, -1)
    for place in range(len(member)):
        damaged = bytearray(member)
        damaged[place] ^= 4
        client.delete(EARLIER)
        client.zadd(EARLIER, {bytes(damaged): 0})
        if place - 32 in {2, 3}:
            continue
        with pytest.raises((Tampered, IncompatibleVersion), match="'A'"):
            store.history("fx", "A")
    client.delete(EARLIER)
    client.zadd(EARLIER, {member[:40]: 0})
    with pytest.raises(Tampered, match="cut short"):
        store.read("fx", ["A"], 1)


def test_nothing_is_written_over_rows_that_cannot_be_compared(store, client):
    batch = [stored_row("C", 5), stored_row("A", 5)]
    client.set(NEWEST, b"short")
    with pytest.raises(Tampered, match="'A' in view fx is cut short"):
        store.write("fx", batch)
    client.set(NEWEST, b"\x03\x00" + pack_row("fx", stored_row())[2:])
    with pytest.raises(IncompatibleVersion, match="another layout"):
        store.write("fx", batch)
    for kind, key in (("list", NEWEST), ("list", EARLIER), ("string", EARLIER)):
        client.delete(NEWEST, EARLIER)
        client.set(key, "x") if kind == "string" else client.rpush(key, "x")
        before = everything(client)
        with pytest.raises(Tampered, match="something else"):
            store.write("fx", batch)
        assert everything(client) == before


def test_what_is_left_of_an_entity_without_its_newest_row_is_never_served(store, client):
    store.write("fx", [stored_row(event_time=n) for n in range(4)])
    client.delete(NEWEST)
    assert store.read("fx", ["A"]) == store.read("fx", ["A"], 2) == [None]
    assert store.history("fx", "A") == []
    assert store.write("fx", [stored_row(event_time=2)]) == 1
    assert store.history("fx", "A") == [stored_row(event_time=2)]
    assert not client.exists(EARLIER)


def test_a_store_that_keeps_fewer_versions_cuts_what_it_writes_to(redis_server, store, client):
    store.write("fx", [stored_row(event_time=n) for n in range(9)])
    for kept in (4, 1):
        smaller = RedisStore(redis_server.url, max_versions=kept)
        smaller.write("fx", [stored_row(event_time=100 - kept)])
        assert len(smaller.history("fx", "A")) == kept
        smaller.close()
    assert not client.exists(EARLIER)


def test_views_are_listed_again_after_the_server_lost_everything(store, client):
    store.write("fx", [stored_row()])
    client.flushall()
    assert store.views() == ()
    store.write("fx", [stored_row()])
    assert store.views() == ("fx",)


def test_moments_outside_of_all_time_see_nothing_or_everything(store):
    rows = [stored_row(event_time=time) for time in (-(2**63), 2**63 - 1)]
    store.write("fx", rows)
    store.write("fx", [rows[0]._replace(entity="B")])
    assert store.read("fx", ["A", "B"], -(2**63) - 1) == [None, None]
    assert store.read("fx", ["A"], -(2**63)) == rows[:1]
    assert store.read("fx", ["A"], 2**63) == rows[1:]


def test_a_refused_batch_leaves_no_view_behind(store):
    with pytest.raises(Conflict):
        store.write("fx", [stored_row(), stored_row(values=(3.0,))])
    with pytest.raises(ContractViolation, match="UTF-8"):
        store.write("\ud800", [stored_row()])
    assert store.views() == ()


def test_a_batch_that_would_hold_the_server_up_is_refused(store, monkeypatch):
    monkeypatch.setattr(batches, "MOST_ROWS", 3)
    rows = [stored_row(event_time=n) for n in range(4)]
    with pytest.raises(ContractViolation, match="4 rows"):
        store.write("fx", rows)
    monkeypatch.setattr(batches, "MOST_BYTES", 200)
    with pytest.raises(ContractViolation, match="264 bytes"):
        store.write("fx", rows[:3])
    assert store.write("fx", rows[:2]) == 2


def test_writers_that_race_leave_the_largest_versions_and_never_a_doubled_one(redis_server):
    generator = random.Random(5)
    rows = [stored_row("A", n // 3, n % 3 + n // 3, sequence=n, values=(n,)) for n in range(300)]
    shares = [generator.sample(rows, 200) for _ in range(4)]
    stores = [RedisStore(redis_server.url, max_versions=50) for _ in shares]
    failed = []

    def write(store, share):
        try:
            for start in range(0, len(share), 7):
                store.write("fx", share[start : start + 7])
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=one) for one in zip(stores, shares, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    written = {row.key: row for share in shares for row in share}
    expected = [written[key] for key in sorted(written)[-50:]]
    # A row below the last fifty may be added and cut any number of times.
    assert stores[0].history("fx", "A") == expected
    for store in stores:
        store.close()


def test_a_closed_store_says_so(redis_server):
    store = RedisStore(redis_server.url)
    store.write("fx", [stored_row()])
    store.close()
    store.close()
    for call in (
        lambda: store.read("fx", ["A"]),
        lambda: store.read("fx", ["A"], 5),
        lambda: store.write("fx", [stored_row()]),
        lambda: store.history("fx", "A"),
        store.views,
    ):
        with pytest.raises(Unavailable, match="is closed"):
            call()


class LossyProxy:
    """Passes everything on, and cuts the connection in place of an answer when it is told to."""

    def __init__(self, target):
        self.target, self.lose = target, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}/0"
        self.ends, self.threads = [], []
        self.run(self.accept)

    def run(self, work, *arguments):
        self.threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self.threads[-1].start()

    def accept(self):
        with suppress(OSError):  # closed
            while True:
                near, far = self.listener.accept()[0], socket.socket(socket.AF_UNIX)
                far.connect(str(self.target))
                self.ends += (near, far)
                self.run(self.pump, near, far, False)
                self.run(self.pump, far, near, True)

    def pump(self, source, sink, answers):
        with suppress(OSError):
            while data := source.recv(65_536):
                if answers and self.lose:
                    self.lose = False
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        for end in self.ends:
            end.close()


def test_a_write_whose_reply_is_lost_is_sent_once_and_may_be_written_again(redis_server, client):
    proxy = LossyProxy(redis_server.socket)
    store = RedisStore(proxy.url)
    store.write("fx", [stored_row("A", 1)])
    before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    proxy.lose = True
    batch = [stored_row("A", 2), stored_row("B", 2)]
    with pytest.raises(Unavailable) as caught:
        store.write("fx", batch)
    assert "127.0.0.1" in str(caught.value)
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 1
    assert store.write("fx", batch) == 0
    assert store.history("fx", "A") == [stored_row("A", 1), stored_row("A", 2)]
    store.close()
    proxy.close()


def test_a_store_goes_on_after_its_server_came_back(start_redis):
    server = start_redis("--appendonly", "yes")
    store = RedisStore(server.url)
    store.write("fx", [stored_row()])
    server.kill()
    with pytest.raises(Unavailable) as caught:
        store.read("fx", ["A"])
    assert str(server.socket) in caught.value.message
    assert caught.value.hint is not None
    server.start()
    assert store.read("fx", ["A"]) == [stored_row()]
    assert store.write("fx", [stored_row(event_time=2)]) == 1
    store.close()
