"""kill -9 at any instant of an ingest: after the next run no fact is lost and none is doubled."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.lake.bronze import Bronze
from assay.testing.clocks import FixedClock

NOW = 10_000 * 3_600_000_000_000
ENTITIES, EVENTS = 4, 60

# The child ingests the second pull and kills itself when the n-th line of the code that touches
# the disk is about to run, or in the middle of appending the n-th line to the log of commits.
CHILD = """
import os, signal, sys
from pathlib import Path
import assay.lake.bronze as bronze
import assay.storage.files as files
from assay.testing.clocks import FixedClock
sys.path.insert(0, sys.argv[1])
from ingest_pulls import NOW, Pull, second_pull

mode, left = sys.argv[3], int(sys.argv[4])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def on_line(frame, event, argument):
    global left
    if event == "line":
        left -= 1
        if left == 0:
            die()
    return on_line

WATCHED = {"_writing", "_repair", "_history", "_commit", "_settle", "ingest"}

def on_call(frame, event, argument):
    code = frame.f_code
    if code.co_filename == files.__file__ or (
        code.co_filename == bronze.__file__ and code.co_name in WATCHED
    ):
        return on_line

def torn_append(path, line):
    global left
    left -= 1
    if left == 0:
        with path.open("ab") as handle:
            handle.write(line[: len(line) // 2])
            handle.flush()
        die()
    files.append_line(path, line)

if mode == "torn":
    bronze.append_line = torn_append
elif mode == "line":
    sys.settrace(on_call)
print("ready", flush=True)
for _ in range(40 if mode == "clock" else 1):
    bronze.Bronze(Path(sys.argv[2]), FixedClock(NOW + 5)).ingest(Pull(second_pull()), batch_size=16)
sys.settrace(None)
print(-left)
"""

PULLS = """
from assay.domain.facts import Observation

HOUR = 3_600_000_000_000
NOW = 10_000 * HOUR

class Pull:
    name, rank = "ecb", 0

    def __init__(self, facts):
        self.facts = facts

    def observations(self):
        return iter(self.facts)

def fact(entity, event, value):
    return Observation(f"E{entity}", event * HOUR, (event + 1) * HOUR, {"rate": value})

def first_pull():
    return [fact(e, t, f"{t}.{e}") for t in range(40) for e in range(4)]

def second_pull():
    # Everything again, a revision of every tenth event, and twenty new events.
    return [
        fact(e, t, f"{t}.{e}" + ("0" if t % 10 == 3 and t < 40 else ""))
        for t in range(60) for e in range(4)
    ]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ingest_pulls.py").write_text(PULLS)
    return tmp_path


def pulls():
    namespace: dict = {}
    exec(PULLS, namespace)
    return namespace


def child(folder: Path, root: Path, mode: str, count: int) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", CHILD, str(folder), str(root), mode, str(count)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def expected():
    """Every (entity, event, value) once, and the revised events with both of their values."""
    facts = {}
    for pull in ("first_pull", "second_pull"):
        for item in pulls()[pull]():
            facts[item.entity, item.event_time, item.payload["rate"]] = item.known_time
    return facts


def check(root: Path) -> None:
    bronze = Bronze(root, FixedClock(NOW + 9))
    report = bronze.ingest(pulls()["Pull"](pulls()["second_pull"]()), batch_size=16)
    assert report.read == report.added + report.duplicates == ENTITIES * EVENTS
    frame = bronze.read()
    rows = [
        (entity, event, json.loads(payload)["rate"])
        for entity, event, payload in frame.select("entity", "event_time", "payload").iter_rows()
    ]
    wanted = expected()
    assert sorted(rows) == sorted(wanted)
    assert frame["position"].to_list() == list(range(len(rows)))
    for entity in frame["entity"].unique():
        sequences = frame.filter(entity=entity)["sequence"].to_list()
        assert sequences == list(range(len(sequences)))
    known = frame["known_time"].to_list()
    for row, moment in zip(rows, known, strict=True):
        revised = row[2].endswith("0") and (row[0], row[1], row[2][:-1]) in wanted
        assert moment >= NOW if revised else moment == wanted[row]
    assert len(list(root.glob("*/*/*"))) == len(bronze.commits())


def prepared(folder: Path) -> Path:
    root = folder / "bronze"
    clock = FixedClock(NOW)
    Bronze(root, clock).ingest(pulls()["Pull"](pulls()["first_pull"]()), batch_size=64)
    return root


def steps(folder: Path) -> int:
    """How many watched lines an undisturbed run of the child has."""
    (folder / "undisturbed").mkdir()
    root = prepared(folder / "undisturbed")
    done = child(folder, root, "line", 0)
    assert done.returncode == 0, done.stderr
    check(root)
    return int(done.stdout.split()[-1])


def run_killed(folder: Path, points: list[tuple[str, int]]) -> None:
    for number, (mode, count) in enumerate(points):
        place = folder / str(number)
        place.mkdir()
        root = prepared(place)
        done = child(folder, root, mode, count)
        assert done.returncode == -9, (mode, count, done.returncode, done.stderr)
        check(root)


def test_an_ingest_killed_at_five_points_loses_and_doubles_nothing(folder):
    total = steps(folder)
    rng = random.Random(2026)
    points = [("line", rng.randint(1, total)) for _ in range(3)] + [("torn", 1), ("torn", 3)]
    run_killed(folder, points)


@pytest.mark.long
def test_an_ingest_killed_at_many_points_loses_and_doubles_nothing(folder):
    total = steps(folder)
    rng = random.Random(7)
    points = [("line", rng.randint(1, total)) for _ in range(40)]
    points += [("torn", count) for count in range(1, 9)]
    run_killed(folder, points)


@pytest.mark.long
def test_an_ingest_killed_from_outside_at_random_times_loses_and_doubles_nothing(folder):
    rng = random.Random(11)
    for number in range(20):
        place = folder / f"clock{number}"
        place.mkdir()
        root = prepared(place)
        for _ in range(2):  # the run that repairs the first crash is killed as well
            command = [sys.executable, "-c", CHILD, str(folder), str(root), "clock", "0"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(rng.uniform(0.0, 0.05))
                process.kill()
        check(root)
