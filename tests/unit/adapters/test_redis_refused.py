"""Servers that are unfit are refused in words, and no text ever shows a password."""

from __future__ import annotations

import logging
import traceback

import pytest

from assay.errors import AssayError, ConfigurationError, Unavailable
from assay.testing.online_store import stored_row
from assay.testing.redis_server import free_port

redis = pytest.importorskip("redis")

from assay.adapters.redis import RedisAddress, RedisStore  # noqa: E402

SECRET = "s3cr3t-w0rd"


def connect(server):
    return redis.Redis(unix_socket_path=str(server.socket))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://h", "redis://h:6379/0"),
        (f"redis://me:{SECRET}@h:7000/3", "redis://h:7000/3"),
        (f"rediss://:{SECRET}@h/1?ssl_ca_certs=/ca.pem", "rediss://h:6379/1"),
        ("redis://[::1]:7000", "redis://[::1]:7000/0"),
        (f"unix://:{SECRET}@/run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
    ],
)
def test_an_address_is_shown_without_its_password(url, shown):
    address = RedisAddress.parse(url)
    assert str(address) == shown
    assert SECRET not in repr(address)
    assert (address.connection()["password"] == SECRET) == (SECRET in url)


def test_a_password_may_hold_anything_when_it_is_percent_encoded():
    address = RedisAddress.parse("redis://us%40er:p%2F%3A%40@h")
    assert address.connection()["username"] == "us@er"
    assert address.connection()["password"] == "p/:@"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"http://:{SECRET}@h", "begins with 'http'"),
        (f"{SECRET}", "begins with ''"),
        (f"redis://:{SECRET}@h:port", "cannot be read"),
        (f"redis://:{SECRET}@h:99999", "cannot be read"),
        (f"redis://:{SECRET}@h/first", "cannot be read"),
        (f"redis://:{SECRET}@h/-1", "cannot be read"),
        (f"redis://:{SECRET}@[h/0", "cannot be read"),
        (f"redis://:{SECRET}@h/0?decode_responses=true", "option 'decode_responses'"),
        (f"rediss://:{SECRET}@h/0?ssl_ca_cert=/ca", "option 'ssl_ca_cert'"),
    ],
)
def test_a_wrong_address_is_refused_without_repeating_it(url, words):
    with pytest.raises(ConfigurationError) as caught:
        RedisAddress.parse(url)
    assert words in caught.value.message
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_no_server_is_said_with_where_and_how_to_start_one():
    with pytest.raises(Unavailable) as caught:
        RedisStore(f"redis://:{SECRET}@127.0.0.1:{free_port()}/0")
    assert "127.0.0.1" in caught.value.message
    assert "redis-server" in caught.value.hint
    with pytest.raises(Unavailable, match=r"unix:///nowhere\.sock"):
        RedisStore("unix:///nowhere.sock")


def test_a_wrong_or_missing_password_is_said_and_never_shown(start_redis, caplog):
    server = start_redis("--requirepass", SECRET)
    caplog.set_level(logging.DEBUG)
    texts = []
    wrong = f"unix://:{SECRET}x@{server.socket}?db=0"
    for url in (wrong, wrong.replace("//:", "//nobody:"), server.url):
        with pytest.raises(ConfigurationError) as caught:
            RedisStore(url)
        assert "password" in caught.value.message
        texts += traceback.format_exception(caught.value)
    right = f"unix://:{SECRET}@{server.socket}?db=0"
    store = RedisStore(right)
    store.write("fx", [stored_row()])
    texts.append(repr(store))
    server.kill()
    with pytest.raises(Unavailable) as lost:
        store.read("fx", ["A"])
    texts += traceback.format_exception(lost.value)
    assert SECRET not in "".join(texts) + caplog.text
    store.close()


def test_a_server_that_is_too_old_is_refused_with_its_version(start_redis):
    server = start_redis("--rename-command", "SMISMEMBER", "")
    with connect(server) as client:
        version = client.info("server")["redis_version"]
    with pytest.raises(ConfigurationError, match=rf"is {version}: expected 6\.2 or later"):
        RedisStore(server.url)


