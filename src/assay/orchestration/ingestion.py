"""From sources to silver: pull every source once, then refine what bronze holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.lake import IngestReport, RefinementReport, refine
from assay.orchestration.desk import Desk
from assay.orchestration.progress import Progress


@dataclass(frozen=True, slots=True)
class Ingestion:
    """What one pull added, and the silver that follows from all of bronze."""

    pulls: Mapping[str, IngestReport]
    silver: RefinementReport

    @property
    def added(self) -> int:
        """Facts stored by this pull, over all sources."""
        return sum(report.added for report in self.pulls.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "pulls": {name: report.to_json() for name, report in self.pulls.items()},
            "silver": self.silver.to_json(),
        }


def ingest(desk: Desk, progress: Progress) -> Ingestion:
    """Pull every configured source and bring silver up to date.

    Safe to repeat and to interrupt: a fact is stored once, and silver is a function of bronze.
    """
    config = desk.sources
    pulls: dict[str, IngestReport] = {}
    for name, source in config.sources.items():
        progress.event(f"pulling {name}")
        pulls[name] = desk.lake.bronze.ingest(
            source, progress=lambda report: progress.event(f"{report.read:,} facts read")
        )
    (name,) = config.sources
    progress.event("refining bronze into silver")
    silver = refine(desk.lake, name, contract=config.contract, rule=config.universe)
    return Ingestion(pulls, silver)
