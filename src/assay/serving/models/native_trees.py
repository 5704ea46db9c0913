"""Large batches through XGBoost itself, where it gives the bits that ONNX Runtime gives.

XGBoost's own prediction costs more for one row and less for a thousand. A version carries both
forms of its model. Here the trees of the native one take the place of the tree node in the ONNX
graph, and the rest of the graph (the link, a calibration) is run as it stands: the answer to a row
must not depend on how many others were asked for with it.

XGBoost adds float32 leaves up tree by tree. Boosters of several seeds are chained, each starting
from the sum of the one before, which is the order in which the one node over all trees adds.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]

SIZES: Final = (128, 256, 512, 1_024)
"""Batch sizes that are timed, to find from which one the native trees are faster."""
_RUNS: Final = 5
_TREES: Final = frozenset({"TreeEnsemble", "TreeEnsembleRegressor"})
_TOTAL: Final = "native_total"


class NativeTrees:
    """The boosters of a version and the rest of its graph.

    Made by :func:`open_native`, which says for which versions there is one.
    """

    def __init__(self, boosters: tuple[Any, ...], rest: Any, reads: bool) -> None:
        self._boosters = boosters
        self._rest = rest
        self._reads = reads
        self._input = next((one.name for one in rest.get_inputs() if one.name != _TOTAL), None)

    def run(self, rows: Rows) -> npt.NDArray[Any]:
        """The graph's output for rows of shape (n, k), float32, contiguous."""
        total = None
        for booster in self._boosters:
            total = booster.inplace_predict(
                rows, predict_type="margin", base_margin=total, validate_features=False
            )
        assert total is not None
        feed = {_TOTAL: np.ascontiguousarray(total, dtype=np.float32).reshape(len(rows), 1)}
        if self._reads and self._input is not None:
            feed[self._input] = rows
        (answer,) = self._rest.run(None, feed)
        return np.asarray(answer)


def open_native(onnx_bytes: bytes, files: Mapping[str, bytes], options: Any) -> NativeTrees | None:
    """The native trees of a version's files; None where it has none that could give equal bits.

    Those are XGBoost's with one output: a registered ``model.ubj``, or a recipe's ``model.zip``.
    ``options`` are those of the session that runs the rest of the graph.
    """
    raw = _members(files)
    if not raw:
        return None
    import onnx  # only where there is a native model
    import onnxruntime
    import xgboost

    rest, reads = _without_trees(onnx.load_from_string(onnx_bytes), onnx)
    if rest is None:
        return None
    boosters = []
    for data in raw:
        booster = xgboost.Booster()
        booster.load_model(bytearray(data))
        booster.set_param({"nthread": 1})
        boosters.append(booster)
    session = onnxruntime.InferenceSession(
        rest.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    return NativeTrees(tuple(boosters), session, reads)


def _members(files: Mapping[str, bytes]) -> list[bytes]:
    """The boosters of a version in UBJSON, in the order in which the graph adds them up."""
    if "model.ubj" in files:
        return [files["model.ubj"]]
    if "model.zip" not in files:
        return []
    try:
        with zipfile.ZipFile(io.BytesIO(files["model.zip"])) as archive:
            if "model.zip" in archive.namelist():  # a calibrated one
                return _members({"model.zip": archive.read("model.zip")})
            settings = json.loads(archive.read("ensemble.json"))
            return [archive.read(f"seed_{seed}.ubj") for seed in settings["seeds"]]
    except (zipfile.BadZipFile, KeyError, ValueError):
        return []  # another library's


def _without_trees(document: Any, onnx: Any) -> tuple[Any | None, bool]:
    """The graph with its one tree node's output as an input, and whether it still reads rows."""
    graph = document.graph
    trees = [one for one in graph.node if one.op_type in _TREES]
    if len(trees) != 1 or next((a.i for a in trees[0].attribute if a.name == "n_targets"), 1) != 1:
        return None, False
    if any(
        constant.data_type == onnx.TensorProto.DOUBLE
        for attribute in trees[0].attribute
        for constant in (attribute.t,)
    ):
        return None, False
    (output,) = trees[0].output
    graph.node.remove(trees[0])
    for one in graph.node:
        for place, name in enumerate(one.input):
            if name == output:
                one.input[place] = _TOTAL
    # What only the trees read.
    needed = {name for one in graph.node for name in one.input} | {one.name for one in graph.output}
    for one in list(graph.node):
        if not set(one.output) & needed:
            graph.node.remove(one)
    graph.input.append(
        onnx.helper.make_tensor_value_info(_TOTAL, onnx.TensorProto.FLOAT, [None, 1])
    )
    del graph.value_info[:]
    read = {name for one in graph.node for name in one.input}
    for one in list(graph.input):
        if one.name not in read:
            graph.input.remove(one)
    return document, any(one.name != _TOTAL for one in graph.input)


def faster_from(
    served: Callable[[Rows], object],
    native: Callable[[Rows], object],
    rows: Rows,
    ticks: Callable[[], int],
) -> int | None:
    """The smallest batch size from which on the native trees were faster; None where they never
    were.

    Parameters
    ----------
    rows: to time with, repeated. ticks: a monotonic stopwatch.
    """
    found = None
    for size in SIZES:
        batch = np.ascontiguousarray(np.resize(rows, (size, rows.shape[1])))
        faster = _median(native, batch, ticks) < _median(served, batch, ticks)
        found = (size if found is None else found) if faster else None
    return found


def _median(call: Callable[[Rows], object], batch: Rows, ticks: Callable[[], int]) -> float:
    taken = []
    for _ in range(_RUNS):
        start = ticks()
        call(batch)
        taken.append(ticks() - start)
    return float(np.median(taken))
