"""What a log with a rate says about the features of some predictions, and not about the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from assay.bootstrap import open_desk
from assay.cli.app import app
from assay.domain.instants import parse, render
from assay.domain.verdicts import Verdict
from assay.features import ManifestSet
from assay.orchestration.parity import ServedProof, prove_served
from assay.serving.inputs.feature_rate import FeatureRate, asked_of_store
from assay.testing.clocks import FixedClock

NOW = parse("2024-06-01T12:00Z")
SECOND = 10**9


class Silent:
    def event(self, text: str) -> None:
        pass


@pytest.fixture(scope="module")
def whole(trained: Path) -> list[dict[str, Any]]:
    """Three hundred predictions with all their features, as a service writes them."""
    desk = open_desk(trained, clock=FixedClock(NOW))
    view = desk.view("fx_daily")
    (record, *_) = desk.registry.list()
    names = desk.registry.open_version(record.name, record.version).schema.names
    rows = desk.lake.table("gold/fx_daily").read().filter(
        pl.all_horizontal(pl.col(names).is_finite())
    )  # fmt: skip
    return [
        {
            "timestamp": render(row["known_time"] + place * SECOND),
            "model": record.name,
            "version": f"v{record.version}",
            "digest": record.digest,
            "manifest": ManifestSet.of([view]).hash,
            "latency_ms": 0.1,
            "features": [row[name] for name in names],
            "prediction": 0.5,
            "direction": None,
            "instrument": row["instrument"],
            "event_time": render(row["event_time"]),
            "known_time": render(row["known_time"]),
            "stale": False,
        }
        for place, row in enumerate(rows.tail(300).iter_rows(named=True))
    ]


def at_rate(line: dict[str, Any], rate: float) -> dict[str, Any]:
    """The line as a service with a rate writes it."""
    asked = asked_of_store(line["model"], line["instrument"], parse(line["timestamp"]), None)
    kept = line | {"feature_log_rate": rate}
    if not FeatureRate(rate).takes(asked):
        del kept["features"]
    return kept


def prove(folder: Path, path: Path, lines: list[dict[str, Any]]) -> ServedProof:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return prove_served(open_desk(folder, clock=FixedClock(NOW)), path, Silent())


def test_a_log_of_everything_is_judged_whole(trained, whole, tmp_path) -> None:
    found = prove(trained, tmp_path / "log", whole)
    assert found.verdict is Verdict.PASS
    assert (found.lines, found.logged, found.rates, found.withheld) == (300, 300, (1.0,), 0)
    assert found.values == found.equal == 300 * len(whole[0]["features"])


def test_a_share_is_judged_and_no_more_is_claimed(trained, whole, tmp_path) -> None:
    lines = [at_rate(line, 0.3 if place < 200 else 0.1) for place, line in enumerate(whole)]
    logged = sum("features" in line for line in lines)
    found = prove(trained, tmp_path / "log", lines)
    assert found.verdict is Verdict.PASS
    assert (found.lines, found.logged, found.rates, found.withheld) == (300, logged, (0.1, 0.3), 0)
    assert 30 < logged < 120
    assert found.rows == logged
    assert found.values == found.equal == logged * len(whole[0]["features"])
    assert json.loads(json.dumps(found.to_json()))["rates"] == [0.1, 0.3]


def test_a_wrong_number_among_those_logged_is_found(trained, whole, tmp_path) -> None:
    lines = [at_rate(line, 0.3) for line in whole]
    chosen = next(line for line in lines if "features" in line)
    chosen["features"] = [chosen["features"][0] + 1.0, *chosen["features"][1:]]
    found = prove(trained, tmp_path / "log", lines)
    assert found.verdict is Verdict.FAIL
    assert found.values - found.equal == 1


def test_without_any_features_nothing_is_judged(trained, whole, tmp_path) -> None:
    found = prove(trained, tmp_path / "log", [at_rate(line, 0.0) for line in whole])
    assert found.verdict is Verdict.INDETERMINATE
    assert (found.lines, found.logged, found.rates, found.withheld) == (300, 0, (0.0,), 0)


def test_features_that_the_rate_takes_and_nobody_finds_are_a_breach(
    trained, whole, tmp_path
) -> None:
    lines = [at_rate(line, 0.3) for line in whole]
    cut = next(place for place, line in enumerate(lines) if "features" in line)
    del lines[cut]["features"]
    found = prove(trained, tmp_path / "log", lines)
    assert (found.verdict, found.withheld) == (Verdict.FAIL, 1)
    # A line that names no rate was to have its features.
    lines = [dict(line) for line in whole]
    del lines[7]["features"]
    assert prove(trained, tmp_path / "log", lines).withheld == 1


def test_the_command_says_how_many_were_logged_of_how_many_made(copied: Path, whole) -> None:
    lines = [at_rate(line, 0.25) for line in whole]
    logged = sum("features" in line for line in lines)
    log = copied / "artifacts/predictions.jsonl"
    log.parent.mkdir(exist_ok=True)
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = CliRunner().invoke(app, ["parity", "served", "--desk", str(copied)])
    assert told.exit_code == 0, told.output
    assert f"rows of {logged} predictions\n" in told.stdout
    assert (
        f"the features of {logged} of 300 predictions were logged (serving.feature_log_rate 0.25); "
        "the others were not compared"
    ) in told.stdout
