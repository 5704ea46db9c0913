"""A key was stolen and revoked: what it signed is named, kept, refused, and vouched for anew."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from assay.access import AccessPolicy, Role, User
from assay.delivery.approvals import approve
from assay.delivery.countersigning import countersign
from assay.delivery.promotion import break_glass, promote
from assay.delivery.rollback import rollback
from assay.errors import Conflict, Refused, Tampered
from assay.registry import ModelRegistry, revoke_key, rotate_key
from assay.registry.acknowledging import acknowledge_losses, sign_log
from assay.registry.backup import BackupStore, drill
from assay.registry.collection import bring_back
from assay.registry.log import EMPTY
from assay.storage.objects import LocalObjects
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    SECOND_APPROVER,
    make_candidate,
    make_registry,
    pass_gates,
)

T0 = 1_700_000_000 * 10**9
SECOND = 10**9
MODEL = "fx_vol"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(T0)


@pytest.fixture
def registry(tmp_path: Path, clock: FixedClock) -> ModelRegistry:
    """Two promoted versions; the author's key signed both, their promotions and every head."""
    made = make_registry(tmp_path, clock)
    for minor in range(2):
        version = f"1.{minor}.0"
        clock.advance(SECOND)
        made.register(make_candidate(version=version, bias=float(minor)))
        pass_gates(made, MODEL, version)
        for person in (FIRST_APPROVER, SECOND_APPROVER):
            approve(made, MODEL, version, person, clock=clock)
        promote(made, MODEL, version, initiated_by=AUTHOR, clock=clock, monotonic=time.monotonic)
    return made


def stolen(registry: ModelRegistry, person: str, reason: str = "laptop stolen") -> None:
    key = registry.keyring.key_of(person)
    assert key is not None
    revoke_key(registry.keyring.public_dir, key.key_id, reason)


def sign(registry: ModelRegistry, signer: str = FIRST_APPROVER) -> None:
    sign_log(
        registry.journal, registry.keyring, registry.verify_log(), signer=signer, reason="read"
    )


def roll_back(registry: ModelRegistry):
    return rollback(
        registry, MODEL, reason="drift", initiated_by=SECOND_APPROVER, monotonic=time.monotonic
    )


# -- the log --------------------------------------------------------------------------------------


def test_entries_that_only_heads_of_a_revoked_key_cover_are_named_until_somebody_signs(
    registry: ModelRegistry,
) -> None:
    last = registry.journal.ledger.head().seq
    assert registry.verify_log().signed_up_to == last
    stolen(registry, AUTHOR)
    report = registry.verify_log()
    assert all(one.uncovered for one in report.problems)
    problem = report.problems[0]
    assert f"entries 1 to {last} of events.jsonl are covered only by heads" in problem.detail
    assert "author" in problem.detail
    assert "assay audit show" in problem.detail
    assert "assay audit sign" in problem.detail
    # The promotions' statements lost their key as well.
    assert sum("promotion of fx_vol" in str(one) for one in report.problems) == 2
    sign(registry)
    report = registry.verify_log()
    assert report.ok
    assert report.signed_up_to == last + 1
    with pytest.raises(Tampered, match=r"promotion of fx_vol 1\.1\.0"):
        registry.verify_promoted(MODEL, "1.1.0")  # that it happened is sure; to serve it takes more
    assert any("heads of events.jsonl, signed by author" in note for note in report.notes)
    assert any("laptop stolen" in note for note in report.notes)


def test_a_later_head_by_a_trusted_key_covers_what_a_revoked_one_signed(
    registry: ModelRegistry,
) -> None:
    roll_back(registry)  # its head is signed by somebody else
    stolen(registry, AUTHOR)
    report = registry.verify_log()
    assert report.ok, report.problems
    assert sum("promotion of fx_vol" in note for note in report.notes) == 2


def test_a_head_by_a_revoked_key_is_no_evidence_against_a_covered_log(
    registry: ModelRegistry,
) -> None:
    roll_back(registry)
    head = registry.journal.ledger.head()
    registry.journal.heads.sign(head.seq - 1, "f" * 64, registry.keyring, AUTHOR)
    assert not registry.verify_log().ok
    stolen(registry, AUTHOR)
    assert registry.verify_log().ok


