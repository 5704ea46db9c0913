"""The port that every source of facts implements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from assay.domain.facts import Observation
from assay.domain.instants import Instant

UNREADABLE_TIME: Final[Instant] = 0
"""Event time and known time of a fact whose own time cannot be read.

The raw text of that time stays in the payload, where the silver contract finds it unparseable and
quarantines the record. No market fact that Assay handles happened at the epoch itself.
"""


class Source(Protocol):
    """Something that reports facts.

    A pull may repeat facts of earlier pulls: bronze stores each version once. Within a pull, facts
    about one entity should come oldest first, so that their sequence numbers follow time, and the
    versions of one fact in the order in which they were published.
    """

    @property
    def name(self) -> str:
        """Lower-case identifier, for example ``ecb``; the folder of its bronze records."""
        ...

    @property
    def rank(self) -> int:
        """Precedence among sources of one fact with equal times; the larger rank wins."""
        ...

    def observations(self) -> Iterator[Observation]:
        """All facts that the source can give now, with the times that its own rule says."""
        ...
