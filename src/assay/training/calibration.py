"""Probabilities that mean what they say: a monotone map behind a model's own.

``platt``: 1 / (1 + exp(-(slope * log(p / (1 - p)) + intercept))), fitted by maximum likelihood
with J. Platt's smoothed targets ("Probabilistic outputs for support vector machines", 1999), by
Newton's method with halved steps (H.-T. Lin, C.-J. Lin and R. Weng, "A note on Platt's
probabilistic outputs for support vector machines", Machine Learning 68, 2007).

``isotonic``: at most 50 bins of equally many rows; the share of rises in each, made monotone by
pooling adjacent violators (M. Ayer and others, Annals of Mathematical Statistics 26, 1955);
straight lines between the means of the pooled bins. Lines, because a step would turn the last bit
of a probability into a jump.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from assay.domain.canonical import canonical_bytes
from assay.errors import ContractViolation
from assay.training.conversion.graph import OUTPUT, cast, constant, node
from assay.training.estimators import Inputs, Predictions, pack
from assay.training.learners import Calibration
from assay.training.recipe import Learned
from assay.training.trees import Tree

_EDGE: Final = 1e-6
"""Probabilities are taken this far away from 0 and 1, whose log-odds are infinite."""
_BINS: Final = 50
_STEPS: Final = 100


class Fitted(Protocol):
    """A fitted estimator, whatever library fitted it."""

    model_file: str

    @property
    def estimator(self) -> Learned: ...

    @property
    def features(self) -> tuple[str, ...]: ...

    @property
    def seeds(self) -> tuple[int, ...]: ...

    def predict(self, inputs: Inputs) -> Predictions: ...

    def trees(self) -> tuple[Tree, ...]: ...

    def to_bytes(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Platt:
    """A logistic curve of the log-odds."""

    slope: float
    intercept: float

    def apply(self, probabilities: Predictions) -> Predictions:
        """Calibrated probabilities, shape (rows,)."""
        odds = _log_odds(probabilities)
        return 1.0 / (1.0 + np.exp(-(self.slope * odds + self.intercept)))

    def to_json(self) -> dict[str, Any]:
        return {"method": "platt", "slope": self.slope, "intercept": self.intercept}

    def nodes(self, source: str, output: str) -> tuple[list[Any], list[Any]]:
        """The same as ONNX, float64 in and out."""
        numbers = {
            "lowest": _EDGE,
            "highest": 1.0 - _EDGE,
            "one": 1.0,
            "slope": self.slope,
            "intercept": self.intercept,
        }
        constants = [constant(f"map_{name}", value, np.float64) for name, value in numbers.items()]
        return [
            node("Max", [source, "map_lowest"], "map_raised"),
            node("Min", ["map_raised", "map_highest"], "map_inside"),
            node("Sub", ["map_one", "map_inside"], "map_other"),
            node("Div", ["map_inside", "map_other"], "map_odds"),
            node("Log", ["map_odds"], "map_log_odds"),
            node("Mul", ["map_log_odds", "map_slope"], "map_scaled"),
            node("Add", ["map_scaled", "map_intercept"], "map_moved"),
            node("Sigmoid", ["map_moved"], output),
        ], constants


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Straight lines between knots, level outside of them; both rise."""

    inputs: tuple[float, ...]
    outputs: tuple[float, ...]

    def apply(self, probabilities: Predictions) -> Predictions:
        """Calibrated probabilities, shape (rows,)."""
        low, high, slopes = self._pieces()
        reach = np.clip(probabilities[:, None], low, high) - low
        return np.asarray(self.outputs[0] + reach @ slopes)

    def to_json(self) -> dict[str, Any]:
        return {
            "method": "isotonic",
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
        }

    def nodes(self, source: str, output: str) -> tuple[list[Any], list[Any]]:
        """The same as ONNX, float64 in and out: how far into each piece, times its slope."""
        low, high, slopes = self._pieces()
        constants = [
            constant("map_low", low, np.float64),
            constant("map_high", high, np.float64),
            constant("map_slopes", slopes[:, None], np.float64),
            constant("map_first", self.outputs[0], np.float64),
        ]
        return [
            node("Max", [source, "map_low"], "map_raised"),
            node("Min", ["map_raised", "map_high"], "map_inside"),
            node("Sub", ["map_inside", "map_low"], "map_reach"),
            node("MatMul", ["map_reach", "map_slopes"], "map_risen"),
            node("Add", ["map_risen", "map_first"], output),
        ], constants

    def _pieces(self) -> tuple[Predictions, Predictions, Predictions]:
        knots, values = np.asarray(self.inputs), np.asarray(self.outputs)
        if len(knots) == 1:
            return knots, knots, np.zeros(1)
        return knots[:-1], knots[1:], np.diff(values) / np.diff(knots)


