"""How far apart two columns of float64 are: in representable floats, and as distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def ulps_between(a: Values, b: Values) -> NDArray[np.uint64]:
    """How many representable floats lie between two numbers; the two zeros are one number."""
    x, y = _ordered(a), _ordered(b)
    distance: NDArray[np.uint64] = np.maximum(x, y) - np.minimum(x, y)
    return distance


def wasserstein(a: Values, b: Values) -> float | None:
    """The first Wasserstein distance of two samples, in their unit; NaN does not count.

    The area between the two empirical distribution functions (Vallender 1974). Infinities of one
    sign that take equal shares of both samples are no distance; otherwise the distance is infinite.
    None where a sample has no number.
    """
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not (a.size and b.size):
        return None
    for sign in (np.inf, -np.inf):
        # Compared as products: two shares may be equal without being equal floats.
        if int((a == sign).sum()) * b.size != int((b == sign).sum()) * a.size:
            return float("inf")
    shares = np.isfinite(a).mean()
    a, b = np.sort(a[np.isfinite(a)]), np.sort(b[np.isfinite(b)])
    if not a.size:
        return 0.0
    places = np.sort(np.concatenate([a, b]))
    below_a = np.searchsorted(a, places[:-1], side="right") / a.size
    below_b = np.searchsorted(b, places[:-1], side="right") / b.size
    with np.errstate(over="ignore"):
        # The widths first are halved: the whole range of floats is wider than the largest float.
        widths = places[1:] / 2 - places[:-1] / 2
        return float(2 * shares * (np.abs(below_a - below_b) * widths).sum())


def spread(values: Values) -> float | None:
    """The standard deviation of the finite values (population); None where there is none.

    Exactly zero for equal values, whatever their mean rounds to.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    low, high = finite.min(), finite.max()
    if low == high:
        return 0.0
    # Scaled by the largest: the square of a large or small number leaves the range of floats.
    scale = max(abs(low), abs(high))
    return float((finite / scale).std() * scale)


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
