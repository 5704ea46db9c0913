"""A view can be read and drawn, and what changed about it is said, with an exit code."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from assay.bootstrap import open_desk
from assay.errors import AssayError
from assay.features import BuildFingerprint, FeatureView, Manifest, Sessions, col
from assay.features.definition.declarations import load_views
from assay.orchestration.manifests import compare_manifests, note_build

MID = col("mid")


def old_view() -> FeatureView:
    """What fx_daily might have been before."""
    features = {"ret_1": MID.simple_return(1), "vol_20": MID.rolling_std(20), "gone": MID.lag(7)}
    return FeatureView("fx_daily", "market", "instrument", features, Sessions(3))


@pytest.fixture(scope="module")
def desk(shell: Any) -> Path:
    folder: Path = shell.home / "definitions"
    made = shell.run("init", str(folder), "--as", "quant")
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def published(desk: Path) -> str:
    """The hash of an older manifest in the desk's lake."""
    manifest = Manifest.of(old_view())
    manifest.publish(desk / "data/manifests")
    return manifest.hash


def test_a_view_is_shown_with_its_graph_windows_state_and_manifest(shell: Any, desk: Path) -> None:
    shown = shell.run("features", "show", "fx_daily", "--desk", str(desk))
    assert shown.returncode == 0, shown.stderr
    assert re.search(
        r"^vol_20 +rolling_std\(ret_1, window=20\) +tolerance +20", shown.stdout, re.MULTILINE
    )
    assert re.search(r"^rolling_std +5 +tolerance +1 ", shown.stdout, re.MULTILINE)
    assert "windows: 5 rows; 10 rows; 20 rows" in shown.stdout
    assert "warm-up: 512 earlier rows" in shown.stdout
    document = shell.json("features", "show", "fx_daily", "--dot", "--desk", str(desk))
    assert f"state: {document['state_bytes']:,} bytes per entity" in shown.stdout
    assert f"manifest {document['manifest']}" in shown.stdout
    (value,) = [one for one in document["graph"] if one["name"] == "vol_20"]
    assert (value["class"], value["look_back"], value["reads"]) == ("tolerance", 20, ["ret_1"])
    assert document["dot"].startswith("digraph")


def test_features_of_one_value_or_with_the_name_of_a_column_are_all_shown(
    shell: Any, desk: Path
) -> None:
    file = desk / "features/named.py"
    file.write_text(
        "from assay.features import FeatureView, Sessions, col\n"
        'features = {"mid": col("mid") + 1.0, "raw": col("mid"), "same": col("mid")}\n'
        'named = FeatureView("named", "market", "instrument", features, Sessions(3))\n'
    )
    try:
        shown = shell.run("features", "show", "named", "--desk", str(desk))
    finally:
        file.unlink()
    assert re.search(r"^mid = raw, same +column mid ", shown.stdout, re.MULTILINE)
    assert re.search(r"^#1 = mid +add\(mid, 1.0\) ", shown.stdout, re.MULTILINE)


