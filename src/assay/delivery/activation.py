"""A version must load and predict before it may go live.

Golden rows come with the version (``golden.json``: ``rows``, and ``predictions`` to compare with)
or are made up here: a few rows that any model must answer with finite numbers. Each is predicted
twice, alone and in a batch; the answers must have equal bits, because serving does both.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.errors import AssayError, ContractViolation, IncompatibleVersion
from assay.registry import ModelRegistry, VerifiedVersion
from assay.registry.formats import check_files
from assay.registry.sealed import GOLDEN
from assay.serving import OnnxModel, Runtime

GOLDEN_TOLERANCE = 1e-5
"""Largest difference from a stored prediction: the ONNX parity bound, since machines differ."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A version that was verified, loaded and exercised, ready to answer.

    ``model`` is None where the version is no model: its files were read in their formats.
    """

    version: VerifiedVersion
    model: OnnxModel | None
    rows: int
    stored_rows: bool
    largest_difference: float
    seconds: float

    @property
    def loaded(self) -> OnnxModel:
        """The model.

        Raises
        ------
        IncompatibleVersion: the version is no model.
        """
        if self.model is None:
            raise IncompatibleVersion(
                f"{self.version.name} {self.version.version} is no model: it predicts nothing"
            )
        return self.model

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.version.name,
            "version": self.version.version,
            "digest": self.version.digest,
            "rows": self.rows,
            "stored_rows": self.stored_rows,
            "largest_difference": self.largest_difference,
            "seconds": self.seconds,
        }


def activate(
    registry: ModelRegistry,
    name: str,
    version: str,
    *,
    monotonic: Callable[[], float],
    runtime: Runtime | None = None,
) -> Activation:
    """Verify, load and exercise a version; nothing is recorded and nothing goes live.

    Parameters
    ----------
    monotonic: seconds on a clock that never goes back, to measure with.
    runtime: how the model is run; None for one thread of the processor. Native trees are used only
        where golden rows came with the version, which prove that they answer alike.

    Raises
    ------
    Tampered: a byte of the version is not what was sealed.
    IncompatibleVersion: it does not load, or does not predict what it should.
    """
    started = monotonic()
    opened = registry.open_version(name, version)
    if not opened.is_model:
        try:
            check_files({one: opened.files[one] for one in opened.contents}, pickles=True)
        except ContractViolation as error:
            raise IncompatibleVersion(f"{name} {version}: {error.message}") from error
        return Activation(opened, None, 0, False, 0.0, monotonic() - started)
    run = runtime or Runtime()
    model = OnnxModel.from_bytes(opened.onnx, opened.schema, runtime=run)
    stored = GOLDEN in opened.files
    try:
        if stored:
            rows, expected = _stored_rows(opened.files[GOLDEN])
        else:
            rows, expected = _made_up_rows(len(opened.schema.names)), None
        difference = _exercise(model, rows, expected)
        if stored and run.native_batches:
            model.use_native(opened.onnx, opened.files, rows, lambda: int(monotonic() * 1e9), run)
    except IncompatibleVersion:
        raise
    except AssayError as error:
        raise IncompatibleVersion(f"golden rows of {name} {version}: {error.message}") from error
    return Activation(opened, model, len(rows), stored, difference, monotonic() - started)


def _exercise(
    model: OnnxModel, rows: npt.NDArray[np.float32], expected: npt.NDArray[np.float64] | None
) -> float:
    batch = model.predict(rows)
    alone = np.concatenate([model.predict(rows[i : i + 1]) for i in range(len(rows))])
    # A matrix product may round differently in a batch than alone; a tree does not.
    apart = np.abs(batch - alone) > GOLDEN_TOLERANCE * np.maximum(1.0, np.abs(alone))
    if apart.any():
        row = int(np.argmax(apart))
        raise IncompatibleVersion(
            f"golden row {row} gives {batch[row]} in a batch and {alone[row]} alone"
        )
    if expected is None:
        return 0.0
    if expected.shape != batch.shape:
        raise IncompatibleVersion(f"{len(expected)} golden predictions for {len(batch)} rows")
    difference = float(np.max(np.abs(batch - expected), initial=0.0))
    if not difference <= GOLDEN_TOLERANCE:
        raise IncompatibleVersion(
            f"golden rows differ from the stored predictions by {difference:.3g}: "
            f"expected at most {GOLDEN_TOLERANCE:g}"
        )
    return difference


def _stored_rows(data: bytes) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    try:
        document = json.loads(data)
        rows = np.asarray(document["rows"], dtype=np.float32)
        predictions = np.asarray(document["predictions"], dtype=np.float64)
    except (ValueError, KeyError, TypeError) as error:
        raise IncompatibleVersion(f"{GOLDEN} cannot be read: {error!r}") from None
    if rows.size == 0:
        raise IncompatibleVersion(f"{GOLDEN} holds no rows")
    return rows, predictions


def _made_up_rows(width: int) -> npt.NDArray[np.float32]:
    """Zeros, ones, minus ones, and small values of both signs that differ from column to column."""
    ramp = np.linspace(-1.0, 1.0, width)
    return np.stack([np.zeros(width), np.ones(width), -np.ones(width), ramp, ramp[::-1]]).astype(
        np.float32
    )
