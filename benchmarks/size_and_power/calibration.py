"""Size and power of the calibration error and the reliability diagram."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from assay.statistics.calibration import calibration_line
from assay.statistics.reliability import calibration_error, reliability_curve
from benchmarks.size_and_power.simulated import below, row

LEVEL = 0.05
SIMULATIONS = 199
NAIVE = 0.05
"""A limit on the plain error that looks sensible and is not."""


def rows(repetitions: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Perfectly calibrated probabilities near one half, and overconfident ones."""
    found: list[dict[str, Any]] = []
    for n in (250, 1000, 5000):
        for data, slope in (("calibrated", 1.0), ("log odds 1.5 times too large", 1.5)):
            hits: dict[str, list[bool]] = {
                f"plain error > {NAIVE}": [],
                "error, simulated null": [],
                "debiased squared error > 0.0025": [],
                "reliability diagram, largest bin": [],
                "calibration line, likelihood ratio": [],
            }
            for _ in range(repetitions):
                said = generator.normal(0.0, 0.5, n)
                y = (generator.random(n) < expit(said / slope)).astype(np.float64)
                p = expit(said)
                error = calibration_error(y, p, generator=generator, simulations=SIMULATIONS)
                curve = reliability_curve(y, p, generator=generator, simulations=SIMULATIONS)
                answers = (
                    (error.value or 0.0) > NAIVE,
                    below(error.p_value, LEVEL),
                    error.details["debiased_squared"] > 0.0025,
                    below(curve.p_value, LEVEL),
                    below(calibration_line(y, p).p_value, LEVEL),
                )
                for kept, answer in zip(hits.values(), answers, strict=True):
                    kept.append(answer)
            found += [
                row(name, data, n, f"p <= {LEVEL}" if ">" not in name else "as named", kept)
                for name, kept in hits.items()
            ]
    return found
