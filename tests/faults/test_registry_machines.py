"""Clocks that are wrong and disks that are full or read-only: handled, or refused in words."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from assay.delivery.approvals import approve
from assay.delivery.promotion import promote
from assay.delivery.rollback import rollback
from assay.errors import AssayError, Unavailable
from assay.registry import FileLedger, KeyRing, ModelRegistry
from assay.registry.backup import BackupStore
from assay.storage.objects import LocalObjects
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    SECOND_APPROVER,
    break_glass,
    make_candidate,
    make_registry,
    pass_gates,
)

T0 = 10**18
SECOND = 10**9


class Wandering:
    """A clock that is set, also back."""

    def __init__(self, instant):
        self.instant = instant

    def now(self):
        return self.instant


def put_into_production(registry, version, clock, *, approvers=None):
    for person, machine in approvers or [(FIRST_APPROVER, None), (SECOND_APPROVER, None)]:
        approve(machine or registry, "fx_vol", version, person, clock=(machine or registry).clock)
    return promote(
        registry, "fx_vol", version, initiated_by=AUTHOR, clock=clock, monotonic=time.monotonic
    )


def test_a_clock_that_is_set_back_does_not_turn_the_order_of_events(tmp_path):
    clock = Wandering(T0)
    registry = make_registry(tmp_path, clock)
    moments = {}
    for number, version in enumerate(["1.0.0", "1.1.0", "1.2.0"]):
        clock.instant = T0 - number * 3_600 * SECOND  # an hour back each time
        registry.register(make_candidate(version=version, weights=(number, 1)))
        pass_gates(registry, "fx_vol", version)
        put_into_production(registry, version, clock)
        moments[version] = registry.now()
    times = [entry.at for entry in registry.history("fx_vol")]
    assert times == sorted(times)
    assert min(times) == max(times) == T0
    # Of several changes at one instant the last one counts, as the log has it.
    assert registry.live_at("fx_vol", T0).version.version == "1.2.0"
    assert registry.live_at("fx_vol", T0 - 1).version is None
    rollback(registry, "fx_vol", initiated_by=AUTHOR, reason="worse", monotonic=time.monotonic)
    assert registry.current("fx_vol").version == "1.1.0"
    report = registry.verify_log()
    assert report.ok, report.problems


@pytest.fixture(params=["file", "postgres"])
def machines(request, tmp_path):
    """Two machines with one registry: the clock of the second is half an hour ahead."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    opened = []

    def ledger(root):
        if url is None:
            return FileLedger(root)
        from assay.adapters.postgres import PostgresLedger

        opened.append(PostgresLedger(url))
        return opened[-1]

    behind, ahead = Wandering(T0), Wandering(T0 + 1_800 * SECOND)
    root = tmp_path / "desk/data/models"
    first = make_registry(tmp_path, behind, ledger=ledger(root))
    # What is on the second machine is its own: only folders of versions and the log are shared.
    keyring = KeyRing(tmp_path / "desk/keys", tmp_path / "private")
    audit = tmp_path / "desk/observability/audit/model_events.jsonl"
    second = ModelRegistry(root, keyring, ahead, audit_path=audit, ledger=ledger(root))
    yield first, second
    for one in opened:
        one.close()


def test_two_machines_with_skewed_clocks_approve_promote_and_withdraw_together(machines):
    behind, ahead = machines
    for number, version in enumerate(["1.0.0", "1.1.0", "1.2.0"]):
        one, other = (behind, ahead) if number % 2 else (ahead, behind)
        one.register(make_candidate(version=version, weights=(number, 1)))
        pass_gates(other, "fx_vol", version)
        people = [(FIRST_APPROVER, one), (SECOND_APPROVER, other)]
        done = put_into_production(other, version, other.clock, approvers=people)
        assert done.to_version == version
        behind.clock.instant += SECOND
        ahead.clock.instant += SECOND
    times = [entry.at for entry in behind.history("fx_vol")]
    assert times == sorted(times)
    # Both give the same answer about every moment that an event has.
    for at in sorted(set(times)):
        assert behind.live_at("fx_vol", at) == ahead.live_at("fx_vol", at)
    rollback(behind, "fx_vol", initiated_by=AUTHOR, reason="x", monotonic=time.monotonic)
    assert ahead.current("fx_vol").version == "1.1.0"
    for one in machines:
        report = one.verify_log()
        assert report.ok, report.problems


