"""A pack as files: deterministic, and enough to check every signature in it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.errors import Conflict
from assay.orchestration.desk import Desk
from assay.orchestration.evidence_pack import declared as declarations
from assay.orchestration.evidence_pack.contents import SCORECARDS, gather_pack, statements_in
from assay.orchestration.evidence_pack.page import pack_page
from assay.orchestration.lineage import lineage_of, lineage_svg
from assay.orchestration.scorecards import scorecards_of
from assay.registry.bill_of_materials import bill_of_materials
from assay.registry.keyring import PACK
from assay.registry.signing import Statement
from assay.storage.files import write_atomic

CHECKSUMS: Final = "checksum.sha256"
SIGNATURE: Final = "pack.signature"
_MODEL: Final = "model."
_README: Final = """\
# Evidence pack

pack.html            the pack to read; pack.json the same as canonical JSON
lineage.svg          what the version was made from, and what became of it
bom.cdx.json         bill of materials, CycloneDX 1.6
version/             the version's sealed files with their signature; the model itself by digest
log.jsonl            the registry's whole log: each line names the hash of the one before
heads/               signed statements of how far the log had come
statements/          approvals and promotions of this version, as they were signed
scorecards/          how it did beside the version in production, in shadow and as a canary
serving.jsonl        what servers wrote down about what they had loaded
keys/                public keys, and who may sign what
checksum.sha256      SHA-256 of every other file
pack.signature       a signed statement about checksum.sha256, where somebody signed the pack

To check it without the desk: `sha256sum -c checksum.sha256`, then `assay models check-pack` on this
folder. The keys came with the pack, so compare their ids in keys/trust.json with those that you
were given in another way, or pass your own folder: `assay models check-pack . --keys FOLDER`.

Every signature is a DSSE envelope (payload type application/vnd.in-toto+json) over an in-toto
statement, Ed25519. A key's id is the SHA-256 of its SubjectPublicKeyInfo.
"""


def pack_files(desk: Desk, name: str, version: str) -> dict[str, bytes]:
    """Every file of a pack by its path; the same state of the desk gives the same bytes.

    Raises
    ------
    NotFound: no such version. Tampered: the version, or the log, does not verify.
    """
    registry = desk.registry
    record = registry.get(name, version)
    opened = registry.keep_version(name, record.version)
    cards = scorecards_of(desk, name, record.version)
    document = gather_pack(desk, name, record.version, cards)
    picture = lineage_svg(lineage_of(desk, name, record.version))
    files = {
        "README.md": _README.encode(),
        "pack.json": canonical_bytes(document),
        "pack.html": pack_page(document, picture).encode(),
        "lineage.svg": picture.encode(),
        "bom.cdx.json": canonical_bytes(bom_of(desk, name, record.version)),
        "log.jsonl": _log(desk, document["log_head"]["seq"]),
        **{f"version/{n}": d for n, d in opened.files.items() if not n.startswith(_MODEL)},
        **_statements(desk, name, record.version),
        **_keys(desk),
        **_heads(desk, document["log_head"]["seq"]),
    }  # fmt: skip
    for card in cards:
        files |= {f"{SCORECARDS}/{own}": data for own, data in card.files.items()}
    if desk.layout.serving_record.is_file():
        files["serving.jsonl"] = desk.layout.serving_record.read_bytes()
    declared = desk.layout.root / declarations.FILE
    if document["declared"]["source_sha256"] is not None:
        files["declared.yaml"] = declared.read_bytes()
    lines = (f"{sha256_hex(data)}  {path}\n" for path, data in sorted(files.items()))
    files[CHECKSUMS] = "".join(lines).encode()
    return files


def write_pack(
    desk: Desk, name: str, version: str, target: Path, *, signer: str | None = None
) -> dict[str, bytes]:
    """Write a pack into a new folder, or into an archive where ``target`` ends in ``.zip``.

    Parameters
    ----------
    signer: whose key signs the list of digests; None for nobody's.

    Raises
    ------
    Conflict: the folder holds something already. Unavailable: the signer's key is not here.
    """
    if target.suffix != ".zip" and target.exists() and any(target.iterdir()):
        raise Conflict(f"{target} is not empty", hint="choose a new folder, or a file.zip")
    files = pack_files(desk, name, version)
    if signer is not None:
        statement = Statement(
            PACK, {CHECKSUMS: sha256_hex(files[CHECKSUMS])}, {"name": name, "version": version}
        )
        files[SIGNATURE] = desk.keyring.sign(signer, statement).to_bytes()
    if target.suffix == ".zip":
        write_atomic(target, _archive(files))
    else:
        for path, data in files.items():
            write_atomic(target / path, data)
    return files


def bom_of(desk: Desk, name: str, version: str) -> dict[str, Any]:
    """A version's bill of materials; its use is the declared one, otherwise what its recipe says.

    Raises
    ------
    NotFound: no such version. Tampered: it does not verify.
    """
    registry = desk.registry
    record = registry.get(name, version)
    opened = registry.keep_version(name, record.version)
    declared = declarations.read_declared(desk.layout.root, name)
    recipe = opened.metadata.config.get("recipe")
    said = recipe.get("description") if isinstance(recipe, Mapping) else None
    use = declared.intended_use or said
    return bill_of_materials(
        opened,
        record,
        registry.evidence(name, record.version),
        uses=[use] if use else [],
        limits=declared.limits,
    )


def _log(desk: Desk, upto: int) -> bytes:
    entries = desk.registry.latest(desk.registry.latest(1)[0].seq)
    return b"".join(one.to_line() + b"\n" for one in entries if one.seq <= upto)


def _statements(desk: Desk, name: str, version: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in desk.registry.history(name):
        if entry.to_version != version:
            continue
        for path, envelope, _ in statements_in(entry):
            found[path] = canonical_bytes(dict(envelope))
    return found


def _keys(desk: Desk) -> dict[str, bytes]:
    """Public halves and the trust policy. Private keys lie outside of the desk."""
    folder = desk.keyring.public_dir
    trusted = desk.keyring.keys()
    names = ["trust.json", *(key.public_key for key in trusted)]
    paths = [folder / name for name in dict.fromkeys(names)]
    return {f"keys/{path.name}": path.read_bytes() for path in paths if path.is_file()}


def _heads(desk: Desk, upto: int) -> dict[str, bytes]:
    paths = sorted((desk.layout.registry / "log" / "heads").glob("[0-9]*.json"))
    return {f"heads/{one.name}": one.read_bytes() for one in paths if int(one.stem[:12]) <= upto}


def _archive(files: Mapping[str, bytes]) -> bytes:
    """A ZIP archive whose bytes depend on nothing but the files: stored, in order, undated."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, data in sorted(files.items()):
            member = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    return buffer.getvalue()
