"""Reading rows that are on another machine, without making anybody else wait for them.

A server that hangs holds whoever reads from it. Here that is a thread of a small pool and never the
event loop; the request is answered when its deadline is over, whatever the thread does. After a few
failures in a row nothing is asked for a moment, and then by one request alone, so that the others
are refused at once and the server is not buried when it comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from assay.serving.inputs.feature_source import SourceRow
from assay.serving.prediction.predictions import Question
from assay.serving.rejections import UNAVAILABLE, Rejected
from assay.serving.requests.reception import Head, Reception

_FAILURES = 3
_PAUSE = 250_000_000


class StoreReads:
    """Reads the rows of questions in threads. Belongs to one event loop.

    Parameters
    ----------
    threads: reads that may be under way at once; further ones wait, no longer than their deadline.
    ticks: nanoseconds on a clock that never goes back.

    Attributes
    ----------
    refused: requests that were refused because the store had just failed.
    """

    def __init__(self, reception: Reception, *, threads: int, ticks: Callable[[], int]) -> None:
        self._reception = reception
        self._threads = threads
        self._ticks = ticks
        self._pool: ThreadPoolExecutor | None = None
        self._failures = 0
        self._closed_until = 0
        self.refused = 0

    @property
    def failing(self) -> bool:
        """Whether the last few reads failed."""
        return self._failures >= _FAILURES

    async def rows(self, asked: Question, head: Head) -> list[SourceRow | None]:
        """What the question reads.

        Raises
        ------
        Rejected: the store fails, has just failed, or did not answer before the deadline.
        """
        if self.failing:
            now = self._ticks()
            if now < self._closed_until:
                self.refused += 1
                raise Rejected(
                    UNAVAILABLE,
                    f"the feature store failed {self._failures} times in a row; it is asked again "
                    f"in {(self._closed_until - now) / 1e6:.0f} ms",
                    found="failing",
                    expected="a readable feature store",
                    hint="GET /health tells what is wrong with it",
                )
            self._closed_until = now + _PAUSE  # for those who come while this one tries
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="store-reads")
        reading = self._pool.submit(asked.read)
        rows = asyncio.wrap_future(reading)
        patience = max(self._reception.left(head), 0.0)
        done, _ = await asyncio.wait({rows}, timeout=patience)
        if not done:
            rows.cancel()  # it is not begun any more, where it has not
            if patience * 2e3 >= self._reception.deadline_ms:
                # A caller who waits for a moment only must not spoil it for the others.
                self._failed()
            raise self._reception.too_late(head)
        try:
            found = rows.result()
        except Rejected:
            self._failed()
            raise
        self._failures = 0
        return found

    def close(self) -> None:
        """Let go of the threads; one that hangs is not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _failed(self) -> None:
        self._failures += 1
        if self.failing:
            self._closed_until = self._ticks() + _PAUSE
