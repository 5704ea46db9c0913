"""From silver to the online store: what was committed since the last time, once each.

1. Facts are taken in the order in which the lake stored them, not by their times: one that was
   known early and stored late is taken when it comes.
2. A feed computes the rows and writes them. How far it has come stands in its checkpoint, and with
   how many arrivals each commit ended in the marks beside it. A run that was killed goes on where
   it stood, and rows that are written twice are stored once.
3. The first run loads history without writing it and gives rows for the last sessions;
   :func:`backfill` writes those of any range, as they were known.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from assay.delivery.manifests import InUse, snapshot_begun
from assay.domain.instants import Instant, render
from assay.errors import Conflict, ContractViolation, IncompatibleVersion, NotFound, Tampered
from assay.features import FeatureView, Manifest
from assay.features.offline.arrivals import as_known_history
from assay.features.online import (
    NamespacedStore,
    OnlineFeed,
    OnlineStore,
    StoredRow,
    batches_of,
)
from assay.lake import Snapshot, TableCommit
from assay.orchestration.desk import Desk
from assay.orchestration.feeding import all_arrivals, arrivals_by_commit, commit_of, feed_rule
from assay.orchestration.manifest_promotion import FEEDS
from assay.orchestration.progress import Progress
from assay.storage.files import append_line, drop_torn_tail
from assay.storage.locks import FileLock
from assay.storage.seals import sealed_line, sealed_lines

FOLDER: Final = "materialization"
_AT_ONCE: Final = 4_096  # rows that are written together
_CHECKPOINT_EVERY: Final = 5_000  # arrivals


@dataclass(frozen=True, slots=True)
class Materialization:
    """What one run did.

    Attributes
    ----------
    name: of the rows in the store.
    commits, arrivals: how many were taken; ``loaded`` of the arrivals as history, without rows.
    rows: how many were issued and are in the store.
    withdrawn: facts that a commit took out of the source; their rows stay as they were known.
    position: arrivals taken so far, over all runs.
    newest: the latest event time in the store, None where it is empty.
    """

    view: str
    name: str
    manifest: str
    commits: int
    arrivals: int
    loaded: int
    rows: int
    withdrawn: int
    position: int
    newest: Instant | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Backfill:
    """What a backfill did.

    Attributes
    ----------
    name: of the rows in the store.
    rows: how many rows the store holds that it did not hold before.
    let_go: rows of the range that it does not hold, being older than all that it keeps of their
        entity.
    """

    view: str
    name: str
    rows: int
    let_go: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far a view's online rows are behind its source.

    Attributes
    ----------
    name: of the rows in the store.
    entities: with rows in the store, of ``known`` ones in the source.
    newest, source_newest: latest event times in the store and in the source.
    behind: event times of the source after the newest one of the store.
    pending: commits that were not taken yet.
    lost: whether rows are not there that were issued: every commit was taken, and event times are
        missing at the end. A server that was cut off from its disk may have lost what it accepted.
    """

    view: str
    name: str
    manifest: str
    entities: int
    known: int
    newest: Instant | None
    source_newest: Instant | None
    behind: int
    pending: int
    lost: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Mark:
    """After the commit ``number``, so many arrivals have been taken."""

    number: int
    end: int


