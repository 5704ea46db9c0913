"""A desk's service: production versions from the registry, features from the online store.

1. The feature views of the desk become feature sources, by the hash of their manifest: see
   :mod:`~assay.orchestration.features_in_use`, and below for views that were never promoted. Its
   request views compute over their rows.
2. Every version in production is verified, loaded and exercised; anything refused stops the start.
3. A predictor over both, with the desk's kill switch, becomes the service.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.delivery.canary import CanaryPolicy
from assay.delivery.live import RegistryLiveSource
from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, NANOS_PER_SECOND, Instant, render
from assay.domain.order import ORDER_COLUMNS
from assay.errors import AssayError, NotFound, did_you_mean
from assay.features import FeatureView, Manifest, ManifestSet
from assay.features.offline.sessions import SessionCalendar
from assay.features.online import MemoryStore, OnlineStore, StoredRow, read_as_of
from assay.orchestration.challengers import CanaryWatch, ChallengerFiles, Running
from assay.orchestration.desk import Desk
from assay.orchestration.operators import DeskOperators
from assay.orchestration.table_names import gold_table
from assay.orchestration.witness import RegistryWitness
from assay.registry import FileLedger
from assay.serving import (
    FeatureSource,
    KillSwitch,
    Limits,
    LiveModels,
    Predictor,
    RequestInputs,
    Runtime,
    ServiceRecord,
    SourceRow,
    SourceState,
)
from assay.serving.http.service import Operation, Service, ServiceFiles
from assay.serving.reloading import load_all
from assay.serving.telemetry.metrics import Sample
from assay.serving.telemetry.tracing import Tracing
from assay.serving.telemetry.worker_board import WorkerBoard

_NANOS_PER_DAY = 86_400 * NANOS_PER_SECOND
WATCH = "canary-watch"
"""Who ends a canary in the log where the service has no identity of its own."""
_FROM_GOLD = 500  # sessions per entity that are kept where no online store is fed


@dataclass(frozen=True, slots=True)
class ServingLayout:
    """What a service of the desk accepts, and where it writes; every path is absolute.

    ``champion`` is the default model; None means the only one that is live. ``warm_up`` is the
    number of rows that a model is warmed up with when it is loaded; 0 means not at all.
    """

    champion: str | None
    limits: Limits
    operation: Operation
    warm_up: int
    kill_file: Path
    record: Path
    predictions: Path
    feedback: Path
    runtime: Runtime = field(default_factory=Runtime)
    canary_policy: CanaryPolicy = field(default_factory=CanaryPolicy)
    ends_canaries: bool = True


class FollowedSources(Mapping[str, FeatureSource]):
    """Feature sources that follow what is in use while the service runs."""

    @abstractmethod
    def follow(self) -> None:
        """Take notice of another manifest in use; asked about once a second."""

    @abstractmethod
    def states(self, as_of: Instant) -> Mapping[str, SourceState]:
        """Whether each source answers and is fresh."""

    @abstractmethod
    def samples(self) -> Iterable[Sample]:
        """What ``/metrics`` says about the manifests in use."""


def make_service(
    desk: Desk,
    layout: ServingLayout,
    sources: FollowedSources,
    *,
    killed: bool,
    process: int,
    server: str = "",
    identity: str | None = None,
    board: WorkerBoard | None = None,
    version: str,
    tracing: Tracing | None = None,
    tokens: bool = False,
) -> Service:
    """A service over everything that is in production, ready to be run.

    Parameters
    ----------
    sources: of its features, by what models and requests name.
    killed: begin with the kill switch on. process, server: the number and the machine that its
        record carries.
    identity: whose key signs its record; None for nobody's.
    board: what the processes of one service know of each other; None for the only one.
    version: of the package.
    tracing: keeps a span of each prediction request; None for none.
    tokens: whether whoever operates it is asked for a token of the desk.

    Raises
    ------
    NotFound: nothing is in production, or the default model is not.
    IntegrityError: a version does not verify, load, predict, or fit the desk's views.
    """
    source = RegistryLiveSource(
        # At each look: that is what brings it up to date after another's crash.
        desk.open_registry,
        desk.layout.registry,
        monotonic=time.monotonic,
        linked=desk.has_links,
        runtime=layout.runtime,
        warm_up=layout.warm_up,
    )
    live = load_all(source, layout.champion)
    if not live.models:
        raise NotFound(
            "nothing is in production, so there is nothing to serve",
            hint="assay models list; then assay models promote NAME VERSION",
        )
    if live.champion is None and len(live.models) == 1:
        live = LiveModels(live.models, next(iter(live.models)))
    if live.champion is not None and live.champion not in live.models:
        raise NotFound(
            f"the default model {live.champion!r} is not in production",
            hint=did_you_mean(live.champion, live.models),
        )
    head = (desk.ledger or FileLedger(desk.layout.registry)).head
    witness = RegistryWitness(head, desk.keyring, server, identity)
    record = ServiceRecord(
        layout.record, desk.clock, process=process, server=server, witness=witness
    )
    switch = KillSwitch(layout.kill_file, record, at_start=killed)
    predictor = Predictor(
        live, sources, desk.clock, requests=request_inputs(desk, sources), switch=switch,
        limits=layout.limits,
    )  # fmt: skip

    def registry_state() -> str:
        return f"{len(source.wanted())} models in production"

    watch = CanaryWatch(
        desk,
        ChallengerFiles(
            layout.predictions.parent / "shadow" / "predictions.jsonl", layout.feedback
        ),
        layout.canary_policy,
        initiated_by=identity or WATCH,
        acts=layout.ends_canaries,
    )

    def follow() -> None:
        try:
            sources.follow()
        finally:
            watch_canaries(service, watch)

    service = Service(
        predictor,
        source,
        switch,
        record,
        ServiceFiles(layout.predictions, layout.feedback),
        desk.clock,
        registry_state,
        version=version,
        operation=layout.operation,
        board=board,
        follow=follow,
        tracing=tracing,
        operators=DeskOperators(desk) if tokens else None,
    )
    service.metrics.ask(sources.samples)
    service.metrics.ask(watch.samples)
    return service


def watch_canaries(service: Service, watch: CanaryWatch) -> None:
    """Judge the canaries of a service, and take no answer from one that does harm any more.

    The process stops asking it before the registry is told, and whether or not it can be.
    """
    live = service.predictor.live
    running = {
        name: Running(
            route.model.version, route.model.digest, live.models[name].digest, route.revision
        )
        for name, route in live.canaries.items()
        if name in live.models
    }
    harmful = watch.look(running)
    for name in harmful:
        service.challengers.suspend(name, running[name].revision)
    if harmful:
        service.reloader.reload()
    watch.end_harmful()


def source_of(desk: Desk, view: FeatureView, store: OnlineStore | None) -> FeatureSource:
    """The source of a view that was never promoted: rows of its definition.

    The online store answers when it holds rows under the view's name; otherwise the newest rows of
    gold do, so that a desk can serve before anything feeds its store.
    """
    if store is not None and view.name in store.views():
        return StoreFeatures(desk, view, store)
    return GoldFeatures(desk, view)


def request_inputs(desk: Desk, sources: Mapping[str, FeatureSource]) -> list[RequestInputs]:
    """The desk's request views over the rows that are served.

    One that was declared over another state of a view, or over several views, is left out: a model
    that was trained on it is refused when it is loaded.
    """
    found = []
    for view in desk.request_views.values():
        source = sources.get(ManifestSet.of(view.stored).hash)
        if source is not None:
            found.append(RequestInputs(view, source))
    return found


class StoreFeatures:
    """One view's rows in an online store, as :class:`assay.serving.FeatureSource`."""

    origin = "online store"

    def __init__(self, desk: Desk, view: FeatureView, store: OnlineStore) -> None:
        self._desk = desk
        self._view = view
        self._store = store
        # Rows name the manifest of their view; models name the set of manifests they were trained
        # on, which for the features of one view is the set of that one.
        self._row_manifest = Manifest.of(view).hash
        self._manifest = ManifestSet.of([view]).hash
        self._sessions = SourceSessions(desk, view.source, view.entity)
        self._sessions.refresh()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the view's features in order."""
        return self._view.feature_names

    @property
    def manifest(self) -> str:
        """Hash of the set of the view's manifest: what models and requests name."""
        return self._manifest

    @property
    def may_wait(self) -> bool:
        """Whether the rows are on another machine."""
        return self._desk.stores.is_remote

    def rows(self, entities: Sequence[str], as_of: Instant) -> list[SourceRow | None]:
        """The newest row of each entity that had happened and was known at ``as_of``."""
        calendar = self._sessions.calendar
        readings = read_as_of(self._store, self._view, entities, as_of, calendar=calendar)
        return [
            None
            if one is None
            else SourceRow(
                one.row.values,
                one.row.event_time,
                one.row.known_time,
                self._manifest if one.row.manifest == self._row_manifest else one.row.manifest,
                one.stale,
                one.row.values,
            )
            for one in readings
        ]

    def entities(self) -> Collection[str]:
        """Every entity of the view's source table."""
        return self._sessions.entities

    def refresh(self) -> None:
        """Read sessions and entities again when the source table changed."""
        self._sessions.refresh()

    def state(self, as_of: Instant) -> SourceState:
        """Whether the store answers, and whether any entity's row is fresh."""
        return state_of(self, f"{self._view.name} from {self.origin}", as_of)


