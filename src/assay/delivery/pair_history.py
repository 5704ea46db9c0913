"""Everything that is known of one challenger beside one champion: pairs, and sums of those that
were removed.

Pairs are kept for some time and up to some size. What adds up exactly outlives them, in sums by
day; the rest is known for the pairs that are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.domain.instants import NANOS_PER_SECOND, Instant, render
from assay.serving.challengers.pair_log import PairReader
from assay.serving.challengers.pairs import Pair, Turn
from assay.serving.challengers.summaries import DAY, DaySummary, removed_segments

HOUR = 3_600 * NANOS_PER_SECOND
LIVE_WITHIN = HOUR
"""A pair about a moment that lay further back than this when it was made is replayed."""
LARGEST_GAP = HOUR * 26
"""Hours in shadow count from the last stretch without pairs that was longer: a daily desk has one
pair of closes each day, and a night without a server must not look like stability."""


class PairHistory:
    """One challenger's digest in a paired log and in the summaries beside it.

    Parameters
    ----------
    path: the paired log.
    champion: the digest beside which pairs were made, None for any.
    since: pairs that were made before this are left out, ns UTC. revision: the others are.
    """

    def __init__(
        self,
        path: Path,
        *,
        model: str,
        challenger: str,
        champion: str | None = None,
        since: Instant = 0,
        revision: int | None = None,
    ) -> None:
        self._path = path
        self._asked = _Asked(model, challenger, champion, since, revision)
        self._read: set[str] = set()

    def pairs(self) -> Iterator[Pair]:
        """The pairs in every file that is kept, oldest first."""
        reader = PairReader(self._path)
        for turn in reader.turns():
            if self._asked.about(turn, turn.recorded):
                yield from turn.pairs()
        self._read = reader.heads

    def removed(self) -> list[DaySummary]:
        """Sums of the files that :meth:`pairs` did not find any more, oldest first.

        To be asked after all pairs were taken, so that a file which was removed meanwhile is
        counted once. A day that began before ``since`` in the same file is left out whole.
        """
        found = removed_segments(self._path, self._read)
        return [day for one in found for day in one.days if self._asked.about(day, day.first)]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which challenger, beside which champion, from when on."""

    model: str
    challenger: str
    champion: str | None
    since: Instant
    revision: int | None

    def about(self, one: Turn | DaySummary, made: Instant) -> bool:
        return (
            one.model == self.model
            and one.challenger_digest == self.challenger
            and made >= self.since
            and self.champion in {None, one.champion_digest}
            and self.revision in {None, one.revision}
        )


@dataclass(slots=True)
class Stability:
    """Since when there was no incident and no gap, while pairs or sums of them pass.

    An incident is a row without an answer. ``incident`` is what the last one was.
    """

    first: Instant | None = None
    last: Instant | None = None
    begun: Instant | None = None
    incident: str | None = None

    @property
    def hours(self) -> float | None:
        """From the start, the last incident or the last gap to the last pair."""
        return None if self.begun is None or self.last is None else (self.last - self.begun) / HOUR

    def take(self, first: Instant, last: Instant, failed: Instant | None, why: str | None) -> None:
        """A stretch without a gap of its own, and its last incident."""
        if self.last is not None and first - self.last > LARGEST_GAP:
            self.begun = first
            self.incident = f"no pairs for hours before {render(first)}"
        if failed is not None and (self.begun is None or failed >= self.begun):
            self.begun = failed
            self.incident = f"{render(failed)}: {why or 'no answer'}"
        self.first = first if self.first is None else min(self.first, first)
        self.begun = first if self.begun is None else self.begun
        self.last = last if self.last is None else max(self.last, last)

    def follow(self, later: Stability) -> None:
        """What came after this."""
        if later.first is None or later.last is None or later.begun is None:
            return
        self.take(later.first, later.last, None, None)
        if later.incident is not None:
            self.begun, self.incident = later.begun, later.incident


@dataclass(frozen=True, slots=True)
class PairCount:
    """How much a challenger was seen beside a champion.

    ``stable_hours`` are as in :class:`Stability`, ``last`` is when the last pair was made.
    """

    rows: int
    pairs: int
    without_answer: int
    dropped: int
    stable_hours: float | None
    last: Instant | None

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "pairs": self.pairs,
            "without_answer": self.without_answer,
            "dropped": self.dropped,
            "stable_hours": self.stable_hours,
            "last": None if self.last is None else render(self.last),
        }


def count_pairs(
    days: Iterable[DaySummary],
    *,
    model: str,
    challenger: str,
    champion: str,
    since: Instant = 0,
    revision: int | None = None,
) -> PairCount:
    """What sums of a whole log say of one challenger; parameters as of :class:`PairHistory`."""
    asked = _Asked(model, challenger, champion, since, revision)
    own = [one for one in days if asked.about(one, one.first)]
    stable = Stability()
    for one in own:
        stable.take(one.first, one.last, one.failed, one.failure)
    return PairCount(
        sum(one.rows for one in own),
        sum(one.pairs for one in own),
        sum(sum(one.errors.values()) for one in own),
        sum(one.dropped for one in own),
        stable.hours,
        stable.last,
    )


@dataclass(frozen=True, slots=True)
class ShadowDay:
    """What a challenger was asked on one day (UTC), and how much of it is kept as pairs.

    ``kept_rows`` are of ``rows``; ``difference`` is the mean absolute difference over ``pairs``,
    None where there are none. What is not kept is known by its sums only.
    """

    day: str
    rows: int
    kept_rows: int
    pairs: int
    without_answer: int
    dropped: int
    difference: float | None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class _Sums:
    rows: int = 0
    kept: int = 0
    pairs: int = 0
    without_answer: int = 0
    dropped: int = 0
    differences: float = 0.0


@dataclass(slots=True)
class DayCounts:
    """Rows by day, while pairs and sums of them pass."""

    _days: dict[int, _Sums] = field(default_factory=dict)

    def take(self, pair: Pair) -> None:
        """A pair that is kept."""
        sums = self._of(pair.recorded)
        sums.rows += 1
        sums.kept += 1
        sums.dropped += pair.dropped
        if pair.shadow is None:
            sums.without_answer += 1
        elif pair.prediction is not None:
            sums.pairs += 1
            sums.differences += abs(pair.shadow - pair.prediction)

    def add(self, removed: Iterable[DaySummary]) -> None:
        """Sums of pairs that are not."""
        for one in removed:
            sums = self._of(one.first)
            sums.rows += one.rows
            sums.pairs += one.pairs
            sums.without_answer += sum(one.errors.values())
            sums.dropped += one.dropped
            sums.differences += one.difference

    def days(self) -> tuple[ShadowDay, ...]:
        """The oldest first."""
        return tuple(
            ShadowDay(
                render(day * DAY)[:10], one.rows, one.kept, one.pairs, one.without_answer,
                one.dropped, one.differences / one.pairs if one.pairs else None,
            )
            for day, one in sorted(self._days.items())
        )  # fmt: skip

    def _of(self, recorded: Instant) -> _Sums:
        day = recorded // DAY
        found = self._days.get(day)
        if found is None:
            found = self._days[day] = _Sums()
        return found
