"""Checks a pack with nothing but the pack: digests, chain, signatures, and that they agree."""

from __future__ import annotations

import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path, PurePosixPath
from typing import Any, Final

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.errors import AssayError, ContractViolation, NotFound
from assay.orchestration.evidence_pack.contents import (
    FROM_METADATA,
    SCORECARDS,
    beside,
    entry_line,
    scorecard_line,
    statements_in,
)
from assay.orchestration.evidence_pack.page import pack_page
from assay.orchestration.evidence_pack.writing import CHECKSUMS, SIGNATURE
from assay.registry import Entry, EventOutcome, EventType, KeyRing
from assay.registry.countersigning import vouched_by
from assay.registry.keyring import (
    APPROVAL,
    COUNTERSIGNATURE,
    LOG_HEAD,
    PACK,
    PROMOTION,
    VERSION,
    Attestation,
    RevokedKey,
)
from assay.registry.signing import Envelope

_LARGEST: Final = 512 * 2**20
_GENESIS: Final = "0" * 64
_SIGNATURE: Final = "version/signature"
_MANIFEST: Final = "version/manifest.json"


@dataclass(frozen=True, slots=True)
class PackFinding:
    """One thing that was checked; ``ok`` is whether it holds."""

    what: str
    ok: bool
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {"what": self.what, "ok": self.ok, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class PackCheck:
    """What a check of a pack found, and the keys that its signatures rest on."""

    model: str
    version: str
    digest: str
    findings: tuple[PackFinding, ...]
    keys: tuple[tuple[str, str], ...]

    @property
    def ok(self) -> bool:
        return all(one.ok for one in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "model": self.model,
            "version": self.version,
            "digest": self.digest,
            "findings": [one.to_json() for one in self.findings],
            "keys": [{"identity": who, "key_id": key} for who, key in self.keys],
        }


def check_pack(path: Path, keys: Path | None = None) -> PackCheck:
    """Check a pack in a folder or an archive.

    Parameters
    ----------
    keys: a folder with the trust policy to believe; by default the one inside the pack, whose keys
        the reader has to know from elsewhere.

    Raises
    ------
    NotFound: there is nothing at ``path``. ContractViolation: it is no pack.
    """
    files = _read(path)
    try:
        document = json.loads(files["pack.json"])
        identity = document["identity"]
        name, version, digest = identity["name"], identity["version"], identity["digest"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _no_pack(path, error) from None
    with tempfile.TemporaryDirectory() as folder:
        keyring = KeyRing(keys or _unpacked_keys(files, Path(folder)))
        try:
            trail = _trail(files, keyring)
            findings = [*_digests(files), *_version(files, document, trail)]
            findings += _log(files, document, trail)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # Whoever changed it may have changed its form as well.
            raise _no_pack(path, error) from None
        findings += [_signed(files, keyring)]
        trusted = keyring.keys()
    known = tuple((one.identity, one.key_id) for one in trusted)
    return PackCheck(name, version, digest, tuple(findings), known)


def _no_pack(path: Path, error: Exception) -> ContractViolation:
    return ContractViolation(
        f"{path} is no evidence pack: {error!r}", hint="assay models pack writes one"
    )


def _read(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        found = [one for one in sorted(path.rglob("*")) if one.is_file() and not one.is_symlink()]
        return {one.relative_to(path).as_posix(): one.read_bytes() for one in found}
    if not path.is_file():
        raise NotFound(f"no evidence pack at {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(one.file_size for one in members) > _LARGEST:
                raise ContractViolation(f"{path} unpacks to more than {_LARGEST} bytes")
            return {one.filename: archive.read(one) for one in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ContractViolation(f"{path} is no archive that can be read: {error}") from None


def _unpacked_keys(files: Mapping[str, bytes], folder: Path) -> Path:
    for path, data in files.items():
        # Only the last part of a name that stands in keys/: nothing can be written elsewhere.
        if PurePosixPath(path).parent.as_posix() == "keys" and not path.endswith(".."):
            (folder / PurePosixPath(path).name).write_bytes(data)
    return folder


def _digests(files: Mapping[str, bytes]) -> Iterator[PackFinding]:
    """Every file against the list, and the list against every file."""
    stated: dict[str, str] = {}
    for line in files.get(CHECKSUMS, b"").decode(errors="replace").splitlines():
        digest, _, path = line.partition("  ")
        stated[path] = digest
    wrong = [path for path, digest in stated.items() if _digest(files.get(path)) != digest]
    foreign = sorted(set(files) - set(stated) - {CHECKSUMS, SIGNATURE})
    if wrong or foreign or not stated:
        said = [f"{path} has changed or is gone" for path in wrong]
        said += [f"{path} is not in the list" for path in foreign]
        yield PackFinding(CHECKSUMS, False, "; ".join(said) or "there is no list of digests")
    else:
        yield PackFinding(CHECKSUMS, True, f"{len(stated)} files as listed")


def _digest(data: bytes | None) -> str | None:
    return None if data is None else sha256_hex(data)


@dataclass(frozen=True, slots=True)
class _Trail:
    """Keys, the entries that can be read, and how far heads by trusted keys cover them."""

    keyring: KeyRing
    entries: tuple[Entry, ...]
    signed_up_to: int
    heads: str
    heads_hold: bool

    def registration(self, identity: Mapping[str, Any]) -> Entry | None:
        """The entry that registered the version of the pack."""
        return next(
            (
                one
                for one in self.entries
                if one.type is EventType.REGISTER
                and (one.model, one.to_version) == (identity["name"], identity["version"])
                and one.evidence.get("digest") == identity["digest"]
            ),
            None,
        )

    def attested(
        self, envelope: Envelope, purpose: str, entry: Entry | None, digest: str
    ) -> tuple[Attestation, str]:
        """A statement that an entry dates, and a remark on its key.

        One whose key was revoked since is taken where somebody trusted vouches for it, or has
        signed a head over the entry: the log says then that it was made.

        Raises
        ------
        Tampered: it does not hold.
        """
        try:
            at = None if entry is None else entry.at
            made = self.keyring.verify(envelope, purpose, at=at)
        except RevokedKey as error:
            if purpose == COUNTERSIGNATURE:
                return error.made, f"NOTE: {error.message}; it vouches for nothing"
            about = [] if entry is None else [
                one for one in self.entries
                if (one.model, one.to_version) == (entry.model, entry.to_version)
            ]  # fmt: skip
            promotion = entry if purpose == PROMOTION else None
            by = vouched_by(about, digest, self.keyring, promotion)
            if by is None and entry is not None and entry.seq <= self.signed_up_to:
                by = f"a head by a trusted key covers entry {entry.seq}"
            if by is None:
                raise
            return error.made, f"NOTE: {error.message}; {by}"
        return made, f"by {made.identity}, key {made.key_id[:12]}"


def _trail(files: Mapping[str, bytes], keyring: KeyRing) -> _Trail:
    entries: list[Entry] = []
    for line in files.get("log.jsonl", b"").splitlines():
        try:
            entries.append(Entry.from_line(line))
        except AssayError:
            break  # the walk over the log names it
    said, furthest, holds = _heads(files, entries, keyring)
    return _Trail(keyring, tuple(entries), furthest, said, holds)


def _version(
    files: Mapping[str, bytes], document: Mapping[str, Any], trail: _Trail
) -> Iterator[PackFinding]:
    """The version's signature, the files that it covers, and the digest that the pack names."""
    identity = document["identity"]
    try:
        envelope = Envelope.from_bytes(files[_SIGNATURE])
        registered = trail.registration(identity)
        made, said = trail.attested(envelope, VERSION, registered, identity["digest"])
    except AssayError as error:
        yield PackFinding(_SIGNATURE, False, error.message)
        return
    except KeyError:
        yield PackFinding(_SIGNATURE, False, "is not in the pack")
        return
    subjects, predicate = made.statement.subjects, made.statement.predicate
    about = (predicate.get("name"), predicate.get("version"))
    same = about == (identity["name"], identity["version"])
    yield PackFinding(_SIGNATURE, same, f"{said}, about {about[0]} {about[1]}")
    packed = {path.removeprefix("version/") for path in files if path.startswith("version/")}
    stated = {name: one["sha256"] for name, one in identity["files"].items()}
    wrong = [name for name, digest in subjects.items() if stated.get(name) != digest]
    wrong += [
        name
        for name in sorted(packed - {"signature"})
        if sha256_hex(files[f"version/{name}"]) != subjects.get(name)
    ]
    yield PackFinding(
        "signed files",
        not wrong,
        "not as signed: " + ", ".join(sorted(set(wrong))) if wrong
        else f"{len(subjects)} as signed, {len(set(subjects) - packed)} of them by digest only",
    )  # fmt: skip
    found = _digest(files.get(_MANIFEST))
    yield PackFinding("version digest", found == identity["digest"], f"{identity['digest'][:12]}")


def _log(
    files: Mapping[str, bytes], document: Mapping[str, Any], trail: _Trail
) -> Iterator[PackFinding]:
    """The chain, the signed heads over it, and the statements inside its entries."""
    entries: list[Entry] = []
    previous = _GENESIS
    for number, line in enumerate(files.get("log.jsonl", b"").splitlines(), start=1):
        try:
            entry = Entry.from_line(line)
        except AssayError as error:
            yield PackFinding("log.jsonl", False, f"line {number}: {error.message}")
            return
        if (entry.seq, entry.previous) != (number, previous):
            yield PackFinding("log.jsonl", False, f"line {number} does not follow the one before")
            return
        previous = entry.hash
        entries.append(entry)
    head = {"seq": len(entries), "hash": previous}
    whole = head == document["log_head"]
    said = f"{len(entries)} entries, unbroken" if whole else "ends elsewhere than the pack says"
    yield PackFinding("log.jsonl", whole, said)
    yield PackFinding("heads", trail.heads_hold, trail.heads)
    identity = document["identity"]
    yield from _document(files, document, [one for one in entries if one.model == identity["name"]])
    own = [
        one
        for one in entries
        if (one.model, one.to_version) == (identity["name"], identity["version"])
        and one.outcome is EventOutcome.DONE
    ]
    registered = [one for one in own if one.type is EventType.REGISTER]
    named = [one.evidence.get("digest") for one in registered] == [identity["digest"]]
    yield PackFinding("registration", named, "the log names the digest once, as the pack does"
                      if named else "the log does not name the digest once")  # fmt: skip
    yield from _statements(files, own, identity, trail)


def _document(
    files: Mapping[str, bytes], document: Mapping[str, Any], entries: list[Entry]
) -> Iterator[PackFinding]:
    """What the pack tells against what log and signed metadata say, and the page against it."""
    number = document["identity"]["version"]
    about = [one for one in entries if one.to_version == number]
    evidence = {
        item["name"]: item
        for one in about
        if one.type is EventType.EVIDENCE
        for item in one.evidence["evidence"]
    }
    reports = [one.evidence["report"] for one in about if one.type is EventType.GATE]
    history = [entry_line(one) for one in entries if number in {one.from_version, one.to_version}]
    metadata = json.loads(files.get("version/metadata.json", b"{}"))
    people = document["people"]
    approved = [(one["seq"], one["approver"]) for one in people["approvals"]]
    promoted = [(one["seq"], one["approvers"], one["break_glass"]) for one in people["promotions"]]
    told = {
        "evidence": (document["evidence"], [evidence[name] for name in sorted(evidence)]),
        "gates": (document["gates"], reports[-1] if reports else None),
        "history": (document["history"], history),
        "author": (people["author"], metadata.get("author")),
        "approvals": (
            approved,
            [(one.seq, one.evidence["approver"]) for one in about if one.type is EventType.APPROVE],
        ),
        "promotions": (
            promoted,
            [
                (one.seq, one.evidence["approved_by"], one.type is EventType.BREAK_GLASS)
                for one in about
                if one.type in {EventType.PROMOTE, EventType.BREAK_GLASS}
                and one.outcome is EventOutcome.DONE
            ],
        ),
        "declared": (document["declared"]["source_sha256"], _digest(files.get("declared.yaml"))),
    }
    if "beside" in document:  # packs of earlier releases have neither
        told["beside"] = (document["beside"], beside(entries, number))
        cards = [path for path in files if path.startswith(f"{SCORECARDS}/")]
        told["scorecards"] = (
            sorted(document["scorecards"], key=lambda one: str(one["path"])),
            [scorecard_line(one, files[one]) for one in sorted(cards) if one.endswith(".json")],
        )
    told |= {name: (document["data"][name], metadata.get(name)) for name in FROM_METADATA}
    wrong = [name for name, (said, recorded) in told.items() if said != recorded]
    yield PackFinding(
        "pack.json",
        not wrong,
        f"tells otherwise than log and metadata: {', '.join(wrong)}" if wrong
        else "tells of evidence, gates, history and data as log and metadata do",
    )  # fmt: skip
    ours = f"assay {version_of('assay')}"
    if document["written_by"] != ours:
        said = f"written by {document['written_by']}, not compared with pack.json"
        yield PackFinding("pack.html", True, said)
        return
    picture = files.get("lineage.svg", b"").decode(errors="replace")
    same = files.get("pack.html") == pack_page(document, picture).encode()
    yield PackFinding("pack.html", same, "shows pack.json" if same else "is not pack.json's page")


def _signed(files: Mapping[str, bytes], keyring: KeyRing) -> PackFinding:
    if SIGNATURE not in files:
        return PackFinding(SIGNATURE, True, "nobody signed the pack as a whole")
    try:
        made = keyring.verify(Envelope.from_bytes(files[SIGNATURE]), PACK)
    except AssayError as error:
        return PackFinding(SIGNATURE, False, error.message)
    same = dict(made.statement.subjects) == {CHECKSUMS: _digest(files.get(CHECKSUMS))}
    by = f"by {made.identity}, key {made.key_id[:12]}"
    return PackFinding(SIGNATURE, same, by if same else f"{by}, is about another list of digests")


def _heads(
    files: Mapping[str, bytes], entries: Sequence[Entry], keyring: KeyRing
) -> tuple[str, int, bool]:
    """What there is to say about signed heads, the last entry that one covers, and if they hold."""
    wrong: list[str] = []
    revoked: dict[str, int] = {}
    furthest = 0
    for path in sorted(one for one in files if one.startswith("heads/")):
        try:
            by = ""
            try:
                made = keyring.verify(Envelope.from_bytes(files[path]), LOG_HEAD)
            except RevokedKey as error:
                made, by = error.made, error.message
            seq, stated = made.statement.predicate["seq"], made.statement.predicate["hash"]
            if by:
                revoked[by] = max(seq, revoked.get(by, 0))
            elif entries[seq - 1].hash != stated:
                wrong.append(f"{path} names another entry {seq}")
            else:
                furthest = max(furthest, seq)
        except AssayError as error:
            wrong.append(f"{path}: {error.message}")
        except (KeyError, TypeError, IndexError):
            wrong.append(f"{path} names an entry that is not there")
    # One by a revoked key is no evidence: what it alone covers, nobody trusted has vouched for.
    wrong += [f"only heads {by} go on to entry {seq}" for by, seq in revoked.items()
              if seq > furthest]  # fmt: skip
    notes = "".join(f"; NOTE: heads {by} are no evidence" for by in revoked)
    return "; ".join(wrong) or f"signed up to entry {furthest}{notes}", furthest, not wrong


def _statements(
    files: Mapping[str, bytes], own: list[Entry], identity: Mapping[str, Any], trail: _Trail
) -> Iterator[PackFinding]:
    """Approvals and promotions: signed, about this digest, and not by the author."""
    seen = set()
    for entry in own:
        for path, envelope, purpose in statements_in(entry):
            seen.add(path)
            if files.get(path) != canonical_bytes(dict(envelope)):
                yield PackFinding(path, False, "is not the statement that the log holds")
            else:
                yield _statement(path, envelope, purpose, entry, identity, trail)
    foreign = {one for one in files if one.startswith("statements/")} - seen
    if foreign:
        yield PackFinding("statements", False, f"not in the log: {', '.join(sorted(foreign))}")


def _statement(
    path: str,
    envelope: Mapping[str, Any],
    purpose: str,
    entry: Entry,
    identity: Mapping[str, Any],
    trail: _Trail,
) -> PackFinding:
    try:
        read = Envelope.from_json(envelope)
        made, said = trail.attested(read, purpose, entry, identity["digest"])
    except AssayError as error:
        return PackFinding(path, False, error.message)
    about = f"{identity['name']}/{identity['version']}"
    if dict(made.statement.subjects) != {about: identity["digest"]}:
        return PackFinding(path, False, "is about another version or other bytes")
    if purpose == APPROVAL:
        stated = made.statement.predicate.get("approver")
        if made.identity != stated or made.identity == identity["author"]:
            return PackFinding(path, False, f"{stated} approves with the key of {made.identity}")
    return PackFinding(path, True, said)
