"""JSON Web Tokens, as little of them as is needed: EdDSA and RS256, signed, never encrypted.

1. The key that a token names decides the algorithm. The token's header may only agree, so neither
   ``none`` nor a public key used as a shared secret verifies.
2. A header holds ``alg``, ``kid`` and ``typ``; a token that brings its own key, or a link to one,
   or anything else, is refused.
3. Every part has exactly one spelling: base64url without padding or loose bits, JSON without keys
   that stand twice.

RFC 7515 (compact serialization), RFC 7519 (claims), RFC 8037 (EdDSA), RFC 8725 (best practice).
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from assay.access.denials import AccessDenied, Denial
from assay.domain.canonical import canonical_bytes
from assay.domain.instants import NANOS_PER_SECOND, Instant

EDDSA, RS256 = "EdDSA", "RS256"
MOST_CHARACTERS = 8_192
LEEWAY_SECONDS = 30
"""How far a token may lie in the future: two machines rarely agree to the second."""

PublicKey: TypeAlias = Ed25519PublicKey | RSAPublicKey
_HEADER = frozenset({"alg", "kid", "typ"})
_TYPES = frozenset({"JWT", "at+jwt"})


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says. Times are whole seconds since the epoch, UTC.

    ``scopes`` is None where the token says nothing about them: then the roles of its subject
    decide alone.
    """

    issuer: str
    audience: tuple[str, ...]
    subject: str
    token_id: str
    issued_at: int
    not_before: int
    expires_at: int
    scopes: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The claims under their registered names."""
        document: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience[0] if len(self.audience) == 1 else list(self.audience),
            "sub": self.subject,
            "jti": self.token_id,
            "iat": self.issued_at,
            "nbf": self.not_before,
            "exp": self.expires_at,
        }
        if self.scopes is not None:
            document["scope"] = " ".join(self.scopes)
        return document


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key that tokens are checked with. ``issuer`` is who may sign with it."""

    key_id: str
    issuer: str
    algorithm: str
    public: PublicKey = field(repr=False)

    def verify(self, signature: bytes, signed: bytes) -> bool:
        """Whether the signature over ``signed`` was made with this key."""
        try:
            if isinstance(self.public, Ed25519PublicKey):
                self.public.verify(signature, signed)
            else:
                self.public.verify(signature, signed, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True


def sign_token(claims: Claims, key_id: str, key: Ed25519PrivateKey) -> str:
    """A token with these claims."""
    header = {"alg": EDDSA, "kid": key_id, "typ": "JWT"}
    signed = b".".join(_encoded(canonical_bytes(part)) for part in (header, claims.to_json()))
    return (signed + b"." + _encoded(key.sign(signed))).decode("ascii")


@dataclass(frozen=True, slots=True)
class ParsedToken:
    """A token taken apart; nothing about it has been checked but its form."""

    algorithm: str
    key_id: str
    claims: dict[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse_token(token: str) -> ParsedToken:
    """Take a token apart.

    Raises
    ------
    AccessDenied: it has another form, or is not signed. The message never repeats it.
    """
    if len(token) > MOST_CHARACTERS:
        raise _malformed(f"it has more than {MOST_CHARACTERS} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise _malformed(f"it has {len(parts)} parts, expected 3")
    header, claims = (_object(_decoded(part)) for part in parts[:2])
    algorithm = header.get("alg")
    if isinstance(algorithm, str) and algorithm.lower() == "none":
        raise AccessDenied(Denial.ALGORITHM_NONE, "the token is not signed (algorithm none)")
    kind = header.get("typ", "JWT")
    if set(header) - _HEADER or not isinstance(kind, str) or kind not in _TYPES:
        raise _malformed("its header says more than algorithm, key and type")
    key_id = header.get("kid")
    if not isinstance(algorithm, str) or not isinstance(key_id, str):
        raise _malformed("its header names no algorithm or no key")
    signed = f"{parts[0]}.{parts[1]}".encode("ascii")
    return ParsedToken(algorithm, key_id, claims, signed, _decoded(parts[2]))


def check_token(parsed: ParsedToken, key: VerifyingKey) -> Claims:
    """The claims of a token whose algorithm, signature and issuer are those of its key.

    Raises
    ------
    AccessDenied: the algorithm or the signature is wrong, a claim is missing, or another issuer
        is named than the one whose key this is.
    """
    if parsed.algorithm != key.algorithm:
        raise AccessDenied(
            Denial.WRONG_ALGORITHM,
            f"the token says algorithm {parsed.algorithm[:16]!r}, its key is for {key.algorithm}",
        )
    if not key.verify(parsed.signature, parsed.signed):
        raise AccessDenied(
            Denial.WRONG_SIGNATURE, "the token was altered, or not signed by the key it names"
        )
    claims = _claims(parsed.claims)
    if claims.issuer != key.issuer:
        raise AccessDenied(
            Denial.WRONG_ISSUER, f"the token's issuer is {claims.issuer!r}, not {key.issuer!r}"
        )
    return claims


def check_moment(claims: Claims, audience: str, now: Instant) -> None:
    """Refuse a token for somebody else, or outside of its time.

    Raises
    ------
    AccessDenied: wrong audience, expired, or not valid yet.
    """
    if audience not in claims.audience:
        raise AccessDenied(
            Denial.WRONG_AUDIENCE,
            f"the token is for {', '.join(claims.audience)!r}, not for {audience!r}",
        )
    if now >= claims.expires_at * NANOS_PER_SECOND:
        raise AccessDenied(
            Denial.EXPIRED, "the token has expired", hint="assay access login gives a new one"
        )
    if now < (max(claims.not_before, claims.issued_at) - LEEWAY_SECONDS) * NANOS_PER_SECOND:
        raise AccessDenied(
            Denial.NOT_YET_VALID, "the token is not valid yet", hint="compare the machines' clocks"
        )


def _claims(document: dict[str, Any]) -> Claims:
    audience = document.get("aud")
    if isinstance(audience, str):
        audience = [audience]
    texts = [document.get(name) for name in ("iss", "sub", "jti")]
    times = [document.get(name) for name in ("iat", "nbf", "exp")]
    scope = document.get("scope")
    if (
        not all(isinstance(item, str) and item for item in texts)
        or not all(type(item) is int and abs(item) < 2**40 for item in times)
        or not isinstance(audience, list)
        or not all(isinstance(item, str) for item in audience)
        or not (scope is None or isinstance(scope, str))
    ):
        raise AccessDenied(
            Denial.MISSING_CLAIM,
            "the token lacks a claim, or has one of another kind: expected iss, aud, sub and jti "
            "as text, iat, nbf and exp as whole seconds",
        )
    issuer, subject, token_id = (str(item) for item in texts)
    issued_at, not_before, expires_at = (int(item or 0) for item in times)
    scopes = None if scope is None else tuple(scope.split())
    return Claims(
        issuer, tuple(audience), subject, token_id, issued_at, not_before, expires_at, scopes
    )


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decoded(part: str) -> bytes:
    try:
        raw = part.encode("ascii")
        data = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise _malformed("a part is not base64url") from None
    if _encoded(data) != raw:
        raise _malformed("a part is not in its one base64url form")
    return data


def _object(data: bytes) -> dict[str, Any]:
    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=distinct)
    except (ValueError, RecursionError):
        raise _malformed("a part is not one JSON object") from None
    if not isinstance(document, dict):
        raise _malformed("a part is not one JSON object")
    return document


def _malformed(why: str) -> AccessDenied:
    return AccessDenied(Denial.MALFORMED_TOKEN, f"this is no token: {why}")
