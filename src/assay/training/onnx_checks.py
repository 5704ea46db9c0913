"""Is the ONNX file the same model, and how fast is it?

Random rows cannot tell: a converter that rounds thresholds differs only on rows that sit on one.
So the check adds, for each split of each tree, a real row moved just far enough to reach that
split, with the split's feature set to the threshold and to its two float32 neighbours. It also
adds edges: real rows with a feature at NaN, at an infinity, at negative zero and at a
subnormal number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from assay.training.onnx_export import INPUT, open_session
from assay.training.trees import SplitNode, Tree, next_float, split_nodes

Inputs = NDArray[np.float32]

PARITY_LIMIT = 1e-5
"""Largest absolute difference that a conversion may show."""

BENCH_RUNS = {1: 400, 32: 150, 1024: 30}
"""Timed runs per batch size."""

SIDES: Final = ("below", "at", "above")
WORST_ROWS: Final = 5
"""How many of the rows that differ most the document names."""

PROBED_SPLITS: Final = 16
"""Splits whose neighbourhoods stand among a version's golden rows."""

_CHUNK = 16_384
_TINY: Final = np.finfo(np.float32).smallest_subnormal
_LARGEST: Final = np.finfo(np.float32).max
_EDGES: Final = {
    "negative zero": -0.0,
    "smallest subnormal": float(_TINY),
    "negative subnormal": float(-_TINY),
    "NaN": float("nan"),
    "infinity": float("inf"),
    "negative infinity": float("-inf"),
}
_EDGE_FEATURES = 64


class Predicting(Protocol):
    """What is compared with its ONNX file."""

    @property
    def features(self) -> tuple[str, ...]: ...

    def predict(self, inputs: Inputs) -> NDArray[np.float64]: ...

    def trees(self) -> tuple[Tree, ...]: ...


def check_parity(model: Predicting, onnx: bytes, rows: Inputs) -> dict[str, Any]:
    """Compare native and ONNX predictions; the content of ``parity.json``.

    Parameters
    ----------
    rows: real inputs, float32, shape (rows, features).

    Returns
    -------
    A JSON object: counts of rows, threshold rows and edge rows, the largest absolute and relative
    difference, how many rows are beyond the limit or unequal in any bit, the rows that differ most
    and where they stand, the limit, and whether it is kept. A prediction of a real or threshold row
    that is not finite leaves the differences null and the limit not kept. An edge row on which the
    native model answers nothing finite, or refuses to answer, is not compared, but counted:
    whoever serves the model refuses such inputs.
    """
    splits = tuple(split_nodes(model.trees()))
    probes = threshold_rows(splits, rows)
    everything = np.concatenate([rows, probes]) if len(probes) else rows
    native, converted = _both(model, onnx, everything)
    edges = _edges(model, onnx, rows)
    places = [
        lambda position: _place(position, len(rows), splits, model.features),
        lambda position: edges.places[position],
    ]
    found = _compare(
        [(native, converted), (edges.native, edges.converted)],
        places,
        whole=bool(np.isfinite(native).all() and np.isfinite(converted).all()),
    )
    largest = found["largest_difference"]
    return {
        "format": "assay-onnx-parity/2",
        "convention": "largest |native - onnx| of the model's output; native in the library's own "
        "type, onnx in the type of its graph; edge rows are compared where the native answer is "
        "finite",
        "rows": len(rows),
        "threshold_rows": len(probes),
        "edge_rows": len(edges.places),
        "edge_rows_not_compared": edges.skipped,
        "limit": PARITY_LIMIT,
        **found,
        "within_limit": largest is not None and largest <= PARITY_LIMIT,
    }


