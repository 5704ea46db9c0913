"""A desk's manifests: published, promoted, rolled back and listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from assay.delivery.manifests import (
    FeedRule,
    InUse,
    ManifestPromotion,
    Promoted,
    RolledBack,
    Span,
    ViewState,
    promote_manifest,
    rollback_manifest,
)
from assay.errors import NotFound, did_you_mean
from assay.features import FeatureView, Manifest, Publication
from assay.orchestration.desk import Desk
from assay.orchestration.feeding import all_arrivals, feed_rule
from assay.orchestration.progress import Progress

FEEDS = "feeds"
"""The folder in the lake where feeds of namespaces remember themselves."""

_KEPT = 1_000_000  # rows of an entity: a warm-up must find again all that it wrote


class SilverFacts:
    """The arrivals of a view's source table, at a snapshot."""

    def __init__(self, desk: Desk, view: FeatureView) -> None:
        self._table = desk.lake.table(f"silver/{view.source}")
        self._view = view

    def snapshot(self) -> str:
        """The id of the current snapshot.

        Raises
        ------
        NotFound: silver is empty.
        """
        found = self._table.current()
        if found is None:
            raise NotFound(f"table {self._table.name} is empty", hint="assay ingest")
        return found.id

    def arrivals(self, snapshot: str) -> pl.DataFrame:
        """Every version of every fact up to a snapshot, in the order in which it was stored."""
        return all_arrivals(self._table, self._view, upto=snapshot)


def publish_view(desk: Desk, name: str, *, by: str) -> Publication:
    """Publish the manifest of a view as it is defined now."""
    return desk.manifests.publish(Manifest.of(desk.view(name)), by=by)


def promote_view(
    desk: Desk,
    name: str,
    progress: Progress,
    *,
    initiated_by: str,
    span: Span | None = None,
    canary_only: bool = False,
) -> Promoted:
    """Bring a view as it is defined now into use; see :mod:`assay.delivery.manifests`."""
    view = desk.view(name)
    store = desk.stores.open(desk, max_versions=_KEPT)
    try:
        where = ManifestPromotion(
            view=view,
            catalogue=desk.manifests,
            registry=desk.registry,
            active=desk.active_manifests,
            store=store,
            facts=SilverFacts(desk, view),
            rule=FeedRule(**feed_rule(view)),
            changelog=desk.layout.changelog,
            checkpoints=desk.layout.lake / FEEDS,
        )
        return promote_manifest(
            where,
            initiated_by=initiated_by,
            span=span,
            canary_only=canary_only,
            tell=progress.event,
        )
    finally:
        store.close()


def rollback_view(
    desk: Desk, name: str, *, initiated_by: str, reason: str, canary: bool = False
) -> RolledBack:
    """Let servers read the manifest of a view that was in use before, or give up its canary."""
    states = desk.active_manifests.follow()
    if name not in states:
        raise NotFound(
            f"no manifest of view {name!r} was ever promoted",
            hint=did_you_mean(name, states) if states else f"assay features promote {name}",
        )
    store = desk.stores.find(desk)
    try:
        return rollback_manifest(
            name,
            registry=desk.registry,
            catalogue=desk.manifests,
            active=desk.active_manifests,
            store=store,
            initiated_by=initiated_by,
            reason=reason,
            canary=canary,
        )
    finally:
        if store is not None:
            store.close()


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One manifest of a view, in the list.

    ``use`` is ``active``, ``canary``, ``before`` (what a rollback brings back), ``was active``, or
    empty; ``since`` belongs to it. ``is_defined`` says that the desk defines the view so now;
    ``published`` is None where it is published nowhere.
    """

    view: str
    manifest: str
    published: Publication | None
    use: str
    since: InUse | None
    is_defined: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "manifest": self.manifest,
            "published": None if self.published is None else self.published.to_json(),
            "use": self.use,
            "since": None if self.since is None else self.since.to_json(),
            "is_defined": self.is_defined,
        }


@dataclass(frozen=True, slots=True)
class ManifestList:
    """The manifests of a desk's views, each view's in the order of publication.

    ``underway`` names the next step of promotions that were begun and not finished, by view.
    """

    url: str
    rows: tuple[ManifestRow, ...]
    underway: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "manifests": [row.to_json() for row in self.rows],
            "underway": dict(self.underway),
        }


def list_manifests(desk: Desk, name: str | None = None) -> ManifestList:
    """What is published of a view, or of all views, and what of it is in use.

    ``active_manifest.yaml`` is brought up to the log on the way.

    Raises
    ------
    NotFound: there is no such view. Tampered: the file was changed by hand.
    """
    states = desk.active_manifests.follow()
    every = sorted({*desk.views, *states})
    if name is not None and name not in every:
        raise NotFound(f"no view {name!r}", hint=did_you_mean(name, every))
    rows: list[ManifestRow] = []
    chosen = every if name is None else [name]
    for view in chosen:
        rows += _rows(desk, view, states.get(view, ViewState(view)))
    underway = {
        view: str(state.attempt.next_step)
        for view, state in states.items()
        if state.attempt is not None and view in chosen
    }
    return ManifestList(desk.manifests.url, tuple(rows), underway)


def _rows(desk: Desk, view: str, state: ViewState) -> list[ManifestRow]:
    defined = Manifest.of(desk.views[view]).hash if view in desk.views else None
    uses: dict[str, tuple[str, InUse | None]] = dict.fromkeys(state.line, ("was active", None))
    for use, what in (
        ("before", state.before[-1] if state.before else None),
        ("canary", state.canary),
        ("active", state.active),
    ):
        if what is not None:
            uses[what.manifest] = (use, what)
    published = {one.manifest: one for one in desk.manifests.publications(view)}
    known = [*published, *(one for one in uses if one not in published)]
    if defined is not None and defined not in known:
        known.append(defined)
    return [
        ManifestRow(
            view, one, published.get(one), *uses.get(one, ("", None)), is_defined=one == defined
        )
        for one in known
    ]
