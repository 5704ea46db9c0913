"""What a promotion is given, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from assay.delivery.manifests.active import ActiveManifests
from assay.domain.instants import NANOS_PER_SECOND, Instant
from assay.errors import ContractViolation
from assay.features import FeatureView, ManifestCatalogue
from assay.features.online import NamespacedStore, OnlineFeed, OnlineStore
from assay.registry import ModelRegistry

EVENT_TIMES = 32
"""How many of the last event times a warm-up feeds, unless it is told otherwise."""


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
            return largest(arrivals["known_time"]) - int(self.minutes * 60 * NANOS_PER_SECOND) + 1
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
        """Every version of every fact of a state, in the order in which it arrived."""
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


def largest(times: pl.Series) -> Instant:
    """The latest of some moments, of which there is at least one."""
    return int(times.to_numpy().max())
