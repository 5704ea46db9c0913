"""A store is judged by how long it takes, and not by how long its callers care to wait."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from assay.serving.rejections import UNAVAILABLE, Rejected
from assay.serving.requests.reception import Reception
from assay.serving.requests.store_reads import StoreReads
from assay.testing.waiting import until

MS = 1_000_000
HURRY = [(b"x-deadline-ms", b"2")]


class Store:
    """A store whose reads end when they are let go; time passes when it is told to."""

    def __init__(self, threads: int) -> None:
        self.now = 10**12
        self.begun = 0
        self.ended = 0
        self.fails = False
        self._gates: list[threading.Event] = []
        self.is_open = False
        self._reception = Reception("test", deadline_ms=1_000, ticks=lambda: self.now)
        self.reads = StoreReads(self._reception, threads=threads, ticks=lambda: self.now)
        self.reads._pool = Prompt(self, threads)
        self.futures: list[Future[Any]] = []

    def read(self) -> list[Any]:
        gate = threading.Event()
        self._gates.append(gate)
        self.begun += 1
        assert self.is_open or gate.wait(30)
        self.ended += 1
        if self.fails:
            raise Rejected(UNAVAILABLE, "the store is gone")
        return [None]

    def let_go(self) -> None:
        """Let all reads that have begun come back."""
        for gate in self._gates:
            gate.set()
        wait([one for one in self.futures if not one.cancelled()], 30)

    async def ask(self, *, patient: bool = False) -> str:
        """What a caller gets, who waits 2 ms or as long as is allowed."""
        head = self._reception.read_headers([] if patient else HURRY, self.now)
        before = self.begun
        try:
            await self.reads.rows(self, head)  # type: ignore[arg-type]
        except Rejected as problem:
            if problem.kind.slug == "deadline-exceeded" and before == self.begun:
                return "not begun"
            return problem.kind.slug
        return "answered"

    def asks(self, times: int) -> list[str]:
        async def run() -> list[str]:
            return [await self.ask() for _ in range(times)]

        return asyncio.run(run())

    def close(self) -> None:
        self.is_open = True
        for gate in self._gates:
            gate.set()
        self.reads.close()


class Prompt(ThreadPoolExecutor):
    """Threads that have begun to read before anybody stops waiting for it."""

    def __init__(self, store: Store, threads: int) -> None:
        super().__init__(threads)
        self._store = store
        self._most = threads

    def submit(self, *given: Any, **named: Any) -> Any:
        store = self._store
        begun = store.begun
        future = super().submit(*given, **named)
        store.futures.append(future)
        if begun - store.ended < self._most:
            until(lambda: store.begun > begun)
        return future


@pytest.fixture
def store_of() -> Iterator[Callable[[int], Store]]:
    made: list[Store] = []

    def make(threads: int = 4) -> Store:
        made.append(Store(threads))
        return made[-1]

    yield make
    for one in made:
        one.close()


LATE = "deadline-exceeded"


def test_a_store_that_hangs_is_found_out_by_callers_who_do_not_wait(store_of: Any) -> None:
    store = store_of()
    assert store.asks(3) == [LATE] * 3
    assert not store.reads.failing  # 2 ms say nothing about it
    store.now += 901 * MS  # longer than nine tenths of the second that is allowed
    assert store.asks(20) == ["unavailable"] * 20
    assert (store.begun, store.reads.refused, store.reads.failing) == (3, 20, True)
    store.now += 251 * MS
    assert store.asks(5) == [LATE] + ["unavailable"] * 4  # one tries
    assert store.begun == 4


def test_what_hangs_is_counted_once_and_what_comes_back_late_makes_nothing_good(
    store_of: Any,
) -> None:
    store = store_of()
    assert store.asks(2) == [LATE] * 2
    store.now += 5_000 * MS
    assert store.asks(1) == [LATE]
    assert not store.reads.failing  # two, however often they are looked at
    store.let_go()
    store.now += 5_000 * MS
    assert store.asks(1) == [LATE]  # the third came back in time: those before it count no more
    store.now += 5_000 * MS
    assert store.asks(1) == [LATE]
    assert not store.reads.failing


def test_reads_that_come_back_too_late_keep_a_store_closed(store_of: Any) -> None:
    store = store_of()
    assert store.asks(3) == [LATE] * 3
    for _ in range(5):  # each read takes two seconds
        store.now += 2_000 * MS
        store.let_go()
        assert store.asks(2) == ["unavailable"] * 2
        store.now += 251 * MS
        assert store.asks(2) == [LATE, "unavailable"]
        assert store.reads.failing


def test_a_store_that_is_slower_than_a_hurried_caller_likes_is_never_closed(store_of: Any) -> None:
    store = store_of()
    for _ in range(10):
        assert store.asks(3) == [LATE] * 3
        store.now += 890 * MS
        store.let_go()
        assert not store.reads.failing
    assert (store.begun, store.reads.refused) == (30, 0)


def test_a_store_that_is_well_again_is_asked_again_though_nobody_waits_for_it(
    store_of: Any,
) -> None:
    store = store_of()
    assert store.asks(3) == [LATE] * 3
    store.now += 1_000 * MS
    assert store.asks(1) == ["unavailable"]
    store.let_go()
    store.now += 251 * MS
    assert store.asks(2) == [LATE, "unavailable"]  # the one that tries waits 2 ms only
    store.now += 50 * MS
    store.let_go()  # and it came back after 50
    assert store.asks(2) == [LATE] * 2
    assert not store.reads.failing


def test_a_read_that_fails_when_its_caller_has_left_counts(store_of: Any) -> None:
    store = store_of()
    assert store.asks(3) == [LATE] * 3
    store.fails = True
    store.let_go()
    assert store.asks(2) == ["unavailable"] * 2
    assert store.begun == 3


def test_where_reads_that_hang_have_every_thread_those_that_cannot_begin_count(
    store_of: Any,
) -> None:
    store = store_of(1)
    assert store.asks(5) == [LATE] + ["not begun"] * 4
    assert not store.reads.failing  # the one thread may be back any moment
    store.now += 1_000 * MS
    assert store.asks(4) == ["not begun"] * 2 + ["unavailable"] * 2
    store.let_go()
    store.is_open = True
    store.now += 251 * MS
    assert asyncio.run(store.ask(patient=True)) == "answered"
    assert not store.reads.failing


def test_a_caller_who_goes_away_leaves_a_read_that_is_judged_like_any_other(store_of: Any) -> None:
    store = store_of()

    async def impatient() -> None:
        for number in range(3):
            asking = asyncio.create_task(store.ask(patient=True))
            await asyncio.sleep(0)
            assert store.begun == number + 1
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    asyncio.run(impatient())
    store.now += 1_000 * MS
    assert store.asks(1) == ["unavailable"]


def test_a_read_that_fails_when_its_caller_has_left_leaves_nothing_in_the_log(
    store_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of()
    store.fails = True

    async def run() -> None:
        assert await store.ask() == LATE
        leaving = asyncio.create_task(store.ask(patient=True))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        store.let_go()
        await asyncio.sleep(0)  # what the threads told is handed on
        await asyncio.sleep(0)

    asyncio.run(run())
    gc.collect()
    assert store.ended == 2
    assert caplog.text == ""
