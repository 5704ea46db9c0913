"""A clock for tests and replays."""

from __future__ import annotations

from assay.domain.instants import Instant


class FixedClock:
    """Stands still at ``instant`` until :meth:`advance` is called."""

    def __init__(self, instant: Instant) -> None:
        self._instant = instant

    def now(self) -> Instant:
        return self._instant

    def advance(self, nanos: int) -> None:
        """Move forward; a negative step is refused so that tests cannot run time backwards."""
        if nanos < 0:
            raise ValueError(f"nanos {nanos}: expected zero or more")
        self._instant += nanos
