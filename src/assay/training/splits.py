"""Which rows a fold may learn from, and which it is judged on.

A row is decided at ``as_of``; its label covers the closed interval [``label_start``,
``label_end``] of event time and is known at ``label_known``. Rows of one UTC date are never
parted, so all instruments of a date stand on the same side of a split.

Laws (held by property tests), for every split:

* no training label's interval intersects the interval of any test label of the fold;
* in a walk-forward, every training label was known at the fold's cut-off, and the cut-off is not
  after the first test decision;
* over the folds of a walk-forward or a k-fold no row is tested twice; on each path of a
  combinatorial scheme every row is predicted once, by a model that did not train on it.

Purging compares each training interval with the union of the test intervals, never with their
convex hull; the embargo follows each contiguous run of test dates and is counted from the end of
its last label. Source: M. Lopez de Prado, "Advances in Financial Machine Learning" (2018), chapters
7 and 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
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


@dataclass(frozen=True, slots=True)
class CombinatorialPurged:
    """Combinatorial purged cross-validation: every choice of ``tested`` out of ``groups`` blocks.

    C(groups, tested) splits train on the other blocks; their test predictions make up
    C(groups - 1, tested - 1) paths over the whole history. With ``tested`` 1 it is a purged k-fold.
    For robustness checks only: it learns from what came later.

    Attributes
    ----------
    groups: blocks of consecutive dates, of as nearly equal numbers of dates as possible.
    tested: blocks that each split tests.
    embargo_days: training decisions after a run of test dates are left out until so many days after
        the end of the run's last label.
    """

    groups: int = 6
    tested: int = 2
    embargo_days: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.tested < self.groups or self.embargo_days < 0:
            raise DefinitionError(
                f"combinatorial purged scheme with groups={self.groups}, tested={self.tested}, "
                f"embargo_days={self.embargo_days}: expected 1 <= tested < groups, and 0 or more "
                "days"
            )

    @property
    def splits(self) -> int:
        """How many splits there are."""
        return comb(self.groups, self.tested)

    @property
    def paths(self) -> int:
        """How many paths they make up."""
        return comb(self.groups - 1, self.tested - 1)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {
            "scheme": "combinatorial_purged",
            "groups": self.groups,
            "tested": self.tested,
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
    return combinatorial_purged(times, CombinatorialPurged(folds, 1, embargo_days))


def combinatorial_purged(times: RowTimes, scheme: CombinatorialPurged) -> tuple[Split, ...]:
    """All splits of a combinatorial scheme, in the order of :func:`itertools.combinations`.

    Raises
    ------
    ContractViolation: fewer dates than groups, or a split is left without training rows.
    """
    group = date_groups(times, scheme.groups)
    splits = []
    for number, chosen in enumerate(combinations(range(scheme.groups), scheme.tested)):
        inside = np.isin(group, chosen)
        embargoed = np.zeros(len(times), dtype=np.bool_)
        for run in _runs(chosen):
            ends = times.label_end[(group >= run[0]) & (group <= run[-1])]
            silence = int(ends.max()) + scheme.embargo_days * NANOS_PER_DAY
            embargoed |= (group > run[-1]) & (times.as_of <= silence)
        test = np.flatnonzero(inside)
        train = _purged(times, np.flatnonzero(~inside & ~embargoed), test)
        splits.append(_checked(Split(number, train, test, None)))
    return tuple(splits)


def date_groups(times: RowTimes, groups: int) -> Index:
    """The block of consecutive dates that each row belongs to, 0 to ``groups`` - 1.

    Raises
    ------
    ContractViolation: fewer dates than groups.
    """
    dates = times.dates
    calendar = np.unique(dates)
    if len(calendar) < groups:
        raise ContractViolation(f"{len(calendar)} dates: expected at least {groups} for the folds")
    firsts = np.array([block[0] for block in np.array_split(calendar, groups)])
    return np.searchsorted(firsts, dates, side="right").astype(np.int64) - 1


def path_splits(scheme: CombinatorialPurged) -> Index:
    """Which split predicts each group on each path, shape (paths, groups).

    Path p takes for every group the p-th of the splits that test it, so that each test block of
    each split is used on exactly one path.
    """
    table = np.empty((scheme.paths, scheme.groups), dtype=np.int64)
    used = np.zeros(scheme.groups, dtype=np.int64)
    for number, chosen in enumerate(combinations(range(scheme.groups), scheme.tested)):
        for group in chosen:
            table[used[group], group] = number
            used[group] += 1
    return table


def assemble_paths(
    times: RowTimes,
    scheme: CombinatorialPurged,
    splits: Sequence[Split],
    predictions: Mapping[int, NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Predictions of every row on every path, shape (paths, rows).

    Parameters
    ----------
    splits: of :func:`combinatorial_purged` on the same times.
    predictions: by the split's number, one per test row in the order of its ``test_index``.

    Raises
    ------
    ContractViolation: a split has no predictions, or not one for each of its test rows.
    """
    group = date_groups(times, scheme.groups)
    by_split = np.full((len(splits), len(times)), np.nan)
    for split in splits:
        made = predictions.get(split.fold)
        if made is None or len(made) != len(split.test_index):
            raise ContractViolation(
                f"split {split.fold} has {0 if made is None else len(made)} predictions: expected "
                f"{len(split.test_index)}, one for each of its test rows"
            )
        by_split[split.fold, split.test_index] = made
    rows = np.arange(len(times))
    return np.stack([by_split[table[group], rows] for table in path_splits(scheme)])


def _runs(chosen: Sequence[int]) -> list[list[int]]:
    """Ascending numbers as runs of neighbours."""
    runs: list[list[int]] = []
    for one in chosen:
        if runs and runs[-1][-1] == one - 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


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
