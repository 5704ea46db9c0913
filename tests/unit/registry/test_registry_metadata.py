import hashlib
import json
import os
import sys

import pytest

from assay.errors import ContractViolation, Tampered
from assay.registry import (
    ModelMetadata,
    VersionCompatibilityChecker,
    capture_environment,
    compute_config_hash,
)


def make(**changes):
    fields = {
        "name": "fx_vol",
        "version": "v1.2.0",
        "kind": "risk_model",
        "created_at": 1_000_000_000_000_000_001,
        "author": "jane",
        "config": {"depth": 6, "eta": 0.1},
        "metrics": {"qlike": 0.25},
        "seeds": (1, 2),
    }
    return ModelMetadata(**{**fields, **changes})


def test_metadata_survives_its_file():
    made = make()
    assert ModelMetadata.from_bytes(json.dumps(made.to_json()).encode()) == made
    assert made.version == "1.2.0"


def test_the_cut_off_of_the_training_set_is_written_in_words_and_may_be_absent_from_old_files():
    made = make(training_set_known_at=1_700_000_000_000_000_001)
    document = made.to_json()
    assert document["training_set_known_at"] == "2023-11-14T22:13:20.000000001Z"
    assert ModelMetadata.from_json(document) == made
    del document["training_set_known_at"]
    assert ModelMetadata.from_json(document) == make()


def test_the_config_hash_is_sha256_of_canonical_json():
    expected = hashlib.sha256(b'{"a":[1,2.5],"b":"x"}').hexdigest()
    assert compute_config_hash({"b": "x", "a": [1, 2.5]}) == expected


def test_a_config_that_does_not_match_its_hash_is_refused():
    document = make().to_json()
    document["config"]["depth"] = 7
    with pytest.raises(Tampered, match="config_hash"):
        ModelMetadata.from_json(document)


@pytest.mark.parametrize("field", ["name", "created_at", "config_hash"])
def test_a_missing_field_is_refused(field):
    document = make().to_json()
    del document[field]
    with pytest.raises(Tampered):
        ModelMetadata.from_json(document)


def test_an_unknown_field_is_refused():
    with pytest.raises(Tampered, match="surprise"):
        ModelMetadata.from_json({**make().to_json(), "surprise": 1})


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Fx"},
        {"name": "../x"},
        {"version": "1.2"},
        {"kind": "risk model"},
        {"author": "Jane Doe"},
        {"metrics": {"sharpe": float("nan")}},
        {"metrics": {"sharpe": float("inf")}},
        {"config": {"x": float("nan")}},
        {"config": {1: "x"}},
    ],
)
def test_values_that_cannot_be_stored_or_compared_are_refused(changes):
    with pytest.raises(ContractViolation):
        make(**changes)


def test_identity_ignores_when_and_by_whom_and_nothing_else():
    same = make(
        created_at=5, author="john", git_commit="abc", parent_run="r2", environment={"p": 1}
    )
    assert make().identity() == same.identity()
    for change in (
        {"name": "other"},
        {"kind": "alpha_weights"},
        {"config": {}},
        {"seeds": (1,)},
        {"snapshot_ids": {"gold": "1"}},
        {"dataset_version_ids": {"ecb": "1"}},
        {"manifest_hash": "1"},
        {"training_set_digest": "1"},
        {"baseline": True},
        {"policy": "baseline"},
    ):
        assert make().identity() != make(**change).identity(), change


def test_the_environment_names_versions_and_neither_paths_nor_secrets(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2-hunter2")
    environment = capture_environment()
    text = json.dumps(environment)
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "numpy" in environment["packages"]
    assert "hunter2" not in text
    assert os.sep not in text
    assert capture_environment(["no-such-package"])["packages"] == {}


@pytest.mark.parametrize(
    ("model", "current", "strict", "compatible", "level"),
    [
        ({"ecb": "1"}, {"ecb": "1"}, True, True, "exact"),
        ({"ecb": "1"}, {"ecb": "1", "news": "9"}, True, True, "exact"),
        ({"ecb": "1"}, {"ecb": "2"}, True, False, "drift"),
        ({"ecb": "1"}, {"ecb": "2"}, False, True, "drift"),
        ({"ecb": "1"}, {}, True, False, "missing"),
        ({"ecb": "1"}, {}, False, False, "missing"),
        ({"ecb": "1", "news": "1"}, {"ecb": "2"}, False, False, "missing"),
        ({}, {"ecb": "1"}, True, True, "exact"),
    ],
)
def test_missing_data_always_blocks_and_drift_blocks_in_strict_mode(
    model, current, strict, compatible, level
):
    result = VersionCompatibilityChecker(strict_mode=strict).check_compatibility(model, current)
    assert (result.compatible, result.level) == (compatible, level)
    assert bool(result.warnings) == (level != "exact")


def test_warnings_name_the_data_set_and_both_versions():
    result = VersionCompatibilityChecker().check_compatibility(
        {"ecb": "a1", "news": "b1"}, {"ecb": "a2"}
    )
    assert result.warnings == (
        "data set news is missing: made on b1",
        "data set ecb is at a2: made on a1",
    )
