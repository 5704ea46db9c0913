"""Ids, deadlines and capacity: who asked, how long they wait, and how many may."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pytest

from assay.errors import Unavailable
from assay.serving.rejections import Rejected
from assay.serving.requests.reception import REFUSED
from assay.testing.waiting import until

INFER = "/inference/predict"
BODY = {"features": [1.0, 2.0, 3.0]}


def test_an_id_is_echoed_and_logged_and_made_where_there_is_none(stage: Any, tmp_path: Any) -> None:
    given = stage.ask("POST", INFER, BODY, more={"X-Request-Id": "order-17"})
    assert given.headers["x-request-id"] == "order-17"
    made = [stage.ask("POST", INFER, BODY).headers["x-request-id"] for _ in range(3)]
    assert len(set(made)) == 3
    replaced = stage.ask("POST", INFER, BODY, more={"X-Request-Id": "two words"})
    assert replaced.headers["x-request-id"] not in {"two words", *made}
    refused = stage.ask("POST", INFER, {}, more={"X-Request-Id": "bad"})
    assert (refused.status, refused.headers["x-request-id"]) == (422, "bad")
    health = stage.ask("GET", "/health", more={"X-Request-Id": "me"})
    assert health.headers["x-request-id"] == "me"
    stage.service.predictions.stop()
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    logged = [json.loads(line)["request_id"] for line in lines]
    assert logged[:4] == ["order-17", *made]


def test_a_refusal_is_told_to_the_log_with_its_id_and_not_more_often_than_is_useful(
    stage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="assay.serving"):
        for number in range(50):
            stage.ask("POST", INFER, {}, more={"X-Request-Id": f"r{number}"})
    told = [one.fields for one in caplog.records if hasattr(one, "fields")]
    assert 20 <= len(told) < 50
    assert told[0]["request_id"] == "r0"
    assert (told[0]["status"], told[0]["type"], told[0]["route"]) == (422, "invalid-body", INFER)


def test_one_request_too_many_is_refused_and_told_when_to_come_again(stage: Any) -> None:
    answer = stage.ask("POST", INFER, BODY, marks={REFUSED: (9, 8)})
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert (answer.json()["found"], answer.json()["expected"]) == (9, 8)
    assert stage.ask("GET", "/health/live", marks={REFUSED: (9, 8)}).status == 200


@pytest.mark.parametrize("text", ["soon", "-1", "0", "1e3", "nan", "9" * 30, ""])
def test_a_deadline_that_is_no_time_is_refused(stage: Any, text: str) -> None:
    answer = stage.ask("POST", INFER, BODY, more={"X-Deadline-Ms": text})
    assert (answer.status, answer.json()["type"]) == (422, "urn:assay:problem:invalid-header")


def test_what_comes_after_its_deadline_is_refused_and_not_logged(stage: Any, tmp_path: Any) -> None:
    run = stage.service.predictor._run_one

    def slow(*given: Any, **named: Any) -> Any:
        threading.Event().wait(0.03)
        return run(*given, **named)

    stage.service.predictor._run_one = slow
    answer = stage.ask("POST", INFER, BODY, more={"X-Deadline-Ms": "10"})
    assert (answer.status, answer.json()["type"]) == (504, "urn:assay:problem:deadline-exceeded")
    assert stage.ask("POST", INFER, BODY, more={"X-Deadline-Ms": "20000"}).status == 200
    stage.service.predictions.stop()
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 1


def test_a_store_that_hangs_costs_a_request_its_deadline_and_the_next_ones_nothing(
    staged: Any,
) -> None:
    stage = staged(deadline_ms=60)
    stage.rows.may_wait = True
    free, read = threading.Event(), stage.rows.rows
    stage.rows.rows = lambda names, at: free.wait(30) and read(names, at)
    slugs = []
    while "unavailable" not in slugs:
        slugs.append(ask(stage)[1])
        assert len(slugs) < 50
    assert slugs[:3] == ["deadline-exceeded"] * 3
    # What needs no store; on a busy machine even that may take longer than the deadline.
    until(lambda: stage.ask("POST", INFER, BODY).status == 200)
    assert "\nassay_store_failing 1\n" in stage.ask("GET", "/metrics").body.decode()
    free.set()
    found = []

    def answered() -> bool:
        found.append(ask(stage))
        return found[-1][0] == 200

    until(answered, "the store is asked again")
    assert {slug for _, slug in found[:-1]} <= {"unavailable", "deadline-exceeded"}
    assert "\nassay_store_failing 0\n" in stage.ask("GET", "/metrics").body.decode()
    until(answered, "and the next time")


def ask(stage: Any) -> tuple[int, str]:
    answer = stage.ask("POST", "/predict", {"instrument": "USD_SGD"})
    return answer.status, answer.json().get("type", "").rpartition(":")[2]


def test_a_store_that_hangs_is_known_to_fail_though_every_client_is_in_a_hurry(staged: Any) -> None:
    stage = staged(deadline_ms=60)
    stage.rows.may_wait = True
    free, read, begun = threading.Event(), stage.rows.rows, []

    def hang(names: Any, at: int) -> Any:
        begun.append(1)
        assert free.wait(30)
        return read(names, at)

    def hurry() -> str:
        more = {"X-Deadline-Ms": "5"}
        answer = stage.ask("POST", "/predict", {"instrument": "USD_SGD"}, more=more)
        return answer.json().get("type", "").rpartition(":")[2]

    stage.rows.rows = hang
    until(lambda: hurry() == "unavailable", "it is known to fail")
    asked = len(begun)
    assert 3 <= asked <= 16  # a thread for each, of sixteen
    assert "\nassay_store_failing 1\n" in stage.ask("GET", "/metrics").body.decode()
    free.set()
    until(lambda: ask(stage)[0] == 200, "it is asked again")
    assert "\nassay_store_failing 0\n" in stage.ask("GET", "/metrics").body.decode()


def test_a_client_in_a_hurry_does_not_close_the_store_for_others(staged: Any) -> None:
    stage = staged(deadline_ms=5_000)
    stage.rows.may_wait = True
    read = stage.rows.rows
    stage.rows.rows = lambda names, at: threading.Event().wait(0.05) or read(names, at)
    for _ in range(5):
        answer = stage.ask(
            "POST", "/predict", {"instrument": "USD_SGD"}, more={"X-Deadline-Ms": "5"}
        )
        assert answer.status == 504
    assert ask(stage)[0] == 200


def test_rows_that_are_waited_for_are_the_same_and_so_are_refusals(stage: Any) -> None:
    inline = stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).json()
    stage.rows.may_wait = True
    waited = stage.ask("POST", "/predict", {"instrument": "USD_SGD"}).json()
    assert {**inline, "latency_ms": 0} == {**waited, "latency_ms": 0}
    assert ask(stage)[0] == 200
    many = stage.ask("POST", "/predict", {"instruments": ["USD_SGD", "NO"]}).json()
    assert many["refused"] == 1
    assert stage.ask("POST", "/predict", {"instrument": "NO"}).status == 404
    stage.rows.trouble = Unavailable("the server is gone")
    assert ask(stage) == (503, "unavailable")


def test_switched_off_while_rows_are_waited_for_nothing_is_answered(stage: Any) -> None:
    stage.rows.may_wait = True
    read = stage.rows.rows

    def and_meanwhile(names: Any, at: int) -> Any:
        stage.switch.on(by="risk", reason="now")
        return read(names, at)

    stage.rows.rows = and_meanwhile
    assert ask(stage) == (503, "killed")


def test_the_in_process_predictor_raises_what_the_service_answers(stage: Any) -> None:
    stage.rows.trouble = Unavailable("the server is gone")
    with pytest.raises(Rejected, match="the server is gone"):
        stage.service.predictor.predict("USD_SGD", manifest="a" * 64)
