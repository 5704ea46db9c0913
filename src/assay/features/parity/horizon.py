"""Which rows a comparison is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, Instant, render


@dataclass(frozen=True, slots=True)
class Horizon:
    """Rows whose event time lies in ``[since, until)``."""

    since: Instant = MIN_INSTANT
    until: Instant = MAX_INSTANT

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows that lie inside."""
        times = pl.col("event_time")
        return rows.filter((times >= self.since) & (times < self.until))

    def holds(self, event_time: Instant) -> bool:
        """Whether a moment lies inside."""
        return self.since <= event_time < self.until

    def to_json(self) -> dict[str, Any]:
        return {
            "from": None if self.since == MIN_INSTANT else render(self.since),
            "to": None if self.until == MAX_INSTANT else render(self.until),
        }
