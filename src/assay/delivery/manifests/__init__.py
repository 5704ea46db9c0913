"""The one way in which a view's manifest comes into use.

1. :mod:`~assay.delivery.manifests.state` - what the registry's log says about a view: what is in
   use, what the canary takes, which promotion is under way and how far it has come.
2. :mod:`~assay.delivery.manifests.active` - ``active_manifest.yaml``, which follows from the log
   and tells servers; a change by hand is found.
3. :mod:`~assay.delivery.manifests.promotion` - publish, warm up, prove, let a canary take it, check
   what the canary reads, let all take it; every step recorded, and resumed where it was killed.
   :mod:`~assay.delivery.manifests.steps` is what the steps do, on what
   :mod:`~assay.delivery.manifests.values` holds.
4. :mod:`~assay.delivery.manifests.changelog` - the note that a change of schema needs.
5. :mod:`~assay.delivery.manifests.rollback` - back to the manifest before, in one step.
6. :mod:`~assay.delivery.manifests.unused` - the rows that no server reads any more are dropped.

Servers need the first two: whatever computes is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from assay.delivery.manifests.active import ActiveManifests, ViewInUse
from assay.delivery.manifests.state import Attempt, InUse, ViewState, snapshot_begun, view_state

if TYPE_CHECKING:
    from assay.delivery.manifests.promotion import promote_manifest
    from assay.delivery.manifests.rollback import RolledBack, rollback_manifest
    from assay.delivery.manifests.unused import StoredNamespace, drop_unused
    from assay.delivery.manifests.values import (
        FactSource,
        FeedRule,
        ManifestPromotion,
        Promoted,
        Span,
    )

_LATER = {
    "FactSource": "assay.delivery.manifests.values",
    "FeedRule": "assay.delivery.manifests.values",
    "ManifestPromotion": "assay.delivery.manifests.values",
    "Promoted": "assay.delivery.manifests.values",
    "RolledBack": "assay.delivery.manifests.rollback",
    "StoredNamespace": "assay.delivery.manifests.unused",
    "Span": "assay.delivery.manifests.values",
    "drop_unused": "assay.delivery.manifests.unused",
    "promote_manifest": "assay.delivery.manifests.promotion",
    "rollback_manifest": "assay.delivery.manifests.rollback",
}

__all__ = [
    "ActiveManifests",
    "Attempt",
    "FactSource",
    "FeedRule",
    "InUse",
    "ManifestPromotion",
    "Promoted",
    "RolledBack",
    "Span",
    "StoredNamespace",
    "ViewInUse",
    "ViewState",
    "drop_unused",
    "promote_manifest",
    "rollback_manifest",
    "snapshot_begun",
    "view_state",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
