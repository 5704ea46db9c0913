"""What a command answers about a log that servers have seen more of."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay import bootstrap
from assay.cli.app import app
from assay.delivery.promotion import break_glass
from assay.orchestration.log_doubts import LogDoubts
from assay.orchestration.witness import RegistryWitness
from assay.registry import FileLedger
from assay.registry.keyring import PURPOSES
from assay.serving import ServiceRecord
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate

T0 = 1_700_000_000 * 10**9


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desk whose registry was put back, as a whole, to what it was before its last promotion."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder, clock = tmp_path / "desk", FixedClock(T0)
    members = [bootstrap.Member(one, tuple(PURPOSES)) for one in ("author", "ops", "server")]
    bootstrap.create_desk(folder, name="desk", members=members)
    opened = bootstrap.open_desk(folder, clock=clock)
    for version, bias in (("1.0.0", 0.0), ("1.1.0", 1.0)):
        opened.registry.register(make_candidate("fx_vol", version, bias=bias))
    before = tmp_path / "before"
    audit = folder / "observability/audit/model_events.jsonl"
    for version in ("1.0.0", "1.1.0"):
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(folder / "data/models", before, symlinks=True)
        exported = audit.read_bytes()
        break_glass(
            opened.registry, "fx_vol", version, initiated_by="ops", reason="a test",
            clock=clock, monotonic=time.monotonic,
        )  # fmt: skip
    witness = RegistryWitness(
        FileLedger(opened.layout.registry).head, opened.keyring, "one", "server"
    )
    record = ServiceRecord(
        opened.layout.serving_record, clock, process=1, server="one", witness=witness
    )
    record.append("started")
    assert LogDoubts(opened).about(opened.registry, "fx_vol") == ()
    shutil.rmtree(folder / "data/models")
    shutil.copytree(before, folder / "data/models", symlinks=True)
    audit.write_bytes(exported)
    return folder


def run(*arguments: str) -> tuple[str, str]:
    done = CliRunner().invoke(app, [*arguments])
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def test_commands_say_with_their_answer_that_a_server_has_seen_more(desk: Path) -> None:
    out, _ = run("models", "live", "fx_vol", "--desk", str(desk))
    assert "fx_vol 1.0.0 was live" in out
    assert (
        "WARNING: the log may lack entries: serving.jsonl, server one names entry 4, but the log "
        "ends at 3: cut off" in out
    )
    assert "assay audit verify" in out
    for command in (("list",), ("list", "fx_vol"), ("history", "fx_vol")):
        out, _ = run("models", *command, "--desk", str(desk))
        assert "WARNING: the log may lack entries" in out
    out, err = run("models", "live", "fx_vol", "--json", "--desk", str(desk))
    answer = json.loads(out)
    assert (answer["version"], len(answer["doubts"])) == ("1.0.0", 1)
    assert "WARNING" in err


def test_what_was_found_is_kept_until_log_or_record_change(desk: Path) -> None:
    opened = bootstrap.open_desk(desk, clock=FixedClock(T0))
    doubts = LogDoubts(opened)
    assert len(doubts.about(opened.registry, "fx_vol")) == 1
    record = opened.layout.serving_record
    with record.open("ab") as handle:
        head = {"seq": 7, "hash": "f" * 64}
        handle.write(json.dumps({"server": "two", "log_head": head}).encode() + b"\n{torn")
    found = doubts.about(opened.registry, "fx_vol")
    assert [one.partition(",")[2].split()[1] for one in found] == ["two", "one"]
    os.truncate(record, 0)
    assert doubts.about(opened.registry, "fx_vol") == ()
    record.unlink()
    assert doubts.about(opened.registry) == ()


def test_an_answer_is_given_where_nobody_can_be_asked(desk: Path) -> None:
    opened = bootstrap.open_desk(desk, clock=FixedClock(T0))
    assert opened.registry.current("fx_vol") is not None
    record = opened.layout.serving_record
    record.unlink()
    record.mkdir()
    out, _ = run("models", "live", "fx_vol", "--desk", str(desk))
    assert "fx_vol 1.0.0 was live" in out
    assert "could not be asked" in out
