"""What probability of backtest overfitting independent noise has, by simulation.

For S blocks and N trials: the quantiles at 2.5 % and 97.5 %. Made by
:func:`assay.statistics.overfitting.simulate_null` with the generator ``default_rng([S, N])`` and
4,000 repetitions (2,000 for N = 200, 1,000 above). Standard errors are below 0.01. Ratios of
quantiles between the listed numbers of trials are near linear in log N; below 10 trials odd and
even numbers differ too much to go from one to the other.
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
            (0.071, 0.114, 0.157, 0.186, 0.214, 0.243, 0.229),
            (0.929, 0.900, 0.857, 0.829, 0.800, 0.743, 0.722),
        ),
        10: (
            (0.111, 0.135, 0.171, 0.194, 0.218, 0.260, 0.250),
            (0.913, 0.885, 0.837, 0.818, 0.786, 0.746, 0.732),
        ),
        12: (
            (0.106, 0.142, 0.172, 0.208, 0.249, 0.251, 0.295),
            (0.904, 0.875, 0.832, 0.807, 0.767, 0.760, 0.709),
        ),
        14: (
            (0.096, 0.142, 0.190, 0.198, 0.238, 0.249, 0.289),
            (0.902, 0.871, 0.841, 0.796, 0.770, 0.746, 0.729),
        ),
        16: (
            (0.097, 0.140, 0.187, 0.207, 0.240, 0.265, 0.308),
            (0.911, 0.875, 0.833, 0.798, 0.753, 0.731, 0.697),
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
