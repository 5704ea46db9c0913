"""A promotion that is killed between any two steps, or at any line, goes on to the same end."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import sys
from pathlib import Path

import pytest

from assay.features.online import SqliteStore

PLACE = Path(__file__).parents[1] / "unit/delivery/manifest_place.py"
SPEC = importlib.util.spec_from_file_location("manifest_place", PLACE)
manifest_place = sys.modules["manifest_place"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(manifest_place)
OLD, NEW = manifest_place.view(), manifest_place.view(manifest_place.SECOND)
WHOLE = ["begin", "publish", "warm_up", "parity", "canary", "check", "promote"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A place where the first manifest is in use and the change log mentions the second."""
    folder = tmp_path_factory.mktemp("begun")
    place = manifest_place.Place(folder)
    place.note("`live`: first version.")
    place.promote(OLD)
    place.note("`live`: rank.")
    return folder


@pytest.fixture(scope="module")
def expected(begun, tmp_path_factory, worker):
    """What a promotion that nobody kills leaves behind, and how often it passes each place."""
    folder = tmp_path_factory.mktemp("whole") / "place"
    shutil.copytree(begun, folder)
    assert worker(folder=folder, work="promote", traced=True) == 0
    return left_behind(folder), json.loads((folder / "counts").read_text())


@pytest.fixture(scope="module")
def worker(make_worker):
    return make_worker("manifest_worker.py")


def left_behind(folder):
    place = manifest_place.Place(folder)
    state = place.active.state("live")
    store = SqliteStore(folder / "online.db")
    rows = [row for entity in "ABC" for row in store.history(state.active.namespace, entity)]
    store.close()
    said = [event for event, outcome in place.said() if outcome == "done"]
    return {
        "active": (state.active.manifest, state.active.namespace),
        "canary": state.canary,
        "before": [one.manifest for one in state.before],
        "line": state.line,
        "said": said,
        "rows": [(row.entity, *row.key, row.manifest, row.values.tobytes()) for row in rows],
        "checkpoint": (folder / "feeds" / f"{state.active.namespace}.checkpoint").read_bytes(),
        "published": [one.manifest for one in place.catalogue.publications("live")],
    }


def check_what_servers_see(place):
    """Whatever instant it died at: production reads a whole manifest, the old one or the new."""
    promoted = ("manifest.promote", "done") in place.said()[len(WHOLE) :]
    assert place.in_use() in {manifest_place.hash_of(OLD), manifest_place.hash_of(NEW)}
    if not promoted:
        assert place.in_use() == manifest_place.hash_of(OLD)
    states = place.active.follow()
    wanted = manifest_place.hash_of(NEW if promoted else OLD)
    assert place.in_use() == states["live"].active.manifest == wanted
    assert place.registry.verify_log().ok


def kill_and_go_on(folder, begun, expected, worker, **order):
    shutil.copytree(begun, folder)
    assert worker(folder=folder, work="promote", **order) == -9, order
    place = manifest_place.Place(folder)
    check_what_servers_see(place)
    place.promote(NEW)
    assert left_behind(folder) == expected, order
    assert place.registry.verify_log().ok


@pytest.mark.long
def test_a_promotion_killed_between_any_two_steps_goes_on_to_the_same_end(
    tmp_path, begun, expected, worker
):
    whole, counts = expected
    assert whole["said"] == [f"manifest.{name}" for name in (*WHOLE, *WHOLE)]
    for what in ("record", "follow", "tell"):
        assert counts[what] >= len(WHOLE)
        for number in range(1, counts[what] + 1):
            folder = tmp_path / f"{what}{number}"
            kill_and_go_on(folder, begun, whole, worker, kill={what: number})


def kill_at_lines(tmp_path, begun, expected, worker, kills, generator):
    whole, counts = expected
    for number in range(kills):
        at = 1 + int(counts["line"] * (number + generator.random()) / kills)
        folder = tmp_path / f"line{number}"
        kill_and_go_on(folder, begun, whole, worker, kill={"line": at}, traced=True)


def test_a_promotion_killed_at_any_line_goes_on_to_the_same_end(tmp_path, begun, expected, worker):
    kill_at_lines(tmp_path, begun, expected, worker, 8, random.Random(1))


@pytest.mark.long
def test_a_promotion_killed_at_a_hundred_lines_goes_on_to_the_same_end(
    tmp_path, begun, expected, worker
):
    kill_at_lines(tmp_path, begun, expected, worker, 100, random.Random(2))