def test_a_head_that_contradicts_a_log_is_never_replaced_by_the_next_one(
    registry: ModelRegistry,
) -> None:
    head = registry.journal.ledger.head()
    heads = registry.journal.heads
    heads.sign(head.seq + 1, "f" * 64, registry.keyring, AUTHOR)  # an entry that was cut off
    roll_back(registry)
    (problem,) = registry.verify_log().problems
    assert problem.lost == ("events.jsonl", head.seq + 1, "f" * 64)
    assert len([*heads.folder.glob(f"{head.seq + 1:012d}*.json")]) == 2


def test_a_cut_that_only_a_revoked_key_has_seen_is_not_signed_away(
    registry: ModelRegistry,
) -> None:
    head = registry.journal.ledger.head()
    registry.journal.heads.sign(head.seq + 3, "f" * 64, registry.keyring, AUTHOR)
    stolen(registry, AUTHOR)
    with pytest.raises(Refused, match="cut off"):
        sign(registry)


def test_nobody_without_a_key_signs_the_log_and_nothing_is_left_behind(
    registry: ModelRegistry,
) -> None:
    before = registry.journal.ledger.head()
    with pytest.raises(Exception, match="no key in force"):
        sign(registry, "nobody")
    assert registry.journal.ledger.head() == before


# -- versions -------------------------------------------------------------------------------------


def test_a_version_whose_key_was_revoked_is_refused_until_another_person_countersigns(
    registry: ModelRegistry, clock: FixedClock
) -> None:
    stolen(registry, AUTHOR)
    report = registry.validate(MODEL, "1.0.0")
    assert not report.ok
    assert "laptop stolen" in report.signature
    with pytest.raises(Tampered) as caught:
        registry.open_version(MODEL, "1.0.0")
    assert "assay models countersign fx_vol 1.0.0" in str(caught.value.hint)
    with pytest.raises(Tampered, match="revoked"):
        registry.open_production(MODEL)
    with pytest.raises(Tampered, match="revoked"):
        roll_back(registry)
    done = countersign(registry, MODEL, "1.0.0", signer=FIRST_APPROVER, reason="bytes compared")
    assert len(done.promotions) == 1
    assert registry.validate(MODEL, "1.0.0").ok
    opened = registry.open_version(MODEL, "1.0.0")
    assert "countersigned by first.approver" in opened.note
    with pytest.raises(Conflict, match="needs no countersignature"):
        countersign(registry, MODEL, "1.0.0", signer=FIRST_APPROVER, reason="again")
    back = roll_back(registry)
    assert back.to_version == "1.0.0"
    assert any("countersigned by first.approver" in note for note in back.notes)
    assert registry.open_production(MODEL).version == "1.0.0"
    # The one who vouched is not believed either once that key is revoked.
    stolen(registry, FIRST_APPROVER, "stolen too")
    with pytest.raises(Tampered, match="revoked"):
        registry.open_production(MODEL)


def test_a_staged_version_of_a_revoked_key_does_not_go_live(
    registry: ModelRegistry, clock: FixedClock
) -> None:
    registry.register(make_candidate(version="2.0.0", bias=9.0))
    stolen(registry, AUTHOR)
    with pytest.raises(Tampered, match="revoked"):
        break_glass(
            registry, MODEL, "2.0.0", initiated_by=SECOND_APPROVER, reason="x", clock=clock,
            monotonic=time.monotonic,
        )  # fmt: skip


def test_what_a_thief_puts_in_its_place_is_not_countersigned(registry: ModelRegistry) -> None:
    stolen(registry, AUTHOR)
    path = registry.root / "artifacts" / MODEL / "1.0.0" / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(Tampered, match=r"model\.onnx"):
        countersign(registry, MODEL, "1.0.0", signer=FIRST_APPROVER, reason="x")


def test_a_countersignature_is_for_one_version_of_one_digest(registry: ModelRegistry) -> None:
    stolen(registry, AUTHOR)
    countersign(registry, MODEL, "1.0.0", signer=FIRST_APPROVER, reason="x")
    with pytest.raises(Tampered, match="revoked"):
        registry.open_version(MODEL, "1.1.0")


