"""The access audit: who may, who did, who is dormant, broken glass, refusals."""

import json
import shutil

import pytest

from assay import bootstrap
from assay.access import AccessDenied, Revocation, Scope
from assay.errors import ConfigurationError, Tampered
from assay.orchestration.access_audit import audit_access, write_audit
from assay.registry import PromotionClaim
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate

T0 = 1_700_000_000_000_000_000
DAY = 86_400 * 10**9
USERS = """
users:
  quant: {roles: [quant], identities: [quant, quant.laptop]}
  night: {roles: [sre]}
  ops: {roles: [mlops, admin]}
  idle: {roles: [mlops]}
  nightly: {kind: service, owner: quant, roles: [quant]}
"""
PEOPLE = ("quant", "quant.laptop", "night", "ops", "idle", "gone", "nightly")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        purposes = ("version", "approval", "promotion", "log_head")
        bootstrap.create_desk(
            folder / "desk", name="desk", members=[bootstrap.Member(p, purposes) for p in PEOPLE]
        )
    (folder / "desk/configs/access.yaml").write_text(USERS)
    return folder


@pytest.fixture
def clock():
    return FixedClock(T0)


@pytest.fixture
def desk(made, tmp_path, monkeypatch, clock):
    shutil.copytree(made, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return bootstrap.open_desk(tmp_path / "desk", clock=clock)


def by_name(found):
    return {one.user.name: one for one in found.users}


def live_a_little(desk, clock):
    registry = desk.open_registry()
    registry.register(make_candidate(author="quant"), signer="quant.laptop")
    registry.register(make_candidate(version="1.1.0", weights=(1, 1), author="gone"), signer="gone")
    clock.advance(DAY)
    break_glass_at_night(registry)
    desk.require("ops", Scope.ADMIN, action="rotate", resource="")
    with pytest.raises(AccessDenied):
        desk.require("quant", Scope.ADMIN, action="token", resource="nightly")
    with pytest.raises(AccessDenied):
        desk.require("quant", Scope.ADMIN, action="token", resource="nightly")


def break_glass_at_night(registry):
    record = registry.get("fx_vol", "1.0.0")
    claim = PromotionClaim(
        model="fx_vol", from_version=None, from_digest="", to_version="1.0.0",
        to_digest=record.digest, gate_report_digest="", snapshot_ids={}, approvers=(),
        expires_at=registry.now() + 900 * 10**9, break_glass=True,
    )  # fmt: skip
    envelope = registry.keyring.sign("night", claim.to_statement())
    registry.break_glass(
        "fx_vol", "1.0.0", envelope, initiated_by="night", reason="pipes | and <b>bold</b>"
    )


def test_deeds_of_every_identity_count_for_its_user_and_strangers_are_named(desk, clock):
    live_a_little(desk, clock)
    found = audit_access(desk)
    users = by_name(found)
    assert users["quant"].done == {"register": 1}
    assert (users["quant"].last, users["quant"].refused) == (T0, 2)
    assert users["night"].done == {"break_glass": 1}
    assert users["ops"].done == {"rotate": 1}
    assert found.strangers == {"gone": 1}
    assert [(one.initiated_by, one.model) for one in found.glass] == [("night", "fx_vol")]
    assert [(who, code, times) for who, code, times, _ in found.denials] == [
        ("quant", "missing_scope", 2)
    ]


def test_who_can_do_what_follows_from_the_roles(desk):
    may = audit_access(desk).may()
    assert may["model:break_glass"] == ["night"]
    assert may["access:admin"] == ["ops"]
    assert may["model:promote"] == ["ops", "idle"]


def test_whoever_did_nothing_for_so_many_days_is_dormant(desk, clock):
    live_a_little(desk, clock)
    dormant = {name for name, one in by_name(audit_access(desk)).items() if one.dormant}
    assert dormant == {"idle", "nightly"}
    clock.advance(90 * DAY)
    dormant = {name for name, one in by_name(audit_access(desk)).items() if one.dormant}
    assert dormant == {"idle", "nightly", "quant"}, "the last deed of the others is a day younger"
    found = audit_access(desk, days=91.5)
    assert {name for name, one in by_name(found).items() if one.dormant} == {"idle", "nightly"}


def test_tokens_are_good_ended_revoked_or_dormant(desk, clock):
    desk.authenticator.keys.rotate(T0)
    policy = desk.access
    for who, seconds in (("nightly", 86_400), ("nightly", 60), ("quant", 86_400), ("ops", 86_400)):
        desk.authenticator.issue(policy.user(who), seconds, by="ops")
        clock.advance(10**9)
    desk.authenticator.revocations.add(Revocation(clock.now(), "ops", "lost laptop", subject="ops"))
    clock.advance(120 * 10**9)
    desk.open_registry().register(make_candidate(author="quant"), signer="quant")
    tokens = audit_access(desk).tokens
    assert [(one.subject, one.state, one.dormant) for one in tokens] == [
        ("nightly", "good", True),
        ("nightly", "ended", False),
        ("quant", "good", False),
        ("ops", "revoked by ops: lost laptop", False),
    ]
    assert [one.by for one in tokens] == ["ops"] * 4
    assert tokens[0].until == T0 + DAY
    # To be given a token is no deed of the user's.
    assert by_name(audit_access(desk))["ops"].last is None


def test_the_pages_say_the_same_and_hold_no_markup_of_strangers(desk, clock):
    live_a_little(desk, clock)
    found = audit_access(desk)
    markdown, html = (path.read_text() for path in write_audit(desk, found))
    assert "pipes \\| and &lt;b>bold" in markdown
    assert "<b>bold" not in html
    for text in (markdown, html):
        for title, _, _ in found.parts():
            assert title in text
    assert json.loads(json.dumps(found.to_json()))["break_glass"][0]["initiated_by"] == "night"


def test_a_damaged_record_is_no_ground_for_an_audit(desk, clock):
    live_a_little(desk, clock)
    path = desk.access_log.path
    path.write_bytes(path.read_bytes().replace(b"missing_scope", b"missing_scopf", 1))
    with pytest.raises(Tampered):
        audit_access(desk)


def test_a_desk_without_users_is_told_to_name_some(desk, tmp_path):
    (tmp_path / "desk/configs/access.yaml").unlink()
    with pytest.raises(ConfigurationError, match="no users"):
        audit_access(desk)
