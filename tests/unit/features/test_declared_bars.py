"""Bars and lateness that a file declares are those that Python declares, in both drivers."""

from __future__ import annotations

import pickle
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from assay.domain.instants import NANOS_PER_SECOND, parse
from assay.errors import Conflict, ContractViolation, DefinitionError, Tampered
from assay.features import (
    Aggregate,
    Bars,
    Duration,
    FeatureView,
    Lateness,
    Manifest,
    SessionRule,
    Sessions,
    col,
    load_windows,
    sessions_of_rule,
)
from assay.features.definition.window_files import WindowSet, compile_windows
from assay.features.offline.arrivals import as_known_history
from assay.features.offline.bars import bars_as_known
from assay.features.online import BarFeed, MemoryStore, OnlineFeed, batches_of

TEXT = """
years: [2024, 2024]
calendars:
  desk: {timezone: Europe/London, open: "08:00", close: "16:30"}
bars:
  seconds:
    source: ticks
    entity: instrument
    every: 10s
    lateness: 2s
    keep: 60s
    columns: {open: {first: mid}, high: {highest: mid}, close: {last: mid}, ticks: count}
  sessions:
    source: ticks
    entity: instrument
    every: 4h
    timezone: Europe/London
    offset: 1h
    calendar: desk
    columns:
      close: {last: mid}
      low: {lowest: mid}
      mean: {mean: mid}
      volume: {total: size}
      quoted: {count: mid}
lateness:
  slow: {event_times: 4}
  daily: {event_times: 2, closes_with_batch: true}
"""
DESK = sessions_of_rule(
    "desk", SessionRule.of("Europe/London", "08:00", "16:30"), date(2024, 1, 1), date(2024, 12, 31)
)
SECONDS = Bars(
    "seconds",
    "ticks",
    "instrument",
    Duration.of(seconds=10),
    {
        "open": Aggregate.first("mid"),
        "high": Aggregate.highest("mid"),
        "close": Aggregate.last("mid"),
        "ticks": Aggregate.count(),
    },
    lateness=Duration.of(seconds=2),
    keep=Duration.of(seconds=60),
)
SESSIONS = Bars(
    "sessions",
    "ticks",
    "instrument",
    Duration.of(hours=4),
    {
        "close": Aggregate.last("mid"),
        "low": Aggregate.lowest("mid"),
        "mean": Aggregate.mean("mid"),
        "volume": Aggregate.total("size"),
        "quoted": Aggregate.count("mid"),
    },
    timezone="Europe/London",
    offset=Duration.of(hours=1),
    calendar=DESK,
)
START = parse("2024-05-01T10:00Z")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "windows.yaml"
    file.write_text(TEXT)
    return file


@pytest.fixture
def declared(path: Path) -> WindowSet:
    return load_windows(path)


def test_bars_of_the_file_are_the_bars_of_python(declared: WindowSet, path: Path) -> None:
    assert dict(declared.bars) == {"seconds": SECONDS, "sessions": SESSIONS}
    assert [bars.digest for bars in declared.bars.values()] == [SECONDS.digest, SESSIONS.digest]
    assert list(declared.bars["sessions"].columns) == list(SESSIONS.columns)
    assert declared.bars["sessions"].calendar == declared.calendars[0] == DESK
    # Once from the text, and now from the compiled message alone.
    assert path.with_suffix(".pb").exists()
    assert load_windows(path) == declared


def test_lateness_of_the_file_is_that_of_python(declared: WindowSet) -> None:
    assert dict(declared.lateness) == {
        "slow": Lateness(4),
        "daily": Lateness(2, closes_with_batch=True),
    }


def ticks() -> pl.DataFrame:
    """Three seconds apart, two entities; some become known late, some far too late."""
    rows = [
        {
            "instrument": ("EUR_USD", "USD_JPY")[n % 2],
            "event_time": START + 3 * n * NANOS_PER_SECOND,
            "known_time": START + (3 * n + (0, 0, 4, 0, 11, 0, 40)[n % 7]) * NANOS_PER_SECOND,
            "source_rank": 0,
            "sequence": n,
            "mid": 1.0 + (n * 37 % 11) / 64,
            "size": float(n % 5),
        }
        for n in range(120)
    ]
    return pl.DataFrame(rows).sort("known_time", maintain_order=True)


