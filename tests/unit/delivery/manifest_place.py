"""A small place where manifests are promoted: generated facts, a real registry, a real store."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from assay.delivery.manifests import (
    ActiveManifests,
    FeedRule,
    ManifestPromotion,
    Promoted,
    RolledBack,
    Span,
    promote_manifest,
    rollback_manifest,
)
from assay.features import FeatureView, Manifest, ManifestCatalogue, Sessions, col
from assay.features.online import OnlineStore, SqliteStore
from assay.registry import KeyRing, ModelRegistry
from assay.storage.objects import LocalObjects
from assay.testing.clocks import FixedClock

ENTITIES = ("A", "B", "C")
NOW = 1_700_000_000 * 10**9
DAY = 86_400 * 10**9
X = col("x")
FIRST = {"ret": X.simple_return(1), "mean": X.rolling_mean(4, min_count=2)}
SECOND = FIRST | {"rank": X.simple_return(1).cs_rank()}


def view(features=None, **changes) -> FeatureView:
    arguments = {
        "name": "live", "source": "source", "entity": "entity",
        "features": FIRST if features is None else features, "ttl": Sessions(3),
    }  # fmt: skip
    return FeatureView(**(arguments | changes))


def arrivals(sessions: int = 40, seed: int = 3, entities=ENTITIES) -> pl.DataFrame:
    """Sessions of three entities with revised and late facts, as they become known."""
    generator = random.Random(seed)
    rows, late = [], []
    for session in range(1, sessions + 1):
        batch, late = late, []
        for number, entity in enumerate(entities):
            fact = (entity, session * DAY, 1.0 + number + generator.random())
            (late if generator.random() < 0.06 else batch).append(fact)
        if session > 3 and generator.random() < 0.2:
            back = session - generator.randint(1, 3)
            batch.append((generator.choice(entities), back * DAY, 1.0 + generator.random()))
        rows += [
            (entity, time, session * DAY + 5, 0, len(rows) + place, value)
            for place, (entity, time, value) in enumerate(batch)
        ]
    names = ["entity", "event_time", "known_time", "source_rank", "sequence", "x"]
    return pl.DataFrame(rows, schema=names, orient="row")


@dataclass
class Facts:
    """States of a table, by the number of sessions that they know."""

    sessions: int = 40
    entities: tuple[str, ...] = ENTITIES

    def snapshot(self) -> str:
        return str(self.sessions)

    def arrivals(self, snapshot: str) -> pl.DataFrame:
        return arrivals(int(snapshot), entities=self.entities)


@dataclass
class Place:
    """Opens everything anew for each call, as another process would."""

    folder: Path
    facts: Facts = field(default_factory=Facts)
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    store: OnlineStore | None = None
    rule: FeedRule = field(default_factory=lambda: FeedRule(margin=5, close_with_batch=True))

    @property
    def registry(self) -> ModelRegistry:
        return ModelRegistry(
            self.folder / "models",
            KeyRing(self.folder / "keys", None),
            self.clock,
            audit_path=self.folder / "audit.jsonl",
        )

    @property
    def active(self) -> ActiveManifests:
        return ActiveManifests(self.folder / "configs/active_manifest.yaml", lambda: self.registry)

    @property
    def catalogue(self) -> ManifestCatalogue:
        return ManifestCatalogue(LocalObjects(self.folder / "manifests"), self.clock)

    @property
    def changelog(self) -> Path:
        return self.folder / "features.md"

    def note(self, text: str) -> None:
        with self.changelog.open("a") as page:
            page.write(f"- {text}\n")

    def open_store(self) -> OnlineStore:
        return self.store or SqliteStore(self.folder / "online.db")

    def where(self, chosen: FeatureView) -> ManifestPromotion:
        return ManifestPromotion(
            chosen, self.catalogue, self.registry, self.active, self.open_store(), self.facts,
            self.rule, self.changelog, self.folder / "feeds",
        )  # fmt: skip

    def promote(self, chosen: FeatureView, **options) -> Promoted:
        where = self.where(chosen)
        options = {"initiated_by": "ops", "span": Span(event_times=10)} | options
        try:
            return promote_manifest(where, **options)
        finally:
            if self.store is None:
                where.store.close()

    def roll_back(self, **options) -> RolledBack:
        store = self.open_store()
        try:
            return rollback_manifest(
                "live", registry=self.registry, catalogue=self.catalogue, active=self.active,
                store=store, **({"initiated_by": "ops", "reason": "a doubt"} | options),
            )  # fmt: skip
        finally:
            if self.store is None:
                store.close()

    def said(self) -> list[tuple[str, str]]:
        """Event and outcome of every entry about the view."""
        return [(str(e.type), str(e.outcome)) for e in self.registry.manifest_events("live")]

    def in_use(self, *, canary: bool = False) -> str | None:
        """The manifest that a server reads by the file."""
        found = self.active.read().get("live")
        taken = None if found is None else found.taken_by(canary=canary)
        return None if taken is None else taken.manifest


def hash_of(chosen: FeatureView) -> str:
    return Manifest.of(chosen).hash
