"""What a service stands on, without a desk around it: rows of a store, models that stay live."""

from __future__ import annotations

from collections.abc import Sequence

from assay.domain.instants import Instant
from assay.features.online import OnlineStore
from assay.serving import LiveModel, LiveModels, SourceRow, SourceState


class StoreRows:
    """One view's rows in an online store, as :class:`assay.serving.FeatureSource`; never stale.

    Parameters
    ----------
    view: of the rows in the store. known: every entity that has a row.
    may_wait: whether the store is on another machine.
    """

    def __init__(
        self,
        store: OnlineStore,
        view: str,
        names: tuple[str, ...],
        manifest: str,
        known: Sequence[str],
        *,
        may_wait: bool = False,
    ) -> None:
        self.names = names
        self.manifest = manifest
        self.may_wait = may_wait
        self._store = store
        self._view = view
        self._known = frozenset(known)

    def rows(self, entities: Sequence[str], as_of: Instant) -> list[SourceRow | None]:
        """The newest row of each entity that had happened and was known at ``as_of``."""
        return [
            None
            if row is None
            else SourceRow(
                row.values,
                row.event_time,
                row.known_time,
                row.manifest,
                stale=False,
                origin=row.values,
            )
            for row in self._store.read(self._view, entities, as_of)
        ]

    def entities(self) -> frozenset[str]:
        """Every entity that has a row."""
        return self._known

    def refresh(self) -> None:
        """Nothing changes beside the rows."""

    def state(self, as_of: Instant) -> SourceState:
        """Always reachable and fresh."""
        return SourceState(reachable=True, fresh=True, detail=f"{as_of}")


class FixedLive:
    """What is live does not change; see :class:`assay.serving.LiveSource`."""

    def __init__(self, live: LiveModels) -> None:
        self._live = live

    def pointer(self) -> object:
        """Always equal."""
        return 0

    def wanted(self) -> dict[str, str]:
        """Name -> digest of what is live."""
        return {name: one.digest for name, one in self._live.models.items()}

    def load(self, name: str) -> LiveModel:
        """The model of a name."""
        return self._live.models[name]
