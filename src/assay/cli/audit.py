"""Commands on the record: verify it, show it, and check this installation."""

from __future__ import annotations

from typing import Annotated

import typer

from assay.cli.options import (
    HERE,
    DeskOption,
    IdentityOption,
    JsonOption,
    ReasonOption,
    acting,
    open_desk,
    require,
)
from assay.cli.output import Output

audit = typer.Typer(
    name="audit", no_args_is_help=True, help="The chained, signed log of what happened."
)


@audit.command("verify")
def audit_verify(desk: DeskOption = HERE, as_json: JsonOption = False) -> None:
    """Walk the log's chain, its signed heads and what servers saw; exits 1 if it is broken."""
    from assay.orchestration.effective import verify_records

    output = Output(as_json=as_json)
    # Not through the registry, which refuses to open on a log that was cut.
    report = verify_records(open_desk(desk))
    for problem in report.problems:
        output.line(str(problem))
    for note in report.notes:
        output.line(f"note: {note}")
    output.line("the log verifies" if report.ok else "the log does NOT verify")
    output.result(report.to_json())
    if not report.ok:
        raise typer.Exit(1)


@audit.command("show")
def audit_show(
    last: Annotated[int, typer.Option(min=1, help="How many of the latest entries.")] = 20,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show the latest entries of the log, over all models and the manifests of all views."""
    from assay.domain.instants import render

    output = Output(as_json=as_json)
    entries = open_desk(desk).registry.latest(last)
    output.table(
        ("entry", "time", "model", "event", "from", "to", "by", "outcome", "reason"),
        (
            (e.seq, render(e.at), e.model, e.type, e.from_version, e.to_version, e.initiated_by,
             e.outcome, e.reason)
            for e in entries
        ),
    )  # fmt: skip
    output.result([entry.to_json() for entry in entries])


@audit.command("sign")
def audit_sign(
    reason: ReasonOption,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Vouch for the log that you have read, by a head signed with your key; for administrators."""
    from assay.orchestration.effective import verify_records
    from assay.registry.acknowledging import sign_log

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require(opened, identity, "access:admin", "audit sign", "")
    entry = sign_log(
        opened.registry.journal,
        opened.keyring,
        verify_records(opened, logs_only=True),
        signer=acting(identity),
        reason=reason,
    )
    output.line(f"the log is signed up to entry {entry.seq} by {entry.initiated_by}")
    output.next_step("assay audit verify")
    output.result(entry.to_json())


@audit.command("acknowledge")
def audit_acknowledge(
    reason: ReasonOption,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Record which entries the log is known to have lost, as after an older backup was restored."""
    from assay.orchestration.effective import verify_records
    from assay.registry.acknowledging import acknowledge_losses

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require(opened, identity, "access:admin", "audit acknowledge", "")
    entry = acknowledge_losses(
        opened.registry.journal,
        opened.keyring,
        verify_records(opened, logs_only=True),
        signer=acting(identity),
        reason=reason,
    )
    for loss in entry.evidence["losses"]:
        output.line(f"lost: {loss['witness']}")
    output.line(f"acknowledged by {entry.initiated_by} (entry {entry.seq}): {reason}")
    output.next_step("assay audit verify")
    output.result(entry.to_json())


def doctor(desk: DeskOption = HERE, as_json: JsonOption = False) -> None:
    """Compile the kernel, check its bits, and say what this machine and desk look like."""
    import sqlite3

    from assay.errors import NotFound
    from assay.features import BuildFingerprint, warm_kernel

    output = Output(as_json=as_json)
    seconds = warm_kernel(bars=True)
    build = BuildFingerprint.capture().to_json()
    document = {"kernel_seconds": seconds, "sqlite": sqlite3.sqlite_version, "build": build}
    output.line(f"kernel ready in {seconds:.1f} s")
    output.table(("build", "value"), build.items())
    try:
        opened = open_desk(desk)
        document["desk"] = {"views": sorted(opened.views), "recipes": sorted(opened.recipes)}
        output.line(f"desk {opened.layout.name}: views {', '.join(opened.views)}")
    except NotFound:
        document["desk"] = None
        output.line(f"no desk in {desk.absolute()}; create one with: assay init DIR")
    output.result(document)
