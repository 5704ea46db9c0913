"""Two versions of a model side by side: everything that their signed files and the log say.

Both are verified before anything is compared. What is equal is counted, what differs is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from assay.domain.canonical import sha256_hex
from assay.domain.instants import render
from assay.domain.verdicts import GateResult
from assay.features import Manifest
from assay.features.definition.differences import Difference, differences
from assay.orchestration.desk import Desk
from assay.orchestration.lineage.gathering import find_manifest, find_run, named_manifests
from assay.registry import GateRecord, VerifiedVersion, VersionRecord

ABSENT: Final = "-"


@dataclass(frozen=True, slots=True)
class Compared:
    """One thing in both versions; None where a version has it not."""

    name: str
    before: Any
    after: Any

    @property
    def equal(self) -> bool:
        # JSON tells 1 from 1.0 and from true, and so does this.
        return repr(self.before) == repr(self.after)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "before": self.before, "after": self.after, "equal": self.equal}


@dataclass(frozen=True, slots=True)
class ComparedGate:
    """A gate in both reports; None where a version was not asked it, or judged by none."""

    name: str
    before: GateResult | None
    after: GateResult | None

    @property
    def equal(self) -> bool:
        return self.before == self.after

    @property
    def both(self) -> tuple[GateResult, ...]:
        """Its results that there are."""
        return tuple(one for one in (self.before, self.after) if one is not None)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "before": None if self.before is None else self.before.to_json(),
            "after": None if self.after is None else self.after.to_json(),
            "equal": self.equal,
        }


@dataclass(frozen=True, slots=True)
class VersionComparison:
    """What is equal in two versions of a model and what is not.

    Attributes
    ----------
    facts: stage, author, times, run, commit, seeds and the like. metrics, data, packages, files:
        by name. files are SHA-256. schema: dtype, CRC-32, the columns that only one side has, and
        the order of those that both have.
    configuration: by the path of the key; ``rounds`` inside ``boosting`` is ``boosting.rounds``.
    features: what changed in the manifests of the features; ``unknown_features`` says why that
        cannot be told.
    """

    model: str
    before: VersionRecord
    after: VersionRecord
    facts: tuple[Compared, ...]
    metrics: tuple[Compared, ...]
    outcomes: Compared
    gates: tuple[ComparedGate, ...]
    schema: tuple[Compared, ...]
    features: tuple[Difference, ...]
    unknown_features: str | None
    configuration: tuple[Compared, ...]
    data: tuple[Compared, ...]
    packages: tuple[Compared, ...]
    files: tuple[Compared, ...]

    def parts(self) -> dict[str, tuple[Compared, ...]]:
        """The plain lists by their titles, in the order in which they are read."""
        return {
            "facts": self.facts,
            "metrics": self.metrics,
            "input schema": self.schema,
            "configuration": self.configuration,
            "data": self.data,
            "environment": self.packages,
            "files": self.files,
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            **{
                name.replace(" ", "_"): [one.to_json() for one in part]
                for name, part in self.parts().items()
            },
            "outcome": self.outcomes.to_json(),
            "gates": [one.to_json() for one in self.gates],
            "features": [one.to_json() for one in self.features],
            "unknown_features": self.unknown_features,
        }


def compare_versions(desk: Desk, name: str, before: str, after: str) -> VersionComparison:
    """Compare two versions of a model.

    Raises
    ------
    NotFound: no such version. Tampered: one of them does not verify.
    """
    registry = desk.registry
    records = [registry.get(name, one) for one in (before, after)]
    old, new = (registry.keep_version(name, one.version) for one in records)
    reports = [registry.gate_record(name, one.version) for one in records]
    features, unknown = _features(desk, old, new)
    return VersionComparison(
        model=name,
        before=records[0],
        after=records[1],
        facts=_paired(*(_facts(*pair) for pair in zip(records, (old, new), strict=True))),
        metrics=_paired(old.metadata.metrics, new.metadata.metrics),
        outcomes=Compared(
            "outcome", *(None if one is None else str(one.outcome) for one in reports)
        ),
        gates=_gates(*reports),
        schema=_paired(_schema(old, new), _schema(new, old)),
        features=features,
        unknown_features=unknown,
        configuration=_paired(
            dict(key_paths(old.metadata.config)), dict(key_paths(new.metadata.config))
        ),
        data=_paired(_data(old), _data(new)),
        packages=_paired(_environment(old), _environment(new)),
        files=_paired(*({n: sha256_hex(d) for n, d in one.files.items()} for one in (old, new))),
    )


def key_paths(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a configuration with the paths of their keys: ``folds[0].cut_off``.

    A list of plain values is a leaf: one more name in it is one change, not a shift of all.
    """
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from key_paths(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        for number, item in enumerate(value):
            yield from key_paths(item, f"{path}[{number}]")
    else:
        yield path, value


def _paired(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Compared, ...]:
    names = dict.fromkeys((*before, *after))
    return tuple(Compared(name, before.get(name), after.get(name)) for name in names)


def _facts(record: VersionRecord, opened: VerifiedVersion) -> dict[str, Any]:
    metadata = opened.metadata
    return {
        "digest": record.digest,
        "stage": str(record.stage),
        "kind": record.kind,
        "policy": metadata.policy,
        "baseline": record.baseline,
        "author": record.author,
        "signed by": opened.signed_by,
        "created": render(record.created_at),
        "registered": render(record.registered_at),
        "run": metadata.parent_run,
        "commit": metadata.git_commit,
        "seeds": list(metadata.seeds),
    }


def _gates(before: GateRecord | None, after: GateRecord | None) -> tuple[ComparedGate, ...]:
    old, new = ({g.name: g for g in one.results} if one else {} for one in (before, after))
    names = dict.fromkeys((*old, *new))
    return tuple(ComparedGate(name, old.get(name), new.get(name)) for name in names)


def _schema(opened: VerifiedVersion, other: VerifiedVersion) -> dict[str, Any]:
    if opened.inputs is None:
        return {}
    schema = opened.inputs.to_json()
    names = schema.pop("names")
    theirs = set(other.inputs.names if other.inputs else ())
    return {
        **schema,
        "columns": len(names),
        "only here": [name for name in names if name not in theirs],
        "order of the others": [name for name in names if name in theirs],
    }


def _data(opened: VerifiedVersion) -> dict[str, Any]:
    metadata = opened.metadata
    known_at = metadata.training_set_known_at
    return {
        **metadata.snapshot_ids,
        "training set": metadata.training_set_digest,
        "training set rows": metadata.training_set_rows,
        "facts known by": None if known_at is None else render(known_at),
        "manifest set": metadata.manifest_hash,
    }


def _environment(opened: VerifiedVersion) -> dict[str, Any]:
    stated = dict(opened.metadata.environment)
    packages = stated.pop("packages", {})
    git = stated.pop("git", {})
    changes = {"uncommitted files": git["changes"]} if "changes" in git else {}
    return {**stated, **packages, **changes}


def _features(
    desk: Desk, old: VerifiedVersion, new: VerifiedVersion
) -> tuple[tuple[Difference, ...], str | None]:
    """What changed in the manifests of the features, view by view."""
    if old.metadata.manifest_hash == new.metadata.manifest_hash:
        return (), None
    sides = []
    for opened in (old, new):
        digests = named_manifests(opened.metadata, find_run(desk, opened.metadata))
        found = [find_manifest(desk, digest) for digest in digests]
        manifests = [one for one in found if one is not None]
        if not manifests or len(manifests) != len(found):
            said = f"the manifests of {opened.version} are not to be found here"
            return (), said
        sides.append({one.view: one for one in manifests})
    return tuple(_changes(*sides)), None


def _changes(old: Mapping[str, Manifest], new: Mapping[str, Manifest]) -> Iterator[Difference]:
    for view in dict.fromkeys((*old, *new)):
        if view not in new:
            yield Difference("view", view, old[view].hash, None)
        elif view not in old:
            yield Difference("view", view, None, new[view].hash)
        else:
            yield from differences(old[view].document, new[view].document)


def different(rows: Sequence[Compared]) -> list[Compared]:
    """Those that are not equal."""
    return [one for one in rows if not one.equal]
