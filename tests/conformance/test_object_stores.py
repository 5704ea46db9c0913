"""Objects in a folder, in memory and on an S3 server keep the promises of the port."""

from __future__ import annotations

import uuid

import pytest

from assay.storage.objects import LocalObjects
from assay.testing.objects import ObjectStoreTests


class TestLocalObjects(ObjectStoreTests):
    @pytest.fixture
    def open_objects(self, tmp_path):
        return lambda: LocalObjects(tmp_path / "objects")


class TestFsspecMemory(ObjectStoreTests):
    @pytest.fixture
    def open_objects(self):
        pytest.importorskip("fsspec", reason="pip install 'assay[object-storage]'")
        from assay.adapters.objects import FsspecObjects

        url = f"memory://{uuid.uuid4().hex}/manifests"
        return lambda: FsspecObjects(url)


class TestFsspecS3(ObjectStoreTests):
    @pytest.fixture
    def open_objects(self, bucket):
        from assay.adapters.objects import FsspecObjects

        return lambda: FsspecObjects(f"s3://{bucket}/desk/manifests")


class TestFsspecFilesThatAreRenamedIntoPlace(ObjectStoreTests):
    """What is done on file systems that show an object while it is being written."""

    @pytest.fixture
    def open_objects(self, tmp_path):
        pytest.importorskip("fsspec", reason="pip install 'assay[object-storage]'")
        from assay.adapters.objects import FsspecObjects

        return lambda: FsspecObjects(f"local://{tmp_path}/objects")

    @pytest.mark.skip(reason="two writers at one instant may both believe to be the first there")
    def test_of_several_writers_at_once_one_wins_and_all_see_its_bytes(self):
        """Content-addressed objects do not need it: all writers have the same bytes."""
