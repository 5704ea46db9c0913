"""False discovery rates over correlated features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import ndtr

from assay.statistics.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm
from benchmarks.size_and_power.simulated import row

TESTS = 100
REAL = 10
EDGE = 3.5
LEVEL = 0.10


def rows(repetitions: int, generator: np.random.Generator) -> list[dict[str, Any]]:
    """``pass_rate`` is the mean share of false rejections among all, or of real ones found."""
    found: list[dict[str, Any]] = []
    procedures = {
        "Benjamini-Hochberg": benjamini_hochberg,
        "Benjamini-Yekutieli": benjamini_yekutieli,
        "Holm": holm,
    }
    for data, share, turned in (
        ("independent", 0.0, False),
        ("correlation 0.5", 0.5, False),
        ("correlation 0.9", 0.9, False),
        ("correlation 0.5, every other sign turned", 0.5, True),
    ):
        false: dict[str, list[float]] = {name: [] for name in procedures}
        power: dict[str, list[float]] = {name: [] for name in procedures}
        signs = np.where(np.arange(TESTS) % 2, -1.0, 1.0) if turned else np.ones(TESTS)
        for _ in range(repetitions):
            z = math.sqrt(share) * generator.standard_normal() * signs
            z = z + math.sqrt(1 - share) * generator.standard_normal(TESTS)
            z[:REAL] += EDGE
            p = ndtr(-z)
            for name, procedure in procedures.items():
                rejected = procedure(p, level=LEVEL).rejected
                total = int(rejected.sum())
                false[name].append(float(rejected[REAL:].sum()) / max(total, 1))
                power[name].append(float(rejected[:REAL].mean()))
        for name in procedures:
            for what, values in (("share of false alarms", false), ("real ones found", power)):
                one = row(f"{name}, {what}", data, TESTS, f"{LEVEL:g}", [])
                one["pass_rate"] = float(np.mean(values[name]))
                one["standard_error"] = float(np.std(values[name]) / math.sqrt(repetitions))
                one["repetitions"] = repetitions
                found.append(one)
    return found
