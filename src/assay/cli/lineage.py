"""Commands on what a version comes from, how it differs from another, and its papers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.options import (
    HERE,
    DeskOption,
    JsonOption,
    NameArgument,
    VersionArgument,
    open_desk,
)
from assay.cli.output import Output
from assay.domain.instants import render

if TYPE_CHECKING:
    from assay.domain.verdicts import GateResult
    from assay.orchestration.lineage import LineageCheck
    from assay.orchestration.version_comparison import VersionComparison
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


def compare(
    name: NameArgument,
    before: Annotated[str, typer.Argument(help="One version, such as 1.0.0.")],
    after: Annotated[str, typer.Argument(help="The other one.")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the comparison as a page.")
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Two versions side by side: metrics, gates, inputs, features, configuration, data, files."""
    from assay.orchestration.version_comparison import compare_versions
    from assay.orchestration.version_comparison_page import comparison_page
    from assay.storage.files import write_atomic

    output = Output(as_json=as_json)
    found = compare_versions(open_desk(desk), name, before, after)
    _show_gates_of_both(output, found)
    _show_differences(output, found)
    if html is not None:
        write_atomic(html, comparison_page(found).encode())
        output.line(f"written to {html}")
    output.result(found.to_json())


def _show_gates_of_both(output: Output, found: VersionComparison) -> None:
    old, new = found.before.version, found.after.version
    if found.gates:
        output.table(
            ("gate", "rule", old, "value", new, "value"),
            (
                (
                    _cut(one.name, 26),
                    _cut(" / ".join(dict.fromkeys(g.threshold for g in one.both)), 22),
                    *(part for gate in (one.before, one.after) for part in _gate(gate)),
                )
                for one in found.gates
            ),
        )
    outcomes = (found.outcomes.before or "not judged", found.outcomes.after or "not judged")
    output.line(f"outcome: {old} {outcomes[0]}, {new} {outcomes[1]}")


def _gate(gate: GateResult | None) -> tuple[str, str]:
    if gate is None:
        return "-", "-"
    return str(gate.verdict), "-" if gate.value is None else f"{gate.value:.6g}"


def _show_differences(output: Output, found: VersionComparison) -> None:
    from assay.orchestration.version_comparison import different
    from assay.orchestration.version_comparison_page import text

    old, new = found.before.version, found.after.version
    for title, part in found.parts().items():
        apart = different(part)
        output.line(f"{title}: {len(part) - len(apart)} equal, {len(apart)} differ")
        # A name that was cut off would hide which column is missing.
        shown = partial(fill, width=38) if title == "input schema" else partial(_cut, width=38)
        if apart:
            output.table(
                ("what", old, new),
                (
                    (_cut(one.name, 36), *(shown(text(end)) for end in (one.before, one.after)))
                    for one in apart
                ),
            )
    if found.unknown_features is not None:
        output.line(f"features: {found.unknown_features}")
    else:
        output.line(f"features: {len(found.features) or 'no'} differences")
    for one in found.features:
        output.line(f"  {one.kind}: {one.what} {one.name}")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"


def pack(
    name: NameArgument,
    version: VersionArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR|FILE.zip", help="A new folder, or an archive.")
    ],
    identity: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Whose key signs the pack; nobody's by default."),
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Write everything recorded about a version, with what is needed to check it offline."""
    from assay.domain.canonical import sha256_hex
    from assay.orchestration.evidence_pack import write_pack
    from assay.orchestration.evidence_pack.writing import CHECKSUMS

    output = Output(as_json=as_json)
    files = write_pack(open_desk(desk), name, version, out, signer=identity)
    digest = sha256_hex(files[CHECKSUMS])
    output.line(f"{len(files)} files in {out}; the list of digests has SHA-256 {digest}")
    output.next_step(f"assay models check-pack {out}")
    output.result({"pack": str(out), "files": sorted(files), "checksums_sha256": digest})


def check_pack(
    path: Annotated[Path, typer.Argument(help="A pack: its folder, or its archive.")],
    keys: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The trust policy to believe, instead of the pack's."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check an evidence pack without the desk: digests, chain, signatures; exits 1 if wrong."""
    from assay.orchestration.evidence_pack import check_pack as check

    output = Output(as_json=as_json)
    found = check(path, keys)
    output.table(
        ("what", "holds", "detail"),
        ((one.what, "yes" if one.ok else "NO", one.detail) for one in found.findings),
    )
    for identity, key_id in found.keys:
        output.line(f"key of {identity}: {key_id}")
    verdict = "the pack holds" if found.ok else "the pack does NOT hold"
    known = "by the keys given" if keys else "if these keys are the ones you know"
    output.line(f"{found.model} {found.version}: {verdict}, {known}")
    output.result(found.to_json())
    if not found.ok:
        raise typer.Exit(1)


def bom(
    name: NameArgument,
    version: VersionArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it here, not to the output.")
    ] = None,
    desk: DeskOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Print a version's bill of materials: CycloneDX 1.6 JSON, with its model card."""
    from assay.orchestration.evidence_pack import bom_of
    from assay.storage.files import write_atomic

    output = Output(as_json=as_json)
    document = bom_of(open_desk(desk), name, version)
    if out is None:
        output.line(json.dumps(document, indent=1))
    else:
        write_atomic(out, json.dumps(document, indent=1).encode() + b"\n")
        output.line(f"written to {out}")
    output.result(document)
