"""Who may sign what: private keys outside the desk, public keys and a trust policy inside it.

``keys/trust.json`` lists every public key with the identity it stands for, the purposes it may
sign for, and whether it is revoked. A key's id is the SHA-256 of its public half, so a public key
that was exchanged for another no longer answers to its id. The policy is read again at every
check: a revocation counts from the next one, without a restart.

A key ends in one of two ways. One that was *retired* signs nothing any more, and what it signed
before stays good. One that was *revoked* vouches for nothing it ever signed: who stole it can
backdate.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from assay.domain.instants import Instant, parse, render
from assay.errors import ConfigurationError, Conflict, ContractViolation, Tampered, Unavailable
from assay.registry.signing import (
    PAYLOAD_TYPE,
    Envelope,
    Statement,
    key_id_of,
    pre_authentication_encoding,
    sign_statement,
)
from assay.registry.succession import record_succession
from assay.storage.files import sync_directory, write_atomic
from assay.storage.locks import FileLock

VERSION = "version"
PROMOTION = "promotion"
APPROVAL = "approval"
LOG_HEAD = "log_head"
SERVICE = "service"
PACK = "pack"
CONFIGURATION = "configuration"
PURPOSES = (VERSION, PROMOTION, APPROVAL, LOG_HEAD, SERVICE, PACK, CONFIGURATION)
"""What a key may be trusted to sign."""

IDENTITY = "identity"
"""A statement that says who is there now. Every key in force may sign one, and it gives nothing."""

COUNTERSIGNATURE = "countersignature"
"""Vouches for what was signed with a key that was revoked since."""
ACKNOWLEDGEMENT = "acknowledgement"
"""Names entries that a log is known to have lost."""
_COVERED = {COUNTERSIGNATURE: PROMOTION, ACKNOWLEDGEMENT: LOG_HEAD}
"""Purposes that no policy lists -> whoever may sign for this one may sign for them."""

_IDENTITY = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
_TRUST_FORMAT = 1


def check_identity(identity: str) -> str:
    """Return ``identity`` when it is a legal one: it names a person or a service, and a file."""
    if not _IDENTITY.fullmatch(identity):
        raise ContractViolation(
            f"identity {identity!r}: expected up to 64 lower-case letters, digits or . _ @ + -, "
            "such as jane.doe@desk.example"
        )
    return identity


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One line of the trust policy.

    ``revoked`` is the reason, ``retired`` the moment; both are None while the key is in force.
    """

    key_id: str
    identity: str
    may_sign: tuple[str, ...]
    public_key: str
    revoked: str | None = None
    retired: Instant | None = None

    @property
    def in_force(self) -> bool:
        return self.revoked is None and self.retired is None

    def to_json(self) -> dict[str, Any]:
        return {
            "key_id": self.key_id,
            "identity": self.identity,
            "may_sign": list(self.may_sign),
            "public_key": self.public_key,
            "revoked": self.revoked,
            "retired": None if self.retired is None else render(self.retired),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TrustedKey:
        unknown = set(document["may_sign"]) - set(PURPOSES)
        if unknown:
            raise ContractViolation(f"may_sign {sorted(unknown)}: expected some of {PURPOSES}")
        if Path(document["public_key"]).name != document["public_key"]:
            raise ContractViolation(f"public_key {document['public_key']!r}: expected a file name")
        return cls(
            key_id=document["key_id"],
            identity=check_identity(document["identity"]),
            may_sign=tuple(document["may_sign"]),
            public_key=document["public_key"],
            revoked=document["revoked"],
            # Absent from policies that were written before keys could be retired.
            retired=parse(document["retired"]) if document.get("retired") else None,
        )


@dataclass(frozen=True, slots=True)
class Attestation:
    """A statement whose signature holds, and who made it."""

    statement: Statement
    identity: str
    key_id: str


class RevokedKey(Tampered):
    """A signature holds, and its key was revoked since: it vouches for nothing.

    Parameters
    ----------
    made: what was signed, for whoever keeps or shows it without believing it.
    """

    def __init__(self, key: TrustedKey, made: Attestation) -> None:
        super().__init__(
            f"signed by {key.identity} with key {key.key_id[:12]}, which is revoked: {key.revoked}"
        )
        self.made = made


class UnknownKey(Tampered):
    """Signed with a key that the policy does not name: whether the signature holds is not known."""


class KeyRing:
    """Signs and verifies statements.

    Parameters
    ----------
    public_dir: the desk's ``keys/`` folder: public keys and ``trust.json``.
    private_dir: where private keys lie (``<identity>.pem``); None for a reader who only verifies.
    """

    def __init__(self, public_dir: Path, private_dir: Path | None = None) -> None:
        self.public_dir = public_dir
        self.private_dir = private_dir

    def keys(self) -> tuple[TrustedKey, ...]:
        """The trust policy, as it is on disk now."""
        path = self.public_dir / "trust.json"
        try:
            document = json.loads(path.read_bytes())
            if document["format"] != _TRUST_FORMAT:
                raise ContractViolation(f"format {document['format']}: expected {_TRUST_FORMAT}")
            keys = tuple(TrustedKey.from_json(item) for item in document["keys"])
        except FileNotFoundError:
            raise ConfigurationError(
                f"no trust policy at {path}: no signature can be checked",
                hint="assay init creates keys and the policy",
            ) from None
        except (ValueError, KeyError, TypeError, ContractViolation) as error:
            raise ConfigurationError(f"trust policy {path} cannot be read: {error}") from None
        if len({key.key_id for key in keys}) != len(keys):
            # Two identities on one key would let one person approve as two.
            raise ConfigurationError(f"trust policy {path} lists one key more than once")
        return keys

    def key_of(self, identity: str) -> TrustedKey | None:
        """The key in force for an identity, or None."""
        good = (k for k in self.keys() if k.identity == identity and k.in_force)
        return next(good, None)

    def can_sign(self, identity: str, purpose: str) -> bool:
        """Whether this process holds a private key of ``identity`` trusted for ``purpose``."""
        key = self.key_of(identity)
        return (
            key is not None
            and _allows(key, purpose)
            and self.private_dir is not None
            and (self.private_dir / f"{identity}.pem").exists()
        )

    def sign(self, identity: str, statement: Statement) -> Envelope:
        """Sign as ``identity``, if the policy lets that identity sign for this purpose.

        Raises
        ------
        Unavailable: no private key of that identity is here, or the policy does not know it.
        Tampered: the key's file can be read by others, or is not the one the policy trusts.
        """
        trusted = self.key_of(identity)
        if trusted is None:
            raise Unavailable(
                f"{identity} has no key in force in {self.public_dir / 'trust.json'}",
                hint="assay init creates keys; a revoked key needs a new one",
            )
        if not _allows(trusted, statement.purpose):
            raise Unavailable(
                f"{identity} may sign {', '.join(trusted.may_sign) or 'nothing'}, "
                f"not {statement.purpose}",
                hint=f"may_sign in {self.public_dir / 'trust.json'} says who may",
            )
        if self.private_dir is None:
            raise Unavailable(f"no private keys here: cannot sign as {identity}")
        private = load_private_key(self.private_dir / f"{identity}.pem")
        if key_id_of(private.public_key()) != trusted.key_id:
            raise Tampered(
                f"private key of {identity} in {self.private_dir} is not the one that the desk "
                f"trusts ({trusted.key_id[:12]})",
                hint=f"assay keys rotate {identity} lets the desk trust the one that is there",
            )
        return sign_statement(statement, private, trusted.key_id)

    def verify(self, envelope: Envelope, purpose: str, *, at: Instant | None = None) -> Attestation:
        """The statement inside an envelope, when a trusted key made it for this purpose.

        Parameters
        ----------
        at: when the log says that it was made; None where nothing says so, as for a version that
            comes from elsewhere.

        Raises
        ------
        Tampered: retired or not allowed key; wrong signature; statement of another purpose. Each
            has its own message.
        UnknownKey: the policy does not name the key; a Tampered too.
        RevokedKey: all that holds, but the key was revoked since; a Tampered too.
        """
        by_id = {key.key_id: key for key in self.keys()}
        trusted = by_id.get(envelope.key_id)
        if trusted is None:
            raise UnknownKey(f"signed by unknown key {envelope.key_id[:12]!r}")
        if trusted.retired is not None and at is not None and at >= trusted.retired:
            raise Tampered(
                f"signed by {trusted.identity} with key {trusted.key_id[:12]}, which had been "
                f"retired at {render(trusted.retired)}"
            )
        try:
            self.public_key(trusted).verify(
                envelope.signature, pre_authentication_encoding(PAYLOAD_TYPE, envelope.body)
            )
        except InvalidSignature:
            raise Tampered(
                f"wrong signature: not made by key {trusted.key_id[:12]} of {trusted.identity}"
            ) from None
        statement = Statement.from_bytes(envelope.body)
        if statement.purpose != purpose:
            raise Tampered(f"a statement about a {statement.purpose}, expected one for {purpose}")
        if not _allows(trusted, purpose):
            raise Tampered(f"signed by {trusted.identity}, who may not sign for {purpose}")
        made = Attestation(statement, trusted.identity, trusted.key_id)
        if trusted.revoked is not None:
            raise RevokedKey(trusted, made)
        return made

    def public_key(self, trusted: TrustedKey) -> Ed25519PublicKey:
        """The public half of a key of the policy.

        Raises
        ------
        Tampered: it is missing, or another one.
        """
        path = self.public_dir / trusted.public_key
        try:
            key = load_pem_public_key(path.read_bytes())
        except FileNotFoundError:
            raise Tampered(f"public key {path} of {trusted.identity} is missing") from None
        except (ValueError, UnsupportedAlgorithm) as error:
            raise Tampered(f"public key {path} cannot be read: {error}") from None
        if not isinstance(key, Ed25519PublicKey) or key_id_of(key) != trusted.key_id:
            raise Tampered(f"public key {path} is not key {trusted.key_id[:12]} of the policy")
        return key


def _allows(key: TrustedKey, purpose: str) -> bool:
    return purpose == IDENTITY or _COVERED.get(purpose, purpose) in key.may_sign


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key that only its owner can read.

    Raises
    ------
    Unavailable: there is none. Tampered: others can read it, or it is no Ed25519 key.
    """
    try:
        with path.open("rb") as handle:
            mode = os.fstat(handle.fileno()).st_mode & 0o777
            data = handle.read()
    except FileNotFoundError:
        raise Unavailable(f"no private key {path}", hint="assay init creates keys") from None
    if mode & 0o077:
        raise Tampered(
            f"private key {path} has mode {mode:04o}: others can read it, expected 0600",
            hint=f"chmod 600 {path}, and make a new key if anyone may have seen this one",
        )
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Tampered(f"private key {path} cannot be read: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Tampered(f"private key {path} is not an Ed25519 key")
    return key


def create_key(
    identity: str, private_dir: Path, public_dir: Path, may_sign: Sequence[str] = PURPOSES
) -> TrustedKey:
    """Make a key for ``identity`` and let the desk trust it; an existing key is used again.

    Calling it twice changes nothing. A private key that another desk made for the same identity
    is taken over: a person has one key, and each desk trusts its public half.

    Raises
    ------
    ConfigurationError: the private key would lie inside the desk.
    Conflict: the desk trusts another key of this identity.
    """
    check_identity(identity)
    _check_purposes(may_sign)
    desk = public_dir.absolute().parent
    if private_dir.resolve().is_relative_to(desk.resolve()):
        raise ConfigurationError(
            f"private keys in {private_dir} would lie inside the desk {desk}",
            hint="keep them in your configuration folder, for example ~/.config/assay/keys",
        )
    private_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    private_path = private_dir / f"{identity}.pem"
    with FileLock(private_dir / ".lock"), FileLock(public_dir / ".lock"):
        if not private_path.exists():
            write_atomic(private_path, _pem_of(Ed25519PrivateKey.generate()), mode=0o600)
        public = load_private_key(private_path).public_key()
        wanted = TrustedKey(key_id_of(public), identity, tuple(may_sign), f"{identity}.pem")
        return _trust(public_dir, wanted, public)


def revoke_key(public_dir: Path, key_id: str, reason: str) -> None:
    """Stop trusting a key, for everything it ever signed: a stolen key can backdate."""
    with FileLock(public_dir / ".lock"):
        keys = KeyRing(public_dir).keys()
        if key_id not in {key.key_id for key in keys}:
            raise ConfigurationError(f"key {key_id[:12]!r} is not in the trust policy")
        _write_trust(
            public_dir,
            [replace(one, revoked=reason) if one.key_id == key_id else one for one in keys],
        )


def rotate_key(
    identity: str, private_dir: Path, public_dir: Path, now: Instant
) -> tuple[TrustedKey, TrustedKey | None]:
    """Give an identity a new key; the one in force is retired. Returns the new and the old one.

    Where the private key at hand is another than the desk trusts (it was rotated for another desk),
    that one is the new key. The private half of a retired key is removed, after it has named its
    successor (:mod:`~assay.registry.succession`). A rotation that was killed is finished by the
    next.

    Raises
    ------
    ConfigurationError: the identity has no key to rotate.
    """
    check_identity(identity)
    path, coming = private_dir / f"{identity}.pem", private_dir / f"{identity}.next.pem"
    with FileLock(private_dir / ".lock"), FileLock(public_dir / ".lock"):
        present = KeyRing(public_dir).keys()
        mine = [key for key in present if key.identity == identity]
        if not mine:
            raise ConfigurationError(
                f"{identity} has no key in {public_dir / 'trust.json'}",
                hint=f"assay keys create {identity}",
            )
        known = {key.key_id for key in mine}
        old = next((key for key in mine if key.in_force), None)
        if coming.exists() and old and key_id_of(load_private_key(coming).public_key()) in known:
            _take_place(identity, path, coming)  # killed after the desk trusted it
            return old, None
        fresh = load_private_key(path) if path.exists() else Ed25519PrivateKey.generate()
        if key_id_of(fresh.public_key()) in known:
            fresh = Ed25519PrivateKey.generate()
        write_atomic(coming, _pem_of(fresh), mode=0o600)
        public = fresh.public_key()
        new = TrustedKey(
            key_id_of(public),
            identity,
            (old or mine[-1]).may_sign,
            f"{identity}.{key_id_of(public)[:12]}.pem",
        )
        _write_public(public_dir, new, public)
        _write_trust(
            public_dir,
            [*(replace(one, retired=now) if one is old else one for one in present), new],
        )
        _take_place(identity, path, coming)
        return new, old


def _take_place(identity: str, path: Path, coming: Path) -> None:
    """Put a new private key where the old one is, which names it as its last deed."""
    new = load_private_key(coming).public_key()
    old = load_private_key(path) if path.exists() else None
    if old is not None and key_id_of(old.public_key()) != key_id_of(new):
        record_succession(path.parent, identity, old, new)
    coming.replace(path)
    sync_directory(path.parent)


def trust_key(identity: str, pem: bytes, public_dir: Path, may_sign: Sequence[str]) -> TrustedKey:
    """Let the desk trust the public half of somebody's key, whose private half is elsewhere.

    Raises
    ------
    ContractViolation: it is no Ed25519 public key. Conflict: the desk trusts another key of this
    identity, or this key for another identity.
    """
    check_identity(identity)
    _check_purposes(may_sign)
    try:
        public = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ContractViolation(f"not a public key in PEM form: {error}") from None
    if not isinstance(public, Ed25519PublicKey):
        raise ContractViolation(f"a key of type {type(public).__name__}: expected Ed25519")
    wanted = TrustedKey(key_id_of(public), identity, tuple(may_sign), f"{identity}.pem")
    with FileLock(public_dir / ".lock"):
        return _trust(public_dir, wanted, public)


def _trust(public_dir: Path, wanted: TrustedKey, public: Ed25519PublicKey) -> TrustedKey:
    present = KeyRing(public_dir).keys() if (public_dir / "trust.json").exists() else ()
    same = next((key for key in present if key.key_id == wanted.key_id), None)
    if same is not None and same.identity == wanted.identity and same.in_force:
        return same
    if same is not None and same.identity != wanted.identity:
        raise Conflict(f"the desk trusts key {same.key_id[:12]} as that of {same.identity}")
    for key in reversed(present):
        if key.identity == wanted.identity:
            ended = "a revoked key" if key.revoked else "a retired key" if key.retired else None
            raise Conflict(
                f"the desk has {ended or 'another key'} of {wanted.identity}: {key.key_id[:12]}",
                hint=f"restore the private key it belongs to, or assay keys rotate {key.identity}",
            )
    _write_public(public_dir, wanted, public)
    _write_trust(public_dir, [*present, wanted])
    return wanted


def _check_purposes(may_sign: Sequence[str]) -> None:
    unknown = set(may_sign) - set(PURPOSES)
    if unknown:
        raise ContractViolation(f"may_sign {sorted(unknown)}: expected some of {PURPOSES}")


def _pem_of(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_public(public_dir: Path, trusted: TrustedKey, public: Ed25519PublicKey) -> None:
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_atomic(public_dir / trusted.public_key, pem)


def _write_trust(public_dir: Path, keys: Sequence[TrustedKey]) -> None:
    document = {"format": _TRUST_FORMAT, "keys": [key.to_json() for key in keys]}
    write_atomic(public_dir / "trust.json", (json.dumps(document, indent=2) + "\n").encode())
