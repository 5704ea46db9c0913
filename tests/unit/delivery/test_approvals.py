import shutil
from dataclasses import replace

import pytest

from assay.delivery.approvals import Approval, approve, count_approvals, require_approvals
from assay.errors import ContractViolation, Refused, Unavailable
from assay.registry import PromotionGateError, revoke_key
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    SECOND_APPROVER,
    make_candidate,
    make_registry,
    pass_gates,
)

T0 = 1_700_000_000_000_000_000
SECOND = 10**9


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    made = make_registry(folder, FixedClock(T0))
    made.register(make_candidate())
    made.register(make_candidate(version="1.1.0", weights=(1, 1)))
    pass_gates(made, "fx_vol", "1.0.0")
    return folder


@pytest.fixture
def clock():
    return FixedClock(T0)


@pytest.fixture
def registry(template, tmp_path, clock):
    shutil.copytree(template, tmp_path, symlinks=True, dirs_exist_ok=True)
    return make_registry(tmp_path, clock)


def yes(registry, person, **options):
    return approve(registry, "fx_vol", "1.0.0", person, clock=registry.clock, **options)


def count(registry, **options):
    report = registry.gate_record("fx_vol", "1.0.0")
    return count_approvals(
        registry, "fx_vol", "1.0.0", report.digest, now=registry.clock.now(), **options
    )


def forge(registry, approval, person=FIRST_APPROVER):
    """Write an approval straight into the log, as someone who can write files might."""
    registry.record_approval("fx_vol", "1.0.0", approval.to_json(), approver=person)


def test_two_different_people_are_enough(registry):
    yes(registry, FIRST_APPROVER)
    assert not count(registry).sufficient
    yes(registry, SECOND_APPROVER)
    assert count(registry).approvers == (FIRST_APPROVER, SECOND_APPROVER)
    assert count(registry).sufficient


def test_an_approval_survives_the_log(registry):
    given = yes(registry, FIRST_APPROVER)
    assert count(registry).valid == (given,)
    assert Approval.from_json(given.to_json()) == given


def test_the_author_cannot_approve(registry):
    with pytest.raises(Refused, match="is the author"):
        yes(registry, AUTHOR)
    assert registry.approvals("fx_vol", "1.0.0") == ()


def test_an_authors_approval_that_got_into_the_log_does_not_count(registry):
    given = replace(yes(registry, FIRST_APPROVER), approver=AUTHOR, envelope=None)
    signed = replace(given, envelope=registry.keyring.sign(AUTHOR, given.to_statement()))
    forge(registry, signed, AUTHOR)
    assert count(registry).approvers == (FIRST_APPROVER,)
    assert "the author cannot approve" in count(registry).ignored[0]


def test_the_same_person_counts_once_however_often_they_approve(registry):
    first = yes(registry, FIRST_APPROVER)
    assert yes(registry, FIRST_APPROVER) == first
    forge(registry, first)
    assert count(registry).approvers == (FIRST_APPROVER,)
    assert "one person counts once" in count(registry).ignored[0]


def test_an_approval_ends(registry, clock):
    yes(registry, FIRST_APPROVER, valid_for=60)
    clock.advance(60 * SECOND - 1)
    assert count(registry).approvers == (FIRST_APPROVER,)
    clock.advance(1)
    assert count(registry).approvers == ()
    assert "holds from" in count(registry).ignored[0]


def test_an_ended_approval_can_be_given_again(registry, clock):
    yes(registry, FIRST_APPROVER, valid_for=60)
    clock.advance(61 * SECOND)
    yes(registry, FIRST_APPROVER)
    assert count(registry).approvers == (FIRST_APPROVER,)


def test_an_approval_of_another_version_does_not_count(registry):
    pass_gates(registry, "fx_vol", "1.1.0")
    given = approve(registry, "fx_vol", "1.1.0", FIRST_APPROVER, clock=registry.clock)
    forge(registry, given)
    assert "is for fx_vol 1.1.0" in count(registry).ignored[0]
    assert count(registry).valid == ()


def test_an_approval_of_another_digest_does_not_count(registry):
    given = replace(yes(registry, FIRST_APPROVER), version_digest="0" * 64, envelope=None)
    forge(registry, replace(given, envelope=registry.keyring.sign(
        FIRST_APPROVER, given.to_statement())))  # fmt: skip
    assert "is for fx_vol 1.0.0, 000000000000" in count(registry).ignored[0]


def test_an_approval_falls_when_the_gates_are_judged_again_otherwise(registry):
    yes(registry, FIRST_APPROVER)
    pass_gates(registry, "fx_vol", "1.0.0", loss=0.6)
    assert count(registry).valid == ()
    assert "not the latest" in count(registry).ignored[0]


def test_an_unsigned_approval_in_the_name_of_someone_with_a_key_never_counts(registry):
    unsigned = replace(yes(registry, FIRST_APPROVER), approver=SECOND_APPROVER, envelope=None)
    forge(registry, unsigned, SECOND_APPROVER)
    assert count(registry, require_signed=False).approvers == (FIRST_APPROVER,)
    assert "is not signed" in count(registry, require_signed=False).ignored[0]


def test_an_unsigned_approval_of_someone_without_a_key_counts_only_when_allowed(registry):
    yes(registry, "visitor", signed=False)
    assert count(registry).approvers == ()
    assert count(registry, require_signed=False).approvers == ("visitor",)


def test_a_signature_of_someone_else_does_not_count(registry):
    given = replace(yes(registry, FIRST_APPROVER), approver=SECOND_APPROVER, envelope=None)
    stolen = replace(given, envelope=registry.keyring.sign(FIRST_APPROVER, given.to_statement()))
    forge(registry, stolen, SECOND_APPROVER)
    assert "was signed by first.approver" in count(registry).ignored[0]


def test_a_signature_moved_to_another_approval_does_not_count(registry, clock):
    given = yes(registry, FIRST_APPROVER, valid_for=60)
    clock.advance(61 * SECOND)
    forge(registry, replace(given, expires_at=given.expires_at + 10**15))
    assert "its signature is for another approval" in count(registry).ignored[1]


def test_an_approval_signed_with_a_revoked_key_does_not_count(registry):
    yes(registry, FIRST_APPROVER)
    key = registry.keyring.key_of(FIRST_APPROVER)
    revoke_key(registry.keyring.public_dir, key.key_id, "left the firm")
    assert "revoked: left the firm" in count(registry).ignored[0]


def test_nobody_can_sign_without_a_key(registry):
    with pytest.raises(Unavailable, match="visitor has no key"):
        yes(registry, "visitor")


def test_a_version_that_the_gates_did_not_pass_cannot_be_approved(registry):
    with pytest.raises(PromotionGateError, match="judged by no gates"):
        approve(registry, "fx_vol", "1.1.0", FIRST_APPROVER, clock=registry.clock)


def test_too_few_approvals_say_who_and_why(registry):
    given = yes(registry, FIRST_APPROVER)
    forge(registry, given)
    report = registry.gate_record("fx_vol", "1.0.0")
    with pytest.raises(Refused, match=r"approved by first\.approver: expected 2.*counts once"):
        require_approvals(registry, "fx_vol", "1.0.0", report.digest, now=T0)


def test_garbage_in_the_log_is_ignored_and_said(registry):
    registry.record_approval("fx_vol", "1.0.0", {"yes": True}, approver=FIRST_APPROVER)
    assert "cannot be read" in count(registry).ignored[0]


def test_an_approver_needs_a_legal_identity(registry):
    with pytest.raises(ContractViolation, match="identity"):
        yes(registry, "Mr Nobody")
