"""Who changes a registry or its keys has a key here, and a role that allows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.registry import KeyRing, ModelRegistry
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate

T0 = 1_760_000_000_000_000_000
BOSS, QUANT = "proof.boss", "proof.quant"


@pytest.fixture(scope="module")
def made(shell: Any) -> Path:
    """A desk with an administrator, a quant, and a version that has been exported."""
    folder: Path = shell.home / "proofs"
    assert shell.run("init", str(folder), "--as", BOSS, "--as", QUANT).returncode == 0
    path = folder / "configs/access.yaml"
    document = yaml.safe_load(path.read_text())
    document["users"] |= {
        BOSS: {"roles": ["mlops", "sre", "admin"]},
        QUANT: {"roles": ["quant"]},
    }
    path.write_text(yaml.safe_dump(document))
    registry = ModelRegistry(
        folder / "data/models",
        KeyRing(folder / "keys", shell.home / "config/assay/keys"),
        FixedClock(T0),
        audit_path=folder / "observability/audit/model_events.jsonl",
    )
    registry.register(make_candidate(author=QUANT))
    (folder / "w.csv").write_text("a,b\n1,2\n")
    out = shell.run(
        "models", "export", "fx_vol", "1.0.0", str(folder / "v.tar"), "--desk", str(folder)
    )
    assert out.returncode == 0
    return folder


@pytest.fixture
def desk(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "desk", symlinks=True))


HOLD = ("models", "hold", "fx_vol", "1.0.0", "--reason", "x")
RELEASE = ("models", "release", "fx_vol", "1.0.0", "--reason", "x")
REGISTER = ("models", "register", "weights", "w.csv", "--kind", "weights", "--reason", "x")


@pytest.mark.parametrize(
    "command",
    [
        HOLD, RELEASE, REGISTER, ("models", "gc"), ("models", "import", "v.tar"),
        ("models", "bring-back", "fx_vol", "1.0.0", "--reason", "x"),
        ("keys", "create", "stranger"), ("keys", "trust", "stranger", "keys/proof.boss.pem"),
        ("keys", "rotate", "ghost"), ("keys", "revoke", "", "--reason", "x"),
    ],
    ids=lambda command: " ".join(command[:2]),
)  # fmt: skip
def test_nobody_changes_anything_under_a_name_whose_key_is_not_here(
    desk: Path, shell: Any, command: tuple[str, ...]
) -> None:
    policy = desk / "keys/trust.json"
    document = json.loads(policy.read_text())
    document["keys"].append({**document["keys"][0], "identity": "ghost", "key_id": "0" * 64})
    policy.write_text(json.dumps(document))
    if command[1] == "revoke":
        command = ("keys", "revoke", "0000", *command[3:])
    log = desk / "data/models/log/events.jsonl"
    before = log.read_bytes(), policy.read_bytes()
    done = shell.run(*command, "--as", "ghost", cwd=desk)
    assert (done.returncode, "cannot act as ghost" in done.stderr) == (1, True), done.stderr
    assert (log.read_bytes(), policy.read_bytes()) == before
    (event,) = shell.json("access", "log", "--desk", str(desk))
    assert (event["event"], event["subject"], event["code"]) == ("refused", "ghost", "no_proof")


def test_a_role_that_does_not_allow_it_is_refused(desk: Path, shell: Any) -> None:
    other = json.loads((desk / "keys/trust.json").read_text())["keys"]
    (boss,) = [one["key_id"] for one in other if one["identity"] == BOSS]
    for command in (
        ("models", "gc"), RELEASE, ("keys", "create", "stranger"), ("keys", "rotate", BOSS),
        ("keys", "revoke", boss, "--reason", "x"),
    ):  # fmt: skip
        done = shell.run(*command, "--as", QUANT, cwd=desk)
        assert done.returncode == 1
        assert "do not allow" in done.stderr, (command, done.stderr)
    assert shell.run(*HOLD, "--as", QUANT, cwd=desk).returncode == 0
    assert shell.run(*RELEASE, "--as", BOSS, cwd=desk).returncode == 0


def test_a_key_is_exchanged_by_its_owner_or_by_an_administrator(desk: Path, shell: Any) -> None:
    home = shell.home / "elsewhere"
    shutil.copytree(shell.home / "config", home, dirs_exist_ok=True)
    own = {"XDG_CONFIG_HOME": str(home)}

    def rotate(*words: str) -> Any:
        return shell.run("keys", "rotate", *words, cwd=desk, environment=own)

    assert rotate(QUANT).returncode == 0  # the owner, whose key is here
    (home / f"assay/keys/{QUANT}.pem").unlink()
    lost = rotate(QUANT)
    assert (lost.returncode, "cannot act as" in lost.stderr) == (1, True)
    assert rotate(QUANT, "--as", BOSS).returncode == 0
    assert shell.json("models", "validate", "--desk", str(desk))["ok"] is True
    done = shell.json("access", "log", "--desk", str(desk))
    assert (done[0]["event"], done[0]["subject"]) == ("allowed", QUANT)
    assert (done[-1]["event"], done[-1]["subject"], done[-1]["resource"]) == (
        "allowed", BOSS, QUANT,
    )  # fmt: skip


BROKEN = "users: [this is no mapping\n"


@pytest.mark.parametrize(
    "command",
    [
        ("models", "backup", "b"), ("models", "restore", "b"), ("models", "rebuild"),
        ("models", "adopt"), ("models", "claim"),
        ("kill", "--reason", "x"), ("kill", "--off", "--reason", "x"),
        ("models", "countersign", "fx_vol", "1.0.0", "--reason", "x"),
        ("audit", "sign", "--reason", "x"), ("audit", "acknowledge", "--reason", "x"),
    ],
    ids=lambda command: " ".join(command[:2]),
)  # fmt: skip
@pytest.mark.long
def test_what_takes_care_of_a_registry_asks_who_is_there(
    desk: Path, shell: Any, command: tuple[str, ...]
) -> None:
    done = shell.run(*command, "--as", "ghost", cwd=desk)
    assert (done.returncode, "cannot act as ghost" in done.stderr) == (1, True), done.stderr
    assert not (desk / "artifacts/KILL").exists()
    assert not (desk / "b").exists()
    for manifests in (("promote", "fx"), ("rollback-manifest", "fx", "--reason", "x")):
        asked = shell.run("features", *manifests, "--by", "ghost", cwd=desk)
        assert (asked.returncode, "cannot act as ghost" in asked.stderr) == (1, True)


def test_a_desk_that_names_no_users_asks_for_no_roles(desk: Path, shell: Any) -> None:
    (desk / "configs/access.yaml").unlink()
    assert shell.run("models", "backup", "b", cwd=desk).returncode == 0
    assert shell.run("models", "rebuild", cwd=desk).returncode == 0
    assert shell.run("kill", "--reason", "x", cwd=desk).returncode == 0
    # What is signed for is still signed for by a key that is here.
    assert shell.run(*HOLD, "--as", "ghost", cwd=desk).returncode == 1
    assert shell.run(*HOLD, "--as", QUANT, cwd=desk).returncode == 0


def test_a_rollback_and_a_kill_do_not_wait_for_a_file_of_users_that_cannot_be_read(
    desk: Path, shell: Any
) -> None:
    registry = ModelRegistry(
        desk / "data/models",
        KeyRing(desk / "keys", shell.home / "config/assay/keys"),
        FixedClock(T0),
        audit_path=desk / "observability/audit/model_events.jsonl",
    )
    registry.register(make_candidate(version="1.1.0", author=QUANT, bias=1.0))
    for version in ("1.0.0", "1.1.0"):
        done = shell.run(
            "models", "break-glass", "fx_vol", version, "--reason", "x", "--as", BOSS, cwd=desk
        )
        assert done.returncode == 0, done.stderr
    (desk / "configs/access.yaml").write_text(BROKEN)
    policy = desk / "keys/trust.json"
    document = json.loads(policy.read_text())
    for key in document["keys"]:
        if key["identity"] == QUANT:
            key["may_sign"] = ["version", "approval"]
    policy.write_text(json.dumps(document))
    roll = ("models", "rollback", "fx_vol", "--reason", "prices are wrong")
    weak = shell.run(*roll, "--as", QUANT, cwd=desk)
    assert (weak.returncode, "may not sign promotions" in weak.stderr) == (1, True)
    assert shell.run(*roll, "--as", "ghost", cwd=desk).returncode == 1
    assert shell.run(*HOLD, "--as", BOSS, cwd=desk).returncode == 1, "that can wait"
    back = shell.run(*roll, "--as", BOSS, cwd=desk)
    assert back.returncode == 0, back.stderr
    assert shell.run("kill", "--reason", "x", "--as", BOSS, cwd=desk).returncode == 0
    last = shell.json("models", "history", "fx_vol", "--desk", str(desk))[-1]
    assert (last["type"], last["to_version"]) == ("rollback", "1.0.0")
    assert last["reason"].startswith("prices are wrong [ROLES WERE NOT ASKED: ")
    events = shell.json("access", "log", "--desk", str(desk))
    loud = [one for one in events if one["code"] == "roles_not_asked"]
    assert [(one["event"], one["subject"], one["action"]) for one in loud] == [
        ("allowed", BOSS, "rollback"), ("allowed", BOSS, "kill"),
    ]  # fmt: skip


@pytest.mark.long
def test_what_a_server_has_loaded_is_never_collected_and_what_was_says_so(
    desk: Path, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(shell.home / "config"))
    from assay.bootstrap import open_desk
    from assay.serving import ServiceRecord

    opened = open_desk(desk)
    digest = opened.registry.get("fx_vol", "1.0.0").digest
    record = ServiceRecord(opened.layout.serving_record, opened.clock, process=7, server="one")
    record.append("started")
    record.append("loaded", model="fx_vol", version="1.0.0", digest=digest)
    settings = desk / "assay.yaml"
    document = yaml.safe_load(settings.read_text())
    document["registry"]["staged_days"] = 1
    settings.write_text(yaml.safe_dump(document))
    gc = ("models", "gc", "--as", BOSS, "--desk", str(desk))
    (kept,) = shell.json(*gc)["versions"]
    assert (kept["collect"], kept["why"]) == (False, "loaded by one:7")
    whole = opened.layout.serving_record.read_bytes()
    opened.layout.serving_record.write_bytes(whole.replace(b"started", b"stopped", 1))
    refused = shell.run(*gc)
    assert (refused.returncode, "servers have loaded is not known" in refused.stderr) == (1, True)
    opened.layout.serving_record.write_bytes(whole)
    record.append("stopped")
    (gone,) = shell.json(*gc)["versions"]
    assert gone["collect"] is True
    shown = shell.run("models", "show", "fx_vol", "1.0.0", "--desk", str(desk))
    assert shown.returncode == 0, shown.stderr
    assert "were collected at 20" in shown.stdout
    assert f"by {BOSS} (log entry 2)" in shown.stdout
    left = shell.json("models", "show", "fx_vol", "1.0.0", "--desk", str(desk))
    assert left["collected"]["initiated_by"] == BOSS
    assert left["record"]["digest"] == digest


@pytest.mark.long
def test_a_sole_administrator_follows_a_rotation_on_every_other_desk(
    shell: Any, tmp_path: Path
) -> None:
    own = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    names = ("one", "two", "three")

    def typed(*words: str, expect: int = 0) -> Any:
        done = shell.run(*words, cwd=tmp_path, environment=own)
        assert done.returncode == expect, (words, done.stderr)
        return done

    for name in names:
        typed("init", name, "--as", "sole")
    for _ in range(2):
        typed("keys", "rotate", "sole", "--desk", "one")
    listed = json.loads(typed("keys", "list", "--desk", "one", "--json").stdout)
    typed("keys", "rotate", "sole", "--desk", "two")
    (trusted,) = (
        one
        for one in json.loads(typed("keys", "list", "--desk", "two", "--json").stdout)
        if one["retired"] is None
    )
    assert trusted["key_id"] == listed[-1]["key_id"]
    # A key that nobody whom the desk trusts has named, though it has the same name.
    succession = tmp_path / "config/assay/keys/sole.succession.jsonl"
    named = succession.read_bytes()
    assert b"PRIVATE" not in named
    succession.write_bytes(named.splitlines(keepends=True)[1])
    assert "cannot act as" in typed("keys", "rotate", "sole", "--desk", "three", expect=1).stderr
    succession.write_bytes(named)
    typed("keys", "rotate", "sole", "--desk", "three")
