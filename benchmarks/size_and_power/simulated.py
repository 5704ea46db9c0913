"""What the simulations of several families share: persistent series, and a row of results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def autoregressive(
    generator: np.random.Generator, size: int, rho: float, columns: int = 1
) -> np.ndarray:
    """Gaussian AR(1) of variance 1 from its stationary law, shape (size, columns)."""
    # Takes a second to import, which whoever only reads this file need not wait for.
    from scipy.signal import lfilter

    shocks = generator.standard_normal((size, columns))
    shocks[1:] *= math.sqrt(1 - rho * rho)
    return np.asarray(lfilter([1.0], [1.0, -rho], shocks, axis=0))


def row(test: str, data: str, n: int, threshold: str, passed: Sequence[bool]) -> dict[str, Any]:
    """The rate at which ``passed`` is true, with its standard error."""
    count = len(passed)
    rate = float(np.mean(passed)) if count else math.nan
    return {
        "test": test,
        "data": data,
        "n": n,
        "threshold": threshold,
        "pass_rate": rate,
        "standard_error": math.sqrt(rate * (1 - rate) / count) if count else math.nan,
        "repetitions": count,
    }


def below(p_value: float | None, level: float) -> bool:
    """Whether a test rejects; one without a p-value does not."""
    return p_value is not None and p_value <= level
