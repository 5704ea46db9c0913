"""Whether what was trained can be made again: training sets from the archive, and the environment.

For each recipe of the desk the latest registered version is taken. Its training run must be the one
that the version's signed metadata vouches for; the training set is made again from the archived
snapshots and must have the same digest, rows and manifests; the environment that the run recorded
must be this one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.domain.canonical import content_hash
from assay.domain.instants import Instant, render
from assay.domain.verdicts import Verdict
from assay.errors import AssayError, IntegrityError, NotFound, Tampered
from assay.features import Manifest
from assay.features.offline.training_sets import rebuild
from assay.orchestration.desk import Desk
from assay.orchestration.environment import EnvironmentCheck, Lock, check_environment, desk_lock
from assay.orchestration.modelling import TrainingRun, sealed_run
from assay.orchestration.progress import Progress
from assay.registry import ModelMetadata


@dataclass(frozen=True, slots=True)
class RecipeVerification:
    """One recipe's latest training set, made again.

    Attributes
    ----------
    model, version, run: which registered version and training run; None where there is none.
    rows, digest, rebuilt_digest: of the recorded training set, and what came out now.
    manifests, snapshots: what it was made from: manifest hashes by table, snapshot ids by table.
    environment: the run's against this process; None where the run could not be read.
    findings: what does not hold, one sentence each.
    """

    recipe: str
    verdict: Verdict
    findings: tuple[str, ...]
    model: str | None = None
    version: str | None = None
    run: str | None = None
    rows: int = 0
    digest: str | None = None
    rebuilt_digest: str | None = None
    manifests: Mapping[str, str] | None = None
    snapshots: Mapping[str, str] | None = None
    environment: EnvironmentCheck | None = None
    seconds: float = 0.0

    @property
    def untrained(self) -> bool:
        """Whether no version was registered from it yet."""
        return self.version is None and self.verdict is Verdict.INDETERMINATE

    def to_json(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "verdict": str(self.verdict),
            "findings": list(self.findings),
            "model": self.model,
            "version": self.version,
            "run": self.run,
            "rows": self.rows,
            "digest": self.digest,
            "rebuilt_digest": self.rebuilt_digest,
            "manifests": dict(self.manifests or {}),
            "snapshots": dict(self.snapshots or {}),
            "environment": None if self.environment is None else self.environment.to_json(),
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class DeskVerification:
    """Every recipe, and the lock of this process."""

    at: Instant
    recipes: tuple[RecipeVerification, ...]
    lock: Lock | None

    @property
    def verdict(self) -> Verdict:
        """FAIL when a recipe fails, PASS when all that were trained pass, else INDETERMINATE.

        A recipe of which no version was ever registered has nothing that could be made again.
        """
        verdicts = {one.verdict for one in self.recipes if not one.untrained}
        if Verdict.FAIL in verdicts:
            return Verdict.FAIL
        return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.INDETERMINATE

    def to_json(self) -> dict[str, Any]:
        lock = self.lock
        return {
            "at": render(self.at),
            "verdict": str(self.verdict),
            "lock": None
            if lock is None
            else {"sha256": lock.sha256, "own": lock.own, "packages": len(lock.pins)},
            "recipes": [one.to_json() for one in self.recipes],
        }


def verify_desk(desk: Desk, progress: Progress) -> DeskVerification:
    """Verify every recipe of the desk. What does not hold is part of the result, never raised.

    Raises
    ------
    ConfigurationError: recipes or the desk's lock cannot be read.
    """
    lock = desk_lock(desk)
    recipes = tuple(_verify(desk, name, lock, progress) for name in desk.recipes)
    return DeskVerification(desk.clock.now(), recipes, lock)


def latest_versions(desk: Desk) -> dict[str, ModelMetadata]:
    """By recipe, the metadata of the version that was registered last from it."""
    found: dict[str, tuple[int, ModelMetadata]] = {}
    for record in desk.registry.list():
        metadata = desk.registry.metadata(record.name, record.version)
        recipe = metadata.config.get("recipe", {}).get("name")
        if recipe is not None and record.registered_seq > found.get(recipe, (-1,))[0]:
            found[recipe] = (record.registered_seq, metadata)
    return {recipe: metadata for recipe, (_, metadata) in found.items()}


def _verify(desk: Desk, recipe: str, lock: Lock | None, progress: Progress) -> RecipeVerification:
    started = time.monotonic()
    metadata = None
    try:
        metadata = latest_versions(desk).get(recipe)
        if metadata is None:
            said = f"no version was registered from it yet: assay train {recipe}"
            return RecipeVerification(recipe, Verdict.INDETERMINATE, (said,))
        run = sealed_run(desk, metadata)
    except (IntegrityError, NotFound) as error:
        changed = isinstance(error, IntegrityError)
        return RecipeVerification(
            recipe=recipe,
            verdict=Verdict.FAIL if changed else Verdict.INDETERMINATE,
            findings=(error.message,),
            model=None if metadata is None else metadata.name,
            version=None if metadata is None else metadata.version,
        )
    progress.event(f"{recipe}: making the training set of run {run.id} again")
    description = run.record["training_set"]
    findings, rebuilt_digest = _rebuilt(desk, description)
    environment = check_environment(_environment(run, metadata), lock)
    verdict = Verdict.FAIL if findings else environment.verdict
    return RecipeVerification(
        recipe=recipe,
        verdict=verdict,
        findings=(*findings, *environment.findings),
        model=metadata.name,
        version=metadata.version,
        run=run.id,
        rows=description["rows"],
        digest=description["digest"],
        rebuilt_digest=rebuilt_digest,
        manifests={table["name"]: table["manifest"] for table in description["query"]["tables"]},
        snapshots=description["snapshots"],
        environment=environment,
        seconds=time.monotonic() - started,
    )


def _rebuilt(desk: Desk, description: Mapping[str, Any]) -> tuple[list[str], str | None]:
    """What of a training set cannot be made again, and the digest of what could."""
    findings = []
    tables = description["query"]["tables"]
    for table in tables:
        try:
            _check_archived(desk.layout.lake / "manifests", table)
        except AssayError as error:
            findings.append(error.message)
    asked = description["query"].get("request")
    named = {table["manifest"] for table in tables} | ({asked["manifest"]} if asked else set())
    hashed = content_hash(sorted(named))
    if hashed != description["manifest_hash"]:
        findings.append(
            f"the training set names manifest set {description['manifest_hash'][:12]}, its tables "
            f"make {hashed[:12]}"
        )
    try:
        request = desk.request_view(asked["view"]) if asked else None
        again = rebuild(description, desk.lake, request=request)
    except AssayError as error:
        return [*findings, error.message], None
    for what, now in (("rows", again.rows), ("snapshots", dict(again.snapshots))):
        if now != description[what]:
            findings.append(f"the rebuilt training set has other {what}: {now}")
    return findings, again.digest


def _check_archived(folder: Path, table: Mapping[str, Any]) -> None:
    """Refuse a table whose manifest is not archived, changed, or does not make its features."""
    path = folder / f"{table['manifest']}.json"
    if not path.is_file():
        raise Tampered(f"manifest {table['manifest'][:12]} of {table['name']} is not archived")
    manifest = Manifest.read(path)
    unknown = sorted({*table["features"]} - {*manifest.feature_names})
    if unknown:
        raise Tampered(
            f"manifest {manifest.hash[:12]} makes no feature {unknown[0]!r}, which {table['name']} "
            "was read for"
        )


def _environment(run: TrainingRun, metadata: ModelMetadata) -> Mapping[str, Any]:
    # Runs of earlier releases recorded none; their versions name the packages, and no lock.
    recorded: Mapping[str, Any] = run.record.get("environment", metadata.environment)
    return recorded