def test_the_graph_is_printed_for_graphviz_and_drawn_into_a_file(
    shell: Any, desk: Path, tmp_path: Path
) -> None:
    file = tmp_path / "fx.svg"
    shown = shell.run(
        "features", "show", "fx_daily", "--dot", "--svg", str(file), "--desk", str(desk)
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith('digraph "fx_daily" {\n')
    assert shown.stdout.endswith("}\n")
    assert ET.parse(file).getroot().tag.endswith("svg")
    told = shell.run("features", "show", "fx_daily", "--svg", str(file), "--desk", str(desk))
    assert f"drawn into {file}" in told.stdout


def on_a_terminal(shell: Any, *arguments: str) -> tuple[int, str]:
    """What a person sees on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    environment = os.environ | {"TERM": "dumb", "XDG_CONFIG_HOME": str(shell.home / "config")}
    environment.pop("COLUMNS", None)
    command = [str(Path(sys.executable).with_name("assay")), *arguments]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as running:
        os.close(theirs)
        seen = b""
        while chunk := _read(ours):
            seen += chunk
    os.close(ours)
    return running.returncode, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode()).replace(
        "\r", ""
    )


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # the other end is closed
        return b""


def test_what_is_shown_fits_a_terminal(shell: Any, desk: Path, published: str) -> None:
    for code, arguments in (
        (0, ("features", "show", "fx_daily")),
        (1, ("features", "diff", published)),
    ):
        found, text = on_a_terminal(shell, *arguments, "--desk", str(desk))
        assert found == code, text
        assert "fx_daily" in text
        assert max(map(len, text.splitlines())) <= 80


def test_what_changed_since_a_published_manifest_is_said_and_exits_1(
    shell: Any, desk: Path, published: str
) -> None:
    told = shell.run("features", "diff", published[:8], "--desk", str(desk))
    assert told.returncode == 1
    assert told.stderr == ""
    lines = told.stdout.splitlines()
    assert lines[0] == f"from fx_daily {published[:12]}, as it was published"
    assert lines[1].endswith("as it is defined now")
    assert "- feature gone: lag(mid, rows=7)" in lines
    place = lines.index("~ feature vol_20")
    assert lines[place + 1] == "    rolling_std: mid -> simple_return(mid, rows=1)"
    assert "next: assay features show fx_daily" in lines
    document = shell.json("features", "diff", published, "--desk", str(desk), expect=1)
    assert document["equal"] is False
    assert document["before"]["manifest"] == published
    assert {"removed", "added", "changed"} == {one["kind"] for one in document["differences"]}


def test_equal_manifests_exit_0_also_as_files_outside_of_a_desk(
    shell: Any, desk: Path, published: str, tmp_path: Path
) -> None:
    told = shell.run("features", "diff", "fx_daily", "fx_daily", "--desk", str(desk))
    assert told.returncode == 0
    assert told.stdout.endswith("nothing changed\n")
    copy = tmp_path / "before.json"
    copy.write_bytes((desk / f"data/manifests/{published}.json").read_bytes())
    document = shell.json("features", "diff", str(copy), str(copy))
    assert (document["equal"], document["differences"]) == (True, [])


def test_another_build_is_told_and_only_other_bits_make_a_difference(
    shell: Any, desk: Path
) -> None:
    (view,) = load_views(desk / "features")
    manifest = Manifest.of(view)
    path = manifest.publish(desk / "data/manifests")
    note_build(path)
    found = compare_manifests(lambda: open_desk(desk), manifest.hash)
    assert (found.equal, found.build, found.same_bits) == (True, (), True)
    noted = desk / f"data/manifests/builds/{manifest.hash}.json"
    build = BuildFingerprint.capture().to_json()
    assert json.loads(noted.read_bytes()) == build
    noted.write_text(json.dumps(build | {"numba": "0.1"}))
    found = compare_manifests(lambda: open_desk(desk), manifest.hash)
    assert (found.equal, found.build) == (True, (("numba", "0.1", build["numba"]),))
    assert found.to_json()["build"] == [["numba", "0.1", build["numba"]]]
    noted.write_text(json.dumps(build | {"golden": "0" * 64, "processor_features": "+old,-new"}))
    told = shell.run("features", "diff", manifest.hash, "--desk", str(desk))
    assert told.returncode == 1
    assert "OTHER BITS" in told.stdout
    assert "~ build processor_features: +old -> +" in told.stdout
    note_build(path)
    assert json.loads(noted.read_bytes()) == build


@pytest.mark.parametrize(
    ("what", "message", "hint"),
    [
        ("fx_dayly", "no manifest 'fx_dayly'", "did you mean 'fx_daily'?"),
        ("abcdef", "no manifest 'abcdef'", "assay features build"),
        ("text.json", "text.json is no manifest", ""),
        ("list.json", "list.json is no manifest of a view", "assay features build"),
        ("half.json", "half.json is no manifest of a view", "assay features build"),
        ("cut.json", "is no whole manifest: ", "the published files"),
        ("0" * 64 + ".json", "is not what its name says", ""),
        ("fedcba9876", "is the beginning of 2 published manifests", "give more letters"),
    ],
)
def test_what_is_no_manifest_is_refused(
    desk: Path, published: str, monkeypatch: pytest.MonkeyPatch, what: str, message: str, hint: str
) -> None:
    manifests = desk / "data/manifests"
    for name in ("1", "2"):
        (manifests / f"fedcba9876{name}.json").write_text("{}")
    (desk / "text.json").write_text("# no JSON")
    (desk / "list.json").write_text("[1, 2]")
    (desk / "half.json").write_text('{"view": "v", "features": [["a"]], "plan": {}}')
    (desk / f"{'0' * 64}.json").write_bytes((manifests / f"{published}.json").read_bytes())
    cut = json.loads((manifests / f"{published}.json").read_bytes())
    cut["features"] = [[["ret_1"], "a list for a name"]]
    (desk / "cut.json").write_text(json.dumps(cut))
    monkeypatch.chdir(desk)
    with pytest.raises(AssayError) as refused:
        compare_manifests(lambda: open_desk(desk), what, "fx_daily")
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")
