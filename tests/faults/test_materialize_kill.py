"""Kill a materialization anywhere: no commit is missed, and no row is other than history says."""

import importlib.util
import random
from pathlib import Path

import pytest

from assay.features.offline.arrivals import as_known_history
from assay.features.online import SqliteStore
from assay.lake import Lake
from assay.orchestration.feeding import FEED, all_arrivals
from assay.testing.clocks import FixedClock

WORKER = Path(__file__).with_name("online_worker.py")
SPEC = importlib.util.spec_from_file_location("online_worker", WORKER)
online_worker = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(online_worker)
VIEW, ENTITIES = online_worker.VIEW, online_worker.ENTITIES


def commit_in_parts(folder):
    """The arrivals of the worker in five commits, some facts later than they were known."""
    clock = FixedClock(0)
    table = Lake(folder / "lake", clock).table("silver/source")
    rows = online_worker.arrivals(30)
    cuts = [60, 61, 80, 100, rows.height]
    held_back = [17, 44, 70]
    for number, cut in enumerate(cuts):
        clock.advance(10_000)
        late = held_back if number < len(cuts) - 1 else []
        keep = [row for row in range(cut) if row not in late]
        table.commit(rows[keep])
    return table


def expected_rows(table):
    frame = as_known_history(VIEW, all_arrivals(table, VIEW), **FEED)
    values = frame.select(VIEW.feature_names).to_numpy()
    keys = frame.select(VIEW.key_columns).iter_rows()
    return sorted((*key, row.tobytes()) for key, row in zip(keys, values, strict=True))


def stored_rows(folder):
    store = SqliteStore(folder / "online.db")
    rows = [row for entity in ENTITIES for row in store.history(VIEW.name, entity)]
    store.close()
    return sorted((row.entity, *row.key, row.values.tobytes()) for row in rows)


def kill_materialization(folder, worker, kills, generator):
    whole = folder / "whole"
    whole.mkdir()
    expected = expected_rows(commit_in_parts(whole))
    assert worker(folder=whole, work="materialize", count=True) == 0
    assert stored_rows(whole) == expected
    lines = int((whole / "lines").read_text())
    killed = 0
    for number in range(kills):
        place = folder / f"kill{number}"
        place.mkdir()
        commit_in_parts(place)
        at = 1 + int(lines * (number + generator.random()) / kills)
        killed += worker(folder=place, work="materialize", kill_at=at) == -9
        worker(folder=place, work="materialize", kill_at=1 + generator.randrange(lines // 3))
        assert worker(folder=place, work="materialize") == 0
        assert stored_rows(place) == expected, at
    return killed


@pytest.mark.long
def test_a_materialization_killed_at_any_line_goes_on_to_the_same_rows(tmp_path, worker):
    assert kill_materialization(tmp_path, worker, 6, random.Random(11)) == 6


@pytest.mark.long
def test_a_materialization_killed_at_a_hundred_lines_goes_on_to_the_same_rows(tmp_path, worker):
    assert kill_materialization(tmp_path, worker, 100, random.Random(12)) == 100
