"""A version as a bill of materials in CycloneDX 1.6 JSON (https://cyclonedx.org/docs/1.6/json/).

The model is the component that the document is about, with its model card; its files, data sets and
packages are components that it depends on. Everything comes from the signed files and the log, so
the same version gives the same bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version as version_of
from typing import Any, Final

from assay.domain.canonical import sha256_hex
from assay.domain.evidence import Evidence
from assay.domain.instants import render
from assay.registry.catalogue import VersionRecord
from assay.registry.metadata import ModelMetadata
from assay.registry.sealed import VerifiedVersion

SPECIFICATION: Final = "1.6"
_SCHEMA: Final = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_ONNX: Final = "model.onnx"
_TASKS: Final = {"risk_model": "regression", "alpha_weights": "classification"}


def bill_of_materials(
    opened: VerifiedVersion,
    record: VersionRecord,
    evidence: Sequence[Evidence] = (),
    *,
    uses: Sequence[str] = (),
    limits: Sequence[str] = (),
) -> dict[str, Any]:
    """The document as a JSON object.

    Parameters
    ----------
    evidence: what was measured about the version. uses, limits: what it is meant for, and what it
        is not good for, where somebody declared that.
    """
    metadata = opened.metadata
    reference = f"model:{record.name}@{record.version}"
    data = _data_sets(metadata)
    packages = _packages(metadata)
    seed = f"urn:assay:{record.name}:{record.version}:{record.digest}"
    return {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, seed)}",
        "version": 1,
        "metadata": {
            "timestamp": render(record.registered_at),
            "tools": {
                "components": [
                    {"type": "application", "name": "assay", "version": version_of("assay")}
                ]
            },
            "component": {
                "type": "machine-learning-model" if opened.is_model else "data",
                "bom-ref": reference,
                "name": record.name,
                "version": record.version,
                "authors": [{"name": record.author}],
                # Of what is not one file, the version's digest stands for all of them.
                "hashes": _hashes(sha256_hex(opened.onnx) if opened.is_model else opened.digest),
                "components": [_file(name, opened.files[name]) for name in sorted(opened.files)],
                **_card(opened, data, evidence, uses, limits),
                "properties": _properties(_stated(record, metadata)),
            },
        },
        "components": [*data, *packages],
        "dependencies": [
            {"ref": reference, "dependsOn": [one["bom-ref"] for one in (*data, *packages)]},
            *({"ref": one["bom-ref"]} for one in (*data, *packages)),
        ],
    }


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _file(name: str, data: bytes) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{name}",
        "name": name,
        "hashes": _hashes(sha256_hex(data)),
    }


def _data_sets(metadata: ModelMetadata) -> list[dict[str, Any]]:
    """Snapshots and the training set; a snapshot's id is the SHA-256 of the list of its files."""
    named = dict(metadata.snapshot_ids)
    if metadata.training_set_digest is not None:
        named["training set"] = metadata.training_set_digest
    return [
        {
            "type": "data",
            "bom-ref": f"data:{table}@{digest}",
            "name": table,
            "version": digest,
            "data": [{"type": "dataset", "name": table}],
        }
        for table, digest in sorted(named.items())
    ]


def _packages(metadata: ModelMetadata) -> list[dict[str, Any]]:
    stated = metadata.environment.get("packages")
    packages = stated if isinstance(stated, Mapping) else {}
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name.lower()}@{number}",
            "name": name,
            "version": number,
            "purl": f"pkg:pypi/{name.lower()}@{number}",
        }
        for name, number in sorted(packages.items())
    ]


def _card(
    opened: VerifiedVersion,
    data: Iterable[Mapping[str, Any]],
    evidence: Iterable[Evidence],
    uses: Sequence[str],
    limits: Sequence[str],
) -> dict[str, Any]:
    """The model card of a model; nothing for definitions, weights and transforms."""
    metadata, schema = opened.metadata, opened.inputs
    if schema is None:
        return {}
    parameters: dict[str, Any] = {
        "approach": {"type": "supervised"},
        "datasets": [{"ref": one["bom-ref"]} for one in data],
        "inputs": [{"format": f"{schema.dtype}, {len(schema.names)} columns"}],
        "outputs": [{"format": "float32"}],
    }
    if metadata.kind in _TASKS:
        parameters["task"] = _TASKS[metadata.kind]
    considerations: dict[str, Any] = {}
    if uses:
        considerations["useCases"] = list(uses)
    if limits:
        considerations["technicalLimitations"] = list(limits)
    card = {
        "bom-ref": f"card:{opened.name}@{opened.version}",
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": _metrics(metadata, evidence)},
        **({"considerations": considerations} if considerations else {}),
    }
    return {"modelCard": card}


def _metrics(metadata: ModelMetadata, evidence: Iterable[Evidence]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"type": name, "value": repr(value), "slice": "training, out of sample"}
        for name, value in sorted(metadata.metrics.items())
    ]
    for item in evidence:
        if item.value is None:
            continue
        metric: dict[str, Any] = {
            "type": item.name,
            "value": repr(item.value),
            "slice": f"evidence, sample of {item.sample_size}",
        }
        if item.interval is not None:
            low, high = item.interval
            metric["confidenceInterval"] = {"lowerBound": repr(low), "upperBound": repr(high)}
        found.append(metric)
    return found


def _stated(record: VersionRecord, metadata: ModelMetadata) -> dict[str, str | None]:
    return {
        "assay:digest": record.digest,
        "assay:kind": record.kind,
        "assay:feature-manifest": metadata.manifest_hash,
        "assay:training-run": metadata.parent_run,
        "assay:config-hash": metadata.config_hash,
        "assay:git-commit": metadata.git_commit,
    }


def _properties(stated: Mapping[str, str | None]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in stated.items() if value is not None]
