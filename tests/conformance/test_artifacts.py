"""Folders and objects keep the files of versions by one set of promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from assay.adapters.objects import FsspecObjects
from assay.errors import Tampered
from assay.registry import ModelRegistry
from assay.registry.folders import FolderArtifacts
from assay.registry.objects import ObjectArtifacts
from assay.storage.objects import LocalObjects
from assay.testing.artifacts import ArtifactsTests, sealed
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate, make_keys


class TestFolders(ArtifactsTests):
    @pytest.fixture
    def open_artifacts(self, tmp_path: Path) -> Callable[[], FolderArtifacts]:
        return lambda: FolderArtifacts(tmp_path / "place")


class TestObjectsInAFolder(ArtifactsTests):
    @pytest.fixture
    def open_artifacts(self, tmp_path: Path) -> Callable[[], ObjectArtifacts]:
        return lambda: ObjectArtifacts(LocalObjects(tmp_path / "place"))


class TestObjectsBehindAUrl(ArtifactsTests):
    @pytest.fixture
    def open_artifacts(self) -> Callable[[], ObjectArtifacts]:
        url = f"memory://{uuid4().hex}"
        return lambda: ObjectArtifacts(FsspecObjects(url))


def test_content_that_was_damaged_is_written_anew_for_the_next_version_that_has_it(
    tmp_path: Path,
) -> None:
    shared = b"shared" * 1000
    for artifacts, content in (
        (FolderArtifacts(tmp_path / "a"), tmp_path / "a/artifacts/.content"),
        (ObjectArtifacts(LocalObjects(tmp_path / "b")), tmp_path / "b/content"),
    ):
        one, two = sealed(shared, b"1"), sealed(shared, b"2")
        artifacts.prepare("fx_vol", "1.0.0", one)
        artifacts.put_in_place("fx_vol", "1.0.0", one.digest)
        for path in content.iterdir():
            path.chmod(0o644)
            path.write_bytes(b"x" + path.read_bytes()[1:])
        artifacts.prepare("fx_vol", "1.1.0", two)
        artifacts.put_in_place("fx_vol", "1.1.0", two.digest)
        assert artifacts.read("fx_vol", "1.1.0", two.digest).files == two.files


def test_a_changed_byte_in_any_object_of_a_version_is_refused_by_the_name_of_its_file(
    tmp_path: Path,
) -> None:
    keys, objects = make_keys(tmp_path / "people"), tmp_path / "objects"
    registry = ModelRegistry(
        tmp_path / "registry", keys, FixedClock(10**18),
        artifacts=ObjectArtifacts(LocalObjects(objects)),
    )  # fmt: skip
    registry.register(make_candidate())
    files = registry.open_version("fx_vol", "1.0.0").files
    contents = sorted((objects / "content").iterdir())
    assert len(contents) == len(files)
    for path in contents:
        before = path.read_bytes()
        (name,) = [name for name, data in files.items() if data == before]
        path.write_bytes(bytes([before[0] ^ 1]) + before[1:])
        with pytest.raises(Tampered, match=name.replace(".", r"\.")):
            registry.open_version("fx_vol", "1.0.0")
        path.unlink()
        with pytest.raises(Tampered, match=name.replace(".", r"\.")):
            registry.open_version("fx_vol", "1.0.0")
        path.write_bytes(before)
    (listing,) = (objects / "versions").iterdir()
    before = listing.read_bytes()
    for wrong in (b"", b"{}", before[:-20], before.replace(b'"files"', b'"filex"'), b'{"files":[]}',
                  b'{"files":{"a":"../../x"}}'):  # fmt: skip
        listing.write_bytes(wrong)
        with pytest.raises(Tampered):
            registry.open_version("fx_vol", "1.0.0")
