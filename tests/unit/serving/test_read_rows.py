"""An answer is kept as long as the row that it rests on is the newest, and not a moment longer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from assay.serving import LiveModel, LiveModels
from assay.serving.inputs.read_rows import ReadRows
from assay.serving.models.live_model import CanaryRoute


class Counted:
    """A loaded model that counts the rows that it was asked to predict one by one."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.asked: list[list[float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict_one(self, row: list[float]) -> float:
        self.asked.append(list(row))
        return float(self._model.predict_one(row))


def counted(model: LiveModel) -> tuple[LiveModel, Counted]:
    count = Counted(model.model)
    return LiveModel(
        model.name, model.version, model.digest, model.kind, model.manifest,
        count, model.loaded_at,  # type: ignore[arg-type] # stands in for it
    ), count  # fmt: skip


def put(stage: Any, *values: float) -> None:
    """A row as stores give it: nobody can write to its array."""
    stage.rows.put("USD_SGD", *values)
    row = stage.rows.held["USD_SGD"]
    row.values.setflags(write=False)
    stage.rows.held["USD_SGD"] = msgspec.structs.replace(row, origin=row.values)


def test_a_row_that_is_read_again_is_answered_alike_and_predicted_once(
    staged: Callable[..., Any], live: Callable[..., LiveModel]
) -> None:
    model, count = counted(live())
    stage = staged(model)
    put(stage, 3.0, 99.0, 1.0, 2.0)
    answers = [stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).json() for _ in range(5)]
    assert len(count.asked) == 1
    for one in answers:
        one.pop("latency_ms")
    assert all(one == answers[0] for one in answers)
    assert answers[0]["prediction"] == 1.0 + 20.0 + 300.0
    assert answers[0]["features_used"] == {"ret_1": 1.0, "vol_5": 2.0, "vol_20": 3.0}
    stage.service.predictions.stop()
    lines = (stage.folder / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["features"] for line in lines] == [[1.0, 2.0, 3.0]] * 5


def test_another_row_is_predicted_on_though_its_values_are_the_same(
    staged: Callable[..., Any], live: Callable[..., LiveModel]
) -> None:
    model, count = counted(live())
    stage = staged(model)
    for values in ((3.0, 99.0, 1.0, 2.0), (3.0, 99.0, 1.0, 2.0), (3.0, 99.0, 5.0, 2.0)):
        put(stage, *values)
        answer = stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).json()
        assert answer["prediction"] == values[2] + 10 * values[3] + 100 * values[0]
    assert len(count.asked) == 3


def test_a_row_that_somebody_could_write_to_is_never_remembered(stage: Any) -> None:
    held = stage.rows.held["USD_SGD"]
    stage.rows.held["USD_SGD"] = msgspec.structs.replace(held, origin=held.values)
    row = held.values
    assert row.flags.writeable
    assert stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).json()["prediction"] == 321.0
    row[2] = 7.0
    assert stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).json()["prediction"] == 327.0


def test_another_version_answers_the_same_row_by_itself(
    stage: Any, live: Callable[..., LiveModel]
) -> None:
    put(stage, 3.0, 99.0, 1.0, 2.0)
    assert stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).json()["prediction"] == 321.0
    stage.service.predictor.use(LiveModels({"fx_vol": live(version="2.0.0", bias=0.5)}, "fx_vol"))
    answer = stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).json()
    assert (answer["prediction"], answer["model_version"]) == (321.5, "v2.0.0")


def test_a_canary_predicts_on_each_of_its_requests(
    staged: Callable[..., Any], live: Callable[..., LiveModel]
) -> None:
    stage = staged()
    put(stage, 3.0, 99.0, 1.0, 2.0)
    canary, count = counted(live(version="2.0.0", bias=0.25))
    route = CanaryRoute(canary, 0.999_999_999, "salt", 7)
    stage.service.predictor.use(LiveModels({"fx_vol": live()}, "fx_vol", {"fx_vol": route}))
    for _ in range(4):
        answer = stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).json()
        assert (answer["prediction"], answer["model_version"]) == (321.25, "v2.0.0")
    assert len(count.asked) == 4


def test_a_row_that_is_refused_is_refused_again(
    staged: Callable[..., Any], live: Callable[..., LiveModel]
) -> None:
    stage = staged()
    put(stage, 3.0, 99.0, float("nan"), 2.0)
    for _ in range(2):
        answer = stage.ask("POST", "/predict", {"instrument": "USD_SGD"})
        assert answer.status == 409
        assert answer.json()["type"] == "urn:assay:problem:incomplete-features"


@pytest.mark.parametrize("entities", [10_000, 10_001])
def test_the_rows_that_are_kept_are_bounded(entities: int) -> None:
    rows = ReadRows()
    values = np.frombuffer(b"\0" * 8)
    for number in range(entities):
        rows.keep(f"E{number}", values, ("x",), [0.0], 0.5)
    assert (rows.find("E0", values) is None) == (entities > 10_000)
    assert rows.find(f"E{entities - 1}", values) is not None


def test_nobody_who_is_given_an_answer_can_change_the_next_one(stage: Any) -> None:
    put(stage, 3.0, 99.0, 1.0, 2.0)
    predictor = stage.service.predictor
    made = predictor.predict("USD_SGD", manifest="a" * 64)
    made.features[0] = 777.0
    again = predictor.predict("USD_SGD", manifest="a" * 64)
    assert again.features == (1.0, 2.0, 3.0)
    with pytest.raises(TypeError):
        again.features[0] = 777.0
