"""The total order that decides which version of a fact wins.

The order is **(event time, known time, source rank, sequence)**, compared left to right, larger
wins. As of a moment T the answer is the largest version with event time <= T and known time <= T.
The offline join, the online write and the online read all follow it.

Laws (held by property tests): the order is total; ``as_of`` never returns a version with either
time after T; adding a version that is not visible at T never changes the answer at T.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from assay.domain.instants import Instant

ORDER_COLUMNS = ("event_time", "known_time", "source_rank", "sequence")
"""The names of the four columns, in order of precedence, in every table that Assay stores."""


class VersionKey(NamedTuple):
    """The position of one version of a fact. A tuple, so Python's comparison is the order."""

    event_time: Instant
    known_time: Instant
    source_rank: int
    sequence: int

    def visible_at(self, moment: Instant) -> bool:
        """Whether this version had happened and was known at ``moment``."""
        return self.event_time <= moment and self.known_time <= moment


def as_of(versions: Iterable[VersionKey], moment: Instant) -> VersionKey | None:
    """The winning version at ``moment``, or None when nothing was visible yet.

    This is the specification in its plainest form; stores and joins are tested against it.
    """
    return max((key for key in versions if key.visible_at(moment)), default=None)