@dataclass(frozen=True, slots=True, eq=False)
class CalibratedModel:
    """A model and the map behind it; it has the face of the model."""

    model: Fitted
    map: Platt | Isotonic

    model_file = "model.zip"

    @property
    def estimator(self) -> Learned:
        return self.model.estimator

    @property
    def features(self) -> tuple[str, ...]:
        return self.model.features

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.model.seeds

    def predict(self, inputs: Inputs) -> Predictions:
        """Calibrated probabilities, shape (rows,)."""
        return self.map.apply(self.model.predict(inputs))

    def trees(self) -> tuple[Tree, ...]:
        return self.model.trees()

    def to_bytes(self) -> bytes:
        """A zip archive: ``calibration.json`` and the model's own file."""
        return pack(
            {
                "calibration.json": canonical_bytes(self.map.to_json()),
                self.model.model_file: self.model.to_bytes(),
            }
        )


def fit_map(
    declared: Calibration, probabilities: Predictions, rises: NDArray[np.bool_]
) -> Platt | Isotonic:
    """Fit a map to probabilities that were predicted out of sample, and to what came.

    Raises
    ------
    ContractViolation: all labels are alike.
    """
    if not 0 < rises.sum() < len(rises):
        raise ContractViolation(
            f"calibration on {len(rises)} rows of which {int(rises.sum())} rose: expected "
            "both kinds"
        )
    fitted = _platt if declared.method == "platt" else _isotonic
    return fitted(probabilities, rises)


def _platt(probabilities: Predictions, rises: NDArray[np.bool_]) -> Platt:
    up = float(rises.sum())
    down = len(rises) - up
    wanted = np.where(rises, (up + 1.0) / (up + 2.0), 1.0 / (down + 2.0))
    odds = _log_odds(probabilities)
    design = np.stack([odds, np.ones_like(odds)], axis=1)
    at = np.asarray([0.0, np.log((up + 1.0) / (down + 1.0))])

    def loss(point: NDArray[np.float64]) -> float:
        margin = design @ point
        return float(np.logaddexp(0.0, margin).sum() - wanted @ margin)

    current = loss(at)
    for _ in range(_STEPS):
        share = 1.0 / (1.0 + np.exp(-(design @ at)))
        gradient = design.T @ (share - wanted)
        if np.abs(gradient).max() < 1e-9 * len(rises):
            break
        curvature = design.T @ (design * (share * (1.0 - share))[:, None]) + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while loss(at - size * step) > current and size > 1e-10:
            size /= 2.0
        at = at - size * step
        current = loss(at)
    return Platt(float(at[0]), float(at[1]))


def _isotonic(probabilities: Predictions, rises: NDArray[np.bool_]) -> Isotonic:
    order = np.argsort(probabilities, kind="stable")
    # [sum of probabilities, rises, rows] of each pool, left to right.
    pools: list[list[float]] = []
    for rows in np.array_split(order, min(_BINS, len(order))):
        pools.append([float(probabilities[rows].sum()), float(rises[rows].sum()), float(len(rows))])
        # Pools of one place, or that fall, become one.
        while len(pools) > 1 and (
            pools[-2][1] * pools[-1][2] >= pools[-1][1] * pools[-2][2]
            or pools[-2][0] * pools[-1][2] >= pools[-1][0] * pools[-2][2]
        ):
            last = pools.pop()
            pools[-1] = [one + other for one, other in zip(pools[-1], last, strict=True)]
    # A share of all or none of some rows is no certainty.
    edge = 1.0 / (len(order) + 2.0)
    return Isotonic(
        tuple(total / rows for total, _, rows in pools),
        tuple(min(max(risen / rows, edge), 1.0 - edge) for _, risen, rows in pools),
    )


def _log_odds(probabilities: Predictions) -> Predictions:
    inside = np.clip(probabilities, _EDGE, 1.0 - _EDGE)
    return np.asarray(np.log(inside / (1.0 - inside)))


def append_map(onnx_bytes: bytes, fitted: Platt | Isotonic) -> bytes:
    """A model's ONNX file with the map behind its output, which is float64 then."""
    import onnx  # takes over a second to import

    document = onnx.load_from_string(onnx_bytes)
    graph = document.graph
    for one in graph.node:
        for place, name in enumerate(one.output):
            if name == OUTPUT:
                one.output[place] = one.name = "map_source"
    nodes, constants = fitted.nodes("map_input", OUTPUT)
    graph.node.extend([cast("map_source", "map_input", np.float64), *nodes])
    graph.initializer.extend(constants)
    graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    onnx.checker.check_model(document, full_check=True)
    return bytes(document.SerializeToString(deterministic=True))
