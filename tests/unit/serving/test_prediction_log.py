"""Answers are written down without being waited for, and outcomes find their answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.serving.rejections import Rejected
from assay.serving.telemetry.prediction_log import PredictionLog

MANIFEST = "a" * 64
PREDICT = "/predict"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_enough_to_repeat_the_prediction_bit_for_bit(stage: Any) -> None:
    stage.rows.put("USD_SGD", 0.3, 0.0, 0.1, 1 / 3)
    stage.service.start()
    answer = stage.ask("POST", PREDICT, {"instrument": "USD_SGD"}).json()
    batch = stage.ask("POST", "/inference/batch", {"batch": [[0.1, 0.2, 0.7], [1, 2, 3]]}).json()
    stage.service.stop()
    first, second = lines(stage.folder / "predictions.jsonl")
    assert first["features"] == [0.1, 1 / 3, 0.3]
    assert list(answer["features_used"].values()) == first["features"]
    model = stage.service.predictor.live.models["fx_vol"].model
    again = model.predict(np.array([first["features"]]).astype(np.float32))
    assert again[0] == first["prediction"] == answer["prediction"]
    assert (first["digest"], first["manifest"], first["instrument"]) == (
        "fx_vol 1.0.0", MANIFEST, "USD_SGD"
    )  # fmt: skip
    assert (first["event_time"], first["known_time"], first["timestamp"]) == (
        answer["feature_times"]["event_time"],
        answer["feature_times"]["known_time"],
        answer["timestamp"],
    )
    assert second["predictions"] == batch["predictions"]
    assert second["batch"] == [[0.1, 0.2, 0.7], [1.0, 2.0, 3.0]]


def test_what_does_not_fit_into_the_queue_is_counted_and_answered(staged: Any) -> None:
    stage = staged(queue=3)  # nothing writes: the service is not started
    for _ in range(5):
        assert stage.ask("POST", PREDICT, {"instrument": "USD_SGD"}).status == 200
    log = stage.service.predictions
    assert (log.waiting, log.dropped, log.written) == (3, 2, 0)
    text = stage.ask("GET", "/metrics").body.decode()
    assert "assay_predictions_dropped_total 2\n" in text
    log.stop()
    assert (log.waiting, log.dropped, log.written) == (0, 2, 3)


def test_a_file_that_cannot_be_written_is_counted_and_told_and_stops_no_answer(stage: Any) -> None:
    (stage.folder / "predictions.jsonl").mkdir()
    assert stage.ask("POST", PREDICT, {"instrument": "USD_SGD"}).status == 200
    stage.service.predictions.stop()
    assert stage.service.predictions.dropped == 1
    assert stage.ask("GET", "/health").json()["dependencies"]["prediction_log"]["ok"] is False


def test_feedback_is_joined_to_the_answer_with_that_instrument_and_timestamp(
    staged: Any, live: Any
) -> None:
    stage = staged(live(), live("fx_direction", weights=(-1.0, 0, 0), probability=True))
    answer = stage.ask("POST", PREDICT, {"instrument": "USD_SGD", "model": "fx_direction"}).json()
    assert answer["direction"] == "bearish"
    outcome = {
        "instrument": "USD_SGD",
        "timestamp": answer["timestamp"],
        "realized_direction": "bullish",
        "realized_value": 0.001,
    }
    joined = stage.ask("POST", "/feedback", outcome)
    assert joined.status == 200
    assert joined.json()["answers"] == [
        {
            "model": "fx_direction",
            "model_version": "v1.0.0",
            "prediction": answer["prediction"],
            "direction": "bearish",
            "correct": False,
        }
    ]
    (line,) = lines(stage.folder / "feedback.jsonl")
    assert line["answers"] == joined.json()["answers"]
    assert stage.ask("POST", "/feedback", outcome | {"model": "fx_vol"}).status == 404
    assert stage.ask("POST", "/feedback", outcome | {"instrument": "SGD_USD"}).status == 404


def test_feedback_finds_answers_from_before_a_restart(stage: Any, staged: Any) -> None:
    stage.service.start()
    answer = stage.ask("POST", PREDICT, {"instrument": "USD_SGD"}).json()
    stage.service.stop()
    with (stage.folder / "predictions.jsonl").open("ab") as handle:
        handle.write(b'{"timestamp": "2023-11-')  # torn by a crash
    again = staged()
    again.service.start()
    outcome = {
        "instrument": "USD_SGD", "timestamp": answer["timestamp"], "realized_value": 0.1
    }  # fmt: skip
    assert again.ask("POST", "/feedback", outcome).status == 200
    again.ask("POST", PREDICT, {"instrument": "USD_SGD"})
    again.service.stop()
    assert len(lines(stage.folder / "predictions.jsonl")) == 2


def test_memory_for_feedback_is_bounded(tmp_path: Path, stage: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("assay.serving.telemetry.prediction_log._REMEMBERED", 10)
    log = PredictionLog(tmp_path / "log.jsonl")
    made = stage.service.predictor
    for n in range(25):
        log.offer(made.predict("USD_SGD", stage.clock.now() - n, manifest=MANIFEST))
    now = stage.clock.now()
    assert log.find("USD_SGD", now - 24, None)
    assert log.find("USD_SGD", now - 15, None)
    with pytest.raises(Rejected):
        log.find("USD_SGD", now - 14, None)
    assert len(log._recent) + len(log._fresh) == 10
