"""Which rows a fold may learn from, and which it is judged on.

A row is decided at ``as_of``; its label covers the closed interval [``label_start``,
``label_end``] of event time and is known at ``label_known``. Rows of one UTC date are never
parted, so all instruments of a date stand on the same side of a split.

Laws (held by property tests), for every split:

* no training label's interval intersects the interval of any test label of the fold;
* in a walk-forward, every training label was known at the fold's cut-off, and the cut-off is not
  after the first test decision;
* over the folds of a scheme, no row is tested twice.

Purging compares each training interval with the union of the test intervals, never with their
convex hull. Source: M. Lopez de Prado, "Advances in Financial Machine Learning" (2018), chapter 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.domain.instants import NANOS_PER_SECOND, Instant, render
from assay.errors import ContractViolation, DefinitionError, LookAhead

Index: TypeAlias = NDArray[np.int64]

NANOS_PER_DAY = 86_400 * NANOS_PER_SECOND


@dataclass(frozen=True, slots=True)
class WalkForward:
    """Purged walk-forward: train on the past, test on the block of dates that follows, advance.

    Attributes
    ----------
    folds: test blocks, of as nearly equal numbers of dates as possible.
    initial_share: share of the dates that only ever train, ahead of the first test block.
    window_sessions: train on at most this many dates before the block; None keeps all (expanding).
    embargo_days: a training label must have been known this many days before the first test
        decision of its fold.
    """

    folds: int = 4
    initial_share: float = 0.4
    window_sessions: int | None = None
    embargo_days: int = 0

    def __post_init__(self) -> None:
        if self.folds < 1:
            raise DefinitionError(f"walk-forward with folds={self.folds}: expected at least 1")
        if not 0.0 < self.initial_share < 1.0:
            raise DefinitionError(
                f"walk-forward with initial_share={self.initial_share}: expected between 0 and 1"
            )
        if self.window_sessions is not None and self.window_sessions < 1:
            raise DefinitionError(
                f"walk-forward with window_sessions={self.window_sessions}: expected 1 or more, "
                "or None for an expanding window"
            )
        if self.embargo_days < 0:
            raise DefinitionError(
                f"walk-forward with embargo_days={self.embargo_days}: expected 0 or more"
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {
            "scheme": "purged_walk_forward",
            "folds": self.folds,
            "initial_share": self.initial_share,
            "window_sessions": self.window_sessions,
            "embargo_days": self.embargo_days,
        }


@dataclass(frozen=True, slots=True, eq=False)
class RowTimes:
    """The four times of every row, int64 nanoseconds UTC, one entry per row, in any order.

    Raises
    ------
    ContractViolation: lengths differ, there is no row, or a label ends before it starts.
    LookAhead: a label was known at the decision it belongs to, so it is no forecast.
    """

    as_of: Index
    label_start: Index
    label_end: Index
    label_known: Index

    @classmethod
    def of(
        cls,
        as_of: ArrayLike,
        label_start: ArrayLike,
        label_end: ArrayLike,
        label_known: ArrayLike,
    ) -> RowTimes:
        """Take the four columns as anything that NumPy reads as integers."""
        columns = (as_of, label_start, label_end, label_known)
        return cls(*(np.ascontiguousarray(column, dtype=np.int64) for column in columns))

    def __post_init__(self) -> None:
        sizes = {len(self.as_of), len(self.label_start), len(self.label_end), len(self.label_known)}
        if len(sizes) != 1 or sizes == {0}:
            raise ContractViolation(
                f"row times of {sorted(sizes)} rows: expected four columns of one length, not empty"
            )
        backwards = np.flatnonzero(self.label_end < self.label_start)
        if backwards.size:
            row = int(backwards[0])
            raise ContractViolation(
                f"label of row {row} ends at {render(int(self.label_end[row]))}, before it starts "
                f"at {render(int(self.label_start[row]))}"
            )
        stale = np.flatnonzero(self.label_known <= self.as_of)
        if stale.size:
            row = int(stale[0])
            raise LookAhead(
                f"label of row {row} is known at {render(int(self.label_known[row]))}, not after "
                f"its decision at {render(int(self.as_of[row]))}: it is no forecast"
            )

    def __len__(self) -> int:
        return len(self.as_of)

    @property
    def dates(self) -> Index:
        """UTC date of each decision, in days since the epoch."""
        return np.floor_divide(self.as_of, NANOS_PER_DAY)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One fold: row numbers to train on and to test on, ascending.

    ``cut_off`` is the latest moment at which a training label may have been known; None in
    schemes where training also follows testing.
    """

    fold: int
    train_index: Index
    test_index: Index
    cut_off: Instant | None


