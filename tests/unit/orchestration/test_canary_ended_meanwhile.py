"""A canary that ends while somebody looks at it: nothing more is ended, its last card stays."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from assay import bootstrap
from assay.cli.app import app
from assay.delivery import deployments
from assay.delivery.canary import CanaryPolicy
from assay.delivery.controller import RetrainConfig
from assay.delivery.deployments import end_canary, start_canary
from assay.delivery.promotion import break_glass
from assay.domain.verdicts import Verdict
from assay.errors import AssayError
from assay.orchestration import challengers, controlling
from assay.orchestration.challengers import (
    ChallengerFiles,
    look_at_canary,
    watch_canary,
    write_card,
)
from assay.orchestration.controlling import take_step
from assay.orchestration.desk import Desk
from assay.registry.deployments import CanaryDeployment, deployments_of
from assay.registry.keyring import PURPOSES
from assay.serving.challengers.pair_log import Kept, PairLog
from assay.serving.challengers.pairs import Turn, encode_turns
from assay.testing.versions import make_candidate

POLICY = CanaryPolicy()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """1.0.0 is live, 1.1.0 and 1.2.0 are staged; not to change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        folder = tmp_path_factory.mktemp("made") / "desk"
        members = [bootstrap.Member(one, tuple(PURPOSES)) for one in ("author", "ops")]
        bootstrap.create_desk(folder, name="desk", members=members)
        desk = bootstrap.open_desk(folder)
        for index in range(3):
            version = f"1.{index}.0"
            desk.registry.register(make_candidate("fx_vol", version, bias=float(index)))
        break_glass(
            desk.registry, "fx_vol", "1.0.0", initiated_by="ops", reason="test", clock=desk.clock,
            monotonic=time.monotonic,
        )  # fmt: skip
        yield folder


@dataclass(frozen=True, slots=True)
class Place:
    """A desk, and another person's opening of the same one."""

    desk: Desk
    other: Desk
    files: ChallengerFiles

    def start(self, desk: Desk, version: str = "1.1.0", *, harmful: bool = False) -> int:
        """A canary begins and answers; its revision."""
        entry = start_canary(
            desk.registry, "fx_vol", version, share=0.25, initiated_by="ops", reason="test",
            monotonic=time.monotonic,
        )  # fmt: skip
        digests = [desk.registry.get("fx_vol", one).digest for one in ("1.0.0", version)]
        generator = np.random.default_rng(1)
        at = desk.clock.now()
        for number in range(30):
            old = generator.standard_normal(20).tolist()
            new = generator.standard_normal(20).tolist() if harmful else old
            turn = Turn(
                at, "fx_vol", "1.0.0", digests[0], version, digests[1], entry.seq, None, number,
                old, new, at, 1_000, 1_000, [f"E{n}" for n in range(20)],
            )  # fmt: skip
            PairLog(self.files.pairs, Kept()).append(encode_turns([turn]), at)
        return entry.seq

    def stop(self) -> None:
        """What ``assay canary stop`` does, by the other person."""
        canary = self.running()
        end_canary(self.other.registry, "fx_vol", initiated_by="ops", reason="seen enough")
        look = look_at_canary(self.other, self.files, "fx_vol", POLICY, canary)
        write_card(self.other, look, ended=True)

    def running(self) -> CanaryDeployment | None:
        return deployments_of(self.other.registry, "fx_vol").canary

    def card(self, revision: int, version: str = "1.1.0") -> dict[str, Any]:
        folder = self.desk.layout.root / "reports/models/fx_vol/scorecards"
        found = json.loads((folder / f"canary-{version}-{revision:06d}.json").read_bytes())
        assert isinstance(found, dict)
        return found


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Place:
    folder = tmp_path / "desk"
    shutil.copytree(made, folder, symlinks=True)
    opened = [bootstrap.open_desk(folder) for _ in range(2)]
    return Place(opened[0], opened[1], bootstrap.challenger_files(folder))


