"""Online: reading embedded stores beside raw SQLite, one event into a store, and restarting.

The raw reference keeps one packed row for each entity in a table of its own, reads it with an open
connection, and turns the bytes into an array: it knows no versions, times, manifests or checksums.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from assay.features import FeatureView, OnlineDriver
from assay.features.online import Arrival, MemoryStore, OnlineFeed, SqliteStore
from assay.testing.online_store import stored_row
from benchmarks.kernel import fx_view, single_view

ENTITIES = 10_000
FEATURES = 50
EVENTS = 3_000
RESTARTED = 1_000
MARGIN = 8
DAY = 86_400 * 10**9


def rows() -> list[dict[str, Any]]:
    """Measure; see the units of the rows."""
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as name:
        return [*_reads(Path(name)), *_events(), *_restart(Path(name))]


def _row(
    name: str, unit: str, ours: float, reference: float | None, target: float, *, ratio: bool
) -> dict[str, Any]:
    found = None if reference is None else ours / reference
    return {
        "name": name,
        "unit": unit,
        "ours": ours,
        "reference": reference,
        "ratio": found,
        "target": target,
        "met": (found if ratio and found is not None else ours) <= target,
    }


def _beside(
    ours: Callable[[], object], reference: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Medians in milliseconds; taken in turns, so that both see the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for work, found in zip((ours, reference), times, strict=True):
            start = perf_counter()
            work()
            found.append((perf_counter() - start) * 1e3)
    return median(times[0]), median(times[1])


def _reads(folder: Path) -> list[dict[str, Any]]:
    generator = np.random.default_rng(1)
    values = generator.standard_normal((ENTITIES, FEATURES))
    names = [f"E{number:05}" for number in range(ENTITIES)]
    store, memory = SqliteStore(folder / "online.db"), MemoryStore()
    for day in range(3):
        batch = [
            stored_row(name, day * DAY, values=row) for name, row in zip(names, values, strict=True)
        ]
        store.write("fx", batch)
        memory.write("fx", batch)
    raw = sqlite3.connect(folder / "raw.db")
    raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("CREATE TABLE rows (entity TEXT PRIMARY KEY, packed BLOB) WITHOUT ROWID")
    with raw:
        packed = [(name, row.tobytes()) for name, row in zip(names, values, strict=True)]
        raw.executemany("INSERT INTO rows VALUES (?, ?)", packed)

    def read_raw(asked: Sequence[str]) -> object:
        if len(asked) == 1:
            (found,) = raw.execute("SELECT packed FROM rows WHERE entity = ?", asked).fetchone()
            return np.frombuffer(found)
        marks = ", ".join("?" * len(asked))  # faster than one query for each
        query = f"SELECT entity, packed FROM rows WHERE entity IN ({marks})"
        found = dict(raw.execute(query, asked).fetchall())
        return [np.frombuffer(found[name]) for name in asked]

    found = []
    for count, repeats in ((1, 4_000), (100, 300)):
        asked = [
            [names[place] for place in generator.choice(ENTITIES, count, replace=False)]
            for _ in range(repeats)
        ]
        for label, one in (("SQLite", store), ("memory", memory)):
            ours, reference = iter(asked), iter(asked)
            times = _beside(
                lambda one=one, ours=ours: one.read("fx", next(ours)),  # type: ignore[misc]
                lambda reference=reference: read_raw(next(reference)),  # type: ignore[misc]
                repeats,
            )
            what = f"read {count} of {ENTITIES:,} entities, {label} (reference: raw SQLite)"
            found.append(_row(what, "ms", *times, 2.0, ratio=True))
    store.close()
    raw.close()
    return found


def _arrivals(view: FeatureView, entities: int, sessions: int) -> list[list[Arrival]]:
    """One batch per session with every entity in it."""
    generator = np.random.default_rng(2)
    values = np.ones((sessions, entities, len(view.columns)))
    mid = view.columns.index("mid")
    values[:, :, mid] = np.exp(generator.normal(0, 0.01, (sessions, entities)).cumsum(axis=0))
    return [
        [
            Arrival(f"E{number:05}", day * DAY, day * DAY + 1, 0, 0, values[day, number])
            for number in range(entities)
        ]
        for day in range(sessions)
    ]


def _events() -> list[dict[str, Any]]:
    """One event, 50 features: from its arrival to a row that can be read."""
    view = single_view()
    batches = _arrivals(view, 10, EVENTS // 10)
    feed, driver = OnlineFeed(view, MemoryStore()), OnlineDriver(view)
    times: list[float] = []
    alone: list[float] = []
    for batch in batches:
        for event in batch:
            start = perf_counter()
            feed.take((event,))
            between = perf_counter()
            driver.push(event.entity, event.event_time, event.known_time, event.values)
            alone.append((perf_counter() - between) * 1e6)
            times.append((between - start) * 1e6)
    name = "one event through feed, driver and memory store (reference: driver alone)"
    return [_row(name, "us", median(times), median(alone), 50.0, ratio=False)]


def _restart(folder: Path) -> list[dict[str, Any]]:
    """From opening the checkpoint of 1,000 entities to being able to take an arrival."""
    view = fx_view()
    path, store = folder / "feed.ckp", MemoryStore(max_versions=1)
    options: dict[str, Any] = {"margin": MARGIN, "close_with_batch": True}
    feed = OnlineFeed(view, store, path, checkpoint_every=10**9, **options)
    for batch in _arrivals(view, RESTARTED, view.look_back + MARGIN):
        feed.take(batch)
    feed.checkpoint()
    seconds = []
    for _ in range(3):
        start = perf_counter()
        OnlineFeed(view, store, path, **options)
        seconds.append(perf_counter() - start)
    size = path.stat().st_size / 2**20
    name = f"restart, {RESTARTED:,} entities ready from a checkpoint of {size:.0f} MiB"
    return [_row(name, "s", median(seconds), None, 1.0, ratio=False)]
