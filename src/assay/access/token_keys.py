"""The desk's own keys for tokens: one signs, every one that is not retired verifies.

``keys/tokens.json`` lists the public halves; private ones lie outside of the desk, like people's.
A rotation adds a key and signs with it from then on, and tokens of the key before stay good until
they expire or that key is retired. Another issuer's keys may be added as a JWKS file (RFC 7517);
of those only RSA keys for RS256 and Ed25519 keys for EdDSA are taken.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from assay.access.denials import AccessDenied, Denial
from assay.access.tokens import EDDSA, RS256, VerifyingKey
from assay.domain.instants import Instant, parse, render
from assay.errors import AssayError, ConfigurationError, NotFound, Unavailable
from assay.registry.keyring import load_private_key
from assay.registry.signing import key_id_of
from assay.storage.files import write_atomic
from assay.storage.locks import FileLock

_FORMAT = 1
_LEAST_RSA_BITS = 2_048


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One key of the desk. ``retired`` is the reason, or None while its tokens are good."""

    key_id: str
    public_pem: str
    created_at: Instant
    retired: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "key_id": self.key_id,
            "public_key": self.public_pem,
            "created_at": render(self.created_at),
            "retired": self.retired,
        }


@dataclass(frozen=True, slots=True)
class OtherIssuer:
    """Whose tokens are taken beside the desk's own: a name, and the path of its JWKS file."""

    name: str
    keys: Path


