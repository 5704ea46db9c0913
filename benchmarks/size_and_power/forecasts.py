"""Size and power of comparisons of forecasts and of value at risk."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtri

from assay.statistics.coverage import christoffersen, kupiec
from assay.statistics.forecasts import diebold_mariano, mincer_zarnowitz, qlike
from benchmarks.size_and_power.simulated import autoregressive, below, row

LEVEL = 0.05
TAIL = 0.05


def rows(repetitions: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Forecasts equally noisy and not; value at risk that is right, too low, clustered."""
    return [
        *_comparisons(repetitions, generator),
        *_coverage(repetitions, generator),
    ]


def _comparisons(repetitions: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for n in (60, 250, 1000):
        hits: dict[str, list[bool]] = {"equal": [], "noisier": [], "joint": [], "biased": []}
        for _ in range(repetitions):
            sigma = np.exp(0.4 * autoregressive(generator, n, 0.95)[:, 0])
            realised = (sigma * generator.standard_normal(n)) ** 2
            one, two = sigma * np.exp(0.2 * generator.standard_normal((2, n)))
            worse = sigma * np.exp(0.5 * generator.standard_normal(n))
            loss = qlike(realised, one)
            hits["equal"].append(below(diebold_mariano(loss, qlike(realised, two)).p_value, LEVEL))
            hits["noisier"].append(
                below(diebold_mariano(loss, qlike(realised, worse)).p_value, LEVEL)
            )
            dates = np.arange(n, dtype=np.int64)
            for name, scale in (("joint", 1.0), ("biased", 1.15)):
                line = mincer_zarnowitz(dates, realised=realised, forecast=scale * sigma)
                hits[name].append(below(line.p_value, LEVEL))
        test, limit = "Diebold-Mariano, QLIKE", f"p <= {LEVEL}"
        found += [
            row(test, "equally noisy forecasts", n, limit, hits["equal"]),
            row(test, "noise 0.2 against 0.5", n, limit, hits["noisier"]),
            row("Mincer-Zarnowitz, joint", "true volatility", n, limit, hits["joint"]),
            row("Mincer-Zarnowitz, joint", "volatility 15 % high", n, limit, hits["biased"]),
        ]
    return found


def _coverage(repetitions: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    quantile = float(ndtri(TAIL))
    for n in (250, 1000):
        for data, scale, clustered in (
            ("right share, independent", 1.0, 0.0),
            ("volatility 20 % low", 1.25, 0.0),
            ("right share, volatility clusters", 1.0, 0.5),
        ):
            kept: dict[str, list[bool]] = {"Kupiec": [], "Christoffersen": []}
            for _ in range(repetitions):
                level = clustered * autoregressive(generator, n, 0.97)[:, 0]
                returns = scale * np.exp(level) * generator.standard_normal(n)
                # The share is the right one on average over the clusters, not within them.
                limit = np.quantile(returns, TAIL) if clustered else quantile
                exceeded = (returns < limit).astype(np.float64)
                for name, test in (("Kupiec", kupiec), ("Christoffersen", christoffersen)):
                    kept[name].append(below(test(exceeded, level=TAIL).p_value, LEVEL))
            for name, hits in kept.items():
                found.append(row(name, data, n, f"p <= {LEVEL}", hits))
    return found
