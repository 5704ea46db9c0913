"""Features event by event, and the store that they are served from.

1. :mod:`~assay.features.online.driver` - pushes single events or micro-batches through the one
   kernel; closes the barrier of an event time for features across entities.
2. :mod:`~assay.features.online.checkpoint` - what a driver remembers, as bytes that refuse another
   manifest.
3. :mod:`~assay.features.online.store` - the port of online stores: newer wins, and what is too old
   says so. :mod:`~assay.features.online.memory` and :mod:`~assay.features.online.sqlite` implement
   it; :mod:`~assay.features.online.namespaces` keeps a view's rows under another name, and
   :mod:`~assay.features.online.by_name` reads them by the names of another manifest.
4. :mod:`~assay.features.online.arrivals` - facts as they arrive, in batches, and those that count.
5. :mod:`~assay.features.online.feed` - takes them, late and revised ones too, keeps a store up to
   date and survives being killed.
6. :mod:`~assay.features.online.bars` - takes ticks and gives the rows of bars, corrections too.

Serving reads a store and computes nothing: the driver (and with it the compiler) is imported when
it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from assay.features.online.by_name import NamedRows
from assay.features.online.memory import MemoryStore
from assay.features.online.namespaces import NamespacedStore
from assay.features.online.sqlite import SqliteStore
from assay.features.online.store import (
    OnlineStore,
    Reading,
    ServedView,
    StoredRow,
    read_as_of,
    readings_of,
)

if TYPE_CHECKING:
    from assay.features.online.arrivals import Arrival, batches_of
    from assay.features.online.bars import BarFeed, BarRow
    from assay.features.online.driver import FeatureRow, OnlineDriver
    from assay.features.online.feed import OnlineFeed

_LATER = {
    "Arrival": "assay.features.online.arrivals",
    "BarFeed": "assay.features.online.bars",
    "BarRow": "assay.features.online.bars",
    "FeatureRow": "assay.features.online.driver",
    "OnlineDriver": "assay.features.online.driver",
    "OnlineFeed": "assay.features.online.feed",
    "batches_of": "assay.features.online.arrivals",
}

__all__ = [
    "Arrival",
    "BarFeed",
    "BarRow",
    "FeatureRow",
    "MemoryStore",
    "NamedRows",
    "NamespacedStore",
    "OnlineDriver",
    "OnlineFeed",
    "OnlineStore",
    "Reading",
    "ServedView",
    "SqliteStore",
    "StoredRow",
    "batches_of",
    "read_as_of",
    "readings_of",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
