"""A desk proves its online side, fed from history or stored, and writes down what it found."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from assay.bootstrap import open_desk
from assay.cli.app import app
from assay.domain.instants import NANOS_PER_SECOND, parse, render
from assay.domain.verdicts import Verdict
from assay.errors import ContractViolation, NotFound, Tampered
from assay.features.online import OnlineFeed, SqliteStore, batches_of
from assay.features.parity import ParityPolicy, ParityRule
from assay.orchestration.desk import Desk
from assay.orchestration.live.delivery import FEED
from assay.orchestration.parity import (
    Following,
    OnlineSide,
    markdown_of,
    prove_view,
    write_following,
)
from assay.orchestration.parity.page import render_following
from assay.orchestration.report import kept_proof
from assay.testing.clocks import FixedClock

DAY = 86_400 * NANOS_PER_SECOND
NOW = parse("2024-06-01T12:00Z")


class Silent:
    def event(self, text: str) -> None:
        pass


def opened(folder: Path) -> Desk:
    return open_desk(folder, clock=FixedClock(NOW))


def prove(folder: Path, **options: Any) -> Any:
    return prove_view(opened(folder), "fx_daily", Silent(), **options)


def fill_store(folder: Path, *, last: int = 90) -> None:
    """Feed the last sessions of silver into the desk's online store, the rest as its warm-up."""
    desk = opened(folder)
    view = desk.view("fx_daily")
    arrivals = (
        desk.lake.table("silver/market").read()
        .with_columns(pl.col("source_rank").cast(pl.Int64))
        .sort("known_time", "event_time", "instrument")
    )  # fmt: skip
    live = arrivals["known_time"].unique().sort()[-last]
    store = SqliteStore(folder / "data/online.db")
    feed = OnlineFeed(view, store, **FEED)
    feed.warm_up(arrivals.filter(pl.col("known_time") < live))
    for batch in batches_of(view, arrivals.filter(pl.col("known_time") >= live)):
        feed.take(batch)
    store.close()


