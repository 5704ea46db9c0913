"""Users and roles as a file, the record of access, and proofs of who one is."""

import json
import multiprocessing
import shutil

import pytest

from assay.access import (
    ROLE_SCOPES,
    AccessDenied,
    AccessEvent,
    AccessLog,
    Denial,
    RepeatedRefusals,
    Role,
    Scope,
    check_proof,
    load_access,
    make_proof,
    require_here,
)
from assay.access.repeated import PLACES, WRITTEN
from assay.errors import ConfigurationError, Tampered
from assay.registry import revoke_key, rotate_key
from assay.registry.keyring import APPROVAL, IDENTITY, load_private_key
from assay.registry.log import SignedHeads
from assay.registry.signing import Statement, key_id_of, sign_statement
from assay.testing.clocks import FixedClock
from assay.testing.versions import AUTHOR, FIRST_APPROVER, make_keys

T0 = 1_700_000_000_000_000_000
SECOND = 10**9


def read(tmp_path, text):
    path = tmp_path / "access.yaml"
    path.write_text(text)
    return load_access(path)


def test_a_desk_without_the_file_names_no_users(tmp_path):
    assert load_access(tmp_path / "access.yaml") is None


def test_roles_add_up_and_identities_lead_to_their_person(tmp_path):
    policy = read(
        tmp_path,
        "users:\n"
        "  jane: {roles: [quant, sre], identities: [jane, jane.laptop]}\n"
        "  nightly: {kind: service, owner: jane, roles: [quant]}\n",
    )
    jane = policy.user("jane")
    assert jane.scopes == ROLE_SCOPES[Role.QUANT] | ROLE_SCOPES[Role.SRE]
    assert policy.person_of("jane.laptop") == policy.person_of("nightly") == "jane"
    assert policy.person_of("gone") == "gone"
    with pytest.raises(AccessDenied) as caught:
        policy.require_approver("nightly")
    assert caught.value.code is Denial.NOT_A_PERSON


def test_an_auditor_only_reads_and_only_an_administrator_gives_tokens():
    assert ROLE_SCOPES[Role.AUDITOR] == {Scope.READ}
    assert [role for role, scopes in ROLE_SCOPES.items() if Scope.ADMIN in scopes] == [Role.ADMIN]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("people: {}", "one key, users"),
        ("users: []", "one key, users"),
        ("users: {jane: quant}", "expected keys"),
        ("users: {jane: {role: [quant]}}", "unknown key 'role'"),
        ("users: {jane: {roles: [quand]}}", "unknown role 'quand'"),
        ("users: {jane: {roles: quant}}", "list of names"),
        ("users: {jane: {kind: robot}}", "person or service"),
        ("users: {nightly: {kind: service}}", "owner of|owner is None"),
        ("users: {jane: {owner: jane}}", "none for a person"),
        ("users: {nightly: {kind: service, owner: nobody}}", "expected a person"),
        ("users: {a: {kind: service, owner: b}, b: {kind: service, owner: a}}", "a person"),
        ("users: {'../x': {roles: []}}", "expected up to 64"),
        ("users: {jane: {identities: [k]}, joe: {identities: [k]}}", "belongs to jane and joe"),
        ("users: {jane: {}, joe: {identities: [joe, jane]}}", "belongs to jane and joe"),
    ],
)
def test_a_wrong_file_of_users_is_refused_in_words(tmp_path, text, problem):
    with pytest.raises(ConfigurationError, match=problem):
        read(tmp_path, text)


@pytest.fixture
def log(tmp_path):
    return AccessLog(tmp_path / "access_events.jsonl", FixedClock(T0))


def some(log, count):
    for number in range(count):
        log.record(AccessEvent("refused", "jane", "GET", f"/{number}", "expired", "it ended"))


def test_every_event_names_the_one_before_it(log):
    some(log, 3)
    events = log.events()
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert [event["previous"] for event in events[1:]] == [e["hash"] for e in events[:2]]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: [lines[0].replace(b"jane", b"joe."), *lines[1:]], 1),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [lines[0], lines[2], lines[1]], 2),
        (lambda lines: [*lines, lines[0]], 4),
    ],
    ids=["edited", "cut", "moved", "repeated"],
)
def test_a_changed_record_is_found_and_located(log, change, line):
    some(log, 3)
    lines = change(log.path.read_bytes().splitlines())
    log.path.write_bytes(b"".join(part + b"\n" for part in lines))
    with pytest.raises(Tampered, match=f"line {line} of"):
        log.events()


