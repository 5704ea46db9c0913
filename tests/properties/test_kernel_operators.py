"""Every operator against an oracle in plain Python, written from its definition."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.features import Expression, FeatureView, OfflineDriver, Sessions, col, lit, where

X, Y = col("x"), col("y")
NAN = math.nan
# Deviations below 1e-150 are zero by contract: their squares are below the smallest float.
MODERATE = st.floats(-1e6, 1e6).map(lambda value: value if abs(value) > 1e-100 else 0.0)
MISSING_OR = st.one_of(st.just(NAN), MODERATE, st.integers(-3, 3).map(float))
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True, width=64)
COLUMN = st.lists(MISSING_OR, min_size=1, max_size=40)


def compute(expression: Expression, x: list[float], y: list[float] | None = None) -> list[float]:
    """One entity's values of one expression."""
    count = len(x)
    frame = pl.DataFrame(
        {
            "entity": ["e"] * count,
            "event_time": range(1, count + 1),
            "known_time": range(1, count + 1),
            "source_rank": [0] * count,
            "sequence": range(count),
            "x": pl.Series(x, dtype=pl.Float64),
            "y": pl.Series(x if y is None else y, dtype=pl.Float64),
        },
        schema_overrides=dict.fromkeys(
            ("event_time", "known_time", "source_rank", "sequence"), pl.Int64
        ),
    )
    view = FeatureView("v", "s", "entity", {"f": expression}, Sessions(1))
    return OfflineDriver(view, chunk=7).run(frame)["f"].to_list()


def same(found: float, expected: float) -> bool:
    return (math.isnan(found) and math.isnan(expected)) or found == expected


def assert_same(found: list[float], expected: list[float]) -> None:
    assert len(found) == len(expected)
    for row, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert same(a, b), (row, a, b)


def finite(value: float) -> float:
    return value if math.isfinite(value) else NAN


def guarded(function: Callable[..., float]) -> Callable[..., float]:
    """Missing in, missing out; what Python refuses is missing too."""

    def wrapper(*values: float) -> float:
        if not all(map(math.isfinite, values)):
            return NAN
        try:
            return finite(float(function(*values)))
        except (ZeroDivisionError, ValueError, OverflowError):
            return NAN

    return wrapper


BINARY = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "sub": (lambda a, b: a - b, lambda a, b: a - b),
    "mul": (lambda a, b: a * b, lambda a, b: a * b),
    "div": (lambda a, b: a / b, lambda a, b: a / b),
    "lt": (lambda a, b: a < b, lambda a, b: a < b),
    "le": (lambda a, b: a <= b, lambda a, b: a <= b),
    "gt": (lambda a, b: a > b, lambda a, b: a > b),
    "ge": (lambda a, b: a >= b, lambda a, b: a >= b),
    "eq": (lambda a, b: a.eq(b), lambda a, b: a == b),
    "ne": (lambda a, b: a.ne(b), lambda a, b: a != b),
    "and": (lambda a, b: a & b, lambda a, b: bool(a) and bool(b)),
    "or": (lambda a, b: a | b, lambda a, b: bool(a) or bool(b)),
}


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=12, deadline=None)
@given(
    rows=st.lists(
        st.tuples(ANY_FLOAT, ANY_FLOAT) | st.tuples(MISSING_OR, MISSING_OR), min_size=1, max_size=30
    )
)
def test_two_operands_follow_ieee_754_and_are_missing_where_it_is_not_finite(
    name: str, rows: list[tuple[float, float]]
) -> None:
    expression, oracle = BINARY[name]
    x, y = [row[0] for row in rows], [row[1] for row in rows]
    expected = [guarded(oracle)(a, b) for a, b in rows]
    assert_same(compute(expression(X, Y), x, y), expected)


UNARY = {
    "neg": (-X, lambda a: -a),
    "abs": (X.abs(), abs),
    "sign": (X.sign(), lambda a: (a > 0) - (a < 0)),
    "sqrt": (X.sqrt(), math.sqrt),
    "not": (~X, lambda a: not a),
    "clip": (X.clip(-1.5, 2.0), lambda a: min(max(a, -1.5), 2.0)),
    "clip_low": (X.clip(lower=0.0), lambda a: max(a, 0.0)),
}


