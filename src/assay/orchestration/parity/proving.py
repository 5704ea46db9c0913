"""One view's proof: what the online side holds, or computes, against what history says."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, Instant
from assay.errors import NotFound
from assay.features import FeatureView, Manifest
from assay.features.kernel.frames import batch_starts
from assay.features.offline.arrivals import as_known_history
from assay.features.online import NamespacedStore, OnlineStore
from assay.features.online.store import MAX_VERSIONS
from assay.features.parity import (
    Authority,
    DayRoots,
    Horizon,
    Judgement,
    ParityPolicy,
    ParityReport,
    StoreComparison,
    Stored,
    chained_root,
    check_answers,
    compare_store,
    complete_since,
    read_stored,
)
from assay.features.parity.days import MANIFEST
from assay.orchestration.building import ParityProof, current_gold
from assay.orchestration.desk import Desk
from assay.orchestration.feeding import all_arrivals, feed_rule, rows_of_feed
from assay.orchestration.progress import Progress

SHOWN: Final = 20
"""Rows that a proof names of each kind."""
QUANTILES: Final = 41
"""Points at which a page draws a distribution."""


class OnlineSide(StrEnum):
    """What history was compared with."""

    STORE = "online store"
    FEED = "events fed one by one"


@dataclass(frozen=True, slots=True)
class Distribution:
    """Quantiles of a feature's numbers on both sides, at equal steps from 0 to 1."""

    feature: str
    offline: tuple[float, ...]
    online: tuple[float, ...]


