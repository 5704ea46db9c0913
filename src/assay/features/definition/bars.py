"""Bars: ticks of irregular times as rows of regular ones.

A declaration says which ticks belong to one bar, what a bar says about them, when it is complete
and for how long it can be corrected. Both drivers read it; everything in it is part of its digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from assay.domain.canonical import content_hash
from assay.domain.order import ORDER_COLUMNS
from assay.errors import DefinitionError, did_you_mean
from assay.features.definition.calendars import SessionTable
from assay.features.definition.names import check_name
from assay.features.definition.windows import Duration, length_in_words

FORMAT = 1
HOUR: Final = Duration.of(hours=1).nanos
DAY: Final = Duration.of(days=1).nanos
_MOST_WAIT: Final = 400 * DAY

KINDS: Final = ("first", "last", "highest", "lowest", "total", "mean", "count")
"""What can be said about the ticks of a bar. The position is the number that the kernel knows."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One number about the ticks of a bar; only valid values count, NaN where there is none.

    first, last: the value of the smallest or largest tick by (event time, source rank, sequence).
    highest, lowest: the largest and the smallest value, in the unit of the column.
    total: the exact sum, rounded once to the nearest float; NaN where no float is as large.
    mean: the total divided by the number of valid values.
    count: ticks, or valid values of a column where one is given.

    Attributes
    ----------
    kind: one of :data:`KINDS`.
    column: the column of the ticks; may be left out for a count only.
    """

    kind: str
    column: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DefinitionError(
                f"aggregate {self.kind!r}: expected one of {', '.join(KINDS)}",
                hint=did_you_mean(str(self.kind), KINDS),
            )
        if self.column is None and self.kind != "count":
            raise DefinitionError(
                f"aggregate {self.kind}: no column",
                hint=f'Aggregate.{self.kind}("mid"); only a count can do without',
            )
        if self.column is not None:
            check_name(f"aggregate {self.kind}: column", self.column)

    @classmethod
    def first(cls, column: str) -> Aggregate:
        """The value of the first tick that has one."""
        return cls("first", column)

    @classmethod
    def last(cls, column: str) -> Aggregate:
        """The value of the last tick that has one."""
        return cls("last", column)

    @classmethod
    def highest(cls, column: str) -> Aggregate:
        """The largest value."""
        return cls("highest", column)

    @classmethod
    def lowest(cls, column: str) -> Aggregate:
        """The smallest value."""
        return cls("lowest", column)

    @classmethod
    def total(cls, column: str) -> Aggregate:
        """The sum of the values."""
        return cls("total", column)

    @classmethod
    def mean(cls, column: str) -> Aggregate:
        """The mean of the values."""
        return cls("mean", column)

    @classmethod
    def count(cls, column: str | None = None) -> Aggregate:
        """How many ticks there are, or valid values of a column."""
        return cls("count", column)


@dataclass(frozen=True)
class Bars:
    """A source of bars, made from a source of ticks.

    A bar holds the ticks with ``start <= event time < end``, and its row has the end as its event
    time: nothing is known before it has happened. There is no bar without a tick.

    Where bars begin. Bars that divide an hour are cut at local hours (plus ``offset``) and are
    equally long, except that one that would hold a clock change within itself is cut there. Longer
    bars must divide a day and are cut where a local clock first shows midnight plus ``offset``
    plus a multiple of ``every``: on a day with a clock change, one bar of four hours lasts three
    or five. With a calendar, bars are also cut where sessions open and close, and ticks outside of
    sessions are left out and counted.

    When a bar is known. Its first version holds the ticks known up to ``end + lateness`` and is
    known then. A bar whose first tick comes later is known with that tick. Ticks known later, up to
    ``end + lateness + keep``, correct it: each moment at which some become known gives a version,
    where that changes a value by a bit. Ticks known later still are too late: they are counted.

    Parameters
    ----------
    name: the source that it makes; lower case.
    source: the source of the ticks.
    entity: the column that says which entity a tick is about.
    every: the length of a bar.
    columns: output column -> aggregate, in the order of the output.
    timezone: IANA name; whose clock decides where bars begin.
    offset: how long after the local hour or midnight bars begin; less than ``every``.
    calendar: the sessions within which ticks count.
    lateness: how long after its end a bar waits for ticks. None: not at all.
    keep: how long a bar can be corrected afterwards. None: not at all.

    Raises
    ------
    DefinitionError: a name is illegal or taken, the length divides neither an hour nor a day, the
        time zone is unknown, or there is nothing to compute.
    """

    name: str
    source: str
    entity: str
    every: Duration
    columns: Mapping[str, Aggregate]
    timezone: str = "UTC"
    offset: Duration | None = None
    calendar: SessionTable | None = None
    lateness: Duration | None = None
    keep: Duration | None = None

    def __post_init__(self) -> None:
        names = (("bars", self.name), ("source", self.source), ("entity", self.entity))
        for what, name in names:
            check_name(f"name of the {what}", name)
        if self.name == self.source:
            raise DefinitionError(f"bars {self.name}: made from ticks of the same name")
        self._check_lengths()
        self._check_columns()
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise DefinitionError(
                f"bars {self.name}: unknown time zone {self.timezone!r}",
                hint="an IANA name such as Europe/London, America/New_York or UTC",
            ) from None
        if self.calendar is not None and not isinstance(self.calendar, SessionTable):
            raise DefinitionError(
                f"bars {self.name}: calendar {self.calendar!r}, expected a SessionTable",
                hint="sessions_of_rule(...) or sessions_of_exchange(...)",
            )
        object.__setattr__(self, "columns", MappingProxyType(dict(self.columns)))

    def _check_lengths(self) -> None:
        optional = {"offset": self.offset, "lateness": self.lateness, "keep": self.keep}
        given: dict[str, object] = {"every": self.every, **optional}
        for what, length in given.items():
            if length is None and what != "every":
                continue
            if not isinstance(length, Duration):
                raise DefinitionError(
                    f"bars {self.name}: {what} {length!r}, expected a Duration",
                    hint=f"{what}=Duration.of(minutes=1)",
                )
            if length.nanos > _MOST_WAIT:
                raise DefinitionError(
                    f"bars {self.name}: {what} of {length_in_words(length.nanos)}, expected at "
                    "most 400 days"
                )
        every = self.every.nanos
        if HOUR % every and DAY % every:
            raise DefinitionError(
                f"bars {self.name}: every {length_in_words(every)}, expected a length that "
                "divides an hour or a day",
                hint="such as 1, 5 or 15 seconds or minutes, 1, 4 or 8 hours, 1 day",
            )
        if self.offset is not None and self.offset.nanos >= every:
            raise DefinitionError(
                f"bars {self.name}: offset of {length_in_words(self.offset.nanos)}, expected less "
                f"than the length of a bar ({length_in_words(every)})",
                hint="take whole bars away from it: the cuts stay where they are",
            )

    def _check_columns(self) -> None:
        if not self.columns:
            raise DefinitionError(
                f"bars {self.name}: no columns", hint='columns={"close": Aggregate.last("mid")}'
            )
        taken = {self.entity, *ORDER_COLUMNS}
        for name, aggregate in self.columns.items():
            check_name(f"bars {self.name}: name of a column", name)
            if name in taken:
                raise DefinitionError(
                    f"bars {self.name}: column {name} has the name of a key column",
                    hint="key columns are " + ", ".join([self.entity, *ORDER_COLUMNS]),
                )
            if not isinstance(aggregate, Aggregate):
                raise DefinitionError(
                    f"bars {self.name}: column {name} is {aggregate!r}, expected an Aggregate",
                    hint='such as Aggregate.last("mid") or Aggregate.count()',
                )
            if aggregate.column in taken:
                raise DefinitionError(
                    f"bars {self.name}: column {name} reads the key column {aggregate.column}"
                )

    def __reduce__(self) -> tuple[Any, ...]:
        made = (self.name, self.source, self.entity, self.every, dict(self.columns), self.timezone)
        return Bars, (*made, self.offset, self.calendar, self.lateness, self.keep)

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the ticks that are read, besides the key columns; sorted."""
        return tuple(sorted({item.column for item in self.columns.values() if item.column}))

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The entity and the four columns of the total order."""
        return (self.entity, *ORDER_COLUMNS)

    @property
    def wait(self) -> int:
        """Nanoseconds from the end of a bar until it is complete."""
        return 0 if self.lateness is None else self.lateness.nanos

    @property
    def kept(self) -> int:
        """Nanoseconds for which a complete bar can be corrected."""
        return 0 if self.keep is None else self.keep.nanos

    def to_json(self) -> dict[str, Any]:
        """What a manifest says about it: all that decides a value."""
        calendar = None
        if self.calendar is not None:
            calendar = {"name": self.calendar.name, **self.calendar.to_json()}
        return {
            "format": FORMAT,
            "bars": self.name,
            "source": self.source,
            "entity": self.entity,
            "every": self.every.to_json(),
            "offset": {"nanoseconds": 0} if self.offset is None else self.offset.to_json(),
            "timezone": self.timezone,
            "calendar": calendar,
            "lateness": {"nanoseconds": self.wait},
            "keep": {"nanoseconds": self.kept},
            "columns": [[name, item.kind, item.column] for name, item in self.columns.items()],
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical form of :meth:`to_json`."""
        return content_hash(self.to_json())
