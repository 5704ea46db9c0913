"""Kill what writes online rows, anywhere: no accepted row is lost, and what follows is the same."""

import importlib.util
import random
from pathlib import Path

import pytest

from assay.features.offline.arrivals import as_known_history
from assay.features.online import SqliteStore

WORKER = Path(__file__).with_name("online_worker.py")
SPEC = importlib.util.spec_from_file_location("online_worker", WORKER)
online_worker = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(online_worker)
ENTITIES, VIEW, OPTIONS = online_worker.ENTITIES, online_worker.VIEW, online_worker.OPTIONS


def lines_of(worker, folder, **wanted):
    folder.mkdir()
    assert worker(folder=folder, count=True, **wanted) == 0
    return int((folder / "lines").read_text())


def check_store(folder):
    store = SqliteStore(folder / "online.db")
    held = [store.history("live", entity) for entity in ENTITIES]
    store.close()
    acknowledged = (folder / "acknowledged").read_text().split("\n")[:-1]
    count = len(held[0])
    assert len(acknowledged) <= count <= len(acknowledged) + 1
    for number in range(count):
        assert [rows[number] for rows in held] == online_worker.batch_rows(number)
    assert all(len(rows) == count for rows in held)


def kill_the_store(folder, worker, kills, generator):
    lines = lines_of(worker, folder / "whole", work="store")
    killed = 0
    for number in range(kills):
        place = folder / f"kill{number}"
        place.mkdir()
        at = 1 + int(lines * (number + generator.random()) / kills)
        killed += worker(folder=place, work="store", kill_at=at) == -9
        (place / "acknowledged").touch()
        if (place / "online.db").exists():
            check_store(place)
        assert worker(folder=place, work="store") == 0
        check_store(place)
    return killed


def test_a_store_killed_at_any_line_has_every_batch_it_accepted_whole(tmp_path, worker):
    assert kill_the_store(tmp_path, worker, 12, random.Random(1)) == 12


@pytest.mark.long
def test_a_store_killed_at_two_hundred_lines_has_every_batch_it_accepted(tmp_path, worker):
    assert kill_the_store(tmp_path, worker, 200, random.Random(2)) == 200


def kill_a_drop(folder, worker, kills, generator):
    def written(place):
        place.mkdir()
        store = SqliteStore(place / "online.db")
        for number in range(4):
            for view in ("live", "replaced"):
                store.write(view, online_worker.batch_rows(number))
        store.close()
        return place

    assert worker(folder=written(folder / "whole"), work="drop", count=True) == 0
    lines = int((folder / "whole" / "lines").read_text())
    killed, seen = 0, set()
    for number in range(kills):
        place = written(folder / f"kill{number}")
        at = 1 + int(lines * (number + generator.random()) / kills)
        killed += worker(folder=place, work="drop", kill_at=at) == -9
        store = SqliteStore(place / "online.db")
        left = list(store.entities("replaced"))
        seen.add(len(left))
        assert ("replaced" in store.views()) == bool(left)
        assert all(len(store.history("replaced", entity)) == 4 for entity in left)
        assert store.drop("replaced") == len(left)
        assert store.views() == ("live",)
        for entity in ENTITIES:
            rows = [online_worker.batch_rows(n)[ENTITIES.index(entity)] for n in range(4)]
            assert store.history("live", entity) == rows
        store.close()
    assert {0, 2, 4} == seen
    return killed


def test_a_drop_killed_at_any_line_is_found_and_finished_and_touches_nothing_else(tmp_path, worker):
    assert kill_a_drop(tmp_path, worker, 15, random.Random(5)) == 15


def expected_rows():
    table = as_known_history(
        VIEW, online_worker.arrivals(), margin=OPTIONS["margin"], close_with_batch=True
    )
    values = table.select(VIEW.feature_names).to_numpy()
    keys = table.select(VIEW.key_columns).iter_rows()
    return sorted((*key, row.tobytes()) for key, row in zip(keys, values, strict=True))


def stored_rows(folder):
    store = SqliteStore(folder / "online.db")
    rows = [row for entity in ENTITIES for row in store.history(VIEW.name, entity)]
    store.close()
    return sorted((row.entity, *row.key, row.values.tobytes()) for row in rows)


def kill_the_feed(folder, worker, kills, generator, **options):
    lines = lines_of(worker, folder / "whole", work="feed")
    expected = expected_rows()
    assert stored_rows(folder / "whole") == expected
    assert len(expected) > 4 * 40  # some rows were issued again
    killed = 0
    for number in range(kills):
        place = folder / f"kill{number}"
        place.mkdir()
        at = 1 + int(lines * (number + generator.random()) / kills)
        killed += worker(folder=place, work="feed", kill_at=at) == -9
        # And once more while it recovers.
        worker(folder=place, work="feed", kill_at=1 + generator.randrange(lines // 4), **options)
        assert worker(folder=place, work="feed", **options) == 0
        assert stored_rows(place) == expected, at
    return killed


@pytest.mark.parametrize("forget", [False, True], ids=["checkpoint", "warm-up"])
def test_a_feed_killed_at_any_line_goes_on_to_the_same_rows(tmp_path, worker, forget):
    kills = 6
    assert kill_the_feed(tmp_path, worker, kills, random.Random(3), forget=forget) == kills


@pytest.mark.long
@pytest.mark.parametrize("forget", [False, True], ids=["checkpoint", "warm-up"])
def test_a_feed_killed_at_a_hundred_lines_goes_on_to_the_same_rows(tmp_path, worker, forget):
    kills = 100
    assert kill_the_feed(tmp_path, worker, kills, random.Random(4), forget=forget) == kills


@pytest.mark.long
def test_a_feed_killed_at_fifty_instants_goes_on_to_the_same_rows(tmp_path, worker):
    generator, expected, killed = random.Random(5), expected_rows(), 0
    for number in range(50):
        place = tmp_path / f"kill{number}"
        place.mkdir()
        killed += worker(folder=place, work="feed", kill_after=generator.random() * 0.15) == -9
        assert worker(folder=place, work="feed") == 0
        assert stored_rows(place) == expected
    assert killed >= 10
