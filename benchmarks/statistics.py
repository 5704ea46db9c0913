"""IC and rank IC over a wide equity universe, beside pandas (or plain loops where it is absent).

The reference is what a researcher would write: a pandas groupby per date with ``corr``. It runs on
a tenth of the dates and is scaled up, because its cost per date does not depend on their number.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

import numpy as np

from assay.validation.information import ic, rank_ic

DAYS = 2_520
NAMES = 3_000
MISSING = 0.02
REFERENCE_SHARE = 10
TARGET_SECONDS = 4.0


def panel(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dates, predictions and labels of shape (DAYS * NAMES,), with some rows missing."""
    dates = np.repeat(np.arange(DAYS, dtype=np.int64) * 86_400_000_000_000, NAMES)
    label = generator.standard_normal(DAYS * NAMES)
    prediction = 0.05 * label + generator.standard_normal(DAYS * NAMES)
    prediction[generator.random(DAYS * NAMES) < MISSING] = np.nan
    return dates, prediction, label


def reference_seconds(dates: np.ndarray, prediction: np.ndarray, label: np.ndarray) -> float:
    some = slice(0, DAYS // REFERENCE_SHARE * NAMES)
    try:
        pandas = importlib.import_module("pandas")
    except ModuleNotFoundError:
        return plain_seconds(dates[some], prediction[some], label[some]) * REFERENCE_SHARE
    frame = pandas.DataFrame({"d": dates[some], "p": prediction[some], "l": label[some]}).dropna()
    start = time.perf_counter()
    groups = frame.groupby("d")
    groups[["p", "l"]].apply(lambda day: day["p"].corr(day["l"])).mean()
    groups[["p", "l"]].apply(lambda day: day["p"].corr(day["l"], method="spearman")).mean()
    return (time.perf_counter() - start) * REFERENCE_SHARE


def plain_seconds(dates: np.ndarray, prediction: np.ndarray, label: np.ndarray) -> float:
    start = time.perf_counter()
    for day in np.unique(dates):
        rows = (dates == day) & np.isfinite(prediction) & np.isfinite(label)
        x, y = prediction[rows], label[rows]
        np.corrcoef(x, y)
        np.corrcoef(x.argsort().argsort(), y.argsort().argsort())
    return time.perf_counter() - start


def rows() -> list[dict[str, Any]]:
    dates, prediction, label = panel(np.random.default_rng(20_260_101))
    start = time.perf_counter()
    ic(dates, label=label, prediction=prediction)
    rank_ic(dates, label=label, prediction=prediction)
    ours = time.perf_counter() - start
    reference = reference_seconds(dates, prediction, label)
    return [
        {
            "name": f"IC and rank IC, {DAYS:,} days x {NAMES:,} names",
            "unit": "s",
            "ours": ours,
            "reference": reference,
            "ratio": ours / reference,
            "target": f"<= {TARGET_SECONDS:g} s",
            "met": ours <= TARGET_SECONDS,
        }
    ]
