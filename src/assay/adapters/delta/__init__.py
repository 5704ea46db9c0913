"""Delta Lake as the offline store: ``pip install 'assay[delta]'``.

1. :class:`~assay.adapters.delta.store.DeltaStore` keeps each table as a Delta table, one version
   per commit, that any other reader of Delta can open.
2. :mod:`~assay.adapters.delta.log` writes and checks the commits; the only module that speaks to
   the client.
"""

from assay.adapters.delta.store import DeltaStore

__all__ = ["DeltaStore"]
