"""Commands on what a version comes from, how it differs from another, and its papers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.models import NameArgument, VersionArgument
from assay.cli.options import HERE, DeskOption, JsonOption, open_desk
from assay.cli.output import Output
from assay.domain.instants import render

if TYPE_CHECKING:
    from assay.orchestration.lineage import LineageCheck
    from assay.registry.lineage import LineageGraph


def lineage(
    name: NameArgument,
    version: VersionArgument,
    check: Annotated[
        bool,
        typer.Option("--check", help="Ask whether everything named is there; exits 1 if not."),
    ] = False,
    dot: Annotated[bool, typer.Option("--dot", help="Print the graph for Graphviz.")] = False,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the graph into this file.")
    ] = None,
    openlineage: Annotated[
        bool, typer.Option("--openlineage", help="Print OpenLineage events, one per line.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Write reports/models/NAME/lineage.json.")
    ] = False,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """What a version was made from, from raw facts to the log of what became of it."""
    from assay.orchestration.lineage import (
        check_lineage,
        lineage_events,
        lineage_of,
        lineage_svg,
    )
    from assay.storage.files import write_atomic

    output = Output(as_json=as_json)
    opened = open_desk(desk)
    if check:
        _show_check(output, check_lineage(opened, name, version))
        return
    graph = lineage_of(opened, name, version)
    registered_at = opened.registry.get(name, version).registered_at
    document = graph.to_json()
    if openlineage:
        document["openlineage"] = lineage_events(graph, opened.layout.name, registered_at)
        for event in document["openlineage"]:
            output.line(json.dumps(event))
    elif dot:
        output.line(graph.to_dot().rstrip())
    else:
        _show_graph(output, graph)
    if svg is not None:
        write_atomic(svg, lineage_svg(graph).encode())
        output.line(f"drawn into {svg}")
    if write:
        path = opened.layout.root / "reports" / "models" / name / "lineage.json"
        write_atomic(path, json.dumps(document, indent=1).encode() + b"\n")
        output.line(f"written to {path}")
    if not (dot or openlineage):
        output.next_step(f"assay models lineage {name} {graph.version} --check")
    output.result(document)


def _show_graph(output: Output, graph: LineageGraph) -> None:
    names = {node.id: f"{node.kind} {node.name}" for node in graph.nodes}
    output.table(
        ("what", "name", "digest", "since", "from"),
        (
            (
                str(node.kind),
                node.name if node.found else f"{node.name} (NOT FOUND)",
                (node.digest or "-")[:12],
                "-" if node.at is None else render(node.at)[:19],
                "; ".join(f"{what} {names[one]}" for one, what in node.reads.items()),
            )
            for node in graph.nodes
        ),
    )


def _show_check(output: Output, found: LineageCheck) -> None:
    output.table(
        ("what", "verdict", "detail"),
        ((one.what, one.verdict, one.detail) for one in found.findings),
    )
    verdict = "every link holds" if found.ok else "its lineage does NOT hold"
    output.line(f"{found.model} {found.version}: {verdict}")
    output.result(found.to_json())
    if not found.ok:
        raise typer.Exit(1)
