"""Offline against online, value by value, by bits.

Rule for missing values: a value is compared by its 64 bits. Both drivers write one canonical NaN,
so two missing values are equal, a missing and a present one are not, and neither are two NaNs with
different bits: such a NaN did not come from the kernel. A table can also hold a null, which is no
NaN: the two are told apart and counted on their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.errors import ContractViolation, did_you_mean
from assay.features.parity.distances import ulps_between
from assay.statistics.distances import spread, wasserstein

SHOWN = 10
"""Rows that a report names, unless it is told otherwise."""

# How bad a difference is, for the order in which rows are shown: a distance in floats lies between.
_MISSING_BADNESS, _BITS_BADNESS = 2.0**65, 0.5


class DifferenceKind(StrEnum):
    """In what two values differ."""

    NUMBERS = "numbers"
    ONE_MISSING = "one missing"
    NAN_AGAINST_NULL = "NaN against null"
    BITS_OF_NAN = "bits of NaN"
    SIGN_OF_ZERO = "sign of zero"


@dataclass(frozen=True, slots=True)
class FeatureParity:
    """One feature.

    Attributes
    ----------
    compared, equal: values in rows that both sides have, and those with equal bits.
    one_missing: rows where exactly one side is missing (NaN or null).
    nan_against_null: rows where both are missing, one as NaN, the other as null.
    largest_ulp: representable floats between the two values, over rows where both are numbers.
    largest_abs: the same in the feature's unit.
    distance: first Wasserstein distance between all rows of either side, in the feature's unit;
        None where a side has no number.
    spread: standard deviation of the offline side, the reference; None where it has no number.
    """

    name: str
    compared: int
    equal: int
    one_missing: int
    largest_ulp: int
    largest_abs: float
    nan_against_null: int = 0
    distance: float | None = None
    spread: float | None = None

    @property
    def degenerate(self) -> bool:
        """Whether the reference does not vary, so that no distance can be told in its spreads."""
        return not self.spread

    @property
    def wasserstein(self) -> float | None:
        """The distance in units of the reference's spread; None where that cannot be told."""
        if self.distance is None or not self.spread:
            return None
        return self.distance / self.spread

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field; infinities become text."""
        document = {**asdict(self), "wasserstein": self.wasserstein, "degenerate": self.degenerate}
        return {name: plain_number(value) for name, value in document.items()}


@dataclass(frozen=True, slots=True)
class Difference:
    """The worst value of a row that differs; missing values are None.

    ``ulp`` is None unless both are numbers; ``others`` counts the row's other features that differ.
    """

    key: tuple[str | int, ...]
    feature: str
    offline: float | None
    online: float | None
    kind: DifferenceKind = DifferenceKind.NUMBERS
    ulp: int | None = None
    others: int = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field; infinities become text."""
        document = {**asdict(self), "key": list(self.key), "kind": str(self.kind)}
        return {name: plain_number(value) for name, value in document.items()}


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
    differences: rows that differ, each with its worst value; the worst rows first, in equal cases
        in the order of keys; a bounded number.
    missing_keys, extra_keys: the first rows that one side lacks, in the order of keys; as bounded.
    """

    values_compared: int
    bitwise_equal: int
    largest_ulp: int
    largest_abs: float
    missing: int
    extra: int
    features: tuple[FeatureParity, ...]
    differences: tuple[Difference, ...]
    missing_keys: tuple[tuple[str | int, ...], ...] = ()
    extra_keys: tuple[tuple[str | int, ...], ...] = ()

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
        return {
            "values_compared": self.values_compared,
            "bitwise_equal": self.bitwise_equal,
            "share": self.share,
            "largest_ulp": self.largest_ulp,
            "largest_abs": plain_number(self.largest_abs),
            "missing": self.missing,
            "extra": self.extra,
            "features": [one.to_json() for one in self.features],
            "differences": [one.to_json() for one in self.differences],
            "missing_keys": [list(key) for key in self.missing_keys],
            "extra_keys": [list(key) for key in self.extra_keys],
            "holds": self.holds,
        }


def plain_number(value: Any) -> Any:
    """A value as JSON can hold it: infinities as text, NaN as None."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def compare(
    offline: pl.DataFrame,
    online: pl.DataFrame,
    *,
    keys: Sequence[str],
    features: Sequence[str] | None = None,
    shown: int = SHOWN,
) -> ParityReport:
    """Compare two frames of features.

    Parameters
    ----------
    keys: columns that identify a row on both sides, such as ``("instrument", "event_time")``.
    features: Float64 columns to compare; by default all Float64 columns of ``offline``.
    shown: how many differing, missing and extra rows the report names.

    Raises
    ------
    ContractViolation: a column is missing or not Float64, or a key occurs twice.
    """
    names = _features(offline) if features is None else tuple(features)
    for side, frame in (("offline", offline), ("online", online)):
        _check(side, frame, keys, names)
    left = offline.select(*keys).with_row_index("_offline")
    right = online.select(*keys).with_row_index("_online")
    both = left.join(right, on=list(keys), how="inner").sort(*keys)
    first, second = both["_offline"].to_numpy(), both["_online"].to_numpy()
    complete = offline.height == both.height == online.height
    worst = _WorstRows(both.height)
    results = []
    for number, name in enumerate(names):
        a, b = _Column(offline[name]), _Column(online[name])
        pairs = _Pairs(a.values[first], b.values[second], a.null[first], b.null[second])
        worst.add(number, pairs)
        results.append(_feature(name, a, b, pairs, alike=complete and not pairs.unequal.size))
    return ParityReport(
        values_compared=sum(item.compared for item in results),
        bitwise_equal=sum(item.equal for item in results),
        largest_ulp=max((item.largest_ulp for item in results), default=0),
        largest_abs=max((item.largest_abs for item in results), default=0.0),
        missing=offline.height - both.height,
        extra=online.height - both.height,
        features=tuple(results),
        differences=tuple(
            Difference(both.select(*keys).row(row), names[number], *found, others=others)
            for row, number, found, others in worst.first(shown)
        ),
        missing_keys=_only(left, right, keys, shown),
        extra_keys=_only(right, left, keys, shown),
    )


