"""Windows and calendars by name: ``configs/features/windows.yaml``, and what it compiles to.

1. The YAML file says what is meant: windows of rows, time and sessions, and calendars by exchange,
   by named session of the currency market, or by rule.
2. It is compiled into the message of ``windows.proto``, beside it as ``windows.pb``: moments and
   numbers only. That file belongs into version control: with it, neither a server nor a colleague
   needs the calendar library, and no new version of it changes a feature by itself.
3. :func:`load_windows` reads the compiled file, and compiles anew only where the text has changed
   or there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from itertools import accumulate, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from assay.domain.canonical import sha256_hex
from assay.errors import DefinitionError, NotFound, Tampered, did_you_mean
from assay.features.definition.calendars import (
    FX_SESSIONS,
    SessionRule,
    SessionTable,
    sessions_of_exchange,
    sessions_of_rule,
)
from assay.features.definition.windows import Duration, SessionWindow, TimeWindow, Window
from assay.storage.files import write_atomic

_LENGTH = re.compile(r"(\d+)\s*(ns|us|ms|s|m|h|d)")
_NANOS: Final = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3_600 * 10**9,
    "d": 86_400 * 10**9,
}
_RULE = {"timezone", "open", "close", "weekdays", "holidays", "half_days"}


@dataclass(frozen=True, slots=True)
class WindowSet:
    """What a file declares.

    Attributes
    ----------
    windows: by name, for the operators. calendars: for :class:`FeatureView`, in the file's order.
    digest: SHA-256 of the compiled message.
    """

    windows: Mapping[str, Window]
    calendars: tuple[SessionTable, ...]
    digest: str

    def __getitem__(self, name: str) -> Window:
        """A window by name; an unknown one is refused with the nearest."""
        if name not in self.windows:
            raise DefinitionError(
                f"window {name!r} is not declared", hint=did_you_mean(name, self.windows)
            )
        return self.windows[name]


def load_windows(path: Path) -> WindowSet:
    """Read a file of windows; see the module's docstring.

    Raises
    ------
    NotFound: there is no such file. Tampered: the compiled file cannot be read.
    DefinitionError: something in it is not what it has to be; the message names the entry.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(
            f"no windows at {path}", hint="see docs/how-to/windows-and-sessions.md"
        ) from None
    compiled = path.with_suffix(".pb")
    if compiled.exists():
        data = compiled.read_bytes()
        message = _read(data, compiled)
        if message.text_sha256 == sha256_hex(text):
            return _of_message(message, sha256_hex(data))
    data = compile_windows(text, str(path))
    write_atomic(compiled, data)
    return _of_message(_read(data, compiled), sha256_hex(data))


def compile_windows(text: bytes, where: str = "windows") -> bytes:
    """The serialized message of a file's text; the same bytes for the same text and calendars.

    Raises
    ------
    DefinitionError: as :func:`load_windows`.
    """
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DefinitionError(f"{where}: {error}") from None
    parts = _mapping(document or {}, where, {"years", "calendars", "windows"})
    first, last = _years(parts.get("years", [2000, 2035]), where)
    tables = [
        _calendar(str(name), entry, first, last, f"{where}: calendar {name}")
        for name, entry in _mapping(parts.get("calendars") or {}, f"{where}: calendars").items()
    ]
    known = [table.name for table in tables]
    windows = {
        str(name): _window(entry, known, f"{where}: window {name}")
        for name, entry in _mapping(parts.get("windows") or {}, f"{where}: windows").items()
    }
    message = _messages().Windows(
        text_sha256=sha256_hex(text),
        calendars=[_calendar_message(table) for table in tables],
        windows=[_window_message(name, window) for name, window in windows.items()],
    )
    data: bytes = message.SerializeToString(deterministic=True)
    return data


# -- the text -----------------------------------------------------------------------------------