def test_a_torn_last_line_is_dropped_by_the_next_event(log):
    some(log, 2)
    with log.path.open("ab") as handle:
        handle.write(b'{"seq":3,')
    some(log, 1)
    assert [event["seq"] for event in log.events()] == [1, 2, 3]


def test_a_damaged_record_says_how_to_go_on(log):
    log.record(AccessEvent("allowed", "a", "b"))
    with log.path.open("ab") as handle:
        handle.write(b'{"x": 1}\n')
    with pytest.raises(Tampered, match="last line") as caught:
        log.record(AccessEvent("allowed", "a", "rollback"))
    assert f"mv {log.path} {log.path}.damaged" in caught.value.hint
    log.path.rename(f"{log.path}.damaged")
    log.record(AccessEvent("allowed", "a", "rollback"))
    assert [one["action"] for one in log.events()] == ["rollback"]


def test_text_from_outside_is_cut_and_stays_one_line(log):
    log.record(AccessEvent("refused", "\udc80\n" * 500, "GET", "/\x00", detail="x" * 1_000))
    (event,) = log.events()
    assert len(event["subject"]) == len(event["detail"]) == 300
    assert len(log.path.read_bytes().splitlines()) == 1


def _writer(path):
    some(AccessLog(path, FixedClock(T0)), 20)


def test_several_processes_write_one_chain(log):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_writer, args=(log.path,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(log.events()) == 60


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("keys"))


def test_a_proof_says_who_signed_it(keys):
    proof = check_proof(keys, make_proof(keys, AUTHOR, "desk", T0), "desk", T0)
    assert proof.identity == AUTHOR


def test_a_proof_is_for_one_desk_and_a_short_time(keys):
    envelope = make_proof(keys, AUTHOR, "desk", T0)
    for audience, now, code in (
        ("another", T0, Denial.NO_PROOF),
        ("desk", T0 + 121 * SECOND, Denial.STALE_PROOF),
        ("desk", T0 - 121 * SECOND, Denial.STALE_PROOF),
    ):
        with pytest.raises(AccessDenied) as caught:
            check_proof(keys, envelope, audience, now)
        assert caught.value.code is code


def test_a_proof_is_no_approval_and_an_approval_no_proof(keys):
    from assay.registry.signing import Statement

    with pytest.raises(Tampered, match="about a identity"):
        keys.verify(make_proof(keys, AUTHOR, "desk", T0), APPROVAL)
    approval = keys.sign(AUTHOR, Statement(APPROVAL, {}, {}))
    with pytest.raises(AccessDenied, match="about a approval"):
        check_proof(keys, approval, "desk", T0)


def test_a_key_that_may_sign_nothing_still_says_who_one_is(tmp_path):
    from assay.registry import create_key
    from assay.registry.keyring import KeyRing

    create_key("auditor", tmp_path / "private", tmp_path / "desk/keys", may_sign=())
    ring = KeyRing(tmp_path / "desk/keys", tmp_path / "private")
    assert check_proof(ring, make_proof(ring, "auditor", "d", T0), "d", T0).identity == "auditor"
    assert IDENTITY not in ring.key_of("auditor").may_sign


def acting(keys, policy, identity, log, scope=Scope.ROLLBACK):
    return require_here(
        keys, policy, identity, scope, action="rollback", resource="fx_vol",
        clock=FixedClock(T0), log=log,
    )  # fmt: skip


def test_nobody_acts_under_a_name_whose_key_is_not_here(keys, log, tmp_path):
    with pytest.raises(AccessDenied, match=r"cannot act as head: .*no key in force") as caught:
        acting(keys, None, "head", log)
    assert caught.value.code is Denial.NO_PROOF
    (event,) = log.events()
    assert (event["event"], event["subject"], event["code"]) == ("refused", "head", "no_proof")


def test_a_revoked_key_proves_nothing(tmp_path, log):
    ring = make_keys(tmp_path)
    revoke_key(tmp_path / "desk/keys", ring.key_of(AUTHOR).key_id, "stolen")
    with pytest.raises(AccessDenied, match="no key in force"):
        acting(ring, None, AUTHOR, log)