def state_of(source: FeatureSource, name: str, as_of: Instant) -> SourceState:
    """Whether a source answers, and whether any entity's row is fresh; ``name`` is for people."""
    try:
        rows = [row for row in source.rows(sorted(source.entities()), as_of) if row is not None]
    except AssayError as error:
        return SourceState(reachable=False, fresh=False, detail=error.message)
    return state_of_rows(rows, name)


def state_of_rows(rows: Sequence[SourceRow], name: str) -> SourceState:
    """The state of a source that has these rows."""
    if not rows:
        return SourceState(reachable=True, fresh=False, detail=f"{name}: no rows")
    fresh = sum(not row.stale for row in rows)
    newest = max(row.event_time for row in rows)
    return SourceState(
        reachable=True,
        fresh=fresh > 0,
        detail=f"{name}: {fresh} of {len(rows)} entities fresh, newest {render(newest)}",
    )


class SourceSessions:
    """Sessions and entities of a source table, read again when it has changed."""

    def __init__(self, desk: Desk, source: str, entity: str) -> None:
        self._desk = desk
        self._source = source
        self._entity = entity
        self._snapshot: str | None = None
        self.entities: frozenset[str] = frozenset()
        self.calendar = ExpectedSessions(SessionCalendar(np.empty(0, np.int64)))

    def refresh(self) -> None:
        """Look whether the table has another snapshot."""
        table = self._desk.lake.table(f"silver/{self._source}")
        snapshot = table.current()
        if snapshot is None or snapshot.id == self._snapshot:
            return
        frame = table.read(snapshot)
        self.calendar = ExpectedSessions(SessionCalendar.of(frame))
        self.entities = frozenset(frame[self._entity].cast(pl.String).unique().to_list())
        self._snapshot = snapshot.id


