"""Where a version comes from and where it went: a graph of things that are named by their hashes.

1. A :class:`Node` is one thing: a source's facts, a snapshot, a manifest, a training set, a run, a
   version, an entry of the log. Its digest is the name that others know it by.
2. An edge is one thing read by another. Edges lead from what was there first.
3. :class:`LineageGraph` holds both; a node stands behind everything that it reads.

The graph is gathered elsewhere: the registry knows metadata and log, not the lake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from assay.domain.instants import Instant, render
from assay.errors import ContractViolation

FORMAT = "assay-lineage/1"


class NodeKind(StrEnum):
    """What a node is, in the order in which data travels."""

    SOURCE = "source"
    SNAPSHOT = "snapshot"
    MANIFEST = "manifest"
    CONFIGURATION = "configuration"
    CODE = "code"
    TRAINING_SET = "training set"
    RUN = "run"
    VERSION = "version"
    ENTRY = "log entry"


@dataclass(frozen=True, slots=True)
class Node:
    """One thing.

    Attributes
    ----------
    id: unique in the graph, such as ``version fx_vol/1.1.0``. name: for people.
    digest: SHA-256 that names it; None where it has none. at: when it came to be, if that is known.
    reads: ids of the nodes that it was made from, with what each was to it.
    facts: JSON values worth reading. found: whether the thing itself was there to be read.
    """

    id: str
    kind: NodeKind
    name: str
    digest: str | None = None
    at: Instant | None = None
    reads: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    found: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": str(self.kind),
            "name": self.name,
            "digest": self.digest,
            "at": None if self.at is None else render(self.at),
            "found": self.found,
            "facts": dict(self.facts),
        }


@dataclass(frozen=True, slots=True)
class LineageGraph:
    """Everything behind one version, and what the log says became of it.

    Raises
    ------
    ContractViolation: two nodes have one id, or a node stands before one that it reads.
    """

    model: str
    version: str
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for node in self.nodes:
            missing = sorted(set(node.reads) - seen)
            if node.id in seen or missing:
                raise ContractViolation(
                    f"lineage node {node.id!r}: "
                    + (f"reads {missing}, which do not stand before it" if missing else "is twice")
                )
            seen.add(node.id)

    def of_kind(self, kind: NodeKind) -> tuple[Node, ...]:
        """Its nodes of one kind, in order."""
        return tuple(node for node in self.nodes if node.kind is kind)

    def to_json(self) -> dict[str, Any]:
        """Nodes, and edges as (from, to, what)."""
        return {
            "format": FORMAT,
            "model": self.model,
            "version": self.version,
            "nodes": [node.to_json() for node in self.nodes],
            "edges": [
                {"from": source, "to": node.id, "what": what}
                for node in self.nodes
                for source, what in node.reads.items()
            ],
        }

    def to_dot(self) -> str:
        """The graph in the language of Graphviz: ``dot -Tsvg``."""
        lines = [
            f"digraph {_quoted(f'{self.model} {self.version}')} {{",
            '  rankdir=LR; node [shape=box, style="rounded", fontname=monospace, fontsize=10];',
        ]
        for node in self.nodes:
            label = f"{node.kind}: {node.name}\n{(node.digest or '-')[:12]}"
            dashed = "" if node.found else ', style="rounded,dashed"'
            lines.append(f"  {_quoted(node.id)} [label={_quoted(label)}{dashed}];")
            lines += [
                f"  {_quoted(source)} -> {_quoted(node.id)} [label={_quoted(what)}];"
                for source, what in node.reads.items()
            ]
        return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{plain}"'
