"""Back to the manifest before, or no canary any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.delivery.manifests.active import ActiveManifests
from assay.delivery.manifests.state import InUse, ViewState
from assay.delivery.manifests.unused import namespaces_locked
from assay.domain.instants import Instant, render
from assay.errors import ContractViolation, NotFound, Refused
from assay.features import ManifestCatalogue
from assay.features.online import OnlineStore
from assay.registry import EventType, ModelRegistry


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What is in use again. ``withdrawn`` is what was until now; ``manifest`` is None for nothing.

    ``of_canary`` says that the canary alone was withdrawn.
    """

    view: str
    withdrawn: str
    manifest: str | None
    namespace: str | None
    of_canary: bool
    entry: int

    def to_json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "withdrawn": self.withdrawn,
            "manifest": self.manifest,
            "namespace": self.namespace,
            "of_canary": self.of_canary,
            "entry": self.entry,
        }


def rollback_manifest(
    view: str,
    *,
    registry: ModelRegistry,
    catalogue: ManifestCatalogue,
    active: ActiveManifests,
    store: OnlineStore | None,
    initiated_by: str,
    reason: str,
    canary: bool = False,
) -> RolledBack:
    """Let servers read the manifest that was in use before; a canary is given up as well.

    The manifest and its rows are looked at first. A promotion that is under way ends: its next step
    finds that something else has happened.

    Parameters
    ----------
    store: where the rows are; None where there is none.
    canary: give up the canary only; what production reads stays.

    Raises
    ------
    ContractViolation: no reason is given.
    NotFound: nothing was in use before, there is no canary, or the manifest is not published.
    Refused: the store has no rows of it any more, or they are being dropped.
    Tampered: the manifest is not what it was.
    Conflict: somebody else changed what is in use meanwhile.
    """
    if not reason.strip():
        raise ContractViolation("a rollback needs a reason: expected a sentence for the log")
    # Nothing is given up meanwhile; whoever removes rows holds this for a moment only.
    with namespaces_locked(registry) as dropped:
        state = active.follow().get(view, ViewState(view))
        back: InUse | None
        if canary:
            back, withdrawn = _canary_of(state)
            event, about = EventType.MANIFEST_WITHDRAW, withdrawn
        else:
            target, withdrawn = _way_back(state)
            catalogue.get(target.manifest)
            _check_rows(view, target, store, dropped.get(target.namespace))
            event, back, about = EventType.MANIFEST_ROLLBACK, target, target.manifest
        entry = registry.record_manifest(
            event, view, about, after=state.last, initiated_by=initiated_by,
            evidence={"withdrawn": withdrawn}, reason=reason,
        )  # fmt: skip
    active.publish(f"the rollback of view {view} (log entry {entry.seq})")
    return RolledBack(
        view, withdrawn, back.manifest if back else None, back.namespace if back else None,
        of_canary=canary, entry=entry.seq,
    )  # fmt: skip


def _canary_of(state: ViewState) -> tuple[InUse | None, str]:
    """What is read when the canary is given up, and its manifest."""
    if state.canary is None:
        raise NotFound(
            f"view {state.view} has no canary", hint=f"assay features manifests {state.view}"
        )
    return state.active, state.canary.manifest


def _way_back(state: ViewState) -> tuple[InUse, str]:
    """What was in use before, and the manifest that is."""
    if state.active is None or not state.before:
        raise NotFound(
            f"view {state.view}: no manifest was in use before "
            f"{state.active.manifest[:12] if state.active else 'any promotion'}",
            hint=f"assay features manifests {state.view}; --canary gives up the canary alone",
        )
    return state.before[-1], state.active.manifest


def _check_rows(
    view: str, back: InUse, store: OnlineStore | None, dropped_at: Instant | None
) -> None:
    where = f"{back.namespace}, which manifest {back.manifest[:12]} was read from"
    if dropped_at is not None:
        raise Refused(
            f"view {view}: nothing needed the rows in {where}, and they were dropped at "
            f"{render(dropped_at)}",
            hint="define the view as it was and promote that",
        )
    if store is None or back.namespace not in store.views():
        raise Refused(
            f"view {view}: the online store has no rows in {where}",
            hint="feed it again, or define the view as it was and promote that",
        )
