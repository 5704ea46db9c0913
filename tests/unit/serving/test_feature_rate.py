"""What was asked decides whether the features of a prediction are written down, nothing else."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest

from assay.errors import ContractViolation
from assay.serving.inputs.feature_rate import FeatureRate, asked_of_store, asked_with_features

NOW = 1_700_000_000_000_000_000
ASKED = [asked_of_store("fx_vol", "USD_SGD", NOW + n * 10**9, None) for n in range(20_000)]


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_the_share_that_is_taken_is_the_rate(share: float) -> None:
    taken = sum(map(FeatureRate(share).takes, ASKED))
    deviation = math.sqrt(len(ASKED) * share * (1 - share))
    assert abs(taken - len(ASKED) * share) < 6 * deviation


def test_none_and_all_are_exact() -> None:
    assert not any(map(FeatureRate(0.0).takes, ASKED))
    assert all(map(FeatureRate(1.0).takes, ASKED))


def test_a_higher_rate_takes_what_a_lower_one_takes() -> None:
    shares = (0.05, 0.2, 0.21, 0.8)
    taken = [{one for one in ASKED if FeatureRate(share).takes(one)} for share in shares]
    assert all(lower < higher for lower, higher in itertools.pairwise(taken))


def test_decisions_are_the_same_in_every_release() -> None:
    # A log that was written is judged by this: another function would call features withheld.
    found = [FeatureRate(0.25).takes(one) for one in ASKED[:12]]
    assert [place for place, taken in enumerate(found) if taken] == [3, 4, 7, 9]


def test_what_is_asked_differs_by_each_part_and_not_by_the_order_of_inputs() -> None:
    whole = ("m", "A", 5, {"b": 1.0, "a": 2.0})
    others = [
        ("n", "A", 5, {"b": 1.0, "a": 2.0}),
        ("m", "B", 5, {"b": 1.0, "a": 2.0}),
        ("m", "A", 6, {"b": 1.0, "a": 2.0}),
        ("m", "A", 5, {"b": 2.0, "a": 1.0}),
        ("m", "A", 5, {"b": 1.0}),
        ("m", "A", 5, None),
    ]
    assert len({asked_of_store(*one) for one in (whole, *others)}) == 7
    assert asked_of_store("m", "A", 5, {"a": 2.0, "b": 1.0}) == asked_of_store(*whole)
    assert asked_of_store("m", "A", 5, {}) == asked_of_store("m", "A", 5, None)
    assert asked_with_features("m", b"1") != asked_with_features("n", b"1")


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_rate_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ContractViolation, match="feature_log_rate"):
        FeatureRate(share)


def log_of(stage: Any) -> list[dict[str, Any]]:
    """Forty predictions of each kind, as they are written down."""
    stage.service.start()
    for n in range(40):
        stage.clock.advance(10**9)
        stage.rows.put("USD_SGD", 0.3, 0.0, 0.1, 1 / 3 + n)
        assert stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).status == 200
        body = {"features": [0.1, 0.2, float(n)]}
        assert stage.ask("POST", "/inference/predict", body).status == 200
        assert (
            stage.ask("POST", "/inference/batch", {"batch": [[0.5, n, 3], [1, 2, n]]}).status == 200
        )
    stage.service.stop()
    path = stage.folder / "predictions.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_predictions_are_always_written_and_features_at_the_rate(staged: Any) -> None:
    lines = log_of(staged(feature_log_rate=0.5))
    assert len(lines) == 120
    assert {line["feature_log_rate"] for line in lines} == {0.5}
    for kind, features, values in (
        (lines[0::3], "features", "prediction"),
        (lines[1::3], "features", "prediction"),
        (lines[2::3], "batch", "predictions"),
    ):
        assert all(line[values] is not None for line in kind)
        assert 5 <= sum(features in line for line in kind) <= 35
    assert all(line["event_time"] and line["instrument"] for line in lines[0::3])


def test_a_replay_logs_the_features_of_the_same_requests(staged: Any, live: Any) -> None:
    first = log_of(staged(feature_log_rate=0.5))
    again = staged(live(version="2.0.0"), feature_log_rate=0.5)
    (again.folder / "predictions.jsonl").unlink()
    second = log_of(again)

    def written(lines: list[dict[str, Any]]) -> list[bool]:
        return ["features" in line or "batch" in line for line in lines]

    assert written(first) == written(second)
    assert {line["version"] for line in second} == {"v2.0.0"}
    assert first[0]["timestamp"] == second[0]["timestamp"]


def test_a_log_of_everything_says_nothing_about_a_rate(stage: Any) -> None:
    lines = log_of(stage)
    assert not any("feature_log_rate" in line for line in lines)
    assert all("features" in line or "batch" in line for line in lines)
