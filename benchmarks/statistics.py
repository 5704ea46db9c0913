"""IC and rank IC over a wide equity universe, beside pandas (or plain loops where it is absent).

The reference is what a researcher would write: a pandas groupby per date with ``corr``. It runs on
a tenth of the dates and is scaled up, because its cost per date does not depend on their number.

Drift of many features against stored profiles, beside scipy's two-sample statistics on a few
features, scaled up for the same reason.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

import numpy as np
from scipy import stats

from assay.statistics.profile import drift, profile
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
        },
        drift_row(np.random.default_rng(20_260_102)),
    ]


FEATURES = 500
ROWS = 1_000_000
REFERENCE_FEATURES = 2
DRIFT_TARGET_SECONDS = 15.0


def drift_row(generator: np.random.Generator) -> dict[str, Any]:
    """KS, Wasserstein, PSI and missing rates of columns that are drawn one at a time, untimed."""
    kept = profile(generator.standard_normal(ROWS))
    ours = 0.0
    for _ in range(FEATURES):
        column = generator.standard_normal(ROWS)
        start = time.perf_counter()
        drift(kept, column)
        ours += time.perf_counter() - start
    reference = 0.0
    for _ in range(REFERENCE_FEATURES):
        then, now = generator.standard_normal((2, ROWS))
        start = time.perf_counter()
        stats.ks_2samp(then, now, method="asymp")
        stats.wasserstein_distance(then, now)
        edges = np.quantile(then, np.arange(1, 10) / 10)
        for values in (then, now):
            np.bincount(np.searchsorted(edges, values), minlength=10)
            np.isnan(values).mean()
        reference += time.perf_counter() - start
    reference *= FEATURES / REFERENCE_FEATURES
    return {
        "name": f"KS + Wasserstein + PSI + missing, {FEATURES} features x {ROWS:,} rows",
        "unit": "s",
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "target": f"<= {DRIFT_TARGET_SECONDS:g} s",
        "met": ours <= DRIFT_TARGET_SECONDS,
    }