@pytest.mark.parametrize("name", UNARY)
@settings(max_examples=12, deadline=None)
@given(x=st.lists(ANY_FLOAT | MISSING_OR, min_size=1, max_size=30))
def test_one_operand(name: str, x: list[float]) -> None:
    expression, oracle = UNARY[name]
    assert_same(compute(expression, x), [guarded(oracle)(a) for a in x])


@settings(max_examples=20, deadline=None)
@given(x=COLUMN, data=st.data())
def test_where_takes_the_branch_and_is_missing_when_the_condition_is(
    x: list[float], data: st.DataObject
) -> None:
    y = data.draw(st.lists(MISSING_OR, min_size=len(x), max_size=len(x)))
    expected = [
        NAN if math.isnan(a) else (finite(b) if a != 0 else 7.0) for a, b in zip(x, y, strict=True)
    ]
    assert_same(compute(where(X, Y, 7), x, y), expected)


@settings(max_examples=12, deadline=None)
@given(x=COLUMN)
def test_missing_values_can_be_seen_and_filled(x: list[float]) -> None:
    assert_same(compute(X.is_valid(), x), [float(not math.isnan(a)) for a in x])
    assert_same(compute(X.fill_missing(4.5), x), [4.5 if math.isnan(a) else a for a in x])


def earlier(x: list[float], row: int, rows: int) -> float:
    return x[row - rows] if row >= rows else NAN


@settings(max_examples=20, deadline=None)
@given(x=COLUMN, rows=st.integers(1, 12))
def test_lag_difference_and_returns_look_that_many_rows_back(x: list[float], rows: int) -> None:
    pairs = [(a, earlier(x, row, rows)) for row, a in enumerate(x)]
    assert_same(compute(X.lag(rows), x), [b for _, b in pairs])
    assert_same(compute(X.diff(rows), x), [guarded(lambda a, b: a - b)(*p) for p in pairs])
    assert_same(
        compute(X.simple_return(rows), x), [guarded(lambda a, b: (a - b) / b)(*p) for p in pairs]
    )
    for found, (a, b) in zip(compute(X.log_return(rows), x), pairs, strict=True):
        expected = guarded(lambda a, b: math.log(a / b))(a, b)
        assert math.isnan(found) == math.isnan(expected)
        assert math.isnan(found) or abs(found - expected) <= 2 * math.ulp(abs(expected))


def window_of(x: list[float], row: int, window: int) -> list[float]:
    return [a for a in x[max(0, row - window + 1) : row + 1] if not math.isnan(a)]


def exact_variance(values: list[float]) -> Fraction:
    exact = [Fraction(a) for a in values]
    mean = sum(exact) / len(exact)
    return sum((a - mean) ** 2 for a in exact) / (len(exact) - 1)


def root(value: Fraction) -> float:
    product = value.numerator * value.denominator << 600
    return float(Fraction(math.isqrt(product), value.denominator << 300))


MAGNITUDES = st.one_of(
    MISSING_OR,
    MODERATE.map(lambda value: value * 1e-12),
    st.floats(19_999.99, 20_000.01),
    MODERATE.map(lambda value: value * 16.0),
    MODERATE.map(lambda value: value * 1e6),
)


@settings(max_examples=60, deadline=None)
@given(
    x=st.lists(MAGNITUDES, min_size=1, max_size=60),
    window=st.integers(2, 25),
    data=st.data(),
)
def test_rolling_moments_equal_exact_rational_arithmetic(
    x: list[float], window: int, data: st.DataObject
) -> None:
    least = data.draw(st.none() | st.integers(2, window))
    needed = window if least is None else least
    sums = compute(X.rolling_sum(window, min_count=least), x)
    means = compute(X.rolling_mean(window, min_count=least), x)
    deviations = compute(X.rolling_std(window, min_count=least), x)
    variances = compute(X.rolling_var(window, min_count=least), x)
    counts = compute(X.rolling_count(window), x)
    for row in range(len(x)):
        values = window_of(x, row, window)
        assert counts[row] == len(values)
        if len(values) < needed:
            assert all(math.isnan(s[row]) for s in (sums, means, deviations, variances))
            continue
        total = math.fsum(values)
        quantum = len(values) * 2.0**-65
        assert abs(sums[row] - total) <= math.ulp(total) + quantum
        mean = total / len(values)
        assert abs(means[row] - mean) <= 2 * math.ulp(mean) + quantum
        exact = root(exact_variance(values))
        assert abs(deviations[row] - exact) <= 1e-9 * exact
        assert abs(variances[row] - exact**2) <= 2e-9 * exact**2


