"""How far apart two columns of float64 are, in representable floats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def ulps_between(a: Values, b: Values) -> NDArray[np.uint64]:
    """How many representable floats lie between two numbers; the two zeros are one number."""
    x, y = _ordered(a), _ordered(b)
    distance: NDArray[np.uint64] = np.maximum(x, y) - np.minimum(x, y)
    return distance


def _ordered(values: Values) -> NDArray[np.uint64]:
    # Bits of floats are sign and magnitude; as unsigned offsets from zero they are in numeric
    # order.
    words = values.view(np.uint64)
    magnitude = words & np.uint64(2**63 - 1)
    middle = np.uint64(2**63)
    ordered: NDArray[np.uint64] = np.where(
        words >> np.uint64(63), middle - magnitude, middle + magnitude
    )
    return ordered
