"""The text of ``configs/features/windows.yaml``: what it may say, and what it means.

Whatever cannot be meant is refused with the file, the entry, the value found and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from assay.errors import ConfigurationError, DefinitionError, did_you_mean
from assay.features.definition.bars import KINDS, Aggregate, Bars
from assay.features.definition.calendars import (
    FX_SESSIONS,
    WEEKDAYS,
    SessionRule,
    SessionTable,
    sessions_of_exchange,
    sessions_of_rule,
)
from assay.features.definition.lateness import Lateness
from assay.features.definition.opcodes import MAX_WINDOW
from assay.features.definition.windows import (
    UNITS,
    Duration,
    SessionWindow,
    TimeWindow,
    Window,
)
from assay.storage.documents import parse_yaml

_LENGTH = re.compile(r"([0-9]{1,18})(ns|us|ms|s|m|h|d)")
_NANOS: Final = dict(UNITS)
SECTIONS: Final = ("years", "calendars", "windows", "bars", "lateness")
_RULE: Final = ("timezone", "open", "close", "weekdays", "holidays", "half_days")
_BARS_NEED: Final = ("source", "entity", "every", "columns")
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "calendar": ("exchange", "session", *_RULE),
    "window": ("rows", "time", "sessions", "calendar", "max_rows"),
    "bars": (*_BARS_NEED, "timezone", "offset", "calendar", "lateness", "keep"),
    "lateness": ("event_times", "closes_with_batch"),
}
"""What an entry of each kind may say."""
_EXAMPLE: Final = "columns: {close: {last: mid}, ticks: count}"


class Declared(NamedTuple):
    """What a file declares, by name; calendars in the file's order."""

    calendars: Mapping[str, SessionTable]
    windows: Mapping[str, Window]
    bars: Mapping[str, Bars]
    lateness: Mapping[str, Lateness]


def declared_by(text: bytes, where: str) -> Declared:
    """What a text declares; ``where`` names it in errors.

    Raises
    ------
    DefinitionError: something in it is not what it has to be; the message names the entry.
    """
    try:
        document = parse_yaml(text.decode("utf-8"), source=where, text_keys=False)
    except (ConfigurationError, UnicodeDecodeError) as error:
        problem = error.message if isinstance(error, ConfigurationError) else f"{where}: {error}"
        raise DefinitionError(problem) from None
    parts = _mapping({} if document is None else document, where, SECTIONS)
    first, last = _years(parts.get("years", [2000, 2035]), where)
    calendars = {
        name: _calendar(name, entry, first, last, f"{where}: calendar {name}")
        for name, entry in _section(parts, "calendars", where)
    }
    return Declared(
        calendars=calendars,
        windows={
            name: _window(entry, calendars, f"{where}: window {name}")
            for name, entry in _section(parts, "windows", where)
        },
        bars={
            name: _bars(name, entry, calendars, where)
            for name, entry in _section(parts, "bars", where)
        },
        lateness={
            name: _lateness(entry, f"{where}: lateness {name}")
            for name, entry in _section(parts, "lateness", where)
        },
    )


# -- pieces -------------------------------------------------------------------------------------


def _section(parts: dict[Any, Any], name: str, where: str) -> Iterator[tuple[str, Any]]:
    entries = parts.get(name)
    for key, entry in _mapping({} if entries is None else entries, f"{where}: {name}").items():
        yield str(key), entry


