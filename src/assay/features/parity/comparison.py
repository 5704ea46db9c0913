"""Offline against online, value by value, by bits.

Rule for missing values: a value is compared by its 64 bits. Both drivers write one canonical NaN,
so two missing values are equal, a missing and a present one are not, and neither are two NaNs with
different bits: such a NaN did not come from the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.errors import ContractViolation, did_you_mean

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class FeatureParity:
    """One feature.

    ``largest_ulp`` counts representable floats between the two values, ``largest_abs`` is in the
    feature's unit; both are over rows where both values are numbers. ``one_missing`` counts rows
    where exactly one is NaN.
    """

    name: str
    compared: int
    equal: int
    one_missing: int
    largest_ulp: int
    largest_abs: float


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs; missing values are None."""

    key: tuple[str | int, ...]
    feature: str
    offline: float | None
    online: float | None


@dataclass(frozen=True, slots=True)
class ParityReport:
    """What a comparison found.

    Attributes
    ----------
    values_compared: values in rows that both sides have.
    bitwise_equal: how many of them have equal bits.
    largest_ulp, largest_abs: over all features.
    missing, extra: rows that only offline has, and rows that only online has.
    features: one entry per feature.
    differences: the first values that differ, in the order of keys.
    """

    values_compared: int
    bitwise_equal: int
    largest_ulp: int
    largest_abs: float
    missing: int
    extra: int
    features: tuple[FeatureParity, ...]
    differences: tuple[Difference, ...]

    @property
    def share(self) -> float | None:
        """The bitwise equal share, None when nothing was compared."""
        return self.bitwise_equal / self.values_compared if self.values_compared else None

    @property
    def holds(self) -> bool:
        """Whether something was compared, every value is equal and no row is missing or extra."""
        complete = self.missing == 0 and self.extra == 0
        return complete and 0 < self.values_compared == self.bitwise_equal

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field, the share and whether parity holds."""
        return {**asdict(self), "share": self.share, "holds": self.holds}


def compare(
    offline: pl.DataFrame,
    online: pl.DataFrame,
    *,
    keys: Sequence[str],
    features: Sequence[str] | None = None,
) -> ParityReport:
    """Compare two frames of features.

    Parameters
    ----------
    keys: columns that identify a row on both sides, such as ``("instrument", "event_time")``.
    features: Float64 columns to compare; by default all Float64 columns of ``offline``.

    Raises
    ------
    ContractViolation: a column is missing or not Float64, or a key occurs twice.
    """
    names = _features(offline) if features is None else tuple(features)
    for side, frame in (("offline", offline), ("online", online)):
        _check(side, frame, keys, names)
    left = offline.select(*keys, *names).with_row_index("_offline")
    right = online.select(*keys).with_row_index("_online")
    both = left.select(*keys, "_offline").join(right, on=list(keys), how="inner").sort(*keys)
    first, second = both["_offline"].to_numpy(), both["_online"].to_numpy()
    results: list[FeatureParity] = []
    differing: list[tuple[int, str, np.float64, np.float64]] = []
    for name in names:
        a = offline[name].to_numpy()[first]
        b = online[name].to_numpy()[second]
        unequal = np.flatnonzero(a.view(np.int64) != b.view(np.int64))
        results.append(_feature(name, a, b, unequal))
        differing.extend((int(row), name, a[row], b[row]) for row in unequal[:_SHOWN])
    differing.sort(key=lambda item: item[0])
    return ParityReport(
        values_compared=sum(item.compared for item in results),
        bitwise_equal=sum(item.equal for item in results),
        largest_ulp=max((item.largest_ulp for item in results), default=0),
        largest_abs=max((item.largest_abs for item in results), default=0.0),
        missing=offline.height - both.height,
        extra=online.height - both.height,
        features=tuple(results),
        differences=tuple(
            Difference(both.select(*keys).row(row), name, _plain(x), _plain(y))
            for row, name, x, y in differing[:_SHOWN]
        ),
    )


def ulps_between(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.uint64]:
    """How many representable floats lie between two numbers; the two zeros are one number."""
    x, y = _ordered(a), _ordered(b)
    distance: NDArray[np.uint64] = np.maximum(x, y) - np.minimum(x, y)
    return distance


def _ordered(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    # Bits of floats are sign and magnitude; as unsigned offsets from zero they are in numeric
    # order.
    words = values.view(np.uint64)
    magnitude = words & np.uint64(2**63 - 1)
    middle = np.uint64(2**63)
    ordered: NDArray[np.uint64] = np.where(
        words >> np.uint64(63), middle - magnitude, middle + magnitude
    )
    return ordered


def _feature(
    name: str, a: NDArray[np.float64], b: NDArray[np.float64], unequal: NDArray[np.int64]
) -> FeatureParity:
    x, y = a[unequal], b[unequal]
    numbers = ~np.isnan(x) & ~np.isnan(y)
    ulps = ulps_between(x[numbers], y[numbers])
    with np.errstate(over="ignore", invalid="ignore"):
        distances = np.abs(x[numbers] - y[numbers])
    return FeatureParity(
        name=name,
        compared=int(a.size),
        equal=int(a.size - unequal.size),
        one_missing=int((np.isnan(x) != np.isnan(y)).sum()),
        largest_ulp=int(ulps.max(initial=0)),
        largest_abs=float(distances.max(initial=0.0)),
    )


def _plain(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def _features(frame: pl.DataFrame) -> tuple[str, ...]:
    return tuple(name for name, kind in frame.schema.items() if kind == pl.Float64)


def _check(side: str, frame: pl.DataFrame, keys: Sequence[str], features: Sequence[str]) -> None:
    for name in (*keys, *features):
        if name not in frame.columns:
            raise ContractViolation(
                f"{side} rows have no column {name!r}", hint=did_you_mean(name, frame.columns)
            )
    for name in features:
        if frame.schema[name] != pl.Float64 or frame[name].null_count():
            raise ContractViolation(
                f"{side} column {name} is {frame.schema[name]} with {frame[name].null_count()} "
                "nulls, expected Float64 with NaN for missing"
            )
    if frame.select(*keys).is_duplicated().any():
        raise ContractViolation(f"{side} rows: a key {tuple(keys)} occurs twice")