def test_an_event_is_never_stamped_before_what_the_other_machine_did(machines):
    behind, ahead = machines
    ahead.register(make_candidate(version="1.0.0"))
    behind.register(make_candidate(version="1.1.0", weights=(1, 1)))
    first, second = behind.history("fx_vol")
    assert first.at == second.at == ahead.clock.now() == behind.now()


# -- disks ----------------------------------------------------------------------------------------


@pytest.fixture
def disk():
    """A file system of 3 MB of one's own, and how to make it read-only."""
    folder = Path(tempfile.mkdtemp(prefix="assay-disk-"))
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a small file system needs root: sudo pytest tests/faults")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=3m", "none", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")

    def remount(how):
        subprocess.run([mount, "-o", f"remount,{how}", str(folder)], check=True)

    yield folder, remount
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def test_a_full_disk_refuses_in_words_and_what_was_there_stays(disk):
    folder, _ = disk
    registry = make_registry(folder, FixedClock(T0))
    registry.register(make_candidate())
    break_glass(registry, "fx_vol", "1.0.0")
    lines = [*registry.journal.ledger.lines()]
    ballast = folder / "ballast"
    with ballast.open("wb") as handle:
        handle.write(bytes(max(0, shutil.disk_usage(folder).free - 30_000)))
    candidate = make_candidate(version="2.0.0", weights=(2, 2), padding=b"tree\n" * 20_000)
    for act in (
        lambda: registry.register(candidate),
        lambda: BackupStore(LocalObjects(folder / "backups")).take(registry),
    ):
        with pytest.raises((AssayError, OSError), match=r"(?i)space|full"):
            act()
    assert [*registry.journal.ledger.lines()] == lines
    assert registry.open_production("fx_vol").version == "1.0.0"
    ballast.unlink()
    registry = make_registry(folder, FixedClock(T0))
    registry.register(candidate)
    assert registry.verify_log().ok


def test_a_read_only_disk_answers_every_question_and_refuses_every_change(disk):
    folder, remount = disk
    registry = make_registry(folder, FixedClock(T0))
    registry.register(make_candidate())
    registry.register(make_candidate(version="1.1.0", weights=(1, 1)))
    break_glass(registry, "fx_vol", "1.0.0")
    lines = [*registry.journal.ledger.lines()]
    remount("ro")
    try:
        keyring = KeyRing(folder / "desk/keys", folder / "private")
        audit = folder / "desk/observability/audit/model_events.jsonl"
        opened = ModelRegistry(registry.root, keyring, FixedClock(T0), audit_path=audit)
        assert opened.open_production("fx_vol").version == "1.0.0"
        assert [one.version for one in opened.list("fx_vol")] == ["1.0.0", "1.1.0"]
        assert opened.live_at("fx_vol", T0).version.version == "1.0.0"
        assert opened.validate("fx_vol", "1.1.0").ok
        report = opened.verify_log()
        assert report.ok, report.problems
        for act in (
            lambda: opened.fail("fx_vol", "1.1.0", initiated_by=AUTHOR, reason="x"),
            lambda: opened.register(make_candidate(version="1.2.0", weights=(2, 1))),
            lambda: break_glass(opened, "fx_vol", "1.1.0"),
            opened.rebuild,
        ):
            with pytest.raises(Unavailable, match=r"(?i)read-only"):
                act()
    finally:
        remount("rw")
    assert [*registry.journal.ledger.lines()] == lines
    registry.fail("fx_vol", "1.1.0", initiated_by=AUTHOR, reason="x")
    assert registry.verify_log().ok
