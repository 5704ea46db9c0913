"""Back to a version that was live before, within a second, with a reason.

The target is verified, loaded and exercised before anything changes: going back to something
broken is worse than staying. The version that is withdrawn becomes ``failed`` and is never
promoted again; with ``keep`` it is archived.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from assay.delivery.activation import Activation, activate
from assay.domain.versions import Stage
from assay.errors import AssayError, ContractViolation, Unavailable
from assay.registry import EventOutcome, EventType, ModelRegistry
from assay.registry.keyring import check_identity
from assay.registry.lifecycle import stage_changes


@dataclass(frozen=True, slots=True)
class Rollback:
    """A rollback that happened, or with ``dry_run`` one that would.

    ``withdrawn_as`` is the stage of ``from_version`` afterwards; both are None when nothing was
    in production. ``seq`` is the log's entry, None for a dry run.
    """

    name: str
    from_version: str | None
    to_version: str
    withdrawn_as: Stage | None
    reason: str
    dry_run: bool
    seq: int | None
    activation: Activation
    seconds: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "from_version": self.from_version,
            "to_version": self.to_version,
            "withdrawn_as": None if self.withdrawn_as is None else str(self.withdrawn_as),
            "reason": self.reason,
            "dry_run": self.dry_run,
            "seq": self.seq,
            "activation": self.activation.to_json(),
            "seconds": self.seconds,
            "notes": list(self.notes),
        }


def rollback(
    registry: ModelRegistry,
    name: str,
    target: str | None = None,
    *,
    reason: str,
    initiated_by: str,
    monotonic: Callable[[], float],
    keep: bool = False,
    dry_run: bool = False,
) -> Rollback:
    """Bring an archived version back into production.

    Parameters
    ----------
    target: the version to go back to; by default the one that was in production before.
    keep: archive the withdrawn version instead of failing it.
    dry_run: do everything but the change, and leave no trace.
    monotonic: seconds on a clock that never goes back, to measure with.

    Raises
    ------
    ContractViolation: no reason is given. NotFound: nothing to go back to.
    Refused: the target is not archived. Tampered, IncompatibleVersion: the target is broken.
    Conflict: the champion changed meanwhile.
    """
    started = monotonic()
    if not reason.strip():
        raise ContractViolation("a rollback needs a reason: expected a sentence for the log")
    check_identity(initiated_by)
    chosen = registry.rollback_target(name) if target is None else registry.get(name, target)
    champion = registry.current(name)
    withdraw = champion.version if champion else None
    try:
        changes = stage_changes(
            EventType.ROLLBACK,
            version=chosen.version,
            stage=chosen.stage,
            production=withdraw,
            keep=keep,
        )
        notes = registry.verify_promoted(name, chosen.version)
        activation = activate(registry, name, chosen.version, monotonic=monotonic)
        entry = None
        if not dry_run:
            entry = registry.rollback(
                name,
                chosen.version,
                withdraw=withdraw,
                initiated_by=initiated_by,
                reason=reason,
                keep=keep,
            )
    except AssayError as error:
        # A registry that does not answer must not hide the first error behind its own.
        with suppress(Unavailable):
            if not dry_run:
                registry.record_attempt(
                    EventType.ROLLBACK,
                    name,
                    chosen.version,
                    EventOutcome.REFUSED,
                    initiated_by=initiated_by,
                    reason=f"{reason}: {error.message}",
                )
        raise
    return Rollback(
        name=name,
        from_version=withdraw,
        to_version=chosen.version,
        withdrawn_as=next((c.stage for c in changes if c.version == withdraw), None),
        reason=reason,
        dry_run=dry_run,
        seq=None if entry is None else entry.seq,
        activation=activation,
        seconds=monotonic() - started,
        notes=notes,
    )
