"""A source that corrects a past rate: what a desk knew at its decisions stays what it knew."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml

from assay.bootstrap import Member, create_desk, open_desk
from assay.domain.instants import NANOS_PER_SECOND, parse
from assay.errors import NotFound
from assay.features.offline.training_sets import rebuild
from assay.orchestration import building
from assay.orchestration.building import build_features, prove_parity
from assay.orchestration.desk import Desk
from assay.orchestration.ingestion import ingest
from assay.orchestration.judging import judge_version
from assay.orchestration.modelling import build_training_set, register_run, train_recipe
from assay.testing.clocks import FixedClock

DAY = 86_400 * NANOS_PER_SECOND
LABEL = ("label", "label_start", "label_end", "label_known")


class Notes:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def event(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def desk(
    tmp_path: Path, archive: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> tuple[Desk, FixedClock]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "desk"
    create_desk(folder, name=None, members=[Member("quant", ("version",))], demonstration=True)
    archive(folder / "configs/rates.zip", sessions=620)
    path = folder / "configs/sources.yaml"
    document = yaml.safe_load(path.read_text())
    document["sources"]["ecb"]["path"] = "rates.zip"
    document["universe"]["min_observed"] = 300
    path.write_text(yaml.safe_dump(document))
    clock = FixedClock(parse("2024-06-01T12:00Z"))
    return open_desk(folder, clock=clock), clock


def correct(archive: Path, day: str, currency: str, factor: float) -> None:
    """Publish the archive again with one rate changed."""
    with zipfile.ZipFile(archive) as file:
        lines = file.read("eurofxref-hist.csv").decode().splitlines()
    column = lines[0].split(",").index(currency)
    (number,) = [n for n, line in enumerate(lines) if line.startswith(day)]
    cells = lines[number].split(",")
    cells[column] = f"{float(cells[column]) * factor:.6g}"
    lines[number] = ",".join(cells)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("eurofxref-hist.csv", "\n".join(lines))


def test_what_became_known_after_the_cut_off_does_not_exist_for_a_training_set(
    desk: tuple[Desk, FixedClock],
) -> None:
    desk_, _ = desk
    notes = Notes()
    ingest(desk_, notes)
    build_features(desk_, "fx_daily", notes)
    recipe = desk_.recipe("fx_vol_baseline")
    whole = build_training_set(desk_, recipe)
    moments = whole.frame["as_of"].unique().sort()
    cut_off = moments[-30]
    held = build_training_set(desk_, recipe, known_by=cut_off + 1)
    assert held.query["known_at"] == cut_off, "the last moment at which a price became known"
    assert held.frame["as_of"].max() < cut_off
    assert held.frame["label_known"].max() <= cut_off
    alone = whole.frame.filter(pl.col("label_known") <= cut_off)
    assert held.frame.equals(alone.filter(pl.col("as_of") <= cut_off))
    assert rebuild(held.description(), desk_.lake).digest == held.digest
    with pytest.raises(NotFound, match="was known by 1999-01-01"):
        build_training_set(desk_, recipe, known_by=parse("1999-01-01T00:00Z"))


def test_gold_built_a_year_at_a_time_is_the_gold_built_at_once(
    desk: tuple[Desk, FixedClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk_, clock = desk
    notes = Notes()
    ingest(desk_, notes)
    at_once = build_features(desk_, "fx_daily", notes)
    years = desk_.lake.table("gold/fx_daily").current()
    assert years is not None
    assert len(years.files) > 1
    assert len([text for text in notes.texts if text.startswith("computed")]) == 1
    monkeypatch.setattr(building, "ROWS_AT_ONCE", 1)
    # Nothing to share files with: every year is computed, and written, by itself.
    other = Desk(
        dataclasses.replace(desk_.layout, lake=desk_.layout.root / "other"),
        desk_.keyring,
        clock,
        desk_.stores,
    )
    ingest(other, notes)
    by_years = build_features(other, "fx_daily", notes)
    assert len([text for text in notes.texts if text.startswith("computed")]) == 1 + len(
        years.files
    )
    assert dataclasses.replace(by_years, seconds=0.0) == dataclasses.replace(at_once, seconds=0.0)


def test_a_corrected_rate_changes_labels_and_no_feature_and_no_recorded_evidence(
    desk: tuple[Desk, FixedClock],
) -> None:
    desk_, clock = desk
    notes = Notes()
    ingest(desk_, notes)
    before = build_features(desk_, "fx_daily", notes)
    recipe = desk_.recipe("fx_vol_baseline")
    old = build_training_set(desk_, recipe).frame
    run = train_recipe(desk_, "fx_vol_baseline", notes)
    version = str(register_run(desk_, run, author="quant").version)
    judged = judge_version(desk_, "fx_vol", version, initiated_by="quant", progress=notes)
    assert before.revised == 0

    clock.advance(DAY)
    # Ten sessions before the end, inside the out-of-sample part and inside many windows.
    day = pl.select(pl.lit(old["as_of"].max() - 14 * DAY).cast(pl.Datetime("ns"))).item()
    correct(desk_.layout.root / "configs/rates.zip", day.date().isoformat(), "JPY", 1.002)
    assert ingest(desk_, notes).pulls["ecb"].revisions == 1
    after = build_features(desk_, "fx_daily", notes)

    assert after.revised == 2, "USD_JPY and SGD_JPY"
    assert any("2 rows of market were revised" in text for text in notes.texts)
    gold = desk_.lake.table("gold/fx_daily")
    assert gold.read(after.snapshot).equals(gold.read(before.snapshot)), "as they were when used"
    assert prove_parity(desk_, "fx_daily", notes).report.to_json()["share"] == 1.0
    new = build_training_set(desk_, recipe).frame
    assert new.drop(LABEL).equals(old.drop(LABEL))
    changed = new.filter(pl.Series(new["label"] != old["label"]))
    assert set(changed["instrument"]) == {"USD_JPY", "SGD_JPY"}
    assert (changed["label_known"] >= clock.now()).all(), "known only since the correction"

    again = judge_version(desk_, "fx_vol", version, initiated_by="quant", progress=notes)
    assert [item.value for item in again.evidence] == [item.value for item in judged.evidence]
