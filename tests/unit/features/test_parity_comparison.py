"""The comparison finds what differs, and only that."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from assay.domain.verdicts import Verdict
from assay.errors import ConfigurationError, ContractViolation
from assay.features import compare
from assay.features.parity import ParityPolicy, ParityRule
from assay.features.parity.distances import ulps_between
from assay.statistics.distances import spread, wasserstein

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
    worst, other = report.differences
    assert (worst.key, worst.feature, worst.offline, worst.online) == (("e", 2), "a", 3.0, 2.5)
    assert (other.key, other.ulp, other.kind, other.others) == (("e", 1), 1, "numbers", 0)
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
    with pytest.raises(ContractViolation, match="a is Float32, expected Float64"):
        compare(frame([1.0]), frame([1.0]).cast({"a": pl.Float32}), keys=KEYS, features=["a"])
    with pytest.raises(ConfigurationError, match="nan"):
        ParityPolicy(wasserstein=math.nan)


def test_a_null_is_no_nan_and_both_are_missing() -> None:
    null = frame([1.0, 2.0, 3.0]).with_columns(a=pl.Series([None, 2.0, None], dtype=pl.Float64))
    both = compare(null, null, keys=KEYS)
    assert both.holds
    report = compare(null, frame([math.nan, math.nan, 3.0]), keys=KEYS)
    (a, _) = report.features
    assert (a.equal, a.one_missing, a.nan_against_null) == (0, 2, 1)
    assert [(one.key[1], str(one.kind)) for one in report.differences] == [
        (1, "one missing"), (2, "one missing"), (0, "NaN against null"),
    ]  # fmt: skip
    again = compare(frame([math.nan, math.nan, 3.0]), null, keys=KEYS)
    assert again.features[0].nan_against_null == 1


def test_the_worst_rows_come_first_each_once_and_their_number_is_bounded() -> None:
    values = [1.0, 2.0, 0.0, 4.0, math.nan]
    odd = np.array([0x7FF8000000000001], dtype=np.int64).view(np.float64)[0]
    moved = [math.nextafter(1.0, 2), 3.0, -0.0, math.nan, odd]
    online = frame(moved).with_columns(b=pl.Series([1.0, 1.5, 1.0, 1.0, 1.0]))
    shown = compare(frame(values), online, keys=KEYS).differences
    assert [(one.key[1], str(one.kind)) for one in shown] == [
        (3, "one missing"), (1, "numbers"), (0, "numbers"), (2, "sign of zero"), (4, "bits of NaN"),
    ]  # fmt: skip
    assert (shown[1].feature, shown[1].others) == ("a", 1)
    assert [one.ulp for one in shown] == [None, 2**51, 1, 0, None]
    bounded = compare(frame(values), online, keys=KEYS, shown=2)
    assert bounded.differences == shown[:2]
    assert json.loads(json.dumps(bounded.to_json(), allow_nan=False))["differences"][0]["key"]


def test_missing_and_extra_rows_are_named_up_to_a_number() -> None:
    report = compare(frame([1.0] * 5), frame([1.0] * 3, [2, 7, 9]), keys=KEYS, shown=3)
    assert (report.missing, report.extra) == (4, 2)
    assert report.missing_keys == (("e", 0), ("e", 1), ("e", 3))
    assert report.extra_keys == (("e", 7), ("e", 9))


def test_infinities_are_compared_and_survive_json() -> None:
    report = compare(frame([math.inf, 1.0]), frame([1.0, -math.inf]), keys=KEYS)
    assert report.largest_abs == math.inf
    assert report.features[0].distance == math.inf
    text = json.dumps(report.to_json(), allow_nan=False)
    assert '"Infinity"' in text
    assert '"-Infinity"' in text
    same = compare(frame([math.inf, 1.0]), frame([math.inf, 1.0]), keys=KEYS)
    assert (same.holds, same.features[0].distance) == (True, 0.0)


def mean_of_sorted_distances(a: list[float], b: list[float]) -> float:
    """The distance of two samples of unequal size: both are repeated until they are as long."""
    one, other = sorted(a * len(b)), sorted(b * len(a))
    return math.fsum(abs(x - y) for x, y in zip(one, other, strict=True)) / len(one)


NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12)


@given(NUMBERS, NUMBERS)
def test_the_distance_of_distributions_is_that_of_optimal_transport(
    a: list[float], b: list[float]
) -> None:
    found = wasserstein(np.array([*a, math.nan]), np.array(b))
    assert found == pytest.approx(mean_of_sorted_distances(a, b), rel=1e-9, abs=1e-9)
    assert wasserstein(np.array(a), np.array(a)) == 0.0
    assert found == pytest.approx(wasserstein_distance(a, b), rel=1e-9, abs=1e-9)


def test_distances_at_the_edges_of_floats() -> None:
    large = 1.7e308
    assert wasserstein(np.array([large]), np.array([-large])) == math.inf
    assert wasserstein(np.array([1e308]), np.array([0.0])) == 1e308
    assert wasserstein(np.array([math.nan]), np.array([1.0])) is None
    half = np.array([math.inf, 1.0])
    assert wasserstein(half, np.array([math.inf, 3.0])) == 1.0
    assert wasserstein(half, np.array([math.inf, math.inf, 1.0])) == math.inf
    assert spread(np.array([1e308, -1e308])) == 1e308
    assert spread(np.array([0.1] * 7)) == 0.0
    assert spread(np.array([math.nan, math.inf])) is None
    assert spread(np.array([1.0, 3.0])) == 1.0


def test_the_distance_is_told_in_units_of_the_spread_of_history() -> None:
    # Spread of 0, 2, 4, 6 is the square root of 5; every value is moved by one.
    report = compare(frame([0.0, 2.0, 4.0, 6.0]), frame([1.0, 3.0, 5.0, 7.0]), keys=KEYS)
    a, b = report.features
    assert a.spread == pytest.approx(math.sqrt(5))
    assert a.wasserstein == pytest.approx(1 / math.sqrt(5))
    assert (b.spread, b.distance, b.degenerate, b.wasserstein) == (0.0, 0.0, True, None)


def test_under_bits_one_bit_is_a_breach_and_under_distributions_it_is_not() -> None:
    values = [float(n) for n in range(100)]
    nudged = [math.nextafter(one, math.inf) for one in values]
    report = compare(frame(values), frame(nudged), keys=KEYS)
    assert ParityPolicy().judge(report).verdict is Verdict.FAIL
    assert "a: 100 of 100 values differ" in ParityPolicy().judge(report).reasons
    assert ParityPolicy(ParityRule.DISTRIBUTION).judge(report).verdict is Verdict.PASS


@pytest.mark.parametrize(("moved", "verdict"), [(0.0199, Verdict.PASS), (0.0201, Verdict.FAIL)])
def test_the_limit_is_two_hundredths_of_the_spread(moved: float, verdict: Verdict) -> None:
    values = [-1.0, 1.0] * 50  # of spread one
    report = compare(frame(values), frame([one + moved for one in values]), keys=KEYS)
    judged = ParityPolicy(ParityRule.DISTRIBUTION).judge(report)
    assert judged.verdict is verdict
    assert (judged.reasons == ()) == (verdict is Verdict.PASS)


def test_a_feature_that_does_not_vary_must_be_equal_and_says_so() -> None:
    policy = ParityPolicy(ParityRule.DISTRIBUTION)
    constant = frame([1.0, 2.0, 3.0]).with_columns(b=pl.lit(1.0))
    moved = constant.with_columns(b=pl.Series([1.0, 1.0, math.nextafter(1, 2)]))
    judged = policy.judge(compare(constant, moved, keys=KEYS))
    assert judged.verdict is Verdict.FAIL
    assert judged.reasons == (
        "b: the reference does not vary, so its values must be equal; 1 of 3 values differ",
    )
    assert policy.judge(compare(constant, constant, keys=KEYS)).verdict is Verdict.PASS


def test_missing_values_and_rows_are_a_breach_under_either_rule() -> None:
    values = [float(n) for n in range(1000)]
    gone = compare(frame(values), frame([math.nan, *values[1:]]), keys=KEYS)
    short = compare(frame(values), frame(values[:-1]), keys=KEYS)
    long = compare(frame(values[:-1]), frame(values), keys=KEYS)
    for policy in (ParityPolicy(), ParityPolicy(ParityRule.DISTRIBUTION)):
        assert policy.judge(gone).verdict is Verdict.FAIL
        assert policy.judge(short).reasons == ("1 row is missing online",)
        assert policy.judge(long).reasons == ("1 row is online and not in history",)
        nothing = policy.judge(compare(frame([]), frame([]), keys=KEYS))
        assert nothing.verdict is Verdict.INDETERMINATE


@given(st.floats(-1e300, 1e300), st.integers(0, 50))
def test_distances_in_floats_count_steps(value: float, steps: int) -> None:
    moved = value
    for _ in range(steps):
        moved = math.nextafter(moved, math.inf)
    assert int(ulps_between(np.array([value]), np.array([moved]))[0]) == steps
    assert int(ulps_between(np.array([moved]), np.array([value]))[0]) == steps
