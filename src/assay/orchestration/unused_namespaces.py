"""What nothing needs any more of a desk's online store, and of the feeds that filled it."""

from __future__ import annotations

from assay.delivery.manifests import StoredNamespace, drop_unused
from assay.domain.instants import NANOS_PER_SECOND
from assay.errors import ContractViolation, NotFound, did_you_mean
from assay.orchestration.desk import Desk
from assay.orchestration.materialization import forget_feed


def drop_unused_rows(
    desk: Desk, view: str | None, *, minutes: float, initiated_by: str, dry_run: bool
) -> tuple[StoredNamespace, ...]:
    """Remove online rows of manifests that were replaced or withdrawn; see
    :func:`assay.delivery.manifests.drop_unused`.

    Parameters
    ----------
    minutes: how long rows stay after they were last needed.

    Raises
    ------
    NotFound: there is no such view. Tampered: ``active_manifest.yaml`` was changed by hand.
    """
    if not minutes >= 0:
        raise ContractViolation(f"{minutes:g} minutes: expected 0 or more")
    known = sorted({*desk.views, *desk.active_manifests.states()})
    if view is not None and view not in known:
        raise NotFound(f"no view {view!r}", hint=did_you_mean(view, known))
    store = desk.stores.find(desk)
    if store is None:
        return ()
    try:
        return drop_unused(
            registry=desk.registry,
            active=desk.active_manifests,
            store=store,
            forget=lambda name: forget_feed(desk, name),
            now=desk.clock.now(),
            initiated_by=initiated_by,
            grace=int(minutes * 60 * NANOS_PER_SECOND),
            view=view,
            dry_run=dry_run,
        )
    finally:
        store.close()
