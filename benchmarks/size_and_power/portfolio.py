"""How often the controls of a backtest let noise through, and how often they see an edge.

The signal is noise with some autocorrelation; an edge gives it a correlation with the return that
follows its trade. A control passes a signal when its p-value is at most the level.
"""

from __future__ import annotations

import math

import numpy as np

from assay.validation.backtest import Costs, Market, label_shuffle, random_signals, simulate

DAYS, NAMES, LEVEL = 250, 10, 0.10
COSTS = Costs(basis_points=1.0, exposure_cap=1.0, min_names=2)
CASES = {
    "noise, independent": (0.0, 0.0, "normal"),
    "noise, autocorrelation 0.9": (0.9, 0.0, "normal"),
    "noise, autocorrelation 0.9, t4 returns": (0.9, 0.0, "t4"),
    "edge, daily IC 0.03": (0.5, 0.03, "normal"),
    "edge, daily IC 0.08": (0.5, 0.08, "normal"),
}


def rows(repetitions: int, generator: np.random.Generator) -> list[dict[str, object]]:
    """One row per control and case: the share of repetitions in which it passed."""
    found: list[dict[str, object]] = []
    for case, (persistence, skill, tails) in CASES.items():
        passed = {"label_shuffle": 0, "random_signals": 0}
        for _ in range(repetitions):
            market = _market(persistence, skill, tails, generator)
            book = simulate(market, COSTS)
            shuffled = label_shuffle(market, book, generator=generator)
            passed["label_shuffle"] += shuffled["p_value"] <= LEVEL
            compared = random_signals(market, book, generator=generator)
            passed["random_signals"] += (compared["p_value"] or 1.0) <= LEVEL
        for test, count in passed.items():
            rate = count / repetitions
            found.append(
                {
                    "test": test,
                    "data": case,
                    "n": DAYS,
                    "level": LEVEL,
                    "pass_rate": rate,
                    "standard_error": math.sqrt(rate * (1 - rate) / repetitions),
                    "repetitions": repetitions,
                }
            )
    return found


def _market(persistence: float, skill: float, tails: str, generator: np.random.Generator) -> Market:
    scores = generator.standard_normal((DAYS, NAMES))
    scale = math.sqrt(1 - persistence**2)
    for day in range(1, DAYS):
        scores[day] = persistence * scores[day - 1] + scale * scores[day]
    shape = (DAYS, NAMES)
    shocks = (
        generator.standard_t(4, shape) / math.sqrt(2)
        if tails == "t4"
        else generator.standard_normal(shape)
    )
    returns = 0.01 * (skill * scores + math.sqrt(1 - skill**2) * shocks)
    return Market(np.arange(DAYS, dtype=np.int64), scores, returns)
