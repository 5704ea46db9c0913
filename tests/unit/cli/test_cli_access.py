"""The commands of access, typed as a person would, and commands that ask who is there."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from assay import bootstrap
from assay.testing.versions import make_candidate

PEOPLE = ("quant", "risk", "head", "ops")
USERS = """
users:
  quant: {roles: [quant]}
  risk: {roles: [mlops], identities: [risk, head]}
  ops: {roles: [mlops, sre, admin]}
  nightly: {kind: service, owner: quant, roles: [quant]}
"""


@pytest.fixture
def desk(shell, tmp_path):
    folder = tmp_path / "desk"
    made = shell.run("init", str(folder), *(part for one in PEOPLE for part in ("--as", one)))
    assert made.returncode == 0, made.stderr
    (folder / "configs/access.yaml").write_text(USERS)
    return folder


def typed(shell, desk, *words, expect=0):
    return shell.json(*words, "--desk", str(desk), expect=expect)


def test_init_names_its_members_as_users(shell, tmp_path):
    folder = tmp_path / "new"
    shell.run("init", str(folder), "--as", "quant")
    (user,) = typed(shell, folder, "access", "users")
    assert (user["name"], user["kind"]) == ("quant", "person")
    assert "access:admin" in user["scopes"]


def test_a_token_is_kept_where_its_owner_alone_reads_it_and_printed_nowhere(shell, desk):
    refused = typed(shell, desk, "access", "login", "--as", "quant", expect=1)
    assert "no key to sign tokens" in refused["error"]
    typed(shell, desk, "access", "rotate", "--as", "ops")
    result = shell.run("access", "login", "--as", "quant", "--desk", str(desk))
    kept = shell.home / "config/assay/tokens/desk/quant.jwt"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    token = kept.read_text().strip()
    everywhere = [path.read_bytes() for path in desk.rglob("*") if path.is_file()]
    assert token not in result.stdout + result.stderr
    assert all(token.encode() not in data for data in everywhere)
    opened = bootstrap.open_desk(desk)
    caller = opened.authenticator.recognise(token, opened.access)
    assert caller.name == "quant"


def test_a_service_gets_a_token_from_an_administrator_and_loses_it_at_once(shell, desk):
    typed(shell, desk, "access", "rotate", "--as", "ops")
    words = ("access", "token", "nightly", "--scope", "model:read", "--days", "1")
    refused = typed(shell, desk, *words, "--as", "quant", expect=1)
    assert "do not allow access:admin" in refused["error"]
    made = typed(shell, desk, *words, "--as", "ops")
    token = Path(made["file"]).read_text().strip()
    opened = bootstrap.open_desk(desk)
    caller = opened.authenticator.recognise(token, opened.access)
    assert (caller.name, sorted(caller.scopes)) == ("nightly", ["model:read"])
    revoke = ("access", "revoke", made["token_id"], "--as", "ops", "--reason")
    typed(shell, desk, *revoke, "it leaked")
    with pytest.raises(Exception, match="it leaked"):
        opened.authenticator.recognise(token, opened.access)
    events = typed(shell, desk, "access", "log", "--last", "100")
    assert [e["event"] for e in events if e["event"] in {"issued", "revoked"}] == [
        "issued", "revoked",
    ]  # fmt: skip
    person = typed(shell, desk, "access", "token", "quant", "--as", "ops", expect=1)
    assert "is a person" in person["error"]
    scope = typed(
        shell, desk, "access", "token", "nightly", "--scope", "x", "--as", "ops", expect=1
    )
    assert "unknown scope" in scope["error"]


def test_nobody_acts_under_the_name_of_a_key_that_is_not_theirs(shell, desk):
    opened = bootstrap.open_desk(desk)
    keys = opened.keyring
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(shell.home / "config"))
        bootstrap.open_desk(desk).registry.register(make_candidate(author="quant"))
    for words in (
        ("models", "rollback", "fx_vol", "--reason", "x"),
        ("models", "approve", "fx_vol", "1.0.0"),
        ("models", "promote", "fx_vol", "1.0.0"),
        ("models", "break-glass", "fx_vol", "1.0.0", "--reason", "x"),
        ("gates", "check", "fx_vol", "1.0.0"),
        ("train", "fx_vol"),
        ("access", "rotate"),
    ):
        refused = typed(shell, desk, *words, "--as", "stranger", expect=1)
        assert "cannot act as stranger" in refused["error"], words
    for words in (
        ("models", "rollback", "fx_vol", "--reason", "x"),
        ("models", "promote", "fx_vol", "1.0.0"),
        ("models", "break-glass", "fx_vol", "1.0.0", "--reason", "x"),
    ):
        refused = typed(shell, desk, *words, "--as", "quant", expect=1)
        assert "which do not allow" in refused["error"], words
    events = typed(shell, desk, "access", "log", "--refused", "--last", "100")
    codes = [(event["subject"], event["code"]) for event in events]
    assert codes == [("stranger", "no_proof")] * 7 + [("quant", "missing_scope")] * 3
    assert keys.key_of("stranger") is None


def test_breaking_the_glass_is_a_command_with_a_reason_that_the_log_keeps(shell, desk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(shell.home / "config"))
        bootstrap.open_desk(desk).registry.register(make_candidate(author="quant"))
    words = ("models", "break-glass", "fx_vol", "1.0.0", "--as", "ops", "--desk", str(desk))
    assert shell.run(*words).returncode == 2
    done = shell.run(*words, "--reason", "the desk stands still")
    assert done.returncode == 0, done.stderr
    assert "GLASS BROKEN" in done.stdout
    last = typed(shell, desk, "models", "history", "fx_vol")[-1]
    assert (last["type"], last["initiated_by"], last["reason"]) == (
        "break_glass", "ops", "the desk stands still",
    )  # fmt: skip


def test_a_changed_record_of_access_is_refused_and_located(shell, desk):
    typed(shell, desk, "access", "rotate", "--as", "ops")
    path = desk / "observability/audit/access_events.jsonl"
    document = [json.loads(line) for line in path.read_text().splitlines()]
    document[0]["subject"] = "quant"
    path.write_text("".join(json.dumps(line) + "\n" for line in document))
    refused = typed(shell, desk, "access", "log", expect=1)
    assert "line 1" in refused["error"]


def test_no_server_starts_for_a_desk_that_names_no_users(shell, desk):
    (desk / "configs/access.yaml").unlink()
    refused = typed(shell, desk, "models", "serve", "--port", "0", expect=1)
    assert "nobody could be let in" in refused["error"]
    url = typed(shell, desk, "access", "login", "--server", "http://desk.example", "--as", "ops",
                expect=1)  # fmt: skip
    assert "https://" in url["error"]
