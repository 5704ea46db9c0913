"""A source that corrects a past rate: what a desk knew at its decisions stays what it knew."""

from __future__ import annotations

import dataclasses
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from assay.bootstrap import Member, create_desk, open_desk
from assay.domain.instants import NANOS_PER_SECOND, parse
from assay.domain.verdicts import Verdict
from assay.errors import Conflict, NotFound
from assay.features import FeatureView, OfflineDriver
from assay.features.offline.point_in_time import FeatureTable
from assay.features.offline.training_sets import Spine, get_training_set, rebuild
from assay.features.online import MemoryStore, OnlineStore
from assay.orchestration import building
from assay.orchestration.building import build_features, prove_parity, read_source
from assay.orchestration.desk import Desk
from assay.orchestration.ingestion import ingest
from assay.orchestration.judging import judge_version
from assay.orchestration.materialization import Materializer, Target
from assay.orchestration.modelling import build_training_set, register_run, train_recipe
from assay.orchestration.parity import prove_view
from assay.testing.clocks import FixedClock
from assay.validation.catalogue import CATALOGUE

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


def test_a_corrected_rate_changes_labels_and_no_past_feature_and_no_recorded_evidence(
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
    assert (before.revised, before.reissued, before.without_row) == (0, 0, 0)

    clock.advance(DAY)
    # Ten sessions before the end, inside the out-of-sample part and inside many windows.
    day = pl.select(pl.lit(old["as_of"].max() - 14 * DAY).cast(pl.Datetime("ns"))).item()
    correct(desk_.layout.root / "configs/rates.zip", day.date().isoformat(), "JPY", 1.002)
    assert ingest(desk_, notes).pulls["ecb"].revisions == 1
    after = build_features(desk_, "fx_daily", notes)

    assert after.revised == 2, "USD_JPY and SGD_JPY"
    assert any("2 facts of market were revised" in text for text in notes.texts)
    gold = desk_.lake.table("gold/fx_daily")
    known, now_known = gold.read(before.snapshot), gold.read(after.snapshot)
    fresh = now_known.filter(pl.col("known_time") >= clock.now())
    assert now_known.filter(pl.col("known_time") < clock.now()).equals(known), "as it was used"
    assert after.reissued == fresh.height > 0, "and what the correction changed, known since then"
    assert set(fresh["instrument"]) > {"USD_JPY", "SGD_JPY"}, "others are compared with them"
    assert prove_parity(desk_, "fx_daily", notes).report.to_json()["share"] == 1.0
    new = build_training_set(desk_, recipe).frame
    assert new.drop(LABEL).equals(old.drop(LABEL))
    changed = new.filter(pl.Series(new["label"] != old["label"]))
    assert set(changed["instrument"]) == {"USD_JPY", "SGD_JPY"}
    assert (changed["label_known"] >= clock.now()).all(), "known only since the correction"

    again = judge_version(desk_, "fx_vol", version, initiated_by="quant", progress=notes)

    def lasting(judgement: Any) -> dict[str, float | None]:
        found = {item.name: item.value for item in judgement.evidence}
        return {name: value for name, value in found.items() if CATALOGUE[name].repeatable}

    assert lasting(again) == lasting(judged)


def served(store: OnlineStore, gold: pl.DataFrame, view: FeatureView) -> tuple[int, int]:
    """At every moment at which a row of the store became known, for every instrument: how many
    values training on gold has, and how many of them are not what the store answers.
    """
    names = sorted(store.entities(view.name))
    moments = sorted({row.known_time for one in names for row in store.history(view.name, one)})
    asked = [(name, moment) for moment in moments for name in names]
    spine = Spine.of(pl.DataFrame(asked, schema=["instrument", "as_of"], orient="row"))
    table = FeatureTable("gold/g", gold, view.feature_names, "s", "m", view.entity)
    found = get_training_set(spine, [table], known_at=2**62).frame.select(view.feature_names)
    count = differing = 0
    for (name, moment), values in zip(asked, found.iter_rows(), strict=True):
        (row,) = store.read(view.name, [name], moment)
        if row is not None:
            mine = np.array([math.nan if one is None else one for one in values])
            count += len(values)
            differing += int((mine.view(np.int64) != row.values.view(np.int64)).sum())
    return count, differing


def test_training_on_gold_has_what_the_store_answers_before_and_after_a_correction(
    desk: tuple[Desk, FixedClock], archive: Callable[..., None], tmp_path: Path
) -> None:
    root = desk[0].layout.root
    notes, clock = Notes(), FixedClock(0)
    desk_ = open_desk(root, clock=clock)
    view = desk_.view("fx_daily")
    path = root / "configs/rates.zip"
    store = MemoryStore(max_versions=10_000)

    def sessions(upto: int, *, corrected: str | None = None) -> None:
        """Publish the first sessions of one history on the evening of the last, and take them."""
        archive(path, sessions=620)
        with zipfile.ZipFile(path) as file:
            head, *lines = file.read("eurofxref-hist.csv").decode().splitlines()
        days = lines[::-1][:upto]
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("eurofxref-hist.csv", "\n".join([head, *days[::-1]]))
        if corrected is not None:
            correct(path, corrected, "JPY", 1.002)
        clock.advance(parse(f"{days[-1][:10]}T18:00Z") - clock.now())
        ingest(desk_, notes)
        target = Target(view.name, tmp_path / "feed.checkpoint")
        Materializer(desk_, view, store, target).run(notes)

    sessions(580)
    source = desk_.lake.table("silver/market").read()
    times = source["event_time"].unique().sort()
    day = pl.select(pl.lit(times[-10]).cast(pl.Datetime("ns"))).item().date().isoformat()
    sessions(581)
    sessions(582, corrected=day)
    for upto in (583, 590, 600):
        sessions(upto, corrected=day)
    build = build_features(desk_, "fx_daily", notes)
    assert (build.revised, build.without_row) == (2, 0)
    gold = desk_.lake.table("gold/fx_daily").read()
    count, differing = served(store, gold, view)
    assert (count > 20_000, differing) == (True, 0)
    first = OfflineDriver(view).run(read_source(desk_, view))
    assert served(store, first, view)[1] > 0, "facts as first known are not what was served"
    last = gold.sort("known_time").unique(["instrument", "event_time"], keep="last")
    assert served(store, last, view)[1] > 0, "nor are the last versions of rows"
    assert prove_parity(desk_, "fx_daily", notes).report.to_json()["share"] == 1.0
    assert (
        prove_view(desk_, "fx_daily", notes, feed=True, since=times[-5]).judgement.verdict
        is Verdict.PASS
    )


def test_gold_of_facts_as_first_known_is_refused_until_it_is_built_again(
    desk: tuple[Desk, FixedClock],
) -> None:
    desk_, _ = desk
    notes = Notes()
    ingest(desk_, notes)
    built = build_features(desk_, "fx_daily", notes)
    table = desk_.lake.table("gold/fx_daily")
    metadata = dict(table.snapshot(built.snapshot).metadata)
    years = {file.part: table.read_part(file) for file in table.snapshot(built.snapshot).files}
    old = {name: metadata[name] for name in ("manifest", "source")}
    table.commit(years, metadata=old)
    with pytest.raises(Conflict, match="facts as they were first known") as caught:
        build_training_set(desk_, desk_.recipe("fx_vol_baseline"))
    assert caught.value.hint == "assay features build fx_daily"
    table.commit(years, metadata={**metadata, "commit": "1"})
    with pytest.raises(Conflict, match="built from commit 1, which is 0 now"):
        prove_parity(desk_, "fx_daily", notes)
    assert build_features(desk_, "fx_daily", notes).snapshot == built.snapshot


def test_a_build_that_was_killed_leaves_nothing_for_the_next_one(
    desk: tuple[Desk, FixedClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk_, _ = desk
    notes = Notes()
    ingest(desk_, notes)
    left = desk_.layout.lake / "building/fx_daily"
    with monkeypatch.context() as patch:
        patch.setattr(building.shutil, "rmtree", lambda *_, **__: None)  # never came to tidy up
        build_features(desk_, "fx_daily", notes)
    assert list(left.glob("rows/*/*.arrow"))
    before = desk_.lake.table("gold/fx_daily").current()
    assert not build_features(desk_, "fx_daily", notes).changed
    assert not left.exists()
    assert desk_.lake.table("gold/fx_daily").current() == before
