"""A version as files that never change, each covered by a digest, all covered by a signature.

::

      model.onnx  model.<native>  metadata.json  sidecar.json  parity.json  bench.json  CHANGES.md
      manifest.json      SHA-256 and size of every file above; its SHA-256 is the version's digest
      checksum.sha256    the same for `sha256sum -c`, manifest.json included
      signature          DSSE envelope; its subjects are all files but itself

Reading goes the other way round: the signature vouches for the files, the registry's log vouches
for the manifest. So a changed byte is found even by someone who holds no key, and the answer names
the file. Bytes that were verified are handed on as bytes: nothing is read twice, so nothing can be
exchanged in between.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.domain.canonical import canonical_bytes, content_hash, sha256_hex
from assay.domain.instants import Instant
from assay.domain.versions import InputSchema
from assay.errors import AssayError, ContractViolation, IncompatibleVersion, Tampered
from assay.registry.formats import check_files
from assay.registry.keyring import VERSION, Attestation, KeyRing, RevokedKey, UnknownKey
from assay.registry.metadata import ModelMetadata
from assay.registry.onnx_check import check_onnx
from assay.registry.signing import Envelope, Statement

ONNX = "model.onnx"
METADATA = "metadata.json"
SIDECAR = "sidecar.json"
MANIFEST = "manifest.json"
CHECKSUMS = "checksum.sha256"
SIGNATURE = "signature"
GOLDEN = "golden.json"
ORIGIN = "origin.json"
"""What a version was elsewhere, where it came from in a package."""

CHANGES = "CHANGES.md"
REQUIRED = (ONNX, "parity.json", "bench.json", CHANGES)
NATIVE = ("model.ubj", "model.json", "model.txt", "model.zip")
"""Native models that can be loaded without running code. Pickles are not among them."""
OPTIONAL = (*NATIVE, GOLDEN, ORIGIN)
GENERATED = (METADATA, SIDECAR)
SEALS = (MANIFEST, CHECKSUMS, SIGNATURE)

# Measurements of this machine and words about the change: two runs that differ only there made
# the same model.
_CIRCUMSTANCES = frozenset({"bench.json", CHANGES, METADATA, ORIGIN})
_MANIFEST_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """Everything that becomes a version: its record, its input, and its files by name.

    A model's ``files`` are ``model.onnx``, ``parity.json``, ``bench.json`` and ``CHANGES.md``; a
    native model (``model.ubj``, ``model.json`` or ``model.txt``) and ``golden.json`` may come with
    them. Definitions, weights and transforms have no model and no ``schema``: their files are
    ``CHANGES.md`` and others of the kinds in :mod:`~assay.registry.formats`; ``pickles`` says
    whether pickles may be among them that import nothing unusual.
    """

    metadata: ModelMetadata
    schema: InputSchema | None
    files: Mapping[str, bytes]
    pickles: bool = False

    def check(self) -> None:
        """Refuse a candidate that could not be served, or whose files are not what they say."""
        if self.schema is None:
            self._check_definitions()
        else:
            self._check_model(self.schema)

    def _check_definitions(self) -> None:
        what = f"files of {self.metadata.name} {self.metadata.version}"
        if ONNX in self.files:
            raise ContractViolation(f"{what}: {ONNX} needs the schema of its input")
        reserved = sorted(set(self.files) & {*SEALS, *GENERATED})
        if reserved:
            raise ContractViolation(f"{what}: {', '.join(reserved)} are written by the registry")
        if CHANGES not in self.files or not set(self.files) - {CHANGES, ORIGIN}:
            raise ContractViolation(f"{what}: expected {CHANGES} and at least one other")
        check_files(self.files, pickles=self.pickles)

    def _check_model(self, schema: InputSchema) -> None:
        missing = sorted(set(REQUIRED) - set(self.files))
        foreign = sorted(set(self.files) - set(REQUIRED) - set(OPTIONAL))
        if missing or foreign:
            raise ContractViolation(
                f"files of {self.metadata.name} {self.metadata.version}: missing {missing}, "
                f"not allowed {foreign}",
                hint="expected " + ", ".join(REQUIRED) + "; allowed besides " + ", ".join(OPTIONAL),
            )
        for name in sorted(set(self.files) & {"parity.json", "bench.json", GOLDEN, ORIGIN}):
            try:
                document = json.loads(self.files[name])
            except ValueError as error:
                raise ContractViolation(f"{name} is not JSON: {error}") from None
            if not isinstance(document, dict):
                raise ContractViolation(f"{name} holds {type(document).__name__}: expected object")
        check_onnx(self.files[ONNX], schema)

    def sealed_files(self) -> dict[str, bytes]:
        """All files that the manifest lists."""
        files = {**self.files, METADATA: canonical_bytes(self.metadata.to_json())}
        if self.schema is not None:
            files[SIDECAR] = canonical_bytes(self.schema.to_json())
        return files

    def identity(self, digests: Mapping[str, str]) -> str:
        """One hash for what the model is; equal for two registrations of the same model.

        ``digests`` are the SHA-256 of :meth:`sealed_files`, by name.
        """
        files = {name: digest for name, digest in digests.items() if name not in _CIRCUMSTANCES}
        return content_hash({"files": files, "metadata": self.metadata.identity()})


def digests_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of each file's content, by name."""
    return {name: sha256_hex(data) for name, data in files.items()}


