"""Several instruments in one request: one moment, one version, one round trip."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assay.serving import Limits, Prediction, Rejected
from assay.testing.clocks import FixedClock

PREDICT = "/predict"
NOW = 1_700_000_000 * 10**9


def fill(stage: Any) -> None:
    """vol_20, unused, ret_1, vol_5; the model's weights are 1, 10, 100 for ret_1, vol_5, vol_20."""
    stage.rows.put("EUR_USD", 1.0, 0.0, 1.0, 1.0)
    stage.rows.put("OLD", 1.0, 0.0, 1.0, 1.0, stale=True)
    stage.rows.put("OTHER", 1.0, 0.0, 1.0, 1.0, manifest="b" * 64)


def test_each_instrument_gets_what_it_gets_alone_or_why_not(stage: Any) -> None:
    fill(stage)
    names = ["EUR_USD", "OLD", "USD_SGD", "OTHER", "NO_HISTORY", "EUR_US", "EUR_USD"]
    answer = stage.ask("POST", PREDICT, {"instruments": names})
    assert answer.status == 200
    document = answer.json()
    assert [one["instrument"] for one in document["predictions"]] == names
    assert document["refused"] == 4
    assert (document["model"], document["model_version"]) == ("fx_vol", "v1.0.0")
    for name, one in zip(names, document["predictions"], strict=True):
        alone = stage.ask("POST", PREDICT, {"instrument": name})
        expected = alone.json()
        if alone.status == 200:
            for key in ("prediction", "direction", "confidence", "features_used",
                        "feature_times", "stale"):  # fmt: skip
                assert one[key] == expected[key]
        else:
            assert one == {"instrument": name, "problem": expected}


def test_the_store_is_asked_once_and_every_prediction_is_logged(stage: Any, tmp_path: Any) -> None:
    fill(stage)
    asked: list[Any] = []
    read = stage.rows.rows
    stage.rows.rows = lambda names, at: asked.append((tuple(names), at)) or read(names, at)
    body = {"instruments": ["EUR_USD", "USD_SGD"], "timestamp": "2023-11-14T22:13:20Z"}
    answer = stage.ask("POST", PREDICT, body, more={"x-request-id": "both"})
    assert answer.status == 200
    assert asked == [(("EUR_USD", "USD_SGD"), NOW)]
    stage.service.predictions.stop()
    lines = [json.loads(one) for one in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [(one["instrument"], one["request_id"]) for one in lines] == [
        ("EUR_USD", "both"), ("USD_SGD", "both"),
    ]  # fmt: skip
    assert [one["prediction"] for one in lines] == [
        one["prediction"] for one in answer.json()["predictions"]
    ]


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ({"instruments": []}, 422, "no-instruments"),
        ({"instruments": ["USD_SGD"] * 4}, 413, "batch-too-large"),
        ({"instruments": "USD_SGD"}, 422, "invalid-body"),
        ({"instruments": ["USD_SGD", 7]}, 422, "invalid-body"),
        ({"instruments": ["USD_SGD"], "instrument": "USD_SGD"}, 422, "invalid-body"),
        ({"instruments": ["USD_SGD"], "model": "fx"}, 404, "unknown-model"),
        ({"instruments": ["USD_SGD"], "timestamp": "2099-01-01"}, 422, "future-timestamp"),
        ({"instruments": ["USD_SGD"], "requests": {"USD_SG": {}}}, 422, "input-names"),
        ({"instruments": ["USD_SGD"], "requests": {"USD_SGD": {"size": 1.0}}}, 422, "input-names"),
    ],
)
def test_what_is_wrong_with_the_request_itself_refuses_all_of_it(
    staged: Any, body: Any, status: int, slug: str
) -> None:
    answer = staged(limits=Limits(batch_rows=3)).ask("POST", PREDICT, body)
    assert (answer.status, answer.json()["type"]) == (status, f"urn:assay:problem:{slug}")


def test_the_predictor_answers_the_same_in_process(stage: Any) -> None:
    fill(stage)
    assert isinstance(stage.clock, FixedClock)
    predictor = stage.service.predictor
    good, bad = predictor.predict_many(["EUR_USD", "OLD"], manifest="a" * 64)
    assert isinstance(good, Prediction)
    assert good.value == 111.0
    assert isinstance(bad, Rejected)
    assert bad.kind.slug == "stale-features"