def bits(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    floats = [name for name in frame.columns if frame[name].dtype == pl.Float64]
    return frame.with_columns(pl.col(floats).reinterpret(signed=True)).rows()


def feed_of(bars: Bars) -> pl.DataFrame:
    feed, rows = BarFeed(bars), []
    for tick in ticks().iter_rows(named=True):
        rows += feed.push(
            tick["instrument"], tick["event_time"], tick["known_time"], tick,
            sequence=tick["sequence"],
        )  # fmt: skip
    return feed.frame(rows)


@pytest.mark.parametrize("name", ["seconds", "sessions"])
def test_history_and_stream_through_the_file_have_the_bits_of_python(
    declared: WindowSet, name: str
) -> None:
    plain = {"seconds": SECONDS, "sessions": SESSIONS}[name]
    expected = bars_as_known(plain, ticks())
    assert bits(bars_as_known(declared.bars[name], ticks())) == bits(expected)
    assert bits(feed_of(declared.bars[name])) == bits(expected)
    if name == "seconds":
        assert expected["sequence"].max() > 0, "no bar was corrected"


def view(bars: Bars | None, lateness: Lateness | None, **changes: object) -> FeatureView:
    close = col("close")
    features = {"close": close, "mean": close.rolling_mean(3, min_count=1), "back": close.lag(2)}
    arguments: dict = {"bars": bars, "lateness": lateness, **changes}
    return FeatureView("v", "seconds", "instrument", features, Sessions(1), **arguments)


def issued(of: FeatureView, arrivals: pl.DataFrame, **said: object) -> list[tuple[object, ...]]:
    store = MemoryStore()
    feed = OnlineFeed(of, store, **said)  # type: ignore[arg-type]
    rows = [row for batch in batches_of(of, arrivals) for row in feed.take(batch)]
    return sorted(
        (row.entity, row.event_time, row.known_time, row.values.tobytes()) for row in rows
    )


def test_both_drivers_go_by_the_lateness_that_the_file_declares(declared: WindowSet) -> None:
    arrivals = bars_as_known(declared.bars["seconds"], ticks())
    of = view(declared.bars["seconds"], declared.lateness["slow"])
    history = as_known_history(of, arrivals)
    assert history.equals(as_known_history(view(SECONDS, None), arrivals, margin=4))
    values = history.select(of.feature_names).to_numpy()
    keys = history.select("instrument", "event_time", "known_time").rows()
    found = issued(of, arrivals)
    assert found == sorted(
        (*key, row.tobytes()) for key, row in zip(keys, values.copy(), strict=True)
    )
    assert found == issued(view(SECONDS, None), arrivals, margin=4)
    # The lateness decides: with another one, other rows are issued again.
    assert found != issued(view(SECONDS, None), arrivals, margin=1)


def test_a_batch_completes_its_event_time_where_the_file_says_so(declared: WindowSet) -> None:
    close = col("close")
    features = {"rank": close.cs_rank(), "gap": close.diff(1).cs_demean()}
    arrivals = bars_as_known(declared.bars["seconds"], ticks())
    found = []
    for lateness in declared.lateness.values():
        of = FeatureView("v", "seconds", "instrument", features, Sessions(1), lateness=lateness)
        history = as_known_history(of, arrivals)
        values = history.select(of.feature_names).to_numpy().copy()
        keys = history.select("instrument", "event_time", "known_time").rows()
        rows = sorted((*key, row.tobytes()) for key, row in zip(keys, values, strict=True))
        assert issued(of, arrivals) == rows
        found.append(rows)
    waits, closes = found
    last = arrivals["event_time"].max()
    assert any(row[1] == last for row in closes)
    assert not any(row[1] == last for row in waits)


def test_a_driver_that_is_told_another_lateness_is_refused(declared: WindowSet) -> None:
    of = view(None, declared.lateness["daily"])
    arrivals = bars_as_known(SECONDS, ticks())
    with pytest.raises(Conflict, match="margin is 32") as refused:
        OnlineFeed(of, MemoryStore(), margin=32)
    assert "leave margin out" in str(refused.value)
    with pytest.raises(Conflict, match="close_with_batch is False"):
        as_known_history(of, arrivals, close_with_batch=False)
    as_known_history(of, arrivals, margin=2, close_with_batch=True)  # the same again is none
    with pytest.raises(ContractViolation, match="declares no lateness"):
        as_known_history(view(None, None), arrivals)
    with pytest.raises(DefinitionError, match="lateness 32"):
        view(None, 32)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="event_times 0"):
        Lateness(0)