@dataclass(frozen=True, slots=True)
class SealedFiles:
    """The bytes of a whole version folder, manifest, checksums and signature included."""

    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """The version's digest: SHA-256 of its manifest's bytes."""
        return sha256_hex(self.files[MANIFEST])


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one file of a version."""

    file: str
    reason: str

    def to_json(self) -> dict[str, str]:
        return {"file": self.file, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """The state of a version's folder: what is wrong, and what its signature says."""

    name: str
    version: str
    digest: str
    problems: tuple[Problem, ...]
    signature: str
    files_checked: int

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "ok": self.ok,
            "problems": [problem.to_json() for problem in self.problems],
            "signature": self.signature,
            "files_checked": self.files_checked,
        }


@dataclass(frozen=True, slots=True)
class VerifiedVersion:
    """A version whose every byte was checked, with those bytes.

    ``inputs`` is the schema of a model's input, None where the version is no model. ``note`` says
    that the key which signed it was revoked since, and who vouches for it; "" for neither.
    """

    name: str
    version: str
    digest: str
    metadata: ModelMetadata
    inputs: InputSchema | None
    signed_by: str
    files: Mapping[str, bytes] = field(repr=False)
    note: str = ""

    @property
    def is_model(self) -> bool:
        """Whether it can predict; else it is definitions, weights or transforms."""
        return self.inputs is not None

    @property
    def schema(self) -> InputSchema:
        """The schema of its input.

        Raises
        ------
        IncompatibleVersion: it is no model.
        """
        if self.inputs is None:
            raise IncompatibleVersion(
                f"{self.name} {self.version} is of kind {self.metadata.kind} and holds "
                f"{', '.join(self.contents)}: it is no model and predicts nothing"
            )
        return self.inputs

    @property
    def onnx(self) -> bytes:
        """The model's bytes; raises as :attr:`schema` does."""
        self.schema  # noqa: B018  # says that it is no model
        return self.files[ONNX]

    @property
    def contents(self) -> tuple[str, ...]:
        """The files that were registered, without those that the registry wrote."""
        return tuple(sorted(set(self.files) - {*SEALS, *GENERATED}))


def seal(
    candidate: Candidate,
    digests: Mapping[str, str],
    keyring: KeyRing,
    signer: str,
    head: Mapping[str, Any],
    configuration: Mapping[str, str] | None = None,
) -> SealedFiles:
    """Add manifest, checksums and signature to a candidate's files.

    ``digests`` are the SHA-256 of its sealed files, by name.
    ``head`` is the end of the registry's log at this moment (``seq``, ``hash``); it becomes part
    of what is signed, so a log cut off before it contradicts this version. ``configuration`` is
    the SHA-256 of each configuration file of the desk; where it is known, it is signed too.
    """
    files = candidate.sealed_files()
    digests = dict(digests)
    metadata = candidate.metadata
    files[MANIFEST] = canonical_bytes(
        {
            "format": _MANIFEST_FORMAT,
            "name": metadata.name,
            "version": metadata.version,
            "files": {
                name: {"sha256": digest, "size": len(files[name])}
                for name, digest in digests.items()
            },
        }
    )
    digests[MANIFEST] = sha256_hex(files[MANIFEST])
    files[CHECKSUMS] = "".join(
        f"{digest}  {name}\n" for name, digest in sorted(digests.items())
    ).encode("ascii")
    digests[CHECKSUMS] = sha256_hex(files[CHECKSUMS])
    predicate = {"name": metadata.name, "version": metadata.version, "log_head": dict(head)}
    if configuration:
        predicate["configuration"] = dict(configuration)
    statement = Statement(purpose=VERSION, subjects=digests, predicate=predicate)
    files[SIGNATURE] = keyring.sign(signer, statement).to_bytes()
    return SealedFiles(files)


