"""Small tables for tests of offline stores, and a writer that can be killed.

Needs nothing but the package itself, so that the killed process starts fast::

    python -m assay.testing.offline_rows assay.adapters.delta:DeltaStore FOLDER FIRST
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeAlias

import polars as pl

from assay.domain.clock import Clock
from assay.domain.instants import Instant
from assay.features.offline.store import OfflineStore
from assay.testing.clocks import FixedClock

TABLE: Final = "gold/prices"
MANIFEST: Final = "5e" * 32
DAY: Final = 86_400 * 10**9
SCHEMA: Final[dict[str, Any]] = {
    "instrument": pl.String,
    "event_time": pl.Int64,
    "known_time": pl.Int64,
    "source_rank": pl.Int64,
    "sequence": pl.Int64,
    "value": pl.Float64,
}
Row: TypeAlias = tuple[str, Instant, Instant, int, int, float | None]
Opening: TypeAlias = Callable[[Path, Clock], OfflineStore]


def row(
    entity: str = "A",
    event_time: Instant = 1,
    known_time: Instant | None = None,
    *,
    rank: int = 0,
    sequence: int = 0,
    value: float | None = 1.0,
) -> Row:
    """A row with defaults; ``known_time`` is the event time when it is not given."""
    known = event_time if known_time is None else known_time
    return entity, event_time, known, rank, sequence, value


def table_of(*rows: Row) -> pl.DataFrame:
    """The rows as a frame with the columns of :data:`SCHEMA`."""
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def batch(number: int) -> pl.DataFrame:
    """The rows of one commit: a new day of four entities, and corrections up to 40 days back."""
    generator = random.Random(number)
    today = number * DAY
    rows = [row(name, today, value=number + generator.random()) for name in "ABCD"]
    for place in range(generator.randrange(3)):
        event = max(0, number - generator.randrange(1, 40)) * DAY
        rows.append(row("E", event, today, sequence=place, value=generator.random()))
    generator.shuffle(rows)
    return table_of(*rows)


def opened(opening: str, folder: Path, clock: Clock) -> OfflineStore:
    """The store that ``package.module:name`` makes of a folder and a clock."""
    module, _, name = opening.partition(":")
    store: OfflineStore = getattr(import_module(module), name)(folder, clock)
    return store


def write_until_killed(opening: str, folder: Path, first: int) -> None:
    """Commit batch after batch from ``first`` on, say so after each, compact now and then."""
    store = opened(opening, folder, FixedClock(first))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for number in count(first):
        store.commit(TABLE, batch(number), metadata={"manifest": MANIFEST})
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        if number % 3 == 2:
            store.compact(TABLE)


if __name__ == "__main__":
    write_until_killed(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
