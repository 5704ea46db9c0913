import json
import stat

import pytest

from assay.errors import ConfigurationError, Conflict, ContractViolation, Tampered, Unavailable
from assay.registry import KeyRing, create_key, revoke_key, rotate_key, trust_key
from assay.registry.signing import Envelope, Statement


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "home" / "keys", tmp_path / "desk" / "keys"


def statement(purpose="version"):
    return Statement(purpose, {"model": "00"}, {})


def test_a_trusted_key_signs_and_anyone_with_the_desk_verifies(folders):
    private, public = folders
    key = create_key("jane", private, public)
    envelope = KeyRing(public, private).sign("jane", statement())
    made = KeyRing(public).verify(envelope, "version")
    assert (made.identity, made.key_id, made.statement) == ("jane", key.key_id, statement())


def test_private_keys_are_readable_by_their_owner_only(folders):
    private, public = folders
    create_key("jane", private, public)
    assert stat.S_IMODE((private / "jane.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert b"PRIVATE" not in b"".join(path.read_bytes() for path in public.iterdir())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666])
def test_a_private_key_that_others_can_read_is_refused(folders, mode):
    private, public = folders
    create_key("jane", private, public)
    (private / "jane.pem").chmod(mode)
    with pytest.raises(Tampered, match=f"{mode:04o}.*expected 0600"):
        KeyRing(public, private).sign("jane", statement())


def test_private_keys_inside_the_desk_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="inside the desk"):
        create_key("jane", tmp_path / "desk" / "private", tmp_path / "desk" / "keys")


def test_making_a_key_twice_changes_nothing(folders):
    private, public = folders
    first = create_key("jane", private, public)
    before = (public / "trust.json").read_bytes()
    assert create_key("jane", private, public) == first
    assert (public / "trust.json").read_bytes() == before


def test_a_second_desk_trusts_the_key_that_a_person_already_has(folders, tmp_path):
    private, public = folders
    first = create_key("jane", private, public)
    other = tmp_path / "other" / "keys"
    assert create_key("jane", private, other) == first
    KeyRing(other).verify(KeyRing(public, private).sign("jane", statement()), "version")


def test_another_key_of_a_trusted_identity_is_a_conflict(folders, tmp_path):
    private, public = folders
    create_key("jane", private, public)
    with pytest.raises(Conflict, match="another key of jane"):
        create_key("jane", tmp_path / "elsewhere", public)


def test_an_unknown_key_is_named(folders, tmp_path):
    private, public = folders
    create_key("jane", private, public)
    foreign = tmp_path / "foreign" / "keys"
    create_key("eve", tmp_path / "eve", foreign)
    envelope = KeyRing(foreign, tmp_path / "eve").sign("eve", statement())
    with pytest.raises(Tampered, match="unknown key"):
        KeyRing(public).verify(envelope, "version")


def test_a_wrong_signature_is_named(folders):
    private, public = folders
    create_key("jane", private, public)
    envelope = KeyRing(public, private).sign("jane", statement())
    forged = Envelope(envelope.body + b" ", envelope.key_id, envelope.signature)
    with pytest.raises(Tampered, match="wrong signature"):
        KeyRing(public).verify(forged, "version")


def test_a_statement_of_another_purpose_is_refused(folders):
    private, public = folders
    create_key("jane", private, public)
    envelope = KeyRing(public, private).sign("jane", statement("version"))
    with pytest.raises(Tampered, match="expected one for promotion"):
        KeyRing(public).verify(envelope, "promotion")


def test_a_key_signs_only_what_the_policy_allows(folders):
    private, public = folders
    create_key("jane", private, public, ["approval"])
    with pytest.raises(Unavailable, match="may sign approval, not version"):
        KeyRing(public, private).sign("jane", statement())
    assert not KeyRing(public, private).can_sign("jane", "version")
    assert KeyRing(public, private).can_sign("jane", "approval")


def test_a_permission_that_was_taken_away_no_longer_verifies(folders):
    private, public = folders
    create_key("jane", private, public)
    envelope = KeyRing(public, private).sign("jane", statement())
    policy = json.loads((public / "trust.json").read_text())
    policy["keys"][0]["may_sign"].remove("version")
    (public / "trust.json").write_text(json.dumps(policy))
    with pytest.raises(Tampered, match="jane, who may not sign for version"):
        KeyRing(public).verify(envelope, "version")


def test_a_revocation_counts_from_the_next_check_on(folders):
    private, public = folders
    key = create_key("jane", private, public)
    ring = KeyRing(public, private)
    envelope = ring.sign("jane", statement())
    revoke_key(public, key.key_id, "laptop stolen")
    with pytest.raises(Tampered, match="revoked: laptop stolen"):
        ring.verify(envelope, "version")
    with pytest.raises(Unavailable, match="no key in force"):
        ring.sign("jane", statement())


def test_an_exchanged_public_key_no_longer_answers_to_its_id(folders):
    private, public = folders
    create_key("jane", private, public)
    create_key("eve", private, public)
    envelope = KeyRing(public, private).sign("jane", statement())
    (public / "jane.pem").write_bytes((public / "eve.pem").read_bytes())
    with pytest.raises(Tampered, match="is not key"):
        KeyRing(public).verify(envelope, "version")


def test_one_key_under_two_identities_is_refused(folders):
    private, public = folders
    create_key("jane", private, public)
    policy = json.loads((public / "trust.json").read_text())
    policy["keys"].append({**policy["keys"][0], "identity": "john"})
    (public / "trust.json").write_text(json.dumps(policy))
    with pytest.raises(ConfigurationError, match="more than once"):
        KeyRing(public).keys()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "keys": []}', '{"format":1}'])
