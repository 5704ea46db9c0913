"""The lineage in the words of OpenLineage: one COMPLETE event per step, with its data sets.

Shapes follow version 2-0-2 of the specification (https://openlineage.io/spec/2-0-2/OpenLineage.json)
and its facets ``version`` and ``schema`` of data sets. A step's run id follows from what the step
made, so telling the same lineage again names the same runs.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from importlib.metadata import version as version_of
from typing import Any, Final

from assay.domain.instants import Instant, render
from assay.registry.lineage import LineageGraph, Node, NodeKind

_SPEC: Final = "https://openlineage.io/spec"
_EVENT: Final = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_VERSION: Final = (
    f"{_SPEC}/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"
)
_SCHEMA: Final = f"{_SPEC}/facets/1-1-1/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet"
_DATA: Final = (NodeKind.SOURCE, NodeKind.SNAPSHOT, NodeKind.TRAINING_SET, NodeKind.VERSION)
_STEPS: Final = {
    NodeKind.SNAPSHOT: "commit",
    NodeKind.TRAINING_SET: "join",
    NodeKind.VERSION: "train-and-register",
}


def lineage_events(graph: LineageGraph, desk: str, registered_at: Instant) -> list[dict[str, Any]]:
    """Run events for every step that made a data set of the graph, up to the version itself.

    Parameters
    ----------
    desk: its name, which becomes the namespace of jobs and data sets.
    registered_at: when the version was registered: the time of steps that have none of their own.
    """
    nodes = {node.id: node for node in graph.nodes}
    own = f"version {graph.model}/{graph.version}"
    made = [
        node
        for node in graph.nodes
        if node.kind in _STEPS and (node.kind is not NodeKind.VERSION or node.id == own)
    ]
    # What became known when is a cut-off of the training set, not the time at which it was joined.
    times = {node.id: node.at for node in made if node.kind is NodeKind.SNAPSHOT}
    return [
        _event(node, _inputs(node, nodes), desk, times.get(node.id) or registered_at)
        for node in made
    ]


def _inputs(node: Node, nodes: dict[str, Node]) -> list[Node]:
    """The data sets that a step read, through what is none: runs, manifests, configurations."""
    found: dict[str, Node] = {}
    for name, what in node.reads.items():
        source = nodes[name]
        if node.kind is NodeKind.VERSION and what == "judged against":
            continue
        nearer = [source] if source.kind in _DATA else _inputs(source, nodes)
        found |= {one.id: one for one in nearer}
    return list(found.values())


def _event(node: Node, inputs: Iterable[Node], desk: str, at: Instant) -> dict[str, Any]:
    namespace = f"assay://{desk}"
    return {
        "eventType": "COMPLETE",
        "eventTime": render(at),
        "producer": _producer(),
        "schemaURL": _EVENT,
        "run": {"runId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{namespace}/{node.id}"))},
        "job": {"namespace": namespace, "name": f"{_STEPS[node.kind]} {_name(node)}"},
        "inputs": [_data_set(one, namespace) for one in inputs],
        "outputs": [_data_set(node, namespace)],
    }


def _data_set(node: Node, namespace: str) -> dict[str, Any]:
    facets: dict[str, Any] = {}
    if node.digest is not None:
        facets["version"] = {**_facet(_VERSION), "datasetVersion": node.digest}
    if "schema" in node.facts:
        columns = [{"name": name, "type": kind} for name, kind in node.facts["schema"].items()]
        facets["schema"] = {**_facet(_SCHEMA), "fields": columns}
    return {"namespace": namespace, "name": _name(node), "facets": facets}


def _name(node: Node) -> str:
    if node.kind is NodeKind.TRAINING_SET:
        return f"training_set/{(node.digest or '')[:16]}"
    return f"models/{node.name.split()[0]}" if node.kind is NodeKind.VERSION else node.name


def _facet(schema: str) -> dict[str, str]:
    return {"_producer": _producer(), "_schemaURL": schema}


def _producer() -> str:
    return f"urn:assay:{version_of('assay')}"
