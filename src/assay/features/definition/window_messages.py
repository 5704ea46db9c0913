"""What a file of windows declares as the message of ``windows.proto``, and back.

Every value that a definition can hold has one message, and the message gives the value again.
"""

from __future__ import annotations

from importlib import import_module
from itertools import accumulate, pairwise
from typing import Any

from assay.features.definition.bars import Aggregate, Bars
from assay.features.definition.calendars import SessionTable
from assay.features.definition.lateness import Lateness
from assay.features.definition.window_text import Declared
from assay.features.definition.windows import Duration, SessionWindow, TimeWindow, Window


def messages() -> Any:
    """The classes of ``windows.proto``, imported when they are needed: definitions do without."""
    return import_module("assay.features.definition.windows_pb2")


def message_of(declared: Declared, text_sha256: str) -> Any:
    """The message of what a text with this digest declares."""
    return messages().Windows(
        text_sha256=text_sha256,
        calendars=[_calendar_message(table) for table in declared.calendars.values()],
        windows=[_window_message(name, window) for name, window in declared.windows.items()],
        bars=[_bars_message(bars) for bars in declared.bars.values()],
        lateness=[
            messages().Lateness(name=name, **lateness.to_json())
            for name, lateness in declared.lateness.items()
        ],
    )


def declared_in(message: Any) -> Declared:
    """What a message declares."""
    calendars = {entry.name: _calendar(entry) for entry in message.calendars}
    return Declared(
        calendars=calendars,
        windows={entry.name: _window(entry) for entry in message.windows},
        bars={entry.name: _bars(entry, calendars) for entry in message.bars},
        lateness={
            entry.name: Lateness(entry.event_times, entry.closes_with_batch)
            for entry in message.lateness
        },
    )


def _calendar_message(table: SessionTable) -> Any:
    return messages().Calendar(
        name=table.name,
        source=table.source,
        openings=[table.opens[0], *(b - a for a, b in pairwise(table.opens))],
        lengths=[b - a for a, b in zip(table.opens, table.closes, strict=True)],
        covers_to=table.covers_to,
    )


def _calendar(message: Any) -> SessionTable:
    opens = tuple(accumulate(message.openings))
    closes = tuple(a + b for a, b in zip(opens, message.lengths, strict=True))
    return SessionTable(message.name, message.source, opens, closes, message.covers_to)


def _window_message(name: str, window: Window) -> Any:
    if isinstance(window, TimeWindow):
        return messages().Window(name=name, nanos=window.nanos, max_rows=window.max_rows)
    if isinstance(window, SessionWindow):
        sessions = messages().Sessions(calendar=window.calendar, count=window.sessions)
        return messages().Window(name=name, sessions=sessions, max_rows=window.max_rows)
    return messages().Window(name=name, rows=window)


def _window(message: Any) -> Window:
    reach = message.WhichOneof("reach")
    if reach == "nanos":
        return TimeWindow(message.nanos, message.max_rows)
    if reach == "sessions":
        return SessionWindow(message.sessions.calendar, message.sessions.count, message.max_rows)
    return int(message.rows)


def _bars_message(bars: Bars) -> Any:
    return messages().Bars(
        name=bars.name,
        source=bars.source,
        entity=bars.entity,
        every=bars.every.nanos,
        timezone=bars.timezone,
        offset=0 if bars.offset is None else bars.offset.nanos,
        calendar="" if bars.calendar is None else bars.calendar.name,
        lateness=bars.wait,
        keep=bars.kept,
        columns=[
            messages().Aggregate(name=name, kind=item.kind, column=item.column or "")
            for name, item in bars.columns.items()
        ],
    )


def _bars(message: Any, calendars: dict[str, SessionTable]) -> Bars:
    return Bars(
        name=message.name,
        source=message.source,
        entity=message.entity,
        every=Duration(message.every),
        columns={item.name: Aggregate(item.kind, item.column or None) for item in message.columns},
        timezone=message.timezone,
        offset=_some(message.offset),
        calendar=calendars[message.calendar] if message.calendar else None,
        lateness=_some(message.lateness),
        keep=_some(message.keep),
    )


def _some(nanos: int) -> Duration | None:
    return Duration(nanos) if nanos else None
