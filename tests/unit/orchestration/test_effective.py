"""What was meant to be live, what servers had, and what they saw of the log."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from assay import bootstrap
from assay.access import Scope
from assay.delivery.promotion import break_glass
from assay.delivery.rollback import rollback
from assay.errors import Unavailable
from assay.orchestration.effective import (
    UNSIGNED,
    effective_at,
    loaded_now,
    read_servers,
    verify_records,
)
from assay.orchestration.witness import RegistryWitness
from assay.registry import FileLedger
from assay.registry.acknowledging import acknowledge_losses
from assay.registry.keyring import PURPOSES, SERVICE, revoke_key
from assay.serving import ServiceRecord
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate

T0 = 1_790_000_000 * 10**9
SECOND = 10**9


class World:
    """A desk with two versions, its clock, and servers that write its record."""

    def __init__(self, folder: Path) -> None:
        self.clock = FixedClock(T0)
        members = [bootstrap.Member(one, tuple(PURPOSES)) for one in ("author", "ops", "server")]
        bootstrap.create_desk(folder, name="desk", members=members)
        self.folder = folder
        self.desk = bootstrap.open_desk(folder, clock=self.clock)
        for version, bias in (("1.0.0", 0.0), ("1.1.0", 1.0)):
            self.desk.registry.register(make_candidate("fx_vol", version, bias=bias))
        self.digests = {one.version: one.digest for one in self.desk.registry.list("fx_vol")}

    def server(self, process: int = 1, *, server: str = "one", signs: str | None = "server"):
        witness = RegistryWitness(
            FileLedger(self.desk.layout.registry).head, self.desk.keyring, server, signs
        )
        return ServiceRecord(
            self.desk.layout.serving_record, self.clock,
            process=process, server=server, witness=witness,
        )  # fmt: skip

    def after(self, seconds: float) -> int:
        self.clock.advance(int(seconds * SECOND))
        return self.clock.now()

    def promote(self, version: str) -> None:
        break_glass(
            self.desk.registry, "fx_vol", version, initiated_by="ops", reason="a test",
            clock=self.clock, monotonic=time.monotonic,
        )  # fmt: skip

    def load(self, record: ServiceRecord, version: str, digest: str | None = None) -> None:
        record.append(
            "loaded", model="fx_vol", version=version, digest=digest or self.digests[version]
        )

    def lines(self) -> list[dict[str, Any]]:
        text = self.desk.layout.serving_record.read_text()
        return [json.loads(line) for line in text.splitlines()]

    def edit(self, number: int, *change: str) -> None:
        path = self.desk.layout.serving_record
        lines = path.read_text().splitlines(keepends=True)
        assert change[0] in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(*change)
        path.write_text("".join(lines))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return World(tmp_path / "desk")


def gaps(world: World, at: int) -> list[tuple[str, float, str | None, str | None]]:
    found = effective_at(world.desk, "fx_vol", at).gaps
    return [(gap.server, gap.seconds, gap.intended, gap.effective) for gap in found]


def test_gaps_are_the_seconds_between_what_was_meant_and_what_each_process_had(
    world: World,
) -> None:
    world.promote("1.0.0")
    world.after(10)
    one, two = world.server(1), world.server(2, server="two")
    one.append("started")
    world.after(0.5)
    world.load(one, "1.0.0")
    world.after(3)
    two.append("started")
    world.load(two, "1.0.0")
    quiet = world.after(6)
    assert gaps(world, quiet) == [("one:1", 0.5, "1.0.0", None)]
    world.promote("1.1.0")
    world.after(0.25)
    world.load(one, "1.1.0")
    between = world.after(0.75)
    found = effective_at(world.desk, "fx_vol", between)
    assert [(one.process.name, one.agrees) for one in found.servers] == [
        ("one:1", True), ("two:2", False),
    ]  # fmt: skip
    assert found.intended.version is not None
    assert found.intended.version.version == "1.1.0"
    assert gaps(world, between)[1:] == [
        ("one:1", 0.25, "1.1.0", "1.0.0"),
        ("two:2", 1.0, "1.1.0", "1.0.0"),
    ]
    two.append("stopped")
    world.after(60)
    rollback(world.desk.registry, "fx_vol", reason="a test", initiated_by="ops",
             monotonic=time.monotonic)  # fmt: skip
    end = world.after(2)
    assert gaps(world, end)[1:] == [
        ("one:1", 0.25, "1.1.0", "1.0.0"),
        ("two:2", 1.0, "1.1.0", "1.0.0"),
        ("one:1", 2.0, "1.0.0", "1.1.0"),
    ]
    # Asked about the past, the answer is what it was then.
    assert gaps(world, between) == gaps(world, end)[:3]
    assert [one.process.name for one in effective_at(world.desk, "fx_vol", end).servers] == [
        "one:1"
    ]


def test_the_same_number_with_other_bytes_is_a_gap_of_its_own(world: World) -> None:
    world.promote("1.0.0")
    server = world.server()
    server.append("started")
    world.load(server, "1.0.0", digest="f" * 64)
    (gap,) = effective_at(world.desk, "fx_vol", world.after(5)).gaps
    assert (gap.other_digest, gap.seconds, gap.effective) == (True, 5.0, "1.0.0")


def test_a_process_that_was_killed_ends_when_one_of_its_number_begins(world: World) -> None:
    world.promote("1.0.0")
    first = world.server(5)
    first.append("started")
    world.load(first, "1.0.0")
    killed = world.after(5)
    (state,) = effective_at(world.desk, "fx_vol", killed).servers
    assert state.process.heard_at == T0, "nothing was heard of it since"
    world.server(5).append("started")
    (state,) = effective_at(world.desk, "fx_vol", world.after(1)).servers
    assert (state.load, state.agrees) == (None, False)


def test_a_worker_that_was_killed_ends_when_its_supervisor_says_so(world: World) -> None:
    world.promote("1.0.0")
    worker = world.server(5)
    worker.append("started")
    world.load(worker, "1.0.0")
    world.after(5)
    world.server(4).note("ended", process=5, status=-9)
    later = effective_at(world.desk, "fx_vol", world.after(100))
    assert (later.servers, later.gaps) == ((), ())
    assert loaded_now(world.desk) == {}


def test_a_withdrawn_model_is_not_loaded_any_more(world: World) -> None:
    world.promote("1.0.0")
    server = world.server()
    server.append("started")
    world.load(server, "1.0.0")
    world.after(1)
    server.append("withdrawn", model="fx_vol", version="1.0.0")
    (state,) = effective_at(world.desk, "fx_vol", world.after(1)).servers
    assert state.load is None


def test_lines_are_signed_for_services_and_name_the_end_of_the_log(world: World) -> None:
    world.promote("1.0.0")
    server = world.server()
    server.append("started")
    world.load(server, "1.0.0")
    server.append("killed", by="ops", reason="a test")
    last = world.desk.registry.latest(1)[0]
    for line in world.lines()[:2]:
        assert line["log_head"] == {"seq": last.seq, "hash": last.hash}
    assert "log_head" not in world.lines()[2], "a kill must not wait for the registry"
    record = read_servers(world.desk.layout.serving_record, world.desk.keyring)
    assert record.problems == ()
    assert record.processes[0].loads[0].signed_by == "server"
    assert [(seq, hash_) for seq, hash_, _ in record.heads] == [(last.seq, last.hash)] * 2


def test_a_server_writes_down_that_the_log_went_on_and_only_then(world: World) -> None:
    world.promote("1.0.0")
    server = world.server()
    server.append("started")
    world.load(server, "1.0.0")
    server.observe()
    assert len(world.lines()) == 2
    world.desk.registry.register(make_candidate("fx_vol", "1.2.0", bias=2.0))
    server.observe()
    server.observe()
    (line,) = world.lines()[2:]
    assert line["event"] == "seen"
    assert line["log_head"]["seq"] == world.desk.registry.latest(1)[0].seq
    (state,) = effective_at(world.desk, "fx_vol", world.after(1)).servers
    assert state.agrees


def test_a_line_that_was_changed_or_signed_by_nobody_trusted_is_named_and_left_out(
    world: World,
) -> None:
    world.promote("1.0.0")
    server = world.server()
    server.append("started")
    world.load(server, "1.0.0")
    whole = world.desk.layout.serving_record.read_bytes()
    # The last line: the chain alone would not see it.
    world.edit(2, world.digests["1.0.0"], "f" * 64)
    found = effective_at(world.desk, "fx_vol", world.after(1))
    assert found.problems == ("serving.jsonl line 2: its signature is about another line",)
    assert found.servers[0].load is None
    assert not verify_records(world.desk).ok
    world.desk.layout.serving_record.write_bytes(whole)
    assert verify_records(world.desk).ok
    # Signed by a key that the desk trusts for other things.
    policy = world.folder / "keys/trust.json"
    trust = json.loads(policy.read_text())
    for key in trust["keys"]:
        if key["identity"] == "server":
            key["may_sign"].remove(SERVICE)
    policy.write_text(json.dumps(trust))
    problems = effective_at(world.desk, "fx_vol", world.clock.now()).problems
    assert "who may not sign for service" in problems[0]
    key = world.desk.keyring.key_of("server")
    assert key is not None
    for one in trust["keys"]:
        one["may_sign"] = list(PURPOSES)
    policy.write_text(json.dumps(trust))
    revoke_key(world.folder / "keys", key.key_id, "stolen")
    found = effective_at(world.desk, "fx_vol", world.clock.now())
    assert found.problems == (), "what the line says is no more and no less than an unsigned one"
    assert found.servers[0].load.signed_by == "server, whose key is revoked"
    (note,) = found.notes
    assert "2 lines from 1 to 2" in note
    assert "revoked: stolen" in note
    # The service itself goes on writing, and says that nobody signs.
    server.append("stopped")
    assert world.lines()[-1]["signature"] is None


def test_unsigned_lines_count_and_say_so(world: World) -> None:
    world.promote("1.0.0")
    server = world.server(signs=None)
    server.append("started")
    world.load(server, "1.0.0")
    (state,) = effective_at(world.desk, "fx_vol", world.after(1)).servers
    assert state.load is not None
    assert state.load.signed_by == UNSIGNED


def test_a_log_put_back_to_an_older_copy_is_contradicted_by_what_servers_saw(
    world: World, tmp_path: Path
) -> None:
    world.promote("1.0.0")
    older = tmp_path / "older"
    shutil.copytree(world.folder / "data/models", older, symlinks=True)
    audit = (world.folder / "observability/audit/model_events.jsonl").read_bytes()
    world.after(5)
    world.promote("1.1.0")
    server = world.server()
    server.append("started")
    world.load(server, "1.1.0")
    assert verify_records(world.desk).ok
    # Log, signed heads, index and export together, so that they agree with each other.
    shutil.rmtree(world.folder / "data/models")
    shutil.copytree(older, world.folder / "data/models", symlinks=True)
    (world.folder / "observability/audit/model_events.jsonl").write_bytes(audit)
    desk = bootstrap.open_desk(world.folder, clock=world.clock)
    assert desk.registry.verify_log().ok, "by itself it looks whole"
    report = verify_records(desk)
    assert not report.ok
    assert "serving.jsonl line 1 (server) names entry" in str(report.problems[0])
    assert "cut off" in str(report.problems[0])


def test_a_chosen_identity_that_cannot_sign_for_services_is_refused_at_the_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_SERVING__IDENTITY", "nobody")
    with pytest.raises(Unavailable, match=r"serving\.identity is nobody"):
        bootstrap.open_service(world.folder)


def test_a_registry_that_came_back_older_than_servers_remember_is_acknowledged_once(
    world: World, tmp_path: Path
) -> None:
    world.promote("1.0.0")
    older = tmp_path / "older"
    audit = world.folder / "observability/audit/model_events.jsonl"

    def put_back() -> None:
        shutil.rmtree(world.folder / "data/models")
        shutil.copytree(older, world.folder / "data/models", symlinks=True)
        audit.write_bytes((older / "log/events.jsonl").read_bytes())
        world.desk = bootstrap.open_desk(world.folder, clock=world.clock)

    shutil.copytree(world.folder / "data/models", older, symlinks=True)
    world.promote("1.1.0")
    server = world.server()
    server.append("started")
    put_back()
    (problem,) = verify_records(world.desk).problems
    assert "serving.jsonl line 1 (server)" in problem.detail
    entry = acknowledge_losses(
        world.desk.registry.journal, world.desk.keyring, verify_records(world.desk),
        signer="ops", reason="restored from the night's backup",
    )  # fmt: skip
    assert entry.evidence["losses"][0]["witness"].startswith("serving.jsonl line 1 (server)")
    report = verify_records(world.desk)
    assert report.ok
    assert any("acknowledged loss: serving.jsonl line 1" in note for note in report.notes)
    # Another cut, of something that a server has seen since, is another loss.
    shutil.rmtree(older)
    shutil.copytree(world.folder / "data/models", older, symlinks=True)
    world.promote("1.1.0")
    server.append("seen")
    put_back()
    (problem,) = verify_records(world.desk).problems
    assert "serving.jsonl line 2 (server)" in problem.detail


def test_the_record_of_access_is_verified_with_the_log_and_its_loss_acknowledged(
    world: World,
) -> None:
    world.desk.require("ops", Scope.WRITE, action="hold", resource="x")
    world.desk.require("ops", Scope.WRITE, action="hold", resource="y")
    assert verify_records(world.desk).ok
    log = world.desk.access_log.path
    whole = log.read_bytes()
    log.write_bytes(whole.splitlines(keepends=True)[0])
    (problem,) = verify_records(world.desk).problems
    assert "names entry 2, but the log ends at 1: cut off" in problem.detail
    # The next one who is let through does not write over what contradicts it.
    world.desk.require("ops", Scope.WRITE, action="hold", resource="z")
    (problem,) = verify_records(world.desk).problems
    assert "another entry 2" in problem.detail
    acknowledge_losses(
        world.desk.registry.journal, world.desk.keyring, verify_records(world.desk),
        signer="ops", reason="a disk",
    )  # fmt: skip
    assert verify_records(world.desk).ok
    log.write_bytes(log.read_bytes().replace(b"hold", b"sold"))
    (problem,) = verify_records(world.desk).problems
    assert "record of access: line 1" in problem.detail