@pytest.fixture(scope="module")
def stored_once(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "desk"
    shutil.copytree(trained, folder, symlinks=True)
    fill_store(folder)
    return folder


@pytest.fixture
def stored(stored_once: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "desk"
    shutil.copytree(stored_once, folder, symlinks=True)
    return folder


def some_row(folder: Path, back: int) -> tuple[tuple[Any, ...], bytes]:
    connection = sqlite3.connect(folder / "data/online.db")
    *key, packed = connection.execute(
        "SELECT entity, event_time, known_time, source_rank, sequence, packed FROM online_rows "
        "ORDER BY event_time DESC, entity LIMIT 1 OFFSET ?",
        (back,),
    ).fetchone()
    connection.close()
    return tuple(key), packed


def write_row(folder: Path, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(folder / "data/online.db")
    with connection:
        assert connection.execute(statement, values).rowcount == 1
    connection.close()


WHERE = (
    "WHERE entity = ? AND event_time = ? AND known_time = ? AND source_rank = ? AND sequence = ?"
)


def change_value(folder: Path, back: int, feature: int, value: float | None) -> tuple[Any, ...]:
    """Another value in a stored row, or its lowest bit turned, under a checksum that fits."""
    key, packed = some_row(folder, back)
    body = bytearray(packed[8:])
    words = np.frombuffer(bytes(body[64:]), "<u8").copy()
    if value is None:
        words[feature] ^= 1
    else:
        words[feature] = np.float64(value).view(np.uint64)
    body[64:] = words.tobytes()
    forged = struct.pack("<HxxI", 1, zlib.crc32(bytes(body))) + bytes(body)
    write_row(folder, f"UPDATE online_rows SET packed = ? {WHERE}", forged, *key)
    return key


def test_without_a_store_history_is_fed_event_by_event(trained: Path) -> None:
    proof = prove(trained)
    assert (proof.side, proof.judgement.verdict) == (OnlineSide.FEED, Verdict.PASS)
    gold = opened(trained).lake.table("gold/fx_daily").read()
    assert proof.report.values_compared == gold.height * 48
    assert proof.report.share == 1.0
    assert len(proof.days) == gold["event_time"].n_unique() == 620
    assert proof.roots[0] == proof.roots[1]
    assert proof.kept() is not None
    assert json.loads(json.dumps(proof.to_json(), allow_nan=False))["side"] == str(OnlineSide.FEED)


def test_the_days_of_a_horizon_have_the_roots_that_they_have_in_the_whole(trained: Path) -> None:
    whole = prove(trained)
    first, last = whole.days[400].day, whole.days[450].day
    part = prove(trained, since=parse(first), until=parse(last))
    assert part.judgement.verdict is Verdict.PASS
    assert part.days == whole.days[400:450]
    assert part.kept() is None, "a part proves nothing about the whole table"
    nothing = prove(trained, since=parse("2040-01-01"))
    assert nothing.judgement.verdict is Verdict.INDETERMINATE


def test_with_a_store_every_version_it_keeps_is_compared(stored: Path) -> None:
    proof = prove(stored)
    assert (proof.side, proof.judgement.verdict) == (OnlineSide.STORE, Verdict.PASS)
    connection = sqlite3.connect(stored / "data/online.db")
    (rows,) = connection.execute("SELECT count(*) FROM online_rows").fetchone()
    connection.close()
    assert proof.comparison.online_rows == rows
    assert len(proof.days) == 90
    assert proof.kept() is None
    fed = prove(stored, feed=True, since=parse(proof.days[0].day))
    assert fed.side is OnlineSide.FEED
    assert fed.days == proof.days, "both ways give the rows the same roots"


def test_a_bit_a_missing_and_an_extra_row_are_told_with_what_to_do(stored: Path) -> None:
    changed = change_value(stored, 40, 1, None)
    gone, _ = some_row(stored, 80)
    write_row(stored, f"DELETE FROM online_rows {WHERE}", *gone)
    proof = prove(stored)
    assert proof.judgement.verdict is Verdict.FAIL
    assert [one.key for one in proof.report.differences] == [changed]
    assert proof.report.differences[0].ulp == 1
    assert proof.report.missing_keys == (gone,)
    following = Following("fx", NOW, enforced=True, proofs=(proof,))
    assert following.verdict is Verdict.FAIL
    assert following.advice[0].startswith("Stop predicting")
    text = markdown_of(following)
    assert f"{changed[0]} at {render(changed[1])}".replace("_", "\\_") in text
    assert f"{gone[0]} at {render(gone[1])}".replace("_", "\\_") in text
    days = {render(key[1])[:10] for key in (changed, gone)}
    assert {day.day for day in proof.days if not day.equal} == days
    for day in days:
        assert re.search(rf"\| {day} \| \d+ \| \d+ \| `\w{{64}}` \| `\w{{64}}` \|", text)


def test_under_distributions_a_bit_passes_and_a_shift_does_not(stored: Path) -> None:
    policy = ParityPolicy(ParityRule.DISTRIBUTION)
    change_value(stored, 40, 1, None)
    assert prove(stored).judgement.verdict is Verdict.FAIL
    assert prove(stored, policy=policy).judgement.verdict is Verdict.PASS
    change_value(stored, 41, 1, 1e6)
    judged = prove(stored, policy=policy).judgement
    assert judged.verdict is Verdict.FAIL
    assert any("ret_1: distance" in reason for reason in judged.reasons)


def test_gold_whose_file_has_changed_is_no_reference(copied: Path) -> None:
    desk = opened(copied)
    snapshot = desk.lake.table("gold/fx_daily").current()
    assert snapshot is not None
    path = copied / "data/gold/fx_daily/files" / f"{snapshot.files[0].sha256}.parquet"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(Tampered, match="has changed"):
        prove(copied)


def run(folder: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["parity", "run", *arguments, "--desk", str(folder)])


def test_the_command_enforces_or_diagnoses_and_writes_three_files(stored: Path) -> None:
    good = run(stored, "--json")
    assert good.exit_code == 0, good.output
    document = json.loads(good.stdout)
    assert (document["verdict"], document["mode"]) == ("PASS", "enforce")
    assert document["views"][0]["side"] == "online store"
    change_value(stored, 40, 1, 5.0)
    assert run(stored).exit_code == 1
    diagnosed = run(stored, "fx_daily", "--diagnose", "--json")
    assert diagnosed.exit_code == 0
    document = json.loads(diagnosed.stdout)
    assert (document["verdict"], document["mode"]) == ("FAIL", "diagnose")
    folder = stored / "reports/online_following"
    (path,) = folder.glob("*.json")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", path.stem)
    assert json.loads(path.read_text()) == document
    assert {one.suffix for one in folder.iterdir()} == {".json", ".md", ".html"}
    before = run(stored, "--from", "2021-03-01", "--to", "2021-04-01")
    assert before.exit_code == 0, "the row lies outside"
    assert "from 2021-03-01T00:00:00Z to 2021-04-01T00:00:00Z" in before.output
    assert "what to do:" not in before.output


def test_the_desk_says_which_policy_holds_and_the_command_may_ask_for_another(
    stored: Path,
) -> None:
    change_value(stored, 40, 1, None)
    assert run(stored).exit_code == 1
    assert run(stored, "--policy", "distribution").exit_code == 0
    settings = stored / "assay.yaml"
    text = settings.read_text()
    assert "rule: bits" in text
    settings.write_text(text.replace("rule: bits", "rule: distribution"))
    passed = run(stored, "--json")
    assert passed.exit_code == 0
    policy = json.loads(passed.stdout)["views"][0]["policy"]
    assert (policy["rule"], policy["wasserstein"]) == ("distribution", 0.02)
    assert run(stored, "--policy", "bits").exit_code == 1


def test_the_words_of_a_breach_name_rows_and_what_to_do(stored: Path) -> None:
    key = change_value(stored, 40, 1, 5.0)
    result = run(stored)
    assert result.exit_code == 1
    assert f"differs: {key[0]} at {render(key[1])}, ret_1" in result.output
    assert "5.0 online" in result.output
    assert "1. Stop predicting" in result.output
    assert "next: assay parity verify" in result.output
    fed = run(stored, "--feed")
    assert fed.exit_code == 0
    assert "history against events fed one by one, all of history" in fed.output
    desk = opened(stored)
    snapshot = desk.lake.table("gold/fx_daily").current()
    assert snapshot is not None
    assert kept_proof(desk, "fx_daily", snapshot.id)["report"]["holds"]  # type: ignore[index]


def test_what_cannot_be_read_as_a_horizon_or_a_view_is_refused(trained: Path) -> None:
    assert isinstance(run(trained, "--from", "yesterday").exception, ContractViolation)
    assert isinstance(run(trained, "fx_dayly").exception, NotFound)
    assert run(trained, "--policy", "roughly").exit_code == 2


def test_the_page_is_well_formed_and_equal_for_equal_reports(stored: Path) -> None:
    for damaged in (False, True):
        if damaged:
            change_value(stored, 40, 1, 5.0)
            gone, _ = some_row(stored, 80)
            write_row(stored, f"DELETE FROM online_rows {WHERE}", *gone)
        following = Following("<b>fx</b>", NOW, enforced=False, proofs=(prove(stored),))
        page = render_following(following)
        root = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
        text = " ".join(" ".join(root.itertext()).split())
        assert "<b>fx</b>" in text
        expected = "Online is not what history says" if damaged else "Online is what history says"
        assert expected in text
        assert len(root.findall(".//svg[@class='chart']")) == 6
        assert ("Rows missing online: 1" in text) == damaged
        assert following.proofs[0].roots[0] in text
        assert render_following(following) == page
        assert "http" not in re.sub(r'xmlns="[^"]*"', "", page)
        written = write_following(opened(stored), following)
        assert written.page.read_text() == page
        assert written.page.name == "2024-06-01.html"


def test_a_day_without_anything_to_draw_still_makes_a_page(trained: Path) -> None:
    proof = prove(trained, since=parse("2040-01-01"))
    following = Following("fx", NOW, enforced=True, proofs=(proof,))
    page = render_following(following)
    assert ET.fromstring(page.removeprefix("<!DOCTYPE html>\n")) is not None
    assert "Nothing could be decided" in page
    assert "INDETERMINATE" in markdown_of(following)
    assert following.verdict is Verdict.INDETERMINATE