@settings(max_examples=30, deadline=None)
@given(value=st.floats(1e-12, 1e15), window=st.integers(2, 30))
def test_a_constant_window_has_no_deviation_and_no_z_score(value: float, window: int) -> None:
    x = [value] * (window + 3)
    assert compute(X.rolling_std(window), x)[window - 1 :] == [0.0] * 4
    assert all(map(math.isnan, compute(X.zscore(window), x)))


@settings(max_examples=20, deadline=None)
@given(x=COLUMN, window=st.integers(2, 12))
def test_z_score_is_the_distance_from_the_mean_in_deviations(x: list[float], window: int) -> None:
    for row, found in enumerate(compute(X.zscore(window), x)):
        values = window_of(x, row, window)
        exact = root(exact_variance(values)) if len(values) == window else 0.0
        if exact == 0.0:
            assert math.isnan(found)
        else:
            mean = math.fsum(values) / window
            # The distance itself carries the rounding of the mean, which has a quantum of 2**-64.
            slack = 1e-8 * abs(x[row] - mean) + 4 * math.ulp(max(map(abs, values))) + 2.0**-64
            assert abs(found * exact - (x[row] - mean)) <= slack


@settings(max_examples=60, deadline=None)
@given(x=COLUMN, window=st.integers(1, 35), data=st.data())
def test_extremes_are_those_of_the_window(x: list[float], window: int, data: st.DataObject) -> None:
    least = data.draw(st.none() | st.integers(1, window))
    needed = window if least is None else least
    windows = [window_of(x, row, window) for row in range(len(x))]
    for expression, oracle in (
        (X.rolling_min(window, min_count=least), min),
        (X.rolling_max(window, min_count=least), max),
    ):
        expected = [oracle(w) if len(w) >= needed else NAN for w in windows]
        assert_same(compute(expression, x), expected)


def weighted(
    x: list[float], row: int, alpha: float, horizon: int
) -> tuple[list[Fraction], list[Fraction]]:
    decay = 1 - Fraction(alpha)
    pairs = [
        (decay**j, Fraction(x[row - j]))
        for j in range(min(horizon, row + 1))
        if not math.isnan(x[row - j])
    ]
    return [w for w, _ in pairs], [v for _, v in pairs]


@settings(max_examples=60, deadline=None)
@given(
    x=st.lists(MISSING_OR | st.floats(99.0, 99.1), min_size=1, max_size=40),
    alpha=st.sampled_from([0.06, 0.25, 0.5, 0.01]),
    horizon=st.integers(2, 24),
    data=st.data(),
)
def test_weighted_moments_equal_exact_rational_arithmetic(
    x: list[float], alpha: float, horizon: int, data: st.DataObject
) -> None:
    least = data.draw(st.none() | st.integers(2, horizon))
    needed = horizon if least is None else least
    means = compute(X.ewm_mean(alpha=alpha, horizon=horizon, min_count=least), x)
    deviations = compute(X.ewm_std(alpha=alpha, horizon=horizon, min_count=least), x)
    for row in range(len(x)):
        weights, values = weighted(x, row, alpha, horizon)
        if len(values) < needed:
            assert math.isnan(means[row])
            assert math.isnan(deviations[row])
            continue
        total = sum(weights)
        mean = sum(w * v for w, v in zip(weights, values, strict=True)) / total
        size = max(abs(float(v)) for v in values)
        assert abs(means[row] - float(mean)) <= 1e-14 * size
        biased = sum(w * (v - mean) ** 2 for w, v in zip(weights, values, strict=True)) / total
        exact = root(biased * total**2 / (total**2 - sum(w * w for w in weights)))
        assert abs(deviations[row] - exact) <= 1e-9 * exact + 1e-18 * size


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 40))
def test_span_and_half_life_are_ways_to_write_alpha(rows: int) -> None:
    x = [math.sin(float(i)) for i in range(60)]
    by_span = compute(X.ewm_mean(span=rows + 1, horizon=30), x)
    by_alpha = compute(X.ewm_mean(alpha=2.0 / (rows + 2.0), horizon=30), x)
    assert_same(by_span, by_alpha)
    halved = X.ewm_mean(halflife=rows, horizon=30).parameter("alpha")
    assert isinstance(halved, float)
    assert math.isclose((1 - halved) ** rows, 0.5, rel_tol=1e-13)


