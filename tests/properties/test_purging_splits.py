"""The laws of purging, against a plain double loop over rows."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from assay.errors import ContractViolation
from assay.training.splits import (
    NANOS_PER_DAY,
    CombinatorialPurged,
    RowTimes,
    Split,
    WalkForward,
    assemble_paths,
    combinatorial_purged,
    path_splits,
    purged_k_fold,
    walk_forward,
)

# Coarse, so that touching, nested and equal intervals are common.
HALF_DAY = NANOS_PER_DAY // 2


@st.composite
def row_times(draw: st.DrawFn) -> RowTimes:
    """Rows on irregular dates, several instruments a date, labels of uneven start and length."""
    gaps = draw(st.lists(st.integers(1, 4), min_size=5, max_size=22))
    day, rows = 0, []
    for gap in gaps:
        day += gap
        for _ in range(draw(st.integers(1, 3))):
            as_of = day * NANOS_PER_DAY + draw(st.integers(0, 1)) * HALF_DAY
            start = as_of + draw(st.integers(-1, 6)) * HALF_DAY
            end = start + draw(st.integers(0, 10)) * HALF_DAY
            known = max(end, as_of + HALF_DAY) + draw(st.sampled_from((0, 1, HALF_DAY)))
            rows.append((as_of, start, end, known))
    order = draw(st.permutations(range(len(rows))))
    return RowTimes.of(*zip(*(rows[i] for i in order), strict=True))


def day_of(times: RowTimes, row: int) -> int:
    return int(times.as_of[row]) // NANOS_PER_DAY


def meets(times: RowTimes, one: int, other: int) -> bool:
    return bool(
        times.label_start[one] <= times.label_end[other]
        and times.label_start[other] <= times.label_end[one]
    )


def meets_any(times: RowTimes, row: int, test: list[int]) -> bool:
    return any(meets(times, row, other) for other in test)


def check_common_laws(times: RowTimes, splits: tuple[Split, ...]) -> None:
    tested = [int(row) for split in splits for row in split.test_index]
    assert len(tested) == len(set(tested))
    for split in splits:
        test = split.test_index.tolist()
        train = split.train_index.tolist()
        assert train == sorted(set(train))
        assert test == sorted(set(test))
        assert not {day_of(times, row) for row in test} & {day_of(times, row) for row in train}
        assert not any(meets_any(times, row, test) for row in train)


@given(
    times=row_times(),
    folds=st.integers(1, 4),
    share=st.floats(0.2, 0.8),
    window=st.none() | st.integers(1, 12),
    embargo=st.integers(0, 5),
)
def test_walk_forward_trains_on_exactly_what_was_known_and_does_not_overlap(
    times: RowTimes, folds: int, share: float, window: int | None, embargo: int
) -> None:
    scheme = WalkForward(folds, share, window, embargo)
    try:
        splits = walk_forward(times, scheme)
    except ContractViolation:
        assume(False)
        return
    check_common_laws(times, splits)
    days = sorted({day_of(times, row) for row in range(len(times))})
    first = min(day_of(times, int(row)) for row in splits[0].test_index)
    tested = {int(row) for split in splits for row in split.test_index}
    assert tested == {row for row in range(len(times)) if day_of(times, row) >= first}
    for split in splits:
        test = split.test_index.tolist()
        decision = min(int(times.as_of[row]) for row in test)
        block = min(day_of(times, row) for row in test)
        earliest = -1 if window is None else days[max(0, days.index(block) - window)]
        assert split.cut_off == decision - embargo * NANOS_PER_DAY
        expected = [
            row
            for row in range(len(times))
            if earliest <= day_of(times, row) < block
            and times.label_known[row] <= decision - embargo * NANOS_PER_DAY
            and not meets_any(times, row, test)
        ]
        assert split.train_index.tolist() == expected


@settings(max_examples=300)
@given(times=row_times(), folds=st.integers(2, 5), embargo=st.integers(0, 5))
def test_k_fold_tests_every_row_once_and_keeps_all_that_neither_purge_nor_embargo_forbids(
    times: RowTimes, folds: int, embargo: int
) -> None:
    try:
        splits = purged_k_fold(times, folds, embargo)
    except ContractViolation:
        assume(False)
        return
    check_common_laws(times, splits)
    assert sorted(int(row) for split in splits for row in split.test_index) == list(
        range(len(times))
    )
    for split in splits:
        test = split.test_index.tolist()
        last_day = max(day_of(times, row) for row in test)
        silence = max(int(times.label_end[row]) for row in test) + embargo * NANOS_PER_DAY
        expected = [
            row
            for row in range(len(times))
            if row not in test
            and not meets_any(times, row, test)
            and not (day_of(times, row) > last_day and times.as_of[row] <= silence)
        ]
        assert split.train_index.tolist() == expected
        assert split.cut_off is None


def blocks_of_dates(times: RowTimes, groups: int) -> list[list[int]]:
    """The rows of each block of consecutive dates; the first blocks take what does not divide."""
    days = sorted({day_of(times, row) for row in range(len(times))})
    size, more = divmod(len(days), groups)
    blocks = []
    for group in range(groups):
        count = size + (group < more)
        chosen, days = set(days[:count]), days[count:]
        blocks.append([row for row in range(len(times)) if day_of(times, row) in chosen])
    return blocks


@settings(max_examples=200, deadline=None)
@given(
    times=row_times(), groups=st.integers(2, 5), tested=st.integers(1, 4), embargo=st.integers(0, 5)
)
def test_combinatorial_splits_keep_all_that_neither_purge_nor_embargo_of_a_run_forbids(
    times: RowTimes, groups: int, tested: int, embargo: int
) -> None:
    assume(tested < groups)
    scheme = CombinatorialPurged(groups, tested, embargo)
    try:
        splits = combinatorial_purged(times, scheme)
    except ContractViolation:
        assume(False)
        return
    blocks = blocks_of_dates(times, groups)
    assert len(splits) == scheme.splits == comb(groups, tested)
    for split, chosen in zip(splits, combinations(range(groups), tested), strict=True):
        test = split.test_index.tolist()
        assert test == sorted(row for group in chosen for row in blocks[group])
        # A block is silenced by every chosen block before it from which no training block parts it.
        forbidden = set()
        for row in range(len(times)):
            own = next(group for group in range(groups) if row in blocks[group])
            for last in chosen:
                if last + 1 in chosen or last >= own:
                    continue
                run = [last]
                while run[0] - 1 in chosen:
                    run.insert(0, run[0] - 1)
                end = max(int(times.label_end[one]) for group in run for one in blocks[group])
                if times.as_of[row] <= end + embargo * NANOS_PER_DAY:
                    forbidden.add(row)
        expected = [
            row
            for row in range(len(times))
            if row not in test and row not in forbidden and not meets_any(times, row, test)
        ]
        assert split.train_index.tolist() == expected
        assert not any(meets_any(times, row, test) for row in split.train_index.tolist())
        assert split.cut_off is None


@settings(max_examples=100, deadline=None)
@given(times=row_times(), groups=st.integers(2, 6), tested=st.integers(1, 5))
def test_each_path_predicts_every_row_once_by_a_model_that_did_not_train_on_it(
    times: RowTimes, groups: int, tested: int
) -> None:
    assume(tested < groups)
    scheme = CombinatorialPurged(groups, tested)
    try:
        splits = combinatorial_purged(times, scheme)
    except ContractViolation:
        assume(False)
        return
    made = {split.fold: np.full(len(split.test_index), float(split.fold)) for split in splits}
    paths = assemble_paths(times, scheme, splits, made)
    assert paths.shape == (scheme.paths, len(times))
    assert scheme.paths == tested * comb(groups, tested) // groups
    for path in paths:
        for row, number in enumerate(path.astype(int).tolist()):
            assert row in splits[number].test_index
            assert row not in splits[number].train_index
    # Every test row of every split is used on exactly one path.
    for split in splits:
        used = (paths[:, split.test_index] == split.fold).sum(axis=0)
        assert (used == 1).all()


def test_six_groups_of_which_two_are_tested_make_fifteen_splits_and_five_paths() -> None:
    # Lopez de Prado (2018), section 12.3 and figure 12.1.
    scheme = CombinatorialPurged(6, 2)
    assert (scheme.splits, scheme.paths) == (15, 5)
    table = path_splits(scheme)
    assert table[0].tolist() == [0, 0, 1, 2, 3, 4]
    assert table[4].tolist() == [4, 8, 11, 13, 14, 14]


@given(times=row_times(), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_change_who_trains(times: RowTimes, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(times))
    shuffled = RowTimes.of(
        times.as_of[order],
        times.label_start[order],
        times.label_end[order],
        times.label_known[order],
    )
    try:
        splits = walk_forward(times, WalkForward(folds=2))
    except ContractViolation:
        with pytest.raises(ContractViolation):
            walk_forward(shuffled, WalkForward(folds=2))
        return
    for one, other in zip(splits, walk_forward(shuffled, WalkForward(folds=2)), strict=True):
        assert set(one.train_index.tolist()) == set(order[other.train_index].tolist())
        assert set(one.test_index.tolist()) == set(order[other.test_index].tolist())
