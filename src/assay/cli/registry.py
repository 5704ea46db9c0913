"""Commands on the registry as a whole: SQL over it, its rules as a picture, where its log is."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.options import HERE, DeskOption, IdentityOption, JsonOption, open_desk, require_user
from assay.cli.output import Output
from assay.errors import ConfigurationError


def sql(
    statement: Annotated[
        str, typer.Argument(help="One SELECT over versions, metrics, gates, ...; - reads it.")
    ],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Ask the registry in SQL: versions, metrics, gates, approvals, live, stages and events."""
    from assay import bootstrap

    if as_csv and as_json:
        raise ConfigurationError("--csv and --json: expected one of them")
    output = Output(as_json=as_json)
    text = sys.stdin.read() if statement == "-" else statement
    answer = bootstrap.query_registry(open_desk(desk), text)
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.columns)
        writer.writerows(answer.cells())
        return
    output.table(answer.columns, answer.cells())
    output.result(answer.to_json())


def lifecycle(
    dot: Annotated[bool, typer.Option("--dot", help="As a graph for Graphviz.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="As a picture.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show which event may move a version from which stage to which."""
    from assay.registry import diagram

    if dot + svg + markdown + as_json > 1:
        raise ConfigurationError("--dot, --svg, --markdown, --json: expected one of them")
    output = Output(as_json=as_json)
    forms = ((dot, diagram.lifecycle_dot), (svg, diagram.lifecycle_svg))
    for wanted, make in (*forms, (markdown, diagram.lifecycle_markdown)):
        if wanted:
            sys.stdout.write(make())
            return
    moves = diagram.lifecycle_moves()
    output.table(
        ("from", "by", "to"), ((move.start or "-", move.label, move.end) for move in moves)
    )
    output.result(
        [
            {"from": move.start and str(move.start), "by": move.label, "to": str(move.end)}
            for move in moves
        ]
    )


def adopt(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="The log to take over. Default: the registry's own file, or its audit export.",
        ),
    ] = None,
    identity: IdentityOption = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Take over a registry's log into the database that registry.catalogue names, or back."""
    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require_user(opened, identity, "access:admin", "adopt", "" if source is None else str(source))
    head = opened.adopt_log(source)
    output.line(f"took over {head.seq} entries, up to {head.hash[:12]}; the catalogue is built")
    output.next_step("assay audit verify")
    output.result({"entries": head.seq, "head": head.hash})


def claim(
    identity: IdentityOption = None, desk: DeskOption = HERE, as_json: JsonOption = False
) -> None:
    """Let the database's schema belong to this desk, which was moved, renamed or restored."""
    from assay import bootstrap

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    require_user(opened, identity, "access:admin", "claim", "")
    number = bootstrap.claim_registry(desk)
    output.line(f"the schema belongs to desk {opened.layout.name} here, with the number {number}")
    output.line("another folder that had it before is refused from now on")
    output.next_step("assay audit verify")
    output.result({"desk": opened.layout.name, "number": number})