def during_the_look(patch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """What happens between judging a canary and acting on it, once."""
    real, left = challengers.compare, [act]

    def compare(*given: Any, **named: Any) -> Any:
        found = real(*given, **named)
        if left:
            left.pop()()
        return found

    patch.setattr(challengers, "compare", compare)


@pytest.mark.parametrize("harmful", [False, True])
def test_a_look_that_a_stop_overtakes_leaves_the_scorecard_of_the_end(
    place: Place, monkeypatch: pytest.MonkeyPatch, harmful: bool
) -> None:
    revision = place.start(place.desk, harmful=harmful)
    during_the_look(monkeypatch, place.stop)
    look = watch_canary(place.desk, place.files, "fx_vol", POLICY, initiated_by="ops")
    assert (look.finding.verdict is Verdict.FAIL) is harmful
    assert (look.ended, look.scorecard) == (False, None)
    assert place.card(revision)["ended"] is True
    page = place.desk.layout.root / "reports/models/fx_vol/canary_scorecard.html"
    assert "It was ended" in page.read_text()


@pytest.mark.parametrize("version", ["1.1.0", "1.2.0"])
def test_harm_of_one_canary_does_not_end_the_next_one(
    place: Place, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    first = place.start(place.desk, harmful=True)
    began = []

    def another() -> None:
        place.stop()
        began.append(place.start(place.other, version))

    during_the_look(monkeypatch, another)
    look = watch_canary(place.desk, place.files, "fx_vol", POLICY, initiated_by="ops")
    assert (look.finding.verdict, look.ended) == (Verdict.FAIL, False)
    running = place.running()
    assert running is not None
    assert [running.revision] == began
    assert place.card(first)["ended"] is True
    # The next look is about the one that runs, and is kept.
    again = watch_canary(place.desk, place.files, "fx_vol", POLICY, initiated_by="ops")
    assert (again.canary.revision, again.ended) == (running.revision, False)
    assert place.card(running.revision, version)["ended"] is False


def test_a_harmful_canary_ends_and_its_scorecard_says_so(place: Place) -> None:
    revision = place.start(place.desk, harmful=True)
    look = watch_canary(place.desk, place.files, "fx_vol", POLICY, initiated_by="ops")
    assert look.ended
    assert place.running() is None
    assert place.card(revision)["ended"] is True
    # Whoever looked before that and is late changes nothing.
    late = write_card(place.other, look_at_canary(place.other, place.files, "fx_vol", POLICY,
                                                  look.canary))  # fmt: skip
    assert late.scorecard is None
    assert place.card(revision)["ended"] is True


def test_a_decision_about_one_canary_does_not_end_the_next_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.start(place.desk, harmful=True)

    def watch(*given: Any, **named: Any) -> Any:
        place.stop()
        place.start(place.other, "1.2.0")
        return watch_canary(*given, **named)

    monkeypatch.setattr(controlling, "watch_canary", watch)
    decided = take_step(
        place.desk, place.files, "fx_vol", RetrainConfig(), POLICY, initiated_by="ops"
    )
    assert decided.step is not None
    assert decided.problem is not None
    assert "another began" in decided.problem
    running = place.running()
    assert running is not None
    assert place.card(running.revision, "1.2.0")["ended"] is False


def stopped(place: Place) -> Any:
    return CliRunner().invoke(
        app, ["canary", "stop", "fx_vol", "--reason", "test", "--as", "ops", "--desk",
              str(place.desk.layout.root)],
    )  # fmt: skip


def test_a_stop_writes_the_scorecard_of_the_canary_that_it_ended_and_of_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = place.start(place.desk)
    real = end_canary
    second = []

    def end(*given: Any, **named: Any) -> Any:
        real(place.other.registry, "fx_vol", initiated_by="ops", reason="somebody else")
        second.append(place.start(place.other))
        return real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(deployments, "end_canary", end)
        said = stopped(place)
    assert said.exit_code == 0, said.output
    assert "no scorecard: " in said.output
    assert place.running() is None
    for revision in (first, *second):
        with pytest.raises(FileNotFoundError):
            place.card(revision)
    third = place.start(place.desk)
    assert stopped(place).exit_code == 0
    assert place.card(third)["ended"] is True
    with pytest.raises(AssayError):
        look_at_canary(place.desk, place.files, "fx_vol", POLICY)
