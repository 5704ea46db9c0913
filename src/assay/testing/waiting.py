"""Waiting for what another thread or process does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_PAUSE = threading.Event()
_PAUSE_SECONDS = 0.005
"""Between two looks: leaves the processor to those who work."""


def until(
    true: Callable[[], object], what: str = "what was waited for", seconds: float = 60.0
) -> float:
    """Ask until it is so, and say how many seconds that took.

    The limit only ends a test that has failed: with :class:`AssertionError` that says ``what``
    never came true after ``seconds``.
    """
    begun = time.monotonic()
    while not true():
        assert time.monotonic() < begun + seconds, f"never, in {seconds:g} seconds: {what}"
        _PAUSE.wait(_PAUSE_SECONDS)
    return time.monotonic() - begun
