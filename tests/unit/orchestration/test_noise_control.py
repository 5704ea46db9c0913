"""Models that know nothing do not pass, are not registered, and are kept for pages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.bootstrap import open_desk
from assay.cli.app import app
from assay.domain.instants import parse
from assay.orchestration.desk import Desk
from assay.orchestration.evidence.noise import NoiseControl, keep_noise, kept_noise, noise_control
from assay.orchestration.evidence_report import write_evidence_report
from assay.orchestration.judging import judge_version
from assay.testing.clocks import FixedClock


class Silent:
    def event(self, text: str) -> None:
        pass


@pytest.fixture
def desk(copied: Path) -> Desk:
    return open_desk(copied, clock=FixedClock(parse("2024-06-02T12:00Z")))


def control(desk: Desk, models: int = 3, seed: int = 1) -> NoiseControl:
    return noise_control(desk, "fx_vol", "1.0.0", progress=Silent(), models=models, seed=seed)


def test_the_same_seed_gives_the_same_control_and_another_one_another(desk: Desk) -> None:
    assert control(desk) == control(desk)
    assert control(desk).seed != control(desk, seed=2).seed


def test_every_statistical_gate_judges_every_model_and_nothing_is_registered(desk: Desk) -> None:
    before = desk.registry.verify_log().entries
    found = control(desk)
    assert found.by_gate
    assert all(sum(verdicts.values()) == 3 for verdicts in found.by_gate.values())
    assert len(found.refused_by) == found.models == 3
    assert desk.registry.verify_log().entries == before
    assert [one.version for one in desk.registry.list("fx_vol")] == ["1.0.0"]


def test_a_kept_control_is_shown_only_for_the_same_version_and_policy(desk: Desk) -> None:
    found = control(desk)
    assert kept_noise(desk, "fx_vol", "1.0.0") is None
    path = keep_noise(desk, found)
    assert kept_noise(desk, "fx_vol", "1.0.0") == found
    keep_noise(desk, replace(found, policy_digest="0" * 64))
    assert kept_noise(desk, "fx_vol", "1.0.0") is None
    keep_noise(desk, replace(found, digest="0" * 64))
    assert kept_noise(desk, "fx_vol", "1.0.0") is None
    path.write_bytes(b"{")
    assert kept_noise(desk, "fx_vol", "1.0.0") is None


def test_the_page_of_a_version_says_what_was_not_tested_and_shows_the_control(desk: Desk) -> None:
    unjudged = write_evidence_report(desk, "fx_vol", "1.0.0").read_text()
    assert "It has not been judged" in unjudged
    assert "Nobody asked" in unjudged
    judge_version(desk, "fx_vol", "1.0.0", initiated_by="quant", progress=Silent())
    keep_noise(desk, control(desk))
    path = write_evidence_report(desk, "fx_vol", "1.0.0")
    page = path.read_text()
    assert "made-up forecasts without skill" in page
    assert "What was not tested, and why" in page
    assert "no gate of this policy asks for" in page
    assert "assay evidence recompute fx_vol 1.0.0" in page
    assert write_evidence_report(desk, "fx_vol", "1.0.0").read_text() == page
    assert path == desk.layout.root / "reports/models/fx_vol/evidence-1.0.0.html"


def test_the_command_exits_1_only_where_noise_passes(desk: Desk) -> None:
    asked = ["gates", "noise", "fx_vol", "1.0.0", "--models", "2", "--desk", str(desk.layout.root)]
    strict = CliRunner().invoke(app, asked)
    assert "of 2 models that know nothing pass" in strict.output
    passed = kept_noise(desk, "fx_vol", "1.0.0")
    assert passed is not None
    assert strict.exit_code == (1 if passed.passed else 0)
