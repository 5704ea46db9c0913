"""Drivers and builds of the kernel agree in every bit, over whole histories."""

from __future__ import annotations

import hashlib
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from assay.features import (
    Aggregate,
    Bars,
    BuildFingerprint,
    Duration,
    FeatureView,
    OfflineDriver,
    OnlineDriver,
    compare,
)
from assay.features.definition.bars import KINDS
from assay.features.kernel.fingerprint import golden_hash
from assay.features.offline.bars import bars_as_known

FX = Path(__file__).parents[2] / "examples" / "fx" / "features" / "fx.py"
GOLDEN = "8332ef43f6d1fa06a696683f065f009f741d039928da10514e8b11f516ecf0f6"
GOLDEN_BARS = "6eacd352f1f214b1f758fe83eddb23bb203c2f20297d68a96be274226c9d7706"
KEYS = ("instrument", "event_time")
DAY = 86_400 * 10**9


def fx_daily() -> FeatureView:
    view: FeatureView = runpy.run_path(str(FX))["fx_daily"]
    return view


def market(entities: int, rows: int) -> pl.DataFrame:
    """Rates of very different sizes, with gaps, pegs, holes and late starts."""
    generator = np.random.default_rng(11)
    levels = [1.1, 20_000.0, 0.0004, 150.0, 7.8, 1.0e9]
    parts = []
    for number in range(entities):
        start = number * 37
        days = np.flatnonzero(generator.random(rows) > 0.03)[start:]
        steps = generator.normal(0, 0.006, days.size)
        if number % 6 == 4:
            steps[len(steps) // 3 :] = 0.0  # pegged from some day on
        mid = levels[number % 6] * np.exp(np.cumsum(steps))
        mid[generator.random(days.size) < 0.004] = np.nan
        times = days.astype(np.int64) * DAY + 14 * 3_600 * 10**9 + 915_000_000 * 10**9
        parts.append(
            pl.DataFrame(
                {
                    "instrument": [f"P{number:02}"] * days.size,
                    "event_time": times,
                    "known_time": times + generator.integers(0, 3, days.size) * DAY,
                    "source_rank": np.zeros(days.size, dtype=np.int64),
                    "sequence": np.arange(days.size),
                    "mid": mid,
                    "in_universe": generator.random(days.size) > 0.1,
                }
            )
        )
    return pl.concat(parts)


def test_the_fx_view_has_equal_bits_offline_and_online_over_its_whole_history() -> None:
    view, frame = fx_daily(), market(7, 900)
    offline = OfflineDriver(view).run(frame)
    online = OnlineDriver(view).replay(frame)
    report = compare(offline, online, keys=KEYS)
    assert report.values_compared == frame.height * len(view.features)
    assert report.holds, report.differences
    assert offline.select(view.key_columns).equals(online.select(view.key_columns))
    for name in view.feature_names:
        assert offline[name].is_not_nan().any(), f"{name} is never there"


@pytest.mark.long
def test_processes_that_share_the_entities_compute_the_bits_of_one(tmp_path: Path) -> None:
    # Views across entities are left out: a process that has half of the entities cannot know them.
    frame = market(4, 300).drop("in_universe")
    definition = (
        "from assay.features import *\n"
        "x = col('mid')\n"
        "view = FeatureView('v', 's', 'instrument', {'std': x.rolling_std(20), 'z': x.zscore(9),"
        " 'ewm': x.ewm_std(span=9, horizon=40), 'log': x.log_return(2),"
        " 'high': x.rolling_max(50, min_count=2)}, Sessions(1))\n"
    )
    program = definition + (
        "import sys, polars\n"
        "result = OfflineDriver(view).run(polars.read_ipc(sys.argv[1]))\n"
        "result.write_ipc(sys.argv[2])\n"
    )
    parts = []
    for number, share in enumerate(frame.partition_by("instrument", maintain_order=True)):
        source, target = tmp_path / f"{number}.in", tmp_path / f"{number}.out"
        share.write_ipc(source)
        subprocess.run([sys.executable, "-c", program, str(source), str(target)], check=True)
        parts.append(pl.read_ipc(target))
    namespace: dict[str, FeatureView] = {}
    exec(definition, namespace)
    together = OfflineDriver(namespace["view"]).run(frame, workers=2)
    report = compare(together, pl.concat(parts), keys=KEYS)
    assert report.holds, report.differences


def test_the_golden_bits_are_those_of_every_build() -> None:
    # Pinned: the same on every machine with IEEE 754 arithmetic and every supported Python.
    assert golden_hash() == GOLDEN


def test_the_golden_bits_of_bars_are_those_of_every_build() -> None:
    number = np.arange(5_000)
    drawn = (number * 1_103_515_245 + 12_345) % 2**31  # whole numbers: no library's generator
    ticks = pl.DataFrame(
        {
            "entity": pl.Series(["A", "B", "C"]).gather(drawn % 3),
            "event_time": number * 10**8 - drawn % 7 * 10**9,
            "known_time": number * 10**8,
            "source_rank": drawn % 2,
            "sequence": number,
            "x": (drawn - 2**30) * 2.0 ** (drawn % 40 - 60),
        }
    )
    said = {f"x_{kind}": Aggregate(kind, "x") for kind in KINDS}
    made = bars_as_known(Bars("bars", "ticks", "entity", Duration.of(seconds=3), said), ticks)
    bits = b"".join(np.ascontiguousarray(column.to_numpy()).tobytes() for column in made[:, 1:])
    assert hashlib.sha256(bits).hexdigest() == GOLDEN_BARS


def test_a_fingerprint_links_builds_by_their_golden_bits() -> None:
    here = BuildFingerprint.capture()
    assert here.golden == GOLDEN
    assert here.same_bits_as(BuildFingerprint.capture())
    assert all(here.to_json().values())
    assert len(here.hash) == 64


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="this processor"),
        pytest.param(
            {"NUMBA_OPT": "1", "NUMBA_CPU_NAME": "generic"},
            id="a plain processor",
            marks=pytest.mark.long,
        ),
    ],
)
@pytest.mark.long
def test_a_cold_compilation_gives_the_same_bits(tmp_path: Path, settings: dict[str, str]) -> None:
    """An empty cache; and again for a plain processor, without vector instructions of this one."""
    program = (
        "from assay.features.kernel.engine import compiled_run\n"
        "from assay.features.kernel.fingerprint import golden_hash\n"
        "print(golden_hash(), sum(compiled_run().stats.cache_hits.values()))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **settings}
    for hits in (0, 1):
        found = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.split() == [GOLDEN, str(hits)]
