"""Switched off, a desk gets a refusal, or the number that means nothing where there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assay.domain.versions import ALPHA_WEIGHTS

ROW = [0.5, 0.5, 0.5]
ASKED = [
    ("/predict", {"instrument": "USD_SGD"}),
    ("/predict", {"instruments": ["USD_SGD", "USD_SGD"]}),
    ("/inference/predict", {"features": ROW}),
    ("/inference/batch", {"batch": [ROW, ROW]}),
]


def numbers(answer: Any) -> list[float]:
    document = answer.json()
    found = document.get("predictions", document.get("prediction"))
    found = found if isinstance(found, list) else [found]
    return [one["prediction"] if isinstance(one, dict) else one for one in found]


@pytest.mark.parametrize(("path", "body"), ASKED)
@pytest.mark.parametrize(("kind", "value"), [("probability", 0.5), ("weights", 0.0)])
def test_a_neutral_answer_says_that_it_is_one_and_is_no_prediction(
    staged: Any, live: Any, tmp_path: Any, path: str, body: Any, kind: str, value: float
) -> None:
    model = live(probability=True) if kind == "probability" else replace(live(), kind=ALPHA_WEIGHTS)
    stage = staged(model, kill_policy="neutral")
    usual = stage.ask("POST", path, body)
    stage.switch.on(by="risk", reason="prices are wrong")
    answer = stage.ask("POST", path, body)
    assert (answer.status, answer.headers["x-assay-neutral"]) == (200, "1")
    assert "x-assay-neutral" not in usual.headers
    document = answer.json()
    assert set(numbers(answer)) == {value}
    assert len(numbers(answer)) == len(numbers(usual))
    assert document["neutral"]
    assert "risk: prices are wrong" in document["reason"]
    assert set(usual.json()) <= set(document)
    assert "\nassay_neutral_answers_total 1\n" in stage.ask("GET", "/metrics").body.decode()
    stage.switch.off(by="risk", reason="done")
    assert "neutral" not in stage.ask("POST", path, body).json()
    stage.service.predictions.stop()
    assert "neutral" not in (tmp_path / "predictions.jsonl").read_text()


@pytest.mark.parametrize(("path", "body"), ASKED)
def test_no_number_of_a_risk_means_nothing_so_it_is_a_refusal(
    staged: Any, path: str, body: Any
) -> None:
    stage = staged(kill_policy="neutral")
    stage.switch.on(by="risk", reason="prices are wrong")
    answer = stage.ask("POST", path, body)
    assert (answer.status, answer.json()["type"]) == (503, "urn:assay:problem:killed")
    assert "risk: prices are wrong" in answer.json()["detail"]


@pytest.mark.parametrize(("path", "body"), ASKED)
def test_other_refusals_are_never_neutral(staged: Any, live: Any, path: str, body: Any) -> None:
    stage = staged(live(probability=True), kill_policy="neutral")
    assert stage.ask("POST", path, body, manifest="b" * 64).status == 409
    name = "model" if path == "/predict" else "model_name"
    assert stage.ask("POST", path, body | {name: "nobody"}).status == 404
    stage.switch.on(by="risk", reason="a test")
    assert stage.ask("POST", path, body | {name: "nobody"}).status == 404
