"""OpenSSF model signatures of versions: a bundle that other tools verify with a public key.

The registry's own signature is Ed25519 and covers more (who, when, which log). This one is for
those who check models with the OpenSSF's tools alone: a Sigstore bundle (version 0.3) that holds a
DSSE envelope around an in-toto statement of the type ``https://model_signing/signature/v1.0``
(https://github.com/sigstore/model-transparency), signed with ECDSA on P-256, P-384 or P-521.
It is written here from bytes that were verified, and needs no other library; that the OpenSSF's
own takes it is what a test asks.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.errors import ConfigurationError, Tampered
from assay.registry.signing import PAYLOAD_TYPE, STATEMENT_TYPE, pre_authentication_encoding

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
_HASHES: Final[Mapping[str, type[hashes.HashAlgorithm]]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
    "secp521r1": hashes.SHA512,
}
_SERIALIZATION: Final = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}


def sign_bundle(name: str, files: Mapping[str, bytes], private_key: bytes) -> bytes:
    """The bundle over the files of one folder.

    Parameters
    ----------
    name: what the folder is called. files: its verified bytes, by file name.
    private_key: PEM, without a password, on one of the three curves.

    Raises
    ------
    ConfigurationError: it is no such key.
    """
    key = _private(private_key)
    digests = {file: sha256_hex(data) for file, data in files.items()}
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root(digests)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": _SERIALIZATION,
            "resources": [
                {"name": file, "algorithm": "sha256", "digest": digests[file]}
                for file in sorted(digests)
            ],
        },
    }
    body = canonical_bytes(statement)
    signed = key.sign(pre_authentication_encoding(PAYLOAD_TYPE, body), _scheme(key.curve))
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": _hint(key.public_key())},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(body).decode("ascii"),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signed).decode("ascii"), "keyid": ""}],
        },
    }
    return canonical_bytes(bundle)


def verify_bundle(bundle: bytes, files: Mapping[str, bytes], public_key: bytes) -> str:
    """Check a bundle of this or another tool over the files of one folder; the name it states.

    Raises
    ------
    ConfigurationError: ``public_key`` is no PEM of a key on one of the three curves.
    Tampered: the signature is not of this key, or a file is missing, changed or not signed; it is
        named.
    """
    key = _public(public_key)
    name, resources = _stated(_payload(bundle, key))
    found = {file: sha256_hex(data) for file, data in files.items()}
    for file in sorted({*resources, *found}):
        if file not in found:
            raise Tampered(f"{file} was signed and is missing")
        if file not in resources:
            raise Tampered(f"{file} was not signed")
        if found[file] != resources[file]:
            raise Tampered(
                f"{file} has SHA-256 {found[file][:12]}, signed is {resources[file][:12]}"
            )
    return name


def _payload(bundle: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    try:
        document = json.loads(bundle)
        if document["mediaType"] != MEDIA_TYPE:
            raise Tampered(f"the bundle is of type {document['mediaType']!r:.80}: {MEDIA_TYPE}")
        hint = document["verificationMaterial"]["publicKey"].get("hint")
        envelope = document["dsseEnvelope"]
        kind = envelope["payloadType"]
        body = base64.b64decode(envelope["payload"], validate=True)
        (signature,) = envelope["signatures"]
        signed = base64.b64decode(signature["sig"], validate=True)
        if kind != PAYLOAD_TYPE:
            raise Tampered(f"the bundle's content is of type {kind!r:.80}")
        if hint is not None and hint != _hint(key):
            raise Tampered("the bundle was signed with another key than this one")
        key.verify(signed, pre_authentication_encoding(PAYLOAD_TYPE, body), _scheme(key.curve))
    except InvalidSignature:
        raise Tampered("the bundle's signature does not hold") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as why:
        raise Tampered(f"the bundle cannot be read: {why!r:.200}") from None
    return body


def _stated(body: bytes) -> tuple[str, dict[str, str]]:
    try:
        document = json.loads(body)
        (subject,) = document["subject"]
        predicate = document["predicate"]
        if (document["_type"], document["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
            raise Tampered("the bundle holds another statement than one about a model")
        if predicate["serialization"]["method"] != "files":
            raise Tampered("the bundle lists no whole files: expected the method files")
        resources = {}
        for one in predicate["resources"]:
            if one["algorithm"] != "sha256" or one["name"] in resources:
                raise Tampered(f"the bundle lists {one['name']!r:.80} twice, or not by SHA-256")
            resources[str(one["name"])] = str(one["digest"])
        if _root(resources) != subject["digest"]["sha256"]:
            raise Tampered("the bundle's files do not have the digest that it states for them all")
        return str(subject["name"]), resources
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Tampered(f"the bundle's statement cannot be read: {error!r:.200}") from None


def _root(digests: Mapping[str, str]) -> str:
    whole = sha256()
    for file in sorted(digests):
        whole.update(bytes.fromhex(digests[file]))
    return whole.hexdigest()


def _private(data: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key: Any = load_pem_private_key(data, None)
    except TypeError:
        raise ConfigurationError("the key has a password: expected one without") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"the private key is no PEM that can be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _other_kind()
    _scheme(key.curve)
    return key


def _public(data: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key: Any = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"the public key is no PEM that can be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _other_kind()
    _scheme(key.curve)
    return key


def _scheme(curve: ec.EllipticCurve) -> ec.ECDSA:
    found = _HASHES.get(curve.name)
    if found is None:
        raise _other_kind()
    return ec.ECDSA(found())


def _other_kind() -> ConfigurationError:
    return ConfigurationError(
        "the key is of another kind: OpenSSF model signatures take P-256, P-384 or P-521",
        hint="openssl ecparam -name prime256v1 -genkey -noout -out model-key.pem",
    )


def _hint(key: ec.EllipticCurvePublicKey) -> str:
    return sha256_hex(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
