"""Asking a dependency how it is, without being held up by one that does not answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from assay.errors import Unavailable

Seen = TypeVar("Seen")


class PatientLook(Generic[Seen]):
    """Asks in a thread of its own, one question at a time, and waits for a moment only.

    Whoever asks while a question is under way gets its answer: a thousand callers cost a
    dependency no more than one, and one that hangs costs a single thread.

    Parameters
    ----------
    look: asks; may take for ever.
    seconds: how long a caller waits.
    what: the dependency, for words.
    """

    def __init__(self, look: Callable[[], Seen], *, seconds: float, what: str) -> None:
        self._look = look
        self._seconds = seconds
        self._what = what
        self._asked: Future[Seen] | None = None

    async def __call__(self) -> Seen:
        """The answer.

        Raises
        ------
        Unavailable: there is none yet. Whatever the look itself raises.
        """
        asked = self._asked
        if asked is None or asked.done():
            asked = self._asked = Future()
            # Not of a pool: the end of a process waits for those, also for one that hangs.
            threading.Thread(target=self._answer, args=(asked,), daemon=True).start()
        answer = asyncio.wrap_future(asked)
        done, _ = await asyncio.wait({answer}, timeout=self._seconds)
        if not done:
            answer.add_done_callback(lambda one: one.cancelled() or one.exception())
            raise Unavailable(f"the {self._what} has not answered within {self._seconds:g} s")
        return answer.result()

    def _answer(self, asked: Future[Seen]) -> None:
        try:
            asked.set_result(self._look())
        except BaseException as error:  # noqa: BLE001 - handed on to whoever asked
            asked.set_exception(error)
