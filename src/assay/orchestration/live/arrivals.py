"""The last months of a source as they would have arrived, with two events made by the demo.

Two facts of real markets are rare in an archive of final values, so they are made, and their
payload says so (``made_by``): a rate that is revised the day after, and a rate that arrives only
after the next day's. Both go through ingest like everything else, in a lake of the replay's own:
what was made up never reaches the desk's lake.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from assay.domain.facts import Observation
from assay.domain.instants import NANOS_PER_SECOND, Instant
from assay.errors import ContractViolation
from assay.sources import Source

HISTORY_SESSIONS, LIVE_SESSIONS = 1_300, 60
HOUR = 3_600 * NANOS_PER_SECOND
MADE_BY_DEMO = "demo"
REVISED, LATE = "EUR_JPY", "EUR_GBP"


class ReplayClock:
    """Stands at the moment that is replayed."""

    def __init__(self, instant: Instant) -> None:
        self.instant = instant

    def now(self) -> Instant:
        return self.instant


@dataclass(frozen=True, slots=True)
class Delivery:
    """What arrives at one moment, as a :class:`assay.sources.Source` of its own."""

    name: str
    rank: int
    arrives_at: Instant
    facts: tuple[Observation, ...]

    def observations(self) -> Iterator[Observation]:
        """The facts of the delivery."""
        yield from self.facts


@dataclass(frozen=True, slots=True)
class Recording:
    """History, then one delivery after the other.

    ``revision`` and ``late`` are the entities of the two made events, None where the source has no
    such entity.
    """

    history: Delivery
    deliveries: tuple[Delivery, ...]
    revision: str | None
    late: str | None

    @property
    def live_from(self) -> Instant:
        """When the first live facts became known."""
        return self.deliveries[0].arrives_at


def record_last_sessions(source: Source) -> Recording:
    """Cut off the sessions that are replayed live, with enough history before them."""
    return record(source, history_sessions=HISTORY_SESSIONS, live_sessions=LIVE_SESSIONS)


def record(source: Source, *, history_sessions: int, live_sessions: int) -> Recording:
    """Cut a source's facts into history and the deliveries of its last sessions.

    Parameters
    ----------
    history_sessions: sessions before the live ones; enough for the rule that admits instruments.
    live_sessions: how many of the last sessions arrive one by one.

    Raises
    ------
    ContractViolation: the source has too few sessions.
    """
    facts = sorted(source.observations(), key=lambda fact: (fact.known_time, fact.entity))
    moments = sorted({fact.known_time for fact in facts})
    if len(moments) < live_sessions + history_sessions // 2 or live_sessions < 8:
        raise ContractViolation(
            f"{source.name} has {len(moments)} sessions: too few to replay {live_sessions} of them "
            f"after {history_sessions}"
        )
    live = moments[-live_sessions:]
    start = moments[max(0, len(moments) - live_sessions - history_sessions)]
    history = tuple(fact for fact in facts if start <= fact.known_time < live[0])
    by_moment = {moment: [f for f in facts if f.known_time == moment] for moment in live}
    deliveries = {moment: list(found) for moment, found in by_moment.items()}
    revision = _revise(deliveries, live)
    late = _delay(deliveries, live)
    return Recording(
        history=Delivery(source.name, source.rank, live[0] - HOUR, history),
        deliveries=tuple(
            Delivery(source.name, source.rank, moment, tuple(found))
            for moment, found in sorted(deliveries.items())
        ),
        revision=revision,
        late=late,
    )


def _revise(deliveries: dict[Instant, list[Observation]], live: Sequence[Instant]) -> str | None:
    """A rate of the session a quarter in is a tenth of a percent higher an hour after the next."""
    at, after = live[len(live) // 4], live[len(live) // 4 + 1]
    for fact in deliveries[at]:
        if fact.entity == REVISED:
            rate = f"{float(str(fact.payload['rate'])) * 1.001:.6g}"
            payload = {**fact.payload, "rate": rate, "made_by": MADE_BY_DEMO}
            deliveries[after + HOUR] = [replace(fact, known_time=after + HOUR, payload=payload)]
            return REVISED
    return None


def _delay(deliveries: dict[Instant, list[Observation]], live: Sequence[Instant]) -> str | None:
    """A rate of the session halfway in arrives two hours after the next session's."""
    at, after = live[len(live) // 2], live[len(live) // 2 + 1]
    for fact in deliveries[at]:
        if fact.entity == LATE:
            deliveries[at].remove(fact)
            payload = {**fact.payload, "made_by": MADE_BY_DEMO}
            deliveries[after + 2 * HOUR] = [
                replace(fact, known_time=after + 2 * HOUR, payload=payload)
            ]
            return LATE
    return None
