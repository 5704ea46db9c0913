"""The point-in-time join beside a bare Polars ``join_asof``, in time and in peak memory.

Both join 50 features of 10 entities with 100,000 rows each to a million moments. The reference
knows one time only and neither the total order nor a time-to-live. Each side runs in a process of
its own, so that its peak memory is its own; the sides alternate, and the best of all runs counts.

* *by time*: the moments are sorted, as ``join_asof`` demands. Neither side has to restore anything.
* *in any order*: the reference must sort the moments first and restore the order afterwards.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import polars as pl

from assay.features.offline.point_in_time import FeatureTable, TimeToLive, as_of_join

ENTITIES, ROWS, FEATURES, MOMENTS = 10, 100_000, 50, 1_000_000
MINUTE = 60_000_000_000
TARGET = 1.3
REPEATS, PROCESSES = 3, 2


def inputs(shuffled: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One-minute rows known five seconds after the minute, and moments at random."""
    generator = np.random.default_rng(20_260_101)
    minutes = np.tile(np.arange(ROWS) * MINUTE, ENTITIES)
    table = pl.DataFrame(
        {
            "instrument": pl.Series([f"I{n}" for n in range(ENTITIES) for _ in range(ROWS)]),
            "event_time": minutes,
            "known_time": minutes + 5_000_000_000,
            "source_rank": np.zeros(ENTITIES * ROWS, dtype=np.int32),
            "sequence": np.tile(np.arange(ROWS), ENTITIES),
            **{f"f{n}": generator.standard_normal(ENTITIES * ROWS) for n in range(FEATURES)},
        }
    )
    moments = generator.integers(0, ROWS * MINUTE, MOMENTS)
    spine = pl.DataFrame(
        {
            "instrument": np.array([f"I{n}" for n in range(ENTITIES)])[
                generator.integers(0, ENTITIES, MOMENTS)
            ],
            "as_of": moments if shuffled else np.sort(moments),
        }
    )
    return table, spine


def ours(table: pl.DataFrame, spine: pl.DataFrame) -> pl.DataFrame:
    view = FeatureTable(
        name="gold/bench",
        frame=table,
        features=tuple(f"f{n}" for n in range(FEATURES)),
        snapshot_id="",
        manifest_hash="",
        ttl=TimeToLive(nanos=60 * MINUTE),
    )
    return as_of_join(spine, view)


def bare(table: pl.DataFrame, spine: pl.DataFrame, shuffled: bool) -> pl.DataFrame:
    right = table.select("instrument", "^f.*$", as_of="known_time")
    left = spine.with_row_index("row").sort("as_of") if shuffled else spine
    joined = left.join_asof(right, on="as_of", by="instrument", check_sortedness=False)
    return joined.sort("row").drop("row") if shuffled else joined


def measure(side: str, shuffled: bool) -> dict[str, Any]:
    """Run one side in this process: best seconds, peak memory in GiB, a checksum of the answer."""
    table, spine = inputs(shuffled)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        joined = ours(table, spine) if side == "ours" else bare(table, spine, shuffled)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gib = peak / (2**30 if sys.platform == "darwin" else 2**20)
    checksum = [
        float(joined["f0"].fill_null(0).sum()),
        joined["f49"].null_count(),
        joined["f7"][-1],
    ]
    return {"seconds": min(seconds), "gib": gib, "checksum": checksum}


def best(side: str, shuffled: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.point_in_time", side, str(int(shuffled))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def rows() -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = []
    for shuffled, order in ((False, "by time"), (True, "in any order")):
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "bare": []}
        for _ in range(PROCESSES):
            for side, measured in runs.items():
                measured.append(best(side, shuffled))
        checksums = {json.dumps(run["checksum"]) for side in runs.values() for run in side}
        if len(checksums) != 1:
            raise AssertionError(f"the two joins disagree: {checksums}")
        for key, unit in (("seconds", "s"), ("gib", "GiB")):
            mine, reference = (min(run[key] for run in runs[side]) for side in ("ours", "bare"))
            table.append(
                {
                    "name": f"as-of join, 1M moments {order} x 50 features",
                    "unit": unit,
                    "ours": mine,
                    "reference": reference,
                    "ratio": mine / reference,
                    "target": f"<= {TARGET}x bare Polars",
                    "met": mine <= TARGET * reference,
                }
            )
    return table


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1], sys.argv[2] == "1")))
