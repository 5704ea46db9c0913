"""A version travels whole, arrives as what it was, and nothing else gets in with it."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.delivery.countersigning import countersign
from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.errors import ContractViolation, NotFound, Tampered
from assay.registry import Candidate, EventType, KeyRing, ModelRegistry, revoke_key, trust_key
from assay.registry.countersigning import envelopes_of
from assay.registry.keyring import PURPOSES
from assay.registry.packages import oci_layout, read_package, tarball
from assay.registry.signing import Envelope
from assay.testing.clocks import FixedClock
from assay.testing.versions import (
    AUTHOR,
    FIRST_APPROVER,
    SECOND_APPROVER,
    make_candidate,
    make_keys,
    make_registry,
)

T0 = 1_700_000_000_000_000_000


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    made = make_registry(tmp_path / "here", FixedClock(T0))
    made.register(make_candidate(version="1.3.0", padding=b"native" * 500))
    return made


@pytest.fixture
def files(registry: ModelRegistry) -> dict[str, bytes]:
    return dict(registry.open_version("fx_vol", "1.3.0").files)


def as_tar(files: dict[str, bytes]) -> bytes:
    return tarball(files)


def as_oci(files: dict[str, bytes]) -> bytes:
    return oci_layout(files, name="fx_vol", version="1.3.0")


BOTH = pytest.mark.parametrize("pack", [as_tar, as_oci])
Pack = Callable[[dict[str, bytes]], bytes]


@BOTH
def test_a_version_arrives_as_what_it_was_and_its_origin_with_it(
    registry: ModelRegistry, files: dict[str, bytes], tmp_path: Path, pack: Pack
) -> None:
    path = tmp_path / "version.tar"
    path.write_bytes(pack(files))
    package = read_package(path, registry.keyring)
    assert package.version.files == files
    there = ModelRegistry(tmp_path / "there", registry.keyring, FixedClock(T0 + 5))
    there.register(make_candidate(version="1.0.0", bias=9.0))
    made = there.register(package.candidate("1.1.0"), signer=AUTHOR, reason="from the desk")
    assert made.created
    opened = there.open_version("fx_vol", "1.1.0")
    assert opened.onnx == files["model.onnx"]
    origin = json.loads(opened.files["origin.json"])
    assert origin["digest"] == registry.get("fx_vol", "1.3.0").digest
    assert (origin["name"], origin["version"], origin["signed_by"]) == ("fx_vol", "1.3.0", AUTHOR)
    assert canonical_bytes(origin["signature"]) == files["signature"]
    assert there.verify_log().ok
    # The same model is not added again, here or there.
    assert not there.register(package.candidate("1.2.0"), signer=AUTHOR).created
    assert not registry.register(package.candidate("1.4.0"), signer=AUTHOR).created


def countersigned(registry: ModelRegistry, by: str) -> dict[str, Any]:
    """The same version after its author's key was stolen, and somebody vouched for it."""
    key = registry.keyring.key_of(AUTHOR)
    assert key is not None
    revoke_key(registry.keyring.public_dir, key.key_id, "laptop stolen")
    countersign(registry, "fx_vol", "1.3.0", signer=by, reason="bytes compared")
    opened = registry.open_version("fx_vol", "1.3.0")
    entries = registry.history("fx_vol", types=(EventType.COUNTERSIGN,))
    return {"files": dict(opened.files), "countersignatures": envelopes_of(entries)}


@pytest.mark.parametrize("oci", [False, True])
@pytest.mark.parametrize("knows_the_stolen_key", [False, True])
def test_a_countersigned_version_is_taken_by_a_desk_that_trusts_who_countersigned_it(
    registry: ModelRegistry, tmp_path: Path, oci: bool, knows_the_stolen_key: bool
) -> None:
    given = countersigned(registry, FIRST_APPROVER)
    path = tmp_path / "version.tar"
    path.write_bytes(oci_layout(**given, name="fx_vol", version="1.3.0") if oci
                     else tarball(**given))  # fmt: skip
    there = trusting(tmp_path / "there", registry, FIRST_APPROVER, SECOND_APPROVER)
    if knows_the_stolen_key:
        key = trust(there, registry, AUTHOR)
        revoke_key(there.public_dir, key, "stolen where it came from")
    package = read_package(path, there)
    assert package.version.files == given["files"]
    assert f"countersigned by {FIRST_APPROVER} where it came from" in package.version.note
    other = ModelRegistry(tmp_path / "other", there, FixedClock(T0 + 5))
    made = other.register(package.candidate("2.0.0"), signer=SECOND_APPROVER)
    opened = other.open_version("fx_vol", made.version)
    assert opened.signed_by == SECOND_APPROVER
    origin = json.loads(opened.files["origin.json"])
    assert origin["note"] == package.version.note
    assert [Envelope.from_json(one) for one in origin["countersignatures"]] == list(
        given["countersignatures"]
    )


