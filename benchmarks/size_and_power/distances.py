"""False alarms of drift tests on persistent features, with and without effective sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.statistics.distances import kolmogorov_smirnov
from assay.statistics.effective import effective_size
from assay.statistics.profile import drift, profile
from benchmarks.size_and_power.simulated import autoregressive, below, row

LEVEL = 0.05
REFERENCE = 1000
CURRENT = 250
PERSISTENCE = (0.0, 0.5, 0.9, 0.95, 0.99)


def rows(repetitions: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Two stretches of one AR(1) feature; then one of which has moved by half a deviation."""
    found: list[dict[str, Any]] = []
    for rho in PERSISTENCE:
        for shift in (0.0, 0.5):
            hits: dict[str, list[bool]] = {
                "KS, rows": [],
                "KS, effective rows": [],
                "KS, stored profile": [],
                "PSI > 0.1": [],
                "PSI, null at effective rows": [],
                "PSI > max(0.1, null's 99 %)": [],
            }
            for _ in range(repetitions):
                first = autoregressive(generator, REFERENCE, rho)[:, 0]
                second = autoregressive(generator, CURRENT, rho)[:, 0] + shift
                kept = profile(first)
                now = drift(kept, second)
                sizes = (effective_size(first), effective_size(second))
                one = kolmogorov_smirnov(first, second)
                two = kolmogorov_smirnov(
                    first, second, effective_reference=sizes[0], effective_current=sizes[1]
                )
                psi = now.psi.value or 0.0
                answers = (
                    below(one.p_value, LEVEL),
                    below(two.p_value, LEVEL),
                    below(now.ks.p_value, LEVEL),
                    psi > 0.1,
                    below(now.psi.p_value, LEVEL),
                    psi > max(0.1, now.psi.details["null_quantile"] or np.inf),
                )
                for alarms, answer in zip(hits.values(), answers, strict=True):
                    alarms.append(answer)
            data = f"AR(1) {rho:g}" + (f", moved by {shift:g} deviations" if shift else "")
            found += [
                row(name, data, CURRENT, "as named" if ">" in name else f"p <= {LEVEL}", alarms)
                for name, alarms in hits.items()
            ]
    return found
