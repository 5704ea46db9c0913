"""Rows of many instruments, grouped by date.

Instruments move together within a date, so rows are not independent observations: every statistic
here first reduces a date to one number and then treats dates as the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from assay.errors import ContractViolation

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Panel:
    """Columns of equal length whose rows are sorted by date.

    Attributes
    ----------
    dates: the distinct dates, ascending, int64 nanoseconds UTC, shape (T,).
    starts: index of each date's first row, shape (T,).
    counts: number of rows of each date, at least 1, shape (T,).
    columns: float64 arrays of shape (rows,), in the order they were given.
    """

    dates: IntArray
    starts: IntArray
    counts: IntArray
    columns: tuple[FloatArray, ...]

    def sums(self, values: FloatArray) -> FloatArray:
        """The sum of ``values`` (one per row) within each date, shape (T,)."""
        return np.add.reduceat(values, self.starts) if len(self.dates) else np.empty(0)

    def means(self, values: FloatArray) -> FloatArray:
        """The mean of ``values`` (one per row) within each date, shape (T,)."""
        return self.sums(values) / self.counts

    def spread(self, per_date: FloatArray) -> FloatArray:
        """One value per date repeated for each of its rows, shape (rows,)."""
        return np.repeat(per_date, self.counts)


def numbers_of(values: npt.ArrayLike, *, what: str) -> FloatArray:
    """``values`` as float64 of whatever shape they have; None among them becomes NaN.

    Raises
    ------
    ContractViolation: not real numbers (text, dates, complex), of no shape, too large for a float,
        or masked: a mask would be forgotten on the way, and what it hides would count.
    """
    problem = None
    if isinstance(values, np.ma.MaskedArray):
        problem = "a masked array: fill it with NaN"
    else:
        try:
            array = np.asarray(values)
            if array.dtype.kind not in "biufO" or _holds_text(array):
                problem = f"{array.dtype}"
            else:
                return array.astype(np.float64, copy=False)
        except (TypeError, ValueError, OverflowError) as error:
            problem = str(error)
    raise ContractViolation(f"{what} are no real numbers: {problem}, expected float64 or integers")


def _holds_text(array: npt.NDArray[Any]) -> bool:
    return array.dtype.kind == "O" and any(isinstance(one, str | bytes) for one in array.flat)


def columns_of(**named: npt.ArrayLike) -> dict[str, FloatArray]:
    """The named columns as float64 arrays of equal length.

    Raises
    ------
    ContractViolation: a column is not one-dimensional, no numbers, or lengths differ.
    """
    arrays = {
        name: numbers_of(values, what=f"the values of {name!r}") for name, values in named.items()
    }
    for name, array in arrays.items():
        if array.ndim != 1:
            raise ContractViolation(f"column {name!r} has shape {array.shape}: expected (rows,)")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ContractViolation(f"columns differ in length: {lengths}")
    return arrays


def dates_of(dates: npt.ArrayLike, rows: int) -> IntArray:
    """``dates`` as int64, checked to be one per row.

    Raises
    ------
    ContractViolation: not integers (floats cannot hold nanoseconds), or not of shape (rows,).
    """
    try:
        array = np.asarray(dates)
    except ValueError as error:
        raise ContractViolation(f"dates are no column: {error}, expected ({rows},)") from None
    if array.shape != (rows,):
        raise ContractViolation(f"dates have shape {array.shape}: expected ({rows},)")
    if rows and not np.issubdtype(array.dtype, np.integer):
        raise ContractViolation(f"dates are {array.dtype}: expected int64 nanoseconds since 1970")
    return array.astype(np.int64)


def group_by_date(dates: IntArray, columns: Sequence[FloatArray], keep: BoolArray) -> Panel:
    """The kept rows, sorted by date; rows of one date keep the order in which they came."""
    kept = dates[keep]
    kept_columns = [column[keep] for column in columns]
    if not is_sorted(kept):
        order = np.argsort(kept, kind="stable")
        kept = kept[order]
        kept_columns = [column[order] for column in kept_columns]
    starts = first_rows(kept)
    return Panel(
        dates=kept[starts],
        starts=starts,
        counts=np.diff(starts, append=len(kept)),
        columns=tuple(kept_columns),
    )


def count_dates(dates: IntArray) -> int:
    """How many distinct dates there are, in any order."""
    return len(first_rows(dates if is_sorted(dates) else np.sort(dates)))


def is_sorted(dates: IntArray) -> bool:
    """Whether dates never go back: tables usually come that way, and a sort is not free."""
    return bool((dates[1:] >= dates[:-1]).all())


def first_rows(dates: IntArray) -> IntArray:
    """Index of the first row of each date of a sorted column."""
    new = np.ones(len(dates), dtype=np.bool_)
    np.not_equal(dates[1:], dates[:-1], out=new[1:])
    return np.flatnonzero(new).astype(np.int64)
