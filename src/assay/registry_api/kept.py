"""The registry that a server keeps open."""

from __future__ import annotations

from threading import Lock

from assay.orchestration.desk import Desk
from assay.registry import ModelRegistry


class KeptRegistry:
    """Opens the registry of a desk once; each question after that first follows what changed.

    Threads share it: everything that a change needs to keep apart is behind the writer's lock.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._turn = Lock()
        self._kept: ModelRegistry | None = None

    def opened(self) -> ModelRegistry:
        """The registry, up to date also after another process's crash.

        Raises
        ------
        Tampered: the log was cut or replaced under the index; asked again, it is opened anew.
        """
        with self._turn:
            if self._kept is None:
                self._kept = self._desk.open_registry()
                return self._kept
        self._kept.refresh()
        return self._kept