class _Column:
    """A column's values, with NaN where it has nulls, and where it has them."""

    def __init__(self, column: pl.Series) -> None:
        self.null = column.is_null().to_numpy()
        self.values = np.ascontiguousarray(column.fill_null(float("nan")).to_numpy())


class _Pairs:
    """A feature's values in the rows that both sides have."""

    def __init__(
        self,
        a: NDArray[np.float64],
        b: NDArray[np.float64],
        null_a: NDArray[np.bool_],
        null_b: NDArray[np.bool_],
    ) -> None:
        self.count = a.size
        same = (a.view(np.int64) == b.view(np.int64)) & (null_a == null_b)
        self.unequal = np.flatnonzero(~same)
        self.a, self.b = a[self.unequal], b[self.unequal]
        missing_a, missing_b = np.isnan(self.a), np.isnan(self.b)
        self.one_missing = missing_a != missing_b
        self.numbers = ~missing_a & ~missing_b
        self.null_differs = missing_a & missing_b & (null_a != null_b)[self.unequal]
        self.ulps = np.zeros(self.unequal.size, dtype=np.uint64)
        self.ulps[self.numbers] = ulps_between(self.a[self.numbers], self.b[self.numbers])

    @property
    def badness(self) -> NDArray[np.float64]:
        """How bad each difference is: a number that is missing, then distance, then mere bits."""
        far = np.where(self.numbers, self.ulps.astype(np.float64) + 1, _BITS_BADNESS)
        return np.where(self.one_missing, _MISSING_BADNESS, far)

    def at(self, place: int) -> tuple[float | None, float | None, DifferenceKind, int | None]:
        """One difference, as :class:`Difference` holds it."""
        x, y, ulp = float(self.a[place]), float(self.b[place]), None
        if self.one_missing[place]:
            kind = DifferenceKind.ONE_MISSING
        elif self.numbers[place]:
            ulp = int(self.ulps[place])
            kind = DifferenceKind.NUMBERS if ulp else DifferenceKind.SIGN_OF_ZERO
        elif self.null_differs[place]:
            kind = DifferenceKind.NAN_AGAINST_NULL
        else:
            kind = DifferenceKind.BITS_OF_NAN
        return None if math.isnan(x) else x, None if math.isnan(y) else y, kind, ulp


