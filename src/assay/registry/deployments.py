"""What runs beside a version in production: challengers in shadow, and one canary.

The log is the record; this folds a model's entries into what is deployed now. A deployment is bound
to digests. A new champion begins the canary's analysis anew, because nothing that was measured
against the one before says anything about it; a version that is promoted, brought back or failed is
no challenger any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from assay.domain.canonical import canonical_bytes
from assay.domain.instants import Instant, render
from assay.errors import Conflict, ContractViolation, Refused, Tampered
from assay.registry.journal import NewEvent
from assay.registry.keyring import check_identity
from assay.registry.lifecycle import DEPLOYMENT_EVENTS, MOVES, EventOutcome, EventType
from assay.registry.log import Entry
from assay.registry.model_registry import ModelRegistry
from assay.storage.files import write_atomic

DOORBELL = "deployments.json"
"""A file in the registry's folder that is replaced after each change, for servers to watch."""
LARGEST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class ShadowDeployment:
    """A challenger that predicts on all live inputs, and on whose answers nothing acts.

    ``seq`` is the entry that began it.
    """

    version: str
    digest: str
    since: Instant
    seq: int
    by: str

    def to_json(self) -> dict[str, Any]:
        return {"version": self.version, "digest": self.digest, "since": render(self.since),
                "seq": self.seq, "by": self.by}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CanaryDeployment:
    """A challenger that answers for a share of the entities.

    Attributes
    ----------
    share, salt: which entities; see :class:`assay.serving.models.canary.CanaryRoute`.
    champion: the version that it is compared with.
    since, revision: when the analysis began, and the entry that made it begin: the canary's own, or
        the one that put another champion into production.
    """

    version: str
    digest: str
    champion: str
    share: float
    salt: str
    since: Instant
    revision: int
    by: str

    def to_json(self) -> dict[str, Any]:
        return {"version": self.version, "digest": self.digest, "champion": self.champion,
                "share": self.share, "salt": self.salt, "since": render(self.since),
                "revision": self.revision, "by": self.by}  # fmt: skip

    def check_revision(self, model: str, revision: int) -> None:
        """Refuse to act on this canary for what was found on another one.

        Raises
        ------
        Conflict: another canary, or another champion, began its analysis anew.
        """
        if self.revision != revision:
            raise Conflict(
                f"the canary of {model} is {self.version} at revision {self.revision}, expected "
                f"revision {revision}: it ended or began anew meanwhile",
                hint=f"assay canary list {model}",
            )


@dataclass(frozen=True, slots=True)
class Deployments:
    """What runs beside the champion of one model; ``last`` is the last entry that was read."""

    model: str
    champion: str | None = None
    shadows: Mapping[str, ShadowDeployment] = field(default_factory=dict)
    canary: CanaryDeployment | None = None
    last: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "champion": self.champion,
            "shadows": [one.to_json() for one in self.shadows.values()],
            "canary": None if self.canary is None else self.canary.to_json(),
        }


def deployments_of(
    registry: ModelRegistry, name: str, known: Deployments | None = None
) -> Deployments:
    """What runs beside the champion of a model now, as the log says.

    Parameters
    ----------
    known: an earlier answer of the same registry; entries up to it are not read again.
    """
    state = known or Deployments(name)
    types = (*DEPLOYMENT_EVENTS, *sorted(MOVES))
    return fold(state, registry.history(name, types=types, after=state.last))


def fold(state: Deployments, entries: Iterable[Entry]) -> Deployments:
    """The state after further entries about its model, oldest first."""
    for entry in entries:
        if entry.outcome is EventOutcome.DONE:
            state = replace(_after(state, entry), last=entry.seq)
    return state


def record_deployment(
    registry: ModelRegistry,
    event: EventType,
    name: str,
    version: str,
    *,
    initiated_by: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
    after: int | None = None,
    revision: int | None = None,
) -> Entry:
    """Record that a challenger begins or ends to run, or that its end is asked for.

    Parameters
    ----------
    event: one of :data:`DEPLOYMENT_EVENTS`, or ``rollback.requested`` about a canary.
    after: ``Deployments.last`` as the caller saw it; None where it does not matter.
    revision: of the canary that ends, or whose end is asked for; None for whichever runs.

    Raises
    ------
    Conflict: something else happened to the model's deployments meanwhile.
    Refused: there is no such deployment to end, or the version cannot be one.
    """
    if event not in {*DEPLOYMENT_EVENTS, EventType.ROLLBACK_REQUESTED}:
        raise ContractViolation(f"event {event}: expected one about a deployment")
    if not reason.strip():
        raise ContractViolation(f"{event} needs a reason: expected a sentence for the log")
    with registry.journal.locked():
        now = deployments_of(registry, name)
        if after is not None and now.last != after:
            raise Conflict(
                f"{name}: what runs beside its champion changed meanwhile (log entry {now.last})",
                hint=f"assay shadow list {name}",
            )
        record = registry.get(name, version)
        if event == EventType.SHADOW_STOP and record.version not in now.shadows:
            raise Refused(f"{name} {record.version} is not in shadow",
                          hint=f"assay shadow list {name}")  # fmt: skip
        ends = {EventType.CANARY_END, EventType.ROLLBACK_REQUESTED}
        if event in ends and (now.canary is None or now.canary.version != record.version):
            raise Refused(f"{name} {record.version} is no canary", hint=f"assay canary list {name}")
        if event in ends and now.canary is not None and revision is not None:
            now.canary.check_revision(name, revision)
        entry = registry.journal.append(
            NewEvent(
                event,
                name,
                record.version,
                check_identity(initiated_by),
                reason,
                {**(evidence or {}), "digest": record.digest},
            )
        )
    ring(registry)
    return entry


def ring(registry: ModelRegistry) -> None:
    """Tell servers that watch the registry's folder that they should look at the log."""
    head = registry.latest(1)
    document = {"seq": head[-1].seq if head else 0}
    write_atomic(registry.root / DOORBELL, canonical_bytes(document) + b"\n")


def _after(state: Deployments, entry: Entry) -> Deployments:
    version = str(entry.to_version)
    if entry.type in MOVES:
        return _moved(state, entry, version)
    said = entry.evidence
    shadows = dict(state.shadows)
    try:
        if entry.type is EventType.SHADOW_START:
            shadows[version] = ShadowDeployment(
                version, said["digest"], entry.at, entry.seq, entry.initiated_by
            )
        elif entry.type is EventType.SHADOW_STOP:
            shadows.pop(version, None)
        elif entry.type is EventType.CANARY_START:
            canary = CanaryDeployment(
                version, said["digest"], str(entry.from_version), float(said["share"]),
                str(said["salt"]), entry.at, entry.seq, entry.initiated_by,
            )  # fmt: skip
            return replace(state, canary=canary)
        elif state.canary is not None and state.canary.version == version:
            return replace(state, canary=None)
    except (KeyError, TypeError, ValueError) as error:
        raise Tampered(f"log entry {entry.seq} cannot be read as {entry.type}: {error!r}") from None
    return replace(state, shadows=shadows)


def _moved(state: Deployments, entry: Entry, version: str) -> Deployments:
    champion = state.champion
    if entry.type is not EventType.FAIL:
        champion = version
    elif champion == version:
        champion = None
    canary = state.canary
    if canary is not None:
        if champion is None or version == canary.version:
            canary = None
        elif champion != canary.champion:
            canary = replace(canary, champion=champion, since=entry.at, revision=entry.seq)
    shadows = {key: one for key, one in state.shadows.items() if key != version}
    return replace(state, champion=champion, shadows=shadows, canary=canary)
