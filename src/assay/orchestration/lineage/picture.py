"""A lineage graph as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from assay.domain.instants import render
from assay.features.definition.layered_drawing import Box, draw
from assay.registry.lineage import LineageGraph, Node, NodeKind

_COLOURS: Final[Mapping[NodeKind, str]] = {
    NodeKind.SOURCE: "#718096",
    NodeKind.SNAPSHOT: "#2b6cb0",
    NodeKind.MANIFEST: "#b7791f",
    NodeKind.CONFIGURATION: "#97266d",
    NodeKind.CODE: "#4a5568",
    NodeKind.TRAINING_SET: "#2c7a7b",
    NodeKind.RUN: "#6b46c1",
    NodeKind.VERSION: "#2f855a",
    NodeKind.ENTRY: "#c05621",
}


def lineage_svg(graph: LineageGraph) -> str:
    """The graph as SVG, from raw facts at the left to the log at the right."""
    kinds = {node.kind for node in graph.nodes}
    return draw(
        [_box(node, graph) for node in graph.nodes],
        title=f"Lineage of {graph.model} {graph.version}",
        colours={str(kind): colour for kind, colour in _COLOURS.items() if kind in kinds},
        note="dashed: not found",
    )


def _box(node: Node, graph: LineageGraph) -> Box:
    about = [f"{node.kind} {node.name}", *(f"{what} {one}" for one, what in node.reads.items())]
    if node.at is not None:
        about.append(render(node.at))
    own = node.id == f"version {graph.model}/{graph.version}"
    return Box(
        node.id,
        tuple(node.reads),
        node.name,
        f"{node.kind} {(node.digest or '')[:12]}".strip(),
        "\n".join(about),
        _COLOURS[node.kind],
        fill="#edf2f7" if node.kind in {NodeKind.SOURCE, NodeKind.CODE} else "#ffffff",
        bold=own,
        dashed=not node.found,
    )
