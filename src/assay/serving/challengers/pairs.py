"""What two versions answer to the same inputs: a pair for each row, a line for each turn.

A challenger answers many rows in one turn. Their line in the paired log holds once what they share
and the rest in columns: a row takes a seventh of the bytes of a line of its own, and a small part
of the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import TypeVar

import msgspec

T = TypeVar("T")

CHAMPION_SERVED = "champion"


class Pair(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What two versions answer to the same input.

    Attributes
    ----------
    at: the moment asked about, ns UTC. instrument: None where the caller named none.
    champion, challenger: the versions; ``*_digest`` their bytes.
    prediction, shadow: their answers; None where there is none, and ``error`` says why.
    served: ``champion``, ``canary``, or ``fallback`` where the canary could not answer.
    champion_ms: time of the whole answer that was given; None where the canary gave it.
    shadow_ms: time of one row through the challenger, mean over the turn; None where it was not
        asked again about a stored row that it had answered to; of the whole answer where
        the challenger gave it. turn: rows of one turn share it.
    revision: the entry of the registry's log from which this challenger is measured.
    event_time: of the features, ns UTC; stale: whether they had gone stale.
    request_id: of the request, where it had one.
    recorded: when the pair was made, ns UTC; long after ``at`` where the past was asked about.
    dropped: rows of this challenger that were lost since the pair before it.
    """

    at: int
    model: str
    champion: str
    champion_digest: str
    challenger: str
    challenger_digest: str
    revision: int
    prediction: float | None
    shadow: float | None
    served: str
    champion_ms: float | None
    shadow_ms: float | None
    turn: int
    recorded: int
    manifest: str | None = None
    instrument: str | None = None
    event_time: int | None = None
    stale: bool | None = None
    error: str | None = None
    request_id: str | None = None
    dropped: int = 0


class Turn(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One line of the paired log: the rows of a turn, in columns.

    A column stands as one value where all rows have the same. ``prediction`` is always a list, and
    tells how many rows there are. The columns are those of :class:`Pair`; times are nanoseconds.
    ``recorded`` comes first: a file tells by its beginning when it was begun.
    """

    recorded: int
    model: str
    champion: str
    champion_digest: str
    challenger: str
    challenger_digest: str
    revision: int
    manifest: str | None
    turn: int
    prediction: list[float | None]
    shadow: list[float | None]
    at: int | list[int]
    champion_ns: int | list[int | None] | None
    shadow_ns: int | list[int | None] | None
    instrument: str | list[str | None] | None = None
    event_time: int | list[int | None] | None = None
    stale: bool | list[bool | None] | None = None
    served: str | list[str] = CHAMPION_SERVED
    error: str | list[str | None] | None = None
    request_id: str | list[str | None] | None = None
    dropped: int = 0

    def pairs(self) -> Iterator[Pair]:
        """Its rows, in the order in which they were answered."""
        dropped = self.dropped
        for old, new, at, champion_ns, own_ns, instrument, event, stale, served, error, name in zip(
            self.prediction, self.shadow, each(self.at), each(self.champion_ns),
            each(self.shadow_ns), each(self.instrument), each(self.event_time),
            each(self.stale), each(self.served), each(self.error), each(self.request_id),
            strict=False,
        ):  # fmt: skip
            yield Pair(
                at, self.model, self.champion, self.champion_digest, self.challenger,
                self.challenger_digest, self.revision, old, new, served,
                _milliseconds(champion_ns), _milliseconds(own_ns), self.turn, self.recorded,
                self.manifest, instrument, event, stale, error, name, dropped,
            )  # fmt: skip
            dropped = 0


encode_turns = msgspec.json.Encoder().encode_lines
decode_turn = msgspec.json.Decoder(Turn).decode


def _milliseconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e6


def column(values: Sequence[T]) -> T | list[T]:
    """A column as a line holds it: one value where all rows have the same."""
    first = values[0]
    return first if values.count(first) == len(values) else list(values)


def each(values: T | list[T]) -> Iterator[T]:
    """A column row by row; for ever, where it stands as one value."""
    return iter(values) if isinstance(values, list) else repeat(values)
