"""The online store of a desk whose settings name a Redis server."""

from __future__ import annotations

from assay.adapters.redis.store import RedisStore
from assay.domain.instants import NANOS_PER_SECOND
from assay.errors import ConfigurationError
from assay.features import FeatureView, Sessions
from assay.features.online.store import MAX_VERSIONS
from assay.orchestration.desk import Desk

_NANOS_PER_DAY = 86_400 * NANOS_PER_SECOND


class RedisStores:
    """A namespace of a server, as :class:`assay.orchestration.desk.OnlineStores`.

    Parameters
    ----------
    url: as :class:`~assay.adapters.redis.store.RedisStore` takes it.
    retention: nanoseconds that rows are kept after their entity's newest event; None keeps them.
    timeout: seconds that the server may take to answer.
    """

    kind = "redis"
    is_remote = True

    def __init__(self, url: str, *, retention: int | None, timeout: float = 5.0) -> None:
        self._url = url
        self._timeout = timeout
        self._retention = retention

    def open(self, desk: Desk, *, max_versions: int) -> RedisStore:
        """The namespace of the desk.

        Raises
        ------
        Unavailable: no server answers. ConfigurationError: it is unfit, or the retention is shorter
            than a view's time to live.
        """
        retention = None
        if self._retention is not None:
            retention = dict.fromkeys(desk.views, self._retention)
            for view in desk.views.values():
                _check_retention(view, self._retention)
        return RedisStore(
            self._url,
            namespace=desk.layout.namespace,
            max_versions=max_versions,
            retention=retention,
            clock=desk.clock,
            timeout=self._timeout,
        )

    def find(self, desk: Desk) -> RedisStore:
        """The same: a server that is named is there."""
        return self.open(desk, max_versions=MAX_VERSIONS)

    def forget(self, desk: Desk) -> None:
        """Remove the namespace of the desk."""
        store = self.open(desk, max_versions=MAX_VERSIONS)
        store.forget()
        store.close()


def _check_retention(view: FeatureView, retention: int) -> None:
    """A row that is not yet stale must be there; a session is counted as a day at least."""
    sessions = isinstance(view.ttl, Sessions)
    least = view.ttl.count * _NANOS_PER_DAY if isinstance(view.ttl, Sessions) else view.ttl.nanos
    if retention < least:
        raise ConfigurationError(
            f"features.online_retention_days is {retention / _NANOS_PER_DAY:g}: view {view.name} "
            f"is served for {least / _NANOS_PER_DAY:g} days{' or more' if sessions else ''}, and "
            "rows may not end before",
            hint="raise it, or leave it out: rows are kept then",
        )
