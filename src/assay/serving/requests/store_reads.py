"""Reading rows that are on another machine, without making anybody else wait for them.

A server that hangs holds whoever reads from it. Here that is a thread of a small pool and never the
event loop; the request is answered when its deadline is over, whatever the thread does. After a few
failures in a row nothing is asked for a moment, and one request after each moment, so that the
others are refused at once and the server is not buried when it comes back.

How long a read may take is the service's to say, and not its caller's: one whom a few milliseconds
are too long says nothing about the store. So a read that its caller has left is looked at again
when others come, and judged by when it came back, or by not having done so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from assay.serving.inputs.feature_source import SourceRow
from assay.serving.prediction.predictions import Question
from assay.serving.rejections import UNAVAILABLE, Rejected
from assay.serving.requests.reception import Head, Reception

_FAILURES = 3
_PAUSE = 250_000_000
_SHARE: Final = 0.9
"""Of the longest deadline: whoever waits until it is over has spent some of it on the request."""


class _Read:
    """A read in a thread, when the thread began and ended it, and whether it was found too long."""

    __slots__ = ("_asked", "_ticks", "began", "ended", "is_overdue", "rows")

    def __init__(self, asked: Question, ticks: Callable[[], int]) -> None:
        self._asked = asked
        self._ticks = ticks
        self.began: int | None = None
        self.ended: int | None = None
        self.is_overdue = False
        self.rows: Future[list[SourceRow | None]]

    def run(self) -> list[SourceRow | None]:
        """Read."""
        self.began = self._ticks()
        try:
            return self._asked.read()
        finally:
            self.ended = self._ticks()


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
        self._longest = round(reception.deadline_ms * 1e6 * _SHARE)
        self._pool: ThreadPoolExecutor | None = None
        self._left: list[_Read] = []  # by their callers, and not known to be back
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
        if self._left:
            self._judge()
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
        read = _Read(asked, self._ticks)
        read.rows = self._pool.submit(read.run)
        rows = asyncio.wrap_future(read.rows)
        rows.add_done_callback(_look_at)  # also where its caller has left
        patience = max(self._reception.left(head), 0.0)
        try:
            done, _ = await asyncio.wait({rows}, timeout=patience)
        except asyncio.CancelledError:
            self._leave(read)
            raise
        if not done:
            self._leave(read)
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

    def _leave(self, read: _Read) -> None:
        """Wait for a read no longer."""
        if not read.rows.cancel():  # a thread has begun it
            self._left.append(read)
            self._judge()
        elif sum(one.is_overdue for one in self._left) >= self._threads:
            self._failed()  # no thread is left to ask the store with

    def _judge(self) -> None:
        """Count what became of the reads that were left, once for each."""
        now, left, self._left = self._ticks(), self._left, []
        for read in left:
            is_back = read.rows.done()
            if not is_back:
                self._left.append(read)
            if read.is_overdue:
                continue
            began = now if read.began is None else read.began
            ended = now if read.ended is None else read.ended
            read.is_overdue = ended - began > self._longest
            if read.is_overdue or (is_back and isinstance(read.rows.exception(), Rejected)):
                self._failed()
            elif is_back:
                self._failures = 0

    def _failed(self) -> None:
        self._failures += 1
        if self.failing:
            self._closed_until = self._ticks() + _PAUSE


def _look_at(rows: asyncio.Future[list[SourceRow | None]]) -> None:
    """A failure that nobody looks at is written into the log, with where it came from."""
    if not rows.cancelled():
        rows.exception()