def test_an_unreadable_policy_trusts_nobody(folders, text):
    _, public = folders
    public.mkdir(parents=True)
    (public / "trust.json").write_text(text)
    with pytest.raises(ConfigurationError):
        KeyRing(public).keys()


def test_a_missing_policy_says_what_makes_one(folders):
    with pytest.raises(ConfigurationError, match="assay init"):
        KeyRing(folders[1]).keys()


def test_a_missing_private_key_says_so(folders):
    private, public = folders
    create_key("jane", private, public)
    (private / "jane.pem").unlink()
    with pytest.raises(Unavailable, match="no private key"):
        KeyRing(public, private).sign("jane", statement())
    with pytest.raises(Unavailable, match="no private keys here"):
        KeyRing(public).sign("jane", statement())


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_damaged_private_key_is_refused(folders, content):
    private, public = folders
    create_key("jane", private, public)
    (private / "jane.pem").write_bytes(content)
    with pytest.raises(Tampered, match="cannot be read"):
        KeyRing(public, private).sign("jane", statement())


def test_a_private_key_of_someone_else_is_refused(folders):
    private, public = folders
    create_key("jane", private, public)
    create_key("eve", private, public)
    (private / "eve.pem").replace(private / "jane.pem")
    with pytest.raises(Tampered, match="not the one that the desk trusts"):
        KeyRing(public, private).sign("jane", statement())


@pytest.mark.parametrize(
    "identity", ["", "Jane", "jane doe", "../jane", "a/b", ".hidden", "x" * 65]
)
def test_identities_are_safe_file_names(folders, identity):
    with pytest.raises(ContractViolation, match="identity"):
        create_key(identity, *folders)


def test_an_unknown_purpose_is_refused(folders):
    with pytest.raises(ContractViolation, match="may_sign"):
        create_key("jane", *folders, ["everything"])


NOW = 1_800_000_000 * 10**9


def rotated(folders, now=NOW):
    private, public = folders
    return rotate_key("jane", private, public, now)


def test_a_rotated_key_signs_and_what_the_old_one_signed_before_stays_good(folders):
    private, public = folders
    first = create_key("jane", private, public, ["version", "approval"])
    before = KeyRing(public, private).sign("jane", statement())
    new, old = rotated(folders)
    assert (old.key_id, new.may_sign) == (first.key_id, first.may_sign)
    assert new.key_id != first.key_id
    ring = KeyRing(public, private)
    after = ring.sign("jane", statement())
    assert after.key_id == new.key_id
    assert ring.verify(after, "version", at=NOW).identity == "jane"
    assert ring.verify(before, "version", at=NOW - 1).identity == "jane"
    assert ring.verify(before, "version").identity == "jane"  # nothing says when it was made
    with pytest.raises(Tampered, match="had been retired at 2027-01-15T08:00:00Z"):
        ring.verify(before, "version", at=NOW)
    assert ring.key_of("jane").key_id == new.key_id
    assert sorted(path.name for path in private.glob("*.pem")) == ["jane.pem"]
    assert stat.S_IMODE((private / "jane.pem").stat().st_mode) == 0o600
    third, second = rotated(folders, NOW + 5)
    assert second.key_id == new.key_id
    assert len(ring.keys()) == 3
    assert ring.verify(before, "version", at=NOW - 1).key_id == first.key_id
    assert third.in_force


