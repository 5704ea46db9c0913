"""Where manifests are published is one setting; what a client raises is told in Assay's words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from assay.bootstrap import Member, create_desk, open_desk
from assay.errors import ConfigurationError, NotFound, Unavailable
from assay.orchestration.manifest_promotion import list_manifests, publish_view
from assay.storage.objects import LocalObjects

pytest.importorskip("s3fs", reason="pip install 'assay[object-storage]'")
from assay.adapters.objects import FsspecObjects


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "desk"
    create_desk(folder, name=None, members=[Member("ops", ("log_head",))])
    return folder


def publish_to(folder: Path, where: str | None) -> str:
    path = folder / "assay.yaml"
    document = yaml.safe_load(path.read_text())
    document["features"]["manifests"] = where
    path.write_text(yaml.safe_dump(document))
    opened = open_desk(folder)
    note = publish_view(opened, "fx_daily", by="ops")
    (row,) = list_manifests(open_desk(folder)).rows
    assert (row.manifest, row.published, row.is_defined) == (note.manifest, note, True)
    return note.manifest


def test_manifests_lie_where_the_setting_says(folder: Path, tmp_path: Path, bucket: str) -> None:
    for where, place in (
        (None, folder / "data/manifests"),
        ("shared/manifests", folder / "shared/manifests"),
        (str(tmp_path / "absolute"), tmp_path / "absolute"),
        (f"file://{tmp_path}/by%20url", tmp_path / "by url"),
    ):
        digest = publish_to(folder, where)
        assert (place / f"{digest}.json").is_file(), where
    digest = publish_to(folder, f"s3://{bucket}/desk/manifests")
    objects = FsspecObjects(f"s3://{bucket}/desk/manifests")
    assert objects.names() == [f"{digest}.json"]
    local = LocalObjects(folder / "data/manifests")
    assert objects.get(f"{digest}.json") == local.get(f"{digest}.json")


def test_an_environment_variable_chooses_the_place(
    folder: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_FEATURES__MANIFESTS", f"s3://{bucket}/other")
    assert open_desk(folder).manifests.url == f"s3://{bucket}/other"


def test_a_protocol_that_nobody_speaks_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="nonsense"):
        FsspecObjects("nonsense://place")


def test_a_protocol_whose_package_is_missing_says_what_to_install() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(Unavailable) as caught:
        FsspecObjects("gs://bucket/manifests")
    assert caught.value.hint == "pip install 'assay[object-storage]'"


def test_without_the_extra_a_url_says_what_to_install(folder: Path) -> None:
    path = folder / "assay.yaml"
    document = yaml.safe_load(path.read_text())
    document["features"]["manifests"] = "s3://bucket/manifests"
    path.write_text(yaml.safe_dump(document))
    program = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from pathlib import Path\n"
        "from assay.bootstrap import open_desk\n"
        "from assay.errors import Unavailable\n"
        "try:\n    open_desk(Path(sys.argv[1])).manifests\n"
        "except Unavailable as error:\n    print(error.hint)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "pip install 'assay[object-storage]'"


def test_what_a_client_raises_becomes_unavailable_with_the_place(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = FsspecObjects("s3://there-is-no-such-bucket/x")
    with pytest.raises(Unavailable, match="s3://there-is-no-such-bucket/x"):
        gone.put_if_absent("a", b"1")
    with pytest.raises((NotFound, Unavailable)):
        gone.get("a")
    options = {
        "endpoint_url": "http://127.0.0.1:9",
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    nobody = FsspecObjects(f"s3://{bucket}/x", options | {"skip_instance_cache": True})
    with pytest.raises(Unavailable, match=f"s3://{bucket}/x"):
        nobody.get("a")


def test_a_password_in_a_url_is_not_shown() -> None:
    assert FsspecObjects("memory://user:secret@host/folder").url == "memory://host/folder"


def test_a_server_that_ignores_the_condition_does_not_lose_the_first_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects = FsspecObjects("memory://careless/folder")
    assert objects.put_if_absent("a", b"first") == b"first"
    files = type(objects._files)
    write = files.pipe_file
    careless = lambda self, path, data, mode: write(self, path, data)  # noqa: E731
    monkeypatch.setattr(files, "pipe_file", careless)
    assert objects.put_if_absent("a", b"second") == b"first"
    assert objects.get("a") == b"first"
