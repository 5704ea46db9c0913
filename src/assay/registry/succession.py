"""A key names the one that takes its place, so that other desks can follow without being asked.

A person has one key for all desks, and its private half is removed when it is rotated on one of
them. The others still trust the old key, which nobody holds any more. So the old key signs a last
statement about the new one. It lies beside the private key and holds nothing secret: what counts is
that a key which the desk trusts has signed it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from assay.errors import AssayError
from assay.registry.signing import (
    PAYLOAD_TYPE,
    Envelope,
    Statement,
    key_id_of,
    pre_authentication_encoding,
    sign_statement,
)
from assay.storage.files import append_line, drop_torn_tail

SUCCESSION: Final = "succession"


def record_succession(
    folder: Path, identity: str, old: Ed25519PrivateKey, new: Ed25519PublicKey
) -> None:
    """Let the old key of an identity name the new one, in the folder of its private keys."""
    pem = new.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
    statement = Statement(
        SUCCESSION, {identity: key_id_of(new)}, {"identity": identity, "public_key": pem}
    )
    envelope = sign_statement(statement, old, key_id_of(old.public_key()))
    path = _path(folder, identity)
    drop_torn_tail(path)
    append_line(path, envelope.to_bytes())


def succeeds(
    folder: Path, identity: str, trusted: Ed25519PublicKey, present: Ed25519PublicKey
) -> bool:
    """Whether the key that a desk trusts has named ``present``, directly or key by key."""
    steps = list(_read(_path(folder, identity)))
    key = trusted
    for _ in steps:
        if key_id_of(key) == key_id_of(present):
            return True
        following = (_named(envelope, identity, key) for envelope in reversed(steps))
        found = next((one for one in following if one is not None), None)
        if found is None:
            return False
        key = found
    return key_id_of(key) == key_id_of(present)


def _path(folder: Path, identity: str) -> Path:
    return folder / f"{identity}.succession.jsonl"


def _read(path: Path) -> Iterator[Envelope]:
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            yield Envelope.from_bytes(line)
        except AssayError:
            continue  # it names nobody


def _named(envelope: Envelope, identity: str, by: Ed25519PublicKey) -> Ed25519PublicKey | None:
    """The key that an envelope names, when ``by`` has signed it."""
    if envelope.key_id != key_id_of(by):
        return None
    try:
        by.verify(envelope.signature, pre_authentication_encoding(PAYLOAD_TYPE, envelope.body))
        said = Statement.from_bytes(envelope.body)
        key = load_pem_public_key(said.predicate["public_key"].encode("ascii"))
    except (InvalidSignature, UnsupportedAlgorithm, AssayError, ValueError, KeyError, TypeError,
            AttributeError):  # fmt: skip
        return None
    if said.purpose != SUCCESSION or not isinstance(key, Ed25519PublicKey):
        return None
    return key if dict(said.subjects) == {identity: key_id_of(key)} else None
