"""Refusals told to the log, a bounded number of them a second."""

from __future__ import annotations

import logging
from collections.abc import Callable

from assay.serving.rejections import Rejected

_LOG = logging.getLogger("assay.serving")
_SECOND = 1_000_000_000


class Refusals:
    """Tells which requests were refused and why, by their ids.

    A client in a loop must not fill the disk: what is more than ``most`` a second is counted, and
    the number is told with the next one.

    Parameters
    ----------
    ticks: nanoseconds on a clock that never goes back.
    """

    def __init__(self, *, ticks: Callable[[], int], most: int = 20) -> None:
        self._ticks = ticks
        self._most = most
        self._until = 0
        self._told = 0
        self._untold = 0

    def tell(self, route: str, request_id: bytes, problem: Rejected, nanos: int) -> None:
        """Tell of one refusal that took ``nanos``."""
        now = self._ticks()
        if now >= self._until:
            self._until, self._told = now + _SECOND, 0
        if self._told == self._most:
            self._untold += 1
            return
        self._told += 1
        untold, self._untold = self._untold, 0
        level = logging.WARNING if problem.kind.status >= 500 else logging.INFO
        _LOG.log(
            level,
            "refused: %s",
            problem.message,
            extra={
                "fields": {
                    "route": route,
                    "request_id": request_id.decode("ascii"),
                    "status": problem.kind.status,
                    "type": problem.kind.slug,
                    "ms": round(nanos / 1e6, 3),
                    **({"untold": untold} if untold else {}),
                }
            },
        )