def test_a_retired_key_proves_nothing_any_more(tmp_path):
    ring = make_keys(tmp_path)
    shutil.copytree(tmp_path / "private", tmp_path / "kept")
    rotate_key(AUTHOR, tmp_path / "private", tmp_path / "desk/keys", T0)
    new = make_proof(ring, AUTHOR, "d", T0)
    assert check_proof(ring, new, "d", T0).identity == AUTHOR
    # Whoever has the old private half, with a desk that had not heard of the rotation.
    old = load_private_key(tmp_path / "kept" / f"{AUTHOR}.pem")
    statement = Statement.from_bytes(make_proof(ring, AUTHOR, "d", T0).body)
    stale = sign_statement(statement, old, key_id_of(old.public_key()))
    for now in (T0, T0 - SECOND):
        with pytest.raises(AccessDenied, match="retired") as caught:
            check_proof(ring, stale, "d", now)
        assert caught.value.code is Denial.NO_PROOF


def test_the_roles_decide_where_the_desk_names_users(keys, log, tmp_path):
    policy = read(
        tmp_path, f"users:\n  {AUTHOR}: {{roles: [quant]}}\n  {FIRST_APPROVER}: {{roles: [sre]}}\n"
    )
    assert acting(keys, policy, FIRST_APPROVER, log).name == FIRST_APPROVER
    with pytest.raises(AccessDenied, match="do not allow model:rollback") as caught:
        acting(keys, policy, AUTHOR, log)
    assert "mlops, sre" in caught.value.hint
    assert [event["event"] for event in log.events()] == ["allowed", "refused"]
    assert "signature" not in json.dumps(log.events())


# -- signed heads, files put aside, and strangers who repeat themselves ----------------------------


def test_a_record_goes_on_in_a_new_file_when_one_has_become_large(tmp_path):
    log = AccessLog(tmp_path / "access_events.jsonl", FixedClock(T0), largest=2_000)
    some(log, 40)
    assert len(log.files()) > 3
    assert max(path.stat().st_size for path in log.files()) < 2_600
    assert [event["seq"] for event in log.events()] == list(range(1, 41))
    again = AccessLog(log.path, FixedClock(T0), largest=2_000)
    some(again, 1)
    assert again.events()[-1]["seq"] == 41
    again.files()[1].unlink()
    with pytest.raises(Tampered, match="does not follow"):
        again.events()


def test_whoever_is_let_through_signs_how_far_the_record_has_come(tmp_path):
    ring = make_keys(tmp_path, ("author",))
    log = AccessLog(tmp_path / "access_events.jsonl", FixedClock(T0))
    some(log, 2)
    require_here(ring, None, "author", Scope.WRITE, action="hold", resource="x",
                 clock=FixedClock(T0), log=log)  # fmt: skip
    assert log.verify(ring) == ([], [])
    whole = log.path.read_bytes()
    log.path.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    ((problem,), _) = log.verify(ring)
    assert problem.lost == ("access_events.jsonl", 3, json.loads(whole.splitlines()[2])["hash"])
    assert "cut off" in problem.detail
    # A head of the registry's log is none of this one.
    log.path.write_bytes(whole)
    (head,) = log.heads.folder.glob("*.json")
    SignedHeads(tmp_path / "other").sign(3, "0" * 64, ring, "author")
    head.chmod(0o644)
    head.write_bytes((tmp_path / "other/000000000003.json").read_bytes())
    ((problem,), _) = log.verify(ring)
    assert "not access_events.jsonl" in problem.detail


def test_refusals_of_a_stranger_are_written_first_and_counted_after(tmp_path):
    clock = FixedClock(T0)
    log = AccessLog(tmp_path / "access_events.jsonl", clock)
    refusals = RepeatedRefusals(log, clock)

    def refuse(place, times=1, code="no_token"):
        for _ in range(times):
            refusals.record(place, AccessEvent("refused", "", "GET", "/x", code, "no token"))

    refuse("10.0.0.1", 500)
    assert len(log.events()) == WRITTEN
    refuse("10.0.0.2")
    refuse("10.0.0.1", 1, "expired")
    assert len(log.events()) == WRITTEN + 2, "another place and another reason have their own"
    assert log.events()[0]["place"] == "10.0.0.1"
    clock.advance(61 * 10**9)
    assert refusals.has_ended()
    refusals.write_counts()
    last = log.events()[-1]
    assert (last["count"], last["place"], last["code"]) == (480, "10.0.0.1", "no_token")
    assert "480 more of the same" in last["detail"]
    assert not refusals.has_ended()
    before = len(log.events())
    for number in range(1_000):
        refuse(f"10.1.{number // 250}.{number % 250}")
    refusals.write_counts(everything=True)
    added = log.events()[before:]
    assert len(added) == PLACES + WRITTEN + 1
    assert sum(event.get("count", 1) for event in added) == 1_000
    assert added[-1]["place"] == "other places"
