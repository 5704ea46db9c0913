"""Two versions side by side: what differs is shown, what is equal is counted."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assay import bootstrap
from assay.bootstrap import open_desk
from assay.cli.app import app
from assay.domain.instants import parse
from assay.errors import NotFound, Tampered
from assay.orchestration.building import build_features
from assay.orchestration.modelling import register_run, train_recipe
from assay.orchestration.version_comparison import Compared, compare_versions, key_paths
from assay.orchestration.version_comparison_page import comparison_page
from assay.registry import Candidate
from assay.registry.keyring import PURPOSES
from assay.testing.clocks import FixedClock
from assay.testing.versions import make_candidate, pass_gates

T0 = 1_790_000_000 * 10**9
HOSTILE = "<script>alert('x')</script>"


class Silent:
    def event(self, text: str) -> None:
        pass


def described(version: str, weights: tuple[float, ...], **changes: Any) -> Candidate:
    candidate = make_candidate("fx_vol", version, weights=weights)
    return replace(candidate, metadata=replace(candidate.metadata, **changes))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    members = [bootstrap.Member("author", tuple(PURPOSES))]
    bootstrap.create_desk(tmp_path / "desk", name="desk", members=members)
    made = open_desk(tmp_path / "desk", clock=FixedClock(T0))
    made.registry.register(
        described(
            "1.0.0", (0.5, -0.25),
            metrics={"loss": 1.5, "ic": 0.03},
            config={
                "trees": {"depth": 3, "rounds": 80}, "folds": [{"n": 1}, {"n": 2}], "a": [1, 2],
            },
            environment={"python": "3.11.7", "packages": {"numpy": "2.4.5", "onnx": "1.23.2"}},
            snapshot_ids={"gold/fx": "a" * 64, "silver/fx": "b" * 64},
        )
    )  # fmt: skip
    made.registry.register(
        described(
            "1.1.0", (0.5, -0.25, 1.0),
            metrics={"loss": 1.25, "sharpe": 1.0},
            config={"trees": {"depth": 4, "rounds": 80}, "folds": [{"n": 1}], "a": [1, 2, 3]},
            environment={"python": "3.11.7", "packages": {"numpy": "2.4.6", "onnx": "1.23.2"}},
            snapshot_ids={"gold/fx": "c" * 64, "silver/fx": "b" * 64},
            author="author", policy=f"own {HOSTILE}",
        )
    )  # fmt: skip
    pass_gates(made.registry, "fx_vol", "1.0.0")
    return made


def changed(rows: tuple[Compared, ...]) -> dict[str, tuple[Any, Any]]:
    return {one.name: (one.before, one.after) for one in rows if not one.equal}


def test_every_difference_is_listed_under_its_name(desk: Any) -> None:
    found = compare_versions(desk, "fx_vol", "1.0.0", "1.1.0")
    assert changed(found.metrics) == {
        "loss": (1.5, 1.25), "ic": (0.03, None), "sharpe": (None, 1.0),
    }  # fmt: skip
    assert changed(found.configuration) == {
        "trees.depth": (3, 4), "folds[1].n": (2, None), "a": ([1, 2], [1, 2, 3]),
    }  # fmt: skip
    assert changed(found.packages) == {"numpy": ("2.4.5", "2.4.6")}
    assert changed(found.data) == {"gold/fx": ("a" * 64, "c" * 64)}
    schema = changed(found.schema)
    assert (schema["columns"], schema["only here"]) == ((2, 3), ([], ["x2"]))
    assert "order of the others" not in schema
    assert "model.onnx" in changed(found.files)
    assert "bench.json" not in changed(found.files)
    (gate,) = found.gates
    assert gate.before is not None
    assert (gate.before.value, gate.after) == (0.5, None)
    assert (found.outcomes.before, found.outcomes.after) == ("PROMOTABLE", None)


def test_a_version_and_itself_differ_in_nothing(desk: Any) -> None:
    found = compare_versions(desk, "fx_vol", "1.0.0", "1.0.0")
    assert all(one.equal for part in found.parts().values() for one in part)
    assert all(gate.equal for gate in found.gates)
    assert found.features == ()


def test_the_way_back_shows_the_same_differences_the_other_way_round(desk: Any) -> None:
    forth = compare_versions(desk, "fx_vol", "1.0.0", "1.1.0").parts()
    back = compare_versions(desk, "fx_vol", "1.1.0", "1.0.0").parts()
    for name, part in forth.items():
        there = {one: (b, a) for one, (a, b) in changed(part).items()}
        assert there == changed(back[name])


def test_numbers_of_other_types_are_not_equal() -> None:
    assert not Compared("x", 1, 1.0).equal
    assert not Compared("x", 1, True).equal
    assert Compared("x", [1.5], [1.5]).equal


def test_key_paths_lead_to_every_leaf() -> None:
    config = {"a": {"b": [{"c": 1}, {"c": None}]}, "d": [], "e": {}, "f": "text"}
    assert dict(key_paths(config)) == {
        "a.b[0].c": 1, "a.b[1].c": None, "d": [], "e": {}, "f": "text",
    }  # fmt: skip


def test_a_version_that_does_not_verify_is_not_compared(desk: Any) -> None:
    path = desk.layout.registry / "artifacts/fx_vol/1.1.0/bench.json"
    path.chmod(0o644)
    path.write_bytes(b"{}")
    with pytest.raises(Tampered, match=r"bench\.json"):
        compare_versions(desk, "fx_vol", "1.0.0", "1.1.0")
    with pytest.raises(NotFound, match=r"no version 3\.0\.0"):
        compare_versions(desk, "fx_vol", "1.0.0", "3.0.0")


def test_the_page_is_well_formed_escaped_and_the_same_for_the_same_versions(desk: Any) -> None:
    found = compare_versions(desk, "fx_vol", "1.0.0", "1.1.0")
    page = comparison_page(found)
    assert page == comparison_page(found)
    tree = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    assert tree.find(".//script") is None
    text = re.sub(r"\s+", " ", " ".join(tree.itertext()))
    assert HOSTILE in text
    for shown in ("trees.depth", "0.5 (sample 100)", "x2", "2.4.6", "c" * 64, "judged by no gates"):
        assert shown in text
    assert "http" not in page.replace("http-equiv", ""), "it needs nothing from elsewhere"


def test_the_table_fits_a_terminal_of_120_columns(desk: Any, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    arguments = ["models", "compare", "fx_vol", "1.0.0", "1.1.0", "--desk", str(desk.layout.root)]
    told = CliRunner().invoke(app, [*arguments, "--html", str(target)])
    assert told.exit_code == 0, told.output
    lines = [line for line in told.output.splitlines() if str(tmp_path) not in line]
    assert max(len(line.rstrip()) for line in lines) <= 120
    assert "configuration: 2 equal, 3 differ" in lines
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_features_are_compared_as_they_were_written(copied: Path) -> None:
    desk = open_desk(copied, clock=FixedClock(parse("2024-06-02T12:00Z")))
    view = copied / "features/fx.py"
    text = view.read_text()
    assert "alpha=0.06" in text
    view.write_text(text.replace("alpha=0.06", "alpha=0.05"))
    desk = open_desk(copied, clock=FixedClock(parse("2024-06-02T12:00Z")))
    build_features(desk, "fx_daily", Silent())
    made = register_run(desk, train_recipe(desk, "fx_vol_baseline", Silent()), author="quant")
    found = compare_versions(desk, "fx_vol", "1.0.0", made.version)
    changes = {one.name: one for one in found.features if one.what == "feature"}
    assert changes
    assert all("alpha=0.06" in one.before and "alpha=0.05" in one.after for one in changes.values())
    for manifest in (copied / "data/manifests").glob("*.json"):
        manifest.unlink()
    assert "not to be found" in str(
        compare_versions(desk, "fx_vol", "1.0.0", made.version).unknown_features
    )
