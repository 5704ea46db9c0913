"""The whole journey on generated rates, through the installed command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

Travelled = tuple[Path, Any, Any]


def test_every_feature_value_is_bitwise_equal_in_both_drivers(travelled: Travelled) -> None:
    _, first, _ = travelled
    parity = first["parity"]
    assert parity["share"] == 1.0
    assert parity["largest_ulp"] == 0
    assert parity["missing"] == parity["extra"] == 0
    assert parity["values_compared"] == first["features"]["values"] > 100_000


def test_broken_rates_are_quarantined_with_their_reasons(travelled: Travelled) -> None:
    _, first, _ = travelled
    silver = first["facts"]["silver"]
    assert silver["quarantined"] == {"not_positive": 1, "unparseable_number": 1}
    assert silver["facts"] == silver["accepted"] + silver["repeated"] + 2
    assert not any("PEG" in name for name in silver["members"])


def test_every_training_set_is_rebuilt_with_the_same_digest(travelled: Travelled) -> None:
    _, first, _ = travelled
    for version in first["versions"]:
        run = version["run"]
        assert run["rebuilt_digest"] == run["training_set"]["digest"]
        assert run["training_set"]["rows"] > 1_000


def test_every_gate_says_value_threshold_verdict_sample_and_convention(
    travelled: Travelled,
) -> None:
    _, first, _ = travelled
    files = {"onnx_parity", "schema", "signature", "training_set_rebuilt"}
    around = {"dataset_compatibility", "feature_parity"}
    forecast = {"var_coverage", "calibration_slope"}
    speed = {"onnx_p95_batch32_ms"}
    # Against the champion: waived, the line has none.
    luck = {"deflated_sharpe", "pbo", "spa", "min_track_record"}
    expected = {
        "fx_vol_baseline": files | around | forecast,
        "fx_vol": files | around | forecast | speed | {"qlike_vs_champion"},
        "fx_direction": files | around | speed | luck | {"ic", "rank_ic", "sharpe_after_costs",
                         "significance", "brier", "ece"},
    }  # fmt: skip
    for version in first["versions"]:
        assert {gate["name"] for gate in version["gates"]} == expected[version["recipe"]]
        for gate in version["gates"]:
            assert gate["severity"] in {"hard", "soft"}
            assert gate["verdict"] in {"PASS", "FAIL", "INDETERMINATE"}
            assert gate["threshold"]
            assert gate["convention"] or "no evidence named" in gate["reason"]
            assert gate["sample_size"] >= 0


def test_what_is_live_passed_its_gates_and_what_did_not_pass_is_not_live(
    travelled: Travelled,
) -> None:
    _, first, _ = travelled
    versions = {(v["name"], v["version"]): v for v in first["versions"]}
    live = {answer["name"]: answer["version"] for answer in first["live"]}
    for name, version in live.items():
        if version is not None:
            assert versions[name, version]["outcome"] == "PROMOTABLE"
    for (name, version), story in versions.items():
        if story["outcome"] != "PROMOTABLE":
            assert live[name] != version
    assert live["fx_vol"] is not None


def test_models_that_know_nothing_pass_no_kind_of_policy(travelled: Travelled) -> None:
    folder, first, _ = travelled
    for story in first["versions"]:
        kept = folder / f"reports/models/{story['name']}/noise-{story['version']}.json"
        # The baseline is judged by a policy of its own, which asks for no skill.
        assert kept.exists() == (story["recipe"] != "fx_vol_baseline")
        if kept.exists():
            found = json.loads(kept.read_bytes())
            assert (found["models"], found["passed"]) == (20, 0)
            assert all(found["refused_by"])


def test_every_version_has_its_page_of_evidence(travelled: Travelled) -> None:
    folder, first, _ = travelled
    for story in first["versions"]:
        page = folder / f"reports/models/{story['name']}/evidence-{story['version']}.html"
        assert "What the numbers rest on" in page.read_text()


def test_the_rollback_has_a_record_with_its_reason(travelled: Travelled, shell: Any) -> None:
    folder, first, _ = travelled
    assert first["rollbacks"]
    history = shell.json("models", "history", "fx_vol", "--desk", str(folder))
    for item in first["rollbacks"]:
        (entry,) = [entry for entry in history if entry["seq"] == item["seq"]]
        assert entry["type"] == "rollback"
        assert entry["reason"] == item["reason"]
        assert (entry["from_version"], entry["to_version"]) == (
            item["from_version"],
            item["to_version"],
        )
        assert item["seconds"] is not None


def test_a_second_journey_adds_no_fact_no_version_and_no_entry(travelled: Travelled) -> None:
    _, first, second = travelled
    assert second["nothing_new"]
    assert second["new_facts"] == second["new_versions"] == 0
    assert second["log_entries"] == first["log_entries"]
    for key in ("manifest", "snapshot"):
        assert second["features"][key] == first["features"][key]
    assert [v["digest"] for v in second["versions"]] == [v["digest"] for v in first["versions"]]
    assert second["problems"] == []


def test_what_was_live_can_be_asked_for_any_moment(travelled: Travelled, shell: Any) -> None:
    folder, first, _ = travelled
    ask = ("models", "live", "fx_vol", "--desk", str(folder))
    before = shell.json(*ask, "--at", "2020-01-15T10:30Z")
    assert before["version"] is None
    now = shell.json(*ask)
    (live,) = [answer for answer in first["live"] if answer["name"] == "fx_vol"]
    assert now["version"] == live["version"]
    assert now["digest"] == live["digest"]


FILES = (
    "model.onnx", "model.json", "metadata.json", "sidecar.json", "parity.json", "bench.json",
    "golden.json", "manifest.json", "checksum.sha256", "CHANGES.md", "signature",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_in_any_file_is_named_and_the_version_is_not_loaded(
    travelled: Travelled, shell: Any, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "desk"
    shutil.copytree(travelled[0], folder, symlinks=True)
    path = folder / "data/models/artifacts/fx_vol/1.0.0" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    report = shell.json("models", "validate", "fx_vol", "1.0.0", "--desk", str(folder), expect=1)
    assert name in {problem["file"] for problem in report["problems"]}
    shown = shell.run("models", "show", "fx_vol", "1.0.0", "--desk", str(folder))
    assert shown.returncode == 1
    assert name in shown.stderr
    assert "Traceback" not in shown.stderr


def test_json_output_is_one_object_and_progress_goes_elsewhere(
    travelled: Travelled, shell: Any
) -> None:
    folder, _, _ = travelled
    result = shell.run("ingest", "--json", "--desk", str(folder))
    assert json.loads(result.stdout)["pulls"]["ecb"]["added"] == 0
    assert "pulling ecb" in result.stderr


def test_the_log_verifies_and_a_cut_log_does_not(
    travelled: Travelled, shell: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "desk"
    shutil.copytree(travelled[0], folder, symlinks=True)
    assert shell.json("audit", "verify", "--desk", str(folder))["ok"]
    log = folder / "data/models/log/events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))
    result = shell.run("audit", "verify", "--desk", str(folder))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "cut" in result.stdout + result.stderr
