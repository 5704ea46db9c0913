"""What a desk checks every night: that everything in the registry verifies, and that the latest
training sets can be made again. :mod:`assay.orchestration.nights` keeps the record.
"""

from __future__ import annotations

from assay.domain.verdicts import Verdict
from assay.errors import AssayError
from assay.orchestration.desk import Desk
from assay.orchestration.nights import NightlyRun, append_run
from assay.orchestration.parity.verification import verify_desk
from assay.orchestration.progress import Progress
from assay.orchestration.registry_summary import summarize_registry


def run_nightly(desk: Desk, progress: Progress, *, initiated_by: str) -> NightlyRun:
    """Check the registry and the latest training sets, and append what was found.

    A check that breaks is a red check: a nightly run ends with a record, whatever happens.
    """
    failures: dict[str, str] = {}
    checks = {"registry": _registry, "training_sets": _training_sets}
    for name, check in checks.items():
        progress.event(f"nightly: {name}")
        try:
            wrong = check(desk, progress)
        except AssayError as error:
            wrong = error.message
        if wrong is not None:
            failures[name] = wrong
    run = NightlyRun(desk.clock.now(), tuple(checks), failures, initiated_by)
    append_run(desk, run)
    return run


def _registry(desk: Desk, progress: Progress) -> str | None:
    summary = summarize_registry(desk, progress)
    if summary.ok:
        return None
    wrong = [str(problem) for problem in summary.log.problems]
    wrong += [
        f"{one.record.name} {one.record.version}: {problem}"
        for one in summary.versions
        for problem in one.problems
    ]
    return "; ".join(wrong)


def _training_sets(desk: Desk, progress: Progress) -> str | None:
    found = verify_desk(desk, progress)
    if found.verdict is not Verdict.FAIL:
        return None
    return "; ".join(
        f"{one.recipe}: {finding}"
        for one in found.recipes
        if one.verdict is Verdict.FAIL
        for finding in one.findings
    )
