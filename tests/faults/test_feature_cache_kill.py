"""A writer of the cache that is killed leaves nothing half-written; several compute once."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import polars as pl
import pytest

from assay.features import DiskFeatureCache
from assay.testing.clocks import FixedClock

FRAMES = 6

TOGETHER = """
import sys
from pathlib import Path
import polars as pl
from assay.features import DiskFeatureCache
from assay.testing.clocks import FixedClock
folder, name = Path(sys.argv[1]), sys.argv[2]
cache = DiskFeatureCache(folder / "cache", clock=FixedClock(1))
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    def compute():
        with (folder / "computed").open("a") as note:
            note.write(f"{number} {name}\\n")
        return pl.DataFrame({"n": [number] * 1000, "by": [name] * 1000})
    frame, was_cached = cache.get_or_compute("f", "2026-01-01", f"s{number}", ["v"], "c", compute)
    assert set(frame["n"]) == {number}
    print(number, frame["by"][0], was_cached, flush=True)
"""


@pytest.fixture(scope="module")
def worker(make_worker):
    return make_worker("manifest_worker.py")


def frame_of(number):
    return pl.DataFrame({"n": [number] * 500, "x": [number / 7] * 500})


def check_cache(folder):
    """Every frame is answered as it is, whether it had been written or not; nothing is damaged."""
    cache = DiskFeatureCache(folder / "cache", clock=FixedClock(1))
    for number in range(FRAMES):
        frame, _ = cache.get_or_compute(
            "f", "2026-01-01", f"s{number}", ["v"], "c", lambda number=number: frame_of(number)
        )
        assert frame.equals(frame_of(number))
    assert cache.statistics().corrupted == 0
    assert not list(folder.glob("cache/entries/*/.*.tmp")), "a dead writer's file is removed"


def kill_a_writer(tmp_path, worker, kills, generator):
    whole = tmp_path / "whole"
    whole.mkdir()
    assert worker(folder=whole, work="cache", traced=True) == 0
    lines = json.loads((whole / "counts").read_text())["line"]
    for number in range(kills):
        folder = tmp_path / f"kill{number}"
        folder.mkdir()
        at = 1 + int(lines * (number + generator.random()) / kills)
        order = {"work": "cache", "traced": True, "kill": {"line": at}}
        assert worker(folder=folder, **order) == -9
        check_cache(folder)


def test_a_writer_killed_at_any_line_leaves_nothing_half_written(tmp_path, worker):
    kill_a_writer(tmp_path, worker, 25, random.Random(1))


@pytest.mark.long
def test_a_writer_killed_at_three_hundred_lines_leaves_nothing_half_written(tmp_path, worker):
    kill_a_writer(tmp_path, worker, 300, random.Random(2))


def test_processes_that_ask_for_the_same_frames_at_once_compute_each_once(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(tmp_path), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in "abc"
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0].split() for process in processes]
    assert all(process.returncode == 0 for process in processes)
    computed = dict(line.split() for line in (tmp_path / "computed").read_text().splitlines())
    lines = (tmp_path / "computed").read_text().splitlines()
    assert sorted(int(line.split()[0]) for line in lines) == list(range(20))
    for words in said:
        for number, by, _ in zip(words[::3], words[1::3], words[2::3], strict=True):
            assert by == computed[number]