def validate(
    files: Mapping[str, bytes],
    problems: Sequence[Problem],
    name: str,
    version: str,
    digest: str,
    keyring: KeyRing,
    *,
    at: Instant | None = None,
    vouched: Callable[[], str | None] = lambda: None,
) -> ValidationReport:
    """Check every file of a version.

    Parameters
    ----------
    files, problems: what was found in its place, and what was wrong there.
    digest: the one that the registry's log recorded. at: when it was registered; None where no
        log says so.
    vouched: who vouches for it, asked when its own key was revoked since; None for nobody.
    """
    return _inspect(files, problems, name, version, digest, _Signatures(keyring, at, vouched))[0]


def verified(
    files: Mapping[str, bytes],
    problems: Sequence[Problem],
    name: str,
    version: str,
    digest: str,
    keyring: KeyRing,
    *,
    at: Instant | None = None,
    vouched: Callable[[], str | None] = lambda: None,
    vouched_for_stranger: Callable[[], str | None] = lambda: None,
) -> VerifiedVersion:
    """A version of which every byte was checked; parameters as for :func:`validate`.

    Parameters
    ----------
    vouched_for_stranger: who vouches for the digest of a version from elsewhere, asked when its own
        key is not known here. What its signature says then binds nobody: the manifest does, by
        the digest.

    Raises
    ------
    Tampered: something is wrong; names the files.
    """
    signatures = _Signatures(keyring, at, vouched, vouched_for_stranger)
    report, attestation = _inspect(files, problems, name, version, digest, signatures)
    if not report.ok or attestation is None:
        first = report.problems[0]
        others = sorted({problem.file for problem in report.problems} - {first.file})
        raise Tampered(
            f"{name} {version} is refused: {first.file}: {first.reason}"
            + (f"; also wrong: {', '.join(others)}" if others else ""),
            hint=f"assay models countersign {name} {version} vouches for it anew"
            if signatures.lost_key and len(report.problems) == 1
            else f"assay models validate {name} {version} lists every problem",
        )
    return VerifiedVersion(
        name=name,
        version=version,
        digest=report.digest,
        metadata=ModelMetadata.from_bytes(files[METADATA]),
        inputs=InputSchema.from_json(json.loads(files[SIDECAR])) if SIDECAR in files else None,
        signed_by=attestation.identity,
        files=files,
        note=report.signature if signatures.lost_key else "",
    )


def as_it_is() -> str:
    """As ``vouched``: take a version whose key was revoked since, to keep it or to show it."""
    return "kept as it is"


def log_head_of(signature: bytes, keyring: KeyRing) -> tuple[int, str]:
    """The end of the registry's log (number, hash) when a version was sealed, as it was signed.

    Raises
    ------
    Tampered: there is no signature that holds, or it states none.
    """
    made = keyring.verify(Envelope.from_bytes(signature), VERSION)
    try:
        head = made.statement.predicate["log_head"]
        return int(head["seq"]), str(head["hash"])
    except (KeyError, TypeError, ValueError) as error:
        raise Tampered(f"the signature states no end of the log: {error!r}") from None


@dataclass(slots=True)
class _Signatures:
    """By whom and when a version may have been signed.

    ``lost_key`` once its key was found to be revoked, or unknown where somebody else vouches.
    """

    keyring: KeyRing
    at: Instant | None
    vouched: Callable[[], str | None]
    vouched_for_stranger: Callable[[], str | None] = lambda: None
    lost_key: bool = False


def _inspect(
    files: Mapping[str, bytes],
    found_problems: Sequence[Problem],
    name: str,
    version: str,
    digest: str,
    signatures: _Signatures,
) -> tuple[ValidationReport, Attestation | None]:
    problems = [*found_problems]
    found = digests_of(files)
    attestation, signature = _attest(files, name, version, signatures, problems)
    _compare(files, found, digest, attestation, problems)
    if not problems:
        _check_meaning(files, found, name, version, problems)
    report = ValidationReport(name, version, digest, tuple(problems), signature, len(files))
    return report, attestation


