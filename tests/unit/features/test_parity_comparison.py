"""The comparison finds what differs, and only that."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import ContractViolation
from assay.features import compare
from assay.features.parity.comparison import ulps_between

KEYS = ("entity", "event_time")


def frame(values: list[float], times: list[int] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "entity": ["e"] * len(values),
            "event_time": times or list(range(len(values))),
            "a": values,
            "b": [1.0] * len(values),
        }
    )


def test_equal_frames_agree_in_every_bit_in_whatever_order() -> None:
    one = frame([1.0, math.nan, 3.0])
    report = compare(one, one.reverse(), keys=KEYS)
    assert (report.values_compared, report.bitwise_equal, report.share) == (6, 6, 1.0)
    assert report.holds
    assert report.differences == ()


def test_a_difference_is_counted_measured_and_shown() -> None:
    report = compare(frame([1.0, 2.0, 3.0]), frame([1.0, math.nextafter(2, 3), 2.5]), keys=KEYS)
    assert not report.holds
    assert (report.values_compared, report.bitwise_equal) == (6, 4)
    assert report.largest_abs == 0.5
    assert report.largest_ulp == 2**50  # half a unit, in floats between 2 and 4
    first = report.differences[0]
    assert (first.key, first.feature, first.offline) == (("e", 1), "a", 2.0)
    by_name = {item.name: item for item in report.features}
    assert (by_name["a"].equal, by_name["b"].equal) == (1, 3)
    assert json.loads(json.dumps(report.to_json()))["share"] == 4 / 6


def test_a_missing_value_equals_only_a_missing_value() -> None:
    report = compare(frame([1.0, math.nan]), frame([math.nan, math.nan]), keys=KEYS)
    assert report.features[0].one_missing == 1
    assert report.bitwise_equal == 3
    assert report.differences[0].online is None
    odd = np.array([0x7FF8000000000001], dtype=np.int64).view(np.float64).tolist()
    other = pl.DataFrame(frame([0.0])).with_columns(
        a=pl.Series(np.array([0x7FF8000000000001], dtype=np.int64).view(np.float64))
    )
    assert math.isnan(odd[0])
    assert not compare(frame([math.nan]), other, keys=KEYS).holds


def test_zeros_of_both_signs_are_not_the_same_bits() -> None:
    report = compare(frame([0.0]), frame([-0.0]), keys=KEYS)
    assert (report.bitwise_equal, report.largest_ulp, report.largest_abs) == (1, 0, 0.0)


def test_missing_and_extra_rows_are_counted_and_deny_parity() -> None:
    report = compare(frame([1.0, 2.0, 3.0]), frame([2.0, 3.0, 4.0], [1, 2, 3]), keys=KEYS)
    assert (report.missing, report.extra, report.values_compared) == (1, 1, 4)
    assert report.bitwise_equal == 4
    assert not report.holds


def test_nothing_compared_is_no_proof() -> None:
    report = compare(frame([1.0])[:0], frame([1.0]), keys=KEYS)
    assert report.share is None
    assert not report.holds


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ContractViolation, match="no column 'c'"):
        compare(frame([1.0]), frame([1.0]), keys=KEYS, features=["c"])
    with pytest.raises(ContractViolation, match="occurs twice"):
        compare(frame([1.0]), frame([1.0, 2.0], [0, 0]), keys=KEYS)
    with pytest.raises(ContractViolation, match="1 nulls"):
        compare(frame([1.0]), frame([1.0]).with_columns(a=pl.lit(None, pl.Float64)), keys=KEYS)


@given(st.floats(-1e300, 1e300), st.integers(0, 50))
def test_distances_in_floats_count_steps(value: float, steps: int) -> None:
    moved = value
    for _ in range(steps):
        moved = math.nextafter(moved, math.inf)
    assert int(ulps_between(np.array([value]), np.array([moved]))[0]) == steps
    assert int(ulps_between(np.array([moved]), np.array([value]))[0]) == steps
