"""What a token must be, judged with tokens that another library makes."""

import base64
import json
import shutil

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.access import (
    AccessDenied,
    AccessLog,
    Authenticator,
    Denial,
    OtherIssuer,
    Revocation,
    Revocations,
    Scope,
    TokenKeys,
    load_access,
)
from assay.access.tokens import parse_token
from assay.errors import ConfigurationError, ContractViolation, NotFound, Tampered, Unavailable
from assay.testing.clocks import FixedClock

T0 = 1_700_000_000_000_000_000
SECOND = 10**9
NOW = T0 // SECOND
USERS = """
users:
  jane: {roles: [quant]}
  ops: {roles: [mlops, sre, admin]}
  nightly: {kind: service, owner: ops, roles: [quant]}
"""
RSA = generate_private_key(65_537, 2_048)


class Place:
    """A desk's keys, lists and users in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = FixedClock(T0)
        self.log = AccessLog(folder / "desk/audit/access_events.jsonl", self.clock)
        (folder / "desk/keys").mkdir(parents=True)
        path = folder / "desk/access.yaml"
        path.write_text(USERS)
        self.policy = load_access(path)
        numbers = RSA.public_key().public_numbers()
        jwks = {
            "keys": [
                {"kty": "RSA", "kid": "theirs", "alg": "RS256", "use": "sig",
                 "n": self.octets(numbers.n), "e": self.octets(numbers.e)},
                {"kty": "EC", "kid": "curve", "crv": "P-256", "x": "AA", "y": "AA"},
            ]
        }  # fmt: skip
        (folder / "desk/keys/other.json").write_text(json.dumps(jwks))
        self.keys = TokenKeys(
            folder / "desk/keys/tokens.json", folder / "private", "assay:desk",
            OtherIssuer("https://login.example", folder / "desk/keys/other.json"),
        )  # fmt: skip
        self.authenticator = self.opened()

    @staticmethod
    def octets(number):
        raw = number.to_bytes((number.bit_length() + 7) // 8)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    def opened(self):
        revocations = Revocations(self.folder / "desk/keys/revoked.jsonl")
        return Authenticator(self.keys, revocations, self.log, self.clock, audience="desk")

    def private(self):
        return self.keys.signing_key()[1]

    def kid(self):
        return self.keys.listed()[-1].key_id

    def claims(self, **changed):
        document = {
            "iss": "assay:desk", "aud": "desk", "sub": "jane", "jti": "1",
            "iat": NOW, "nbf": NOW, "exp": NOW + 600,
        } | changed  # fmt: skip
        return {name: value for name, value in document.items() if value is not None}

    def token(self, key=None, algorithm="EdDSA", header=None, **changed):
        headers = {"kid": self.kid()} | (header or {})
        return jwt.encode(
            self.claims(**changed), key or self.private(), algorithm=algorithm, headers=headers
        )

    def recognise(self, token):
        return self.authenticator.recognise(token, self.policy)

    def denied(self, token):
        with pytest.raises(AccessDenied) as caught:
            self.recognise(token)
        assert token is None or not token or token not in str(caught.value)
        return caught.value.code


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("access")
    Place(folder / "place").keys.rotate(T0)
    return folder / "place"


@pytest.fixture
def place(template, tmp_path):
    made = Place(tmp_path)
    shutil.copy(template / "desk/keys/tokens.json", tmp_path / "desk/keys/tokens.json")
    shutil.copytree(template / "private", tmp_path / "private")
    return made


def test_a_token_of_another_library_with_our_key_is_recognised(place):
    caller = place.recognise(place.token())
    assert (caller.name, caller.token_id) == ("jane", "1")
    assert caller.scopes == {Scope.READ, Scope.WRITE, Scope.APPROVE}


def test_our_token_is_read_by_another_library(place):
    issued = place.authenticator.issue(place.policy.user("jane"), 60, by="jane")
    public = place.private().public_key()
    read = jwt.decode(
        issued.text, public, algorithms=["EdDSA"], audience="desk", issuer="assay:desk",
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )  # fmt: skip
    assert (read["sub"], read["exp"] - read["iat"]) == ("jane", 60)
    assert read["scope"].split() == ["model:approve", "model:read", "model:write"]
    assert issued.text not in repr(issued)


def test_a_token_allows_what_both_it_and_the_roles_allow(place):
    caller = place.recognise(place.token(scope="model:read model:promote nonsense"))
    assert caller.scopes == {Scope.READ}
    with pytest.raises(AccessDenied) as caught:
        caller.require(Scope.WRITE)
    assert caught.value.code is Denial.MISSING_SCOPE


@pytest.mark.parametrize("token", [None, ""])
def test_no_token_is_a_reason_of_its_own(place, token):
    assert place.denied(token) is Denial.NO_TOKEN


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"exp": NOW}, Denial.EXPIRED),
        ({"nbf": NOW + 31}, Denial.NOT_YET_VALID),
        ({"iat": NOW + 31}, Denial.NOT_YET_VALID),
        ({"aud": "another"}, Denial.WRONG_AUDIENCE),
        ({"aud": []}, Denial.WRONG_AUDIENCE),
        ({"iss": "https://login.example"}, Denial.WRONG_ISSUER),
        ({"iss": "somebody"}, Denial.WRONG_ISSUER),
        ({"sub": "mallory"}, Denial.UNKNOWN_USER),
        *(({name: None}, Denial.MISSING_CLAIM)
          for name in ("iss", "aud", "sub", "jti", "iat", "nbf", "exp")),
        ({"exp": 1e300}, Denial.MISSING_CLAIM),
        ({"exp": True}, Denial.MISSING_CLAIM),
        ({"exp": str(NOW + 600)}, Denial.MISSING_CLAIM),
        ({"scope": ["model:read"]}, Denial.MISSING_CLAIM),
    ],
)  # fmt: skip
def test_every_wrong_claim_has_its_own_reason(place, changed, code):
    # PyJWT refuses to make some of these, so only signing is left to it.
    payload = json.dumps(place.claims(**changed)).encode()
    token = jwt.PyJWS().encode(payload, place.private(), "EdDSA", {"kid": place.kid()})
    assert place.denied(token) is code


def test_two_machines_may_differ_by_half_a_minute(place):
    assert place.recognise(place.token(iat=NOW + 30, nbf=NOW + 30)).name == "jane"


def test_an_unsigned_token_is_refused_however_none_is_spelt(place):
    body = place.token().split(".")[1]
    for word in ("none", "None", "nOnE", "NONE"):
        header = base64.urlsafe_b64encode(
            json.dumps({"alg": word, "kid": place.kid(), "typ": "JWT"}).encode()
        ).rstrip(b"=")
        assert place.denied(f"{header.decode()}.{body}.") is Denial.ALGORITHM_NONE


@pytest.mark.parametrize("kind", [[], {}, ["JWT"], 1, None, "JWS"])
def test_a_header_of_another_form_is_malformed_and_no_defect(place, kind):
    made = json.dumps({"alg": "EdDSA", "kid": place.kid(), "typ": kind}).encode()
    header = base64.urlsafe_b64encode(made).rstrip(b"=").decode()
    rest = place.token().partition(".")[2]
    assert place.denied(f"{header}.{rest}") is Denial.MALFORMED_TOKEN


def test_a_public_key_used_as_a_shared_secret_is_refused(place):
    public = (
        place.private().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    )  # PyJWT itself refuses the PEM form as a secret
    assert place.denied(place.token(public, "HS256")) is Denial.WRONG_ALGORITHM


def test_the_key_decides_the_algorithm_whatever_the_header_says(place):
    assert place.denied(place.token(RSA, "RS256")) is Denial.WRONG_ALGORITHM
    theirs = {"kid": "theirs"}
    ours = place.token(header=theirs, iss="https://login.example")
    assert place.denied(ours) is Denial.WRONG_ALGORITHM


def test_another_issuers_token_is_taken_by_its_own_key_only(place):
    theirs = {"kid": "theirs"}
    token = place.token(RSA, "RS256", theirs, iss="https://login.example", sub="ops")
    assert place.recognise(token).name == "ops"
    assert place.denied(place.token(RSA, "RS256", theirs)) is Denial.WRONG_ISSUER
    other = generate_private_key(65_537, 2_048)
    forged = place.token(other, "RS256", theirs, iss="https://login.example")
    assert place.denied(forged) is Denial.WRONG_SIGNATURE


def test_another_persons_key_and_an_unknown_key_are_refused(place):
    stranger = Ed25519PrivateKey.generate()
    assert place.denied(place.token(stranger)) is Denial.WRONG_SIGNATURE
    assert place.denied(place.token(header={"kid": "f" * 64})) is Denial.UNKNOWN_KEY
    assert place.denied(place.token(header={"kid": "curve"})) is Denial.UNKNOWN_KEY


@pytest.mark.parametrize("header", [
    {"jwk": {"kty": "OKP"}}, {"jku": "https://evil.example/keys"}, {"x5u": "x"}, {"crit": ["exp"]},
])  # fmt: skip
def test_a_token_that_brings_its_own_key_is_refused(place, header):
    assert place.denied(place.token(header=header)) is Denial.MALFORMED_TOKEN


@settings(max_examples=200)
@given(data=st.data())
def test_no_token_with_one_character_changed_is_recognised(template, data):
    place = Place.__new__(Place)
    place.clock = FixedClock(T0)
    place.keys = TokenKeys(template / "desk/keys/tokens.json", template / "private", "assay:desk")
    place.folder = template
    place.log = AccessLog(template / "none.jsonl", place.clock)
    place.policy = load_access(template / "desk/access.yaml")
    place.authenticator = place.opened()
    token = place.token()
    position = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters(max_codepoint=255).filter(lambda c: c != token[position]))
    with pytest.raises(AccessDenied):
        place.recognise(token[:position] + letter + token[position + 1 :])


@pytest.mark.parametrize("token", [
    "zz", "a.b", "a.b.c.d", "...", "e30.e30.e30", "é.é.é", "\udc80.a.b", "W10.e30.AA", "x" * 9_000,
    "eyJhIjoxLCJhIjoyfQ.e30.AA",
])  # fmt: skip
def test_what_is_no_token_is_said_to_be_none(place, token):
    assert place.denied(token) is Denial.MALFORMED_TOKEN


def test_a_key_that_stands_twice_in_the_claims_is_refused():
    header = base64.urlsafe_b64encode(b'{"alg":"EdDSA","kid":"k"}').rstrip(b"=").decode()
    claims = base64.urlsafe_b64encode(b'{"sub":"jane","sub":"ops"}').rstrip(b"=").decode()
    with pytest.raises(AccessDenied, match="one JSON object"):
        parse_token(f"{header}.{claims}.AA")


def test_a_revoked_token_ends_at_once_also_where_it_was_verified_before(place):
    token = place.token()
    assert place.recognise(token).name == "jane"
    elsewhere = Revocations(place.folder / "desk/keys/revoked.jsonl")
    elsewhere.add(Revocation(T0, "ops", "it leaked", token_id="1"))
    assert place.denied(token) is Denial.REVOKED
    assert place.recognise(place.token(jti="2")).name == "jane"


def test_revoking_a_user_ends_every_token_until_then_and_none_after(place):
    place.authenticator.revocations.add(Revocation(T0, "ops", "laptop lost", subject="jane"))
    assert place.denied(place.token()) is Denial.REVOKED
    assert place.recognise(place.token(sub="ops")).name == "ops"
    place.clock.advance(2 * SECOND)
    assert place.recognise(place.token(iat=NOW + 1)).name == "jane"


def test_a_list_of_revocations_that_cannot_be_read_lets_nobody_in(place):
    path = place.folder / "desk/keys/revoked.jsonl"
    path.write_bytes(b"{}\n")
    with pytest.raises(Tampered, match="line 1"):
        place.recognise(place.token())
    path.write_bytes(b'{"at":"2023')  # a writer that died: nothing was acknowledged
    assert place.recognise(place.token()).name == "jane"
    place.authenticator.revocations.add(Revocation(T0, "ops", "it leaked", token_id="1"))
    assert place.denied(place.token()) is Denial.REVOKED


@pytest.mark.parametrize(("given", "problem"), [
    ({}, "one token or one user"), ({"token_id": "1", "subject": "x"}, "one token or one user"),
    ({"token_id": "1", "reason": " "}, "needs a reason"),
])  # fmt: skip
def test_a_revocation_says_what_and_why(given, problem):
    with pytest.raises(ContractViolation, match=problem):
        Revocation(**{"at": T0, "by": "ops", "reason": "why", **given})


def test_a_rotation_signs_with_the_new_key_and_keeps_the_old_tokens_good(place):
    old = place.token()
    first = place.kid()
    second = place.keys.rotate(T0 + 1).key_id
    issued = place.authenticator.issue(place.policy.user("jane"), 60, by="jane")
    assert jwt.get_unverified_header(issued.text)["kid"] == second != first
    assert place.recognise(old).name == place.recognise(issued.text).name == "jane"
    place.keys.rotate(T0 + 2, retire=first[:12], reason="stolen")
    assert place.denied(old) is Denial.RETIRED_KEY
    assert place.recognise(issued.text).name == "jane"
    with pytest.raises(NotFound, match="could be retired"):
        place.keys.rotate(T0 + 3, retire="zz")


def test_private_halves_are_readable_by_their_owner_alone_and_never_in_the_desk(place):
    for path in (place.folder / "private").glob("*.pem"):
        assert path.stat().st_mode & 0o777 == 0o600
    inside = TokenKeys(
        place.folder / "desk/keys/tokens.json", place.folder / "desk/private", "assay:desk"
    )
    with pytest.raises(ConfigurationError, match="inside the desk"):
        inside.rotate(T0)


def test_without_the_private_half_here_nothing_is_issued(place):
    shutil.rmtree(place.folder / "private")
    with pytest.raises(Unavailable, match="not on this machine"):
        place.authenticator.issue(place.policy.user("jane"), 60, by="jane")
    (place.folder / "desk/keys/tokens.json").unlink()
    with pytest.raises(Unavailable, match="no key to sign"):
        place.keys.signing_key()


def test_a_user_who_left_is_refused_with_a_token_that_was_good(place):
    token = place.token()
    assert place.recognise(token).name == "jane"
    (place.folder / "desk/access.yaml").write_text("users:\n  ops: {roles: [mlops]}\n")
    place.policy = load_access(place.folder / "desk/access.yaml")
    assert place.denied(token) is Denial.UNKNOWN_USER


def test_a_key_set_with_a_short_key_is_refused(place):
    short = generate_private_key(65_537, 1_024).public_key().public_numbers()
    keys = {"keys": [{"kty": "RSA", "kid": "k", "n": place.octets(short.n), "e": "AQAB"}]}
    (place.folder / "desk/keys/other.json").write_text(json.dumps(keys))
    with pytest.raises(ConfigurationError, match="too short"):
        place.recognise(place.token(header={"kid": "k"}))
