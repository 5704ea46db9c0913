"""Follows the names in a version's metadata to the things themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from assay.domain.canonical import content_hash
from assay.domain.instants import Instant
from assay.errors import AssayError
from assay.features import Manifest
from assay.lake.snapshots import Snapshot
from assay.orchestration.desk import Desk
from assay.orchestration.modelling import TrainingRun, load_run
from assay.registry import Entry, EventOutcome, ModelMetadata, VersionRecord
from assay.registry.lifecycle import MOVES
from assay.registry.lineage import LineageGraph, Node, NodeKind

SILVER: Final = "silver/"


@dataclass(frozen=True, slots=True)
class FoundSnapshot:
    """A snapshot that is named, and its list where that is still there."""

    table: str
    id: str
    listing: Snapshot | None
    committed_at: Instant | None

    @property
    def node_id(self) -> str:
        return f"snapshot {self.table} {self.id}"

    @property
    def metadata(self) -> Mapping[str, str]:
        return {} if self.listing is None else self.listing.metadata


def lineage_of(desk: Desk, name: str, version: str) -> LineageGraph:
    """The graph behind a version, and what the log says became of it.

    What cannot be read any more is a node that was not found: the names in the signed metadata
    stay true when the thing is gone.

    Raises
    ------
    NotFound: no such version. Tampered: the version itself does not verify.
    """
    record = desk.registry.get(name, version)
    metadata = desk.registry.metadata(name, record.version)
    run = find_run(desk, metadata)
    nodes = [*_data(desk, metadata, run), *_making(metadata, run)]
    nodes += _versions(desk, record, metadata, {node.id for node in nodes})
    return LineageGraph(name, record.version, tuple(nodes))


def find_run(desk: Desk, metadata: ModelMetadata) -> TrainingRun | None:
    """The run that a version names, or None where it cannot be read."""
    if metadata.parent_run is None:
        return None
    try:
        return load_run(desk, metadata.parent_run)
    except AssayError:
        return None


def find_snapshots(desk: Desk, metadata: ModelMetadata) -> list[FoundSnapshot]:
    """The snapshots that a version names, silver first, and the silver behind its gold.

    Gold was built from a snapshot of silver that need not be the one the labels come from.
    """
    named = [_find(desk, table, one) for table, one in sorted(metadata.snapshot_ids.items())]
    built = [_find(desk, *source) for gold in named if (source := source_of(desk, gold))]
    every = {found.node_id: found for found in (*built, *named)}
    return sorted(every.values(), key=lambda one: (not one.table.startswith(SILVER), one.node_id))


def source_of(desk: Desk, gold: FoundSnapshot) -> tuple[str, str] | None:
    """Table and snapshot that a gold snapshot was computed from, by its own metadata."""
    source, manifest = gold.metadata.get("source"), gold.metadata.get("manifest")
    if source is None or manifest is None:
        return None
    found = find_manifest(desk, manifest)
    return None if found is None else (f"{SILVER}{found.source}", source)


def find_manifest(desk: Desk, digest: str) -> Manifest | None:
    """A manifest by its hash, from the lake or where manifests are published; None where gone."""
    try:
        return Manifest.read(desk.layout.lake / "manifests" / f"{digest}.json")
    except (OSError, ValueError, AssayError):
        pass
    try:
        return desk.manifests.get(digest)
    except (OSError, ValueError, AssayError):
        return None


def named_manifests(metadata: ModelMetadata, run: TrainingRun | None) -> list[str]:
    """The manifests in the set that a version names, by its run's record; empty where unknown."""
    if run is None:
        return []
    query = run.record["training_set"]["query"]
    found = {table["manifest"] for table in query["tables"]}
    request = query.get("request")
    if request is not None:
        found.add(request["manifest"])
    # Only a list that hashes to what was signed is the list of that version.
    return sorted(found) if content_hash(sorted(found)) == metadata.manifest_hash else []


