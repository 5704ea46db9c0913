"""From silver to gold: run a view's program over history, and prove that events give the same.

1. Gold holds what a feed issues that takes the facts as they arrived: every version of every row,
   with the moment from which it was known. So a training set, which asks gold as of its decisions,
   has the rows that a server had there, also after a source has corrected itself.
2. Facts are taken a stretch at a time. Where nothing was corrected, a stretch is computed at once;
   around a fact that came late or was revised, batch by batch.
3. A row may be issued again long after its year was computed, so what is computed waits on the disk
   until all facts were taken; then each year is written as a whole.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from assay.domain.order import ORDER_COLUMNS
from assay.errors import Conflict, NotFound
from assay.features import FeatureView, Manifest, OnlineDriver, ParityReport, compare
from assay.features.offline.arrivals import AsKnown
from assay.lake import Snapshot, Table, as_first_known, by_year
from assay.orchestration.desk import Desk
from assay.orchestration.feeding import (
    all_arrivals,
    arrivals_in_stretches,
    commit_of,
    feed_rule,
    rows_of_feed,
)
from assay.orchestration.manifests import note_build
from assay.orchestration.progress import Progress
from assay.orchestration.table_names import gold_table
from assay.storage.locks import FileLock

ROWS_AT_ONCE = 250_000
"""Rows of history that are computed at once: with 50 features, about a gigabyte at the peak."""

_FEED: Final = "feed"  # in the metadata of gold: by which rule its versions were issued


@dataclass(frozen=True, slots=True)
class FeatureBuild:
    """One view's gold table.

    ``values`` counts feature values, NaN included; ``source_snapshot`` is what they were computed
    from.

    Attributes
    ----------
    rows: versions of rows; ``reissued`` counts those that took the place of an earlier one.
    revised: facts of the source that came more than once.
    without_row: facts that came when so many later event times stood that a feed gives them no row
        of their own; they count in the windows of later rows.
    changed: False when the same gold was there already.
    """

    view: str
    table: str
    manifest: str
    snapshot: str
    source_snapshot: str
    rows: int
    reissued: int
    revised: int
    without_row: int
    features: int
    entities: int
    changed: bool
    seconds: float

    @property
    def values(self) -> int:
        return self.rows * self.features

    def to_json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "table": self.table,
            "manifest": self.manifest,
            "snapshot": self.snapshot,
            "source_snapshot": self.source_snapshot,
            "rows": self.rows,
            "reissued": self.reissued,
            "revised": self.revised,
            "without_row": self.without_row,
            "features": self.features,
            "entities": self.entities,
            "values": self.values,
            "changed": self.changed,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class ParityProof:
    """One view's history, computed event by event, against its gold table."""

    view: str
    manifest: str
    snapshot: str
    offline_values: int
    online_values: int
    report: ParityReport
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "manifest": self.manifest,
            "snapshot": self.snapshot,
            "offline_values": self.offline_values,
            "online_values": self.online_values,
            **self.report.to_json(),
            "seconds": self.seconds,
        }


def read_source(desk: Desk, view: FeatureView) -> pl.DataFrame:
    """The facts that a view is computed from, each as it was first known, for the drivers.

    Raises
    ------
    NotFound: silver is empty.
    """
    table = desk.lake.table(f"silver/{view.source}")
    versions = table.read(_source(table))
    view.check(versions.columns)
    frame = as_first_known(versions, entity=view.entity)
    return frame.with_columns(pl.col("source_rank").cast(pl.Int64))


def _source(table: Table) -> Snapshot:
    snapshot = table.current()
    if snapshot is None:
        raise NotFound(f"table {table.name} is empty", hint="assay ingest")
    return snapshot


