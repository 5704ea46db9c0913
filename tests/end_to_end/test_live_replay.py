"""The live side of the journey: what was served is what history says, and a bad model goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.domain.instants import render

Travelled = tuple[Path, Any, Any]


def test_every_served_feature_value_has_the_bits_of_history(travelled: Travelled) -> None:
    features = travelled[1]["replay"]["features"]
    assert features["share"] == 1.0
    assert features["bitwise_equal"] == features["values_compared"] > 10_000
    assert features["missing"] == features["extra"] == features["largest_ulp"] == 0


def test_every_served_prediction_is_the_offline_one_without_an_error(
    travelled: Travelled,
) -> None:
    replay = travelled[1]["replay"]
    predictions, requests = replay["predictions"], replay["requests"]
    assert predictions["holds"]
    assert predictions["compared"] == predictions["equal"] == requests["requests"] > 200
    assert requests["error_count"] == 0


def test_the_replayed_months_are_held_back_from_training_and_gates(
    travelled: Travelled,
) -> None:
    _, first, _ = travelled
    replay = first["replay"]
    assert replay["held_back"]
    assert replay["trained_by"] < replay["live_from"]
    for version in first["versions"]:
        query = version["run"]["training_set"]["query"]
        assert render(query["known_at"]) < replay["live_from"]
        assert query["spine"]["end"] == query["known_at"] + 1
        assert version["run"]["rebuilt_equal"]


def test_a_revision_and_a_late_fact_are_part_of_the_replay_and_labelled(
    travelled: Travelled,
) -> None:
    replay = travelled[1]["replay"]
    assert replay["made_by_demo"] == {"revision": "EUR_JPY", "late": "EUR_GBP"}
    assert replay["facts"]["revisions"] == 1


def test_made_up_facts_never_reach_the_lake_of_the_desk(travelled: Travelled) -> None:
    from assay.lake import Lake
    from assay.testing.clocks import FixedClock

    folder, first, _ = travelled
    payloads = Lake(folder / "data", FixedClock(0)).bronze.read()["payload"].to_list()
    assert len(payloads) == first["facts"]["pulls"]["ecb"]["added"]
    assert not [payload for payload in payloads if "made_by" in str(payload)]
    replayed = Lake(folder / "artifacts/replay/lake", FixedClock(0)).bronze.read()["payload"]
    assert sum("made_by" in str(payload) for payload in replayed.to_list()) == 2


def test_a_version_with_swapped_columns_is_refused_then_withdrawn_by_the_guard(
    travelled: Travelled, shell: Any
) -> None:
    folder, first, _ = travelled
    gone = first["replay"]["withdrawal"]
    assert gone["gates"] == "REFUSED"
    assert "schema" in gone["refused_by"]
    assert gone["finding"]["verdict"] == "FAIL"
    history = shell.json("models", "history", "fx_vol", "--desk", str(folder))
    kinds = {entry["seq"]: entry["type"] for entry in history}
    assert kinds[gone["requested_seq"]] == "rollback.requested"
    assert kinds[gone["rollback_seq"]] == "rollback"
    assert gone["requested_seq"] < gone["rollback_seq"]
    (live,) = [answer for answer in first["live"] if answer["name"] == "fx_vol"]
    assert live["version"] == gone["rolled_back_to"]
    listed = shell.json("models", "list", "fx_vol", "--desk", str(folder))
    stages = {record["version"]: record["stage"] for record in listed}
    assert stages[gone["version"]] == "failed"


def test_a_replay_that_is_recorded_is_not_served_again(travelled: Travelled) -> None:
    _, first, second = travelled
    assert not first["replay"]["recorded"]
    assert second["replay"]["recorded"]
    assert second["replay"]["key"] == first["replay"]["key"]