class GoldFeatures(StoreFeatures):
    """The newest rows of a view's gold table, kept in memory."""

    origin = "gold"
    may_wait = False  # in memory

    def __init__(self, desk: Desk, view: FeatureView) -> None:
        super().__init__(desk, view, MemoryStore(max_versions=_FROM_GOLD))
        self._gold: str | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read gold again when it was built again."""
        super().refresh()
        table = self._desk.lake.table(gold_table(self._view))
        snapshot = table.current()
        if snapshot is None or snapshot.id == self._gold:
            return
        store = MemoryStore(max_versions=_FROM_GOLD)
        frame = table.read(snapshot)
        store.write(
            self._view.name, gold_rows(self._view, frame, snapshot.metadata["manifest"], _FROM_GOLD)
        )
        self._store, self._gold = store, snapshot.id


def gold_rows(view: FeatureView, frame: pl.DataFrame, manifest: str, last: int) -> list[StoredRow]:
    """The last rows of each entity of a gold table, as an online store keeps them."""
    newest = frame.sort(view.entity, *ORDER_COLUMNS).group_by(view.entity).tail(last)
    values = newest.select(view.feature_names).to_numpy().astype(np.float64)
    keys = newest.select(pl.col(view.entity).cast(pl.String), *ORDER_COLUMNS).rows()
    return [
        StoredRow(entity, event, known, rank, sequence, manifest, row)
        for (entity, event, known, rank, sequence), row in zip(keys, values, strict=True)
    ]


class _Span(NamedTuple):
    """From a session until just before the next, and the session's number."""

    begin: Instant
    end: Instant
    number: int


class ExpectedSessions:
    """The sessions that are known, and after the last of them one on every weekday.

    Without the second part nothing could ever go stale: when facts stop coming, sessions stop as
    well. A holiday counts as a session there, so a row may be called stale a day early.
    """

    def __init__(self, known: SessionCalendar) -> None:
        self._known = known
        # Where none is known, every weekday is expected: something has to go stale.
        self._last = int(known.times[-1]) if len(known) else 0
        self._now = _Span(0, 0, 0)
        self._event = lru_cache(maxsize=4_096)(self._span)

    def count_between(self, after: NDArray[np.int64], upto: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many sessions lie in each interval ``(after, upto]``."""
        return self._known.count_between(after, upto) + self._weekdays(upto) - self._weekdays(after)

    def count(self, after: Instant, upto: Instant) -> int:
        """:meth:`count_between` for one interval, when few rows are read at many moments: between
        two sessions the count stays what it was.
        """
        now = self._now
        if not now.begin <= upto < now.end:
            now = self._now = self._span(upto)
        return now.number - self._event(after).number

    def _span(self, moment: Instant) -> _Span:
        """The time between two sessions in which a moment lies, with the number of the first."""
        times, at = self._known.times, np.array([moment])
        place = int(self._known.number_after(at)[0])
        begin = int(times[place - 1]) if place else MIN_INSTANT
        end = int(times[place]) if place < len(times) else MAX_INSTANT
        days = max(moment - self._last, 0) // _NANOS_PER_DAY
        if moment >= self._last:
            begin = max(begin, self._last + days * _NANOS_PER_DAY)
        end = min(end, self._last + (days + 1) * _NANOS_PER_DAY)
        return _Span(begin, end, place - 1 + int(self._weekdays(at)[0]))

    def _weekdays(self, moments: NDArray[np.int64]) -> NDArray[np.int64]:
        """Weekdays after the last session, by the time of day of that session."""
        days = np.maximum(moments - self._last, 0) // _NANOS_PER_DAY
        start = np.datetime64(self._last // _NANOS_PER_DAY, "D") + np.timedelta64(1, "D")
        counted = np.busday_count(start, start + days.astype("timedelta64[D]"))
        return np.asarray(counted, dtype=np.int64)