@dataclass(frozen=True)
class ViewProof:
    """One view over a horizon.

    Attributes
    ----------
    side: what history was compared with.
    in_use: the manifest that production reads; None while none was promoted.
    source: snapshot id of the view's source table; gold: that of its gold table, None where history
        was computed from the source.
    comparison: what was found; judgement: what the policy says to it.
    distributions: of every feature that has numbers on both sides.
    """

    view: str
    manifest: str
    in_use: str | None
    side: OnlineSide
    source: str
    gold: str | None
    comparison: StoreComparison
    policy: ParityPolicy
    judgement: Judgement
    distributions: tuple[Distribution, ...]
    seconds: float

    @property
    def report(self) -> ParityReport:
        return self.comparison.report

    @property
    def days(self) -> tuple[DayRoots, ...]:
        return self.comparison.days

    @property
    def roots(self) -> tuple[str, str]:
        """One root over all days: of history and of the online side."""
        return (
            chained_root([day.offline_root for day in self.days]),
            chained_root([day.online_root for day in self.days]),
        )

    def kept(self) -> ParityProof | None:
        """The proof of a whole gold table by feeding it, which the desk's page shows; else None."""
        if self.gold is None or self.comparison.horizon != Horizon():
            return None
        values = len(self.report.features)
        return ParityProof(
            view=self.view,
            manifest=self.manifest,
            snapshot=self.gold,
            offline_values=self.comparison.offline_rows * values,
            online_values=self.comparison.online_rows * values,
            report=self.report,
            seconds=self.seconds,
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the report's fields at its top."""
        found = self.comparison
        offline_root, online_root = self.roots
        return {
            "view": self.view,
            "manifest": self.manifest,
            "in_use": self.in_use,
            "side": str(self.side),
            "source": self.source,
            "gold": self.gold,
            "horizon": found.horizon.to_json(),
            "offline_rows": found.offline_rows,
            "online_rows": found.online_rows,
            **self.report.to_json(),
            "refused": [one.to_json() for one in found.refused[:SHOWN]],
            "refused_count": len(found.refused),
            "answers": None if found.answers is None else found.answers.to_json(),
            "other_manifests": dict(found.foreign),
            "other_manifest_keys": [list(key) for key in found.foreign_keys],
            "policy": self.policy.to_json(),
            **self.judgement.to_json(),
            "offline_root": offline_root,
            "online_root": online_root,
            "days": [day.to_json() for day in self.days],
            "seconds": self.seconds,
        }


def prove_view(
    desk: Desk,
    name: str,
    progress: Progress,
    *,
    since: Instant | None = None,
    until: Instant | None = None,
    policy: ParityPolicy | None = None,
    feed: bool = False,
) -> ViewProof:
    """Compare the online side of a view with history, over rows with event time in [since, until).

    Where the desk's online store has rows of the view, every version that it keeps is compared with
    what was known when, computed from the facts as they arrived. Otherwise, and with ``feed``,
    the facts are fed as they arrived to an online feed, and its rows compared with the gold table.

    Parameters
    ----------
    since: by default all of history; for a store, from when on it can be complete.
    policy: by default every bit must be equal.

    Raises
    ------
    NotFound: silver is empty, or gold has not been built. Conflict: gold is of another definition
        or source. Tampered: a file of a snapshot has changed.
    """
    started = time.monotonic()
    view = desk.view(name)
    asked = Horizon(
        MIN_INSTANT if since is None else since, MAX_INSTANT if until is None else until
    )
    answers = None
    store = None if feed else open_store(desk, view)
    if store is None:
        side, gold = OnlineSide.FEED, current_gold(desk, view)[1].id
        source, offline, stored = _fed(desk, view, asked, progress)
        horizon = asked
    else:
        side, gold = OnlineSide.STORE, None
        try:
            source, offline, stored, horizon = _stored(desk, view, store, asked, progress)
            progress.event(f"{name}: asking the store at every moment at which answers change")
            answers = check_answers(view, store, offline, horizon, shown=SHOWN)
        finally:
            store.close()
    progress.event(f"{name}: comparing every value, hashing every day")
    found = compare_store(view, stored, offline, horizon, answers=answers, shown=SHOWN)
    policy = policy or ParityPolicy()
    active = desk.active_manifests.state(name).active
    return ViewProof(
        view=name,
        manifest=Manifest.of(view).hash,
        in_use=None if active is None else active.manifest,
        side=side,
        source=source,
        gold=gold,
        comparison=found,
        policy=policy,
        judgement=found.judge(policy),
        distributions=_distributions(
            view, horizon.of(offline), horizon.of(stored.rows), alike=found.report.holds
        ),
        seconds=time.monotonic() - started,
    )


def open_store(desk: Desk, view: FeatureView) -> OnlineStore | None:
    """The desk's online store where it holds rows of a view; the caller closes it."""
    found = desk.stores.find(desk)
    if found is None:
        return None
    active = desk.active_manifests.state(view.name).active
    store: OnlineStore = found
    if active is not None:
        store = NamespacedStore(found, {view.name: active.namespace})
    if view.name in store.views():
        return store
    store.close()
    return None


def history_as_known(desk: Desk, view: FeatureView) -> Authority:
    """Every version of every row of a view as a feed issues it, from the facts as they arrived.

    Raises
    ------
    NotFound: silver is empty. Tampered: a file of its snapshot has changed.
    """
    table = desk.lake.table(f"silver/{view.source}")
    snapshot = table.current()
    if snapshot is None:
        raise NotFound(f"table {table.name} is empty", hint="assay ingest")
    table.verify(snapshot)
    arrivals = all_arrivals(table, view)
    return Authority(snapshot.id, as_known_history(view, arrivals, **feed_rule(view)))


def _stored(
    desk: Desk, view: FeatureView, store: OnlineStore, asked: Horizon, progress: Progress
) -> tuple[str, pl.DataFrame, Stored, Horizon]:
    progress.event(f"{view.name}: computing what was known when")
    authority = history_as_known(desk, view)
    progress.event(f"{view.name}: reading every version that the online store keeps")
    stored = read_stored(view, store, authority.rows)
    since = asked.since
    if since == MIN_INSTANT:
        found = complete_since(authority.rows, stored, max_versions=MAX_VERSIONS)
        since = since if found is None else found
    return authority.snapshot, authority.rows, stored, Horizon(since, asked.until)


def _fed(
    desk: Desk, view: FeatureView, horizon: Horizon, progress: Progress
) -> tuple[str, pl.DataFrame, Stored]:
    """Gold, and what an online feed makes of the same facts as they arrived."""
    table, snapshot = current_gold(desk, view)
    arrivals = all_arrivals(desk.lake.table(f"silver/{view.source}"), view)
    # Rows from the horizon on are issued from the batch on that brings the first fact of it. Facts
    # behind its end are fed as well: they decide which rows are issued again.
    concerned = arrivals["event_time"] >= horizon.since
    first = int(concerned.arg_max() or 0) if concerned.any() else arrivals.height
    after = [start for start in batch_starts(arrivals) if start <= first][-1]
    progress.event(f"{view.name}: feeding {len(arrivals) - after:,} events one by one")
    online = rows_of_feed(view, arrivals, after=after).with_columns(
        pl.lit(Manifest.of(view).hash).alias(MANIFEST)
    )
    return snapshot.metadata["source"], table.read(snapshot), Stored(online, (), (), {})


def _distributions(
    view: FeatureView, offline: pl.DataFrame, online: pl.DataFrame, *, alike: bool
) -> tuple[Distribution, ...]:
    found = []
    for name in view.feature_names:
        one = _quantiles(offline[name])
        other = one if alike else _quantiles(online[name])
        if one and other:
            found.append(Distribution(name, one, other))
    return tuple(found)


def _quantiles(column: pl.Series) -> tuple[float, ...]:
    values: NDArray[np.float64] = column.to_numpy()
    ordered = np.sort(values[np.isfinite(values)])
    if not ordered.size:
        return ()
    steps = np.linspace(0, ordered.size - 1, QUANTILES)
    return tuple(ordered[np.rint(steps).astype(np.int64)].tolist())