def current_gold(desk: Desk, view: FeatureView) -> tuple[Table, Snapshot]:
    """A view's gold table and its snapshot, when that is what building it now would give.

    Raises
    ------
    NotFound: the view has not been built.
    Conflict: the view or its source changed since, or gold is of an earlier build of Assay, which
        made it of facts as they were first known; old features would pass for new ones.
    """
    table = desk.lake.table(gold_table(view))
    snapshot = table.current()
    hint = f"assay features build {view.name}"
    if snapshot is None:
        raise NotFound(f"table {table.name} is empty", hint=hint)
    source = desk.lake.table(f"silver/{view.source}")
    for what, now in _made_of(view, source, source.current()).items():
        built = snapshot.metadata.get(what)
        if built is None and what == _FEED:
            raise Conflict(
                f"table {table.name} holds facts as they were first known, which is not what is "
                "served after a correction: expected every version that a feed issues",
                hint=hint,
            )
        if built != now:
            raise Conflict(
                f"table {table.name} was built from {what} {str(built)[:12]}, "
                f"which is {now[:12]} now",
                hint=hint,
            )
    return table, snapshot


def _made_of(view: FeatureView, table: Table, source: Snapshot | None) -> dict[str, str]:
    """What gold of a source's snapshot depends on, as its own snapshot says it.

    The snapshot alone does not tell which facts arrived: one that was withdrawn is in none.
    """
    rule = feed_rule(view)
    end = "the batch" if rule["close_with_batch"] else "the next"
    return {
        _FEED: f"{rule['margin']} event times, each ending with {end}",
        "manifest": Manifest.of(view).hash,
        "source": "None" if source is None else source.id,
        "commit": "None" if source is None else str(commit_of(table, source.id)),
    }


@dataclass
class _Years:
    """Frames by the year of their event times, in a folder, until all are there."""

    folder: Path
    _count: int = field(default=0, init=False)

    def add(self, kind: str, frame: pl.DataFrame) -> None:
        if frame.is_empty():
            return
        self._count += 1
        for year, part in by_year(frame).items():
            (self.folder / kind / year).mkdir(parents=True, exist_ok=True)
            # Not compressed: it is read once, and soon.
            part.write_ipc(self.folder / kind / year / f"{self._count:06d}.arrow")

    def names(self, kind: str) -> list[str]:
        return sorted(path.name for path in (self.folder / kind).glob("*"))

    def read(self, kind: str, year: str) -> pl.DataFrame:
        files = sorted((self.folder / kind / year).glob("*.arrow"))
        return pl.concat([pl.read_ipc(path) for path in files], rechunk=True)


