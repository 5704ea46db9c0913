"""Splits worked out by hand, and what the schemes refuse."""

from __future__ import annotations

import re

import pytest

from assay.errors import ContractViolation, DefinitionError, LookAhead
from assay.training import RowTimes, WalkForward, purged_k_fold, walk_forward
from assay.training.splits import NANOS_PER_DAY as DAY
from assay.training.splits import describe

HOUR = DAY // 24


def daily(days: int, *, horizon: int = 1, instruments: int = 1) -> RowTimes:
    """One decision a day at 16:00 on a fix at 14:00; the label runs to the fix ``horizon`` on."""
    fixes = [day * DAY + 14 * HOUR for day in range(days) for _ in range(instruments)]
    return RowTimes.of(
        [fix + 2 * HOUR for fix in fixes],
        fixes,
        [fix + horizon * DAY for fix in fixes],
        [fix + horizon * DAY + 2 * HOUR for fix in fixes],
    )


def test_a_walk_forward_over_ten_days_as_worked_out_by_hand() -> None:
    splits = walk_forward(daily(10), WalkForward(folds=2, initial_share=0.4))
    # Day 3's label ends at the fix of day 4, at which the first test label starts: purged.
    assert splits[0].test_index.tolist() == [4, 5, 6]
    assert splits[0].train_index.tolist() == [0, 1, 2]
    assert splits[0].cut_off == 4 * DAY + 16 * HOUR
    assert splits[1].test_index.tolist() == [7, 8, 9]
    assert splits[1].train_index.tolist() == [0, 1, 2, 3, 4, 5]


def test_longer_labels_purge_more() -> None:
    first = walk_forward(daily(12, horizon=3), WalkForward(folds=2, initial_share=0.5))[0]
    assert first.test_index[0] == 6
    assert first.train_index.tolist() == [0, 1, 2]


def test_a_rolling_window_forgets_the_oldest_dates() -> None:
    scheme = WalkForward(folds=2, initial_share=0.4, window_sessions=3)
    splits = walk_forward(daily(10, instruments=2), scheme)
    assert splits[0].train_index.tolist() == [2, 3, 4, 5]
    assert splits[1].train_index.tolist() == [8, 9, 10, 11]


def test_an_embargo_moves_the_cut_off_back_by_whole_days() -> None:
    split = walk_forward(daily(12), WalkForward(folds=1, initial_share=0.5, embargo_days=2))[0]
    assert split.cut_off == 4 * DAY + 16 * HOUR
    assert split.train_index.tolist() == [0, 1, 2, 3]


def test_k_fold_keeps_both_sides_and_embargoes_only_what_follows() -> None:
    middle = purged_k_fold(daily(12), 3, embargo_days=2)[1]
    assert middle.test_index.tolist() == [4, 5, 6, 7]
    # Day 3 touches the first test label, day 8 the last one, which ends at 14:00 on day 8: day 9
    # decides within two days of that, day 10 does not.
    assert middle.train_index.tolist() == [0, 1, 2, 10, 11]


def test_a_gap_between_test_labels_is_not_purged_as_if_it_were_covered() -> None:
    # The test labels of day 10 cover days [0, 1] and [100, 101]; their convex hull would purge the
    # label over [50, 51], their union does not.
    times = RowTimes.of(
        [day * DAY for day in (10, 10, 9, 400)],
        [day * DAY for day in (0, 100, 50, 401)],
        [day * DAY for day in (1, 101, 51, 402)],
        [403 * DAY] * 4,
    )
    split = purged_k_fold(times, 3)[1]
    assert split.test_index.tolist() == [0, 1]
    assert split.train_index.tolist() == [2, 3]


def test_a_short_test_label_inside_a_long_one_does_not_hide_it() -> None:
    # Test labels cover days [401, 440] and [402, 403]. A training label that starts on the very
    # end of the long one is purged, one that starts a nanosecond later is not.
    times = RowTimes.of(
        [day * DAY for day in (400, 400, 1, 1, 600)],
        [401 * DAY, 402 * DAY, 440 * DAY, 440 * DAY + 1, 601 * DAY],
        [440 * DAY, 403 * DAY, 441 * DAY, 441 * DAY, 602 * DAY],
        [603 * DAY] * 5,
    )
    split = purged_k_fold(times, 3)[1]
    assert split.test_index.tolist() == [0, 1]
    assert split.train_index.tolist() == [3, 4]


def test_the_description_of_folds_renders_times() -> None:
    times = daily(10)
    assert describe(walk_forward(times, WalkForward(folds=1, initial_share=0.5)), times) == [
        {
            "fold": 0,
            "train_rows": 4,
            "test_rows": 5,
            "cut_off": "1970-01-06T16:00:00Z",
            "test_from": "1970-01-06T16:00:00Z",
            "test_to": "1970-01-10T16:00:00Z",
        }
    ]


def test_a_label_known_at_its_decision_is_refused_as_look_ahead() -> None:
    with pytest.raises(LookAhead, match="it is no forecast"):
        RowTimes.of([5], [1], [2], [5])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([], [], [], []), "not empty"),
        (([1], [2], [3], [4, 5]), "one length"),
        (([1], [3], [2], [4]), "before it starts"),
    ],
)
def test_row_times_that_cannot_be_are_refused(columns: tuple[list[int], ...], message: str) -> None:
    with pytest.raises(ContractViolation, match=message):
        RowTimes.of(*columns)


def test_too_little_history_is_refused_with_the_numbers() -> None:
    with pytest.raises(ContractViolation, match="5 dates, 2 of them before the first test block"):
        walk_forward(daily(5), WalkForward(folds=4, initial_share=0.4))
    with pytest.raises(ContractViolation, match="fold 0 has no training row left"):
        walk_forward(daily(10), WalkForward(folds=2, initial_share=0.4, embargo_days=30))
    with pytest.raises(ContractViolation, match="expected at least 4"):
        purged_k_fold(daily(3), 4)


@pytest.mark.parametrize(
    "settings",
    [{"folds": 0}, {"initial_share": 1.0}, {"window_sessions": 0}, {"embargo_days": -1}],
)
def test_a_scheme_that_cannot_be_is_refused_by_name_and_value(settings: dict[str, float]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(DefinitionError, match=re.escape(f"{name}={value}")):
        WalkForward(**settings)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="folds=1"):
        purged_k_fold(daily(10), 1)