_NOTHING: Final = _Mark(-1, 0)


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows of a view go.

    Attributes
    ----------
    name: of the rows in the store.
    checkpoint: where their feed remembers itself.
    begun: the snapshot of the source that the feed was warmed up on by whoever made it; None where
        it begins with the first commit.
    """

    name: str
    checkpoint: Path
    begun: str | None = None


def targets_of(desk: Desk, view: FeatureView) -> list[Target]:
    """Where servers read the rows of a view: under its name, or, once a manifest was promoted,
    under the namespaces of production and canary.

    A namespace of another definition than the desk's cannot be fed by it: see :func:`unfed`.

    Raises
    ------
    Conflict: servers read rows of other definitions only.
    """
    state = desk.active_manifests.state(view.name)
    own = Manifest.of(view).hash
    used = [one for one in (state.active, state.canary) if one is not None]
    mine = [one for one in used if one.manifest == own]
    if state.active is not None and not mine:
        raise Conflict(
            f"view {view.name}: servers read manifest {used[0].manifest[:12]}, and the desk's "
            f"definition is {own[:12]}, which cannot compute its rows",
            hint=f"assay features promote {view.name}; or bring back the definition",
        )
    events = desk.registry.manifest_events(view.name)
    feeds = desk.layout.lake / FEEDS
    targets = [
        Target(
            one.namespace,
            feeds / f"{one.namespace}.checkpoint",
            snapshot_begun(one.namespace, events),
        )
        for one in mine
    ]
    if state.active is None:  # whatever the canary reads, all others read rows under the name
        checkpoint = desk.layout.lake / FOLDER / view.name / "feed.checkpoint"
        targets.insert(0, Target(view.name, checkpoint))
    return targets


def unfed(desk: Desk, view: FeatureView) -> list[InUse]:
    """What servers read of a view and the desk's definition cannot compute: it gets no new rows."""
    state = desk.active_manifests.state(view.name)
    own = Manifest.of(view).hash
    used = (state.active, state.canary)
    return [one for one in used if one is not None and one.manifest != own]