def test_constants_reach_every_row() -> None:
    assert compute(lit(2) * X + 1 - 0.5 / lit(4), [1.0] * 20) == [2.875] * 20


@settings(max_examples=30, deadline=None)
@given(
    groups=st.lists(
        st.lists(st.tuples(MISSING_OR, st.booleans()), min_size=1, max_size=12),
        min_size=1,
        max_size=4,
    )
)
def test_cross_sections_run_over_the_members_of_one_event_time(
    groups: list[list[tuple[float, bool]]],
) -> None:
    rows = [
        (f"e{entity:02}", time, value, member)
        for time, group in enumerate(groups)
        for entity, (value, member) in enumerate(group)
    ]
    frame = pl.DataFrame(
        rows, schema=["entity", "event_time", "x", "member"], orient="row"
    ).with_columns(
        pl.col("x").cast(pl.Float64),
        known_time=pl.col("event_time") * 10 + pl.col("entity").str.slice(1).cast(pl.Int64) % 3,
        source_rank=pl.lit(0, dtype=pl.Int64),
        sequence=pl.lit(0, dtype=pl.Int64),
    )
    view = FeatureView(
        "v",
        "s",
        "entity",
        {"rank": X.cs_rank(), "gap": X.cs_demean(), "z": X.cs_zscore(), "own": X},
        Sessions(1),
        members="member",
    )
    result = OfflineDriver(view).run(frame.sort("entity", "event_time"))
    for row in result.iter_rows(named=True):
        group = groups[row["event_time"]]
        value, member = group[int(row["entity"][1:])]
        values = [v for v, m in group if m and not math.isnan(v)]
        assert same(row["own"], value)
        arrivals = [row["event_time"] * 10 + i % 3 for i, (_, m) in enumerate(group) if m]
        own_arrival = row["event_time"] * 10 + int(row["entity"][1:]) % 3
        assert row["known_time"] == (max([*arrivals, own_arrival]) if member else own_arrival)
        if not member or math.isnan(value):
            assert math.isnan(row["rank"])
            assert math.isnan(row["gap"])
            assert math.isnan(row["z"])
            continue
        ranks = [i + 1 for i, v in enumerate(sorted(values)) if v == value]
        assert row["rank"] == sum(ranks) / len(ranks) / len(values)
        size = max(map(abs, values))
        mean = Fraction(0) + sum(map(Fraction, values)) / len(values)
        assert abs(row["gap"] - float(Fraction(value) - mean)) <= 1e-15 * size
        exact = root(exact_variance(values)) if len(values) > 1 else 0.0
        if exact < 1e-7 * size or exact == 0.0:
            continue  # two passes lose the deviation in the rounding of the values
        assert abs(row["z"] - float(Fraction(value) - mean) / exact) <= 1e-7


def test_equal_values_across_entities_have_no_z_score() -> None:
    frame = pl.DataFrame(
        {
            "entity": ["a", "b", "c"],
            "event_time": [1, 1, 1],
            "known_time": [1, 1, 1],
            "source_rank": [0, 0, 0],
            "sequence": [0, 1, 2],
            "x": [0.1, 0.1, 0.1],
        }
    )
    view = FeatureView("v", "s", "entity", {"z": X.cs_zscore()}, Sessions(1))
    assert np.isnan(OfflineDriver(view).run(frame)["z"].to_numpy()).all()
