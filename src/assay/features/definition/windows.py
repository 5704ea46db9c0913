"""Windows: how far back an operator looks.

A window ends at the current row, which is part of it. A plain whole number is a window of that many
rows. :class:`TimeWindow` and :class:`SessionWindow` hold the rows of a stretch of time, however
many there are, up to ``max_rows``: memory is bounded because the bound is declared, and a window
that holds more rows than that is missing rather than cut short, offline and online alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from assay.domain.instants import NANOS_PER_SECOND
from assay.errors import DefinitionError
from assay.features.definition.opcodes import MAX_WINDOW

LONGEST = 2**61
"""The longest stretch of time in nanoseconds: 73 years."""


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time in nanoseconds; :meth:`of` takes hours and the like."""

    nanos: int

    def __post_init__(self) -> None:
        if type(self.nanos) is not int or self.nanos < 1:
            raise DefinitionError(f"Duration({self.nanos!r}): expected nanoseconds from 1")

    @classmethod
    def of(cls, *, days: int = 0, hours: int = 0, minutes: int = 0, seconds: int = 0) -> Duration:
        """The sum of whole days (of 24 hours), hours, minutes and seconds."""
        return cls((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * NANOS_PER_SECOND)

    def to_json(self) -> dict[str, Any]:
        return {"nanoseconds": self.nanos}


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """The rows with an event time in ``(t - nanos, t]``, t being that of the current row.

    Attributes
    ----------
    nanos: the length, in nanoseconds.
    max_rows: the most rows that it may hold; what is computed over more is missing.
    """

    nanos: int
    max_rows: int

    def __post_init__(self) -> None:
        if type(self.nanos) is not int or not 1 <= self.nanos <= LONGEST:
            raise DefinitionError(
                f"TimeWindow of {self.nanos!r} nanoseconds: expected a whole number from 1"
            )
        _check_rows("TimeWindow", self.max_rows)

    @classmethod
    def of(
        cls,
        *,
        days: int = 0,
        hours: int = 0,
        minutes: int = 0,
        seconds: int = 0,
        nanos: int = 0,
        max_rows: int,
    ) -> TimeWindow:
        """The sum of whole days (of 24 hours), hours, minutes, seconds and nanoseconds."""
        whole = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * NANOS_PER_SECOND
        return cls(whole + nanos, max_rows)


@dataclass(frozen=True, slots=True)
class SessionWindow:
    """The rows since the opening of the ``sessions``-th last session, the current one included.

    ``sessions=1`` is the session to date. A row outside of any session belongs to the last one
    that has opened.

    Attributes
    ----------
    calendar: the name of the calendar, such as XNYS or fx_london.
    sessions: how many sessions.
    max_rows: the most rows that they may hold; what is computed over more is missing.
    """

    calendar: str
    sessions: int
    max_rows: int

    def __post_init__(self) -> None:
        if not self.calendar:
            raise DefinitionError("SessionWindow: no calendar", hint='its name, such as "XNYS"')
        if type(self.sessions) is not int or not 1 <= self.sessions <= MAX_WINDOW:
            raise DefinitionError(
                f"SessionWindow of {self.sessions!r} sessions: expected a whole number from 1"
            )
        _check_rows("SessionWindow", self.max_rows)


Window: TypeAlias = int | TimeWindow | SessionWindow

UNITS: Final = (
    ("d", 86_400 * NANOS_PER_SECOND),
    ("h", 3_600 * NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("s", NANOS_PER_SECOND),
    ("ms", 10**6),
    ("us", 10**3),
    ("ns", 1),
)


def length_in_words(nanos: int) -> str:
    """A length of time as windows.yaml writes it, such as 1h30m."""
    parts = []
    for unit, size in UNITS:
        whole, nanos = divmod(nanos, size)
        if whole:
            parts.append(f"{whole}{unit}")
    return "".join(parts) or "0s"


def _check_rows(what: str, rows: object) -> None:
    if type(rows) is not int or not 1 <= rows <= MAX_WINDOW - 1:
        raise DefinitionError(
            f"{what}: max_rows {rows!r}, expected 1 to {MAX_WINDOW - 1:,}",
            hint="the most rows that the window can hold on the busiest day; memory follows it",
        )
