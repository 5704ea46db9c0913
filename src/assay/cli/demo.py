"""The demo's terminal: progress while it runs, then what happened, in one screen."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from assay.cli.gates import show_gates
from assay.cli.output import Output
from assay.domain.instants import render
from assay.domain.verdicts import Outcome, Severity, Verdict

if TYPE_CHECKING:
    from assay.bootstrap import Member
    from assay.orchestration.journey import Journey, VersionStory
    from assay.orchestration.live import LiveReplay

AUTHOR, OPERATOR = "quant.demo", "ops.demo"
APPROVERS = ("risk.demo", "head.demo")
RECIPES = ("fx_vol_baseline", "fx_vol", "fx_direction")
VIEW = "fx_daily"


def run_demo(folder: Path, output: Output) -> None:
    """Make the demo's desk when there is none, run the journey on it and show what happened."""
    started = time.monotonic()
    from assay import bootstrap
    from assay.orchestration.evidence_report import write_evidence_report
    from assay.orchestration.journey import travel
    from assay.orchestration.people import People
    from assay.orchestration.report import write_report
    from assay.settings import FILE

    if not (folder / FILE).exists():
        bootstrap.create_desk(folder, name="fx-demo", members=_members(), demonstration=True)
        output.line(
            f"created desk {folder}; four demo identities hold keys: {AUTHOR} (author), "
            f"{' and '.join(APPROVERS)} (approvers), {OPERATOR} (operator)"
        )
    desk = bootstrap.open_desk(folder)
    people = People(author=AUTHOR, approvers=APPROVERS, operator=OPERATOR)
    journey = travel(desk, people, output, recipes=RECIPES, view=VIEW, environment=os.environ)
    page = write_report(desk, folder / "reports" / "demo.html")
    pages = [
        write_evidence_report(desk, story.registration.name, story.registration.version)
        for story in journey.versions
    ]
    seconds = time.monotonic() - started
    _show(journey, folder, seconds, output)
    output.line(f"report: {page}     (one page about this desk; opens in any browser)")
    output.line(f"evidence: {', '.join(str(one.relative_to(desk.layout.root)) for one in pages)}")
    output.result(
        {"desk": str(folder), **journey.to_json(), "report": str(page), "total_seconds": seconds}
    )


def _members() -> list[Member]:
    from assay import bootstrap
    from assay.registry.keyring import APPROVAL, LOG_HEAD, PROMOTION, VERSION

    return [
        bootstrap.Member(AUTHOR, (VERSION,), ("quant",)),
        *(bootstrap.Member(person, (APPROVAL,), ("mlops",)) for person in APPROVERS),
        bootstrap.Member(OPERATOR, (PROMOTION, LOG_HEAD), ("mlops", "sre", "admin")),
    ]


def _show(journey: Journey, folder: Path, seconds: float, output: Output) -> None:
    output.line()
    _show_data(journey, output)
    for story in journey.versions:
        _show_version(story, output)
    _show_live(journey.replay, output)
    _show_record(journey, output)
    output.line()
    if journey.nothing_new:
        output.line(
            f"Nothing new in {seconds:.0f} s: no fact and no version was added, because these "
            "facts and models were here already."
        )
    else:
        output.line(
            f"Done in {seconds:.0f} s: {journey.ingestion.added:,} facts and "
            f"{journey.new_versions} versions added."
        )
    name = journey.versions[0].registration.name
    output.line("seconds: " + ", ".join(f"{k} {v:.1f}" for k, v in journey.seconds.items()))
    output.next_step(
        f"assay models history {name} --desk {folder}",
        f"assay gates show {name} {journey.versions[1].registration.version} --desk {folder}",
        f"assay models live {name} --desk {folder}",
        f"assay demo --desk {folder}     (again: nothing is added)",
    )


def _show_data(journey: Journey, output: Output) -> None:
    silver, build, parity = journey.ingestion.silver, journey.build, journey.parity.report
    added = ", ".join(
        f"{report.added:,} new of {report.read:,} from {name}"
        for name, report in journey.ingestion.pulls.items()
    )
    broken = ", ".join(f"{n:,} {reason}" for reason, n in silver.quarantined.items()) or "none"
    share = "-" if parity.share is None else repr(parity.share)
    output.table(
        ("what", "result"),
        [
            ("facts", f"{added}; quarantined: {broken}; {silver.extreme} extremes kept"),
            (
                "universe",
                (
                    f"{len(silver.members)} of {silver.instruments} instruments by the rule, "
                    f"{silver.sessions:,} sessions"
                ),
            ),
            (
                "features",
                (
                    f"{build.values:,} values: {build.features} features x {build.rows:,} rows, "
                    f"manifest {build.manifest[:12]}, snapshot {build.snapshot[:12]}"
                ),
            ),
            (
                "parity",
                (
                    f"{parity.values_compared:,} values again, event by event: share of equal bits "
                    f"{share}, largest ULP {parity.largest_ulp}, missing {parity.missing}, "
                    f"extra {parity.extra}"
                ),
            ),
        ],
    )


