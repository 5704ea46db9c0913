"""What the log says about the manifests of a view.

::

    begin -> publish -> warm_up -> parity -> canary -> check -> promote
                                               |         |
                                               |       failed: the canary stays apart
                                             withdraw: the canary is given up
    promote ... rollback: the manifest before is in use again

The state of a view follows from its entries, one after the other, and from nothing else. A step
that failed ends its attempt; a process that was killed does not, and the next one goes on behind
the last step recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay.domain.instants import Instant, render
from assay.errors import Tampered
from assay.registry import Entry, EventOutcome, EventType

STEPS = (
    EventType.MANIFEST_PUBLISH,
    EventType.MANIFEST_WARM_UP,
    EventType.MANIFEST_PARITY,
    EventType.MANIFEST_CANARY,
    EventType.MANIFEST_CHECK,
    EventType.MANIFEST_PROMOTE,
)
"""What happens between the beginning of a promotion and its end, in order."""


@dataclass(frozen=True, slots=True)
class InUse:
    """A manifest that servers read, and the name that its rows have in the online store.

    ``entry`` is the log's entry that put it there, at ``since``.
    """

    manifest: str
    namespace: str
    since: Instant
    by: str
    entry: int

    def to_json(self) -> dict[str, Any]:
        return {
            "manifest": self.manifest,
            "namespace": self.namespace,
            "since": render(self.since),
            "by": self.by,
            "entry": self.entry,
        }


@dataclass(frozen=True, slots=True)
class Attempt:
    """A promotion under way, and everything that a process which goes on with it needs.

    Attributes
    ----------
    namespace: its own in the online store; no other attempt writes there.
    snapshot: of the view's source table; the facts that it warms up on and is compared with.
    since: what became known from then on is fed one batch after the other.
    changelog: digests of the notes about the view, when it began.
    done: the steps behind it.
    """

    manifest: str
    namespace: str
    snapshot: str
    since: Instant
    changelog: tuple[str, ...]
    begun_at: Instant
    done: tuple[EventType, ...] = ()

    @property
    def next_step(self) -> EventType:
        """The step that comes next."""
        return STEPS[len(self.done)]

    def to_evidence(self) -> dict[str, Any]:
        """What the entry of its beginning keeps."""
        return {
            "namespace": self.namespace,
            "snapshot": self.snapshot,
            "since": self.since,
            "changelog": list(self.changelog),
        }


@dataclass(frozen=True, slots=True)
class ViewState:
    """Where a view stands.

    Attributes
    ----------
    active: what production reads; None while nothing was promoted.
    canary: what the canary reads, where it is something else.
    before: what was active before, the latest last: a rollback brings that back.
    line: every manifest that was ever active, in order. Rows are read by the names of each.
    changelog: digests of the notes about the view, when the active manifest was promoted.
    attempts: promotions ever begun.
    last: the number of the last entry about the view, 0 for none.
    """

    view: str
    active: InUse | None = None
    canary: InUse | None = None
    before: tuple[InUse, ...] = ()
    line: tuple[str, ...] = ()
    changelog: tuple[str, ...] = ()
    attempt: Attempt | None = None
    attempts: int = 0
    last: int = 0

    def to_json(self) -> dict[str, Any]:
        """What servers need to know: the body of the view in ``active_manifest.yaml``."""
        return {
            "active": None if self.active is None else self.active.to_json(),
            "canary": None if self.canary is None else self.canary.to_json(),
            "before": self.before[-1].to_json() if self.before else None,
            "line": list(self.line),
        }

    def after(self, entry: Entry) -> ViewState:
        """The state once this has happened.

        Raises
        ------
        Tampered: the entry does not fit to what came before it.
        """
        state = replace(self, last=entry.seq)
        try:
            if entry.type is EventType.MANIFEST_BEGIN:
                return _begun(state, entry)
            if entry.outcome is not EventOutcome.DONE:
                return replace(state, attempt=None)
            if entry.type in STEPS:
                return _stepped(state, entry)
            if entry.type is EventType.MANIFEST_WITHDRAW:
                return replace(state, canary=None, attempt=None)
            return _rolled_back(state, entry)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise Tampered(
                f"entry {entry.seq} of the log about view {self.view} cannot have happened: "
                f"{error!r}",
                hint="assay audit verify",
            ) from None


def _begun(state: ViewState, entry: Entry) -> ViewState:
    if entry.outcome is not EventOutcome.DONE:
        return state  # a promotion that was refused; one under way goes on
    attempt = Attempt(
        manifest=str(entry.to_version),
        namespace=entry.evidence["namespace"],
        snapshot=entry.evidence["snapshot"],
        since=entry.evidence["since"],
        changelog=tuple(entry.evidence["changelog"]),
        begun_at=entry.at,
    )
    return replace(state, attempt=attempt, attempts=state.attempts + 1)


def _stepped(state: ViewState, entry: Entry) -> ViewState:
    attempt = state.attempt
    if attempt is None or (attempt.next_step, attempt.manifest) != (entry.type, entry.to_version):
        raise ValueError(f"{entry.type} of {entry.to_version} without what comes before it")
    taken = InUse(attempt.manifest, attempt.namespace, entry.at, entry.initiated_by, entry.seq)
    if entry.type is EventType.MANIFEST_PROMOTE:
        return replace(
            state,
            active=taken,
            canary=None,
            before=state.before if state.active is None else (*state.before, state.active),
            line=(*(one for one in state.line if one != taken.manifest), taken.manifest),
            changelog=attempt.changelog,
            attempt=None,
        )
    canary = taken if entry.type is EventType.MANIFEST_CANARY else state.canary
    moved = replace(attempt, done=(*attempt.done, entry.type))
    return replace(state, canary=canary, attempt=moved)


def _rolled_back(state: ViewState, entry: Entry) -> ViewState:
    target = state.before[-1]
    if target.manifest != entry.to_version:
        raise ValueError(f"rollback to {entry.to_version}, before was {target.manifest}")
    back = replace(target, since=entry.at, by=entry.initiated_by, entry=entry.seq)
    return replace(state, active=back, canary=None, before=state.before[:-1], attempt=None)


def view_state(view: str, entries: Iterable[Entry]) -> ViewState:
    """The state of a view after its entries, oldest first.

    Raises
    ------
    Tampered: an entry does not fit to those before it.
    """
    state = ViewState(view)
    for entry in entries:
        state = state.after(entry)
    return state


def all_states(entries: Iterable[Entry], prefix: str) -> Mapping[str, ViewState]:
    """The states of all views, by name; ``prefix`` stands before the view in an entry."""
    states: dict[str, ViewState] = {}
    for entry in entries:
        view = entry.model.removeprefix(prefix)
        states[view] = states.get(view, ViewState(view)).after(entry)
    return dict(sorted(states.items()))


def snapshot_begun(namespace: str, entries: Iterable[Entry]) -> str | None:
    """The snapshot of the source that a namespace was warmed up on; None for an unknown one."""
    for entry in entries:
        if entry.type is EventType.MANIFEST_BEGIN and entry.evidence.get("namespace") == namespace:
            return str(entry.evidence["snapshot"])
    return None
