"""What a version says about its own making, and what is read from the machine that made it."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib import metadata as distributions
from typing import Any

from assay.domain.canonical import canonical_bytes, content_hash
from assay.domain.instants import Instant, parse, render
from assay.domain.versions import SemanticVersion, check_name
from assay.errors import ContractViolation, Tampered
from assay.registry.keyring import check_identity

ENVIRONMENT_PACKAGES = (
    "assay",
    "cryptography",
    "lightgbm",
    "llvmlite",
    "numba",
    "numpy",
    "onnx",
    "onnxruntime",
    "polars",
    "scikit-learn",
    "scipy",
    "xgboost-cpu",
)
"""Packages that can change a model's numbers; those that are not installed are left out."""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """The record of one version. ``metadata.json`` holds it and is authoritative.

    Attributes
    ----------
    name, version, kind: which model, which version (``1.2.0``), judged by which policy.
    created_at: when it was made. author: whose work it is; never among its approvers.
    dataset_version_ids: data set -> version id. snapshot_ids: table -> snapshot id.
    manifest_hash: the feature manifest whose columns the model reads; None for none.
    git_commit: of the desk project, None outside a repository.
    config: the training configuration; ``config_hash`` is computed from it.
    environment: see :func:`capture_environment`; no secrets, no paths.
    metrics: evaluation metric -> value.
    parent_run: the training run that produced it.
    training_set_digest, training_set_rows: the training set, which can be rebuilt.
    training_set_known_at: its cut-off; a fact that became known later did not exist for it.
    seeds: every seed that was used.
    baseline: whether it is a declared baseline; policy: the name of the policy that judges it.
    """

    name: str
    version: str
    kind: str
    created_at: Instant
    author: str
    dataset_version_ids: Mapping[str, str] = field(default_factory=dict)
    snapshot_ids: Mapping[str, str] = field(default_factory=dict)
    manifest_hash: str | None = None
    git_commit: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    parent_run: str | None = None
    training_set_digest: str | None = None
    training_set_rows: int = 0
    training_set_known_at: Instant | None = None
    seeds: tuple[int, ...] = ()
    baseline: bool = False
    policy: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_name(self.kind)
        check_identity(self.author)
        object.__setattr__(self, "version", str(SemanticVersion.parse(self.version)))
        object.__setattr__(self, "seeds", tuple(self.seeds))
        for metric, value in self.metrics.items():
            if not math.isfinite(value):
                raise ContractViolation(
                    f"metric {metric} of {self.name} {self.version} is {value}: expected a number",
                    hint="leave out what could not be computed, and say so in the evidence",
                )
        canonical_bytes(self.to_json())

    @property
    def config_hash(self) -> str:
        """SHA-256 of the configuration's canonical form."""
        return compute_config_hash(self.config)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field, the creation time in ISO 8601, and the config's hash."""
        document = {item.name: getattr(self, item.name) for item in fields(self)}
        for name, value in document.items():
            if isinstance(value, Mapping):
                document[name] = dict(value)
        return document | {
            "created_at": render(self.created_at),
            "training_set_known_at": None
            if self.training_set_known_at is None
            else render(self.training_set_known_at),
            "seeds": list(self.seeds),
            "config_hash": self.config_hash,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ModelMetadata:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        Tampered: a field is missing, unknown or of a wrong kind, or the hash is not the config's.
        """
        try:
            given = dict(document)
            config_hash = given.pop("config_hash")
            # Absent from versions that were made before it was recorded.
            cut_off = given.pop("training_set_known_at", None)
            made = cls(
                **{**given, "created_at": parse(given["created_at"])},
                training_set_known_at=None if cut_off is None else parse(cut_off),
            )
        except (KeyError, TypeError, AttributeError, ContractViolation) as error:
            raise Tampered(f"metadata cannot be read: {error}") from None
        if made.config_hash != config_hash:
            raise Tampered(f"config_hash {config_hash}: the configuration's is {made.config_hash}")
        return made

    @classmethod
    def from_bytes(cls, data: bytes) -> ModelMetadata:
        try:
            return cls.from_json(json.loads(data))
        except (ValueError, RecursionError) as error:
            raise Tampered(f"metadata is not JSON: {error}") from None

    def identity(self) -> dict[str, Any]:
        """What makes two versions the same model: what it is made from, not when or by whom."""
        return {
            "name": self.name,
            "kind": self.kind,
            "dataset_version_ids": dict(self.dataset_version_ids),
            "snapshot_ids": dict(self.snapshot_ids),
            "manifest_hash": self.manifest_hash,
            "config_hash": self.config_hash,
            "training_set_digest": self.training_set_digest,
            "seeds": list(self.seeds),
            "baseline": self.baseline,
            "policy": self.policy,
        }


def compute_config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical form of a configuration, 64 hexadecimal digits."""
    return content_hash(dict(config))


def capture_environment(packages: Iterable[str] = ENVIRONMENT_PACKAGES) -> dict[str, Any]:
    """Python, platform and package versions of this process. No environment variable, no path."""
    versions: dict[str, str] = {}
    for package in packages:
        try:
            versions[package] = distributions.version(package)
        except distributions.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": versions,
    }