def _attest(
    content: Mapping[str, bytes],
    name: str,
    version: str,
    signatures: _Signatures,
    problems: list[Problem],
) -> tuple[Attestation | None, str]:
    if SIGNATURE not in content:
        if not any(problem.file == SIGNATURE for problem in problems):
            problems.append(Problem(SIGNATURE, "is missing: the version is not signed"))
        return None, "missing"
    said = None
    try:
        envelope = Envelope.from_bytes(content[SIGNATURE])
        try:
            attestation = signatures.keyring.verify(envelope, VERSION, at=signatures.at)
        except RevokedKey as error:
            signatures.lost_key = True
            attestation, said, vouched = error.made, error.message, signatures.vouched()
            if vouched is None:
                problems.append(Problem(SIGNATURE, said))
            else:
                said = f"{said}; {vouched}"
        except UnknownKey as error:
            vouched = signatures.vouched_for_stranger()
            if vouched is None:
                raise
            signatures.lost_key = True
            statement = Statement.from_bytes(envelope.body)
            who = f"unknown key {envelope.key_id[:12]}"
            attestation = Attestation(statement, who, envelope.key_id)
            said = f"{error.message}; {vouched}"
        predicate = attestation.statement.predicate
        stated = (predicate.get("name"), predicate.get("version"))
        if stated != (name, version):
            raise Tampered(f"made for {stated[0]} {stated[1]}, not for {name} {version}")
    except AssayError as error:
        problems.append(Problem(SIGNATURE, error.message))
        return None, error.message
    valid = f"valid, by {attestation.identity} with key {attestation.key_id[:12]}"
    return attestation, said or valid


def _compare(
    content: Mapping[str, bytes],
    found: Mapping[str, str],
    digest: str,
    attestation: Attestation | None,
    problems: list[Problem],
) -> None:
    """Name every file that is not the one that was sealed.

    The signature's subjects are the reference when it holds. Without it the manifest is, when it
    is the one that the log recorded, so that the file at fault can still be named.
    """
    if found.get(MANIFEST, digest) != digest:
        problems.append(Problem(MANIFEST, "is not the manifest that was registered"))
    expected: dict[str, str] = {}
    if attestation is not None:
        expected = dict(attestation.statement.subjects)
    elif MANIFEST in content:
        try:
            listed = json.loads(content[MANIFEST])["files"]
            expected = {name: item["sha256"] for name, item in listed.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(Problem(MANIFEST, f"cannot be read: {error!r}"))
        expected |= {name: found.get(name, "") for name in (MANIFEST, CHECKSUMS)}
    else:
        expected = {MANIFEST: "", CHECKSUMS: found.get(CHECKSUMS, "")}
    named = {problem.file for problem in problems}
    for name, sha256 in sorted(expected.items()):
        if name in named:
            continue
        if name not in content:
            problems.append(Problem(name, "is missing"))
        elif found[name] != sha256:
            problems.append(Problem(name, f"has SHA-256 {found[name][:12]}, sealed {sha256[:12]}"))
    extra = set(content) - set(expected) - {SIGNATURE}
    problems.extend(Problem(name, "does not belong to the version") for name in sorted(extra))


def _check_meaning(
    content: Mapping[str, bytes],
    found: Mapping[str, str],
    name: str,
    version: str,
    problems: list[Problem],
) -> None:
    """Sealed as it is, does it say the same thing in all places?"""
    try:
        listed = {
            item: entry["sha256"]
            for item, entry in json.loads(content[MANIFEST])["files"].items()
            if entry["size"] == len(content[item])
        }
        if listed != {item: found[item] for item in set(content) - set(SEALS)}:
            problems.append(Problem(MANIFEST, "does not list the sealed files"))
        metadata = ModelMetadata.from_bytes(content[METADATA])
        if (metadata.name, metadata.version) != (name, version):
            problems.append(Problem(METADATA, f"is about {metadata.name} {metadata.version}"))
        if SIDECAR in content:
            InputSchema.from_json(json.loads(content[SIDECAR]))
        elif ONNX in content:
            problems.append(Problem(SIDECAR, "is missing: a model has a schema"))
    except (AssayError, ValueError, KeyError, TypeError, AttributeError) as error:
        problems.append(Problem(METADATA, f"the sealed documents cannot be read: {error}"))