def test_the_manifest_covers_every_field_of_the_messages(path: Path) -> None:
    def hash_of(text: str) -> str:
        path.write_text(text)
        found = load_windows(path)
        bars = found.bars["sessions"]
        of = FeatureView(
            "v", bars.name, bars.entity, {"f": col("close")}, Sessions(1), bars=bars,
            lateness=found.lateness["daily"],
        )  # fmt: skip
        travelled = pickle.loads(pickle.dumps(of))
        assert Manifest.of(travelled).hash == Manifest.of(of).hash
        return Manifest.of(of).hash

    plain = FeatureView(
        "v", "sessions", "instrument", {"f": col("close")}, Sessions(1), bars=SESSIONS,
        lateness=Lateness(2, closes_with_batch=True),
    )  # fmt: skip
    hashes = [hash_of(TEXT)]
    assert hashes == [Manifest.of(plain).hash]
    first, last = TEXT.split("  sessions:")
    for old, new in (
        ("source: ticks", "source: quotes"),
        ("entity: instrument", "entity: pair"),
        ("every: 4h", "every: 2h"),
        ("timezone: Europe/London", "timezone: Europe/Paris"),
        ("offset: 1h", "offset: 30m"),
        ("    calendar: desk\n", ""),
        ("    calendar: desk\n", "    calendar: desk\n    lateness: 1ns\n"),
        ("    calendar: desk\n", "    calendar: desk\n    keep: 1ns\n"),
        ("quoted: {count: mid}", "quotes: {count: mid}"),
        ("{mean: mid}", "{total: mid}"),
        ("{total: size}", "{total: mid}"),
        ("event_times: 2", "event_times: 3"),
        ("closes_with_batch: true", "closes_with_batch: false"),
    ):
        assert old in last
        hashes.append(hash_of(first + "  sessions:" + last.replace(old, new)))
    hashes.append(hash_of(TEXT.replace('close: "16:30"', 'close: "16:00"')))
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize(
    ("old", "new", "words", "hint"),
    [
        ("every: 10s", "evry: 10s", "bars seconds: 'evry', expected one of source", "'every'"),
        ("    every: 10s\n", "", "bars seconds: no every, expected source, entity", "every: 1m"),
        ("every: 10s", "every: 7s", "bars seconds: every 7s, expected a length", "such as 1"),
        ("every: 10s", "every: 10", "bars seconds: every 10, expected for example 90s", ""),
        ("every: 10s", "every: 0s", "bars seconds: Duration(0)", ""),
        ("every: 10s", "every: 500d", "bars seconds: every of", ""),
        ("offset: 1h", "offset: 5h", "bars sessions: offset of", "whole bars"),
        ("calendar: desk", "calendar: dekk", "bars sessions: calendar 'dekk'", "'desk'"),
        (
            "timezone: Europe/London\n    o",
            "timezone: Europe/Lodon\n    o",
            "'Europe/Lodon'",
            "IANA",
        ),
        ("timezone: Europe/London\n    o", "timezone: [1]\n    o", "timezone [1], expected", ""),
        ("source: ticks", "source: seconds", "made from ticks of the same name", ""),
        ("source: ticks", "source: 5", "bars seconds: source 5, expected text", ""),
        ("{first: mid}", "{frist: mid}", "column open: aggregate 'frist'", "'first'"),
        ("{first: mid}", "{first: mid, last: mid}", "expected one aggregate", "ticks: count"),
        ("{first: mid}", "{first: 5}", "column open: first 5, expected text", ""),
        ("{first: mid}", "first", "column open: aggregate first: no column", "count"),
        ("{first: mid}", "[first]", "column open: ['first']", ""),
        ("{open:", "{event_time:", "column event_time has the name of a key", ""),
        ("columns: {open", "columns: [open", "not readable as YAML", ""),
        ("  sessions:\n", "  Sessions:\n", "'Sessions'", ""),
        ("event_times: 4", "event_times: 0", "lateness slow: lateness: event_times 0", "how many"),
        ("event_times: 4", "event_times: many", "event_times 'many'", ""),
        ("event_times: 4", "margin: 4", "lateness slow: 'margin'", "closes_with_batch"),
        ("{event_times: 4}", "{}", "lateness slow: no event_times", "event_times: 32"),
        ("{event_times: 4}", "4", "lateness slow: 4, expected names", ""),
        ("closes_with_batch: true", "closes_with_batch: 1", "closes_with_batch 1", ""),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_entry(
    path: Path, old: str, new: str, words: str, hint: str
) -> None:
    assert old in TEXT
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(DefinitionError) as refused:
        load_windows(path)
    assert refused.value.message.startswith(str(path))
    assert words in refused.value.message
    assert hint in (refused.value.hint or "")
    assert not path.with_suffix(".pb").exists()


def test_an_unknown_name_is_refused_with_the_nearest(declared: WindowSet) -> None:
    for mapping, name, close in (
        (declared.bars, "secnds", "seconds"),
        (declared.lateness, "dayly", "daily"),
    ):
        with pytest.raises(DefinitionError, match=f"{name!r} is not declared") as refused:
            mapping[name]
        assert close in str(refused.value.hint)
        assert name not in mapping
        assert mapping.get(name) is None


def test_a_compiled_file_from_before_bars_reads_as_before(path: Path) -> None:
    # Compiled by the version before this one: years [2024, 2024], windows {week: 5}.
    text = "years: [2024, 2024]\nwindows: {week: 5}\n"
    path.write_text(text)
    digest = b"8730b0e711a43350d67dd9acfad946836b50d0ed9c44aefe8010379661934185"
    compiled = b"\n@" + digest + b"\x1a\x08\n\x04week\x10\x05"
    path.with_suffix(".pb").write_bytes(compiled)
    found = load_windows(path)
    assert path.with_suffix(".pb").read_bytes() == compiled == compile_windows(text.encode())
    assert (found["week"], dict(found.bars), dict(found.lateness)) == (5, {}, {})


def test_a_message_that_no_compilation_wrote_is_refused(path: Path) -> None:
    from assay.domain.canonical import sha256_hex
    from assay.features.definition.window_messages import messages

    made = messages()
    aggregate = made.Aggregate(name="x", kind="median", column="mid")
    good = made.Aggregate(name="x", kind="last", column="mid")
    for entry in (
        {"bars": [made.Bars(name="b", source="s", entity="e", every=10**9, columns=[aggregate])]},
        {"bars": [made.Bars(name="b", source="s", entity="e", every=7, columns=[good])]},
        {"bars": [made.Bars(name="b", source="s", entity="e", columns=[good])]},
        {
            "bars": [
                made.Bars(
                    name="b", source="s", entity="e", every=10**9, timezone="UTC",
                    columns=[good], calendar="gone",
                )
            ]
        },
        {"lateness": [made.Lateness(name="l")]},
        {"calendars": [made.Calendar(name="c", openings=[1])]},
    ):  # fmt: skip
        message = made.Windows(text_sha256=sha256_hex(path.read_bytes()), **entry)
        path.with_suffix(".pb").write_bytes(message.SerializeToString())
        with pytest.raises(Tampered, match="made again"):
            load_windows(path)
