"""Kill a process anywhere in register, judge, approve, promote, roll back: nothing is half done."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assay.domain.versions import Stage
from assay.registry import ModelRegistry
from assay.registry.backup import BackupStore, drill
from assay.storage.objects import LocalObjects
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate, make_registry

WORKER = Path(__file__).with_name("registry_worker.py")


@pytest.fixture(scope="module")
def worker():
    process = subprocess.Popen(
        [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def order(*orders):
        process.stdin.write(json.dumps(orders) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield order
    process.stdin.close()
    process.stdout.close()
    assert process.wait(30) == 0


# The conformance suite asks both in the quick run; kills and crowds on a server take a minute more.
@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.long)])
def url(request):
    """Where log and catalogue are: None for a file and SQLite."""
    return None if request.param == "file" else request.getfixturevalue("postgres_url")


@pytest.fixture
def opened(url):
    """Opens the registry of a folder; what it has open is closed with the test."""
    made = []

    def open_it(folder, clock):
        for before in made:
            before.close()  # a server has so many connections and no more
        ledger = None
        if url:
            from assay.adapters.postgres import PostgresLedger

            ledger = PostgresLedger(url)
            made[:] = [ledger]
        return make_registry(folder, clock, ledger=ledger)

    yield open_it
    for ledger in made:
        ledger.close()


def check(made, *, validate=slice(None)):
    """Everything that must hold after any kill; returns the opened registry."""
    report = made.verify_log()
    assert report.ok, report.problems
    rows = list(made._catalogue.dump())
    made.rebuild()
    assert list(made._catalogue.dump()) == rows
    champions = made.list("fx_vol", Stage.PRODUCTION)
    assert len(champions) <= 1
    link = made.root / "latest" / "fx_vol"
    if champions:
        assert link.resolve().name == champions[0].version
        assert made.open_production("fx_vol").version == champions[0].version
    else:
        assert not link.is_symlink()
    for record in made.list("fx_vol")[validate]:
        assert made.collected(record) or made.validate("fx_vol", record.version).ok
    described = json.loads((made.root / "manifest.json").read_bytes())
    stages = {item["version"]: item["stage"] for item in described["models"]["fx_vol"]["versions"]}
    assert stages == {item.version: str(item.stage) for item in made.list("fx_vol")}
    assert made._audit_path.read_bytes() == b"".join(made._journal.ledger.lines())
    made.close()
    return made


def start(folder, opened):
    made = opened(folder, FixedClock(10**18))
    made.register(make_candidate(version="1.0.0", weights=(1000, 1)))


def run_kills(folder, worker, opened, url, points):
    start(folder, opened)
    for turn in (0, 1):  # the second journey ends in a rollback
        order = {"work": "journey", "folder": str(folder), "round": turn, "count": True, "url": url}
        (answer,) = worker(order)
        assert answer["exit"] == 0
    calls = answer["calls"]
    killed = 0
    for index, point in enumerate(points, start=2):
        order = {"work": "journey", "folder": str(folder), "round": index, "url": url}
        if isinstance(point, float):
            order["kill_at"] = 1 + int(point * calls)
        else:
            order["kill_after"] = point / 1e6
        (answer,) = worker(order)
        killed += answer["exit"] == -9
        made = check(opened(folder, FixedClock(10**18 + index * 10**9)))
        assert made.current("fx_vol") is not None  # there was one before, and nothing failed it
    # What was left behind can be carried on with.
    order = {"work": "journey", "folder": str(folder), "round": 10_001, "url": url}
    (answer,) = worker(order)
    assert answer["exit"] == 0
    made = check(opened(folder, FixedClock(10**18 + 10_002 * 10**9)))
    records = (folder / "desk" / "artifacts" / "promotions.log").read_bytes().splitlines()
    promoted = [item.seq for item in made.promotions() if item.outcome == "done"]
    assert [json.loads(line)["seq"] for line in records] == promoted
    return killed


def test_a_kill_at_twenty_random_calls_leaves_nothing_half_done(tmp_path, worker, opened, url):
    generator = random.Random(20260115)
    # One in each twentieth of the journey, so that no stage of it is missed.
    points = [(part + generator.random()) / 20 for part in range(20)]
    assert run_kills(tmp_path, worker, opened, url, points) >= 16


@pytest.mark.long
def test_a_kill_at_two_hundred_random_calls_leaves_nothing_half_done(tmp_path, worker, opened, url):
    generator = random.Random(7)
    points = [(part + generator.random()) / 200 for part in range(200)]
    assert run_kills(tmp_path, worker, opened, url, points) >= 150


def run_care(folder, worker, opened, url, points):
    """Kills while a registry is collected, backed up, rebuilt and restored."""
    start(folder, opened)
    for turn in range(1, 5):
        order = {"work": "care", "folder": str(folder), "round": turn, "count": True, "url": url}
        (answer,) = worker(order)
        assert answer["exit"] == 0
    calls, killed = answer["calls"], 0
    for turn, point in enumerate(points, start=5):
        order = {"work": "care", "folder": str(folder), "round": turn, "url": url}
        (answer,) = worker(order | {"kill_at": 1 + int(point * calls)})
        killed += answer["exit"] == -9
        check(opened(folder, FixedClock(10**18)))
        (answer,) = worker(order)  # the same round again, also over what was half restored
        assert answer["exit"] == 0
    made = check(opened(folder, FixedClock(10**18)))
    assert made.collected(made.list("fx_vol")[1])
    assert made.journal.artifacts.leftovers() == {}
    store = BackupStore(LocalObjects(folder / "backups"))
    assert store.verify(store.get(), made.keyring) == ()
    assert drill(made, store).ok
    made.close()
    return killed


def test_a_kill_anywhere_in_the_care_of_a_registry_loses_nothing(tmp_path, worker, opened, url):
    generator = random.Random(20260116)
    points = [(part + generator.random()) / 8 for part in range(8)]
    assert run_care(tmp_path, worker, opened, url, points) >= 6


@pytest.mark.long
def test_a_hundred_kills_in_the_care_of_a_registry_lose_nothing(tmp_path, worker, opened, url):
    generator = random.Random(9)
    points = [(part + generator.random()) / 100 for part in range(100)]
    assert run_care(tmp_path, worker, opened, url, points) >= 75


@pytest.mark.long
def test_a_kill_at_fifty_random_instants_leaves_nothing_half_done(tmp_path, worker, opened, url):
    generator = random.Random(8)
    points = [generator.randrange(200_000) for _ in range(50)]
    assert run_kills(tmp_path, worker, opened, url, points) >= 25


def test_eight_processes_that_register_and_promote_at_once_leave_one_champion(
    tmp_path, worker, opened, url
):
    contend(tmp_path, worker, opened, url, rounds=5)


@pytest.mark.long
def test_eight_processes_a_hundred_times_leave_one_champion(tmp_path, worker, opened, url):
    contend(tmp_path, worker, opened, url, rounds=100)


def contend(folder, worker, opened, url, rounds, processes=8):
    made = opened(folder, FixedClock(10**18))
    made.register(make_candidate(version="1.0.0", weights=(1000, 1)))
    made.close()
    for turn in range(rounds):
        answers = worker(
            *(
                {
                    "work": "contend",
                    "folder": str(folder),
                    "round": turn * processes + index,
                    "url": url,
                }
                for index in range(processes)
            )
        )
        assert [answer["exit"] for answer in answers] == [0] * processes
        after = check(made, validate=slice(-processes, None))
        # No registration is lost: each process made one, whatever its number.
        registered = [entry for entry in after.history("fx_vol") if entry.type == "register"]
        assert len(registered) == 1 + (turn + 1) * processes
        # Each change started from what the one before it left.
        live = None
        for entry in after.history("fx_vol"):
            if entry.outcome != "done":
                continue
            assert entry.from_version == live
            if entry.type in {"promote", "break_glass", "rollback"}:
                live = entry.to_version
        assert after.current("fx_vol").version == live
    assert {entry.type for entry in after.history("fx_vol")} >= {"promote", "break_glass"}


def test_opening_while_others_write_always_works(tmp_path, worker):
    """A reader that opens the registry meets a writer at any instant."""
    start(tmp_path, make_registry)
    orders = [{"work": "journey", "folder": str(tmp_path), "round": 1}]
    for _ in range(3):
        worker(*orders)
        orders[0]["round"] += 1
        made = ModelRegistry(
            tmp_path / "desk" / "data" / "models",
            make_registry(tmp_path, FixedClock(10**18)).keyring,
            FixedClock(10**18),
        )
        assert len(made.list("fx_vol", Stage.PRODUCTION)) == 1


def test_a_copy_taken_at_any_time_opens(tmp_path, worker):
    start(tmp_path / "one", make_registry)
    worker({"work": "journey", "folder": str(tmp_path / "one"), "round": 1})
    shutil.copytree(tmp_path / "one", tmp_path / "two", symlinks=True)
    check(make_registry(tmp_path / "two", FixedClock(10**18 + 10**10)))
