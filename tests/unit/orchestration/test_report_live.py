"""The live replay on the page: the result first, nothing trusted, nothing hidden."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from assay.orchestration.report.live import read_replay, section

GOOD: dict[str, Any] = {
    "live_from": "2026-08-10T14:00:00Z",
    "live_to": "2026-10-30T15:00:00Z",
    "trained_by": "2026-08-06T15:00:00Z",
    "held_back": True,
    "sessions": 62,
    "facts": {"history": 39_394, "live": 1_741, "revisions": 1},
    "made_by_demo": {"revision": "EUR_JPY", "late": "EUR_GBP"},
    "features": {"values_compared": 100, "bitwise_equal": 100, "missing": 0, "extra": 0},
    "predictions": {"compared": 30, "equal": 30, "missing": 0},
    "requests": {"requests": 30, "error_count": 0, "p50_ms": 0.6, "p99_ms": 1.9},
    "withdrawal": {
        "name": "fx_vol",
        "version": "1.2.0",
        "swapped": ["ret_1", "ewm_vol_94"],
        "gates": "REFUSED",
        "refused_by": ["schema"],
        "finding": {"reasons": ["rank correlation 0.28, expected at least 0.95"]},
        "requested_seq": 19,
        "rollback_seq": 20,
        "rolled_back_to": "1.0.0",
        "seconds_from_promotion_to_first_answer": 0.17,
        "seconds_from_first_to_last_bad_answer": 0.2,
    },
}


def write(desk: Path, document: Any) -> Path:
    path = desk / "artifacts/replay/replay.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return desk


def test_a_desk_without_a_replay_has_no_section(tmp_path: Path) -> None:
    assert read_replay(tmp_path) is None


def test_a_replay_that_holds_says_so_first_and_tells_the_withdrawal(tmp_path: Path) -> None:
    sheet = read_replay(write(tmp_path, GOOD))
    assert sheet is not None
    assert sheet.holds
    page = section(sheet)
    assert page.index("Every feature value") < page.index("Feature values equal")
    for said in (
        "100 of 100",
        "EUR_JPY",
        "made up two",
        "ewm_vol_94",
        "entry 20",
        "neither trained",
    ):
        assert said in page


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("features", "bitwise_equal", 99),
        ("features", "missing", 1),
        ("predictions", "equal", 29),
        ("requests", "error_count", 1),
        ("features", "values_compared", 0),
    ],
)
def test_a_proof_that_failed_is_said_first(tmp_path: Path, part: str, key: str, value: int) -> None:
    document = copy.deepcopy(GOOD)
    document[part][key] = value
    sheet = read_replay(write(tmp_path, document))
    assert sheet is not None
    assert sheet.holds is False
    assert "does not equal history" in section(sheet)


def test_a_period_that_was_not_held_back_is_said_to_be_so(tmp_path: Path) -> None:
    sheet = read_replay(write(tmp_path, {**GOOD, "held_back": False, "trained_by": None}))
    assert sheet is not None
    assert sheet.holds
    assert "was not held back" in section(sheet)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"features": 3}', "null", "[" * 100_000])
def test_a_record_that_cannot_be_read_is_named_and_breaks_nothing(
    tmp_path: Path, text: str
) -> None:
    sheet = read_replay(write(tmp_path, text))
    assert sheet is not None
    assert sheet.holds is None
    assert "cannot be read" in section(sheet)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    document = copy.deepcopy(GOOD)
    document["withdrawal"]["finding"]["reasons"] = ["<script>alert(1)</script>"]
    sheet = read_replay(write(tmp_path, document))
    assert sheet is not None
    assert "<script>" not in section(sheet)
