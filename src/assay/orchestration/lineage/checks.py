"""Is every thing that a version names there, and is it what was named?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from assay.domain.canonical import content_hash, sha256_hex
from assay.domain.instants import render
from assay.domain.verdicts import Verdict
from assay.errors import AssayError, NotFound
from assay.features import Manifest
from assay.orchestration.desk import Desk
from assay.orchestration.lineage.gathering import (
    FoundSnapshot,
    find_manifest,
    find_snapshots,
    git_of,
    source_of,
)
from assay.orchestration.modelling import TrainingRun, sealed_run
from assay.orchestration.provenance import has_commit
from assay.registry import EventOutcome, EventType, ModelMetadata, VerifiedVersion, VersionRecord

_ONNX: Final = "model.onnx"


@dataclass(frozen=True, slots=True)
class LineageFinding:
    """One thing that a version names. INDETERMINATE where nothing was named, or none can tell."""

    what: str
    verdict: Verdict
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {"what": self.what, "verdict": str(self.verdict), "detail": self.detail}


@dataclass(frozen=True, slots=True)
class LineageCheck:
    """Every link of one version's lineage."""

    model: str
    version: str
    findings: tuple[LineageFinding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing that is named is missing or something else."""
        return not any(one.verdict is Verdict.FAIL for one in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "model": self.model,
            "version": self.version,
            "findings": [one.to_json() for one in self.findings],
        }


def check_lineage(desk: Desk, name: str, version: str) -> LineageCheck:
    """Hold a version's signed metadata against log, run, lake, manifests and git.

    What does not hold is part of the result, never raised.

    Raises
    ------
    NotFound: no such version.
    """
    record = desk.registry.get(name, version)
    try:
        opened = desk.registry.keep_version(name, record.version)
    except AssayError as error:
        found = LineageFinding(f"version {record.version}", Verdict.FAIL, error.message)
        return LineageCheck(name, record.version, (found,))
    metadata = opened.metadata
    findings = [
        _holds(
            f"version {record.version}",
            f"{len(opened.files)} files, {opened.note or f'signed by {opened.signed_by}'}",
        ),
        *_in_log(desk, record),
        *_snapshots(desk, metadata),
        *_run(desk, opened),
        *_git(desk, metadata),
    ]
    return LineageCheck(name, record.version, tuple(findings))


def _holds(what: str, detail: str) -> LineageFinding:
    return LineageFinding(what, Verdict.PASS, detail)


def _fails(what: str, error: AssayError | str) -> LineageFinding:
    return LineageFinding(what, Verdict.FAIL, error if isinstance(error, str) else error.message)


def _unknown(what: str, detail: str) -> LineageFinding:
    return LineageFinding(what, Verdict.INDETERMINATE, detail)


def _in_log(desk: Desk, record: VersionRecord) -> Iterator[LineageFinding]:
    done = [
        entry
        for entry in desk.registry.history(record.name)
        if entry.to_version == record.version and entry.outcome is EventOutcome.DONE
    ]
    registered = [entry for entry in done if entry.type is EventType.REGISTER]
    digests = {entry.evidence.get("digest") for entry in registered}
    if digests == {record.digest}:
        yield _holds("registration", f"entry {registered[0].seq} names digest {record.digest[:12]}")
    else:
        yield _fails("registration", f"the log does not name digest {record.digest[:12]}")
    if any(entry.type in {EventType.PROMOTE, EventType.BREAK_GLASS} for entry in done):
        try:
            desk.registry.verify_promoted(record.name, record.version)
            yield _holds("promotion", "its signed statement verifies")
        except AssayError as error:
            yield _fails("promotion", error)


def _snapshots(desk: Desk, metadata: ModelMetadata) -> Iterator[LineageFinding]:
    if not metadata.snapshot_ids:
        yield _unknown("snapshots", "the metadata names none")
    for found in find_snapshots(desk, metadata):
        yield _snapshot(desk, found)
        if "source" in found.metadata and source_of(desk, found) is None:
            yield _fails(
                f"manifest {found.metadata.get('manifest', '-')[:12]}",
                f"{found.table} was computed by it, and it is not in {desk.manifests.url}",
            )


def _snapshot(desk: Desk, found: FoundSnapshot) -> LineageFinding:
    what = f"{found.table} {found.id[:12]}"
    try:
        table = desk.lake.table(found.table)
        listing = table.snapshot(found.id)
        table.verify(listing)
    except AssayError as error:
        return _fails(what, error)
    return _holds(what, f"{listing.rows:,} rows in {len(listing.files)} files, every byte hashed")


def _run(desk: Desk, opened: VerifiedVersion) -> Iterator[LineageFinding]:
    metadata = opened.metadata
    if metadata.parent_run is None:
        yield _unknown("training run", "the metadata names none")
        return
    what = f"run {metadata.parent_run}"
    try:
        run = sealed_run(desk, metadata)
        for name in run.record["files"]:
            run.read(name)
    except NotFound as error:
        yield _fails(what, f"{error.message}: it is not there")
        return
    except AssayError as error:
        yield _fails(what, error)
        return
    yield _holds(what, f"its record has the seal that was signed, {len(run.record['files'])} files")
    yield from _against_record(metadata, run)
    onnx = sha256_hex(opened.onnx)
    if onnx == run.record["files"][_ONNX]:
        yield _holds(_ONNX, f"is the file of run {run.id}")
    else:
        yield _fails(_ONNX, f"is not the file of run {run.id}: {onnx[:12]}, the run made "
                     f"{run.record['files'][_ONNX][:12]}")  # fmt: skip
    if opened.schema == run.schema:
        yield _holds("input schema", f"{len(run.schema.names)} columns, as the run exported")
    else:
        yield _fails("input schema", f"is not the one that run {run.id} exported")
    yield from _manifests(desk, metadata, run)


def _against_record(metadata: ModelMetadata, run: TrainingRun) -> Iterator[LineageFinding]:
    made = run.record["training_set"]
    for what, stated, recorded in (
        ("training set", metadata.training_set_digest, made["digest"]),
        ("rows", metadata.training_set_rows, made["rows"]),
        ("manifest set", metadata.manifest_hash, made["manifest_hash"]),
        ("snapshots", dict(metadata.snapshot_ids), made["snapshots"]),
        ("cut-off", render(metadata.training_set_known_at or 0), render(run.known_at)),
    ):
        if stated == recorded:
            said = f"{len(stated)} named" if isinstance(stated, dict) else str(stated)[:20]
            yield _holds(what, f"{said}, as the run recorded")
        else:
            yield _fails(what, f"the metadata says {stated}, the run {recorded}")


def _manifests(desk: Desk, metadata: ModelMetadata, run: TrainingRun) -> Iterator[LineageFinding]:
    query = run.record["training_set"]["query"]
    asked = query.get("request")
    named = {table["manifest"] for table in query["tables"]} | (
        {asked["manifest"]} if asked else set()
    )
    if content_hash(sorted(named)) != metadata.manifest_hash:
        yield _fails("manifest set", "the run's manifests do not hash to the one that was signed")
    for digest in sorted(named):
        found: Manifest | None = find_manifest(desk, digest)
        what = f"manifest {digest[:12]}"
        if found is None or content_hash(found.document) != digest:
            yield _fails(what, f"is neither in the lake nor in {desk.manifests.url}, or is another")
        else:
            yield _holds(what, f"of view {found.view}, {len(found.feature_names)} features")


def _git(desk: Desk, metadata: ModelMetadata) -> Iterator[LineageFinding]:
    if metadata.git_commit is None:
        yield _unknown("git", "the desk was not under version control when it was trained")
        return
    commit = metadata.git_commit.removesuffix("+changes")
    there = has_commit(desk.layout.root, commit)
    what = f"commit {commit[:12]}"
    if there is None:
        yield _unknown(what, "there is no repository here now")
    elif not there:
        yield _fails(what, "is not in the desk's repository")
    else:
        yield _holds(what, "is in the desk's repository")
    git = git_of(metadata)
    if git["dirty"]:
        many = "files" if git["changes"] is None else f"{git['changes']} files"
        yield _unknown("working tree", f"{many} differed from the commit at training")