def _show_version(story: VersionStory, output: Output) -> None:
    record = story.run.record
    same = record["rebuilt_digest"] == record["training_set"]["digest"]
    output.line()
    output.line(
        f"{story.name} ({story.recipe}): {story.outcome}, now {story.stage}. Training set of "
        f"{record['training_set']['rows']:,} rows known by {render(story.run.known_at)[:10]}, "
        f"rebuilt from its snapshots: {'the same bits' if same else 'NOT THE SAME'}."
    )
    show_gates(output, story.gates)
    for gate in story.gates:
        if gate.verdict is not Verdict.PASS:
            does = "blocks" if gate.severity is Severity.HARD else "warns"
            output.line(f"  {does}: {gate.name} {gate.verdict}: {gate.reason}")
    if story.switched_off:
        output.line(f"  switched off by this desk's policy: {', '.join(story.switched_off)}")


def _show_live(replay: LiveReplay, output: Output) -> None:
    found = replay.document
    features, predictions, requests = found["features"], found["predictions"], found["requests"]
    made = found["made_by_demo"]
    output.line()
    output.line(
        f"Live replay, {found['live_from'][:10]} to {found['live_to'][:10]}"
        f"{', as an earlier run recorded it' if replay.recorded else ''}: "
        f"{found['facts']['live']:,} facts in {found['sessions']} deliveries; made by the demo: "
        f"a revision of {made['revision']}, a late {made['late']}. "
        f"{'Held back' if found['held_back'] else 'NOT held back'} from training and gates: "
        f"{found['model']} knows facts up to {(found['trained_by'] or 'no known moment')[:10]}."
    )
    served = (
        f"{features['bitwise_equal']:,} of {features['values_compared']:,} values equal bit for "
        f"bit, missing {features['missing']}, extra {features['extra']}"
    )
    predicted = f"{predictions['equal']:,} of {predictions['compared']:,} equal to the offline ones"
    asked = (
        f"{requests['requests']:,}, errors {requests['error_count']}, "
        f"p50 {requests['p50_ms']:.2f} ms, p99 {requests['p99_ms']:.2f} ms"
    )
    rows = [("features served", served), ("predictions served", predicted), ("requests", asked)]
    gone = found["withdrawal"]
    if gone is not None:
        broken = (
            f"{gone['name']} {gone['version']}, columns {' and '.join(gone['swapped'])} swapped: "
            f"gates {gone['gates']} ({', '.join(gone['refused_by'])}), forced live by breaking "
            f"the glass, first answer {gone['seconds_from_promotion_to_first_answer']:.2f} s later"
        )
        guard = (
            f"{gone['finding']['reasons'][0]}; rolled back to {gone['rolled_back_to']}, last bad "
            f"answer {gone['seconds_from_first_to_last_bad_answer']:.2f} s after the first"
        )
        rows += [("broken version", broken), ("guard", guard)]
    output.table(("live", "result"), rows)


def _show_record(journey: Journey, output: Output) -> None:
    output.line()
    for answer in journey.live:
        version = answer.version.version if answer.version else None
        since = "" if answer.since is None else f" since {render(answer.since)}"
        output.line(f"live: {answer.name} {version or 'nothing'}{since}")
    for story in journey.versions:
        if story.outcome is not Outcome.PROMOTABLE:
            stopped = [
                gate.name
                for gate in story.gates
                if gate.severity is Severity.HARD and gate.verdict is not Verdict.PASS
            ]
            output.line(f"not promoted: {story.name}, {story.outcome}: {', '.join(stopped)}")
    for item in journey.withdrawals:
        took = "" if item.seconds is None else f" in {item.seconds:.2f} s"
        output.line(
            f"rollback: {item.name} {item.from_version} -> {item.to_version}{took}, "
            f"log entry {item.seq}: {item.reason}"
        )
    problems = "; ".join(journey.problems) or "nothing is wrong"
    output.line(f"verified: every version and the log of {journey.log_entries} entries: {problems}")
