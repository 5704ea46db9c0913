"""The awaited face of the predictor: the same bits, and nobody waits for a store that hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from assay.errors import ContractViolation, Unavailable
from assay.serving import AsyncPredictor, Rejected

MANIFEST = "a" * 64
NAMES = ("USD_SGD", "EUR_CHF", "UNKNOWN")
FEATURES = [1.0, 2.0, 3.0]


class Far:
    """Rows on another machine, which answers when it is let."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self.answering = threading.Event()
        self.asked = threading.Semaphore(0)
        self.threads: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    @property
    def may_wait(self) -> bool:
        return True

    def rows(self, entities: Sequence[str], as_of: int) -> Any:
        self.threads.add(threading.get_ident())
        self.asked.release()
        assert self.answering.wait(60)
        return self._rows.rows(entities, as_of)


@pytest.fixture
def near(source: Any) -> Any:
    rows = source()
    rows.put("USD_SGD", 3.0, 99.0, 1.0, 2.0)
    rows.put("EUR_CHF", 6.0, 99.0, 4.0, 5.0)
    return rows


@pytest.fixture
def far(near: Any) -> Any:
    return Far(near)


def bits(made: Any) -> Any:
    """What must be the same however it was asked: everything but how long it took."""
    if isinstance(made, list):
        return [bits(one) for one in made]
    if isinstance(made, Rejected):
        return made.document()
    return {
        name: np.asarray(getattr(made, name)).tolist()
        for name in made.__struct_fields__
        if name not in {"elapsed", "model"}
    } | {"model": made.model.digest}


@pytest.mark.parametrize("remote", [False, True])
def test_every_answer_is_the_one_that_is_not_awaited(
    staged: Callable[..., Any], near: Any, far: Any, remote: bool
) -> None:
    predictor = staged(rows=far if remote else near).service.predictor
    far.answering.set()

    async def ask() -> list[Any]:
        async with AsyncPredictor(predictor) as face:
            return [
                await face.predict("USD_SGD", manifest=MANIFEST),
                await face.predict_many(NAMES, manifest=MANIFEST),
                await face.predict_features(FEATURES, manifest=MANIFEST),
                await face.predict_batch([FEATURES] * 3, manifest=MANIFEST),
            ]

    expected = [
        predictor.predict("USD_SGD", manifest=MANIFEST),
        predictor.predict_many(NAMES, manifest=MANIFEST),
        predictor.predict_features(FEATURES, manifest=MANIFEST),
        predictor.predict_batch([FEATURES] * 3, manifest=MANIFEST),
    ]
    far.threads.clear()
    assert bits(asyncio.run(ask())) == bits(expected)
    # Rows that are here are read here; those that may be waited for are read elsewhere.
    assert far.threads == set() or threading.get_ident() not in far.threads
    assert bool(far.threads) == remote


def test_the_loop_turns_while_rows_are_read(staged: Callable[..., Any], far: Any) -> None:
    predictor = staged(rows=far).service.predictor

    async def ask() -> None:
        async with AsyncPredictor(predictor, deadline_ms=60_000, threads=8) as face:
            waiting = [
                asyncio.create_task(face.predict("USD_SGD", manifest=MANIFEST)) for _ in range(8)
            ]
            for _ in range(8):  # all of them are being read at once
                await asyncio.to_thread(far.asked.acquire, timeout=60)
            assert (await face.predict_features(FEATURES, manifest=MANIFEST)).value == 321.0
            assert not any(one.done() for one in waiting)
            far.answering.set()
            assert {one.value for one in await asyncio.gather(*waiting)} == {321.0}

    asyncio.run(ask())


def test_a_store_that_hangs_is_left_at_the_deadline(staged: Callable[..., Any], far: Any) -> None:
    predictor = staged(rows=far).service.predictor

    async def ask() -> list[str]:
        kinds: list[str] = []
        async with AsyncPredictor(predictor, deadline_ms=30, threads=2) as face:
            while "unavailable" not in kinds:
                with pytest.raises(Rejected) as refused:
                    await face.predict("USD_SGD", manifest=MANIFEST)
                kinds.append(refused.value.kind.slug)
            # What needs no store goes on.
            await face.predict_features(FEATURES, manifest=MANIFEST)
        return kinds

    kinds = asyncio.run(ask())
    far.answering.set()
    # After three in a row one of them waits now and then, and the others are told at once.
    assert len(kinds) > 3
    assert set(kinds[:-1]) == {"deadline-exceeded"}


def test_a_call_may_ask_for_less_time_and_not_for_none(
    staged: Callable[..., Any], far: Any
) -> None:
    predictor = staged(rows=far).service.predictor

    async def ask() -> None:
        async with AsyncPredictor(predictor, deadline_ms=60_000) as face:
            with pytest.raises(Rejected, match="within 20 ms"):
                await face.predict("USD_SGD", manifest=MANIFEST, deadline_ms=20)
            with pytest.raises(Rejected, match="within 20 ms"):
                await face.predict_many(NAMES, manifest=MANIFEST, deadline_ms=20)
            for wrong in (0, -1, float("nan")):
                with pytest.raises(ContractViolation, match="more than 0"):
                    await face.predict("USD_SGD", manifest=MANIFEST, deadline_ms=wrong)

    asyncio.run(ask())
    far.answering.set()


def test_a_kill_while_rows_are_read_stops_the_prediction(
    staged: Callable[..., Any], far: Any
) -> None:
    stage = staged(rows=far)

    async def ask() -> None:
        async with AsyncPredictor(stage.service.predictor, deadline_ms=60_000) as face:
            waiting = asyncio.create_task(face.predict("USD_SGD", manifest=MANIFEST))
            await asyncio.to_thread(far.asked.acquire, timeout=60)
            stage.switch.on(by="ops", reason="wrong prices")
            far.answering.set()
            with pytest.raises(Rejected, match="wrong prices"):
                await waiting

    asyncio.run(ask())


def test_a_store_that_fails_is_refused_as_without_waiting(
    staged: Callable[..., Any], near: Any, far: Any
) -> None:
    predictor = staged(rows=far).service.predictor
    far.answering.set()
    near.trouble = Unavailable("redis does not answer")

    async def ask() -> str:
        async with AsyncPredictor(predictor) as face:
            with pytest.raises(Rejected, match="redis does not answer") as refused:
                await face.predict("USD_SGD", manifest=MANIFEST)
        return refused.value.kind.slug

    assert asyncio.run(ask()) == "unavailable"
