"""The server of a registry dies or fills up in the middle of a journey: nothing is half done."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from assay.errors import Unavailable
from assay.testing.clocks import FixedClock
from assay.testing.ledger import Chain, contents, let_happen
from assay.testing.versions import make_candidate, make_registry

pytest.importorskip("psycopg", reason="pip install 'assay[postgres]'")

from assay.adapters.postgres import PostgresLedger

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


def kill_often(folder, worker, server, instants):
    url = server.url()
    ledger = PostgresLedger(url)
    made = make_registry(folder, FixedClock(10**18), ledger=ledger)
    made.register(make_candidate(version="1.0.0", weights=(1000, 1)))
    failed = 0
    for index, instant in enumerate(instants):
        answer = []
        order = {"work": "journey", "folder": str(folder), "round": index, "url": url}

        def travel(order=order, answer=answer):
            answer.extend(worker(order))

        running = threading.Thread(target=travel)
        running.start()
        threading.Event().wait(instant)
        server.kill()
        running.join(60)
        server.start()
        failed += answer[0]["exit"] != 0
        check(folder, ledger)
    order = {"work": "journey", "folder": str(folder), "round": 10_000, "url": url}
    assert worker(order)[0]["exit"] == 0, "what was left can be carried on with"
    check(folder, ledger)
    ledger.close()
    return failed


def check(folder, ledger):
    made = make_registry(folder, FixedClock(10**18), ledger=ledger)
    report = made.verify_log()
    assert report.ok, report.problems
    rows = [*ledger.catalogue.dump()]
    made.rebuild()
    assert [*ledger.catalogue.dump()] == rows
    assert made._audit_path.read_bytes() == b"".join(ledger.lines())
    champion = made.current("fx_vol")
    link = made.root / "latest" / "fx_vol"
    assert (link.resolve().name if link.is_symlink() else None) == (champion and champion.version)
    for record in made.list("fx_vol"):
        assert made.validate("fx_vol", record.version).ok


def test_a_server_killed_three_times_leaves_nothing_half_done(tmp_path, worker, start_postgres):
    generator = random.Random(3)
    instants = [0.05 + third / 10 + generator.random() / 10 for third in range(3)]
    assert kill_often(tmp_path, worker, start_postgres(), instants) >= 1


@pytest.mark.long
def test_a_server_killed_fifty_times_leaves_nothing_half_done(tmp_path, worker, start_postgres):
    generator = random.Random(4)
    instants = [generator.random() / 2 for _ in range(50)]
    assert kill_often(tmp_path, worker, start_postgres(), instants) >= 20


@pytest.fixture
def small_disk():
    """A file system of 160 MB that everybody can enter, unlike folders of tests."""
    folder = Path(tempfile.mkdtemp(prefix="assay-disk-"))
    folder.chmod(0o755)
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a small file system needs root: sudo pytest tests/faults")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=160m,mode=777", "none", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def test_a_full_disk_refuses_the_event_in_words_and_keeps_what_was(small_disk, start_postgres):
    server = start_postgres(folder=small_disk / "data")
    ledger = PostgresLedger(server.url())
    chain = Chain()
    let_happen(ledger, *chain.life())
    before = contents(ledger)
    ballast = small_disk / "ballast"
    with ballast.open("wb") as handle:
        free = shutil.disk_usage(small_disk).free - 2**21
        handle.write(bytes(free))
    generator = random.Random(5)
    event = {"report": generator.randbytes(3_000_000).hex()}
    with pytest.raises(Unavailable, match=r"cannot write.*nothing was changed") as caught:
        let_happen(ledger, Chain(ledger).next("gate", evidence=event))
    assert "make room" in caught.value.hint
    assert contents(ledger) == before
    ballast.unlink()
    let_happen(ledger, Chain(ledger).next("gate", evidence=event))
    assert ledger.head().seq == 14
    ledger.close()
