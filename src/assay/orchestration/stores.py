"""The online store of a desk whose settings name no server: a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assay.orchestration.desk import Desk

if TYPE_CHECKING:
    from assay.features.online import OnlineStore

ONLINE_STORE = "online.db"
"""The file of the embedded store, inside the lake's folder."""


class SqliteStores:
    """One file in the lake's folder, as :class:`assay.orchestration.desk.OnlineStores`."""

    kind = "sqlite"
    is_remote = False

    def open(self, desk: Desk, *, max_versions: int) -> OnlineStore:
        from assay.features.online import SqliteStore

        return SqliteStore(self._path(desk), max_versions=max_versions)

    def find(self, desk: Desk) -> OnlineStore | None:
        from assay.features.online import SqliteStore

        path = self._path(desk)
        return SqliteStore(path) if path.exists() else None

    def forget(self, desk: Desk) -> None:
        path = self._path(desk)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)

    @staticmethod
    def _path(desk: Desk) -> Path:
        return desk.layout.lake / ONLINE_STORE
