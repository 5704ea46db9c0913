"""From a definition to what everybody reads, step by step.

1. *Begin.* The manifest only adds features to the one in use, and the change log says why. From
   here on the attempt has a snapshot of facts, a stretch of them and a namespace of its own.
2. *Publish* the manifest.
3. *Warm up* a new feed: on everything before the stretch without writing, then on the stretch batch
   by batch into the namespace. It leaves a checkpoint for the process that goes on feeding.
4. *Parity.* Every version of every row that the feed gave, against history, by bits.
5. *Canary.* Servers that take the canary read the namespace from now on.
6. *Check.* What they read, as of the end of the stretch, is what history says, and no entity that
   production answers for is missing.
7. *Promote.* All servers read it.

Each step is recorded in the registry's log when it is done. Steps are functions of what the attempt
began with, so one that was cut off is done again to the same effect: a process that was killed is
followed by another one that calls the same function. A step that says no ends the attempt; what is
in use stays in use, and a canary that has moved already stays apart for people to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from assay.delivery.manifests.changelog import require_note
from assay.delivery.manifests.state import Attempt, ViewState
from assay.delivery.manifests.steps import Steps
from assay.delivery.manifests.values import EVENT_TIMES, ManifestPromotion, Promoted, Span
from assay.domain.instants import render
from assay.errors import Refused
from assay.features import Manifest, check_evolution
from assay.registry import Entry, EventOutcome, EventType

_WORDS: Mapping[EventType, str] = {
    EventType.MANIFEST_PUBLISH: "published in {url}",
    EventType.MANIFEST_WARM_UP: "warmed up on {facts:,} facts; {rows:,} rows of {entities} "
    "entities since {since}",
    EventType.MANIFEST_PARITY: "{equal:,} of {values:,} values equal history bit for bit",
    EventType.MANIFEST_CANARY: "the canary takes it",
    EventType.MANIFEST_CHECK: "the canary reads what history says for {entities} entities; beside "
    "production: {compared} rows compared, {differ} differ",
    EventType.MANIFEST_PROMOTE: "all take it",
}


def promote_manifest(
    where: ManifestPromotion,
    *,
    initiated_by: str,
    span: Span | None = None,
    canary_only: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Promoted:
    """Bring the manifest of a definition into use, or go on with what was begun.

    Parameters
    ----------
    span: the stretch to warm up on, by default the last ``EVENT_TIMES`` event times; an attempt
        that goes on keeps the one that it began with.
    canary_only: stop when the canary reads it and what it reads was checked; the next call without
        goes on from there.
    tell: is told of each step.

    Raises
    ------
    Refused: the change is no addition, the change log does not mention it, or a step said no. What
        was in use still is.
    Conflict: somebody else changed what is in use meanwhile.
    Tampered: ``active_manifest.yaml`` was changed by hand, or a published manifest.
    Unavailable: a store cannot be reached; the same call goes on later.
    """
    name = where.view.name
    state = where.active.follow().get(name, ViewState(name))
    manifest = Manifest.of(where.view)
    before = None if state.active is None else state.active.manifest
    if state.attempt is None and state.active is not None and before == manifest.hash:
        tell(f"{name} {manifest.hash[:12]} is in use since {render(state.active.since)}")
        return Promoted(
            name, manifest.hash, state.active.namespace, before, everywhere=True, changed=False,
            steps={},
        )  # fmt: skip
    attempt = state.attempt
    if attempt is None or attempt.manifest != manifest.hash:
        state = _begin(where, state, manifest, span or Span(event_times=EVENT_TIMES), initiated_by)
        attempt = state.attempt
        assert attempt is not None
        tell(f"promotion of {name} {manifest.hash[:12]} begins, in {attempt.namespace}")
    else:
        tell(
            f"promotion of {name} {manifest.hash[:12]}, begun {render(attempt.begun_at)}, goes on "
            f"with {attempt.next_step}"
        )
    steps = Steps(where, manifest, attempt, initiated_by)
    return _finish(steps, state, canary_only=canary_only, tell=tell)


def _begin(
    where: ManifestPromotion, state: ViewState, manifest: Manifest, span: Span, initiated_by: str
) -> ViewState:
    """Record that an attempt begins, and with what."""
    view = where.view.name
    try:
        if state.active is not None:
            _require_addition(where.catalogue.get(state.active.manifest), manifest)
        notes = require_note(where.changelog, view, state.changelog)
    except Refused as error:
        where.registry.record_manifest(
            EventType.MANIFEST_BEGIN, view, manifest.hash, after=state.last,
            initiated_by=initiated_by, evidence={}, outcome=EventOutcome.REFUSED,
            reason=error.message,
        )  # fmt: skip
        where.active.follow()
        raise
    snapshot = where.facts.snapshot()
    attempt = Attempt(
        manifest=manifest.hash,
        namespace=f"{view}@{manifest.hash[:12]}.{state.attempts + 1}",
        snapshot=snapshot,
        since=span.since(where.facts.arrivals(snapshot)),
        changelog=notes,
        begun_at=0,
    )
    entry = where.registry.record_manifest(
        EventType.MANIFEST_BEGIN, view, manifest.hash, after=state.last,
        initiated_by=initiated_by, evidence=attempt.to_evidence(),
    )  # fmt: skip
    where.active.follow()
    return state.after(entry)


def _require_addition(before: Manifest, after: Manifest) -> None:
    evolution = check_evolution(before, after)
    if not evolution.is_additive:
        raise Refused(
            f"view {after.view}: manifest {after.hash[:12]} does not only add features to "
            f"{before.hash[:12]}, which is in use: " + "; ".join(evolution.obstacles),
            hint="give the changed view another name; whoever reads this one goes on reading it",
        )


def _finish(
    steps: Steps, state: ViewState, *, canary_only: bool, tell: Callable[[str], None]
) -> Promoted:
    """Take every step that is left, and record each."""
    view, active = steps.view.name, steps.where.active
    before = None if state.active is None else state.active.manifest
    found: dict[str, Mapping[str, Any]] = {}
    while (attempt := state.attempt) is not None:
        step = attempt.next_step
        if canary_only and step is EventType.MANIFEST_PROMOTE:
            break
        try:
            evidence = steps.take(step, state)
        except Refused as error:
            _record(steps, step, state, {}, EventOutcome.FAILED, error.message)
            active.follow()
            raise
        state = state.after(_record(steps, step, state, evidence))
        # Before anything else: servers are not to wait for what this process does next.
        active.publish(f"view {view}, log entry {state.last}")
        found[step.value.removeprefix("manifest.")] = evidence
        tell(_WORDS[step].format(**evidence))
    return Promoted(
        view,
        steps.manifest.hash,
        steps.attempt.namespace,
        before,
        everywhere=state.attempt is None,
        changed=bool(found),
        steps=found,
    )


def _record(
    steps: Steps,
    step: EventType,
    state: ViewState,
    evidence: Mapping[str, Any],
    outcome: EventOutcome = EventOutcome.DONE,
    reason: str = "",
) -> Entry:
    return steps.where.registry.record_manifest(
        step, steps.view.name, steps.manifest.hash, after=state.last, initiated_by=steps.by,
        evidence=evidence, outcome=outcome, reason=reason,
    )  # fmt: skip