class Materializer:
    """Brings one view's online rows up to date with its source.

    Parameters
    ----------
    store: where rows go; the caller closes it.
    target: under which name, and from where on.
    """

    def __init__(self, desk: Desk, view: FeatureView, store: OnlineStore, target: Target) -> None:
        self.view = view
        self.target = target
        self._store = NamespacedStore(store, {view.name: target.name})
        self._folder = desk.layout.lake / FOLDER / target.name
        self._commits = self._folder / "commits.ndjson"
        self._table = desk.lake.table(f"silver/{view.source}")

    def run(self, progress: Progress, *, full: bool = False) -> Materialization:
        """Take every commit that was not taken yet; with ``full``, from the first one on.

        Raises
        ------
        NotFound: the source is empty. ContractViolation: it lacks a column of the view.
        Unavailable: another run is on its way.
        IncompatibleVersion: the view changed since the last run.
        Tampered: the marks have changed. Conflict: they are of a longer history.
        """
        started = time.monotonic()
        self.view.check(self._source().schema)
        with FileLock(self._folder / "run.lock"):
            if full:
                self._forget()
            feed = self._open_feed()
            taken = feed.position
            done = self._begun(taken)
            last = [_NOTHING, *(mark for mark in done if mark.end <= taken)][-1]
            end, commits, loaded, rows, withdrawn = last.end, 0, 0, 0, 0
            for commit in arrivals_by_commit(self._table, self.view, after=last.number):
                progress.event(f"{self.view.name}: {_words(commit)}")
                if feed.position == 0:
                    loaded = self._load(feed, commit.rows)
                rows += self._take(feed, commit.rows, end)
                end += commit.rows.height
                self._mark(_Mark(commit.number, end), done)
                commits, withdrawn = commits + 1, withdrawn + commit.withdrawn
            if feed.position > taken:
                feed.checkpoint()
        return Materialization(
            view=self.view.name,
            name=self.target.name,
            manifest=Manifest.of(self.view).hash,
            commits=commits,
            arrivals=feed.position - taken,
            loaded=loaded,
            rows=rows,
            withdrawn=withdrawn,
            position=feed.position,
            newest=self._newest(),
            seconds=time.monotonic() - started,
        )

    def backfill(self, start: Instant, end: Instant, progress: Progress) -> Backfill:
        """Write every version of the rows with event times in ``[start, end)``, as they were known.

        Rows that are there already are left as they are, so a run that was killed is repeated.

        Raises
        ------
        NotFound: the source is empty.
        ContractViolation: the range is empty, or the source lacks a column of the view.
        Conflict: the store holds rows of another definition of the view.
        """
        if end <= start:
            raise ContractViolation(
                f"a range from {render(start)} to {render(end)} is empty: expected a later end"
            )
        self.view.check(self._source().schema)
        progress.event(f"{self.view.name}: computing what was known")
        arrivals = all_arrivals(self._table, self.view)
        history = as_known_history(self.view, arrivals, **feed_rule(self.view))
        wanted = history.filter(pl.col("event_time").is_between(start, end, closed="left"))
        # In the order in which rows became known: whatever instant a run ends at, what is stored
        # is what was known by some moment.
        wanted = wanted.sort("known_time", "event_time", self.view.entity)
        manifest, before = Manifest.of(self.view).hash, self._count(start, end)
        for offset in range(0, wanted.height, _AT_ONCE):
            part = wanted[offset : offset + _AT_ONCE]
            values = part.select(self.view.feature_names).to_numpy()
            keys = part.select(self.view.key_columns).iter_rows()
            rows = [
                StoredRow(entity, event_time, known_time, rank, sequence, manifest, row)
                for (entity, event_time, known_time, rank, sequence), row in zip(
                    keys, values, strict=True
                )
            ]
            self._store.write(self.view.name, rows)
            progress.event(f"{self.view.name}: {offset + part.height:,} of {wanted.height:,} rows")
        # Counted, not added up: a store that is full takes the older rows and lets them go again.
        held = self._count(start, end)
        return Backfill(
            self.view.name, self.target.name, rows=held - before, let_go=wanted.height - held
        )

    def freshness(self, read: Mapping[str, Sequence[StoredRow | None]]) -> Freshness:
        """How far the store is behind the source; see :func:`freshness_of`.

        Parameters
        ----------
        read: the newest row of each entity of the source, by the name of the target.

        Raises
        ------
        NotFound: the source is empty.
        Tampered: the marks have changed. Conflict: they are of a longer history.
        """
        snapshot = self._source()
        times = self._table.read(snapshot, columns=["event_time"])["event_time"].unique()
        rows = [row for row in read[self.target.name] if row is not None]
        newest = max((row.event_time for row in rows), default=None)
        behind = times.len() if newest is None else int((times > newest).sum())
        last = [self._first_mark(0), *self._marks()][-1]
        pending = len(self._table.history()) - 1 - last.number
        # Behind a barrier the latest event time may still be open: its rows wait.
        is_open = self.view.has_barrier and not feed_rule(self.view)["close_with_batch"]
        return Freshness(
            view=self.view.name,
            name=self.target.name,
            manifest=Manifest.of(self.view).hash,
            entities=len(rows),
            known=len(read[self.target.name]),
            newest=newest,
            source_newest=times.max(),  # type: ignore[arg-type]
            behind=behind,
            pending=pending,
            lost=not pending and behind > is_open,
        )

    def _source(self) -> Snapshot:
        snapshot = self._table.current()
        if snapshot is None:
            raise NotFound(f"table {self._table.name} is empty", hint="assay ingest")
        return snapshot

    def _open_feed(self) -> OnlineFeed:
        try:
            return OnlineFeed(
                self.view,
                self._store,
                self.target.checkpoint,
                checkpoint_every=_CHECKPOINT_EVERY,
                **feed_rule(self.view),
            )
        except IncompatibleVersion as error:
            raise IncompatibleVersion(
                f"view {self.view.name} changed since its rows were last materialized: "
                f"{error.message}",
                hint="rows of two definitions do not mix: give the view a new name",
            ) from error

    def _load(self, feed: OnlineFeed, rows: pl.DataFrame) -> int:
        """Load what came before the last sessions of a history; how many arrivals that is."""
        times = rows["event_time"].unique().sort(descending=True)
        margin = feed_rule(self.view)["margin"]
        if times.len() <= margin:
            return 0
        recent = rows.filter(pl.col("event_time") >= times[margin - 1])
        first = recent["batch"][0]
        start = int((rows["batch"] == first).arg_max() or 0)
        if start:
            feed.warm_up(rows[:start])
        return start

    def _take(self, feed: OnlineFeed, arrivals: pl.DataFrame, start: int) -> int:
        """Take the batches of a commit that were not taken; how many rows they gave."""
        end, rows = max(start, feed.position), 0
        for batch in batches_of(self.view, arrivals[end - start :]):
            end += len(batch)
            rows += len(feed.take(batch, position=end))
        return rows

    def entities(self) -> list[str]:
        """Every entity of the source.

        Raises
        ------
        NotFound: the source is empty.
        """
        self._source()
        return self._table.read(columns=[self.view.entity])[self.view.entity].unique().to_list()

    def _count(self, start: Instant, end: Instant) -> int:
        """How many rows of a range the store holds."""
        return sum(
            start <= row.event_time < end
            for entity in self.entities()
            for row in self._store.history(self.view.name, entity)
        )

    def _newest(self) -> Instant | None:
        rows = self._store.read(self.view.name, self.entities())
        return max((row.event_time for row in rows if row is not None), default=None)

    # -- marks ----------------------------------------------------------------------------------

    def _begun(self, position: int) -> list[_Mark]:
        """The marks; the first one where somebody else made the feed and left it at a position."""
        done = self._marks()
        if not done and position:
            done = [self._first_mark(position)]
            self._mark(done[0], [])
        return done

    def _first_mark(self, position: int) -> _Mark:
        begun = self.target.begun
        return _NOTHING if begun is None else _Mark(commit_of(self._table, begun), position)

    def _marks(self) -> list[_Mark]:
        # A wrong number would pass over commits for good, and nobody would ever miss their rows.
        hint = f"assay features materialize {self.view.name} --full"
        try:
            marks = [_Mark(**line) for line in sealed_lines(self._commits)]
        except (Tampered, TypeError) as error:
            said = error.message if isinstance(error, Tampered) else f"{self._commits}: {error}"
            raise Tampered(said, hint=hint) from None
        count = len(self._table.history())
        if marks and marks[-1].number >= count:
            raise Conflict(
                f"{self._commits} says that commit {marks[-1].number} of {self._table.name} was "
                f"taken, which has {count}: its history is another one",
                hint=hint,
            )
        return marks

    def _mark(self, mark: _Mark, done: list[_Mark]) -> None:
        if mark in done:
            return  # a run that was killed before its checkpoint had come as far
        drop_torn_tail(self._commits)
        append_line(self._commits, sealed_line(asdict(mark)))

    def _forget(self) -> None:
        for path in (self.target.checkpoint, self._commits):
            path.unlink(missing_ok=True)


def forget_feed(desk: Desk, name: str) -> None:
    """Remove what the feed of promoted rows has kept; a run that is under way ends first.

    Parameters
    ----------
    name: of the rows in the store.
    """
    folder = desk.layout.lake / FOLDER / name
    with ExitStack() as stack:
        if folder.is_dir():
            stack.enter_context(FileLock(folder / "run.lock"))
        (folder / "commits.ndjson").unlink(missing_ok=True)
        (desk.layout.lake / FEEDS / f"{name}.checkpoint").unlink(missing_ok=True)


def freshness_of(store: OnlineStore, materializers: Sequence[Materializer]) -> list[Freshness]:
    """How far a store is behind the sources of several views; it is read once for all of them.

    Raises
    ------
    NotFound: a source is empty.
    """
    read = store.read_views({one.target.name: one.entities() for one in materializers})
    return [one.freshness(read) for one in materializers]


def _words(commit: TableCommit) -> str:
    gone = f", {commit.withdrawn:,} withdrawn" if commit.withdrawn else ""
    return (
        f"commit {commit.number} of {render(commit.committed_at)[:10]} brought "
        f"{commit.rows.height:,} facts{gone}"
    )
