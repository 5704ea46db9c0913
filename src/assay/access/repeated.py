"""Refusals of callers who did not prove who they are, written down without limit to their patience.

A stranger can ask as often as a network allows, and each line is synced to the disk. So the first
refusals of one kind from one place are written as they come; further ones within a minute are
counted, and the count is one line when the minute is over, or when the server stops. Nothing else
is ever left out. Places beyond a number are counted together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Final

from assay.access.access_log import AccessEvent, AccessLog
from assay.domain.clock import Clock
from assay.domain.instants import NANOS_PER_SECOND, Instant, render

WINDOW_SECONDS: Final = 60
WRITTEN: Final = 20
"""Refusals alike of one window that get lines of their own."""
PLACES: Final = 128
OTHERS: Final = "other places"


@dataclass(slots=True)
class _Window:
    started: Instant
    seen: int = 0
    counted: int = 0
    last: AccessEvent | None = None


class RepeatedRefusals:
    """Writes refusals of strangers into a record of access, in a bounded number of lines."""

    def __init__(self, log: AccessLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._lock = Lock()
        self._windows: dict[tuple[str, str], _Window] = {}

    def record(self, place: str, event: AccessEvent) -> None:
        """Write a refusal, or count it.

        Parameters
        ----------
        place: where the caller asks from.
        """
        self.write_counts()
        now = self._clock.now()
        with self._lock:
            places = {one for one, _ in self._windows}
            where = place if place in places or len(places) < PLACES else OTHERS
            window = self._windows.setdefault((where, event.code), _Window(now))
            window.seen += 1
            named = replace(event, place=where)
            if window.seen > WRITTEN:
                window.counted += 1
                window.last = named
                return
        self._log.record(named)

    def has_ended(self) -> bool:
        """Whether the oldest window is over, so that :meth:`write_counts` has something to do."""
        with self._lock:
            oldest = next(iter(self._windows.values()), None)
        return oldest is not None and _is_over(oldest, self._clock.now())

    def write_counts(self, *, everything: bool = False) -> None:
        """Write the counts of windows that are over, or of all of them."""
        now = self._clock.now()
        with self._lock:
            over = [
                (key, window)
                for key, window in self._windows.items()
                if everything or _is_over(window, now)
            ]
            for key, _ in over:
                del self._windows[key]
        self._write((window for _, window in over), now)

    def _write(self, windows: Iterable[_Window], now: Instant) -> None:
        for window in windows:
            if window.last is not None:
                detail = (
                    f"{window.counted} more of the same from {render(window.started)} to "
                    f"{render(now)}; the last one: {window.last.detail}"
                )
                self._log.record(replace(window.last, detail=detail, count=window.counted))


def _is_over(window: _Window, now: Instant) -> bool:
    # A clock that was set back ends a window, too.
    return not 0 <= now - window.started < WINDOW_SECONDS * NANOS_PER_SECOND
