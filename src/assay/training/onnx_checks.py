"""Is the ONNX file the same model, and how fast is it?

Random rows cannot tell: a converter that rounds thresholds differs only on rows that sit on one.
So the check adds, for each split of each tree, a real row moved just far enough to reach that
split, with the split's feature set to the threshold and to its two float32 neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.training.estimators import BaselineForecast, Ensemble, Inputs
from assay.training.onnx_export import INPUT, open_session
from assay.training.trees import SplitNode, split_nodes

PARITY_LIMIT = 1e-5
"""Largest absolute difference that a conversion may show."""

BENCH_RUNS = {1: 400, 32: 150, 1024: 30}
"""Timed runs per batch size."""

_SIDES = ("below", "at", "above")
_CHUNK = 16_384


def check_parity(model: Ensemble | BaselineForecast, onnx: bytes, rows: Inputs) -> dict[str, Any]:
    """Compare native and ONNX predictions; the content of ``parity.json``.

    Parameters
    ----------
    rows: real inputs, float32, shape (rows, features).

    Returns
    -------
    A JSON object: counts of rows and threshold rows, the largest absolute and relative difference,
    where the largest absolute one stands, the limit, and whether it is kept. A prediction that is
    not finite leaves the differences null and the limit not kept.
    """
    splits = tuple(split_nodes(model.trees()))
    probes = threshold_rows(splits, rows)
    everything = np.concatenate([rows, probes]) if len(probes) else rows
    native = model.predict(everything)
    converted = run_onnx(onnx, everything)
    document: dict[str, Any] = {
        "format": "assay-onnx-parity/1",
        "convention": "largest |native - onnx| of the model's output; native in float64 links over "
        "float32 tree sums, onnx in float32",
        "rows": len(rows),
        "threshold_rows": len(probes),
        "limit": PARITY_LIMIT,
    }
    finite = np.isfinite(native) & np.isfinite(converted)
    if not finite.all():
        worst = int(np.flatnonzero(~finite)[0])
        found: dict[str, Any] = {"largest_difference": None, "largest_relative_difference": None}
    else:
        difference = np.abs(native - converted)
        worst = int(difference.argmax())
        scale = np.maximum(np.abs(native), np.finfo(np.float32).tiny)
        found = {
            "largest_difference": float(difference[worst]),
            "largest_relative_difference": float((difference / scale).max()),
        }
    largest = found["largest_difference"]
    return {
        **document,
        **found,
        "within_limit": largest is not None and largest <= PARITY_LIMIT,
        "at": {
            "native": _number(native[worst]),
            "onnx": _number(converted[worst]),
            **_place(worst, len(rows), splits, model.features),
        },
    }


def threshold_rows(splits: tuple[SplitNode, ...], rows: Inputs) -> Inputs:
    """Three rows per split: below, at and above its threshold, all of which reach the split.

    Each starts from a real row (they are taken in turn, evenly over ``rows``) whose features are
    moved into the box of inputs that reaches the split, when they are not inside already.
    """
    if not splits:
        return np.empty((0, rows.shape[1]), dtype=np.float32)
    chosen = np.linspace(0, len(rows) - 1, num=len(splits)).astype(np.int64)
    probes = np.repeat(rows[chosen], len(_SIDES), axis=0)
    for number, split in enumerate(splits):
        block = probes[number * len(_SIDES) : (number + 1) * len(_SIDES)]
        for feature, (low, high) in split.bounds.items():
            inside = np.nextafter(high, np.float32(-np.inf)) if np.isfinite(high) else high
            block[:, feature] = np.clip(block[:, feature], low, inside)
        block[:, split.feature] = (
            np.nextafter(split.threshold, np.float32(-np.inf)),
            split.threshold,
            np.nextafter(split.threshold, np.float32(np.inf)),
        )
    return probes


def run_onnx(onnx: bytes, rows: Inputs) -> NDArray[np.float64]:
    """Predictions of an ONNX file in batches, float64, shape (rows,)."""
    session = open_session(onnx)
    batches = [
        session.run(None, {INPUT: rows[start : start + _CHUNK]})[0][:, 0]
        for start in range(0, len(rows), _CHUNK)
    ]
    return np.concatenate(batches).astype(np.float64)


def bench_onnx(onnx: bytes, rows: Inputs, timer: Callable[[], int]) -> dict[str, Any]:
    """Time a session on one thread; the content of ``bench.json``.

    Parameters
    ----------
    rows: real inputs to time with; repeated when there are fewer than a batch needs.
    timer: a monotonic stopwatch in nanoseconds, such as ``time.perf_counter_ns``.

    Returns
    -------
    A JSON object: p50, p95 and p99 in microseconds and the number of runs, by batch size.
    """
    import onnxruntime  # takes half a second to import

    session = open_session(onnx)
    batches = {}
    for size, runs in BENCH_RUNS.items():
        feed = {INPUT: np.ascontiguousarray(np.resize(rows[:size], (size, rows.shape[1])))}
        for _ in range(max(3, runs // 10)):
            session.run(None, feed)
        taken = np.empty(runs)
        for run in range(runs):
            start = timer()
            session.run(None, feed)
            taken[run] = (timer() - start) / 1_000
        p50, p95, p99 = (round(float(np.percentile(taken, q)), 2) for q in (50, 95, 99))
        batches[str(size)] = {"p50_us": p50, "p95_us": p95, "p99_us": p99, "runs": runs}
    return {
        "format": "assay-onnx-bench/1",
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "threads": 1,
        "batches": batches,
    }


def _place(
    position: int, real: int, splits: tuple[SplitNode, ...], features: tuple[str, ...]
) -> dict[str, Any]:
    if position < real:
        return {"kind": "row", "row": position}
    number, side = divmod(position - real, len(_SIDES))
    split = splits[number]
    return {
        "kind": "threshold",
        "tree": split.tree,
        "node": split.node,
        "feature": features[split.feature],
        "threshold": float(split.threshold),
        "side": _SIDES[side],
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
