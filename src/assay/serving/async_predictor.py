"""Predictions inside a process that has an event loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import perf_counter_ns
from types import TracebackType
from typing import Self

from assay.domain.instants import Instant
from assay.errors import ContractViolation
from assay.serving.inputs.feature_source import SourceRow
from assay.serving.inputs.rows import Features, Rows
from assay.serving.models.live_model import CHAMPION
from assay.serving.prediction.predictions import BatchPrediction, Prediction, Question
from assay.serving.prediction.predictor import Predictor
from assay.serving.rejections import Rejected
from assay.serving.requests.reception import Head, Reception
from assay.serving.requests.store_reads import StoreReads


class AsyncPredictor:
    """A :class:`~assay.serving.Predictor` to be awaited; every answer has the same bits.

    Only reading rows that are on another machine waits: a few threads do it, and the answer comes
    or is refused within a deadline, whatever they do. Everything else takes microseconds and runs
    where it is called; handing it to a thread would take longer. A large batch is worth a thread of
    the caller's (``asyncio.to_thread(predictor.predict_batch, rows)``).

    Belongs to one event loop. To be closed, or used with ``async with``.

    Parameters
    ----------
    deadline_ms: how long a prediction from stored features may take; a call may ask for less.
    threads: reads that may be under way at once.
    ticks: nanoseconds on a clock that never goes back, to measure with.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        deadline_ms: float = 1_000.0,
        threads: int = 16,
        ticks: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self.predictor = predictor
        self._ticks = ticks
        self._reception = Reception("embedded", deadline_ms=deadline_ms, ticks=ticks)
        self._reads = StoreReads(self._reception, threads=threads, ticks=ticks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the threads; one that hangs is not waited for."""
        self._reads.close()

    async def predict(
        self,
        instrument: str,
        as_of: Instant | datetime | None = None,
        *,
        request: Mapping[str, float] | None = None,
        model: str = CHAMPION,
        manifest: str | None = None,
        deadline_ms: float | None = None,
    ) -> Prediction:
        """:meth:`~assay.serving.Predictor.predict`, within a deadline.

        Raises
        ------
        Rejected: nothing was predicted; ``kind`` says why.
        ContractViolation: a deadline that is not above 0.
        """
        head = self._head(deadline_ms)
        asked = self.predictor.ask((instrument,), as_of, request, model=model, manifest=manifest)
        made = self.predictor.answer(asked, await self._rows(asked, head))
        self._reception.in_time(head)
        return made

    async def predict_many(
        self,
        instruments: Sequence[str],
        as_of: Instant | datetime | None = None,
        *,
        requests: Mapping[str, Mapping[str, float]] | None = None,
        model: str = CHAMPION,
        manifest: str | None = None,
        deadline_ms: float | None = None,
    ) -> list[Prediction | Rejected]:
        """:meth:`~assay.serving.Predictor.predict_many`, within a deadline.

        Raises
        ------
        Rejected: no instrument can be answered, for a reason that none of them is the cause of.
        ContractViolation: a deadline that is not above 0.
        """
        head = self._head(deadline_ms)
        asked = self.predictor.ask_many(
            instruments, as_of, requests, model=model, manifest=manifest
        )
        made = self.predictor.answer_many(asked, await self._rows(asked, head))
        self._reception.in_time(head)
        return made

    async def predict_features(
        self,
        features: Features,
        *,
        names: Sequence[str] | None = None,
        model: str = CHAMPION,
        manifest: str | None = None,
    ) -> Prediction:
        """Predict with features that the caller brings.

        See :meth:`Predictor.predict_features
        <assay.serving.prediction.predictor.Predictor.predict_features>`. It waits for nothing.

        Raises
        ------
        Rejected: nothing was predicted; ``kind`` says why.
        """
        return self.predictor.predict_features(
            features, names=names, model=model, manifest=manifest
        )

    async def predict_batch(
        self,
        rows: Rows,
        *,
        names: Sequence[str] | None = None,
        model: str = CHAMPION,
        manifest: str | None = None,
    ) -> BatchPrediction:
        """Predict several rows at once, as :meth:`predict_features` does one.

        Raises
        ------
        Rejected: nothing was predicted; ``kind`` says why.
        """
        return self.predictor.predict_batch(rows, names=names, model=model, manifest=manifest)

    async def _rows(self, asked: Question, head: Head) -> Sequence[SourceRow | None]:
        if not asked.may_wait:
            return asked.read()
        rows = await self._reads.rows(asked, head)
        self.predictor.check_switch()  # time has passed
        return rows

    def _head(self, deadline_ms: float | None) -> Head:
        """What the deadline of a call is kept by."""
        allowed = self._reception.deadline_ms
        if deadline_ms is not None:
            if not deadline_ms > 0:
                raise ContractViolation(f"deadline_ms is {deadline_ms!r}: expected more than 0")
            allowed = min(allowed, deadline_ms)
        arrived = self._ticks()
        return Head(b"", b"", None, arrived, arrived + round(allowed * 1e6), {})
