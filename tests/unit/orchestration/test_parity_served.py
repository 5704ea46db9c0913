"""What models were given, by the prediction log, against history."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from assay.bootstrap import open_desk
from assay.domain.instants import parse, render
from assay.domain.verdicts import Verdict
from assay.features import ManifestSet
from assay.orchestration.desk import Desk
from assay.orchestration.parity import ServedProof, history_as_known, prove_served
from assay.testing.clocks import FixedClock

NOW = parse("2024-06-01T12:00Z")
MODEL = "fx_vol"


class Silent:
    def event(self, text: str) -> None:
        pass


@pytest.fixture
def desk(trained: Path) -> Desk:
    return open_desk(trained, clock=FixedClock(NOW))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "predictions.jsonl"


def line_for(desk: Desk, row: dict[str, Any]) -> dict[str, Any]:
    """What the service writes down of a prediction from one row of history."""
    schema = desk.registry.open_version(MODEL, "1.0.0").schema.names
    return {
        "timestamp": render(row["known_time"]),
        "model": MODEL,
        "version": "v1.0.0",
        "manifest": ManifestSet.of([desk.view("fx_daily")]).hash,
        "features": [row[name] for name in schema],
        "instrument": row["instrument"],
        "event_time": render(row["event_time"]),
        "known_time": render(row["known_time"]),
    }


def history(desk: Desk) -> pl.DataFrame:
    return history_as_known(desk, desk.view("fx_daily")).rows


def proven(desk: Desk, log: Path, *lines: dict[str, Any] | bytes) -> ServedProof:
    texts = [one if isinstance(one, bytes) else msgspec.json.encode(one) + b"\n" for one in lines]
    log.write_bytes(b"".join(texts))
    return prove_served(desk, log, Silent())


def test_a_missing_feature_that_a_model_was_given_is_compared_like_any_other(
    desk: Desk, log: Path
) -> None:
    rows = history(desk)
    schema = desk.registry.open_version(MODEL, "1.0.0").schema.names
    missing = rows.filter(pl.any_horizontal(pl.col(schema).is_nan())).row(0, named=True)
    whole = rows.filter(pl.all_horizontal(pl.col(schema).is_finite())).row(0, named=True)
    found = proven(desk, log, line_for(desk, missing))
    assert (found.lines, found.rows, found.verdict) == (1, 1, Verdict.PASS)
    assert found.values == found.equal == len(schema)
    # A number where history has none, and none where it has one.
    first = next(name for name in schema if math.isnan(missing[name]))
    wrong = [line_for(desk, missing | {first: 0.5}), line_for(desk, whole | {first: math.nan})]
    found = proven(desk, log, *wrong)
    assert (found.values - found.equal, found.verdict) == (2, Verdict.FAIL)


@pytest.mark.parametrize("damage", [b'{"model": "fx', b"no line", b"{}"])
def test_a_line_that_cannot_be_read_is_not_taken_for_compared(
    desk: Desk, log: Path, damage: bytes
) -> None:
    whole = line_for(desk, history(desk).row(-1, named=True))
    found = proven(desk, log, whole, damage + b"\n", whole)
    assert (found.lines, sum(found.skipped.values())) == (2, 1)
    assert found.verdict is Verdict.INDETERMINATE


def test_a_line_with_an_unreadable_moment_is_not_taken_for_compared(desk: Desk, log: Path) -> None:
    whole = line_for(desk, history(desk).row(-1, named=True))
    for name in ("event_time", "known_time"):
        found = proven(desk, log, whole, whole | {name: "2024-13-01"})
        assert (found.lines, sum(found.skipped.values())) == (1, 1)
        assert found.verdict is Verdict.INDETERMINATE


def test_a_last_line_that_was_being_written_is_none(desk: Desk, log: Path) -> None:
    whole = line_for(desk, history(desk).row(-1, named=True))
    found = proven(desk, log, whole, msgspec.json.encode(whole)[:-7])
    assert (found.lines, dict(found.skipped), found.verdict) == (1, {}, Verdict.PASS)
