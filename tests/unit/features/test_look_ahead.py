"""The detector finds whoever reads the future, and accuses nobody else."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from assay.errors import ContractViolation
from assay.features import FeatureView, OfflineDriver, Sessions, col, detect_look_ahead

X = col("x")
VIEW = FeatureView(
    "v",
    "s",
    "entity",
    {
        "mean": X.rolling_mean(9, min_count=1),
        "median": X.rolling_median(7, min_count=1),
        "ewm": X.ewm_mean(span=5, horizon=20, min_count=1),
        "rank": X.simple_return(3).cs_rank(),
    },
    Sessions(1),
)


def rows(count: int = 60) -> pl.DataFrame:
    generator = np.random.default_rng(1)
    times = np.tile(np.arange(count, dtype=np.int64) * 10, 3)
    values = generator.normal(size=3 * count).cumsum() + 50.0
    values[generator.random(3 * count) < 0.05] = np.nan
    return pl.DataFrame(
        {
            "entity": np.repeat(["A", "B", "C"], count),
            "event_time": times,
            "known_time": times + 1,
            "source_rank": np.zeros(3 * count, dtype=np.int64),
            "sequence": np.arange(3 * count),
            "x": values,
        }
    )


def test_a_view_does_not_know_the_future_and_needs_no_more_than_its_look_back() -> None:
    report = detect_look_ahead(OfflineDriver(VIEW).run, rows(), look_back=VIEW.look_back, cuts=4)
    assert report.holds
    assert report.suspects == {}
    assert len(report.checks) == 12
    assert report.to_json()["values_compared"] == report.values_compared > 1_000


def test_a_look_back_that_is_too_short_is_seen() -> None:
    short = VIEW.look_back - 1
    report = detect_look_ahead(OfflineDriver(VIEW).run, rows(), look_back=short, cuts=4)
    assert not report.holds
    assert report.suspects == {"warm-up": ("ewm",)}


def own_code(*features: pl.Expr):
    """What somebody writes over data frames."""
    return lambda frame: frame.select(
        "entity", "event_time", *(feature.over("entity") for feature in features)
    )


X_ = pl.col("x").fill_nan(None)


@pytest.mark.parametrize(
    ("feature", "questions"),
    [
        (X_.shift(-1).alias("f"), {"truncation", "future"}),
        ((X_ - X_.mean()).alias("f"), {"truncation", "future", "warm-up"}),
        (X_.rank().alias("f"), {"truncation", "future", "warm-up"}),
        (X_.fill_null(strategy="backward").alias("f"), {"truncation", "future"}),
        (X_.rolling_max(5, min_samples=1, center=True).alias("f"), {"truncation", "future"}),
        (X_.cum_count().alias("f"), {"warm-up"}),
    ],
)
def test_code_that_reads_the_future_or_all_of_the_past_is_found(
    feature: pl.Expr, questions: set[str]
) -> None:
    compute = own_code(feature, X_.shift(1).alias("innocent"))
    report = detect_look_ahead(compute, rows(), look_back=10)
    assert not report.holds
    assert set(report.suspects) == questions
    assert all(names == ("f",) for names in report.suspects.values())
    (first, *_) = [found for one in report.checks.values() for found in one.differences]
    assert first.feature == "f"


def test_code_that_looks_back_only_passes() -> None:
    compute = own_code(X_.shift(2).alias("lag"), X_.rolling_max(4, min_samples=1).alias("high"))
    assert detect_look_ahead(compute, rows(), look_back=5).holds


def test_too_little_history_and_missing_keys_are_named() -> None:
    with pytest.raises(ContractViolation, match="3 event times, expected at least 4"):
        detect_look_ahead(lambda frame: frame, rows(3))
    with pytest.raises(ContractViolation, match="no column 'instrument'"):
        detect_look_ahead(lambda frame: frame, rows(), entity="instrument")
