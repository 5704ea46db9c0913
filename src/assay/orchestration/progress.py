"""How a step tells what it is doing, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives one short line per event of a step."""

    def event(self, text: str) -> None:
        """Something happened that a waiting person would like to know."""
        ...


class Silent:
    """Listens to nothing."""

    def event(self, text: str) -> None:
        """Ignore the event."""
