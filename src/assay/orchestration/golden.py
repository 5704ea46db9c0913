"""Rows that come with a version and the answers it must give to them: ``golden.json``."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from assay.domain.versions import InputSchema

GOLDEN_ROWS: Final = 16


def golden_rows(
    onnx: bytes,
    schema: InputSchema,
    inputs: NDArray[np.float32],
    probes: NDArray[np.float32],
) -> dict[str, Any]:
    """Real rows, spread over history, and rows around split thresholds, with the served model's
    answers: what a version is exercised with before it goes live.

    Parameters
    ----------
    inputs: real rows, float32, shape (n, features); those that are not finite are left out.
    probes: rows around thresholds, of the same width.
    """
    from assay.serving import OnnxModel

    usable = inputs[np.isfinite(inputs).all(axis=1)]
    real = usable[np.linspace(0, len(usable) - 1, min(GOLDEN_ROWS, len(usable))).astype(int)]
    # A probe behind a split for missing values has one, and serving takes none.
    chosen = np.concatenate([real, probes[np.isfinite(probes).all(axis=1)]])
    answers = OnnxModel.from_bytes(onnx, schema).predict(chosen)
    return {"rows": chosen.astype(float).tolist(), "predictions": answers.tolist()}
