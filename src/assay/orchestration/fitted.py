"""A model that was fitted elsewhere becomes a version: converted, compared, timed, registered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.domain.canonical import canonical_bytes
from assay.domain.versions import InputSchema
from assay.errors import ConfigurationError, ContractViolation, NotFound, did_you_mean
from assay.orchestration.desk import Desk
from assay.orchestration.golden import golden_rows
from assay.orchestration.provenance import git_revision
from assay.registry import ModelMetadata, Registration, capture_environment
from assay.registry.sealed import CHANGES, GOLDEN, ONNX, Candidate
from assay.training.conversion import convert
from assay.training.onnx_checks import bench_onnx, check_parity, probe_rows, time_batches

_BENCH_ROWS = 1_024


def register_fitted(
    desk: Desk,
    model: Any,
    rows: pl.DataFrame,
    name: str,
    kind: str,
    *,
    author: str,
    reason: str,
    version: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Registration:
    """Register a fitted XGBoost, LightGBM or scikit-learn model as the next version of a line.

    Its ONNX file is compared with it on the rows, at every split threshold and at the edges of
    float32, and both are timed. Nothing is known of how it was trained, so its policy's evidence
    has to be recorded by whoever measures it.

    Parameters
    ----------
    rows: real inputs, one column per input, in the model's order; at least one finite row.
    reason: what it is and why it changed; kept in the log and in CHANGES.md.
    config: kept with the version, with its hash.

    Raises
    ------
    ContractViolation: it cannot be converted exactly, gives more than one number for a row, or its
        ONNX file gives other numbers than it does; says on which row.
    """
    inputs = _inputs(rows)
    conversion = convert(model, rows.columns)
    onnx, native = conversion.onnx, conversion.native
    outputs = native.predict(inputs[:1]).shape[1]
    if outputs != 1:
        raise ContractViolation(
            f"the model gives {outputs} numbers for a row: expected one, which is what is served",
            hint="fit one model per output, or a classifier of two classes",
        )
    parity = check_parity(native, onnx, inputs)
    if not parity["within_limit"]:
        raise ContractViolation(
            f"model.onnx differs from the {native.library} model by "
            f"{parity['largest_difference']}, on {parity['rows_beyond_limit']} rows, most on "
            f"{parity['at']}: expected at most {parity['limit']:g}"
        )
    schema = InputSchema.of(rows.columns)
    bench = bench_onnx(onnx, inputs[:_BENCH_ROWS], time.perf_counter_ns)
    bench["native"] = {
        "library": native.library,
        "batches": time_batches(native.predict, inputs[:_BENCH_ROWS], time.perf_counter_ns),
    }
    golden = golden_rows(onnx, schema, inputs, probe_rows(native, inputs))
    files = {
        ONNX: onnx,
        "parity.json": canonical_bytes(parity),
        "bench.json": canonical_bytes(bench),
        GOLDEN: canonical_bytes(golden),
        CHANGES: f"{reason}\n".encode(),
    }
    file = native.to_file()
    if file is not None:
        files[file[0]] = file[1]
    registry = desk.registry
    metadata = ModelMetadata(
        name=name,
        version=version or str(registry.next_version(name)),
        kind=kind,
        created_at=desk.clock.now(),
        author=author,
        git_commit=git_revision(desk.layout.root),
        config={**(config or {}), "fitted_with": _fitted_with(native.library)},
        environment=capture_environment(),
    )
    return registry.register(Candidate(metadata, schema, files), reason=reason)


def read_rows_file(path: Path, names: tuple[str, ...] | None = None) -> pl.DataFrame:
    """Rows of a model's inputs from a Parquet or CSV file.

    Parameters
    ----------
    names: the columns to take, in the model's order; None takes all, in the file's.

    Raises
    ------
    NotFound: no such file. ConfigurationError: of another kind. ContractViolation: unreadable, or
        without one of the columns.
    """
    if not path.is_file():
        raise NotFound(f"no file {path}")
    suffix = path.suffix.lower()
    if suffix not in {".parquet", ".csv"}:
        raise ConfigurationError(f"rows in {path.name}: expected a .parquet or .csv file")
    try:
        frame = pl.read_parquet(path) if suffix == ".parquet" else pl.read_csv(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ContractViolation(f"{path} cannot be read: {error}") from error
    for name in names or ():
        if name not in frame.columns:
            raise ContractViolation(
                f"{path} has no column {name!r}", hint=did_you_mean(name, frame.columns)
            )
    return frame.select(names) if names else frame


def _inputs(rows: pl.DataFrame) -> NDArray[np.float32]:
    try:
        wide = rows.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise ContractViolation(f"rows hold what is no number: {error}") from error
    with np.errstate(over="ignore"):
        inputs = np.ascontiguousarray(wide.astype(np.float32))
    finite = np.isfinite(inputs).all(axis=1)
    if not finite.any():
        raise ContractViolation(f"none of {len(inputs)} rows is finite in every column")
    return np.ascontiguousarray(inputs[finite])


def _fitted_with(library: str) -> dict[str, str | None]:
    package = {"xgboost": ("xgboost-cpu", "xgboost")}.get(library, (library,))
    for one in package:
        try:
            return {"library": library, "version": distributions.version(one)}
        except distributions.PackageNotFoundError:
            continue
    return {"library": library, "version": None}
