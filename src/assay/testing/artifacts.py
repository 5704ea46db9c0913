"""The promises of whatever keeps the files of versions, for whoever writes one.

A suite of its own is ten lines::

    class TestMyArtifacts(ArtifactsTests):
        @pytest.fixture
        def open_artifacts(self, tmp_path):
            return lambda: MyArtifacts(tmp_path)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from assay.errors import NotFound, Tampered
from assay.registry import ModelRegistry
from assay.registry.artifacts import Artifacts, Place
from assay.registry.sealed import MANIFEST, SealedFiles
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate, make_keys

Open = Callable[[], Artifacts]


def sealed(*contents: bytes) -> SealedFiles:
    """Files of a version that nobody signed: what keeps them does not look inside."""
    files = {f"file{number}": data for number, data in enumerate(contents)}
    return SealedFiles({**files, MANIFEST: b"".join(contents)})


def placed(artifacts: Artifacts) -> list[tuple[str, str]]:
    """Name and version of everything that stands in a place."""
    return [(place.name, place.version) for place in artifacts.places()]


class ArtifactsTests:
    """Give ``open_artifacts``, which opens the same artefacts each time, empty in each test."""

    def test_prepared_files_stand_in_no_place_until_they_are_put_there(
        self, open_artifacts: Open
    ) -> None:
        files = sealed(b"model", bytes(range(256)) * 40)
        version = ("fx_vol", "1.0.0", files.digest)
        open_artifacts().prepare("fx_vol", "1.0.0", files)
        artifacts = open_artifacts()
        assert artifacts.is_prepared(*version)
        assert not artifacts.is_there(*version)
        assert placed(artifacts) == []
        with pytest.raises(NotFound, match=r"1\.0\.0"):
            artifacts.read(*version)
        for _ in range(2):
            artifacts.put_in_place(*version)
            assert open_artifacts().is_there(*version)
            assert not open_artifacts().is_prepared(*version)
        assert placed(open_artifacts()) == [("fx_vol", "1.0.0")]
        found = open_artifacts().read(*version)
        assert found.problems == ()
        assert found.files == files.files
        assert open_artifacts().read_file(*version, "file0") == b"model"
        with pytest.raises(NotFound):
            artifacts.read_file(*version, "file9")

    def test_what_a_killed_writer_prepared_is_left_over_until_the_next_one_of_that_model(
        self, open_artifacts: Open
    ) -> None:
        first, second = sealed(b"first" * 2000), sealed(b"second" * 2000)
        artifacts = open_artifacts()
        artifacts.prepare("fx_vol", "1.0.0", first)
        artifacts.prepare("fx_dir", "1.0.0", first)
        artifacts.prepare("fx_vol", "1.1.0", second)
        assert not artifacts.is_prepared("fx_vol", "1.0.0", first.digest)
        assert artifacts.is_prepared("fx_dir", "1.0.0", first.digest)
        artifacts.put_in_place("fx_vol", "1.0.0", first.digest)
        artifacts.put_in_place("fx_vol", "1.1.0", second.digest)
        assert placed(artifacts) == [("fx_vol", "1.1.0")]
        left = artifacts.leftovers()
        assert left
        assert all(size > 0 for size in left.values())
        for one in left:
            artifacts.remove_leftover(one)
            artifacts.remove_leftover(one)
        for one in artifacts.leftovers():  # what only the leftovers had
            artifacts.remove_leftover(one)
        assert open_artifacts().leftovers() == {}
        assert open_artifacts().read("fx_vol", "1.1.0", second.digest).files == second.files

    def test_equal_files_of_two_versions_are_stored_once_and_outlive_one_of_them(
        self, open_artifacts: Open
    ) -> None:
        shared = hashlib.sha256(b"x").digest() * 1000
        one, two = sealed(shared, b"1" * 5000), sealed(shared, b"2" * 5000)
        artifacts = open_artifacts()
        for version, files in (("1.0.0", one), ("1.1.0", two)):
            artifacts.prepare("fx_vol", version, files)
            artifacts.put_in_place("fx_vol", version, files.digest)
        assert [place[:2] for place in artifacts.places()] == [
            ("fx_vol", "1.0.0"), ("fx_vol", "1.1.0")
        ]  # fmt: skip
        freed = artifacts.remove("fx_vol", "1.0.0", one.digest)
        assert 5_000 <= freed < 5_000 + len(shared) + len(one.files[MANIFEST])
        assert artifacts.remove("fx_vol", "1.0.0", one.digest) == 0
        assert placed(artifacts) == [("fx_vol", "1.1.0")]
        assert open_artifacts().read("fx_vol", "1.1.0", two.digest).files == two.files
        assert artifacts.remove("fx_vol", "1.1.0", two.digest) >= len(shared) + 5_000
        assert list(open_artifacts().places()) == []
        assert open_artifacts().leftovers() == {}

    def test_a_place_names_its_version(self, open_artifacts: Open) -> None:
        artifacts = open_artifacts()
        files = sealed(b"x")
        for name, version in (("b_model", "2.0.0"), ("a_model", "10.0.1"), ("b_model", "1.0.0")):
            artifacts.prepare(name, version, files)
            artifacts.put_in_place(name, version, files.digest)
        places = list(artifacts.places())
        assert placed(artifacts) == [
            ("a_model", "10.0.1"), ("b_model", "1.0.0"), ("b_model", "2.0.0")
        ]  # fmt: skip
        assert all(place.digest in {None, files.digest} for place in places)
        assert [place for place in places if place.name == "b_model"] == list(
            artifacts.places("b_model")
        )
        assert list(artifacts.places("b")) == []
        assert all(isinstance(place, Place) for place in places)

    def test_a_registry_lives_on_it(self, open_artifacts: Open, tmp_path: Path) -> None:
        keys, clock = make_keys(tmp_path / "people"), FixedClock(10**18)

        def opened() -> ModelRegistry:
            return ModelRegistry(tmp_path / "registry", keys, clock, artifacts=open_artifacts())

        versions: Sequence[str] = ("1.0.0", "1.1.0")
        for bias, version in enumerate(versions):
            opened().register(make_candidate(version=version, bias=float(bias)))
        registry = opened()
        assert [record.version for record in registry.list()] == [*versions]
        for version in versions:
            assert registry.validate("fx_vol", version).ok
        assert registry.open_version("fx_vol", "1.1.0").onnx
        assert registry.verify_log().ok
        gone = registry.get("fx_vol", "1.0.0")
        open_artifacts().remove("fx_vol", "1.0.0", gone.digest)
        (problem,) = registry.verify_log().problems
        assert "fx_vol 1.0.0 is gone" in problem.detail
        strange = sealed(b"strange")
        open_artifacts().prepare("fx_vol", "3.0.0", strange)
        open_artifacts().put_in_place("fx_vol", "3.0.0", strange.digest)
        (_, problem) = registry.verify_log().problems
        assert "3.0.0" in problem.detail
        assert "never registered" in problem.detail
        with pytest.raises((NotFound, Tampered)):
            registry.open_version("fx_vol", "1.0.0")