def walk_forward(times: RowTimes, scheme: WalkForward) -> tuple[Split, ...]:
    """The folds of a purged walk-forward, in order of time.

    Every row outside the initial dates is tested exactly once.

    Raises
    ------
    ContractViolation: too few dates for the scheme, or a fold is left without training rows.
    """
    dates = times.dates
    calendar = np.unique(dates)
    initial = max(1, round(len(calendar) * scheme.initial_share))
    if len(calendar) - initial < scheme.folds:
        raise ContractViolation(
            f"{len(calendar)} dates, {initial} of them before the first test block: expected at "
            f"least {scheme.folds} dates left for {scheme.folds} folds",
            hint="add history, or lower folds or initial_share in the recipe",
        )
    splits = []
    for fold, block in enumerate(np.array_split(calendar[initial:], scheme.folds)):
        test = np.flatnonzero((dates >= block[0]) & (dates <= block[-1]))
        cut_off = int(times.as_of[test].min()) - scheme.embargo_days * NANOS_PER_DAY
        eligible = (times.label_known <= cut_off) & (dates < block[0])
        if scheme.window_sessions is not None:
            position = int(np.searchsorted(calendar, block[0]))
            eligible &= dates >= calendar[max(0, position - scheme.window_sessions)]
        train = _purged(times, np.flatnonzero(eligible), test)
        splits.append(_checked(Split(fold, train, test, cut_off)))
    return tuple(splits)


def purged_k_fold(times: RowTimes, folds: int, embargo_days: int = 0) -> tuple[Split, ...]:
    """The folds of a purged k-fold: blocks of dates, training on both sides of each.

    Training decisions that come after a test block are embargoed until ``embargo_days`` after the
    end of the block's last label. For robustness checks only: it learns from what came later.

    Raises
    ------
    ContractViolation: fewer dates than folds, or a fold is left without training rows.
    """
    if folds < 2 or embargo_days < 0:
        raise DefinitionError(
            f"purged k-fold with folds={folds}, embargo_days={embargo_days}: expected at least 2 "
            "and 0"
        )
    dates = times.dates
    calendar = np.unique(dates)
    if len(calendar) < folds:
        raise ContractViolation(f"{len(calendar)} dates: expected at least {folds} for the folds")
    splits = []
    for fold, block in enumerate(np.array_split(calendar, folds)):
        inside = (dates >= block[0]) & (dates <= block[-1])
        test = np.flatnonzero(inside)
        last_label = int(times.label_end[test].max())
        embargoed = (dates > block[-1]) & (times.as_of <= last_label + embargo_days * NANOS_PER_DAY)
        train = _purged(times, np.flatnonzero(~inside & ~embargoed), test)
        splits.append(_checked(Split(fold, train, test, None)))
    return tuple(splits)


def _purged(times: RowTimes, train: Index, test: Index) -> Index:
    """``train`` without the rows whose label interval meets a test label interval."""
    starts, ends = _union(times.label_start[test], times.label_end[test])
    # The only merged interval that can meet [a, b] is the last one that starts at or before b.
    candidate = np.searchsorted(starts, times.label_end[train], side="right") - 1
    meets = (candidate >= 0) & (ends[np.maximum(candidate, 0)] >= times.label_start[train])
    return train[~meets]


def _union(starts: Index, ends: Index) -> tuple[Index, Index]:
    """Disjoint closed intervals, ascending, that cover exactly the given ones."""
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    opens = np.concatenate(([True], starts[1:] > reach[:-1]))
    closes = np.concatenate((opens[1:], [True]))
    return starts[opens], reach[closes]


def _checked(split: Split) -> Split:
    if not len(split.train_index):
        raise ContractViolation(
            f"fold {split.fold} has no training row left after purging and embargo",
            hint="add history, raise initial_share, or shorten the embargo in the recipe",
        )
    return split


def describe(splits: Sequence[Split], times: RowTimes) -> list[dict[str, Any]]:
    """What each fold trained and tested on, as JSON objects with rendered times."""
    return [
        {
            "fold": split.fold,
            "train_rows": len(split.train_index),
            "test_rows": len(split.test_index),
            "cut_off": None if split.cut_off is None else render(split.cut_off),
            "test_from": render(int(times.as_of[split.test_index].min())),
            "test_to": render(int(times.as_of[split.test_index].max())),
        }
        for split in splits
    ]
