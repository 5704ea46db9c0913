import json
import stat

import pytest

from assay.errors import ConfigurationError, Conflict, ContractViolation, Tampered, Unavailable
from assay.registry import KeyRing, create_key, revoke_key
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
