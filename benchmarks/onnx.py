"""One prediction and small batches: ONNX Runtime on one thread against XGBoost itself.

The model has the size of the example desk's: 40 features, two seeds of 80 trees of depth 3.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from assay.training import RiseProbability
from assay.training.estimators import fit
from assay.training.onnx_checks import check_parity
from assay.training.onnx_export import export_onnx, open_session

FEATURES = 40
# Native prediction has a fixed cost per call that a single row cannot hide; a large batch can.
TARGETS = {1: 0.25, 32: 1.5, 1024: 5.0}
RUNS = {1: 400, 32: 200, 1024: 40}


def microseconds(call: Callable[[], object], runs: int) -> float:
    """Median wall time of a call."""
    taken = []
    for run in range(runs + 10):
        start = time.perf_counter_ns()
        call()
        if run >= 10:
            taken.append((time.perf_counter_ns() - start) / 1_000)
    return statistics.median(taken)


def rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((20_000, FEATURES)).astype(np.float32)
    returns = 0.1 * inputs[:, 0].astype(np.float64) + rng.standard_normal(len(inputs))
    names = tuple(f"feature_{number}" for number in range(FEATURES))
    model = fit(RiseProbability(), names, (1, 2), inputs, returns)
    for booster in model.boosters:
        booster.set_param({"nthread": 1})
    data = export_onnx(model)
    session = open_session(data)
    measured = []
    for size, target in TARGETS.items():
        batch = np.ascontiguousarray(inputs[:size])
        ours = microseconds(lambda batch=batch: session.run(None, {"X": batch}), RUNS[size])
        native = microseconds(lambda batch=batch: model.predict(batch), RUNS[size])
        measured.append(
            {
                "name": f"ONNX prediction, batch of {size}, against XGBoost",
                "unit": "us",
                "ours": ours,
                "reference": native,
                "ratio": ours / native,
                "target": f"<= {target} x",
                "met": ours <= target * native,
            }
        )
    difference = check_parity(model, data, inputs)["largest_difference"]
    measured.append(
        {
            "name": "largest ONNX difference, real and threshold rows",
            "unit": "",
            "ours": difference,
            "reference": None,
            "ratio": None,
            "target": "<= 1e-05",
            "met": difference is not None and difference <= 1e-5,
        }
    )
    return measured
