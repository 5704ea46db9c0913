"""Commands on evidence: what is recorded about a version, and whether it comes out again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.options import (
    HERE,
    DeskOption,
    IdentityOption,
    JsonOption,
    NameArgument,
    VersionArgument,
    acting,
    open_desk,
    require,
)
from assay.cli.output import Output

evidence = typer.Typer(
    name="evidence", no_args_is_help=True, help="Measurements: what they rest on, and again."
)
nightly = typer.Typer(
    name="nightly", no_args_is_help=True, help="What is checked every night, and its record."
)


@evidence.command("show")
def evidence_show(
    name: NameArgument,
    version: Annotated[
        str | None, typer.Argument(help="The version; the one in production when left out.")
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show what was measured about a version, and what each number was taken from."""
    from assay.domain.instants import render

    output = Output(as_json=as_json)
    registry = open_desk(desk).registry
    record = registry.resolve(name) if version is None else registry.get(name, version)
    found = registry.evidence(record.name, record.version)
    output.line(f"{record.name} {record.version}: {len(found)} records")
    output.table(
        ("evidence", "value", "sample", "measured", "against", "code", "data"),
        (
            (
                piece.name,
                "-" if piece.value is None else f"{piece.value:.6g}",
                f"{piece.sample_size:,}",
                "not recorded" if traced is None else render(traced.measured_at),
                "" if traced is None else traced.champion or "",
                "" if traced is None else traced.code.get("assay.source", "")[:12],
                "replayed"
                if traced is not None and traced.replayed
                else ", ".join(
                    one[:12] for one in ({} if traced is None else traced.snapshots).values()
                ),
            )
            for piece in found
            for traced in (piece.provenance,)
        ),
    )
    for piece in found:
        if piece.value is None:
            output.line(f"- {piece.name} has no value: {piece.details.get('undefined')}")
    output.next_step(
        f"assay evidence recompute {record.name} {record.version}"
        if found
        else f"assay gates check {record.name} {record.version}"
    )
    output.result(
        {
            "name": record.name,
            "version": record.version,
            "evidence": [piece.to_json() for piece in found],
        }
    )


@evidence.command("report")
def evidence_report(
    name: NameArgument,
    version: VersionArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to write it. Default: reports/models/NAME/evidence-VERSION.html.",
        ),
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write one page about a version: gates, record, trials, controls, what was not tested."""
    from assay.orchestration.evidence_report import write_evidence_report

    output = Output(as_json=as_json)
    path = write_evidence_report(open_desk(desk), name, version, path=out)
    output.line(f"page: {path} ({path.stat().st_size / 1024:,.0f} KiB, opens in any browser)")
    output.next_step(f"assay evidence recompute {name} {version}")
    output.result({"page": str(path), "bytes": path.stat().st_size})


@evidence.command("recompute")
def evidence_recompute(
    name: NameArgument,
    version: VersionArgument,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Measure recorded evidence again and compare every bit; exits 1 if a number differs.

    Exits 3 if nothing differs and something that could be measured again could not be.
    """
    from assay.orchestration.evidence import recompute_evidence
    from assay.orchestration.evidence.recomputing import Answer
    from assay.validation.catalogue import CATALOGUE

    output = Output(as_json=as_json)
    found = recompute_evidence(open_desk(desk), name, version, output)
    output.table(
        ("evidence", "answer", "recorded", "now", "why"),
        (
            (
                one.name,
                one.answer,
                "-" if one.recorded is None else repr(one.recorded),
                "-" if one.recomputed is None else repr(one.recomputed),
                one.reason,
            )
            for one in found.records
        ),
    )
    for one in found.records:
        for change in one.changes:
            output.line(
                f"{one.name} {change.path}: recorded {change.recorded!r}, now {change.recomputed!r}"
            )
    counts = ", ".join(f"{found.count(answer)} {answer}" for answer in Answer)
    output.line(f"{name} {found.version}: {counts}")
    output.result(found.to_json())
    if found.count(Answer.DIFFERS):
        raise typer.Exit(1)
    if any(
        one.answer is Answer.CANNOT and one.name in CATALOGUE and CATALOGUE[one.name].repeatable
        for one in found.records
    ):
        raise typer.Exit(3)


@evidence.command("trials")
def evidence_trials(
    name: NameArgument, desk: DeskOption = HERE, as_json: JsonOption = False
) -> None:
    """Count how often a line was tried: every training run and version, failed ones too."""
    from assay.orchestration.evidence.trials import trials_of

    output = Output(as_json=as_json)
    found = trials_of(open_desk(desk), name)
    matrix = found.matrix()
    output.table(
        ("trial", "recipe", "versions", "dates", "without"),
        (
            (
                one.id,
                one.recipe or "-",
                ", ".join(f"{version} ({stage})" for version, stage in one.versions.items()),
                "-" if one.dates is None else f"{len(one.dates):,}",
                one.without or "",
            )
            for one in found.trials
        ),
    )
    counted = f"{found.raw} trial{'' if found.raw == 1 else 's'}"
    output.line(
        f"{name}: {counted}, {len(matrix.ids)} with returns, on {len(matrix.dates):,} dates in "
        "common"
    )
    output.result(found.to_json())


@nightly.command("run")
def nightly_run(
    identity: IdentityOption = None, desk: DeskOption = HERE, as_json: JsonOption = False
) -> None:
    """Check the registry and the latest training sets, and record it; exits 1 on a red night."""
    from assay.orchestration.nightly import run_nightly
    from assay.orchestration.nights import nightly_evidence

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require(opened, identity, "model:write", "nightly run", "nightly")
    run = run_nightly(opened, output, initiated_by=acting(identity))
    for check in run.checks:
        output.line(f"{check}: {run.failures.get(check, 'green')}")
    greens = nightly_evidence(opened)
    row = "none" if greens.value is None else f"{greens.value:.0f}"
    output.line(f"{'green' if run.green else 'RED'}; nights in a row: {row}")
    output.next_step("assay gates check NAME VERSION")
    output.result({**run.to_json(), "green": run.green, "nights_in_a_row": greens.value})
    if not run.green:
        raise typer.Exit(1)
