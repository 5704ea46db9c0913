"""Looking every day for 250 days: a t test of fixed size against the mixture test."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import stdtr

from assay.statistics.sequential import Side, advance, begin, frozen_variance, reading
from benchmarks.size_and_power.simulated import autoregressive, below, row

LEVEL = 0.05
DAYS = 250
HISTORY = 250
FIRST_LOOK = 5


def peeking(series: np.ndarray) -> bool:
    """Whether a two-sided t test at 5 % rejects on any day from the fifth on."""
    n = np.arange(1, len(series) + 1)
    mean = np.cumsum(series) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (np.cumsum(series**2) - n * mean**2) / (n - 1)
        t = np.abs(mean) / np.sqrt(variance / n)
    look = slice(FIRST_LOOK - 1, None)
    return bool((2 * stdtr(n[look] - 1, -t[look]) <= LEVEL).any())


def rows(repetitions: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Means of zero and of two tenths of a deviation; normal, fat-tailed, autocorrelated."""
    found: list[dict[str, Any]] = []
    draws: dict[str, Any] = {
        "independent normal": generator.standard_normal,
        "Student t, 4 degrees": lambda n: generator.standard_t(4, n) / np.sqrt(2.0),
        "AR(1) 0.3": lambda n: autoregressive(generator, n, 0.3)[:, 0],
    }
    for data, draw in draws.items():
        for mean in (0.0, 0.2):
            hits: dict[str, list[bool]] = {
                "daily t test": [],
                "mixture test, variance known": [],
                "mixture test, frozen variance": [],
                "mixture test, harm only": [],
            }
            for _ in range(repetitions):
                series = draw(HISTORY + DAYS)
                live = series[HISTORY:] - mean
                frozen = frozen_variance(series[:HISTORY]).value or 1.0
                answers = [peeking(live)]
                for variance, side in (
                    (1.0, Side.EITHER),
                    (frozen, Side.EITHER),
                    (frozen, Side.BELOW),
                ):
                    state = begin(null=0.0, variance=variance, expected=DAYS // 2, side=side)
                    answers.append(below(reading(advance(state, live)).p_value, LEVEL))
                for kept, answer in zip(hits.values(), answers, strict=True):
                    kept.append(answer)
            name = data + (f", mean -{mean:g} deviations" if mean else "")
            found += [
                row(test, name, DAYS, f"ever p <= {LEVEL}", kept) for test, kept in hits.items()
            ]
    return found
