"""A calendar of sessions: the event times at which a market had a fix, a close or a bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.instants import Instant
from assay.errors import ContractViolation

Instants = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SessionCalendar:
    """Sessions in order.

    Attributes
    ----------
    times: event time of each session, int64 nanoseconds UTC, strictly increasing; a session's
        position in it is its number.
    """

    times: Instants

    def __post_init__(self) -> None:
        if self.times.dtype != np.int64 or self.times.ndim != 1:
            raise ContractViolation("session times: expected one dimension of int64 nanoseconds")
        if np.any(self.times[1:] <= self.times[:-1]):
            raise ContractViolation("session times: expected strictly increasing")

    @classmethod
    def of(cls, frame: pl.DataFrame, known_at: Instant | None = None) -> Self:
        """The event times of a table of facts, as far as they were known at ``known_at``."""
        known = frame if known_at is None else frame.filter(pl.col("known_time") <= known_at)
        return cls(known["event_time"].unique().sort().to_numpy())

    def __len__(self) -> int:
        return len(self.times)

    def number_at(self, moments: Instants) -> Instants:
        """Number of the last session at or before each moment; -1 before the first session."""
        return np.searchsorted(self.times, moments, side="right") - 1

    def number_after(self, moments: Instants) -> Instants:
        """Number of the first session strictly after each moment; ``len(self)`` after the last."""
        return np.searchsorted(self.times, moments, side="right")

    def count_between(self, after: Instants, upto: Instants) -> Instants:
        """How many sessions lie in each interval ``(after, upto]``."""
        return self.number_at(upto) - self.number_at(after)

    def count(self, after: Instant, upto: Instant) -> int:
        """How many sessions lie in ``(after, upto]``."""
        first, last = np.searchsorted(self.times, (after, upto), side="right").tolist()
        return int(last - first)
