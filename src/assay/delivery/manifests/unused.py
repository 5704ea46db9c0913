"""Rows in the online store that no server reads any more, and their end.

1. :func:`uses_of` follows the log: which namespaces are in use, and since when the others are not.
2. :func:`drop_unused` holds what the store has against that, says what stays and why, and removes
   the rest.

A namespace is written down as dropped before its first row goes, under the lock under which a
rollback looks. So no rollback leads to rows of which some are gone, wherever a run was killed; the
next one finds what is left and finishes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from assay.delivery.manifests.active import ActiveManifests
from assay.delivery.manifests.state import ViewState
from assay.domain.canonical import canonical_bytes
from assay.domain.instants import NANOS_PER_SECOND, Instant, render
from assay.features.online import OnlineStore
from assay.features.online.namespaces import view_of
from assay.registry import Entry, EventOutcome, EventType, ModelRegistry
from assay.registry.reading import FEATURES
from assay.storage.files import append_line, drop_torn_tail
from assay.storage.locks import FileLock

GRACE = 600 * NANOS_PER_SECOND
"""How long after its last use a namespace stays: servers follow within seconds, people later."""

_RECORD, _LOCK = "dropped_namespaces.ndjson", "dropped_namespaces.lock"
_ENDED = {
    EventType.MANIFEST_PROMOTE: "replaced",
    EventType.MANIFEST_ROLLBACK: "rolled back",
    EventType.MANIFEST_WITHDRAW: "withdrawn",
}


@dataclass(frozen=True, slots=True)
class NamespaceUse:
    """A namespace that a promotion was given.

    Attributes
    ----------
    use: what it is needed for, in words; None where nothing needs it.
    ended, ended_at: how that came, and when.
    """

    view: str
    name: str
    manifest: str
    use: str | None
    ended: str | None = None
    ended_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class StoredNamespace:
    """Rows under one name in the online store.

    Attributes
    ----------
    manifest: None where no promotion wrote them.
    entities: how many have rows.
    keep: whether they stay; ``why`` they do, or why nothing needs them.
    """

    view: str
    name: str
    manifest: str | None
    entities: int
    keep: bool
    why: str

    def to_json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "namespace": self.name,
            "manifest": self.manifest,
            "entities": self.entities,
            "keep": self.keep,
            "why": self.why,
        }


def uses_of(entries: Iterable[Entry]) -> dict[str, NamespaceUse]:
    """Every namespace that the log names, by name.

    Raises
    ------
    Tampered: an entry does not fit to those before it.
    """
    states: dict[str, ViewState] = {}
    found: dict[str, NamespaceUse] = {}
    for entry in entries:
        view = entry.model.removeprefix(f"{FEATURES}/")
        before = states.get(view, ViewState(view))
        states[view] = before.after(entry)
        needed = _needed(states[view])
        for name in _needed(before).keys() - needed.keys():
            failed = entry.outcome is not EventOutcome.DONE
            ended = "its promotion failed" if failed else _ENDED.get(entry.type, str(entry.type))
            found[name] = replace(found[name], use=None, ended=ended, ended_at=entry.at)
        for name, (manifest, use) in needed.items():
            found[name] = NamespaceUse(view, name, manifest, use)
    return found


def _needed(state: ViewState) -> dict[str, tuple[str, str]]:
    """Manifest and use of the namespaces that a state needs."""
    before = state.before[-1] if state.before else None
    return {
        one.namespace: (one.manifest, use)
        for one, use in (
            (state.attempt, "a promotion under way writes it"),
            (before, "a rollback brings it back"),
            (state.canary, "the canary reads it"),
            (state.active, "servers read it"),
        )
        if one is not None
    }


def drop_unused(
    *,
    registry: ModelRegistry,
    active: ActiveManifests,
    store: OnlineStore,
    forget: Callable[[str], None],
    now: Instant,
    initiated_by: str,
    grace: int = GRACE,
    view: str | None = None,
    dry_run: bool = False,
) -> tuple[StoredNamespace, ...]:
    """Remove the rows of namespaces that nothing needs; everything the store has, by name.

    Kept are what servers or the canary read, what the next rollback brings back, what a promotion
    under way writes, what was needed less than ``grace`` nanoseconds ago, and everything that no
    promotion wrote.

    Parameters
    ----------
    forget: called with the name before its rows go, to remove what a feed has kept about it.
    view: its namespaces alone; all of them when left out.
    dry_run: say what would happen, and change nothing.

    Raises
    ------
    Tampered: ``active_manifest.yaml`` was changed by hand, or the log does not fit together.
    Unavailable: the store cannot be reached.
    """
    stamp = active.stamp()
    active.follow()
    # Servers that were told nothing since the last entry may read anything that it ended.
    told_now = active.stamp() != stamp

    def judged() -> Iterator[StoredNamespace]:
        uses = uses_of(registry.manifest_events())
        with namespaces_locked(registry) as record:
            dropped = dict(record)
        for name in store.views():
            use = uses.get(name)
            of_view = view_of(name) if use is None else use.view
            if view in {None, of_view}:
                keep, why = _judge(use, now, grace, told_now=told_now)
                if name in dropped:  # by a run that did not finish; no rollback leads there
                    keep, why = False, f"given up at {render(dropped[name])[:16]}Z"
                entities = sum(1 for _ in store.entities(name))
                manifest = None if use is None else use.manifest
                yield StoredNamespace(of_view, name, manifest, entities, keep, why)

    found = list(judged())
    if dry_run:
        return tuple(found)
    for place, one in enumerate(found):
        if one.keep:
            continue
        if _give_up(registry, one.name, now, initiated_by):
            forget(one.name)
            store.drop(one.name)
        else:
            found[place] = replace(one, keep=True, why="it is needed again")
    return tuple(found)


def _judge(
    use: NamespaceUse | None, now: Instant, grace: int, *, told_now: bool
) -> tuple[bool, str]:
    if use is None:
        return True, "no promotion wrote it"
    if use.use is not None:
        return True, use.use
    assert use.ended_at is not None
    if told_now:
        return True, f"{use.ended}, and servers are told only now"
    if now - use.ended_at < grace:
        return True, f"{use.ended} at {render(use.ended_at)[:16]}Z: servers may still read it"
    return False, f"{use.ended} at {render(use.ended_at)[:16]}Z"


def _give_up(registry: ModelRegistry, name: str, now: Instant, initiated_by: str) -> bool:
    """Write down that a namespace is dropped, unless it is needed again by now."""
    with namespaces_locked(registry) as dropped:
        if name in dropped:
            return True
        if uses_of(registry.manifest_events())[name].use is not None:
            return False  # rollbacks came in between
        path = registry.root / _RECORD
        drop_torn_tail(path)
        append_line(path, canonical_bytes({"namespace": name, "at": now, "by": initiated_by}))
        return True


@contextmanager
def namespaces_locked(registry: ModelRegistry) -> Iterator[Mapping[str, Instant]]:
    """The namespaces that were given up, and when; none more is while the caller looks at it."""
    with FileLock(registry.root / _LOCK):
        path = registry.root / _RECORD
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        yield {one["namespace"]: one["at"] for one in map(json.loads, lines)}
