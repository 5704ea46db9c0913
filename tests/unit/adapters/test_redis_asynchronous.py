"""The awaited store keeps the same promises: the same suite, driven through an event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from assay.errors import ConfigurationError, Unavailable
from assay.testing.online_store import OnlineStoreTests, stored_row
from assay.testing.redis_server import free_port

pytest.importorskip("redis")

from assay.adapters.redis import AsyncRedisStore, RedisStore


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Awaited:
    """The port over an awaited store: threads hand their calls to its loop."""

    def __init__(self, loop, url, **options):
        self._loop = loop
        self._store = loop.wait(AsyncRedisStore.open(url, **options))

    def __getattr__(self, name):
        method = getattr(self._store, name)
        return lambda *given: self._loop.wait(method(*given))


@pytest.fixture(scope="module")
def loop():
    loop = Loop()
    yield loop
    loop.close()


class TestAsyncRedisStore(OnlineStoreTests):
    durable = True

    @pytest.fixture
    def open_store(self, loop, redis_server):
        return lambda **options: Awaited(loop, redis_server.url, **options)


def test_what_one_store_writes_the_other_reads(redis_server):
    async def work():
        awaited = await AsyncRedisStore.open(redis_server.url)
        plain = RedisStore(redis_server.url)
        assert await awaited.write("fx", [stored_row()]) == 1
        assert plain.write("fx", [stored_row(), stored_row("B", 3)]) == 1
        assert await awaited.read("fx", ["A", "B"]) == plain.read("fx", ["A", "B"])
        assert await awaited.read("fx", ["A", "B"], 2) == plain.read("fx", ["A", "B"], 2)
        assert await awaited.views() == plain.views() == ("fx",)
        plain.close()
        await awaited.close()

    asyncio.run(work())


def test_many_calls_at_once_each_get_their_own_answer(redis_server):
    async def work():
        store = await AsyncRedisStore.open(redis_server.url)
        rows = [stored_row(f"E{n}", values=(n,)) for n in range(60)]
        added = await asyncio.gather(*(store.write("fx", [row]) for row in rows))
        assert added == [1] * 60
        found = await asyncio.gather(*(store.read("fx", [row.entity]) for row in rows))
        assert found == [[row] for row in rows]
        await store.close()

    asyncio.run(work())


def test_an_unfit_server_is_refused_in_the_same_words(start_redis):
    server = start_redis("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    old = start_redis("--rename-command", "SMISMEMBER", "")

    async def work():
        with pytest.raises(ConfigurationError, match="allkeys-lru"):
            await AsyncRedisStore.open(server.url)
        with pytest.raises(ConfigurationError, match=r"expected 6\.2"):
            await AsyncRedisStore.open(old.url)
        with pytest.raises(Unavailable, match="cannot be reached"):
            await AsyncRedisStore.open(f"redis://:s3cret@127.0.0.1:{free_port()}/0")
        store = await AsyncRedisStore.open(start_redis().url)
        assert "s3cret" not in repr(store)
        await store.close()
        await store.close()
        with pytest.raises(Unavailable, match="is closed"):
            await store.read("fx", ["A"])

    asyncio.run(work())


def test_a_cancelled_call_leaves_no_answer_for_the_next_one(start_redis):
    server = start_redis()

    async def work():
        store = await AsyncRedisStore.open(server.url)
        await store.write("fx", [stored_row("A"), stored_row("B", 2)])
        os.kill(server._process.pid, signal.SIGSTOP)
        try:
            task = asyncio.create_task(store.read("fx", ["A"]))
            done, _ = await asyncio.wait([task], timeout=0.05)
            assert not done
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        finally:
            os.kill(server._process.pid, signal.SIGCONT)
        assert await store.read("fx", ["B"]) == [stored_row("B", 2)]
        assert await store.read("fx", ["A"], 1) == [stored_row("A")]
        await store.close()

    asyncio.run(work())
