"""Size and power of the tests of information coefficients, under overlapping labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.statistics.information import information_coefficient, paired_information_difference
from benchmarks.size_and_power.simulated import autoregressive, below, row

DAYS = 400
NAMES = 20
HORIZON = 10
LEVEL = 0.05


def rows(repetitions: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Persistent scores against labels over ten overlapping dates, with and without an edge."""
    found: list[dict[str, Any]] = []
    dates = np.repeat(np.arange(DAYS, dtype=np.int64), NAMES)
    for edge in (0.0, 0.02):
        passed: dict[str, list[bool]] = {"lags for the overlap": [], "lags by the rule alone": []}
        paired: list[bool] = []
        for _ in range(repetitions):
            daily = generator.standard_normal((DAYS + HORIZON, NAMES))
            score = autoregressive(generator, DAYS, 0.98, NAMES)
            other = autoregressive(generator, DAYS, 0.98, NAMES)
            daily[1 : DAYS + 1] += edge * score
            summed = np.cumsum(daily, axis=0)
            label = (summed[HORIZON : HORIZON + DAYS] - summed[:DAYS]).ravel()
            for name, horizon in zip(passed, (HORIZON, 1), strict=True):
                one = information_coefficient(
                    dates, label=label, prediction=score.ravel(), horizon=horizon
                )
                passed[name].append(below(one.p_value, LEVEL))
            two = paired_information_difference(
                dates,
                label=label,
                prediction=score.ravel(),
                champion=other.ravel(),
                horizon=HORIZON,
            )
            paired.append(below(two.p_value, LEVEL))
        data = "no edge" if edge == 0.0 else f"daily edge {edge:g}"
        data += f", labels overlap {HORIZON} dates, scores AR(1) 0.98"
        for name, hits in passed.items():
            found.append(row(f"IC, Newey-West t, {name}", data, DAYS, f"p <= {LEVEL}", hits))
        found.append(row("paired IC difference", data, DAYS, f"p <= {LEVEL}", paired))
    return found
