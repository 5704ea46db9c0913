"""One prediction and batches: ONNX Runtime on one thread against the libraries themselves.

The first model has the size of the example desk's: 40 features, two seeds of 80 trees of depth 3.
The others were fitted elsewhere and converted: 100 trees of 64 leaves or depth 6, a forest, and a
linear model. Each conversion is compared on 2,000 rows and at every split threshold.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from assay.training import RiseProbability
from assay.training.conversion import convert
from assay.training.estimators import fit
from assay.training.onnx_checks import check_parity
from assay.training.onnx_export import export_onnx, open_session

FEATURES = 40
# Native prediction has a fixed cost per call that a single row cannot hide; a large batch can.
TARGETS = {1: 0.25, 32: 1.5, 1024: 5.0}
# A library's large batches may be faster than ours: XGBoost's are, and serving can use them.
CONVERTED_TARGETS: dict[int, float | None] = {1: 0.5, 1024: None}
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
    measured.append(difference("the recipe's model", check_parity(model, data, inputs)))
    for name, fitted in converted_models(inputs, returns):
        measured += conversion(name, fitted, names, inputs)
    return measured


def converted_models(inputs: Any, returns: Any) -> list[tuple[str, Any]]:
    """Models of other makers: their names, and what they fitted."""
    import lightgbm
    import xgboost
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import Ridge

    quiet = {"verbosity": -1, "num_threads": 1, "num_leaves": 64, "max_depth": 6}
    few, labels = inputs[:5_000], returns[:5_000]
    booster = xgboost.train(
        {"max_depth": 6, "nthread": 1}, xgboost.DMatrix(inputs, returns, nthread=1), 100
    )
    return [
        ("XGBoost", booster),
        ("LightGBM", lightgbm.train(quiet, lightgbm.Dataset(inputs, returns), 100)),
        ("random forest", RandomForestRegressor(20, max_depth=6, random_state=0).fit(few, labels)),
        ("ridge", Ridge().fit(few, labels)),
    ]


def conversion(name: str, fitted: Any, names: tuple[str, ...], inputs: Any) -> list[dict[str, Any]]:
    """Timings of one row and of 1,024 beside the library's own, and the differences."""
    made = convert(fitted, names)
    session = open_session(made.onnx)
    measured = []
    for size in (1, 1024):
        batch = np.ascontiguousarray(inputs[:size])
        ours = microseconds(lambda batch=batch: session.run(None, {"X": batch}), RUNS[size])
        native = microseconds(lambda batch=batch: made.native.predict(batch), RUNS[size])
        target = CONVERTED_TARGETS[size]
        measured.append(
            {
                "name": f"converted {name}, batch of {size}, against itself",
                "unit": "us",
                "ours": ours,
                "reference": native,
                "ratio": ours / native,
                "target": "" if target is None else f"<= {target} x",
                "met": None if target is None else ours <= target * native,
            }
        )
    measured.append(
        difference(f"converted {name}", check_parity(made.native, made.onnx, inputs[:2_000]))
    )
    return measured


def difference(what: str, parity: dict[str, Any]) -> dict[str, Any]:
    """The largest difference, and on how many rows there is any."""
    largest = parity["largest_difference"]
    count = parity["rows"] + parity["threshold_rows"] + parity["edge_rows"]
    return {
        "name": f"largest ONNX difference, {what}: {parity['rows_unequal']:,} of {count:,} rows "
        "differ in any bit",
        "unit": "",
        "ours": largest,
        "reference": None,
        "ratio": None,
        "target": "<= 1e-05",
        "met": largest is not None and largest <= 1e-5,
    }
