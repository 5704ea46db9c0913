"""Size and power of Sharpe ratios, deflation, overfitting, data snooping and paired differences.

    python -m benchmarks.size_and_power.sharpe_family 300

Each repetition draws one table of returns, four years of days by twenty trials, and asks every
gate about it: does the trial with the best Sharpe ratio pass? A row with an edge gives one of the
twenty trials a true annual ratio; a pass counts there only if it is that trial that passes (PBO
has no trial: it passes or not). The rows "single" judge one trial that was not chosen.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from assay.statistics.deflated import Trials, deflated_sharpe
from assay.statistics.difference import mean_difference, sharpe_difference
from assay.statistics.overfitting import probability_of_overfitting
from assay.statistics.sharpe import psr
from assay.statistics.superior import reality_check, stepwise_superior, superior_ability

YEAR = 252
DAYS = 4 * YEAR
TRIALS = 20
RESAMPLES = 199
SHORT = YEAR

Noise = Callable[[np.random.Generator, int, int], np.ndarray]


def common(share: float) -> Noise:
    """Normal returns, each pair of trials with correlation ``share``."""

    def draw(generator: np.random.Generator, days: int, trials: int) -> np.ndarray:
        own = generator.standard_normal((days, trials))
        shared = generator.standard_normal((days, 1))
        return math.sqrt(share) * shared + math.sqrt(1 - share) * own

    return draw


def persistent(rho: float) -> Noise:
    """AR(1) returns of variance 1."""

    def draw(generator: np.random.Generator, days: int, trials: int) -> np.ndarray:
        shocks = generator.standard_normal((days + 50, trials))
        for t in range(1, len(shocks)):
            shocks[t] = rho * shocks[t - 1] + math.sqrt(1 - rho * rho) * shocks[t]
        return shocks[50:]

    return draw


def fat_tailed(generator: np.random.Generator, days: int, trials: int) -> np.ndarray:
    """Student t with 4 degrees of freedom, variance 1."""
    return generator.standard_t(4, (days, trials)) / math.sqrt(2)


def crashing(generator: np.random.Generator, days: int, trials: int) -> np.ndarray:
    """Small gains and rare large losses: skewness -2, kurtosis 9."""
    return 1.0 - generator.standard_exponential((days, trials))


NOISE: dict[str, Noise] = {
    "independent": common(0.0),
    "correlated 0.5": common(0.5),
    "correlated 0.9": common(0.9),
    "AR(1) 0.2": persistent(0.2),
    "Student t, 4 degrees": fat_tailed,
    "skewness -2": crashing,
}
EDGES = (0.5, 1.0, 2.0)


def rows(repetitions: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """All rows; about 0.15 s for each repetition of each of the nine kinds of data."""
    found: list[dict[str, Any]] = []
    for name, draw in NOISE.items():
        tables = (draw(generator, DAYS, TRIALS) for _ in range(repetitions))
        found += _rates(f"noise, {name}", _judged(tables, generator))
    for edge in EDGES:
        found += _rates(
            f"annual Sharpe {edge:g} in one of {TRIALS}, independent",
            _judged(_with_edge(repetitions, edge, generator), generator, real=0),
        )
    for edge in (0.0, *EDGES):
        for correlation in (0.5, 0.9):
            found += _rates(
                f"annual Sharpe difference {edge:g}, pair correlated {correlation:g}",
                _compared(repetitions, edge, common(correlation), generator),
            )
    for name, draw in {"AR(1) 0.2": persistent(0.2), "Student t, 4 degrees": fat_tailed}.items():
        found += _rates(f"no difference, {name}", _compared(repetitions, 0.0, draw, generator))
    return found


Verdicts = Iterator[dict[tuple[str, int, str], bool]]
"""For each repetition: (test, n, threshold) to whether it passed."""


def _with_edge(
    repetitions: int, edge: float, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    for _ in range(repetitions):
        table = generator.standard_normal((DAYS, TRIALS))
        table[:, 0] += edge / math.sqrt(YEAR)
        yield table


def _judged(
    tables: Iterator[np.ndarray], generator: np.random.Generator, real: int | None = None
) -> Verdicts:
    for table in tables:
        days = len(table)
        ratios = table.mean(axis=0) / table.std(axis=0, ddof=1)
        best = int(np.argmax(ratios))
        fair = real is None or best == real
        verdicts = {}
        for size in (SHORT, days):
            single = psr(table[:size, 0]).details
            for form in ("2012", "2025", "hac"):
                value = single[f"psr_{form}"]
                verdicts[f"PSR {form}, single", size, "> 0.95"] = value > 0.95
        trials = Trials.of(table)
        assert isinstance(trials, Trials)
        for counting in ("raw", "effective"):
            deflated = deflated_sharpe(table[:, best], trials=trials, counting=counting).details
            for form in ("2014", "2025"):
                value = deflated[f"dsr_{form}_{counting}"]
                for threshold in (0.5, 0.95):
                    key = (f"DSR {form}, {counting}", days, f"> {threshold:g}")
                    verdicts[key] = fair and value > threshold
            p_value = deflated["sidak_p_value"]
            for level in (0.05, 0.1):
                key = (f"Sidak, {counting}", days, f"p <= {level:g}")
                verdicts[key] = fair and p_value <= level
        overfitting = probability_of_overfitting(table)
        assert overfitting.value is not None
        for threshold in (0.1, 0.2, 0.5):
            verdicts["PBO", days, f"< {threshold:g}"] = overfitting.value < threshold
        verdicts |= _snooped(table, generator, real)
        yield verdicts


def _snooped(
    table: np.ndarray, generator: np.random.Generator, real: int | None
) -> dict[tuple[str, int, str], bool]:
    days = len(table)
    superior = superior_ability(table, generator=generator, resamples=RESAMPLES)
    published = superior_ability(table, generator=generator, resamples=RESAMPLES, spread="sample")
    white = reality_check(table, generator=generator, resamples=RESAMPLES)
    verdicts = {}
    for level in (0.05, 0.1):
        stepped = stepwise_superior(
            table, generator=generator, resamples=RESAMPLES, level=level
        ).superior
        threshold = f"p <= {level:g}"
        for which in ("lower", "consistent", "upper"):
            verdicts[f"SPA, {which}", days, threshold] = (
                real is None or superior.best == real
            ) and getattr(superior, which) <= level
        verdicts["SPA, consistent, spread of the sample", days, threshold] = (
            real is None or published.best == real
        ) and (published.p_value or 1.0) <= level
        verdicts["Reality check", days, threshold] = (
            real is None or white.details["best_model"] == real
        ) and (white.p_value or 1.0) <= level
        # Without an edge any model found is a false one; with one, that model must be found.
        verdicts["StepM", days, threshold] = bool(stepped) if real is None else real in stepped
        if real is not None:
            verdicts["StepM, any false one", days, threshold] = any(k != real for k in stepped)
    return verdicts


def _compared(
    repetitions: int, edge: float, draw: Noise, generator: np.random.Generator
) -> Verdicts:
    for _ in range(repetitions):
        pair = draw(generator, DAYS, 2)
        pair[:, 0] += edge / math.sqrt(YEAR)
        ratio = sharpe_difference(pair[:, 0], pair[:, 1], generator=generator, resamples=RESAMPLES)
        mean = mean_difference(pair[:, 0], pair[:, 1], generator=generator, resamples=RESAMPLES)
        found = {
            "Sharpe difference, bootstrap": ratio.p_value,
            "Sharpe difference, Jobson-Korkie-Memmel": (
                ratio.details["jobson_korkie_memmel_p_value"]
            ),
            "Mean difference, bootstrap": mean.p_value,
            "Mean difference, Newey-West": mean.details["newey_west_p_value"],
        }
        yield {
            (test, DAYS, f"p <= {level:g}"): (1.0 if p_value is None else p_value) <= level
            for test, p_value in found.items()
            for level in (0.05, 0.1)
        }


def _rates(data: str, verdicts: Verdicts) -> list[dict[str, Any]]:
    passes: defaultdict[tuple[str, int, str], list[bool]] = defaultdict(list)
    for each in verdicts:
        for key, passed in each.items():
            passes[key].append(passed)
    found = []
    for (test, size, threshold), outcomes in passes.items():
        rate = float(np.mean(outcomes))
        found.append(
            {
                "test": test,
                "data": data,
                "n": size,
                "threshold": threshold,
                "pass_rate": rate,
                "standard_error": math.sqrt(rate * (1 - rate) / len(outcomes)),
                "repetitions": len(outcomes),
            }
        )
    return found


if __name__ == "__main__":
    for row in rows(int(sys.argv[1]), np.random.default_rng(20_261_121)):
        sys.stdout.write(json.dumps(row) + "\n")
