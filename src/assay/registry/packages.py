"""A version as one file, to be carried elsewhere: a tarball, or an OCI image layout in a tarball.

Both hold the version's files exactly as they were sealed, in one order and with the time zero, so a
version has one package, byte for byte; one that was countersigned has the countersignatures with
it, for a desk that trusts those who gave them and not the key that signed it first. The image
layout (``oci-layout``, ``index.json``, ``blobs/sha256/...``;
https://github.com/opencontainers/image-spec/blob/main/image-layout.md) can be pushed to a container
registry with the usual tools, each file a layer under its own name.

Reading a package believes nothing: members are plain files with names of a version's files, their
number and size have a limit before anything is read, nothing is unpacked to a disk, no compression
is accepted, and the files are then held to the signature and the digest like any version.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.errors import AssayError, ContractViolation, NotFound, Tampered
from assay.registry.countersigning import vouched_elsewhere
from assay.registry.formats import NAME
from assay.registry.keyring import KeyRing
from assay.registry.metadata import ModelMetadata
from assay.registry.plain_tar import pack, unpack
from assay.registry.sealed import (
    GENERATED,
    MANIFEST,
    METADATA,
    ORIGIN,
    SEALS,
    SIGNATURE,
    Candidate,
    VerifiedVersion,
    verified,
)
from assay.registry.signing import Envelope

ARTIFACT_TYPE: Final = "application/vnd.assay.version.v1"
_FILE_TYPE: Final = "application/vnd.assay.file.v1"
_CONFIG_TYPE: Final = "application/vnd.assay.metadata.v1+json"
_MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
_TITLE: Final = "org.opencontainers.image.title"

MAX_BYTES: Final = 4 * 2**30
"""A package that says to be larger is refused before it is read."""

COUNTERSIGNATURES: Final = "countersignatures.json"
"""Beside a version's files, where others vouch for it."""

_MOST_COUNTERSIGNATURES: Final = 1_000
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Package:
    """What a package holds, every byte checked; ``countersignatures`` came with it."""

    version: VerifiedVersion
    countersignatures: tuple[Envelope, ...] = ()

    def candidate(self, number: str) -> Candidate:
        """The same content, to be registered elsewhere under ``number``.

        It comes with ``origin.json``: the name, number, digest and signature that it had where it
        was made, so that the two can be told to be one model.
        """
        files = {
            name: data
            for name, data in self.version.files.items()
            if name not in {*SEALS, *GENERATED}
        }
        if ORIGIN not in files:
            origin = {
                "name": self.version.name,
                "version": self.version.version,
                "digest": self.version.digest,
                "signed_by": self.version.signed_by,
                "signature": json.loads(self.version.files[SIGNATURE]),
            }
            if self.version.note:
                origin["note"] = self.version.note
                origin["countersignatures"] = [one.to_json() for one in self.countersignatures]
            files[ORIGIN] = canonical_bytes(origin)
        document = self.version.metadata.to_json() | {"version": number}
        # Pickles were taken or refused where it was made; whoever trusts its signer trusts that.
        return Candidate(
            ModelMetadata.from_json(document), self.version.inputs, files, pickles=True
        )


def tarball(files: Mapping[str, bytes], countersignatures: Sequence[Envelope] = ()) -> bytes:
    """A version's files as a tar archive: one for each version, whoever makes it and when."""
    files = _with(files, countersignatures)
    return _tar({name: files[name] for name in sorted(files)})


def oci_layout(
    files: Mapping[str, bytes],
    countersignatures: Sequence[Envelope] = (),
    *,
    name: str,
    version: str,
) -> bytes:
    """A version's files as an OCI image layout in a tar archive."""
    files = _with(files, countersignatures)
    blobs = {sha256_hex(data): data for data in files.values()}
    layers = [
        {**_descriptor(_FILE_TYPE, files[file]), "annotations": {_TITLE: file}}
        for file in sorted(files)
    ]
    manifest = canonical_bytes(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": _descriptor(_CONFIG_TYPE, files[METADATA]),
            "layers": layers,
            "annotations": {
                _TITLE: name,
                "org.opencontainers.image.version": version,
                "dev.assay.digest": sha256_hex(files[MANIFEST]),
            },
        }
    )
    blobs[sha256_hex(manifest)] = manifest
    index = canonical_bytes(
        {
            "schemaVersion": 2,
            "mediaType": _INDEX_TYPE,
            "manifests": [
                {
                    **_descriptor(_MANIFEST_TYPE, manifest),
                    "annotations": {"org.opencontainers.image.ref.name": f"{name}-{version}"},
                }
            ],
        }
    )
    return _tar(
        {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": index,
            **{f"blobs/sha256/{digest}": blobs[digest] for digest in sorted(blobs)},
        }
    )