def test_a_countersignature_counts_only_by_whom_the_desk_trusts_for_it_and_of_these_bytes(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    given = countersigned(registry, FIRST_APPROVER)
    path = tmp_path / "version.tar"
    path.write_bytes(tarball(**given))
    nobody = trusting(tmp_path / "nobody", registry, SECOND_APPROVER)
    with pytest.raises(Tampered, match="unknown key") as caught:
        read_package(path, nobody)
    assert "countersigned it must be trusted here" in str(caught.value.hint)
    there = trusting(tmp_path / "there", registry, FIRST_APPROVER)
    read_package(path, there)
    # Without it, with one of another version, changed, and by a key that was stolen too.
    path.write_bytes(tarball(given["files"]))
    with pytest.raises(Tampered, match="unknown key"):
        read_package(path, there)
    registry.register(
        make_candidate(version="1.4.0", bias=3.0, author=SECOND_APPROVER), signer=SECOND_APPROVER
    )
    other = registry.open_version("fx_vol", "1.4.0")
    mixed = tarball(dict(other.files), given["countersignatures"])
    path.write_bytes(mixed)
    with pytest.raises(Tampered, match="unknown key"):
        read_package(path, there)
    (good,) = given["countersignatures"]
    for wrong in (Envelope(good.body, good.key_id, b"x" * 64), Envelope(b"{}", good.key_id, b"")):
        path.write_bytes(tarball(given["files"], [wrong]))
        with pytest.raises(Tampered, match="unknown key"):
            read_package(path, there)
    for listed in (b"{}", b"[1]", b"[" * 99_999, canonical_bytes([0] * 1_001)):
        path.write_bytes(tarball({**given["files"], "countersignatures.json": listed}))
        with pytest.raises(Tampered):
            read_package(path, there)
    path.write_bytes(tarball(**given))
    key = there.key_of(FIRST_APPROVER)
    assert key is not None
    revoke_key(there.public_dir, key.key_id, "stolen too")
    with pytest.raises(Tampered, match="unknown key"):
        read_package(path, there)


def test_an_author_does_not_vouch_for_their_own_version_elsewhere(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    candidate = make_candidate(version="1.4.0", bias=3.0, author=FIRST_APPROVER)
    registry.register(candidate, signer=AUTHOR)
    key = registry.keyring.key_of(AUTHOR)
    assert key is not None
    revoke_key(registry.keyring.public_dir, key.key_id, "laptop stolen")
    countersign(registry, "fx_vol", "1.4.0", signer=FIRST_APPROVER, reason="mine")
    envelopes = envelopes_of(registry.history("fx_vol"))
    path = tmp_path / "version.tar"
    path.write_bytes(tarball(dict(registry.open_version("fx_vol", "1.4.0").files), envelopes))
    with pytest.raises(Tampered, match="unknown key"):
        read_package(path, trusting(tmp_path / "there", registry, FIRST_APPROVER))


def trust(there: KeyRing, registry: ModelRegistry, who: str) -> str:
    pem = (registry.keyring.public_dir / f"{who}.pem").read_bytes()
    return trust_key(who, pem, there.public_dir, PURPOSES).key_id


def trusting(folder: Path, registry: ModelRegistry, *people: str) -> KeyRing:
    """Another desk that trusts these people of the first one."""
    there = KeyRing(folder / "keys", registry.keyring.private_dir)
    for who in people:
        trust(there, registry, who)
    return there


@BOTH
def test_a_version_has_one_package_whoever_makes_it(files: dict[str, bytes], pack: Pack) -> None:
    assert pack(files) == pack(dict(reversed(files.items())))


def test_the_image_layout_is_what_its_specification_says(files: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=io.BytesIO(as_oci(files))) as archive:
        members = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    assert json.loads(members["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(members["index.json"])["manifests"]
    manifest_bytes = members["blobs/sha256/" + entry["digest"].removeprefix("sha256:")]
    assert len(manifest_bytes) == entry["size"]
    manifest = json.loads(manifest_bytes)
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == entry["mediaType"]
    for descriptor in (manifest["config"], *manifest["layers"]):
        blob = members["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
        assert sha256_hex(blob) == descriptor["digest"].removeprefix("sha256:")
        assert len(blob) == descriptor["size"]
    titles = [one["annotations"]["org.opencontainers.image.title"] for one in manifest["layers"]]
    assert titles == sorted(files)


@BOTH
def test_any_changed_byte_and_any_cut_is_refused(
    registry: ModelRegistry, files: dict[str, bytes], tmp_path: Path, pack: Pack
) -> None:
    path, data = tmp_path / "version.tar", pack(files)
    for at in range(0, len(data), 97):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        try:
            # Padding and the owner of a member are no part of the version.
            assert read_package(path, registry.keyring).version.files == files
        except (ContractViolation, Tampered):
            continue
    for at in range(0, len(data) - 10_240, 512):
        path.write_bytes(data[:at])
        with pytest.raises((ContractViolation, Tampered)):
            read_package(path, registry.keyring)


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as out:
        for member, data in members:
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    return made.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def bomb() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("model.onnx", bytes(50_000_000))
    return made.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (archive((member("../../evil"), b"x")), "does not belong there"),
        (archive((member("/etc/passwd"), b"x")), "does not belong there"),
        (archive((member("a/../../b"), b"x")), "does not belong there"),
        (archive((member("blobs/sha256/../x"), b"x")), "does not belong there"),
        (archive((member(".hidden"), b"x")), "does not belong there"),
        (archive((member("model.onnx", tarfile.SYMTYPE, "/etc/passwd"), b"")), "not a plain file"),
        (archive((member("model.onnx", tarfile.LNKTYPE, "x"), b"")), "not a plain file"),
        (archive((member("model.onnx", tarfile.FIFOTYPE), b"")), "not a plain file"),
        (archive((member("model.onnx", tarfile.DIRTYPE), b"")), "not a plain file"),
        (archive((member("a"), b"1"), (member("a"), b"2")), "'a' stands twice"),
        (archive(*((member(f"f{n}"), b"") for n in range(257))), "more than 256 files"),
        (archive((member("model.onnx"), b"x")), "holds no metadata.json and manifest.json"),
        (archive((member("oci-layout"), b"{}")), "is no image layout"),
        (
            archive((member("oci-layout"), b""), (member("index.json"), b"[" * 99_999)),
            "image layout",
        ),
        (
            archive(
                (member("oci-layout"), b""),
                (member("index.json"), b'{"manifests": [{"digest": 5}]}'),
            ),
            "is no image layout",
        ),
        (
            archive((member("metadata.json"), b"[" * 99_999), (member("manifest.json"), b"")),
            "metadata",
        ),
        (gzip.compress(archive((member("a"), b"x"))), "without compression"),
        (bomb(), "without compression"),
        (b"", "without compression"),
        (b"not an archive at all" * 100, "without compression"),
    ],
    # Not the bytes themselves: a compressed file holds the time at which it was made.
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_hostile_archives_are_refused_by_name(
    registry: ModelRegistry, tmp_path: Path, data: bytes, said: str
) -> None:
    path = tmp_path / "evil.tar"
    path.write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((ContractViolation, Tampered), match=said):
        read_package(path, registry.keyring)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_package_that_is_too_large_is_refused_before_it_is_read(
    registry: ModelRegistry, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "version.tar"
    path.write_bytes(as_tar(files))
    with pytest.raises(ContractViolation, match="expected at most 1,000"):
        read_package(path, registry.keyring, max_bytes=1_000)
    with pytest.raises(NotFound):
        read_package(tmp_path / "none.tar", registry.keyring)


def test_a_member_that_says_to_be_larger_than_the_file_is_refused(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    data = bytearray(archive((member("model.onnx"), b"x")))
    data[124:136] = b"77777777777\0"  # eight gigabytes, in octal
    checksum = sum(data[:148]) + 8 * 32 + sum(data[156:512])
    data[148:156] = b"%06o\0 " % checksum
    path = tmp_path / "evil.tar"
    path.write_bytes(bytes(data))
    with pytest.raises(ContractViolation, match=r"ends inside|without compression"):
        read_package(path, registry.keyring)


def test_a_version_signed_by_a_stranger_does_not_get_in(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "version.tar"
    path.write_bytes(as_tar(files))
    with pytest.raises(Tampered, match="signature"):
        read_package(path, make_keys(tmp_path / "strangers"))
    unsigned = {name: data for name, data in files.items() if name != "signature"}
    path.write_bytes(as_tar(unsigned))
    with pytest.raises(Tampered, match="not signed"):
        read_package(path, make_keys(tmp_path / "others"))


def test_a_name_that_no_archive_can_hold_is_refused_at_registration(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    import dataclasses

    model = make_candidate("weights", "1.0.0")
    longest = "w" * 96 + ".csv"

    def candidate(name: str) -> Candidate:
        metadata = dataclasses.replace(model.metadata, kind="weights")
        return Candidate(metadata, None, {"CHANGES.md": b"x\n", name: b"a,b\n1,2\n"})

    with pytest.raises(ContractViolation, match="at most 100 letters"):
        registry.register(candidate("w" + longest))
    registry.register(candidate(longest))
    path = tmp_path / "weights.tar"
    path.write_bytes(as_tar(dict(registry.open_version("weights", "1.0.0").files)))
    assert longest in read_package(path, registry.keyring).version.contents
