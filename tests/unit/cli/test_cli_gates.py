"""Gates, evidence and nights from the command line: what is printed, what exits how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.validation.catalogue import CATALOGUE


@pytest.fixture(scope="module")
def empty_desk(shell: Any) -> Path:
    folder: Path = shell.home / "gates"
    made = shell.run("init", str(folder), "--as", "quant")
    assert made.returncode == 0, made.stderr
    return folder


def test_a_gate_is_explained_anywhere_and_with_its_rule_inside_a_desk(
    shell: Any, empty_desk: Path
) -> None:
    outside = shell.run("gates", "explain", "pbo", "--desk", "nowhere")
    assert outside.returncode == 0, outside.stderr
    for part in ("Protects from: ", "Formula: ", "Source: Bailey", "When it lies: ", "How to read"):
        assert part in outside.stdout
    assert "This desk" not in outside.stdout
    inside = shell.run("gates", "explain", "pbo", "--desk", str(empty_desk))
    assert "This desk, alpha_weights: hard, < 0.2; sample of at least 250" in inside.stdout
    document = shell.json("gates", "explain", "pbo", "--desk", str(empty_desk))
    assert document["convention_id"] == CATALOGUE["pbo"].convention_id
    assert document["rules"][0]["policy"] == "alpha_weights"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gates", "explain", "rankic"), "did you mean 'rank_ic'?"),
        (("gates", "show", "fx_vol", "1.0.0"), "no model 'fx_vol'"),
        (("gates", "dry-run", "--policy", "nowhere.yaml"), "nowhere.yaml"),
        (("gates", "dry-run", "fx_vol", "--policy", "{policy}"), "no model 'fx_vol'"),
        (("evidence", "show", "fx_vol"), "no model 'fx_vol'"),
        (("evidence", "recompute", "fx_vol", "1.0.0"), "no model 'fx_vol'"),
        (("evidence", "trials", "fx_vol"), "no model 'fx_vol'"),
    ],
)
def test_a_mistake_exits_1_with_what_to_do(
    shell: Any, empty_desk: Path, arguments: tuple[str, ...], message: str
) -> None:
    policy = str(empty_desk / "configs/gates.yaml")
    words = [word.replace("{policy}", policy) for word in arguments]
    result = shell.run(*words, "--desk", str(empty_desk))
    assert result.returncode == 1, result.stdout
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_gates_of_a_desk_are_listed_with_their_rules(shell: Any, empty_desk: Path) -> None:
    result = shell.run("gates", "list", "--desk", str(empty_desk))
    assert result.returncode == 0, result.stderr
    assert "waived without a champion" in result.stdout
    document = shell.json("gates", "list", "--desk", str(empty_desk))
    names = {gate["name"] for gate in document["kinds"]["alpha_weights"]}
    assert {"deflated_sharpe", "pbo", "spa", "ablation", "nightly_greens"} <= names


def test_a_nightly_run_of_a_desk_without_models_is_green_and_counts(
    shell: Any, empty_desk: Path
) -> None:
    done = shell.json("nightly", "run", "--as", "quant", "--desk", str(empty_desk))
    assert (done["green"], done["nights_in_a_row"]) == (True, 1)
    (line,) = (empty_desk / "observability/nightly/runs.jsonl").read_text().splitlines()
    assert json.loads(line)["initiated_by"] == "quant"
