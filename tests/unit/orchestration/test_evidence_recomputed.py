"""Evidence says what it came from, and comes out again bit by bit; or why it cannot."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from assay.bootstrap import open_desk
from assay.cli.app import app
from assay.delivery.promotion import break_glass
from assay.domain.evidence import Evidence
from assay.domain.instants import parse
from assay.errors import Tampered
from assay.orchestration.desk import Desk
from assay.orchestration.evidence import recompute_evidence
from assay.orchestration.evidence.recomputing import Answer, Recomputed
from assay.orchestration.evidence.trials import trials_of
from assay.orchestration.judging import judge_version
from assay.orchestration.modelling import load_run, register_run, train_recipe
from assay.testing.clocks import FixedClock
from assay.validation.catalogue import CATALOGUE

ROOT = Path(__file__).parents[3]
NOW = parse("2024-06-02T12:00Z")


class Silent:
    def event(self, text: str) -> None:
        pass


@pytest.fixture
def desk(copied: Path) -> Desk:
    return open_desk(copied, clock=FixedClock(NOW))


def judged(desk: Desk, version: str = "1.0.0") -> dict[str, Evidence]:
    judge_version(desk, "fx_vol", version, initiated_by="quant", progress=Silent())
    return {piece.name: piece for piece in desk.registry.evidence("fx_vol", version)}


def again(desk: Desk, version: str = "1.0.0") -> dict[str, Recomputed]:
    found = recompute_evidence(desk, "fx_vol", version, Silent())
    return {one.name: one for one in found.records}


def record(desk: Desk, piece: Evidence) -> None:
    desk.registry.record_evidence("fx_vol", "1.0.0", [piece], initiated_by="quant")


def test_every_record_says_what_it_was_taken_from(desk: Desk) -> None:
    pieces = judged(desk)
    metadata = desk.registry.metadata("fx_vol", "1.0.0")
    for name, piece in pieces.items():
        origin = piece.provenance
        assert origin is not None
        assert origin.measured_at == NOW
        assert origin.convention_id == CATALOGUE[name].convention_id
        assert origin.model_digest == desk.registry.get("fx_vol", "1.0.0").digest
        assert origin.snapshots == metadata.snapshot_ids
        assert (origin.run, origin.manifest) == (metadata.parent_run, metadata.manifest_hash)
        assert {"assay.source", "numpy", "polars", "scipy"} <= set(origin.code)
        assert (origin.champion, origin.replayed) == (None, False)


def test_the_same_numbers_come_out_again(desk: Desk) -> None:
    pieces = judged(desk)
    found = again(desk)
    assert set(found) == set(pieces)
    for name, one in found.items():
        wanted = Answer.SAME if CATALOGUE[name].repeatable else Answer.CANNOT
        assert one.answer is wanted, one
        assert one.changes == ()


def test_a_number_that_was_changed_by_its_last_bit_is_named_with_both_values(desk: Desk) -> None:
    slope = judged(desk)["calibration_slope"]
    assert slope.value is not None
    changed = float(np.nextafter(slope.value, 2.0))
    details = {**slope.details, "in_words": "better"}
    record(desk, replace(slope, value=changed, details=details))
    found = again(desk)["calibration_slope"]
    assert found.answer is Answer.DIFFERS
    assert (found.recorded, found.recomputed) == (changed, slope.value)
    assert {change.path for change in found.changes} == {"value", "details.in_words"}


def test_other_code_with_other_numbers_cannot_tell_and_with_the_same_says_so(desk: Desk) -> None:
    slope = judged(desk)["calibration_slope"]
    assert slope.provenance is not None
    older = replace(slope.provenance, code={**slope.provenance.code, "numpy": "1.0"})
    record(desk, replace(slope, provenance=older))
    same = again(desk)["calibration_slope"]
    assert same.answer is Answer.SAME
    assert "numpy 1.0 then" in same.reason
    record(desk, replace(slope, value=1.5, provenance=older))
    unknown = again(desk)["calibration_slope"]
    assert unknown.answer is Answer.CANNOT
    assert "other code" in unknown.reason
    assert unknown.recomputed == slope.value


@pytest.mark.parametrize("change", [{"seeds": (1,)}, {"inputs_digest": "x"}])
def test_a_record_of_something_else_cannot_be_measured_again(desk: Desk, change: object) -> None:
    slope = judged(desk)["calibration_slope"]
    assert slope.provenance is not None
    record(desk, replace(slope, provenance=replace(slope.provenance, **change)))  # type: ignore[arg-type]
    found = again(desk)["calibration_slope"]
    assert found.answer is Answer.CANNOT
    assert "differs: recorded" in found.reason


def test_a_snapshot_that_is_gone_and_a_record_of_before_cannot_be_measured_again(
    desk: Desk,
) -> None:
    slope = judged(desk)["calibration_slope"]
    record(desk, replace(slope, provenance=None))
    found = again(desk)["calibration_slope"]
    assert found.answer is Answer.CANNOT
    assert "without saying what it was taken from" in found.reason
    shutil.rmtree(desk.layout.lake / "silver")
    assert {one.answer for one in again(desk).values()} == {Answer.CANNOT}


def test_judging_again_records_nothing_and_a_measurement_from_outside_is_kept(desk: Desk) -> None:
    judged(desk)
    entries = len(desk.registry.history("fx_vol"))
    later = open_desk(desk.layout.root, clock=FixedClock(NOW + 10**12))
    judged(later)
    assert len(later.registry.history("fx_vol")) == entries


def test_a_comparison_is_measured_again_with_the_champion_that_the_record_names(
    desk: Desk,
) -> None:
    judged(desk)
    glass = {"initiated_by": "quant", "reason": "a test", "clock": desk.clock}
    break_glass(desk.registry, "fx_vol", "1.0.0", monotonic=lambda: 0.0, **glass)
    made = register_run(desk, train_recipe(desk, "fx_vol", Silent()), author="quant")
    pieces = judged(desk, made.version)
    origin = pieces["qlike_vs_champion"].provenance
    assert origin is not None
    assert origin.champion == "1.0.0"
    assert pieces["calibration_slope"].provenance.champion is None  # type: ignore[union-attr]
    break_glass(desk.registry, "fx_vol", made.version, monotonic=lambda: 0.0, **glass)
    found = again(desk, made.version)["qlike_vs_champion"]
    assert (found.answer, found.recorded) == (Answer.SAME, pieces["qlike_vs_champion"].value)
    trials = trials_of(desk, "fx_vol")
    assert trials.raw == 2
    assert [list(one.versions) for one in trials.trials if one.versions] in (
        [["1.0.0"], [made.version]],
        [[made.version], ["1.0.0"]],
    )
    assert trials.matrix().values.shape == (0, 0)
    shutil.rmtree(desk.layout.runs / str(origin.run))
    assert trials_of(desk, "fx_vol").raw == 2
    gone = again(desk, made.version)["calibration_slope"]
    assert (gone.answer, "no training run" in gone.reason) == (Answer.CANNOT, True)


def test_a_run_that_nobody_registered_is_a_trial_with_the_returns_that_evidence_is_measured_on(
    desk: Desk,
) -> None:
    shutil.copy(ROOT / "examples/fx/models/fx_direction.py", desk.layout.recipes)
    fresh = open_desk(desk.layout.root, clock=FixedClock(NOW))
    train_recipe(fresh, "fx_direction", Silent())
    alone = trials_of(fresh, "fx_direction")
    assert (alone.raw, alone.trials[0].versions) == (1, {})
    made = register_run(fresh, train_recipe(fresh, "fx_direction", Silent()), author="quant")
    train_recipe(fresh, "fx_direction", Silent(), known_by=parse("2021-02-01T00:00Z"))
    found = trials_of(fresh, "fx_direction")
    assert found.raw == 2
    matrix = found.matrix()
    assert matrix.values.shape == (len(matrix.dates), 2)
    assert np.isfinite(matrix.values).all()
    assert (np.diff(matrix.dates) > 0).all()
    judge_version(fresh, made.name, made.version, initiated_by="quant", progress=Silent())
    pieces = {one.name: one for one in fresh.registry.evidence(made.name, made.version)}
    (trial,) = (one for one in found.trials if made.version in one.versions)
    assert trial.returns is not None
    sharpe = trial.returns.mean() / trial.returns.std(ddof=1) * np.sqrt(252)
    assert pieces["sharpe_after_costs"].value == pytest.approx(sharpe)
    assert trial.hyperparameters["estimator"]["boosting"]["depth"] == 3
    assert pieces["sharpe_vs_champion"].value is None
    assert pieces["max_drawdown"].value is not None
    assert pieces["spa"].value is not None
    register_run(
        fresh,
        train_recipe(fresh, "fx_direction", Silent(), known_by=parse("2021-02-01T00:00Z")),
        author="quant",
    )
    (other,) = (one for one in found.trials if one.id != trial.id)
    document = fresh.layout.runs / other.id / "run.json"
    document.write_text(document.read_text().replace('"format":1', '"format":1,"x":1', 1))
    (bent,) = (one for one in trials_of(fresh, "fx_direction").trials if one.changed)
    assert bent.id == other.id
    judge_version(fresh, made.name, made.version, initiated_by="quant", progress=Silent())
    pieces = {one.name: one for one in fresh.registry.evidence(made.name, made.version)}
    for name in ("deflated_sharpe", "pbo", "spa"):
        assert pieces[name].value is None
        assert f"trial {bent.id} cannot be told" in pieces[name].details["undefined"]


@pytest.mark.parametrize("left", ["{", "[]", "{}", '{"id":"b1","model":"fx_vol"}'])
def test_a_run_whose_record_is_broken_stops_no_line(desk: Desk, left: str) -> None:
    before = trials_of(desk, "fx_vol")
    broken = desk.layout.runs / "b1"
    broken.mkdir()
    (broken / "run.json").write_text(left)
    assert [one.id for one in trials_of(desk, "fx_vol").trials] == [one.id for one in before.trials]
    with pytest.raises(Tampered, match="is not the record of run b1"):
        load_run(desk, "b1")


def test_a_champion_without_returns_leaves_the_test_of_all_trials_undecided(desk: Desk) -> None:
    shutil.copy(ROOT / "examples/fx/models/fx_direction.py", desk.layout.recipes)
    fresh = open_desk(desk.layout.root, clock=FixedClock(NOW))
    glass = {"initiated_by": "quant", "reason": "a test", "clock": fresh.clock}
    early = train_recipe(fresh, "fx_direction", Silent(), known_by=parse("2021-02-01T00:00Z"))
    first = register_run(fresh, early, author="quant")
    break_glass(fresh.registry, first.name, first.version, monotonic=lambda: 0.0, **glass)
    made = register_run(fresh, train_recipe(fresh, "fx_direction", Silent()), author="quant")
    shutil.rmtree(early.folder)
    judge_version(fresh, made.name, made.version, initiated_by="quant", progress=Silent())
    pieces = {one.name: one for one in fresh.registry.evidence(made.name, made.version)}
    assert pieces["spa"].value is None
    assert f"the champion {first.version} has no returns" in pieces["spa"].details["undefined"]
    assert pieces["deflated_sharpe"].details["trials"] == 2


def test_the_command_exits_0_1_or_3_as_everything_differs_or_cannot_be_told(desk: Desk) -> None:
    slope = judged(desk)["calibration_slope"]
    arguments = ["evidence", "recompute", "fx_vol", "1.0.0", "--desk", str(desk.layout.root)]
    runner = CliRunner()
    same = runner.invoke(app, arguments)
    assert same.exit_code == 0, same.output
    assert "0 differs" in same.output
    shown = runner.invoke(app, ["evidence", "show", "fx_vol", "1.0.0", *arguments[-2:]])
    assert "calibration_slope" in shown.output
    record(desk, replace(slope, value=1.25))
    differs = runner.invoke(app, arguments)
    assert differs.exit_code == 1
    assert f"calibration_slope value: recorded 1.25, now {slope.value!r}" in differs.output
    record(desk, replace(slope, provenance=None))
    unknown = runner.invoke(app, arguments)
    assert unknown.exit_code == 3
