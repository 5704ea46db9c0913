"""Rows of features as callers bring them: put into the model's order, or refused with a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.errors import did_you_mean
from assay.serving.models.live_model import LiveModel
from assay.serving.rejections import (
    FEATURE_COUNT,
    FEATURE_NAMES,
    FEATURE_ORDER,
    FEATURE_TYPE,
    FEATURE_VALUE,
    INCOMPLETE_FEATURES,
    Rejected,
)

_FLOAT = frozenset({float})
LARGEST = float(np.finfo(np.float32).max)
"""Models read float32: a larger number would become an infinity on the way."""

Features = Sequence[float] | NDArray[np.float64] | Mapping[str, float]
"""One row: numbers in the model's order, or by name."""
Rows = Sequence[Features] | NDArray[np.float64]
"""Several rows: one by one, or as a float64 array of shape (n, k) in the model's order."""


def check_names(names: Sequence[str] | None, columns: tuple[str, ...]) -> None:
    """Refuse names that the caller gave, where they are not the model's in its order."""
    if names is None or tuple(names) == columns:
        return
    if len(names) != len(columns):
        raise Rejected(
            FEATURE_COUNT,
            f"{len(names)} feature names: expected {len(columns)}",
            found=len(names),
            expected=len(columns),
        )
    place = next(i for i, (a, b) in enumerate(zip(names, columns, strict=True)) if a != b)
    same = sorted(names) == sorted(columns)
    raise Rejected(
        FEATURE_ORDER if same else FEATURE_NAMES,
        f"feature {place} is called {str(names[place])[:80]!r}: expected {columns[place]!r}",
        found=names[place],
        expected=columns[place],
        hint="GET /model lists the names in order; or send the features by name",
    )


def read_matrix(rows: Rows, columns: tuple[str, ...]) -> NDArray[np.float64]:
    """Rows in the model's order: float64, shape (n, k), the caller's no longer.

    Raises
    ------
    Rejected: other names or another number of features, or one that is no number.
    """
    several = len(rows) > 1
    if not isinstance(rows, np.ndarray):
        return np.array(
            [
                read_row(row, columns, f"row {place}: " if several else "")
                for place, row in enumerate(rows)
            ]
        )
    if rows.ndim != 2 or rows.dtype != np.float64:
        raise Rejected(
            FEATURE_TYPE,
            f"the rows are {rows.dtype} of shape {rows.shape}: expected float64 of shape "
            f"(n, {len(columns)})",
            found=f"{rows.dtype} {rows.shape}",
            expected=f"float64 (n, {len(columns)})",
        )
    if rows.shape[1] != len(columns):
        raise _wrong_count(rows.shape[1], columns, "row 0: " if several else "")
    return rows.copy()


def read_row(
    row: Features, columns: tuple[str, ...], where: str, *, owned: bool = False
) -> list[float]:
    """One row in the model's order; ``where`` begins the words about what is wrong with it. A list
    that is ``owned`` has floats only, and is nobody else's.

    Raises
    ------
    Rejected: other names or another number of features, or one that is no number.
    """
    if type(row) is list:  # the most frequent case, and the others take a microsecond to tell
        if len(row) != len(columns):
            raise _wrong_count(len(row), columns, where)
        if owned:
            return row
    elif isinstance(row, Mapping):
        if row.keys() != set(columns):
            raise _wrong_names(row, columns, where)
        row = [row[name] for name in columns]
    elif len(row) != len(columns):
        raise _wrong_count(len(row), columns, where)
    if isinstance(row, np.ndarray):
        row = row.tolist()
    if _FLOAT.issuperset(map(type, row)):
        return list(row)
    return [_number(value, name, where) for name, value in zip(columns, row, strict=True)]


def bad_value(
    chosen: LiveModel, matrix: NDArray[np.float64], within: NDArray[np.bool_], *, stored: bool
) -> Rejected:
    """The refusal of the first value that is not ``within`` what the model can read; ``stored``
    where it came out of a store and not from the caller.
    """
    row, column = (int(index) for index in np.argwhere(~within)[0])
    value = float(matrix[row, column])
    name = chosen.schema.names[column]
    where = f"row {row}: " if len(matrix) > 1 else ""
    if stored:
        return Rejected(
            INCOMPLETE_FEATURES,
            f"the stored feature {name} is {value}: {chosen.name} v{chosen.version} needs a number",
            found=value,
            expected="a finite number",
            hint="the instrument has too little history for this feature",
        )
    return Rejected(
        FEATURE_VALUE,
        f"{where}feature {name} is {value}: expected a finite number of float32's range",
        found=value,
        expected=f"a number from {-LARGEST:.9g} to {LARGEST:.9g}"
        if math.isfinite(value)
        else "a finite number",
    )


def _number(value: Any, name: str, where: str) -> float:
    # True is an int in Python, and no feature.
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise Rejected(
            FEATURE_TYPE,
            f"{where}feature {name} is {type(value).__name__} {str(value)[:80]!r}: expected a "
            "number",
            found=value,
            expected="a number",
        )
    try:
        return float(value)
    except OverflowError:
        raise Rejected(
            FEATURE_VALUE,
            f"{where}feature {name} is too large: expected a number of float32's range",
            found=value,
            expected=f"a number from {-LARGEST:.9g} to {LARGEST:.9g}",
        ) from None


def _wrong_count(found: int, columns: tuple[str, ...], where: str) -> Rejected:
    return Rejected(
        FEATURE_COUNT,
        f"{where}{found} features: expected {len(columns)}, from {columns[0]} to {columns[-1]}",
        found=found,
        expected=len(columns),
        hint="GET /model lists the names in order",
    )


def _wrong_names(row: Mapping[str, float], columns: tuple[str, ...], where: str) -> Rejected:
    missing = [name for name in columns if name not in row]
    unknown = [name for name in row if name not in set(columns)]
    parts = [
        f"{what} {', '.join(str(name)[:80] for name in names[:4])}"
        + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        for what, names in (("missing", missing), ("unknown", unknown))
        if names
    ]
    return Rejected(
        FEATURE_NAMES,
        f"{where}features are {'; '.join(parts)}",
        found=unknown or [str(name) for name in row],
        expected=missing or list(columns),
        hint=did_you_mean(str(unknown[0])[:80], columns) if unknown else None,
    )
