"""The desk's nights: what was checked while nobody looked, one line per run, never rewritten.

:mod:`assay.orchestration.nightly` runs the checks; :func:`nightly_evidence` counts how many nights
in a row were green, back from the last one.

A night is a UTC date. Any red run makes its night red, whatever a later run of the night says:
something was broken, and whoever repaired it waits for the next one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from assay.domain.canonical import canonical_bytes
from assay.domain.evidence import Evidence
from assay.domain.instants import Instant, parse, render
from assay.errors import AssayError, Tampered
from assay.orchestration.desk import Desk
from assay.storage.files import append_line, drop_torn_tail
from assay.storage.locks import FileLock
from assay.validation.records import undefined

FILE: Final = Path("observability/nightly/runs.jsonl")
_STALE = timedelta(days=2)
_CONVENTION: Final = (
    "nights in a row without a failure, back from the last recorded one; a night is a UTC date, "
    "one red run makes it red, a date without a run ends the row"
)


@dataclass(frozen=True, slots=True)
class NightlyRun:
    """One run. ``failures`` holds by check what was wrong; it is green when there is none."""

    at: Instant
    checks: tuple[str, ...]
    failures: Mapping[str, str]
    initiated_by: str

    @property
    def green(self) -> bool:
        return not self.failures

    @property
    def night(self) -> date:
        """The UTC date that it counts for."""
        return date.fromisoformat(render(self.at)[:10])

    def to_json(self) -> dict[str, Any]:
        return {
            "at": render(self.at),
            "checks": list(self.checks),
            "failures": dict(self.failures),
            "initiated_by": self.initiated_by,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> NightlyRun:
        return cls(
            parse(document["at"]),
            tuple(document["checks"]),
            dict(document["failures"]),
            document["initiated_by"],
        )


def nightly_runs(desk: Desk) -> tuple[NightlyRun, ...]:
    """Every recorded run in the order of recording.

    Raises
    ------
    Tampered: a line is no record of a run.
    """
    path = desk.layout.root / FILE
    lines = path.read_bytes().splitlines() if path.exists() else []
    try:
        return tuple(NightlyRun.from_json(json.loads(line)) for line in lines)
    except (ValueError, KeyError, TypeError, AttributeError, AssayError) as error:
        raise Tampered(
            f"{path} holds a line that is no nightly run: {error!r}",
            hint=f"move {path} away: the row of green nights starts again",
        ) from None


def nightly_evidence(desk: Desk) -> Evidence:
    """``nightly_greens``, as the record stands."""
    try:
        runs = nightly_runs(desk)
    except Tampered as error:
        return undefined("nightly_greens", _CONVENTION, error.message)
    return count_greens(runs, desk.clock.now())


def count_greens(runs: Sequence[NightlyRun], now: Instant) -> Evidence:
    """``nightly_greens`` of these runs, asked at ``now``."""
    past = [run for run in runs if run.at <= now]
    if not past:
        return undefined(
            "nightly_greens", _CONVENTION, "no nightly run is recorded: assay nightly run"
        )
    greens = _by_night(past)
    last = max(greens)
    if date.fromisoformat(render(now)[:10]) - last > _STALE:
        return undefined(
            "nightly_greens",
            _CONVENTION,
            f"the last nightly run was on {last}: assay nightly run",
            sample_size=len(greens),
        )
    night, count = last, 0
    while greens.get(night, False):
        count += 1
        night -= timedelta(days=1)
    red = max((run for run in past if not run.green), key=lambda run: run.at, default=None)
    details: dict[str, Any] = {"last_night": str(last), "recorded_nights": len(greens)}
    if red is not None:
        details |= {"last_red": str(red.night), "why": dict(red.failures)}
    return Evidence("nightly_greens", float(count), len(greens), _CONVENTION, details=details)


def _by_night(runs: Iterable[NightlyRun]) -> dict[date, bool]:
    greens: dict[date, bool] = {}
    for run in runs:
        greens[run.night] = run.green and greens.get(run.night, True)
    return greens


def append_run(desk: Desk, run: NightlyRun) -> None:
    """Write one run behind the others."""
    path = desk.layout.root / FILE
    with FileLock(path.with_name(path.name + ".lock")):
        drop_torn_tail(path)
        append_line(path, canonical_bytes(run.to_json()))