def test_where_users_are_named_the_author_does_not_countersign(registry: ModelRegistry) -> None:
    stolen(registry, AUTHOR)
    users = {
        "anna": User("anna", "person", (Role.MLOPS,), (AUTHOR, FIRST_APPROVER)),
        "berta": User("berta", "person", (Role.MLOPS,), (SECOND_APPROVER,)),
    }
    policy = AccessPolicy(users)
    with pytest.raises(Refused, match="another person countersigns"):
        countersign(registry, MODEL, "1.0.0", signer=FIRST_APPROVER, reason="x", access=policy)
    countersign(registry, MODEL, "1.0.0", signer=SECOND_APPROVER, reason="x", access=policy)
    registry.register(make_candidate("other", "1.0.0", author=SECOND_APPROVER))
    with pytest.raises(Conflict, match="no key behind it was revoked"):
        countersign(registry, "other", "1.0.0", signer=FIRST_APPROVER, reason="x")


def test_backups_carry_a_version_of_a_revoked_key_as_it_is_and_say_so(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    stolen(registry, AUTHOR)
    store = BackupStore(LocalObjects(tmp_path / "backups"))
    made = store.take(registry)
    assert made.damaged == ()
    assert len(made.versions) == 2
    assert store.verify(made, registry.keyring) == ()
    # Nobody has vouched for promotions and heads: that is said, as it is of the registry itself.
    for _ in range(2):
        found = drill(registry, store)
        assert found.ok, found.to_json()
        sign(registry)
        store.take(registry)
    countersign(registry, MODEL, "1.0.0", signer=FIRST_APPROVER, reason="looked at")
    found = drill(registry, store)
    assert found.ok, found.to_json()
    assert sum("laptop stolen" in note for note in found.restored.notes) >= 2
    files = store.files(MODEL, "1.0.0", registry.get(MODEL, "1.0.0").digest)
    folder = registry.root / "artifacts" / MODEL / "1.0.0" / "CHANGES.md"
    folder.parent.chmod(0o755)
    folder.unlink()
    assert bring_back(registry, MODEL, "1.0.0", files, initiated_by=FIRST_APPROVER, reason="lost")
    assert registry.validate(MODEL, "1.0.0").ok


def test_a_drill_over_a_revoked_key_that_nobody_has_vouched_for_restores_everything(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    roll_back(registry)
    stolen(registry, AUTHOR)
    store = BackupStore(LocalObjects(tmp_path / "backups"))
    store.take(registry)
    found = drill(registry, store)
    assert found.ok, found.to_json()
    assert any(note.startswith("fx_vol 1.0.0: signed by author") for note in found.restored.notes)


# -- approvals ------------------------------------------------------------------------------------


def test_a_rollback_is_not_blocked_by_an_approver_whose_key_was_revoked_since(
    registry: ModelRegistry,
) -> None:
    stolen(registry, FIRST_APPROVER, "left the firm")
    notes = registry.verify_promoted(MODEL, "1.0.0")
    assert any("approval of fx_vol 1.0.0" in note and "left the firm" in note for note in notes)
    assert roll_back(registry).notes == notes


@pytest.mark.parametrize("forged", [False, True])
def test_a_promotion_without_the_approvals_that_it_names_is_not_loaded(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch, forged: bool
) -> None:
    given = registry.approvals(MODEL, "1.1.0")
    assert registry.verify_promoted(MODEL, "1.1.0") == ()
    left = given[:1]
    if forged:  # the first approver's own approval under the second one's name
        evidence = {**given[1].evidence, "envelope": given[0].evidence["envelope"]}
        left = (given[0], type(given[1])(**{
            **{name: getattr(given[1], name) for name in given[1].__slots__},
            "evidence": evidence,
        }))  # fmt: skip
    monkeypatch.setattr(registry, "approvals", lambda name, version: left)
    with pytest.raises(Tampered, match=r"no approval by second\.approver"):
        registry.open_production(MODEL)
    with pytest.raises(Tampered, match=r"no approval by second\.approver"):
        registry.verify_promoted(MODEL, "1.1.0")


def test_a_retired_key_needs_no_countersignature(
    registry: ModelRegistry, clock: FixedClock
) -> None:
    assert registry.keyring.private_dir is not None
    rotate_key(AUTHOR, registry.keyring.private_dir, registry.keyring.public_dir, T0 + 99 * SECOND)
    clock.advance(100 * SECOND)
    assert registry.open_production(MODEL).note == ""
    assert registry.verify_log().ok


# -- losses ---------------------------------------------------------------------------------------


def test_an_acknowledged_loss_is_no_fault_and_another_cut_is_still_found(
    registry: ModelRegistry, tmp_path: Path, clock: FixedClock
) -> None:
    store = BackupStore(LocalObjects(tmp_path / "backups"))
    older = store.take(registry)
    roll_back(registry)
    seen = registry.journal.ledger.head()
    root = tmp_path / "restored"
    store.restore(older, root, registry.keyring, clock)
    again = ModelRegistry(root, registry.keyring, clock)

    def verify(*further: tuple[int, str, str]):
        from assay.registry import verify_registry

        known = [(seen.seq, seen.hash, "serving.jsonl line 9 (server)"), *further]
        return verify_registry(root, registry.keyring, None, known=known)

    (problem,) = verify().problems
    assert "cut off" in problem.detail
    with pytest.raises(Refused, match="cut off"):
        sign_log(again.journal, again.keyring, verify(), signer=AUTHOR, reason="x")
    entry = acknowledge_losses(
        again.journal, again.keyring, verify(), signer=FIRST_APPROVER, reason="a disk was lost"
    )
    (loss,) = entry.evidence["losses"]
    assert (loss["seq"], loss["hash"]) == (seen.seq, seen.hash)
    assert "serving.jsonl line 9 (server)" in loss["witness"]
    report = verify()
    assert report.ok
    assert any(note.startswith("acknowledged loss: serving.jsonl line 9") for note in report.notes)
    # The log goes on past the number that was lost: still the same loss, and no other.
    for minor in range(3, 6):
        again.register(make_candidate(version=f"1.{minor}.0", bias=float(minor)))
    assert verify().ok
    other = verify((seen.seq - 1, "e" * 64, "serving.jsonl line 12 (server)"))
    (problem,) = other.problems
    assert "line 12" in problem.detail
    with pytest.raises(Refused, match="nothing is known to be lost"):
        acknowledge_losses(
            again.journal, again.keyring, verify(), signer=FIRST_APPROVER, reason="x"
        )


def test_an_acknowledgement_that_nobody_signed_or_that_was_moved_hides_nothing(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    from assay.registry import verify_registry
    from assay.registry.journal import NewEvent
    from assay.registry.lifecycle import EventType
    from assay.registry.log import WHOLE_LOG

    seen = (99, "f" * 64, "serving.jsonl line 1 (server)")
    head = registry.journal.ledger.head()

    def verify():
        return verify_registry(registry.root, registry.keyring, None, known=[seen])

    losses = [{"log": "events.jsonl", "seq": 99, "hash": "f" * 64, "witness": "x"}]
    with registry.journal.locked():
        registry.journal.append(
            NewEvent(EventType.AUDIT_ACKNOWLEDGE, WHOLE_LOG, None, AUTHOR, "x", {"losses": losses})
        )
    report = verify()
    assert not report.ok
    assert any("counts for nothing" in note for note in report.notes)
    made = acknowledge_losses(
        registry.journal, registry.keyring, report, signer=AUTHOR, reason="true"
    )
    assert verify().ok
    # The same statement behind another entry.
    stolen(registry, AUTHOR)
    assert not verify().ok, "whoever stole the key could have made it"
    with registry.journal.locked():
        registry.journal.append(
            NewEvent(EventType.AUDIT_ACKNOWLEDGE, WHOLE_LOG, None, AUTHOR, "x", made.evidence)
        )
    assert sum("counts for nothing" in note for note in verify().notes) == 3
    assert [entry.seq for entry, _ in registry.journal.ledger.entries_after(EMPTY)][-1] > head.seq
