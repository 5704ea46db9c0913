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
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
import polars as pl

from assay.delivery.manifests.active import ActiveManifests
from assay.delivery.manifests.changelog import require_note
from assay.delivery.manifests.state import Attempt, InUse, ViewState
from assay.domain.instants import NANOS_PER_SECOND, Instant, render
from assay.domain.order import ORDER_COLUMNS
from assay.errors import AssayError, ContractViolation, Refused, Unavailable
from assay.features import (
    FeatureView,
    Manifest,
    ManifestCatalogue,
    check_evolution,
    compare,
)
from assay.features.offline.arrivals import as_known_history
from assay.features.offline.sessions import SessionCalendar
from assay.features.online import (
    NamedRows,
    NamespacedStore,
    OnlineFeed,
    OnlineStore,
    ServedView,
    StoredRow,
    batches_of,
    read_as_of,
)
from assay.registry import Entry, EventOutcome, EventType, ModelRegistry

EVENT_TIMES = 32
"""How many of the last event times a warm-up feeds, unless it is told otherwise."""

_VERSION = ("event_time", "known_time")


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch at the end of history that a warm-up feeds batch by batch.

    Either what became known in the last ``minutes`` before the last fact, or since the first fact
    of the last ``event_times``.
    """

    event_times: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.event_times, self.minutes) if value is not None]
        if len(given) != 1 or not given[0] > 0:
            raise ContractViolation(
                f"a span of {self.event_times} event times and {self.minutes} minutes: expected "
                "one of the two, above 0"
            )

    def since(self, arrivals: pl.DataFrame) -> Instant:
        """The known time at which the stretch begins.

        Raises
        ------
        ContractViolation: there are no arrivals.
        """
        if arrivals.is_empty():
            raise ContractViolation("there are no facts to warm up on: expected some")
        if self.minutes is not None:
            return _largest(arrivals["known_time"]) - int(self.minutes * 60 * NANOS_PER_SECOND) + 1
        times = arrivals["event_time"].unique().sort()
        first = times[-min(int(self.event_times or 1), len(times))]
        recent = arrivals.filter(pl.col("event_time") >= first)
        return int(recent["known_time"].to_numpy().min())


@dataclass(frozen=True, slots=True)
class FeedRule:
    """When feeds of the desk issue rows; see :class:`~assay.features.online.OnlineFeed`."""

    margin: int
    close_with_batch: bool


class FactSource(Protocol):
    """The facts of a view's source, at a state that can be asked for again."""

    def snapshot(self) -> str:
        """The id of the state that is current."""
        ...

    def arrivals(self, snapshot: str) -> pl.DataFrame:
        """Every version of every fact of a state, in the order in which it became known."""
        ...


@dataclass(frozen=True)
class ManifestPromotion:
    """Everything that a promotion works on.

    Attributes
    ----------
    view: the definition whose manifest is to come into use.
    store: where feeds write; it has to keep every row of the stretch.
    changelog: ``docs/changelog/features.md`` of the desk.
    checkpoints: the folder where feeds remember themselves, one file for each namespace.
    """

    view: FeatureView
    catalogue: ManifestCatalogue
    registry: ModelRegistry
    active: ActiveManifests
    store: OnlineStore
    facts: FactSource
    rule: FeedRule
    changelog: Path
    checkpoints: Path

    def checkpoint(self, namespace: str) -> Path:
        """Where the feed of a namespace remembers itself."""
        return self.checkpoints / f"{namespace}.checkpoint"

    def feed(self, namespace: str) -> OnlineFeed:
        """A feed into a namespace, which goes on from its checkpoint where there is one."""
        store = NamespacedStore(self.store, {self.view.name: namespace})
        return OnlineFeed(
            self.view,
            store,
            self.checkpoint(namespace),
            margin=self.rule.margin,
            close_with_batch=self.rule.close_with_batch,
        )


