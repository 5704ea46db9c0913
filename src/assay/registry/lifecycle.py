"""The life of a version, as one table: which event may move a version from where to where.

::

    staged ----promote, break_glass----> production
    staged ----fail--------------------> failed
    production --promote of another----> archived
    production --fail------------------> failed
    archived ---rollback---------------> production
    production --rollback to another---> failed      (archived with ``keep``)

Nothing else moves a version, and at most one version of a model is in production. ``failed`` is
the end: no event leaves it. The files of a version can be held, released, collected and restored,
and its signatures countersigned; that moves nothing, and neither does an entry about the log. A
``rollback.requested`` moves nothing: it says why the rollback that follows was wanted, so that one
which could not be done leaves its reason behind all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from assay.domain.versions import Stage
from assay.errors import Refused


class EventType(StrEnum):
    """What an entry of the registry's log says happened."""

    REGISTER = "register"
    EVIDENCE = "evidence"
    GATE = "gate"
    APPROVE = "approve"
    PROMOTE = "promote"
    BREAK_GLASS = "break_glass"
    FAIL = "fail"
    ROLLBACK_REQUESTED = "rollback.requested"
    ROLLBACK = "rollback"

    HOLD = "hold"
    RELEASE = "release"
    COLLECT = "collect"
    RESTORE = "restore"
    COUNTERSIGN = "countersign"

    AUDIT_SIGN = "audit.sign"
    AUDIT_ACKNOWLEDGE = "audit.acknowledge"

    SHADOW_START = "shadow.start"
    SHADOW_STOP = "shadow.stop"
    CANARY_START = "canary.start"
    CANARY_END = "canary.end"

    MANIFEST_BEGIN = "manifest.begin"
    MANIFEST_PUBLISH = "manifest.publish"
    MANIFEST_WARM_UP = "manifest.warm_up"
    MANIFEST_PARITY = "manifest.parity"
    MANIFEST_CANARY = "manifest.canary"
    MANIFEST_CHECK = "manifest.check"
    MANIFEST_PROMOTE = "manifest.promote"
    MANIFEST_WITHDRAW = "manifest.withdraw"
    MANIFEST_ROLLBACK = "manifest.rollback"


class EventOutcome(StrEnum):
    """How it ended. Only ``done`` moves a version; the other two leave a trace of the attempt."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class PromotionGateError(Refused):
    """The recorded gates do not allow this version into production."""


TRANSITIONS: Mapping[tuple[EventType, Stage], Stage] = {
    (EventType.PROMOTE, Stage.STAGED): Stage.PRODUCTION,
    (EventType.BREAK_GLASS, Stage.STAGED): Stage.PRODUCTION,
    (EventType.FAIL, Stage.STAGED): Stage.FAILED,
    (EventType.FAIL, Stage.PRODUCTION): Stage.FAILED,
    (EventType.ROLLBACK, Stage.ARCHIVED): Stage.PRODUCTION,
}
"""What an event does to the version that it is about (``to_version``)."""

DISPLACED: Mapping[tuple[EventType, bool], Stage] = {
    (EventType.PROMOTE, False): Stage.ARCHIVED,
    (EventType.BREAK_GLASS, False): Stage.ARCHIVED,
    (EventType.ROLLBACK, False): Stage.FAILED,
    (EventType.ROLLBACK, True): Stage.ARCHIVED,
}
"""Where the version in production goes when an event (with ``keep`` or without) displaces it."""

MOVES = frozenset(event for event, _ in TRANSITIONS)
"""Events that move versions: each is followed by a signed head, a new link and a new manifest."""

DEPLOYMENT_EVENTS = (
    EventType.SHADOW_START,
    EventType.SHADOW_STOP,
    EventType.CANARY_START,
    EventType.CANARY_END,
)
"""Events about what runs beside the version in production; they move no version, and each is
followed by a signed head."""

MANIFEST_EVENTS = tuple(event for event in EventType if event.value.startswith("manifest."))
"""Events about the feature manifests of a view; they move no version."""

MANIFEST_MOVES = frozenset(
    {
        EventType.MANIFEST_CANARY,
        EventType.MANIFEST_PROMOTE,
        EventType.MANIFEST_WITHDRAW,
        EventType.MANIFEST_ROLLBACK,
    }
)
"""Those that change which manifest is in use: each is followed by a signed head."""


@dataclass(frozen=True, slots=True)
class StageChange:
    """One version and the stage that an event puts it into."""

    version: str
    stage: Stage


def stage_changes(
    event: EventType,
    *,
    version: str,
    stage: Stage,
    production: str | None,
    keep: bool = False,
) -> tuple[StageChange, ...]:
    """The moves that ``event`` about ``version`` makes, the displaced version's first.

    Parameters
    ----------
    stage: where ``version`` stands now.
    production: the version of the same model that is in production now, if any.
    keep: a rollback that archives the version it withdraws instead of failing it.

    Raises
    ------
    Refused: the table has no such move; the message says which moves it has.
    """
    target = TRANSITIONS.get((event, stage))
    if target is None:
        allowed = sorted(str(start) for kind, start in TRANSITIONS if kind is event)
        raise Refused(
            f"{event} of version {version}: it is {stage}, expected {' or '.join(allowed)}",
            hint="assay models history shows how it got there",
        )
    changes = []
    if target is Stage.PRODUCTION and production is not None:
        changes.append(StageChange(production, DISPLACED[event, keep]))
    return (*changes, StageChange(version, target))
