"""Back to the manifest before, or no canary any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.delivery.manifests.active import ActiveManifests
from assay.delivery.manifests.state import ViewState
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
    Refused: the store has no rows of it any more. Tampered: the manifest is not what it was.
    Conflict: somebody else changed what is in use meanwhile.
    """
    if not reason.strip():
        raise ContractViolation("a rollback needs a reason: expected a sentence for the log")
    state = active.follow().get(view, ViewState(view))
    if canary:
        if state.canary is None:
            raise NotFound(f"view {view} has no canary", hint=f"assay features manifests {view}")
        event, withdrawn, back = EventType.MANIFEST_WITHDRAW, state.canary.manifest, state.active
        about = withdrawn
    else:
        if state.active is None or not state.before:
            raise NotFound(
                f"view {view}: no manifest was in use before "
                f"{state.active.manifest[:12] if state.active else 'any promotion'}",
                hint=f"assay features manifests {view}; --canary gives up the canary alone",
            )
        event, withdrawn, back = (
            EventType.MANIFEST_ROLLBACK, state.active.manifest, state.before[-1],
        )  # fmt: skip
        catalogue.get(back.manifest)
        if store is None or back.namespace not in store.views():
            raise Refused(
                f"view {view}: the online store has no rows in {back.namespace}, which manifest "
                f"{back.manifest[:12]} was read from",
                hint="feed it again, or define the view as it was and promote that",
            )
        about = back.manifest
    entry = registry.record_manifest(
        event, view, about, after=state.last, initiated_by=initiated_by,
        evidence={"withdrawn": withdrawn}, reason=reason,
    )  # fmt: skip
    active.publish(f"the rollback of view {view} (log entry {entry.seq})")
    return RolledBack(
        view, withdrawn, back.manifest if back else None, back.namespace if back else None,
        of_canary=canary, entry=entry.seq,
    )  # fmt: skip
