"""Windows and calendars by name, from a file: compiled once, the same for whoever reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from assay.domain.instants import NANOS_PER_SECOND, parse
from assay.errors import DefinitionError, NotFound, Tampered
from assay.features import (
    FX_SESSIONS,
    FeatureView,
    Manifest,
    Sessions,
    SessionWindow,
    TimeWindow,
    col,
    in_session,
    load_windows,
    sessions_of_rule,
)
from assay.features.definition.window_files import compile_windows

TEXT = """
years: [2023, 2025]
calendars:
  fx_london: {session: fx_london}
  desk:
    timezone: Asia/Singapore
    open: "08:30"
    close: 18:00
    weekdays: [mon, tue, wed, thu, fri]
    holidays: [2024-02-12]
    half_days: {2024-02-09: "12:00"}
windows:
  week: 5
  month: {rows: 21}
  hour: {time: 1h30m, max_rows: 5400}
  day: {sessions: 1, calendar: desk, max_rows: 40000}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "windows.yaml"
    file.write_text(TEXT)
    return file


def test_windows_and_calendars_are_what_the_file_says(path: Path) -> None:
    found = load_windows(path)
    assert dict(found.windows) == {
        "week": 5,
        "month": 21,
        "hour": TimeWindow(5_400 * NANOS_PER_SECOND, 5_400),
        "day": SessionWindow("desk", 1, 40_000),
    }
    london, desk = found.calendars
    first, last = date(2023, 1, 1), date(2025, 12, 31)
    assert london == sessions_of_rule("fx_london", FX_SESSIONS["fx_london"], first, last)
    sessions = dict(zip(desk.opens, desk.closes, strict=True))
    assert sessions[parse("2024-02-08T00:30Z")] == parse("2024-02-08T10:00Z")
    assert sessions[parse("2024-02-09T00:30Z")] == parse("2024-02-09T04:00Z")
    assert parse("2024-02-12T00:30Z") not in sessions


def test_a_view_over_the_file_is_the_view_over_the_same_values(path: Path) -> None:
    found = load_windows(path)
    mean = col("x").rolling_mean(found["hour"], min_count=1)
    features = {"mean": mean, "open": in_session("fx_london")}
    named = FeatureView("v", "s", "e", features, Sessions(1), calendars=found.calendars)
    table = sessions_of_rule(
        "fx_london", FX_SESSIONS["fx_london"], date(2023, 1, 1), date(2025, 12, 31)
    )
    plain = FeatureView("v", "s", "e", features, Sessions(1), calendars=(table,))
    assert Manifest.of(named).hash == Manifest.of(plain).hash


def test_the_compiled_file_is_read_until_the_text_changes(path: Path) -> None:
    first = load_windows(path)
    compiled = path.with_suffix(".pb")
    data = compiled.read_bytes()
    assert load_windows(path) == first
    assert compiled.read_bytes() == data == compile_windows(path.read_bytes())
    path.write_text(TEXT.replace("5400", "6000"))
    second = load_windows(path)
    assert second["hour"] == TimeWindow(5_400 * NANOS_PER_SECOND, 6_000)
    assert second.digest != first.digest
    compiled.write_bytes(b"\xff\xff\xff")
    with pytest.raises(Tampered, match=r"windows\.pb"):
        load_windows(path)


def test_an_exchange_is_compiled_once_and_then_read_without_its_library(tmp_path: Path) -> None:
    pytest.importorskip("exchange_calendars")
    path = tmp_path / "windows.yaml"
    path.write_text("years: [2024, 2024]\ncalendars: {XNYS: {exchange: XNYS}}\n")
    (table,) = load_windows(path).calendars
    program = (
        "import sys; sys.modules['exchange_calendars'] = None\n"
        "from pathlib import Path\n"
        "from assay.features import load_windows\n"
        "(table,) = load_windows(Path(sys.argv[1])).calendars\n"
        "print(table.digest, len(table.opens))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True, text=True, check=True, env=dict(os.environ),
    )  # fmt: skip
    assert found.stdout.split() == [table.digest, "252"]


@pytest.mark.parametrize(
    ("old", "new", "words", "hint"),
    [
        ("time: 1h30m", "time: 1.5h", "window hour: time '1.5h', expected for example 90s", ""),
        ("time: 1h30m", "time: 0s", "window hour: Duration", ""),
        ("time: 1h30m, max_rows: 5400", "time: 1h", "window hour: no max_rows", "busiest"),
        ("time: 1h30m", "tiem: 1h", "window hour: 'tiem'", "did you mean 'time'"),
        ("rows: 21", "rows: 21, time: 1h", "rows and time given", ""),
        ("week: 5", "week: 0", "window week: rows 0", ""),
        ("calendar: desk", "calendar: dekk", "'dekk' is not declared", "did you mean 'desk'"),
        ("session: fx_london", "session: fx_lodnon", "'fx_lodnon'", "did you mean 'fx_london'"),
        ("session: fx_london", "exchange: X, open: 1", "exchange beside open", "alone"),
        ("    open:", "    opne:", "calendar desk: 'opne'", "did you mean 'open'"),
        ("    timezone: Asia/Singapore\n", "", "calendar desk: no timezone", "exchange"),
        ("2024-02-12]", "soon]", "date 'soon'", ""),
        ("years: [2023, 2025]", "years: [2025]", "years", ""),
        ("windows:", "windwos:", "'windwos'", "did you mean 'windows'"),
        ("week: 5", "week: [", "while parsing", ""),
        ("week: 5", "week: 131073", "window week: rows 131073, expected a whole number", ""),
        ("week: 5", "week: 5\n  week: 6", "key 'week' stands twice", ""),
        ("time: 1h30m", "time: 90", "window hour: time 90, expected for example 90s", ""),
        ("time: 1h30m", "calendar: desk, time: 1h", "time beside calendar", "sessions"),
        ("weekdays: [mon, tue, wed", "weekdays: [mon, teu, wed", "weekday 'teu'", "'tue'"),
        ("weekdays: [mon, tue, wed, thu, fri]", "weekdays: mon", "weekdays 'mon', expected a", ""),
        ("[2024-02-12]", "2024-02-12", "holidays datetime.date", ""),
        ("[2024-02-12]", "[2024-02-12 08:00:00]", "date datetime.datetime", ""),
        ("timezone: Asia/Singapore", "timezone: 8", "timezone 8, expected text", ""),
        ("timezone: Asia/Singapore", "timezone: Asia/Sing", "calendar desk: session rule", "IANA"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_entry(
    path: Path, old: str, new: str, words: str, hint: str
) -> None:
    assert old in TEXT
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(DefinitionError) as refused:
        load_windows(path)
    assert words in refused.value.message
    assert hint in (refused.value.hint or "")
    assert not path.with_suffix(".pb").exists()


def test_an_unknown_window_and_a_missing_file_are_named(path: Path) -> None:
    with pytest.raises(DefinitionError, match="window 'huor'") as refused:
        load_windows(path)["huor"]
    assert "hour" in str(refused.value.hint)
    with pytest.raises(NotFound, match="no windows at"):
        load_windows(path.with_name("other.yaml"))