def test_a_revoked_key_is_followed_by_a_new_one_and_stays_revoked(folders):
    private, public = folders
    first = create_key("jane", private, public)
    before = KeyRing(public, private).sign("jane", statement())
    revoke_key(public, first.key_id, "stolen")
    with pytest.raises(Conflict, match="a revoked key of jane"):
        create_key("jane", private, public)
    new, old = rotated(folders)
    assert old is None
    assert KeyRing(public, private).sign("jane", statement()).key_id == new.key_id
    with pytest.raises(Tampered, match="revoked: stolen"):
        KeyRing(public).verify(before, "version", at=NOW - 1)


def test_a_key_that_was_rotated_for_one_desk_is_taken_over_by_the_other(folders, tmp_path):
    private, public = folders
    other = tmp_path / "other" / "keys"
    create_key("jane", private, public)
    create_key("jane", private, other)
    new, _ = rotated(folders)
    with pytest.raises(Tampered, match="is not the one that the desk trusts") as refused:
        KeyRing(other, private).sign("jane", statement())
    assert "assay keys rotate jane" in refused.value.hint
    taken, _ = rotate_key("jane", private, other, NOW)
    assert taken.key_id == new.key_id
    KeyRing(other).verify(KeyRing(other, private).sign("jane", statement()), "version", at=NOW)


@pytest.mark.parametrize("dying", ["trust", "rename"])
def test_a_rotation_that_was_killed_is_finished_by_the_next(folders, monkeypatch, dying):
    from assay.registry import keyring

    private, public = folders
    create_key("jane", private, public)
    KeyRing(public, private).sign("jane", statement())
    with monkeypatch.context() as patch:

        def die(*_):
            raise KeyboardInterrupt

        if dying == "trust":
            patch.setattr(keyring, "_write_trust", die)
        else:
            write = keyring._write_trust

            def write_and_die(*given):
                write(*given)
                raise KeyboardInterrupt

            patch.setattr(keyring, "_write_trust", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            rotated(folders)
    if dying == "trust":
        KeyRing(public, private).sign("jane", statement())  # nothing has changed yet
    new, _ = rotated(folders)
    ring = KeyRing(public, private)
    envelope = ring.sign("jane", statement())
    assert ring.verify(envelope, "version", at=NOW).key_id == new.key_id
    policy = ring.keys()
    assert sum(key.in_force for key in policy) == 1
    assert sorted(path.name for path in private.glob("*.pem")) == ["jane.pem"]


def test_nobody_without_a_key_has_one_to_rotate(folders):
    private, public = folders
    create_key("jane", private, public)
    with pytest.raises(ConfigurationError, match="joe has no key"):
        rotate_key("joe", private, public, NOW)


def test_a_public_key_is_trusted_once_and_for_one_identity(folders, tmp_path):
    private, public = folders
    create_key("jane", private, public)
    foreign = tmp_path / "foreign" / "keys"
    key = create_key("eve", tmp_path / "eve", foreign)
    pem = (foreign / "eve.pem").read_bytes()
    made = trust_key("eve", pem, public, ["version"])
    assert (made.key_id, made.may_sign) == (key.key_id, ("version",))
    assert trust_key("eve", pem, public, ["version"]) == made
    envelope = KeyRing(foreign, tmp_path / "eve").sign("eve", statement())
    assert KeyRing(public).verify(envelope, "version").identity == "eve"
    with pytest.raises(Conflict, match="as that of eve"):
        trust_key("mallory", pem, public, ["version"])
    with pytest.raises(Conflict, match="another key of jane"):
        trust_key("jane", other_pem(tmp_path), public, ["version"])
    for wrong in (b"", b"no key", (private / "jane.pem").read_bytes()):
        with pytest.raises(ContractViolation, match="not a public key"):
            trust_key("joe", wrong, public, ["version"])
    with pytest.raises(ContractViolation, match="may_sign"):
        trust_key("joe", pem, public, ["everything"])


def other_pem(folder):
    create_key("third", folder / "third", folder / "third-desk" / "keys")
    return (folder / "third-desk" / "keys" / "third.pem").read_bytes()
