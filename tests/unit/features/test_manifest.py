"""The manifest changes exactly when the meaning of a view changes."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from assay.domain.canonical import content_hash
from assay.errors import Conflict, Tampered
from assay.features import Duration, FeatureView, Manifest, ManifestSet, Sessions, col

MID = col("mid")
FX = Path(__file__).parents[3] / "examples" / "fx" / "features" / "fx.py"


def view(**changes: object) -> FeatureView:
    arguments: dict = {
        "name": "fx",
        "source": "market",
        "entity": "instrument",
        "features": {"ret_1": MID.simple_return(1), "vol_20": MID.rolling_std(20)},
        "ttl": Sessions(3),
    }
    return FeatureView(**(arguments | changes))


def test_the_hash_is_pinned() -> None:
    # A change here means that every published manifest changes: do it knowingly.
    assert (
        Manifest.of(view()).hash
        == "e6125851c1c5a960d48cc6566004a106ebaf940492b80a681e555570d4812365"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "fy"},
        {"source": "quotes"},
        {"entity": "pair"},
        {"ttl": Sessions(4)},
        {"ttl": Duration.of(days=3)},
        {"members": "in_universe"},
        {"timezone": "Europe/Berlin"},
        {"features": {"ret_1": MID.simple_return(1)}},
        {"features": {"vol_20": MID.rolling_std(20), "ret_1": MID.simple_return(1)}},
        {"features": {"ret_1": MID.simple_return(1), "vol_20": MID.rolling_std(21)}},
        {"features": {"ret_1": MID.simple_return(1), "vol_20": MID.rolling_std(20, min_count=9)}},
        {"features": {"ret_1": MID.log_return(1), "vol_20": MID.rolling_std(20)}},
    ],
)
def test_any_change_of_meaning_changes_the_hash(changes: dict) -> None:
    assert Manifest.of(view(**changes)).hash != Manifest.of(view()).hash


def test_writing_the_same_thing_differently_does_not() -> None:
    again = view(
        features={"ret_1": col("mid").simple_return(), "vol_20": MID.rolling_std(20, min_count=20)}
    )
    assert Manifest.of(again).hash == Manifest.of(view()).hash


def test_the_hash_is_the_same_in_another_process_with_other_hash_seeds() -> None:
    program = (
        "import runpy, sys; from assay.features import Manifest; "
        "print(Manifest.of(runpy.run_path(sys.argv[1])['fx_daily']).hash)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program, str(FX)],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {Manifest.of(runpy.run_path(str(FX))["fx_daily"]).hash}


def test_a_published_manifest_is_named_by_its_content(tmp_path: Path) -> None:
    manifest = Manifest.of(view())
    path = manifest.publish(tmp_path)
    assert path.name == f"{manifest.hash}.json"
    assert content_hash(json.loads(path.read_bytes())) == manifest.hash
    assert manifest.publish(tmp_path) == path
    found = Manifest.read(path)
    assert (found.hash, found.view, found.feature_names) == (
        manifest.hash,
        "fx",
        ("ret_1", "vol_20"),
    )


def test_an_altered_manifest_is_refused(tmp_path: Path) -> None:
    manifest = Manifest.of(view())
    path = manifest.publish(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"market", b"markey"))
    with pytest.raises(Tampered):
        Manifest.read(path)
    with pytest.raises(Tampered):
        manifest.publish(tmp_path)


def test_a_set_has_the_hash_of_its_sorted_list(tmp_path: Path) -> None:
    views = [view(), view(name="other")]
    found = ManifestSet.of(views)
    assert found.hash == ManifestSet.of(views[::-1]).hash
    assert found.hash == content_hash(sorted(Manifest.of(item).hash for item in views))
    path = found.publish(tmp_path)
    assert json.loads(path.read_bytes()) == found.document
    assert {item.stem for item in tmp_path.iterdir()} == {found.hash, *found.document}
    with pytest.raises(Conflict):
        ManifestSet.of([view(), view(source="quotes")])


def test_a_definition_needs_neither_compiler_nor_tables() -> None:
    program = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); "
        "print([name for name in ('numba', 'polars', 'numpy') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(FX)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