def test_a_server_that_drops_rows_when_memory_is_short_is_refused(start_redis):
    server = start_redis()
    retention = {"retention": {"fx": 10**9}, "clock": object()}
    with connect(server) as client:
        for policy, options, refused in (
            ("allkeys-lru", {}, True),
            ("allkeys-random", retention, True),
            ("volatile-ttl", retention, True),
            ("volatile-ttl", {}, False),  # it drops keys that end, and ours do not
            ("noeviction", retention, False),
        ):
            client.config_set("maxmemory-policy", policy)
            client.config_set("maxmemory", 0)
            RedisStore(server.url, **options).close()
            client.config_set("maxmemory", 10**8)
            if refused:
                with pytest.raises(ConfigurationError, match=policy) as caught:
                    RedisStore(server.url, **options)
                assert "noeviction" in caught.value.hint
            else:
                RedisStore(server.url, **options).close()


def test_a_database_that_the_server_does_not_have_is_refused(redis_server):
    with pytest.raises(ConfigurationError, match="no such database"):
        RedisStore(redis_server.url.replace("db=0", "db=99"))


def test_a_replica_serves_reads_and_refuses_writes_by_name(start_redis):
    server = start_redis()
    store = RedisStore(server.url)
    store.write("fx", [stored_row()])
    with connect(server) as client:
        client.replicaof("127.0.0.1", free_port())
    reader = RedisStore(server.url)
    for one in (store, reader):
        assert one.read("fx", ["A"]) == one.read("fx", ["A"], 1) == [stored_row()]
        assert one.read("fx", ["A"], 0) == [None]
        assert one.history("fx", "A") == [stored_row()]
        with pytest.raises(Unavailable, match="replica") as caught:
            one.write("fx", [stored_row(event_time=2)])
        assert "primary" in caught.value.hint
        one.close()


def test_a_full_server_takes_a_batch_whole_or_not_at_all(start_redis):
    server = start_redis()
    store = RedisStore(server.url)
    values = tuple(range(200))

    def batch(number):
        return [stored_row(f"E{n}", number, values=values) for n in range(100)]

    store.write("fx", batch(0))
    with connect(server) as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 300_000)
    written, refused = 0, None
    while refused is None and written < 50:
        try:
            store.write("fx", batch(written + 1))
            written += 1
        except Unavailable as error:
            refused = error
    assert 0 < written < 50
    assert "out of memory and takes no rows; nothing was written" in refused.message
    held = [len(store.history("fx", f"E{n}")) for n in range(100)]
    assert held == [written + 1] * 100
    assert store.read("fx", ["E0"]) == [batch(written)[0]]
    store.close()


WRITES = ("set", "zadd", "zremrangebyrank", "pexpireat", "persist", "del")


@pytest.mark.parametrize("missing", WRITES)
def test_a_user_who_may_not_do_every_write_does_none_of_them(start_redis, missing):
    server = start_redis()
    good = RedisStore(server.url)
    good.write("fx", [stored_row(event_time=n) for n in range(3)])
    with connect(server) as client:
        client.execute_command(
            "ACL", "SETUSER", "desk", "on", f">{SECRET}", "~*", "+@all", f"-{missing}"
        )
        before = {key: client.dump(key) for key in client.keys("*")}
        store = RedisStore(f"unix://desk:{SECRET}@{server.socket}?db=0", max_versions=2)
        with pytest.raises(AssayError) as caught:
            store.write("fx", [stored_row("B"), stored_row(event_time=9), stored_row(event_time=1)])
        assert {key: client.dump(key) for key in client.keys("*")} == before
    assert isinstance(caught.value, ConfigurationError)
    assert "+zadd" in caught.value.hint
    assert SECRET not in str(caught.value)
    good.close()
    store.close()


def test_a_user_with_the_permissions_that_are_named_can_do_everything(start_redis):
    from assay.adapters.redis.faults import PERMITTED

    server = start_redis()
    with connect(server) as client:
        client.execute_command(
            "ACL", "SETUSER", "desk", "on", f">{SECRET}", "~{assay*", *PERMITTED.split()
        )
    store = RedisStore(f"unix://desk:{SECRET}@{server.socket}?db=0", max_versions=2)
    for time in (5, 9, 7, 6):
        assert store.write("fx", [stored_row(event_time=time)]) == 1
    assert store.read("fx", ["A"], 8) == [stored_row(event_time=7)]
    assert len(store.history("fx", "A")) == 2
    assert store.views() == ("fx",)
    assert store.entities("fx") == ["A"]
    assert store.drop("fx") == 1
    assert store.views() == ()
    store.close()