@dataclass(frozen=True, slots=True)
class Promoted:
    """Where a promotion has led.

    Attributes
    ----------
    before: the manifest that was in use, None for none.
    everywhere: whether all servers read it, or the canary alone.
    changed: whether anything happened; False where it was in use already.
    steps: what was found in each step of this call, by its name.
    """

    view: str
    manifest: str
    namespace: str
    before: str | None
    everywhere: bool
    changed: bool
    steps: Mapping[str, Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "manifest": self.manifest,
            "namespace": self.namespace,
            "before": self.before,
            "everywhere": self.everywhere,
            "changed": self.changed,
            "steps": {name: dict(found) for name, found in self.steps.items()},
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
    run = _Run(where, manifest, attempt, initiated_by, tell)
    return run.finish(state, canary_only=canary_only)


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


class _Run:
    """The steps of one attempt, as far as this process carries it."""

    def __init__(
        self,
        where: ManifestPromotion,
        manifest: Manifest,
        attempt: Attempt,
        initiated_by: str,
        tell: Callable[[str], None],
    ) -> None:
        self.where = where
        self.view = where.view
        self.manifest = manifest
        self.attempt = attempt
        self.by = initiated_by
        self.tell = tell
        self._steps: Mapping[EventType, Callable[[ViewState], dict[str, Any]]] = {
            EventType.MANIFEST_PUBLISH: self._publish,
            EventType.MANIFEST_WARM_UP: self._warm_up,
            EventType.MANIFEST_PARITY: self._parity,
            EventType.MANIFEST_CANARY: lambda _: {},
            EventType.MANIFEST_CHECK: self._check,
            EventType.MANIFEST_PROMOTE: lambda _: {},
        }

    def finish(self, state: ViewState, *, canary_only: bool) -> Promoted:
        """Take every step that is left, and record each."""
        before = None if state.active is None else state.active.manifest
        found: dict[str, Mapping[str, Any]] = {}
        while (attempt := state.attempt) is not None:
            step = attempt.next_step
            if canary_only and step is EventType.MANIFEST_PROMOTE:
                break
            evidence = self._take(step, state)
            state = state.after(self._record(step, state, evidence))
            # Before anything else: servers are not to wait for what this process does next.
            self._publish_pointer(state)
            found[step.value.removeprefix("manifest.")] = evidence
            self.tell(_WORDS[step].format(view=self.view.name, **evidence))
        return Promoted(
            self.view.name,
            self.manifest.hash,
            self.attempt.namespace,
            before,
            everywhere=state.attempt is None,
            changed=bool(found),
            steps=found,
        )

    def _take(self, step: EventType, state: ViewState) -> dict[str, Any]:
        try:
            return self._steps[step](state)
        except Refused as error:
            self._record(step, state, {}, EventOutcome.FAILED, error.message)
            self.where.active.follow()
            raise

    def _record(
        self,
        step: EventType,
        state: ViewState,
        evidence: Mapping[str, Any],
        outcome: EventOutcome = EventOutcome.DONE,
        reason: str = "",
    ) -> Entry:
        return self.where.registry.record_manifest(
            step, self.view.name, self.manifest.hash, after=state.last, initiated_by=self.by,
            evidence=evidence, outcome=outcome, reason=reason,
        )  # fmt: skip

    def _publish_pointer(self, state: ViewState) -> None:
        publish_pointer(self.where.active, f"view {self.view.name}, log entry {state.last}")

    # -- steps ----------------------------------------------------------------------------------

    def _publish(self, _: ViewState) -> dict[str, Any]:
        note = self.where.catalogue.publish(self.manifest, by=self.by)
        return {"url": self.where.catalogue.url, **note.to_json()}

    def _warm_up(self, _: ViewState) -> dict[str, Any]:
        # What an attempt that was killed here wrote is written again, with the same bits.
        self.where.checkpoint(self.attempt.namespace).unlink(missing_ok=True)
        feed = self.where.feed(self.attempt.namespace)
        is_live = pl.col("known_time") >= self.attempt.since
        past, live = self.arrivals.filter(~is_live), self.arrivals.filter(is_live)
        if past.height:
            feed.warm_up(past)
        rows: list[StoredRow] = []
        for batch in batches_of(self.view, live):
            rows += feed.take(batch)
        feed.checkpoint()
        if not rows:
            self._refuse(
                f"the {live.height:,} facts since {render(self.attempt.since)} gave no row",
                hint="warm up on more: --event-times, or more --minutes",
            )
        return {
            "facts": self.arrivals.height,
            "live": live.height,
            "rows": len(rows),
            "entities": len({row.entity for row in rows}),
            "since": render(self.attempt.since),
        }

    def _parity(self, _: ViewState) -> dict[str, Any]:
        held = self._held()
        foreign = sorted({row.manifest for row in held} - {self.manifest.hash})
        if foreign:
            self._refuse(f"rows in {self.attempt.namespace} follow manifest {foreign[0]}")
        report = compare(
            self.history,
            _frame(self.view, held),
            keys=(self.view.entity, *_VERSION),
            features=self.view.feature_names,
        )
        if not report.holds:
            first = report.differences[0] if report.differences else None
            example = (
                ""
                if first is None
                else f"; {first.feature} at {first.key}: history {first.offline!r}, "
                f"online {first.online!r}"
            )
            self._refuse(
                f"parity with history does not hold: {report.bitwise_equal:,} of "
                f"{report.values_compared:,} values are equal, {report.missing} rows missing, "
                f"{report.extra} extra{example}",
                hint=f"assay parity run {self.view.name}",
            )
        return {
            "policy": "bitwise",
            "rows": len(held),
            "values": report.values_compared,
            "equal": report.bitwise_equal,
        }

    def _check(self, state: ViewState) -> dict[str, Any]:
        """Read as the canary does, and compare with history and with what production reads."""
        pointed = self.where.active.read().get(self.view.name)
        taken = None if pointed is None else pointed.taken_by(canary=True)
        if taken is None or taken.namespace != self.attempt.namespace:
            self._refuse(f"the canary reads {taken}, expected {self.attempt.namespace}")
        moment = _largest(self.arrivals["known_time"])
        wanted = {
            str(row[0]): np.array(row[1:], dtype=np.float64) for row in self._newest().iter_rows()
        }
        entities = sorted(wanted)
        read = NamedRows(self.where.catalogue.get(taken.manifest), self.where.catalogue.get)
        rows = self.where.store.read(taken.namespace, entities, moment)
        for entity, row in zip(entities, rows, strict=True):
            values = None if row is None else read.values(row)
            if values is None or values.tobytes() != wanted[entity].tobytes():
                self._refuse(
                    f"the canary reads {None if values is None else values.tolist()} for {entity} "
                    f"as of {render(moment)}, history says {wanted[entity].tolist()}"
                )
        return {
            "as_of": render(moment),
            "entities": len(entities),
            **self._against_production(state.active, dict(zip(entities, rows, strict=True))),
        }

    def _against_production(
        self, active: InUse | None, canary: Mapping[str, StoredRow | None]
    ) -> dict[str, Any]:
        """How many rows both have of one event time, and how many of those differ by a bit.

        That they differ is reported and no reason to stop: history is what the canary was held
        against, and it may be production that is wrong.
        """
        if active is None:
            return {"compared": 0, "differ": 0}
        manifest = self.where.catalogue.get(active.manifest)
        moment = _largest(self.arrivals["known_time"])
        entities = self.arrivals[self.view.entity].cast(pl.String).unique().sort().to_list()
        readings = read_as_of(
            self.where.store, ServedView(active.namespace, manifest.ttl), entities, moment,
            calendar=SessionCalendar.of(self.arrivals),
        )  # fmt: skip
        as_before = NamedRows(manifest, self.where.catalogue.get)
        compared = differ = 0
        for entity, reading in zip(entities, readings, strict=True):
            if reading is None or reading.stale:
                continue
            row = canary.get(entity)
            if row is None:
                self._refuse(
                    f"production answers for {entity} as of {render(moment)}, and the canary has "
                    "no row of it: it had no fact in the stretch that was warmed up on",
                    hint="warm up on more: --event-times, or more --minutes",
                )
            if row.event_time == reading.row.event_time:
                mine, theirs = as_before.values(row), as_before.values(reading.row)
                compared += 1
                differ += mine is None or theirs is None or mine.tobytes() != theirs.tobytes()
        return {"compared": compared, "differ": differ}

    # -- what steps work on ---------------------------------------------------------------------

    @cached_property
    def arrivals(self) -> pl.DataFrame:
        """Every version of every fact of the attempt's snapshot."""
        return self.where.facts.arrivals(self.attempt.snapshot)

    @cached_property
    def history(self) -> pl.DataFrame:
        """The versions of rows that a feed issues since the stretch began, computed from history."""
        rule = self.where.rule
        rows = as_known_history(
            self.view, self.arrivals, margin=rule.margin, close_with_batch=rule.close_with_batch
        )
        return rows.filter(pl.col("known_time") >= self.attempt.since)

    def _newest(self) -> pl.DataFrame:
        """Of each entity in the stretch the row that counts at its end."""
        ordered = self.history.sort(self.view.entity, *ORDER_COLUMNS)
        newest = ordered.unique(self.view.entity, keep="last", maintain_order=True)
        return newest.select(self.view.entity, *self.view.feature_names)

    def _held(self) -> list[StoredRow]:
        names = self.arrivals[self.view.entity].cast(pl.String).unique().sort().to_list()
        store, namespace = self.where.store, self.attempt.namespace
        return [row for entity in names for row in store.history(namespace, entity)]

    def _refuse(self, reason: str, hint: str | None = None) -> NoReturn:
        raise Refused(
            f"view {self.view.name}, manifest {self.manifest.hash[:12]}: {reason}", hint=hint
        )


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


def publish_pointer(active: ActiveManifests, what: str) -> None:
    """Write ``active_manifest.yaml``; when that fails, say first that the event has happened."""
    try:
        active.follow()
    except (AssayError, OSError) as error:
        text = error.message if isinstance(error, AssayError) else str(error)
        raise Unavailable(
            f"{what} IS recorded, but {active.path} could not be written: {text}",
            hint="make it writable; assay features manifests writes it from the log",
        ) from error


def _frame(view: FeatureView, rows: list[StoredRow]) -> pl.DataFrame:
    values = np.array([row.values for row in rows]).reshape(len(rows), len(view.feature_names))
    return pl.DataFrame(
        [
            pl.Series(view.entity, [row.entity for row in rows], dtype=pl.String),
            *(
                pl.Series(name, [getattr(row, name) for row in rows], dtype=pl.Int64)
                for name in _VERSION
            ),
            *(pl.Series(name, values[:, i]) for i, name in enumerate(view.feature_names)),
        ]
    )


def _largest(times: pl.Series) -> Instant:
    return int(times.to_numpy().max())
