"""A view's rows under another name: how two manifests of one view live in one store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from assay.domain.instants import Instant
from assay.features.online.store import OnlineStore, StoredRow


def view_of(namespace: str) -> str:
    """The view whose rows lie under a name: ``fx_daily`` of ``fx_daily@1a2b3c4d5e6f.2``."""
    return namespace.partition("@")[0]


class NamespacedStore:
    """A store that keeps the rows of some views under other names.

    Whoever writes and reads through it speaks of the view; the store beneath holds its namespace.
    Closing it closes the store beneath.

    Parameters
    ----------
    store: where the rows are.
    namespaces: view -> the name that its rows have in the store; other views keep their own.
    """

    def __init__(self, store: OnlineStore, namespaces: Mapping[str, str]) -> None:
        self._store = store
        self._namespaces = dict(namespaces)

    def write(self, view: str, rows: Iterable[StoredRow]) -> int:
        """See :meth:`assay.features.online.store.OnlineStore.write`."""
        return self._store.write(self._name(view), rows)

    def read(
        self, view: str, entities: Sequence[str], as_of: Instant | None = None
    ) -> list[StoredRow | None]:
        """See :meth:`assay.features.online.store.OnlineStore.read`."""
        return self._store.read(self._name(view), entities, as_of)

    def read_views(
        self, asked: Mapping[str, Sequence[str]], as_of: Instant | None = None
    ) -> dict[str, list[StoredRow | None]]:
        """See :meth:`assay.features.online.store.OnlineStore.read_views`."""
        beneath: dict[str, list[str]] = {}
        for view, entities in asked.items():  # two of them may have one name beneath
            beneath.setdefault(self._name(view), []).extend(entities)
        found = {name: iter(rows) for name, rows in self._store.read_views(beneath, as_of).items()}
        return {
            view: list(islice(found[self._name(view)], len(entities)))
            for view, entities in asked.items()
        }

    def history(self, view: str, entity: str) -> list[StoredRow]:
        """See :meth:`assay.features.online.store.OnlineStore.history`."""
        return self._store.history(self._name(view), entity)

    def entities(self, view: str) -> Iterable[str]:
        """See :meth:`assay.features.online.store.OnlineStore.entities`."""
        return self._store.entities(self._name(view))

    def views(self) -> tuple[str, ...]:
        """Names of the views that have rows, sorted: the mapped ones as this store calls them."""
        called = {name: view for view, name in self._namespaces.items()}
        hidden = {view for view in self._namespaces if view not in called}
        return tuple(sorted({called.get(n, n) for n in self._store.views() if n not in hidden}))

    def drop(self, view: str) -> int:
        """See :meth:`assay.features.online.store.OnlineStore.drop`."""
        return self._store.drop(self._name(view))

    def close(self) -> None:
        """Close the store beneath."""
        self._store.close()

    def _name(self, view: str) -> str:
        return self._namespaces.get(view, view)
