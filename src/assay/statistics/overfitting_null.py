"""What probability of backtest overfitting independent noise has, by simulation.

For S blocks and N trials: the quantiles at 2.5 % and 97.5 %. Made by
:func:`assay.statistics.overfitting.simulate_null` with the generator ``default_rng([S, N])`` and
4,000 repetitions (2,000 for N = 200, 1,000 above; half of that for S = 16 and N >= 100). Standard
errors are about 0.01. Between the listed numbers of trials quantiles are near linear in log N;
below 10 trials odd and even numbers differ too much to go from one to the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

_TRIALS = (10, 20, 50, 100, 200, 500, 1000)

_QUANTILES: Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]] = MappingProxyType(
    {
        8: (
            (0.086, 0.114, 0.157, 0.186, 0.214, 0.229, 0.229),
            (0.943, 0.900, 0.857, 0.829, 0.786, 0.743, 0.714),
        ),
        10: (
            (0.111, 0.135, 0.155, 0.194, 0.226, 0.254, 0.266),
            (0.913, 0.877, 0.837, 0.810, 0.782, 0.746, 0.710),
        ),
        12: (
            (0.104, 0.140, 0.170, 0.209, 0.242, 0.250, 0.294),
            (0.912, 0.870, 0.832, 0.807, 0.766, 0.753, 0.709),
        ),
        14: (
            (0.103, 0.140, 0.187, 0.209, 0.229, 0.248, 0.291),
            (0.911, 0.876, 0.846, 0.796, 0.771, 0.741, 0.729),
        ),
        16: (
            (0.102, 0.135, 0.174, 0.207, 0.240, 0.265, 0.308),
            (0.921, 0.870, 0.829, 0.798, 0.753, 0.731, 0.697),
        ),
    }
)
"""By blocks: the lower and the upper quantile for each number of trials."""


def null_band(trials: int, blocks: int) -> tuple[float, float] | None:
    """Where 95 % of the probabilities of independent noise lie, interpolated in log N.

    None outside of the table: simulate instead.
    """
    quantiles = _QUANTILES.get(blocks)
    if quantiles is None or not _TRIALS[0] <= trials <= _TRIALS[-1]:
        return None
    known = np.log(_TRIALS)
    low, high = (float(np.interp(math.log(trials), known, each)) for each in quantiles)
    return low, high
