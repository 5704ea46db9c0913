"""Green nights in a row: what counts, what ends the row, and what is no answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.bootstrap import open_desk
from assay.domain.instants import parse
from assay.errors import Tampered
from assay.orchestration.nightly import run_nightly
from assay.orchestration.nights import (
    FILE,
    NightlyRun,
    count_greens,
    nightly_evidence,
    nightly_runs,
)
from assay.testing.clocks import FixedClock

NOW = parse("2026-03-10T06:00Z")


class Silent:
    def event(self, text: str) -> None:
        pass


def night(day: int, *, hour: int = 2, wrong: str | None = None) -> NightlyRun:
    failures = {} if wrong is None else {"registry": wrong}
    return NightlyRun(parse(f"2026-03-{day:02d}T{hour:02d}:00Z"), ("registry",), failures, "ops")


@pytest.mark.parametrize(
    ("runs", "greens"),
    [
        ([night(day) for day in range(3, 11)], 8),
        ([night(day) for day in (3, 4, 6, 7, 8, 9, 10)], 5),
        ([*(night(day) for day in range(3, 11)), night(8, hour=5, wrong="x")], 2),
        ([night(8, wrong="x"), night(8, hour=5), night(9), night(10)], 2),
        ([night(9), night(10, wrong="x")], 0),
        ([night(8), night(8, hour=3), night(9)], 2),
    ],
)
def test_a_row_of_green_nights_ends_at_a_red_one_and_at_one_left_out(
    runs: list[NightlyRun], greens: int
) -> None:
    assert count_greens(runs, NOW).value == greens
    assert count_greens(runs[::-1], NOW).value == greens


def test_no_run_and_an_old_one_are_no_answer() -> None:
    assert count_greens([], NOW).value is None
    old = count_greens([night(day) for day in range(1, 8)], NOW)
    assert old.value is None
    assert "the last nightly run was on 2026-03-07" in old.details["undefined"]
    assert count_greens([night(day) for day in range(1, 9)], NOW).value == 8


def test_a_run_of_the_future_does_not_count() -> None:
    assert count_greens([night(10), night(11)], NOW).value == 1


def test_the_last_red_night_is_named_with_its_reason() -> None:
    found = count_greens([night(8, wrong="a file was changed"), night(9), night(10)], NOW)
    assert found.details["last_red"] == "2026-03-08"
    assert found.details["why"] == {"registry": "a file was changed"}


def test_a_nightly_run_checks_the_desk_and_is_recorded(copied: Path) -> None:
    desk = open_desk(copied, clock=FixedClock(NOW))
    assert nightly_evidence(desk).value is None
    assert run_nightly(desk, Silent(), initiated_by="quant").green
    victim = next((desk.layout.registry / "artifacts").rglob("CHANGES.md"))
    victim.chmod(0o600)
    victim.parent.chmod(0o700)
    victim.write_text("changed")
    red = run_nightly(desk, Silent(), initiated_by="quant")
    assert not red.green
    assert "CHANGES.md" in red.failures["registry"]
    assert nightly_runs(desk) == nightly_runs(desk)
    assert [one.green for one in nightly_runs(desk)] == [True, False]
    assert nightly_evidence(desk).value == 0
    with (copied / FILE).open("ab") as file:
        file.write(b'{"at": "2026-03-11T02:00:00Z"}\n')
    assert nightly_evidence(desk).value is None
    with pytest.raises(Tampered, match="no nightly run"):
        nightly_runs(desk)
