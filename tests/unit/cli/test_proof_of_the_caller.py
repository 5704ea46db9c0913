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
