"""Where "now" comes from. No module asks the operating system by itself: a clock is an argument."""

from __future__ import annotations

import time
from typing import Protocol

from assay.domain.instants import Instant


class Clock(Protocol):
    """Tells the present moment."""

    def now(self) -> Instant:
        """Nanoseconds since the epoch, UTC."""
        ...


class SystemClock:
    """The operating system's clock. Only ``bootstrap`` creates one."""

    def now(self) -> Instant:
        return time.time_ns()
