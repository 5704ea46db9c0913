"""What may be measured: arrays that are long enough, complete and finite, or why they are not.

A missing value is never dropped or filled here. Dropping one date of one series would break the
pairing of the others, and dropping a model because it has holes would flatter those that are left.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from assay.errors import ContractViolation
from assay.statistics.hac import MIN_DATES
from assay.statistics.panel import BoolArray, FloatArray, numbers_of

ROUNDING = 64 * float(np.finfo(np.float64).eps)
"""Values that differ by no more than this share of their size differ by rounding only."""

_SMALLEST = 1e-200


def series_of(values: npt.ArrayLike, *, what: str = "returns") -> FloatArray | str:
    """``values`` as float64 of shape (T,), or in words why they cannot be measured.

    At least :data:`~assay.statistics.hac.MIN_DATES` values, all finite, not constant; their squares
    must neither overflow nor vanish.

    Raises
    ------
    ContractViolation: not one-dimensional, or no numbers.
    """
    array = numbers_of(values, what=what)
    if array.ndim != 1:
        raise ContractViolation(f"{what} have shape {array.shape}: expected (T,)")
    problem = _problem(array[:, None], what)
    if problem is not None:
        return problem
    if varying(array[:, None])[0]:
        return array
    return f"the {what} never vary: they are {float(array[0]):.6g} on every date"


def matrix_of(values: npt.ArrayLike, *, what: str) -> FloatArray | str:
    """``values`` as float64 of shape (T, N) with N >= 1, or why they cannot be measured.

    As :func:`series_of`, except that columns may be constant: what that means is the caller's.

    Raises
    ------
    ContractViolation: not two-dimensional, or no numbers.
    """
    array = numbers_of(values, what=what)
    if array.ndim != 2:
        raise ContractViolation(f"{what} have shape {array.shape}: expected (T dates, N)")
    if array.shape[1] == 0:
        return f"there are no {what}"
    return _problem(array, what) or array


def varying(matrix: FloatArray) -> BoolArray:
    """Which columns vary by more than their own rounding, shape (N,)."""
    size = np.abs(matrix).max(axis=0, initial=0.0)
    spread = np.ptp(matrix, axis=0) if len(matrix) else np.zeros(matrix.shape[1])
    with np.errstate(over="ignore", under="ignore"):
        # The second condition: so small that their squares vanish, or have no digits left.
        return np.asarray((spread > ROUNDING * size) & (spread * spread > _SMALLEST))


def _problem(array: FloatArray, what: str) -> str | None:
    size = len(array)
    if size < MIN_DATES:
        return f"{size} dates of {what}: at least {MIN_DATES} are needed"
    finite = np.isfinite(array)
    if not finite.all():
        where = f" in {int((~finite).any(axis=0).sum())} columns" if array.shape[1] > 1 else ""
        return f"{int((~finite).sum())} of {finite.size} {what} are missing or infinite{where}"
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isfinite(np.square(np.abs(array).max()) * size):
            return f"the {what} are too large: their squares overflow"
    return None
