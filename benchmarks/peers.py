"""Beside Feast: historical retrieval, online reads and materialization of the same data.

Feast is not among our dependencies and does not agree with all of them, so it runs in an
environment of its own::

    python -m venv .feast && .feast/bin/pip install 'feast[duckdb,redis]'
    python -m benchmarks peers

Without it there are no rows. Both read the same Parquet files and answer with the same
numbers. Feast does more on the way (a registry, types, protocol buffers) and less (no known times,
no order of versions, no checksums); what a caller waits for is compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

from assay.features.offline.point_in_time import FeatureTable, TimeToLive, as_of_join
from assay.features.online import OnlineStore, SqliteStore, StoredRow

SIDE = Path(__file__).with_name("feast_side.py")
FEATURES, HOURS, ENTITIES = 50, 8_760, 2_000
HOUR = 3_600 * 10**9
START = 1_704_067_200 * 10**9  # 2024-01-01
MANIFEST = "0" * 64
BATCH = 1_000


def rows() -> list[dict[str, Any]]:
    """Measure; nothing where no environment has Feast."""
    python = str(Path(".feast/bin/python").absolute())
    if not Path(python).exists():
        sys.stderr.write("no environment with Feast: see benchmarks/peers.py\n")
        return []
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as name:
        folder = Path(name)
        return [_history(python, folder), *_online(python, folder)]


def _feast(python: str, *arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [python, str(SIDE), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"Feast failed: {done.stderr[-2_000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _row(name: str, unit: str, ours: float, reference: float, *, most: float) -> dict[str, Any]:
    return {
        "name": f"{name} (Feast)",
        "unit": unit,
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "target": f"<= {most:g} {unit}",
        "met": ours <= most,
    }


def _source(path: Path, names: list[str], hours: int) -> None:
    """Hourly rows of 50 features, with times as Feast takes them."""
    generator = np.random.default_rng(5)
    count = len(names) * hours
    times = pl.Series(np.tile(np.arange(hours) * HOUR + START, len(names)))
    columns = {f"f{n}": generator.standard_normal(count) for n in range(FEATURES)}
    pl.DataFrame(
        {"instrument": [name for name in names for _ in range(hours)], **columns}
    ).with_columns(
        event_time=times.cast(pl.Datetime("ns")).cast(pl.Datetime("us", "UTC"))
    ).write_parquet(path)


def _history(python: str, folder: Path) -> dict[str, Any]:
    source, asked = folder / "year.parquet", folder / "moments.parquet"
    _source(source, ["I0"], HOURS)
    moments = np.random.default_rng(6).integers(START, START + HOURS * HOUR, HOURS)
    moments -= moments % 1_000  # both sides know microseconds
    stamps = pl.Series(moments).cast(pl.Datetime("ns")).cast(pl.Datetime("us", "UTC"))
    pl.DataFrame({"instrument": ["I0"] * HOURS, "event_timestamp": stamps}).write_parquet(asked)
    spine = pl.DataFrame({"instrument": ["I0"] * HOURS, "as_of": moments})

    def join() -> pl.DataFrame:
        frame = pl.read_parquet(source)
        nanos = frame["event_time"].cast(pl.Datetime("ns")).to_physical()
        frame = frame.with_columns(
            event_time=nanos,
            known_time=nanos,
            source_rank=pl.lit(0, pl.Int32),
            sequence=pl.int_range(pl.len()),
        )
        table = FeatureTable(
            name="gold/bench",
            frame=frame,
            features=tuple(f"f{n}" for n in range(FEATURES)),
            snapshot_id="",
            manifest_hash="",
            ttl=TimeToLive(nanos=24 * HOUR),
        )
        return as_of_join(spine, table)

    seconds = []
    for _ in range(5):
        started = perf_counter()
        joined = join()
        seconds.append(perf_counter() - started)
    theirs = _feast(python, "history", source, asked, folder / "history")
    if theirs["rows"] != joined.height or abs(theirs["sum"] - joined["f0"].sum()) > 1e-6:
        raise AssertionError(f"the two answers differ: {theirs}, {joined['f0'].sum()}")
    name = f"as-of join of a year of hours, {HOURS:,} moments x 50 features, from Parquet"
    return _row(name, "s", min(seconds), theirs["seconds"], most=0.05)


def _online(python: str, folder: Path) -> list[dict[str, Any]]:
    source = folder / "last.parquet"
    names = [f"E{number:05}" for number in range(ENTITIES)]
    _source(source, names, 1)
    values = pl.read_parquet(source).select(f"f{n}" for n in range(FEATURES)).to_numpy()
    stored = [
        StoredRow(name, START, START, 0, 0, MANIFEST, row.copy())
        for name, row in zip(names, values, strict=True)
    ]
    found = _beside(
        "SQLite",
        SqliteStore(folder / "ours.db"),
        stored,
        _feast(python, "online", source, folder / "sqlite", "sqlite"),
    )
    from assay.testing.redis_server import RedisServer, find_redis_server, free_port

    executable = find_redis_server()
    if executable is None:
        return found
    from assay.adapters.redis import RedisStore

    with RedisServer(executable, port=free_port()) as server:
        place = f"127.0.0.1:{server.port}"
        theirs = _feast(python, "online", source, folder / "redis", "redis", place)
        found += _beside("Redis", RedisStore(server.url), stored, theirs)
    return found


def _beside(
    kind: str, store: OnlineStore, stored: list[StoredRow], theirs: dict[str, Any]
) -> list[dict[str, Any]]:
    started = perf_counter()
    for start in range(0, len(stored), BATCH):
        store.write("bench", stored[start : start + BATCH])
    rate = len(stored) / (perf_counter() - started)
    written = {
        "name": f"{kind}: rows of 50 features materialized (Feast)",
        "unit": "rows/s",
        "ours": rate,
        "reference": theirs["rows_per_second"],
        "ratio": rate / theirs["rows_per_second"],
        "target": "reported",
        "met": True,
    }
    found = [written]
    for count, times in ((1, 2_000), (100, 300)):
        asked = [row.entity for row in stored[:count]]
        seconds = []
        for _ in range(times):
            begun = perf_counter()
            store.read("bench", asked)
            seconds.append(perf_counter() - begun)
        name = f"{kind}: read {count} of {len(stored):,} entities, p50"
        limit = 0.6 if count == 1 else 14.0  # Feast's own on Redis, measured elsewhere
        ours, reference = median(seconds) * 1e3, theirs["reads"][str(count)] * 1e3
        found.append(_row(name, "ms", ours, reference, most=limit))
    store.close()
    return found
