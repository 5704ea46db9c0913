"""The features that a service reads: of each view the manifest in use, by the names of its line.

A server follows ``active_manifest.yaml``. What it reads changes with the file, between two requests
and without a restart; what models ask for does not: a model names the manifest it was trained on,
and its source goes on giving those features, from rows of whatever manifest of the line is in use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from assay.delivery.manifests import InUse, ViewInUse
from assay.domain.instants import Instant
from assay.errors import AssayError, NotFound, Unavailable
from assay.features import Manifest, ManifestSet
from assay.features.online import (
    NamedRows,
    OnlineStore,
    Reading,
    ServedView,
    StoredRow,
    readings_of,
)
from assay.orchestration.desk import Desk
from assay.orchestration.service import (
    FollowedSources,
    SourceSessions,
    source_of,
    state_of,
    state_of_rows,
)
from assay.serving import FeatureSource, SourceRow, SourceState
from assay.serving.telemetry.metrics import Sample

_ACTIVE = "assay_feature_manifest_active"
_ACTIVE_HELP = "1 for the manifest whose rows this process reads, by view."


@dataclass(frozen=True, slots=True)
class Pointed:
    """What this process reads of a view now: a manifest in use, and where its rows are."""

    use: InUse
    manifest: Manifest
    store: OnlineStore
    is_canary: bool


class ViewPointer:
    """A view's way from its name to rows; exchanged in one step when the manifest in use is.

    Attributes
    ----------
    now: None while no manifest of the view was promoted.
    known: the published manifests that rows may carry, by hash.
    """

    def __init__(self) -> None:
        self.now: Pointed | None = None
        self.known: dict[str, Manifest] = {}

    def find(self, digest: str) -> Manifest:
        """A manifest that rows may carry; never from afar, because a request is waiting.

        Raises
        ------
        NotFound: no row of what is in use can carry it.
        """
        try:
            return self.known[digest]
        except KeyError:
            raise NotFound(f"manifest {digest} was never in use here") from None


class DeskFeatures(FollowedSources):
    """The feature sources of a desk's service, by the hash that models and requests name.

    There is one for every manifest of a view that was ever active, for the one the canary takes
    where this is the canary, and for the desk's own definition.

    Parameters
    ----------
    canary: whether this process reads what the canary takes.

    Raises
    ------
    Tampered: ``active_manifest.yaml`` was changed by hand, or a manifest is not what its hash says.
    NotFound: a manifest in use is not published. Unavailable: it cannot be read.
    """

    def __init__(self, desk: Desk, *, canary: bool) -> None:
        self._desk = desk
        self._canary = canary
        self._following = threading.Lock()
        self._stamp: object = object()  # unequal to every stamp
        self._store: OnlineStore | None = None
        self._pointers: dict[str, ViewPointer] = {}
        self._sources: dict[str, FeaturesInUse] = {}
        desk.active_manifests.follow()
        self.follow()

    def __getitem__(self, manifest: str) -> FeatureSource:
        return self._sources[manifest]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def follow(self) -> None:
        """Read what the file says, if it was replaced. What was read before stays on an error.

        Raises
        ------
        AssayError: the file, a manifest or the store cannot be read.
        """
        with self._following:
            self._follow()

    def _follow(self) -> None:
        active = self._desk.active_manifests
        stamp = active.stamp()
        if stamp == self._stamp:
            return
        in_use = active.read()
        sources: dict[str, FeaturesInUse] = {}
        changes: list[tuple[ViewPointer, Pointed | None]] = []
        for view in sorted({*in_use, *self._desk.views}):
            pointer = self._pointers.setdefault(view, ViewPointer())
            said = in_use.get(view)
            changes.append((pointer, None if said is None else self._pointed(said, pointer)))
            for manifest in self._readers(view, said, pointer):
                digest = ManifestSet((manifest,)).hash
                sources[digest] = self._sources.get(digest) or self._source(manifest, pointer)
        # Nothing is exchanged before everything was read.
        for pointer, now in changes:
            pointer.now = now
        fresh = [one for digest, one in sources.items() if digest not in self._sources]
        self._sources = sources
        self._stamp = stamp
        for one in fresh:
            one.refresh()  # what has to be read from the disk is read here, not by a request

    def states(self, as_of: Instant) -> Mapping[str, SourceState]:
        """Whether each source answers and is fresh; the rows of all views in use are read at once.

        Where that fails each is read by itself: one damaged row is not the fault of all.
        """
        sources = dict(self._sources)
        pointed = {
            digest: (now, sorted(source.entities()))
            for digest, source in sources.items()
            if (now := source.pointed) is not None
        }
        # Several manifests of a view are read from one namespace, with the same entities.
        asked = {now.use.namespace: names for now, names in pointed.values()}
        found: dict[str, SourceState] = {}
        try:
            rows = self._opened().read_views(asked, as_of) if asked else {}
            for digest, (now, names) in pointed.items():
                if asked[now.use.namespace] == names:
                    found[digest] = sources[digest].state_from(now, rows[now.use.namespace], as_of)
        except AssayError:
            found = {}
        return {key: found.get(key) or source.state(as_of) for key, source in sources.items()}

    def samples(self) -> Iterable[Sample]:
        """Which manifest of each view this process reads."""
        for view, pointer in sorted(self._pointers.items()):
            now = pointer.now
            if now is not None:
                role = "canary" if now.is_canary else "production"
                digest = now.manifest.hash
            elif view in self._desk.views:
                role, digest = "definition", Manifest.of(self._desk.views[view]).hash
            else:
                continue
            labels = {"hash": digest, "view": view, "role": role}
            yield _ACTIVE, "gauge", _ACTIVE_HELP, labels, 1

    def _pointed(self, said: ViewInUse, pointer: ViewPointer) -> Pointed | None:
        use = said.taken_by(canary=self._canary)
        for digest in {*said.line, *([use.manifest] if use else [])} - set(pointer.known):
            pointer.known[digest] = self._desk.manifests.get(digest)
        if use is None:
            return None
        return Pointed(use, pointer.known[use.manifest], self._opened(), use == said.canary)

    def _readers(
        self, view: str, said: ViewInUse | None, pointer: ViewPointer
    ) -> Iterable[Manifest]:
        """The manifests by whose names the view is read."""
        wanted = dict(pointer.known) if said is not None else {}
        if view in self._desk.views:
            own = Manifest.of(self._desk.views[view])
            wanted[own.hash] = own
        return wanted.values()

    def _source(self, manifest: Manifest, pointer: ViewPointer) -> FeaturesInUse:
        view = self._desk.views.get(manifest.view)
        definition: Callable[[], FeatureSource] | None = None
        if view is not None and Manifest.of(view).hash == manifest.hash:
            definition = lambda: source_of(self._desk, view, self._desk.stores.find(self._desk))  # noqa: E731
        return FeaturesInUse(self._desk, manifest, pointer, definition)

    def _opened(self) -> OnlineStore:
        if self._store is None:
            self._store = self._desk.stores.find(self._desk)
        if self._store is None:
            raise Unavailable(
                "there is no online store, though manifests are in use",
                hint="feed it; assay features manifests says where rows are expected",
            )
        return self._store


class FeaturesInUse:
    """Rows of a view, by the names of one manifest, as :class:`assay.serving.FeatureSource`.

    Parameters
    ----------
    wanted: whose features are given.
    pointer: which rows are in use.
    definition: makes the source that answers while nothing of the view was promoted, for the
        desk's own definition.
    """

    def __init__(
        self,
        desk: Desk,
        wanted: Manifest,
        pointer: ViewPointer,
        definition: Callable[[], FeatureSource] | None,
    ) -> None:
        self._is_remote = desk.stores.is_remote
        self._wanted = wanted
        self._pointer = pointer
        self._definition = definition
        self._unpromoted: FeatureSource | None = None
        self._digest = ManifestSet((wanted,)).hash
        self._named = NamedRows(wanted, pointer.find)
        self._sessions = SourceSessions(desk, wanted.source, wanted.entity)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the manifest's features in order."""
        return self._wanted.feature_names

    @property
    def manifest(self) -> str:
        """Hash of the set of the manifest: what models and requests name."""
        return self._digest

    @property
    def may_wait(self) -> bool:
        """Whether the rows are on another machine."""
        return self._is_remote

    def rows(self, entities: Sequence[str], as_of: Instant) -> list[SourceRow | None]:
        """The newest row of each entity that had happened and was known at ``as_of``."""
        now = self._pointer.now
        if now is None:
            return self._of_definition().rows(entities, as_of)
        return self._rows(now, now.store.read(now.use.namespace, entities, as_of), as_of)

    def entities(self) -> Collection[str]:
        """Every entity of the view's source table."""
        return self._sessions.entities

    def refresh(self) -> None:
        """Read sessions and entities again when the source table changed."""
        self._sessions.refresh()
        if self._pointer.now is None and self._definition is not None:
            self._of_definition().refresh()

    def state(self, as_of: Instant) -> SourceState:
        """Whether the store answers, and whether any entity's row is fresh."""
        now = self._pointer.now
        if now is None:
            return self._of_definition().state(as_of)
        return state_of(self, self._called(now), as_of)

    @property
    def pointed(self) -> Pointed | None:
        """What is read now; None while nothing of the view was promoted."""
        return self._pointer.now

    def state_from(
        self, now: Pointed, stored: Sequence[StoredRow | None], as_of: Instant
    ) -> SourceState:
        """The state, from the rows of all entities in what is pointed at.

        Raises
        ------
        AssayError: a row is of a manifest that cannot be read.
        """
        rows = [row for row in self._rows(now, stored, as_of) if row is not None]
        return state_of_rows(rows, self._called(now))

    def _called(self, now: Pointed) -> str:
        return f"{self._wanted.view} from {now.use.namespace}"

    def _rows(
        self, now: Pointed, stored: Sequence[StoredRow | None], as_of: Instant
    ) -> list[SourceRow | None]:
        view = ServedView(now.use.namespace, self._wanted.ttl)
        readings = readings_of(view, stored, as_of, calendar=self._sessions.calendar)
        return [None if one is None else self._row(one) for one in readings]

    def _row(self, reading: Reading) -> SourceRow:
        row = reading.row
        try:
            values = self._named.values(row)
        except NotFound:
            values = None
        # What cannot be read by these names is handed on under its own manifest, and is refused.
        return SourceRow(
            row.values if values is None else values,
            row.event_time,
            row.known_time,
            row.manifest if values is None else self._digest,
            reading.stale,
            row.values,
        )

    def _of_definition(self) -> FeatureSource:
        if self._unpromoted is None:
            if self._definition is None:
                raise Unavailable(
                    f"no manifest of view {self._wanted.view} is in use any more",
                    hint=f"assay features promote {self._wanted.view}",
                )
            self._unpromoted = self._definition()
        return self._unpromoted