def read_package(path: Path, keyring: KeyRing, *, max_bytes: int = MAX_BYTES) -> Package:
    """Read either kind of package and check every byte of the version in it.

    Raises
    ------
    NotFound: there is no such file. ContractViolation: it is no package, or too large.
    Tampered: a file is not what was sealed, or is signed by nobody who may sign versions here.
    """
    members = _untar(path, max_bytes)
    files = _of_layout(members, path) if "oci-layout" in members else members
    strange = sorted(name for name in files if not NAME.fullmatch(name))
    if strange:
        raise ContractViolation(f"package {path}: {strange[0]!r} is no name of a version's file")
    if METADATA not in files or MANIFEST not in files:
        raise ContractViolation(f"package {path} holds no {METADATA} and {MANIFEST}: no version")
    try:
        envelopes = _countersignatures(files.pop(COUNTERSIGNATURES, None))
        metadata = ModelMetadata.from_bytes(files[METADATA])
    except AssayError as error:
        raise Tampered(f"package {path}: {error.message}") from None
    version_of = (metadata.name, metadata.version, sha256_hex(files[MANIFEST]))

    def vouched() -> str | None:
        return vouched_elsewhere(envelopes, *version_of, metadata.author, keyring)

    try:
        version = verified(
            files, (), *version_of, keyring, vouched=vouched, vouched_for_stranger=vouched
        )
    except Tampered as error:
        raise Tampered(
            f"package {path}: {error.message}",
            hint="whoever signed or countersigned it must be trusted here: "
            "assay keys trust NAME KEY.pem",
        ) from None
    return Package(version, envelopes)


def _with(files: Mapping[str, bytes], countersignatures: Sequence[Envelope]) -> dict[str, bytes]:
    if not countersignatures:
        return dict(files)
    listed = canonical_bytes([one.to_json() for one in countersignatures])
    return {**files, COUNTERSIGNATURES: listed}


def _countersignatures(data: bytes | None) -> tuple[Envelope, ...]:
    try:
        listed = [] if data is None else json.loads(data)
        if not isinstance(listed, list) or len(listed) > _MOST_COUNTERSIGNATURES:
            raise Tampered(f"{COUNTERSIGNATURES} is no short list")
    except (ValueError, RecursionError) as error:
        raise Tampered(f"{COUNTERSIGNATURES} cannot be read: {error}") from None
    return tuple(Envelope.from_json(one) for one in listed)


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{sha256_hex(data)}", "size": len(data)}


def _tar(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    pack(made, files)
    return made.getvalue()


def _untar(path: Path, max_bytes: int) -> dict[str, bytes]:
    """The plain files of an archive that is not compressed."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise NotFound(f"no file {path}") from None
    if size > max_bytes:
        raise ContractViolation(
            f"package {path} has {size:,} bytes: expected at most {max_bytes:,}"
        )
    try:
        with path.open("rb") as handle:
            return unpack(
                handle,
                lambda name: bool(NAME.fullmatch(name) or _BLOB.fullmatch(name)),
                "names of a version's files",
            )
    except (ValueError, OSError) as error:
        raise ContractViolation(
            f"package {path} cannot be read as a tar archive without compression: {error}",
            hint="assay models export writes one",
        ) from None


def _of_layout(members: Mapping[str, bytes], path: Path) -> dict[str, bytes]:
    """The files of an image layout, each blob held to its own digest."""
    try:
        (entry,) = json.loads(members["index.json"])["manifests"]
        manifest = json.loads(_blob(members, entry["digest"], path))
        if manifest["artifactType"] != ARTIFACT_TYPE:
            raise ContractViolation(
                f"package {path} is an image of type {manifest['artifactType']!r}, expected "
                f"{ARTIFACT_TYPE}"
            )
        return {
            layer["annotations"][_TITLE]: _blob(members, layer["digest"], path)
            for layer in manifest["layers"]
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ContractViolation(f"package {path} is no image layout: {error!r}") from None


def _blob(members: Mapping[str, bytes], digest: str, path: Path) -> bytes:
    wanted = digest.removeprefix("sha256:")
    data = members.get(f"blobs/sha256/{wanted}")
    if data is None:
        raise Tampered(f"package {path} lacks the blob {wanted[:12]}")
    if sha256_hex(data) != wanted:
        raise Tampered(f"package {path}: blob {wanted[:12]} has the digest {sha256_hex(data)[:12]}")
    return data
