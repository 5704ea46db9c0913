"""One changed byte anywhere in a version: the file is named, and the version is not opened."""

import os
import random
import resource
import shutil
import signal

import pytest

from assay.errors import NotFound, Tampered, Unavailable
from assay.registry import create_key, revoke_key
from assay.testing.clocks import FixedClock
from assay.testing.versions import AUTHOR, make_candidate, make_registry

FILES = (
    "model.onnx",
    "model.txt",
    "metadata.json",
    "sidecar.json",
    "parity.json",
    "bench.json",
    "golden.json",
    "CHANGES.md",
    "manifest.json",
    "checksum.sha256",
    "signature",
)

IN_COMMON = {"sidecar.json", "parity.json", "bench.json", "CHANGES.md"}
"""Files that the two versions of these tests share byte for byte."""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    made = make_registry(folder, FixedClock(10**18))
    made.register(make_candidate(padding=b"tree 0\n" * 20))
    made.register(make_candidate(version="1.1.0", weights=(1, 2), padding=b"tree 1\n" * 20))
    return folder


@pytest.fixture
def registry(template, tmp_path):
    shutil.copytree(template, tmp_path, symlinks=True, dirs_exist_ok=True)
    return make_registry(tmp_path, FixedClock(10**18))


def path_of(registry, file, version="1.0.0"):
    return registry.root / "artifacts" / "fx_vol" / version / file


def named(registry, version="1.0.0"):
    """The files that validation names; opening must refuse and name the first of them."""
    report = registry.validate("fx_vol", version)
    assert not report.ok
    with pytest.raises(Tampered) as caught:
        registry.open_version("fx_vol", version)
    assert report.problems[0].file in caught.value.message
    return {problem.file for problem in report.problems}


def overwrite(path, data):
    path.chmod(0o644)
    path.write_bytes(data)


