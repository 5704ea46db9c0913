"""Deliveries on their way into the online store: through the lake, as arrivals, to the feed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from assay.features import FeatureView
from assay.features.online import OnlineFeed, OnlineStore
from assay.lake import Lake, refine
from assay.orchestration.feeding import FEED
from assay.orchestration.live.arrivals import HOUR, Recording, ReplayClock
from assay.orchestration.sources import SourcesConfig

VERSIONS: Final = 1_000
"""Rows of an instrument that the store of the replay keeps: all of them."""

_TOLERANCE: Final = 96 * HOUR


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the lake holds after the deliveries.

    Attributes
    ----------
    facts: how many were history, live and revisions.
    snapshot: the id of the silver table.
    arrivals: every version of every row of the view's source, in the order in which it was known.
    """

    facts: dict[str, int]
    snapshot: str
    arrivals: pl.DataFrame


def deliver(
    lake: Lake, recording: Recording, clock: ReplayClock, config: SourcesConfig, view: FeatureView
) -> Delivered:
    """Take the history, then every delivery at its own moment; refine them into silver."""
    history = lake.bronze.ingest(recording.history)
    added = revisions = 0
    for delivery in recording.deliveries:
        clock.instant = delivery.arrives_at
        taken = lake.bronze.ingest(delivery, tolerance=_TOLERANCE)
        added += taken.added
        revisions += taken.revisions
    report = refine(lake, recording.history.name, contract=config.contract, rule=config.universe)
    table = lake.table(f"silver/{view.source}").read()
    return Delivered(
        facts={"history": history.added, "live": added, "revisions": revisions},
        snapshot=report.snapshots[f"silver/{view.source}"],
        arrivals=table.with_columns(pl.col("source_rank").cast(pl.Int64)).sort(
            "known_time", "event_time", view.entity
        ),
    )


def open_feed(
    view: FeatureView, store: OnlineStore, checkpoint: Path, *, checkpoint_every: int = 1_000
) -> OnlineFeed:
    """The feed of the replay, which goes on from its checkpoint where there is one."""
    return OnlineFeed(view, store, checkpoint, checkpoint_every=checkpoint_every, **FEED)