def _both(
    model: Predicting, onnx: bytes, rows: Inputs
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    native = np.asarray(model.predict(rows), dtype=np.float64).reshape(len(rows), -1)
    return native, run_onnx_outputs(onnx, rows)


def _compare(
    pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    places: list[Callable[[int], dict[str, Any]]],
    *,
    whole: bool,
) -> dict[str, Any]:
    """What the document says about differences; ``whole`` is whether all that must be is finite.

    The pairs are the rows and the edges; ``places`` say what a row of each is.
    """
    native = np.concatenate([pair[0] for pair in pairs])
    converted = np.concatenate([pair[1] for pair in pairs])
    with np.errstate(invalid="ignore"):
        apart = np.abs(native - converted)
    difference = apart.max(axis=1)
    # What is not a number differs most.
    order = np.argsort(-np.nan_to_num(difference, nan=np.inf), kind="stable")
    split = len(pairs[0][0])

    def at(row: int) -> dict[str, Any]:
        part = int(row >= split)
        column = int(np.argmax(np.nan_to_num(apart[row], nan=np.inf)))
        where = {"output": column} if native.shape[1] > 1 else {}
        return {
            "native": _number(native[row, column]),
            "onnx": _number(converted[row, column]),
            **where,
            **places[part](row - part * split),
        }

    worst = [at(int(row)) for row in order[:WORST_ROWS] if difference[row] != 0.0]
    largest = float(difference[order[0]])
    settled = whole and np.isfinite(largest)
    scale = np.maximum(np.abs(native), np.finfo(np.float32).tiny)
    return {
        "largest_difference": largest if settled else None,
        "largest_relative_difference": (float((apart / scale).max()) if settled else None),
        "rows_unequal": int((difference != 0.0).sum()),
        "rows_beyond_limit": int((~(difference <= PARITY_LIMIT)).sum()),
        "at": at(int(order[0])),
        "worst": worst,
    }


class _Edges:
    """Edge rows that the native model answers, both answers, and how many it does not answer."""

    def __init__(self, outputs: int) -> None:
        self.places: list[dict[str, Any]] = []
        self.native: NDArray[np.float64] = np.empty((0, outputs))
        self.converted: NDArray[np.float64] = np.empty((0, outputs))
        self.skipped = 0


def _edges(model: Predicting, onnx: bytes, rows: Inputs) -> _Edges:
    found = _Edges(run_onnx_outputs(onnx, rows[:1]).shape[1])
    for name, value in _EDGES.items():
        probes, places = _edge_rows(name, np.float32(value), rows, model.features)
        try:
            native, converted = _both(model, onnx, probes)
        except ValueError:
            # How scikit-learn refuses a value that it was not made for.
            found.skipped += len(probes)
            continue
        kept = np.flatnonzero(np.isfinite(native).all(axis=1))
        found.skipped += len(probes) - len(kept)
        found.places += [places[row] for row in kept]
        found.native = np.concatenate([found.native, native[kept]])
        found.converted = np.concatenate([found.converted, converted[kept]])
    return found


def _edge_rows(
    name: str, value: np.float32, rows: Inputs, features: tuple[str, ...]
) -> tuple[Inputs, list[dict[str, Any]]]:
    """A row per feature with that one at the edge, then one with all of them there."""
    columns = np.linspace(0, len(features) - 1, min(len(features), _EDGE_FEATURES)).astype(int)
    chosen = np.linspace(0, len(rows) - 1, num=len(columns) + 1).astype(np.int64)
    probes = rows[chosen].copy()
    for row, column in enumerate(columns):
        probes[row, column] = value
    probes[-1] = value
    places = [{"kind": "edge", "edge": name, "feature": features[column]} for column in columns]
    return probes, [*places, {"kind": "edge", "edge": name, "feature": None}]


def threshold_rows(splits: tuple[SplitNode, ...], rows: Inputs) -> Inputs:
    """Three rows per split: below, at and above its threshold, all of which reach the split.

    Each starts from a real row (they are taken in turn, evenly over ``rows``) whose features are
    moved into the box of inputs that reaches the split, when they are not inside already.
    """
    if not splits:
        return np.empty((0, rows.shape[1]), dtype=np.float32)
    chosen = np.linspace(0, len(rows) - 1, num=len(splits)).astype(np.int64)
    probes = np.repeat(rows[chosen], len(SIDES), axis=0)
    for number, split in enumerate(splits):
        block = probes[number * len(SIDES) : (number + 1) * len(SIDES)]
        for feature, (low, high) in split.bounds.items():
            if low == np.inf:
                # No number is above all numbers: only a missing value gets here.
                block[:, feature] = np.nan
                continue
            inside = next_float(high, upwards=False) if np.isfinite(high) else high
            block[:, feature] = np.clip(block[:, feature], low, inside)
        around = (
            next_float(split.threshold, upwards=False),
            split.threshold,
            next_float(split.threshold),
        )
        # A split that parts missing values from all others has no finite number above it.
        block[:, split.feature] = np.clip(around, -_LARGEST, _LARGEST)
    return probes


def probe_rows(model: Predicting, inputs: Inputs) -> Inputs:
    """Rows below, at and above the thresholds of a few splits, evenly over all trees."""
    splits = tuple(split_nodes(model.trees()))
    if not splits:
        return inputs[:0]
    chosen = np.linspace(0, len(splits) - 1, min(PROBED_SPLITS, len(splits))).astype(int)
    return threshold_rows(tuple(splits[number] for number in chosen), inputs)


def run_onnx(onnx: bytes, rows: Inputs) -> NDArray[np.float64]:
    """Predictions of an ONNX file with one output in batches, float64, shape (rows,)."""
    return run_onnx_outputs(onnx, rows)[:, 0]


def run_onnx_outputs(onnx: bytes, rows: Inputs) -> NDArray[np.float64]:
    """Predictions of an ONNX file in batches, float64, shape (rows, outputs)."""
    session = open_session(onnx)
    batches = [
        session.run(None, {INPUT: rows[start : start + _CHUNK]})[0]
        for start in range(0, len(rows), _CHUNK)
    ]
    return np.concatenate(batches).astype(np.float64)


def time_batches(
    call: Callable[[Inputs], object], rows: Inputs, timer: Callable[[], int]
) -> dict[str, dict[str, float]]:
    """p50, p95 and p99 in microseconds and the number of runs, by batch size.

    Parameters
    ----------
    rows: real inputs to time with; repeated when there are fewer than a batch needs.
    timer: a monotonic stopwatch in nanoseconds, such as ``time.perf_counter_ns``.
    """
    batches = {}
    for size, runs in BENCH_RUNS.items():
        feed = np.ascontiguousarray(np.resize(rows[:size], (size, rows.shape[1])))
        for _ in range(max(3, runs // 10)):
            call(feed)
        taken = np.empty(runs)
        for run in range(runs):
            start = timer()
            call(feed)
            taken[run] = (timer() - start) / 1_000
        p50, p95, p99 = (round(float(np.percentile(taken, q)), 2) for q in (50, 95, 99))
        batches[str(size)] = {"p50_us": p50, "p95_us": p95, "p99_us": p99, "runs": runs}
    return batches


def bench_onnx(onnx: bytes, rows: Inputs, timer: Callable[[], int]) -> dict[str, Any]:
    """Time a session on one thread; the content of ``bench.json``, see :func:`time_batches`."""
    import onnxruntime  # takes half a second to import

    session = open_session(onnx)
    return {
        "format": "assay-onnx-bench/1",
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "threads": 1,
        "batches": time_batches(lambda feed: session.run(None, {INPUT: feed}), rows, timer),
    }


def _place(
    position: int, real: int, splits: tuple[SplitNode, ...], features: tuple[str, ...]
) -> dict[str, Any]:
    if position < real:
        return {"kind": "row", "row": position}
    number, side = divmod(position - real, len(SIDES))
    split = splits[number]
    return {
        "kind": "threshold",
        "tree": split.tree,
        "node": split.node,
        "feature": features[split.feature],
        "threshold": float(split.threshold),
        "side": SIDES[side],
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
