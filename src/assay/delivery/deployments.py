"""Challengers begin and end to run beside the version in production.

Before one begins it is verified, loaded and exercised, as before a promotion. What begins is an
entry of the registry's log, under a signed head; servers follow within a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from assay.delivery.activation import activate
from assay.domain.canonical import content_hash
from assay.domain.versions import Stage
from assay.errors import ContractViolation, IncompatibleVersion, NotFound, Refused
from assay.registry import Entry, EventType, ModelRegistry, VersionRecord
from assay.registry.deployments import LARGEST_SHARE, deployments_of, record_deployment

_CHALLENGERS = (Stage.STAGED, Stage.ARCHIVED)


def start_shadow(
    registry: ModelRegistry,
    name: str,
    version: str,
    *,
    initiated_by: str,
    reason: str,
    monotonic: Callable[[], float],
) -> Entry:
    """Let a staged or archived version predict on all live inputs of its model.

    Raises
    ------
    NotFound: nothing is in production to be compared with. Refused: the version is live or failed,
    or in shadow already. Tampered, IncompatibleVersion: it does not verify, load or predict.
    """
    now = deployments_of(registry, name)
    record = _challenger(registry, name, version)
    if record.version in now.shadows:
        raise Refused(f"{name} {record.version} is in shadow already")
    activate(registry, name, record.version, monotonic=monotonic).loaded  # noqa: B018 - refuses what is no model
    return record_deployment(
        registry, EventType.SHADOW_START, name, record.version,
        initiated_by=initiated_by, reason=reason, after=now.last,
    )  # fmt: skip


def stop_shadow(
    registry: ModelRegistry, name: str, version: str, *, initiated_by: str, reason: str
) -> Entry:
    """End a shadow. Its log stays."""
    return record_deployment(
        registry, EventType.SHADOW_STOP, name, version, initiated_by=initiated_by, reason=reason
    )


def start_canary(
    registry: ModelRegistry,
    name: str,
    version: str,
    *,
    share: float,
    initiated_by: str,
    reason: str,
    monotonic: Callable[[], float],
) -> Entry:
    """Let a staged or archived version answer for a share of the entities.

    Parameters
    ----------
    share: of entities, above 0 and at most one half.

    Raises
    ------
    Refused: there is a canary already, or the version is live or failed.
    IncompatibleVersion: it reads another feature manifest than the champion: callers name the
        champion's, and an answer must follow what they named.
    """
    if not 0.0 < share <= LARGEST_SHARE:
        raise ContractViolation(
            f"share {share}: expected more than 0 and at most {LARGEST_SHARE}",
            hint="0.05 to 0.1 is usual; a model for everything is promoted",
        )
    now = deployments_of(registry, name)
    record = _challenger(registry, name, version)
    if now.canary is not None:
        raise Refused(
            f"{name} {now.canary.version} is the canary already",
            hint=f"assay canary stop {name} --reason ...",
        )
    ready = activate(registry, name, record.version, monotonic=monotonic)
    champion = registry.open_production(name)
    ours, theirs = ready.version.metadata.manifest_hash, champion.metadata.manifest_hash
    if ours != theirs:
        raise IncompatibleVersion(
            f"{name} {record.version} reads manifest {ours}, the champion {theirs}: a canary "
            "answers in the champion's place",
            hint=f"assay shadow start {name} {record.version}",
        )
    if ready.loaded.gives_probability != _probability(registry, name, champion.version, monotonic):
        raise IncompatibleVersion(
            f"{name} {record.version} and the champion do not answer in the same units: one gives "
            "a probability, the other a value"
        )
    salt = content_hash({"model": name, "digest": record.digest, "after": now.last})[:16]
    return record_deployment(
        registry, EventType.CANARY_START, name, record.version, initiated_by=initiated_by,
        reason=reason, evidence={"share": share, "salt": salt}, after=now.last,
    )  # fmt: skip


def end_canary(
    registry: ModelRegistry,
    name: str,
    *,
    initiated_by: str,
    reason: str,
    revision: int | None = None,
    finding: Mapping[str, Any] | None = None,
    requested: bool = False,
) -> Entry:
    """End the canary; the champion answers for everything again, and nothing else changes.

    Parameters
    ----------
    revision: of the canary that is meant; None for whichever runs.
    finding: what was measured, for the log.
    requested: log ``rollback.requested`` with the finding first, as a breach does.

    Raises
    ------
    NotFound: there is no canary. Conflict: it has another revision. Refused: somebody else ended it
    meanwhile.
    """
    canary = deployments_of(registry, name).canary
    if canary is None:
        raise NotFound(f"{name} has no canary", hint=f"assay canary start {name} VERSION")
    if revision is not None:
        canary.check_revision(name, revision)
    evidence = {"revision": canary.revision, **({} if finding is None else {"finding": finding})}
    if requested:
        record_deployment(
            registry, EventType.ROLLBACK_REQUESTED, name, canary.version,
            initiated_by=initiated_by, reason=reason, evidence=evidence, revision=canary.revision,
        )  # fmt: skip
    return record_deployment(
        registry, EventType.CANARY_END, name, canary.version,
        initiated_by=initiated_by, reason=reason, evidence=evidence, revision=canary.revision,
    )  # fmt: skip


def _challenger(registry: ModelRegistry, name: str, version: str) -> VersionRecord:
    record = registry.get(name, version)
    if registry.current(name) is None:
        raise NotFound(
            f"nothing of {name} is in production: a challenger is compared with a champion",
            hint=f"assay models promote {name} VERSION",
        )
    if record.stage not in _CHALLENGERS:
        raise Refused(
            f"{name} {record.version} is {record.stage}: expected staged or archived",
            hint=f"assay models list {name}",
        )
    return record


def _probability(
    registry: ModelRegistry, name: str, version: str, monotonic: Callable[[], float]
) -> bool:
    return activate(registry, name, version, monotonic=monotonic).loaded.gives_probability