def _mapping(value: Any, where: str, allowed: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DefinitionError(f"{where}: {value!r}, expected names with values")
    for name in value:
        if allowed is not None and name not in allowed:
            raise DefinitionError(f"{where}: {name!r}", hint=did_you_mean(str(name), allowed))
    return value


def _years(value: Any, where: str) -> tuple[date, date]:
    whole = isinstance(value, list) and len(value) == 2 and all(type(one) is int for one in value)
    if not whole or not 1700 <= value[0] <= value[1] <= 2200:
        raise DefinitionError(f"{where}: years {value!r}, expected two years such as [2015, 2030]")
    return date(value[0], 1, 1), date(value[1], 12, 31)


def _calendar(name: str, entry: Any, first: date, last: date, where: str) -> SessionTable:
    parts = _mapping(entry, where, {"exchange", "session", *_RULE})
    if "exchange" in parts:
        _alone(parts, "exchange", where)
        return sessions_of_exchange(name, str(parts["exchange"]), first, last)
    if "session" in parts:
        _alone(parts, "session", where)
        session = str(parts["session"])
        if session not in FX_SESSIONS:
            raise DefinitionError(
                f"{where}: session {session!r}", hint=did_you_mean(session, FX_SESSIONS)
            )
        return sessions_of_rule(name, FX_SESSIONS[session], first, last)
    for needed in ("timezone", "open", "close"):
        if needed not in parts:
            raise DefinitionError(
                f"{where}: no {needed}",
                hint="exchange: XNYS, or session: fx_london, or timezone, open and close",
            )
    rule = SessionRule(
        timezone=str(parts["timezone"]),
        opens=_hour(parts["open"]),
        closes=_hour(parts["close"]),
        **({"weekdays": tuple(parts["weekdays"])} if "weekdays" in parts else {}),
        holidays=frozenset(_day(day, where) for day in parts.get("holidays") or ()),
        half_days={
            _day(day, where): _hour(hour) for day, hour in (parts.get("half_days") or {}).items()
        },
    )
    return sessions_of_rule(name, rule, first, last)


def _alone(parts: dict[str, Any], name: str, where: str) -> None:
    if len(parts) > 1:
        others = ", ".join(sorted(set(parts) - {name}))
        raise DefinitionError(f"{where}: {name} beside {others}", hint=f"{name} alone")


def _hour(value: Any) -> str:
    # YAML 1.1 reads 08:00 without quotes as a number of minutes.
    return f"{value // 60:02d}:{value % 60:02d}" if type(value) is int else str(value)


def _day(value: Any, where: str) -> date:
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise DefinitionError(f"{where}: date {value!r}, expected 2026-12-24") from None


def _window(entry: Any, calendars: list[str], where: str) -> Window:
    if type(entry) is int:
        return _rows(entry, where)
    parts = _mapping(entry, where, {"rows", "time", "sessions", "calendar", "max_rows"})
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
    try:
        if "time" in parts:
            return TimeWindow(_nanos(parts["time"], where), parts["max_rows"])
        calendar = str(parts.get("calendar"))
        if calendar not in calendars:
            raise DefinitionError(
                f"calendar {calendar!r} is not declared",
                hint=did_you_mean(calendar, calendars) if calendars else "declare it in calendars",
            )
        return SessionWindow(calendar, parts["sessions"], parts["max_rows"])
    except DefinitionError as error:
        raise DefinitionError(f"{where}: {error.message}", hint=error.hint) from None


def _rows(value: Any, where: str) -> int:
    if type(value) is not int or value < 1:
        raise DefinitionError(f"{where}: rows {value!r}, expected a whole number from 1")
    return value


def _nanos(value: Any, where: str) -> int:
    parts = _LENGTH.findall(str(value))
    if not parts or "".join(f"{n}{unit}" for n, unit in parts) != str(value).replace(" ", ""):
        raise DefinitionError(f"{where}: time {value!r}, expected for example 90s, 1h30m or 2d")
    return Duration(sum(int(n) * _NANOS[unit] for n, unit in parts)).nanos


# -- the message --------------------------------------------------------------------------------


def _messages() -> Any:
    """The classes of ``windows.proto``, imported when they are needed: definitions do without."""
    return import_module("assay.features.definition.windows_pb2")


def _calendar_message(table: SessionTable) -> Any:
    return _messages().Calendar(
        name=table.name,
        source=table.source,
        openings=[table.opens[0], *(b - a for a, b in pairwise(table.opens))],
        lengths=[b - a for a, b in zip(table.opens, table.closes, strict=True)],
        covers_to=table.covers_to,
    )


def _window_message(name: str, window: Window) -> Any:
    if isinstance(window, TimeWindow):
        return _messages().Window(name=name, nanos=window.nanos, max_rows=window.max_rows)
    if isinstance(window, SessionWindow):
        sessions = _messages().Sessions(calendar=window.calendar, count=window.sessions)
        return _messages().Window(name=name, sessions=sessions, max_rows=window.max_rows)
    return _messages().Window(name=name, rows=window)


def _read(data: bytes, path: Path) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return _messages().Windows.FromString(data)
    except DecodeError as error:
        raise Tampered(
            f"compiled windows {path}: {error}", hint=f"remove {path}, it is made again"
        ) from None


def _of_message(message: Any, digest: str) -> WindowSet:
    tables = []
    for calendar in message.calendars:
        opens = tuple(accumulate(calendar.openings))
        closes = tuple(a + b for a, b in zip(opens, calendar.lengths, strict=True))
        tables.append(
            SessionTable(calendar.name, calendar.source, opens, closes, calendar.covers_to)
        )
    windows: dict[str, Window] = {}
    for window in message.windows:
        reach = window.WhichOneof("reach")
        if reach == "nanos":
            windows[window.name] = TimeWindow(window.nanos, window.max_rows)
        elif reach == "sessions":
            windows[window.name] = SessionWindow(
                window.sessions.calendar, window.sessions.count, window.max_rows
            )
        else:
            windows[window.name] = window.rows
    return WindowSet(MappingProxyType(windows), tuple(tables), digest)
