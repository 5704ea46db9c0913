"""From silver to gold: run a view's program over history, and prove that events give the same.

Gold is made of every fact as it was first known, which is what a live process was fed. A value that
a source corrects later changes labels, never a feature: computed from the correction, the features
of every window around it could not have been known at their sessions.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from assay.errors import Conflict, NotFound
from assay.features import (
    FeatureView,
    Manifest,
    OfflineDriver,
    OnlineDriver,
    ParityReport,
    compare,
)
from assay.lake import Snapshot, Table, as_first_known, by_year
from assay.orchestration.desk import Desk
from assay.orchestration.manifests import note_build
from assay.orchestration.progress import Progress

ROWS_AT_ONCE = 250_000
"""Rows of history that are computed at once: with 50 features, about a gigabyte at the peak."""

_YEAR = re.compile(r"[0-9]{4}")


@dataclass(frozen=True, slots=True)
class FeatureBuild:
    """One view's gold table.

    ``values`` counts feature values, NaN included; ``source_snapshot`` is what they were computed
    from; ``revised`` counts the source's rows that were corrected after they were first known, and
    entered as first known; ``changed`` is False when the same gold was there already.
    """

    view: str
    table: str
    manifest: str
    snapshot: str
    source_snapshot: str
    rows: int
    revised: int
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
            "revised": self.revised,
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


def gold_table(view: FeatureView) -> str:
    """The lake's name for a view's gold table."""
    return f"gold/{view.name}"


def read_source(desk: Desk, view: FeatureView) -> tuple[pl.DataFrame, int, Snapshot]:
    """The rows that a view is computed from, as first known; how many of them were revised later;
    and the snapshot they come from.

    Raises
    ------
    NotFound: silver is empty.
    """
    source = History.of(desk, view)
    frame = source.first_known(source.table.read(source.snapshot))
    return frame, source.revised, source.snapshot


@dataclass
class History:
    """The silver table that a view is computed from.

    ``rows`` and ``revised`` count the rows given so far, and those of them that were corrected
    after they were first known.
    """

    view: FeatureView
    table: Table
    snapshot: Snapshot
    rows: int = field(default=0, init=False)
    revised: int = field(default=0, init=False)

    @classmethod
    def of(cls, desk: Desk, view: FeatureView) -> History:
        """The current snapshot.

        Raises
        ------
        NotFound: silver is empty.
        """
        table = desk.lake.table(f"silver/{view.source}")
        snapshot = table.current()
        if snapshot is None:
            raise NotFound(f"table {table.name} is empty", hint="assay ingest")
        return cls(view, table, snapshot)

    def stretches(self) -> Iterator[pl.DataFrame]:
        """The rows as first known, one stretch of time after the other; all at once where the
        table is not kept by year.
        """
        by_years = all(_YEAR.fullmatch(file.part) for file in self.snapshot.files)
        rows = ROWS_AT_ONCE if by_years else max(1, self.snapshot.rows)
        for versions in self.table.stretches(self.snapshot, rows=rows):
            yield self.first_known(versions)

    def first_known(self, versions: pl.DataFrame) -> pl.DataFrame:
        """Of all versions of facts those that were known first, typed as for the drivers."""
        self.view.check(versions.columns)
        entity = self.view.entity
        frame = as_first_known(versions, entity=entity)
        self.rows += frame.height
        often = versions.group_by(entity, "event_time").len().filter(pl.col("len") > 1)
        self.revised += often.height
        return frame.with_columns(pl.col("source_rank").cast(pl.Int64))


def current_gold(desk: Desk, view: FeatureView) -> tuple[Table, Snapshot]:
    """A view's gold table and its snapshot, when that is what building it now would give.

    Raises
    ------
    NotFound: the view has not been built.
    Conflict: the view or its source changed since; old features would pass for new ones.
    """
    table = desk.lake.table(gold_table(view))
    snapshot = table.current()
    hint = f"assay features build {view.name}"
    if snapshot is None:
        raise NotFound(f"table {table.name} is empty", hint=hint)
    source = desk.lake.table(f"silver/{view.source}").current()
    wanted = {"manifest": Manifest.of(view).hash, "source": source.id if source else None}
    for what, now in wanted.items():
        built = snapshot.metadata.get(what)
        if built != now:
            raise Conflict(
                f"table {table.name} was built from {what} {str(built)[:12]}, "
                f"which is {str(now)[:12]} now",
                hint=hint,
            )
    return table, snapshot


def build_features(desk: Desk, name: str, progress: Progress) -> FeatureBuild:
    """Compute a view over all of history and commit it to gold, under its manifest.

    A stretch of about ``ROWS_AT_ONCE`` rows is in memory at a time, and its features.
    """
    started = time.monotonic()
    view = desk.view(name)
    source = History.of(desk, view)
    manifest = Manifest.of(view)
    published = manifest.publish(desk.layout.lake / "manifests")
    progress.event(
        f"computing {len(view.features)} features over {source.snapshot.rows:,} versions of rows"
    )
    entities: set[str] = set()

    def computed() -> Iterator[tuple[str, pl.DataFrame]]:
        given = 0
        stretches = OfflineDriver(view).run_stretches(
            source.stretches(), workers=desk.layout.workers
        )
        for gold in stretches:
            entities.update(gold[view.entity].unique())
            progress.event(f"computed {source.rows:,} rows")
            given += gold.height
            yield from by_year(gold).items()
        if given != source.rows:
            raise AssertionError(f"{source.rows} rows in, {given} rows out")

    table = desk.lake.table(gold_table(view))
    before = table.current()
    metadata: Mapping[str, str] = {"manifest": manifest.hash, "source": source.snapshot.id}
    snapshot = table.commit(computed(), metadata=metadata)
    note_build(published)
    if source.revised:
        progress.event(
            f"{source.revised:,} rows of {view.source} were revised after they were first known: "
            "features keep the first value, labels take the last"
        )
    return FeatureBuild(
        view=name,
        table=table.name,
        manifest=manifest.hash,
        snapshot=snapshot.id,
        source_snapshot=source.snapshot.id,
        rows=source.rows,
        revised=source.revised,
        features=len(view.features),
        entities=len(entities),
        changed=before is None or before.id != snapshot.id,
        seconds=time.monotonic() - started,
    )


def prove_parity(desk: Desk, name: str, progress: Progress) -> ParityProof:
    """Feed history event by event to the online driver and compare every bit with gold.

    Raises
    ------
    NotFound: the view has not been built. Conflict: it or its source changed since.
    """
    started = time.monotonic()
    view = desk.view(name)
    table, snapshot = current_gold(desk, view)
    frame, _, _ = read_source(desk, view)
    offline = table.read(snapshot, verify=True)
    progress.event(f"feeding {len(frame):,} events one by one")
    online = OnlineDriver(view).replay(frame)
    progress.event("comparing every value")
    report = compare(offline, online, keys=(view.entity, "event_time"))
    return ParityProof(
        view=name,
        manifest=snapshot.metadata["manifest"],
        snapshot=snapshot.id,
        offline_values=len(offline) * len(view.features),
        online_values=len(online) * len(view.features),
        report=report,
        seconds=time.monotonic() - started,
    )