def file_state(path: Path) -> tuple[int, int, int]:
    """Changes whenever a file is replaced or written to; zeros while there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


class TokenKeys:
    """Keys that sign and verify tokens.

    Parameters
    ----------
    path: ``keys/tokens.json`` of the desk.
    private_dir: where the private halves lie; outside of the desk.
    issuer: what the desk calls itself in tokens.
    other: another issuer whose tokens count.
    """

    def __init__(
        self, path: Path, private_dir: Path, issuer: str, other: OtherIssuer | None = None
    ) -> None:
        self._path = path
        self._private_dir = private_dir
        self.issuer = issuer
        self._other = other
        if other is not None and other.name == issuer:
            raise ConfigurationError(f"the other issuer is called {issuer!r}, like the desk itself")

    def state(self) -> tuple[tuple[int, int, int], ...]:
        """Changes whenever a key file does."""
        paths = [self._path] + ([] if self._other is None else [self._other.keys])
        return tuple(file_state(path) for path in paths)

    def listed(self) -> tuple[TokenKey, ...]:
        """The desk's keys, oldest first; none before the first rotation."""
        try:
            document = json.loads(self._path.read_bytes())
            if document["format"] != _FORMAT:
                raise ValueError(f"format {document['format']}: expected {_FORMAT}")
            return tuple(
                TokenKey(
                    item["key_id"], item["public_key"], parse(item["created_at"]), item["retired"]
                )
                for item in document["keys"]
            )
        except FileNotFoundError:
            return ()
        except (ValueError, KeyError, TypeError, AssayError) as error:
            raise ConfigurationError(f"token keys {self._path} cannot be read: {error}") from None

    def find(self, key_id: str) -> VerifyingKey:
        """The key that a token names.

        Raises
        ------
        AccessDenied: nobody trusts that key, or it is retired.
        """
        for key in self.listed():
            if key.key_id == key_id:
                if key.retired is not None:
                    raise AccessDenied(
                        Denial.RETIRED_KEY, f"the token's key is retired: {key.retired}"
                    )
                return VerifyingKey(key_id, self.issuer, EDDSA, self._public(key))
        if self._other is not None:
            found = read_key_set(self._other.keys, self._other.name).get(key_id)
            if found is not None:
                return found
        raise AccessDenied(
            Denial.UNKNOWN_KEY, f"the token names key {key_id[:16]!r}, which nobody trusts"
        )

    def signing_key(self) -> tuple[str, Ed25519PrivateKey]:
        """The id and private half of the key that signs now: the newest that is not retired.

        Raises
        ------
        Unavailable: there is none, or its private half is not on this machine.
        """
        usable = [key for key in self.listed() if key.retired is None]
        if not usable:
            raise Unavailable(
                "the desk has no key to sign tokens with", hint="assay access rotate makes one"
            )
        key_id = usable[-1].key_id
        try:
            return key_id, load_private_key(self._private_dir / f"{key_id}.pem")
        except Unavailable:
            raise Unavailable(
                f"the key that signs tokens ({key_id[:12]}) is not on this machine",
                hint="log in to the registry's server with --server URL, "
                "or make a key here: assay access rotate",
            ) from None

    def rotate(self, now: Instant, *, retire: str | None = None, reason: str = "") -> TokenKey:
        """Add a key, which signs from now on.

        Parameters
        ----------
        retire: the id (or its beginning) of a key whose tokens stop counting at once.
        reason: why it is retired.

        Raises
        ------
        NotFound: no key has that id. ConfigurationError: the private key would lie in the desk.
        """
        desk = self._path.absolute().parents[1].resolve()
        if self._private_dir.resolve().is_relative_to(desk):
            raise ConfigurationError(
                f"private keys in {self._private_dir} would lie inside the desk {desk}",
                hint="keep them in your configuration folder",
            )
        self._private_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(self._path.with_name(self._path.name + ".lock")):
            keys = [
                TokenKey(key.key_id, key.public_pem, key.created_at, reason or "rotated")
                if retire is not None and key.key_id.startswith(retire)
                else key
                for key in self.listed()
            ]
            if retire is not None and keys == list(self.listed()):
                raise NotFound(f"no key {retire!r} in {self._path} that could be retired")
            private = Ed25519PrivateKey.generate()
            public = private.public_key()
            made = TokenKey(
                key_id_of(public),
                public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
                now,
            )
            pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_atomic(self._private_dir / f"{made.key_id}.pem", pem, mode=0o600)
            document = {"format": _FORMAT, "keys": [key.to_json() for key in [*keys, made]]}
            write_atomic(self._path, (json.dumps(document, indent=2) + "\n").encode())
        return made

    def _public(self, key: TokenKey) -> Ed25519PublicKey:
        try:
            public = load_pem_public_key(key.public_pem.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(f"token key {key.key_id[:12]}: {error}") from None
        if not isinstance(public, Ed25519PublicKey) or key_id_of(public) != key.key_id:
            raise ConfigurationError(
                f"token key {key.key_id[:12]} in {self._path} is not the key of that id"
            )
        return public


def read_key_set(path: Path, issuer: str) -> dict[str, VerifyingKey]:
    """The usable keys of a JWKS file by id.

    Raises
    ------
    ConfigurationError: it is not readable, or holds a key that is too short.
    """
    try:
        document = json.loads(path.read_bytes())
        keys = (_from_jwk(item, issuer) for item in document["keys"])
        return {key.key_id: key for key in keys if key is not None}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"keys of {issuer} in {path} cannot be read: {error}") from None


def _from_jwk(item: Mapping[str, Any], issuer: str) -> VerifyingKey | None:
    if item.get("use", "sig") != "sig" or "kid" not in item:
        return None
    if item["kty"] == "RSA" and item.get("alg", RS256) == RS256:
        modulus, exponent = (int.from_bytes(_octets(item[name])) for name in ("n", "e"))
        public = RSAPublicNumbers(exponent, modulus).public_key()
        if public.key_size < _LEAST_RSA_BITS:
            raise ValueError(f"key {item['kid']} has {public.key_size} bits: too short")
        return VerifyingKey(item["kid"], issuer, RS256, public)
    if item["kty"] == "OKP" and item.get("crv") == "Ed25519":
        raw = Ed25519PublicKey.from_public_bytes(_octets(item["x"]))
        return VerifyingKey(item["kid"], issuer, EDDSA, raw)
    return None


def _octets(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
