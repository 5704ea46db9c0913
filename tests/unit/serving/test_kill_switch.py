"""The kill switch stops the next request, however it is turned, and every turn is recorded."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from assay.errors import Unavailable
from assay.serving import KillSwitch, ServiceRecord
from assay.serving.prediction import kill_switch, service_record
from assay.serving.rejections import Rejected
from assay.testing.clocks import FixedClock

OK = {"features": [1.0, 2.0, 3.0]}
INFER = "/inference/predict"


def events(stage: Any) -> list[tuple[str, str, str]]:
    return [
        (line["event"], line["by"], line["reason"])
        for line in stage.recorded()
        if line["event"] in {"killed", "unkilled"}
    ]


def test_a_file_made_by_hand_stops_the_next_request_and_its_removal_lets_go(stage: Any) -> None:
    assert stage.ask("POST", INFER, OK).status == 200
    stage.switch.path.parent.mkdir()
    stage.switch.path.write_text("prices are wrong")
    answer = stage.ask("POST", INFER, OK)
    assert (answer.status, answer.json()["type"]) == (503, "urn:assay:problem:killed")
    assert "prices are wrong" in answer.json()["detail"]
    stage.switch.path.unlink()
    assert stage.ask("POST", INFER, OK).status == 200
    assert events(stage) == [
        ("killed", "a file", "prices are wrong"),
        ("unkilled", "a file", "the file was removed"),
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [(INFER, OK), ("/inference/batch", {"batch": [[1, 2, 3]]}),
     ("/predict", {"instrument": "USD_SGD"})],
)  # fmt: skip
def test_the_api_stops_every_prediction_route(stage: Any, path: str, body: Any) -> None:
    turn = {"by": "risk.officer", "reason": "limit broken"}
    assert stage.ask("POST", "/kill", turn).json()["killed"] is True
    answer = stage.ask("POST", path, body)
    assert answer.status == 503
    assert "risk.officer: limit broken" in answer.json()["detail"]
    assert stage.ask("GET", "/health").status == 503
    assert stage.ask("GET", "/health").json()["status"] == "killed"
    assert stage.ask("GET", "/health/ready").status == 503
    assert stage.ask("GET", "/health/live").status == 200
    assert "assay_killed 1\n" in stage.ask("GET", "/metrics").body.decode()
    assert stage.ask("POST", "/unkill", turn | {"reason": "limit repaired"}).status == 200
    assert stage.ask("POST", path, body).status == 200
    assert events(stage) == [
        ("killed", "risk.officer", "limit broken"),
        ("unkilled", "risk.officer", "limit repaired"),
    ]


def test_a_start_that_asks_for_it_begins_stopped(staged: Any) -> None:
    stage = staged(killed=True)
    assert stage.ask("POST", INFER, OK).status == 503
    stage.ask("POST", "/unkill", {"by": "ops", "reason": "checked"})
    assert stage.ask("POST", INFER, OK).status == 200
    assert [event for event, _, _ in events(stage)] == ["killed", "unkilled"]


def test_a_kill_outlives_the_process_that_was_told(stage: Any, staged: Any) -> None:
    stage.ask("POST", "/kill", {"by": "ops", "reason": "stop"})
    assert staged().ask("POST", INFER, OK).status == 503


def test_two_processes_of_a_desk_are_stopped_and_let_go_together(stage: Any, staged: Any) -> None:
    other = staged()
    stage.ask("POST", "/kill", {"by": "ops", "reason": "stop"})
    assert other.ask("POST", INFER, OK).status == 503
    other.ask("POST", "/unkill", {"by": "ops", "reason": "go on"})
    assert stage.ask("POST", INFER, OK).status == 200


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_switch_that_cannot_be_looked_at_counts_as_on(stage: Any) -> None:
    stage.switch.path.parent.mkdir()
    stage.switch.path.parent.chmod(0)
    try:
        assert stage.ask("POST", INFER, OK).status == 503
    finally:
        stage.switch.path.parent.chmod(0o755)


def test_a_path_through_a_file_counts_as_on(tmp_path: Path) -> None:
    (tmp_path / "stop").write_text("a file where a folder belongs")
    record = ServiceRecord(tmp_path / "record.jsonl", FixedClock(0), process=1)
    switch = KillSwitch(tmp_path / "stop" / "KILL", record)
    assert switch.observe() is not None


def test_this_process_stops_even_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    record = ServiceRecord(tmp_path / "record.jsonl", FixedClock(0), process=1)
    switch = KillSwitch(tmp_path / "stop" / "KILL", record)
    (tmp_path / "stop").write_text("a file where a folder belongs")
    with pytest.raises(Unavailable, match="cannot be made: File exists; this process predicts"):
        switch.on(by="ops", reason="stop")
    (tmp_path / "stop").unlink()
    assert switch.observe() is not None


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_nobody_from_switching_off_and_the_record_follows(
    staged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, other = staged(), staged()
    with monkeypatch.context() as patch:
        patch.setattr(service_record, "append_lines", full)
        patch.setattr(kill_switch, "write_atomic", full)
        answer = stage.ask("POST", "/kill", {"by": "ops", "reason": "prices"})
        assert (answer.status, answer.json()["killed"]) == (200, True)
        for one in (stage, other):
            for _ in range(2):
                problem = one.ask("POST", INFER, OK)
                assert (problem.status, problem.json()["type"]) == (503, "urn:assay:problem:killed")
        health = stage.ask("GET", "/health").json()
        assert "No space left" in health["dependencies"]["record"]["detail"]
        refused = stage.ask("POST", "/unkill", {"by": "ops", "reason": "done"})
        assert (refused.status, refused.json()["type"]) == (503, "urn:assay:problem:unavailable")
    assert stage.ask("POST", "/unkill", {"by": "ops", "reason": "done"}).status == 200
    assert stage.ask("POST", INFER, OK).status == 200
    assert stage.ask("GET", "/health").json()["dependencies"]["record"]["ok"]
    events = [(line["event"], line["by"]) for line in stage.recorded()]
    assert events[:2] == [("killed", "ops"), ("unkilled", "ops")]
    assert not [one.problem for one in service_record.read_record(stage.folder / "serving.jsonl")
                if one.problem]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "[", "[1]", "{}", '{"by": 1, "reason": 2}', "\x00", "[" * 9**5]
)
def test_whatever_the_file_holds_stops(stage: Any, text: str) -> None:
    stage.switch.path.parent.mkdir()
    stage.switch.path.write_text(text)
    assert stage.ask("POST", INFER, OK).status == 503


def test_a_dangling_link_stops_too(stage: Any) -> None:
    stage.switch.path.parent.mkdir()
    stage.switch.path.symlink_to("nowhere")
    assert stage.ask("POST", INFER, OK).status == 503


def test_the_record_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    path.write_bytes(b'{"event": "started"}\n{"event": "kil')
    ServiceRecord(path, FixedClock(0), process=7).append("loaded", model="fx_vol")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", "loaded"]
    assert (lines[1]["process"], lines[1]["at"]) == (7, "1970-01-01T00:00:00Z")


def test_what_was_asked_before_a_look_is_answered_by_it_and_what_comes_later_is_not(
    stage: Any,
) -> None:
    switch = stage.switch
    switch.path.parent.mkdir()
    assert switch.is_off()
    switch.path.write_text("prices are wrong")
    switch.assume(off=True)
    switch.check()  # its request had come before the file was made
    switch.assume(off=False)
    with pytest.raises(Rejected, match="prices are wrong"):
        switch.check()
    assert not switch.is_off()
    switch.path.unlink()
    assert switch.is_off()
    switch.assume(off=True)
    switch.check()
    switch.on(by="ops", reason="by the interface")  # does not wait for the end of anything
    with pytest.raises(Rejected, match="by the interface"):
        switch.check()
    assert events(stage) == [
        ("killed", "a file", "prices are wrong"),
        ("unkilled", "a file", "the file was removed"),
        ("killed", "ops", "by the interface"),
    ]
