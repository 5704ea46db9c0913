"""Trading sessions: when they open and close, as a table that both drivers read.

A :class:`SessionTable` is made once, from the rule of a named session (:func:`sessions_of_rule`) or
from an exchange's calendar (:func:`sessions_of_exchange`), and holds nothing but moments. So no
driver computes a clock change or a holiday, the same table is read online and offline, and its
digest is part of the manifest: a new version of a calendar library changes no feature silently.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from types import MappingProxyType
from typing import Any, Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from assay.domain.canonical import content_hash
from assay.domain.instants import Instant, from_datetime, render
from assay.errors import DefinitionError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
_HOUR = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WORKING: Final = WEEKDAYS[:5]


@dataclass(frozen=True, slots=True)
class SessionTable:
    """Sessions in their order.

    Attributes
    ----------
    name: as windows and flags name it, such as XNYS or fx_london.
    source: what it was made from, in words.
    opens, closes: nanoseconds UTC, one per session; a session holds ``open <= t < close``.
    covers_to: the end of what the table knows: no session opens between its last one and then.
    usual: the usual length of a session in nanoseconds; a shorter one is a half day.
    digest: SHA-256 of the content.
    """

    name: str
    source: str
    opens: tuple[Instant, ...] = field(repr=False)
    closes: tuple[Instant, ...] = field(repr=False)
    covers_to: Instant
    usual: int = field(init=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DefinitionError(
                f"calendar {self.name!r}: expected a letter, then up to 31 letters, digits or _"
            )
        if len(self.opens) != len(self.closes) or not self.opens:
            raise DefinitionError(
                f"calendar {self.name}: {len(self.opens)} opens, {len(self.closes)} closes, "
                "expected as many of both, and at least one"
            )
        for moment in (*self.opens, *self.closes, self.covers_to):
            if type(moment) is not int:
                raise DefinitionError(
                    f"calendar {self.name}: {moment!r} is {type(moment).__name__}, expected "
                    "nanoseconds UTC as int",
                    hint='assay.domain.instants.parse("2024-01-02T09:00Z")',
                )
        object.__setattr__(self, "opens", tuple(self.opens))
        object.__setattr__(self, "closes", tuple(self.closes))
        following = (*self.opens[1:], self.covers_to)
        for opens, closes, then in zip(self.opens, self.closes, following, strict=True):
            if not opens < closes <= then:
                raise DefinitionError(
                    f"calendar {self.name}: the session from {render(opens)} to {render(closes)} "
                    "ends before it opens or after the next one has opened"
                )
        lengths = Counter(b - a for a, b in zip(self.opens, self.closes, strict=True))
        object.__setattr__(self, "usual", lengths.most_common(1)[0][0])
        content = [self.name, self.covers_to, *self.opens, *self.closes]
        object.__setattr__(self, "digest", content_hash(content))

    def __reduce__(self) -> tuple[Any, ...]:
        content = (self.name, self.source, self.opens, self.closes, self.covers_to)
        return SessionTable, content

    def to_json(self) -> dict[str, Any]:
        """What a manifest says about it."""
        return {
            "source": self.source,
            "digest": self.digest,
            "sessions": len(self.opens),
            "from": render(self.opens[0]),
            "to": render(self.covers_to),
        }


@dataclass(frozen=True, slots=True)
class SessionRule:
    """The same local hours on every one of some weekdays.

    Attributes
    ----------
    timezone: IANA name; hours are local, so that they are right on both sides of a clock change.
    opens, closes: ``HH:MM``; a session that closes at or before its opening closes a day later.
    weekdays: local weekdays on which it opens. holidays: local dates on which it does not.
    half_days: local date -> ``HH:MM`` of an early close.
    """

    timezone: str
    opens: str
    closes: str
    weekdays: tuple[str, ...] = _WORKING
    holidays: frozenset[date] = frozenset()
    half_days: Mapping[date, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise DefinitionError(
                f"session rule: unknown time zone {self.timezone!r}",
                hint="an IANA name such as Europe/London",
            ) from None
        for hour in (self.opens, self.closes, *self.half_days.values()):
            if not _HOUR.fullmatch(hour):
                raise DefinitionError(f'session rule: time of day {hour!r}, expected "08:00"')
        unknown = [day for day in self.weekdays if day not in WEEKDAYS]
        if unknown or not self.weekdays:
            raise DefinitionError(
                f"session rule: weekdays {list(self.weekdays)!r}, expected some of "
                + ", ".join(WEEKDAYS)
            )

    @classmethod
    def of(cls, timezone: str, opens: str, closes: str, weekdays: Iterable[str] = _WORKING) -> Self:
        """A rule without holidays."""
        return cls(timezone, opens, closes, tuple(weekdays))

    def session(self, day: date) -> tuple[Instant, Instant] | None:
        """When the session of a local date opens and closes; None where there is none."""
        if WEEKDAYS[day.weekday()] not in self.weekdays or day in self.holidays:
            return None
        closes = self.half_days.get(day, self.closes)
        last = day if closes > self.opens else day + timedelta(days=1)
        return self._moment(day, self.opens), self._moment(last, closes)

    def _moment(self, day: date, hour: str) -> Instant:
        local = datetime.combine(day, time.fromisoformat(hour), ZoneInfo(self.timezone))
        return from_datetime(local)

    def __str__(self) -> str:
        days = ",".join(self.weekdays)
        return f"{self.opens}-{self.closes} {self.timezone} {days}"


FX_SESSIONS: Final[Mapping[str, SessionRule]] = MappingProxyType(
    {
        "fx_asian": SessionRule.of("Asia/Tokyo", "09:00", "18:00"),
        "fx_london": SessionRule.of("Europe/London", "08:00", "17:00"),
        "fx_new_york": SessionRule.of("America/New_York", "08:00", "17:00"),
    }
)
"""The sessions of the currency market by convention: office hours of its three centres, which have
no holidays of their own here. Whoever trades by other hours writes a rule."""


def sessions_of_rule(name: str, rule: SessionRule, first: date, last: date) -> SessionTable:
    """The sessions of a rule on the local dates from ``first`` to ``last``, both included."""
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    found = [session for day in days if (session := rule.session(day)) is not None]
    if not found:
        raise DefinitionError(f"calendar {name}: no session from {first} to {last}")
    end = from_datetime(
        datetime.combine(last + timedelta(days=1), time(0), ZoneInfo(rule.timezone))
    )
    opens, closes = (tuple(times) for times in zip(*found, strict=True))
    return SessionTable(name, f"rule {rule}", opens, closes, max(end, closes[-1]))


def sessions_of_exchange(name: str, code: str, first: date, last: date) -> SessionTable:
    """The sessions of an exchange by the package exchange_calendars, with its early closes.

    Parameters
    ----------
    code: the market identifier, such as XNYS or XLON.

    Raises
    ------
    DefinitionError: the package is missing, or knows no such exchange or range.
    """
    try:
        import exchange_calendars
    except ImportError:
        raise DefinitionError(
            f"calendar {name}: the calendar of an exchange needs the package exchange_calendars",
            hint="pip install 'assay[calendars]'",
        ) from None
    try:
        found = exchange_calendars.get_calendar(code, start=str(first), end=str(last))
    except (exchange_calendars.errors.CalendarError, ValueError) as error:
        raise DefinitionError(f"calendar {name}: {code}: {error}") from None
    end = from_datetime(datetime.combine(last + timedelta(days=1), time(0), found.tz))
    opens, closes = (
        tuple(from_datetime(time.to_pydatetime()) for time in times)
        for times in (found.opens, found.closes)
    )
    source = f"exchange_calendars {exchange_calendars.__version__} {code}"
    return SessionTable(name, source, opens, closes, max(end, closes[-1]))
