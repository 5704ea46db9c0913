"""Information coefficients, overfitting and data snooping, beside what a researcher would write.

The references are public libraries where they are installed (pandas, arch) and plain
NumPy loops elsewhere. Those run on a part of the dates, splits or resamples and are scaled up,
because their cost for each does not depend on how many there are.
Drift of many features against stored profiles stands beside scipy's two-sample statistics.
"""

from __future__ import annotations

import importlib
import math
import time
from typing import Any

import numpy as np
from scipy import stats

from assay.statistics.overfitting import probability_of_overfitting
from assay.statistics.profile import drift, profile
from assay.statistics.superior import superior_ability
from assay.validation.information import ic, rank_ic

FEATURES = 500
ROWS = 1_000_000
REFERENCE_FEATURES = 2
DRIFT_TARGET_SECONDS = 15.0

DAYS = 2_520
NAMES = 3_000
MISSING = 0.02
REFERENCE_SHARE = 10
TARGET_SECONDS = 4.0

BLOCKS, TRIALS, BACKTEST_DAYS = 16, 1_000, 2_512
SPLITS_TRIED = 20
OVERFITTING_SECONDS = 2.0

RESAMPLES, MODELS, COMPARED_DAYS = 1_000, 1_000, 1_250
RESAMPLES_TRIED = 20
SNOOPING_SECONDS = 1.0


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


def overfitting_reference(returns: np.ndarray) -> tuple[str, float]:
    """A few splits as the definition has them, scaled to all of them."""
    generator = np.random.default_rng(1)
    parts = np.split(np.arange(len(returns)), BLOCKS)
    start = time.perf_counter()
    for _ in range(SPLITS_TRIED):
        order = generator.permutation(BLOCKS)
        halves = [
            returns[np.concatenate([parts[block] for block in half])]
            for half in (order[: BLOCKS // 2], order[BLOCKS // 2 :])
        ]
        inside, outside = (half.mean(axis=0) / half.std(axis=0, ddof=1) for half in halves)
        (outside < outside[np.argmax(inside)]).sum()
    seconds = time.perf_counter() - start
    return "NumPy loop over splits", seconds * math.comb(BLOCKS, BLOCKS // 2) / SPLITS_TRIED


def snooping_reference(differences: np.ndarray) -> tuple[str, float]:
    """arch where it is installed (not studentised, whatever it is told), else indexed resamples."""
    try:
        bootstrap = importlib.import_module("arch.bootstrap")
    except ModuleNotFoundError:
        generator = np.random.default_rng(1)
        size = len(differences)
        start = time.perf_counter()
        for _ in range(RESAMPLES_TRIED):
            differences[generator.integers(0, size, size)].mean(axis=0).max()
        seconds = time.perf_counter() - start
        return "NumPy loop over resamples", seconds * RESAMPLES / RESAMPLES_TRIED
    start = time.perf_counter()
    # It takes losses.
    test = bootstrap.SPA(np.zeros(len(differences)), -differences, reps=RESAMPLES, seed=1)
    test.compute()
    return "arch", time.perf_counter() - start


def rows() -> list[dict[str, Any]]:
    return [
        information_row(),
        overfitting_row(),
        snooping_row(),
        drift_row(np.random.default_rng(20_260_102)),
    ]


def overfitting_row() -> dict[str, Any]:
    returns = 0.01 * np.random.default_rng(7).standard_normal((BACKTEST_DAYS, TRIALS))
    start = time.perf_counter()
    probability_of_overfitting(returns, blocks=BLOCKS)
    ours = time.perf_counter() - start
    beside, reference = overfitting_reference(returns)
    name = f"PBO, {BLOCKS} blocks x {TRIALS:,} trials x {BACKTEST_DAYS:,} days ({beside})"
    return _row(name, ours, reference, OVERFITTING_SECONDS)


def snooping_row() -> dict[str, Any]:
    generator = np.random.default_rng(8)
    differences = 0.01 * generator.standard_normal((COMPARED_DAYS, MODELS))
    start = time.perf_counter()
    superior_ability(differences, generator=generator, resamples=RESAMPLES)
    ours = time.perf_counter() - start
    beside, reference = snooping_reference(differences)
    name = f"SPA, {RESAMPLES:,} resamples x {MODELS:,} models x {COMPARED_DAYS:,} days ({beside})"
    return _row(name, ours, reference, SNOOPING_SECONDS)


def information_row() -> dict[str, Any]:
    dates, prediction, label = panel(np.random.default_rng(20_260_101))
    start = time.perf_counter()
    ic(dates, label=label, prediction=prediction)
    rank_ic(dates, label=label, prediction=prediction)
    ours = time.perf_counter() - start
    reference = reference_seconds(dates, prediction, label)
    return _row(f"IC and rank IC, {DAYS:,} days x {NAMES:,} names", ours, reference, TARGET_SECONDS)


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
    return _row(
        f"KS + Wasserstein + PSI + missing, {FEATURES} features x {ROWS:,} rows",
        ours,
        reference,
        DRIFT_TARGET_SECONDS,
    )


def _row(name: str, ours: float, reference: float, most: float) -> dict[str, Any]:
    return {
        "name": name,
        "unit": "s",
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "target": f"<= {most:g} s",
        "met": ours <= most,
    }
