"""Figures of several processes, added up; and feedback about what another one answered."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from assay.serving.rejections import Rejected
from assay.serving.telemetry.metrics import Family, merged, to_text, without_gauges
from assay.serving.telemetry.prediction_log import PredictionLog
from assay.serving.telemetry.worker_board import Said, WorkerBoard


def figures(requests: float, waiting: float) -> dict[str, Family]:
    return {
        "a_total": Family("counter", "A.", {'a_total{route="/x"}': requests}),
        "w": Family("gauge", "W.", {"w": waiting}),
    }


def said(process: int, requests: float, waiting: float) -> Said:
    return Said(process, {"m": "v1"}, None, figures(requests, waiting))


def test_counters_are_added_and_a_gauge_is_the_largest() -> None:
    text = to_text(merged([figures(3, 5), figures(4, 2), without_gauges(figures(10, 99))]))
    assert 'a_total{route="/x"} 17' in text
    assert "\nw 5\n" in text


def test_what_a_process_counted_stays_counted_after_its_end(tmp_path: Path) -> None:
    first, second = WorkerBoard(tmp_path, 11), WorkerBoard(tmp_path, 12)
    keeper = WorkerBoard(tmp_path, 10)
    for board, one in ((first, said(11, 3, 5)), (second, said(12, 4, 2))):
        board._said = lambda one=one: one
        board.tell()
    assert {one.process for one in second.workers()} == {11, 12}
    for restarts, process in enumerate((11, 99, 11), start=1):
        keeper.retire(process, workers=1, restarts=restarts)
        found = second.figures()
        assert found["a_total"].values == {'a_total{route="/x"}': 7}
        assert found["w"].values == {"w": 2}
        assert found["assay_worker_restarts_total"].values.popitem()[1] == restarts
    assert {one.process for one in second.workers()} == {12}


def test_a_process_that_ends_while_figures_are_read_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, dying, keeper = (WorkerBoard(tmp_path, number) for number in (12, 11, 10))
    for board, one in ((reader, said(12, 4, 2)), (dying, said(11, 3, 5))):
        board._said = lambda one=one: one
        board.tell()
    seen = []
    real = Path.unlink

    def unlink(path: Path, **options: Any) -> None:
        seen.append(reader.figures()["a_total"].values)  # between the two steps
        real(path, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    keeper.retire(11, workers=1, restarts=1)
    assert [*seen, reader.figures()["a_total"].values] == [{'a_total{route="/x"}': 7}] * 2


def test_figures_are_told_and_health_is_answered_where_the_folder_is_gone(
    staged: Any, tmp_path: Path
) -> None:
    stage = staged(board=WorkerBoard(tmp_path / "gone", 7))
    stage.service.start()
    try:
        assert stage.ask("GET", "/health").status == 200
        assert stage.ask("GET", "/metrics").status == 200
        assert stage.ask("POST", "/model/reload", {}).status == 503
        assert stage.ask("POST", "/inference/predict", {"features": [1.0, 2.0, 3.0]}).status == 200
    finally:
        stage.service.stop()


def test_a_file_that_is_half_written_is_left_out(tmp_path: Path) -> None:
    board = WorkerBoard(tmp_path, 11)
    (tmp_path / "12.json").write_text('{"process": 1')
    assert board.everyone() == []


def test_everybody_hears_that_a_reload_is_asked_for(tmp_path: Path) -> None:
    one, other = WorkerBoard(tmp_path, 1), WorkerBoard(tmp_path, 2)
    before = other.asked_to_reload()
    one.ask_to_reload()
    assert other.asked_to_reload() != before


def test_a_service_of_several_tells_what_they_have_loaded(staged: Any, tmp_path: Path) -> None:
    folder = tmp_path / "board"
    folder.mkdir()
    stage = staged(board=WorkerBoard(folder, 7))
    other = WorkerBoard(folder, 12)
    other._said = lambda: Said(12, {"fx_vol": "v9"}, None, figures(3, 1))
    other.tell()
    stage.service.start()
    try:
        workers = stage.ask("GET", "/health").json()["dependencies"]["workers"]
        assert not workers["ok"]  # they have loaded different versions
        assert len(workers["detail"]) == 2
        stage.ask("POST", "/inference/predict", {"features": [1.0, 2.0, 3.0]})
        text = stage.ask("GET", "/metrics").body.decode()
        assert re.search(r'^a_total\{route="/x"\} 3', text, re.MULTILINE)
        assert re.search(
            r'^assay_requests_total\{route="/inference/predict".* 1', text, re.MULTILINE
        )
    finally:
        stage.service.stop()


def test_feedback_finds_what_another_process_answered(stage: Any, tmp_path: Path) -> None:
    body = {"instrument": "USD_SGD", "timestamp": "2023-11-14T22:13:20Z"}
    assert stage.ask("POST", "/predict", body).status == 200
    other = PredictionLog(tmp_path / "predictions.jsonl", shared=True)
    other.start()
    at = 1_700_000_000 * 10**9
    with pytest.raises(Rejected):
        other.find("USD_SGD", at, None)
    stage.service.predictions.stop()  # writes
    (one,) = other.find("USD_SGD", at, None)
    line = json.loads((tmp_path / "predictions.jsonl").read_text())
    assert (one.model, one.prediction) == (line["model"], line["prediction"])
    assert other.find("USD_SGD", at, "fx_vol") == (one,)
    with pytest.raises(Rejected):
        other.find("USD_SGD", at, "another")
    other.stop()
