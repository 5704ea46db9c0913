"""Signed statements: in-toto Statements in DSSE envelopes, Ed25519.

The signature covers the pre-authentication encoding of DSSE version 1
(https://github.com/secure-systems-lab/dsse/blob/master/protocol.md)::

    "DSSEv1" SP length(type) SP type SP length(body) SP body

so that neither the type nor the body can be exchanged for another. An envelope is stored in one
canonical byte form; any other spelling of it is refused, so not even a byte that the signature
does not cover can change unnoticed.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.errors import ContractViolation, Tampered

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


@dataclass(frozen=True, slots=True)
class Statement:
    """What somebody asserts: subjects (name -> SHA-256), and a predicate about them.

    ``purpose`` is the kind of the predicate: a statement made for one purpose is no statement
    for another.
    """

    purpose: str
    subjects: Mapping[str, str]
    predicate: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        return canonical_bytes(
            {
                "_type": STATEMENT_TYPE,
                "subject": [
                    {"name": name, "digest": {"sha256": digest}}
                    for name, digest in sorted(self.subjects.items())
                ],
                "predicateType": f"urn:assay:{self.purpose}:v1",
                "predicate": dict(self.predicate),
            }
        )

    @classmethod
    def from_bytes(cls, body: bytes) -> Statement:
        try:
            document = json.loads(body)
            kind = document["predicateType"].split(":")
            if document["_type"] != STATEMENT_TYPE or kind[:2] != ["urn", "assay"]:
                raise Tampered(f"statement of type {document['_type']!r}, {kind}: not one of ours")
            if not isinstance(document["predicate"], dict):
                raise TypeError("its predicate is no object")
            return cls(
                purpose=kind[2],
                subjects={item["name"]: item["digest"]["sha256"] for item in document["subject"]},
                predicate=document["predicate"],
            )
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            IndexError,
            RecursionError,
        ) as error:
            raise Tampered(f"the signed statement cannot be read: {error!r}") from None


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed payload: the body, who says to have signed it, and the signature."""

    body: bytes
    key_id: str
    signature: bytes

    def to_json(self) -> dict[str, Any]:
        return {
            "payload": base64.b64encode(self.body).decode("ascii"),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [
                {"keyid": self.key_id, "sig": base64.b64encode(self.signature).decode("ascii")}
            ],
        }

    def to_bytes(self) -> bytes:
        return canonical_bytes(self.to_json())

    @classmethod
    def from_json(cls, document: Any) -> Envelope:
        """Read an envelope; one that is not exactly as :meth:`to_json` writes it is refused."""
        try:
            (signature,) = document["signatures"]
            envelope = cls(
                body=base64.b64decode(document["payload"], validate=True),
                key_id=signature["keyid"],
                signature=base64.b64decode(signature["sig"], validate=True),
            )
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise Tampered(f"not a signature envelope with one signature: {error!r}") from None
        if envelope.to_json() != document:
            raise Tampered("the signature envelope is not in its canonical form")
        return envelope

    @classmethod
    def from_bytes(cls, data: bytes) -> Envelope:
        try:
            envelope = cls.from_json(json.loads(data))
            if envelope.to_bytes() != data:
                raise Tampered("the signature envelope is not in its canonical form")
        except (ValueError, RecursionError, ContractViolation) as error:
            raise Tampered(f"the signature envelope is not JSON: {error}") from None
        return envelope


def key_id_of(key: Ed25519PublicKey) -> str:
    """SHA-256 of the public key's SubjectPublicKeyInfo, 64 hexadecimal digits."""
    return sha256_hex(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def pre_authentication_encoding(payload_type: str, body: bytes) -> bytes:
    """The bytes that a DSSE version 1 signature covers."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


def sign_statement(statement: Statement, key: Ed25519PrivateKey, key_id: str) -> Envelope:
    """Sign a statement with one key."""
    body = statement.to_bytes()
    return Envelope(body, key_id, key.sign(pre_authentication_encoding(PAYLOAD_TYPE, body)))