def _mapping(value: Any, where: str, allowed: Collection[str] | None = None) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise DefinitionError(f"{where}: {value!r}, expected names with values")
    for name in value:
        if allowed is not None and name not in allowed:
            raise DefinitionError(
                f"{where}: {name!r}, expected one of {', '.join(allowed)}",
                hint=did_you_mean(str(name), allowed),
            )
    return value


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Name the place in what a value itself refuses."""
    try:
        yield
    except DefinitionError as error:
        raise DefinitionError(f"{where}: {error.message}", hint=error.hint) from None


def _alone(parts: dict[Any, Any], name: str, where: str) -> None:
    if len(parts) > 1:
        others = ", ".join(sorted(set(parts) - {name}))
        raise DefinitionError(f"{where}: {name} beside {others}", hint=f"{name} alone")


def _word(value: Any, key: str, where: str, example: str) -> str:
    if not isinstance(value, str) or not value:
        raise DefinitionError(f"{where}: {key} {value!r}, expected text such as {example}")
    return value


def _one_of(value: Any, allowed: Collection[str], what: str, where: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise DefinitionError(
            f"{where}: {what} {value!r}, expected one of {', '.join(allowed)}",
            hint=did_you_mean(str(value), allowed),
        )
    return value


def _declared(value: Any, calendars: Collection[str], where: str) -> str:
    if not isinstance(value, str) or value not in calendars:
        raise DefinitionError(
            f"{where}: calendar {value!r} is not declared, "
            f"expected one of {', '.join(calendars) or 'those in calendars'}",
            hint=did_you_mean(str(value), calendars) if calendars else "declare it in calendars",
        )
    return value


def _length(value: Any, key: str, where: str) -> Duration:
    text = str(value).replace(" ", "") if isinstance(value, str) else ""
    parts = _LENGTH.findall(text)
    if not parts or "".join(f"{n}{unit}" for n, unit in parts) != text:
        raise DefinitionError(f"{where}: {key} {value!r}, expected for example 90s, 1h30m or 2d")
    with _at(where):
        return Duration(sum(int(n) * _NANOS[unit] for n, unit in parts))


# -- calendars ----------------------------------------------------------------------------------


def _years(value: Any, where: str) -> tuple[date, date]:
    whole = isinstance(value, list) and len(value) == 2 and all(type(one) is int for one in value)
    if not whole or not 1700 <= value[0] <= value[1] <= 2200:
        raise DefinitionError(f"{where}: years {value!r}, expected two years such as [2015, 2030]")
    return date(value[0], 1, 1), date(value[1], 12, 31)


def _calendar(name: str, entry: Any, first: date, last: date, where: str) -> SessionTable:
    parts = _mapping(entry, where, KEYS["calendar"])
    if "exchange" in parts:
        _alone(parts, "exchange", where)
        with _at(where):
            code = _word(parts["exchange"], "exchange", where, "XNYS")
            return sessions_of_exchange(name, code, first, last)
    if "session" in parts:
        _alone(parts, "session", where)
        session = _one_of(parts["session"], FX_SESSIONS, "session", where)
        with _at(where):
            return sessions_of_rule(name, FX_SESSIONS[session], first, last)
    for needed in _RULE[:3]:
        if needed not in parts:
            raise DefinitionError(
                f"{where}: no {needed}",
                hint="exchange: XNYS, or session: fx_london, or timezone, open and close",
            )
    rule = _rule(parts, where)
    with _at(where):
        return sessions_of_rule(name, rule, first, last)


def _rule(parts: dict[Any, Any], where: str) -> SessionRule:
    weekdays = _list(parts.get("weekdays", list(WEEKDAYS[:5])), "weekdays", where)
    half_days = parts.get("half_days") or {}
    timezone = _word(parts["timezone"], "timezone", where, "Europe/London")
    with _at(where):
        return SessionRule(
            timezone=timezone,
            opens=_hour(parts["open"]),
            closes=_hour(parts["close"]),
            weekdays=tuple(_one_of(day, WEEKDAYS, "weekday", where) for day in weekdays),
            holidays=frozenset(
                _day(day, where) for day in _list(parts.get("holidays") or [], "holidays", where)
            ),
            half_days={
                _day(day, where): _hour(hour)
                for day, hour in _mapping(half_days, f"{where}: half_days").items()
            },
        )


def _list(value: Any, key: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise DefinitionError(f"{where}: {key} {value!r}, expected a list such as [...]")
    return value


def _hour(value: Any) -> str:
    # YAML 1.1 reads 08:00 without quotes as a number of minutes.
    return f"{value // 60:02d}:{value % 60:02d}" if type(value) is int else str(value)


def _day(value: Any, where: str) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise DefinitionError(f"{where}: date {value!r}, expected 2026-12-24") from None


# -- windows ------------------------------------------------------------------------------------


def _window(entry: Any, calendars: Collection[str], where: str) -> Window:
    if type(entry) is int:
        return _rows(entry, where)
    parts = _mapping(entry, where, KEYS["window"])
    reaches = [name for name in ("rows", "time", "sessions") if name in parts]
    if len(reaches) != 1:
        raise DefinitionError(
            f"{where}: {' and '.join(reaches) or 'nothing'} given, expected one of rows, time and "
            "sessions"
        )
    if "rows" in parts:
        _alone(parts, "rows", where)
        return _rows(parts["rows"], where)
    if "max_rows" not in parts:
        raise DefinitionError(
            f"{where}: no max_rows", hint="the most rows that it can hold on the busiest day"
        )
    if "time" in parts:
        if "calendar" in parts:
            raise DefinitionError(f"{where}: time beside calendar", hint="sessions have calendars")
        nanos = _length(parts["time"], "time", where).nanos
        with _at(where):
            return TimeWindow(nanos, parts["max_rows"])
    calendar = _declared(parts.get("calendar"), calendars, where)
    with _at(where):
        return SessionWindow(calendar, parts["sessions"], parts["max_rows"])


def _rows(value: Any, where: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_WINDOW:
        raise DefinitionError(
            f"{where}: rows {value!r}, expected a whole number from 1 to {MAX_WINDOW:,}"
        )
    return value


# -- bars and lateness --------------------------------------------------------------------------


def _bars(name: str, entry: Any, calendars: Mapping[str, SessionTable], file: str) -> Bars:
    where = f"{file}: bars {name}"
    parts = _mapping(entry, where, KEYS["bars"])
    for needed in _BARS_NEED:
        if needed not in parts:
            raise DefinitionError(
                f"{where}: no {needed}, expected {', '.join(_BARS_NEED)}",
                hint=f"source: fx_ticks, entity: instrument, every: 1m, {_EXAMPLE}",
            )
    made: dict[str, Any] = {
        key: _length(parts[key], key, where)
        for key in ("offset", "lateness", "keep")
        if key in parts
    }
    calendar = None
    if "calendar" in parts:
        calendar = calendars[_declared(parts["calendar"], calendars, where)]
    for key, example in (
        ("source", "fx_ticks"),
        ("entity", "instrument"),
        ("timezone", "Europe/London"),
    ):
        made[key] = _word(parts.get(key, "UTC"), key, where, example)
    every = _length(parts["every"], "every", where)
    columns = {
        str(column): _aggregate(column, says, where)
        for column, says in _mapping(parts["columns"], f"{where}: columns").items()
    }
    with _at(file):  # bars name themselves
        return Bars(name, every=every, columns=columns, calendar=calendar, **made)


def _aggregate(column: object, says: Any, where: str) -> Aggregate:
    """``{last: mid}``, or ``count`` of the ticks themselves."""
    where = f"{where}: column {column}"
    parts = {says: None} if isinstance(says, str) else _mapping(says, where)
    if len(parts) != 1:
        raise DefinitionError(
            f"{where}: {says!r}, expected one aggregate with its column", hint=_EXAMPLE
        )
    ((kind, read),) = parts.items()
    _one_of(kind, KINDS, "aggregate", where)
    if read is not None:
        read = _word(read, str(kind), where, "mid")
    with _at(where):
        return Aggregate(str(kind), read)


def _lateness(entry: Any, where: str) -> Lateness:
    parts = _mapping(entry, where, KEYS["lateness"])
    if "event_times" not in parts:
        raise DefinitionError(f"{where}: no event_times", hint="event_times: 32")
    with _at(where):
        return Lateness(**parts)