class _WorstRows:
    """The rows that differ, each with the feature in which it differs most."""

    def __init__(self, rows: int) -> None:
        self._badness = np.zeros(rows)
        self._feature = np.zeros(rows, dtype=np.int64)
        self._count = np.zeros(rows, dtype=np.int64)
        self._pairs: list[_Pairs] = []

    def add(self, number: int, pairs: _Pairs) -> None:
        self._pairs.append(pairs)
        rows, badness = pairs.unequal, pairs.badness
        self._count[rows] += 1
        worse = badness > self._badness[rows]
        self._badness[rows[worse]] = badness[worse]
        self._feature[rows[worse]] = number

    def first(
        self, count: int
    ) -> list[tuple[int, int, tuple[float | None, float | None, DifferenceKind, int | None], int]]:
        """Row, number of the feature, its values, how many other features of the row differ."""
        rows = np.flatnonzero(self._badness)
        rows = rows[np.argsort(-self._badness[rows], kind="stable")][:count]
        found = []
        for row in rows.tolist():
            number = int(self._feature[row])
            pairs = self._pairs[number]
            place = int(np.searchsorted(pairs.unequal, row))
            found.append((row, number, pairs.at(place), int(self._count[row]) - 1))
        return found


def _feature(name: str, a: _Column, b: _Column, pairs: _Pairs, *, alike: bool) -> FeatureParity:
    x, y = pairs.a[pairs.numbers], pairs.b[pairs.numbers]
    with np.errstate(over="ignore", invalid="ignore"):
        distances = np.abs(x - y)
    reference = spread(a.values)
    if alike:  # no distance apart, which can be said without sorting
        distance = None if np.isnan(a.values).all() else 0.0
    else:
        distance = wasserstein(a.values, b.values)
    return FeatureParity(
        name=name,
        compared=pairs.count,
        equal=pairs.count - pairs.unequal.size,
        one_missing=int(pairs.one_missing.sum()),
        largest_ulp=int(pairs.ulps.max(initial=0)),
        largest_abs=float(np.nanmax(distances, initial=0.0)),
        nan_against_null=int(pairs.null_differs.sum()),
        distance=distance,
        spread=reference,
    )


def _only(
    mine: pl.DataFrame, theirs: pl.DataFrame, keys: Sequence[str], shown: int
) -> tuple[tuple[str | int, ...], ...]:
    """The first rows that one side has and the other has not."""
    rows = mine.join(theirs, on=list(keys), how="anti").select(*keys).sort(*keys)
    return tuple(rows.head(shown).rows())


def _features(frame: pl.DataFrame) -> tuple[str, ...]:
    return tuple(name for name, kind in frame.schema.items() if kind == pl.Float64)


def _check(side: str, frame: pl.DataFrame, keys: Sequence[str], features: Sequence[str]) -> None:
    for name in (*keys, *features):
        if name not in frame.columns:
            raise ContractViolation(
                f"{side} rows have no column {name!r}", hint=did_you_mean(name, frame.columns)
            )
    for name in features:
        if frame.schema[name] != pl.Float64:
            raise ContractViolation(
                f"{side} column {name} is {frame.schema[name]}, expected Float64"
            )
    if frame.select(*keys).is_duplicated().any():
        raise ContractViolation(f"{side} rows: a key {tuple(keys)} occurs twice")