def flip(data, position, bit):
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def test_the_list_of_files_above_is_the_whole_version(registry):
    assert registry.validate("fx_vol", "1.0.0").ok
    assert sorted(path.name for path in path_of(registry, "").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_bit_is_found_and_its_file_named(registry, file):
    path = path_of(registry, file)
    data = path.read_bytes()
    generator = random.Random(file)
    places = {0, len(data) - 1, *(generator.randrange(len(data)) for _ in range(6))}
    for position in sorted(places):
        overwrite(path, flip(data, position, generator.randrange(8)))
        assert named(registry) == {file}, position
    overwrite(path, data)
    assert registry.validate("fx_vol", "1.0.0").ok


@pytest.mark.long
@pytest.mark.parametrize("file", FILES)
def test_every_flipped_byte_of_a_version_is_found(registry, file):
    path = path_of(registry, file)
    data = path.read_bytes()
    for position in range(len(data)):
        overwrite(path, flip(data, position, position % 8))
        assert named(registry) == {file}, position


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("change", ["shorter", "longer", "empty"])
def test_another_length_is_found(registry, file, change):
    path = path_of(registry, file)
    data = path.read_bytes()
    overwrite(path, {"shorter": data[:-1], "longer": data + b" ", "empty": b""}[change])
    assert named(registry) == {file}


@pytest.mark.parametrize("file", FILES)
def test_a_deleted_file_is_found(registry, file):
    path_of(registry, file).unlink()
    assert file in named(registry)


@pytest.mark.parametrize("file", ["extra", ".hidden", "model.pkl", "manifest.json~"])
def test_an_extra_file_is_found(registry, file):
    path_of(registry, file).write_bytes(b"x")
    assert named(registry) == {file}


def test_an_extra_folder_is_found(registry):
    path_of(registry, "extra").mkdir()
    assert named(registry) == {"extra"}


@pytest.mark.parametrize("file", FILES)
def test_a_link_is_refused_even_to_the_same_bytes(registry, tmp_path, file):
    path = path_of(registry, file)
    target = tmp_path / "outside"
    path.rename(target)
    path.symlink_to(target)
    assert file in named(registry)


def test_a_linked_version_folder_is_refused(registry, tmp_path):
    folder = path_of(registry, "")
    folder.rename(tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    for ask in (registry.validate, registry.open_version):
        with pytest.raises(Tampered, match="not a real folder"):
            ask("fx_vol", "1.0.0")


def test_a_fifo_is_refused_and_not_waited_for(registry):
    path = path_of(registry, "bench.json")
    path.unlink()
    os.mkfifo(path)
    assert named(registry) == {"bench.json"}


def test_two_swapped_files_are_both_named(registry):
    one, two = path_of(registry, "parity.json"), path_of(registry, "bench.json")
    first, second = one.read_bytes(), two.read_bytes()
    overwrite(one, second)
    overwrite(two, first)
    assert named(registry) == {"parity.json", "bench.json"}


@pytest.mark.parametrize("file", sorted({*FILES} - IN_COMMON))
def test_a_file_of_another_version_is_found(registry, file):
    overwrite(path_of(registry, file), path_of(registry, file, "1.1.0").read_bytes())
    assert file in named(registry)


def test_two_swapped_versions_are_both_refused(registry):
    one, two = path_of(registry, ""), path_of(registry, "", "1.1.0")
    one.rename(one.with_name("x"))
    two.rename(one)
    one.with_name("x").rename(two)
    for version in ("1.0.0", "1.1.0"):
        assert {"signature", "manifest.json"} <= named(registry, version)


def test_a_version_resealed_by_someone_else_is_refused(registry, template, tmp_path):
    """All digests mended and signed, but by a key that the desk does not trust."""
    other = make_registry(tmp_path / "other", FixedClock(10**18))
    other.register(make_candidate(weights=(6, 6), padding=b"tree 0\n" * 20))
    folder = path_of(registry, "")
    shutil.rmtree(folder)
    shutil.copytree(path_of(other, ""), folder)
    assert named(registry) == {"signature", "manifest.json"}


def test_a_version_resealed_with_a_trusted_key_is_still_not_the_registered_one(registry, tmp_path):
    other = make_registry(tmp_path / "other", FixedClock(10**18))
    for path in (tmp_path / "desk" / "keys").iterdir():
        shutil.copy(path, tmp_path / "other" / "desk" / "keys")
    shutil.copytree(tmp_path / "private", tmp_path / "other" / "private", dirs_exist_ok=True)
    other.register(make_candidate(weights=(6, 6), padding=b"tree 0\n" * 20))
    folder = path_of(registry, "")
    shutil.rmtree(folder)
    shutil.copytree(path_of(other, ""), folder)
    report = registry.validate("fx_vol", "1.0.0")
    assert report.signature.startswith("valid")
    assert named(registry) == {"manifest.json"}


def test_a_version_whose_signer_is_revoked_is_refused(registry):
    key = registry.keyring.key_of(AUTHOR)
    revoke_key(registry.keyring.public_dir, key.key_id, "stolen")
    assert named(registry) == {"signature"}
    assert "revoked: stolen" in registry.validate("fx_vol", "1.0.0").signature


def test_a_signer_without_the_permission_cannot_register(registry, tmp_path):
    create_key("clerk", tmp_path / "private", tmp_path / "desk" / "keys", ["approval"])
    with pytest.raises(Unavailable, match="may sign approval, not version"):
        registry.register(make_candidate(version="1.2.0", weights=(5, 5)), signer="clerk")


def test_a_missing_folder_is_said_to_be_missing(registry):
    shutil.rmtree(path_of(registry, ""))
    with pytest.raises(NotFound, match="does not exist"):
        registry.open_version("fx_vol", "1.0.0")


def test_a_full_disk_during_an_event_is_reported_and_leaves_no_half_event(registry):
    log = registry.root / "log" / "events.jsonl"
    before = log.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # No file may grow beyond a little more than the log has now.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))
        with pytest.raises((Unavailable, OSError)):
            registry.fail("fx_vol", "1.0.0", initiated_by=AUTHOR, reason="x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert registry.get("fx_vol", "1.0.0").stage == "staged"
    registry.fail("fx_vol", "1.0.0", initiated_by=AUTHOR, reason="x")
    assert registry.verify_log().ok
    assert log.read_bytes().startswith(before)