def _find(desk: Desk, table: str, identifier: str) -> FoundSnapshot:
    listing, committed = None, None
    try:
        opened = desk.lake.table(table)
        listing = opened.snapshot(identifier)
        times = [one.committed_at for one in opened.history() if one.snapshot == identifier]
        committed = times[0] if times else None
    except (AssayError, OSError):
        pass
    return FoundSnapshot(table, identifier, listing, committed)


def _data(desk: Desk, metadata: ModelMetadata, run: TrainingRun | None) -> Iterator[Node]:
    snapshots = find_snapshots(desk, metadata)
    silver = [one for one in snapshots if one.table.startswith(SILVER)]
    known = {one.node_id for one in snapshots}
    latest = max((one.committed_at or 0 for one in silver), default=0)
    sources = list(_sources(desk, latest))
    yield from sources
    manifests = set(named_manifests(metadata, run))
    manifests |= {one.metadata["manifest"] for one in snapshots if "manifest" in one.metadata}
    for digest in sorted(manifests):
        yield _manifest(desk, digest)
    for one in snapshots:
        reads: dict[str, str] = {}
        if one in silver:
            reads = {node.id: "refined from" for node in sources if (node.at or 0) <= latest}
        source = source_of(desk, one)
        if source is not None and f"snapshot {source[0]} {source[1]}" in known:
            reads[f"snapshot {source[0]} {source[1]}"] = "computed from"
        if "manifest" in one.metadata:
            reads[f"manifest {one.metadata['manifest']}"] = "computed by"
        yield Node(
            one.node_id,
            NodeKind.SNAPSHOT,
            one.table,
            one.id,
            one.committed_at,
            reads,
            facts={} if one.listing is None else _facts_of(one.listing),
            found=one.listing is not None,
        )


def _facts_of(listing: Snapshot) -> dict[str, Any]:
    return {
        "rows": listing.rows,
        "files": len(listing.files),
        "schema": dict(listing.schema),
        "metadata": dict(listing.metadata),
    }


def _sources(desk: Desk, upto: Instant) -> Iterator[Node]:
    """The raw facts of each source that were stored when silver was made."""
    try:
        commits = [one for one in desk.lake.bronze.commits() if one.committed_at <= upto]
    except AssayError:
        commits = []
    for source in dict.fromkeys(one.source for one in commits):
        own = [one for one in commits if one.source == source]
        digest = content_hash([[one.first, one.count, one.sha256] for one in own])
        facts = {"facts": sum(one.count for one in own), "segments": len(own)}
        yield Node(
            f"source {source}",
            NodeKind.SOURCE,
            f"bronze/{source}",
            digest,
            own[-1].committed_at,
            facts=facts,
        )


def _manifest(desk: Desk, digest: str) -> Node:
    found = find_manifest(desk, digest)
    facts = {} if found is None else {"view": found.view, "features": list(found.feature_names)}
    name = "a manifest" if found is None else found.view
    return Node(
        f"manifest {digest}", NodeKind.MANIFEST, name, digest, facts=facts, found=found is not None
    )


def _making(metadata: ModelMetadata, run: TrainingRun | None) -> Iterator[Node]:
    """Training set, configuration, code and run."""
    set_id = f"training set {metadata.training_set_digest}"
    run_reads = {}
    if metadata.training_set_digest is not None:
        reads = {f"snapshot {t} {i}": "joined from" for t, i in metadata.snapshot_ids.items()}
        reads |= {f"manifest {one}": "features of" for one in named_manifests(metadata, run)}
        yield Node(
            set_id, NodeKind.TRAINING_SET, f"{metadata.training_set_rows:,} rows",
            metadata.training_set_digest, metadata.training_set_known_at, reads,
            facts={"rows": metadata.training_set_rows, "manifest_hash": metadata.manifest_hash},
        )  # fmt: skip
        run_reads[set_id] = "trained on"
    recipe = metadata.config.get("recipe")
    named = recipe.get("name") if isinstance(recipe, Mapping) else None
    config_id = f"configuration {metadata.config_hash}"
    yield Node(config_id, NodeKind.CONFIGURATION, str(named or metadata.kind), metadata.config_hash)
    run_reads[config_id] = "configured by"
    if metadata.git_commit is not None:
        commit = metadata.git_commit.removesuffix("+changes")
        code_id = f"code {metadata.git_commit}"
        yield Node(
            code_id, NodeKind.CODE, f"commit {commit[:12]}",
            facts={"commit": commit, **git_of(metadata)},
        )  # fmt: skip
        run_reads[code_id] = "written in"
    if metadata.parent_run is not None:
        yield Node(
            f"run {metadata.parent_run}", NodeKind.RUN, f"run {metadata.parent_run}",
            metadata.config.get("run_seal"), None, run_reads,
            facts={"seeds": list(metadata.seeds), "environment": dict(metadata.environment)},
            found=run is not None,
        )  # fmt: skip


