"""Registering what was made elsewhere: definitions, weights, transforms, ONNX models in files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.domain.canonical import canonical_bytes
from assay.domain.versions import InputSchema
from assay.errors import ConfigurationError, ContractViolation, NotFound
from assay.orchestration.desk import Desk
from assay.orchestration.fitted import read_rows_file, register_fitted
from assay.orchestration.provenance import git_revision
from assay.registry import ModelMetadata, Registration, capture_environment
from assay.registry.sealed import CHANGES, ONNX, Candidate
from assay.training.conversion import read_native
from assay.training.onnx_checks import bench_onnx

_BENCH_ROWS = 64


def register_files(
    desk: Desk,
    name: str,
    kind: str,
    paths: Sequence[Path],
    *,
    author: str,
    reason: str,
    version: str | None = None,
    schema: Path | None = None,
    config: Path | None = None,
    rows: Path | None = None,
) -> Registration:
    """Register files as the next version of a line, or under a number of its own.

    ``model.onnx`` among them makes it a model; what its input is then stands in ``schema``
    (``{"names": [...], "dtype": "float32"}``). Nothing is known of such a model but its files: it
    has no training run, so its policy's evidence has to be recorded by whoever measures it.

    Parameters
    ----------
    reason: what it is and why it changed; kept in the log, and in CHANGES.md where none is given.
    config: a JSON object that is kept with the version, with its hash.
    rows: real inputs, with which the one path is a native model, to be converted; their columns
        are the model's inputs in order, unless ``schema`` names others.

    Raises
    ------
    NotFound: a file is not there. ContractViolation: a file is not what it says.
    ConfigurationError: two files have one name, or a model comes without a schema.
    """
    files = _read(paths)
    if rows is not None:
        return _register_native(
            desk,
            name,
            kind,
            files,
            rows,
            schema,
            author=author,
            reason=reason,
            version=version,
            config=config,
        )
    files.setdefault(CHANGES, f"{reason}\n".encode())
    inputs = None
    if ONNX in files:
        if schema is None:
            raise ConfigurationError(
                f"{ONNX} without the schema of its input", hint='--schema FILE, {"names": [...]}'
            )
        inputs = _schema(schema)
        files.setdefault("parity.json", canonical_bytes({"compared": False}))
        if "bench.json" not in files:
            blank = np.zeros((_BENCH_ROWS, len(inputs.names)), dtype=np.float32)
            bench = bench_onnx(files[ONNX], blank, time.perf_counter_ns)
            files["bench.json"] = canonical_bytes(bench)
    registry = desk.registry
    metadata = ModelMetadata(
        name=name,
        version=version or str(registry.next_version(name)),
        kind=kind,
        created_at=desk.clock.now(),
        author=author,
        git_commit=git_revision(desk.layout.root),
        config={} if config is None else _object(config),
        environment=capture_environment(),
    )
    candidate = Candidate(metadata, inputs, files, pickles=desk.layout.pickles)
    return registry.register(candidate, reason=reason)


def _register_native(
    desk: Desk,
    name: str,
    kind: str,
    files: Mapping[str, bytes],
    rows: Path,
    schema: Path | None,
    *,
    author: str,
    reason: str,
    version: str | None,
    config: Path | None,
) -> Registration:
    if len(files) != 1:
        raise ConfigurationError(
            f"{len(files)} files with rows to compare on: expected the native model alone"
        )
    ((file, data),) = files.items()
    names = None if schema is None else _schema(schema).names
    return register_fitted(
        desk,
        read_native(file, data),
        read_rows_file(rows, names),
        name,
        kind,
        author=author,
        reason=reason,
        version=version,
        config=None if config is None else _object(config),
    )


def _read(paths: Sequence[Path]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise NotFound(f"no plain file {path}")
        if path.name in files:
            raise ConfigurationError(f"two files are called {path.name}: expected distinct names")
        files[path.name] = path.read_bytes()
    return files


def _schema(path: Path) -> InputSchema:
    document = _object(path)
    names = document.get("names")
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise ContractViolation(f'{path}: expected {{"names": [...], "dtype": "float32"}}')
    return InputSchema.of(names, str(document.get("dtype", "float32")))


def _object(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(f"no file {path}") from None
    except ValueError as error:
        raise ContractViolation(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ContractViolation(f"{path} holds {type(document).__name__}: expected an object")
    return document