@dataclass
class _Build:
    """Gold of a view while it is made; the counts are those of :class:`FeatureBuild`."""

    view: FeatureView
    years: _Years
    progress: Progress
    rows: int = 0
    reissued: int = 0
    revised: int = 0
    without_row: int = 0
    entities: set[str] = field(default_factory=set)
    nothing: pl.DataFrame = field(default_factory=pl.DataFrame)

    def take(self, stretches: Iterator[pl.DataFrame], *, workers: int) -> None:
        """Compute every version that a feed issues, and put it on the disk."""
        history = AsKnown(self.view, **feed_rule(self.view), workers=workers)
        taken = 0
        for arrivals in stretches:
            versions = history.take(arrivals)
            self.years.add("facts", arrivals.select(self.view.entity, "event_time"))
            self.years.add("rows", versions)
            self.nothing = versions.clear()
            self.entities.update(versions[self.view.entity].unique())
            taken += arrivals.height
            self.progress.event(f"computed {taken:,} rows")

    def parts(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """Gold year by year, each sorted by entity and the total order."""
        keys = [self.view.entity, "event_time"]
        written = self.years.names("rows")
        for year in self.years.names("facts"):
            arrived = self.years.read("facts", year).group_by(keys).len()
            self.revised += arrived.filter(pl.col("len") > 1).height
            if year not in written:
                self.without_row += arrived.height
                continue
            gold = self.years.read("rows", year).sort(self.view.entity, *ORDER_COLUMNS)
            first = gold.select(keys).unique()
            self.without_row += arrived.height - first.height
            self.rows += gold.height
            self.reissued += gold.height - first.height
            yield year, gold
        if not written:
            yield from by_year(self.nothing).items()


def build_features(desk: Desk, name: str, progress: Progress) -> FeatureBuild:
    """Compute what a feed of a view issues over all of history and commit it to gold.

    A stretch of about ``ROWS_AT_ONCE`` facts is in memory at a time, and its features.

    Raises
    ------
    NotFound: silver is empty.
    """
    started = time.monotonic()
    view = desk.view(name)
    source = desk.lake.table(f"silver/{view.source}")
    origin = _source(source)
    view.check(origin.schema)
    metadata = _made_of(view, source, origin)
    published = Manifest.of(view).publish(desk.layout.lake / "manifests")
    progress.event(f"computing {len(view.features)} features over {origin.rows:,} versions of rows")
    table = desk.lake.table(gold_table(view))
    before = table.current()
    folder = desk.layout.lake / "building" / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        shutil.rmtree(folder)  # what a build left that was killed
        try:
            build = _Build(view, _Years(folder), progress)
            build.take(
                arrivals_in_stretches(
                    source, view, upto=int(metadata["commit"]), rows=ROWS_AT_ONCE
                ),
                workers=desk.layout.workers,
            )
            snapshot = table.commit(build.parts(), metadata=metadata)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    note_build(published)
    if build.reissued or build.revised:
        progress.event(
            f"{build.revised:,} facts of {view.source} were revised after they were first known; "
            f"{build.reissued:,} rows were issued again: features are as they were known at each "
            "moment, labels take the last value"
        )
    if build.without_row:
        progress.event(
            f"{build.without_row:,} facts of {view.source} arrived too late for rows of their own: "
            f"a feed issues rows of the last {feed_rule(view)['margin']} event times"
        )
    return FeatureBuild(
        view=name,
        table=table.name,
        manifest=metadata["manifest"],
        snapshot=snapshot.id,
        source_snapshot=origin.id,
        rows=build.rows,
        reissued=build.reissued,
        revised=build.revised,
        without_row=build.without_row,
        features=len(view.features),
        entities=len(build.entities),
        changed=before is None or before.id != snapshot.id,
        seconds=time.monotonic() - started,
    )


def _issued(view: FeatureView, arrivals: pl.DataFrame) -> pl.DataFrame:
    """Every version of a row, event by event: by a feed, or by the driver inside it where every
    fact came once and in order, for then a feed issues what its driver gives, in half the time.
    """
    keys = [view.entity, "event_time"]
    in_order = (
        arrivals["event_time"].is_sorted() and not arrivals.select(keys).is_duplicated().any()
    )
    if not in_order or view.lateness is not None:
        return rows_of_feed(view, arrivals)
    return OnlineDriver(view).replay(arrivals.sort(keys))


def prove_parity(desk: Desk, name: str, progress: Progress) -> ParityProof:
    """Feed what arrived to an online feed, batch by batch, and compare every bit with gold.

    A version of a row is what is compared: entity, event time, known time and the rest of its key.

    Raises
    ------
    NotFound: the view has not been built. Conflict: it or its source changed since.
    """
    started = time.monotonic()
    view = desk.view(name)
    table, snapshot = current_gold(desk, view)
    offline = table.read(snapshot)
    arrivals = all_arrivals(desk.lake.table(f"silver/{view.source}"), view)
    progress.event(f"feeding {len(arrivals):,} events one by one")
    online = _issued(view, arrivals)
    progress.event("comparing every value")
    report = compare(offline, online, keys=view.key_columns, features=view.feature_names)
    return ParityProof(
        view=name,
        manifest=snapshot.metadata["manifest"],
        snapshot=snapshot.id,
        offline_values=len(offline) * len(view.features),
        online_values=len(online) * len(view.features),
        report=report,
        seconds=time.monotonic() - started,
    )