def git_of(metadata: ModelMetadata) -> dict[str, Any]:
    """What was not committed when the model was trained, as its metadata says."""
    stated = metadata.environment.get("git")
    if isinstance(stated, Mapping):
        return {"dirty": stated.get("dirty"), "changes": stated.get("changes")}
    # Metadata of earlier versions says only whether anything was changed.
    return {"dirty": (metadata.git_commit or "").endswith("+changes"), "changes": None}


def _versions(
    desk: Desk, record: VersionRecord, metadata: ModelMetadata, known: set[str]
) -> Iterator[Node]:
    """The versions before it in production, itself, and the moves that the log has of it."""
    moves = [
        entry
        for entry in desk.registry.history(record.name)
        if entry.type in MOVES
        and entry.outcome is EventOutcome.DONE
        and record.version in {entry.from_version, entry.to_version}
    ]
    others = {one for entry in moves for one in (entry.from_version, entry.to_version)}
    champion = _judged_against(desk, record)
    others |= {champion}
    numbers = {one.version: one for one in desk.registry.list(record.name)}
    for number in sorted(others - {None, record.version}, key=lambda one: numbers[str(one)]):
        other = numbers[str(number)]
        yield _version_node(other, {})
    makers = [f"run {metadata.parent_run}"] if metadata.parent_run else []
    makers += [one for one in known if one.startswith("configuration ")] if not makers else []
    reads = dict.fromkeys(makers, "made by")
    if champion is not None and champion != record.version:
        reads[f"version {record.name}/{champion}"] = "judged against"
    yield _version_node(record, reads)
    for entry in moves:
        yield _move(entry)


def _version_node(record: VersionRecord, reads: Mapping[str, str]) -> Node:
    return Node(
        f"version {record.name}/{record.version}",
        NodeKind.VERSION,
        f"{record.name} {record.version}",
        record.digest,
        record.registered_at,
        reads,
        facts={"stage": str(record.stage), "author": record.author, "kind": record.kind},
    )


def _judged_against(desk: Desk, record: VersionRecord) -> str | None:
    """The version that was in production when the gates judged this one."""
    report = desk.registry.gate_record(record.name, record.version)
    if report is None or not report.champion_digest:
        return None
    found = [
        one.version
        for one in desk.registry.list(record.name)
        if one.digest == report.champion_digest
    ]
    return found[0] if found else None


def _move(entry: Entry) -> Node:
    reads = {}
    if entry.to_version is not None:
        reads[f"version {entry.model}/{entry.to_version}"] = "about"
    if entry.from_version is not None and entry.from_version != entry.to_version:
        reads[f"version {entry.model}/{entry.from_version}"] = "replaces"
    return Node(
        f"entry {entry.seq}",
        NodeKind.ENTRY,
        f"{entry.type} {entry.to_version or ''}".strip(),
        entry.hash,
        entry.at,
        reads,
        facts={
            "seq": entry.seq,
            "by": entry.initiated_by,
            "reason": entry.reason,
            "approved_by": list(entry.evidence.get("approved_by", [])),
        },
    )
