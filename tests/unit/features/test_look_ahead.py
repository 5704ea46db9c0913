"""The detector finds whoever reads the future, and accuses nobody else."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from assay.errors import ContractViolation
from assay.features import (
    FeatureView,
    OfflineDriver,
    Sessions,
    col,
    detect_look_ahead,
    measure_look_back,
)

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
    asked = [question for question, _ in report.checks]
    assert {one: asked.count(one) for one in asked} == dict.fromkeys(
        ("truncation", "future", "warm-up", "known"), 4
    )
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
LEAKS = {"truncation", "future", "known"}


@pytest.mark.parametrize(
    ("feature", "questions"),
    [
        (X_.shift(-1).alias("f"), LEAKS),
        ((X_ - X_.mean()).alias("f"), {*LEAKS, "warm-up"}),
        (X_.rank().alias("f"), {*LEAKS, "warm-up"}),
        # None of the moments of known time falls into a gap; those of event time do.
        (X_.fill_null(strategy="backward").alias("f"), LEAKS - {"known"}),
        (X_.rolling_max(5, min_samples=1, center=True).alias("f"), LEAKS),
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


def releases() -> pl.DataFrame:
    """Figures about a period, published fifteen to nineteen units after its end."""
    periods = np.arange(0, 600, 50, dtype=np.int64)
    return pl.DataFrame(
        {
            "event_time": periods,
            "known_time": periods + 15 + periods // 50 % 5,
            "figure": np.sqrt(np.arange(periods.size) + 2.0),
        }
    )


def joined_on(when: str):
    """Each row beside the newest release, by when it happened or by when it was published."""

    def compute(frame: pl.DataFrame, releases: pl.DataFrame) -> pl.DataFrame:
        sorted_rows = frame.sort("event_time")
        found = sorted_rows.join_asof(
            releases.sort(when).select(pl.col(when).alias("at"), "figure"),
            left_on="event_time",
            right_on="at",
        )
        return found.select("entity", "event_time", "figure", X_.alias("price"))

    return compute


def test_a_release_that_is_joined_when_it_happened_is_found_by_the_question_of_knowledge_alone():
    tables = {"releases": releases()}
    report = detect_look_ahead(joined_on("event_time"), rows(), beside=tables, cuts=20)
    assert report.suspects == {"known": ("figure",)}
    assert detect_look_ahead(joined_on("known_time"), rows(), beside=tables, cuts=20).holds


def test_a_table_beside_the_rows_is_cut_and_changed_with_them():
    def last_figure(frame: pl.DataFrame, releases: pl.DataFrame) -> pl.DataFrame:
        newest = releases["figure"].last()
        return frame.select("entity", "event_time", pl.lit(newest).alias("figure"))

    report = detect_look_ahead(last_figure, rows(), beside={"releases": releases()})
    assert report.suspects == dict.fromkeys(sorted(LEAKS), ("figure",))
    with pytest.raises(ContractViolation, match="table 'releases' has no column 'event_time'"):
        detect_look_ahead(last_figure, rows(), beside={"releases": releases().drop("event_time")})


def resampled(label: str):
    """Bars of seven rows, named by their start or by their end."""

    def compute(frame: pl.DataFrame) -> pl.DataFrame:
        number = pl.col("event_time") // 70
        bars = frame.group_by("entity", number.alias("bar")).agg(X_.max().alias("high"))
        time = pl.col("bar") * 70 + (0 if label == "start" else 70)
        return bars.select("entity", time.alias("event_time"), "high").sort("entity", "event_time")

    return compute


def test_a_bar_that_is_named_by_its_start_is_found_and_one_named_by_its_end_is_not() -> None:
    report = detect_look_ahead(resampled("start"), rows(), cuts=5)
    assert {"truncation", "future", "known"} <= set(report.suspects)
    assert detect_look_ahead(resampled("end"), rows(), cuts=5).holds


def late_rows() -> pl.DataFrame:
    """Every ninth row arrived four rows late."""
    late = pl.when(pl.col("sequence") % 9 == 0).then(40).otherwise(0)
    return rows().with_columns(known_time=pl.col("known_time") + late)


def test_a_row_that_arrived_late_is_not_yet_known_to_the_rows_after_it() -> None:
    by_hand = own_code(X_.rolling_max(4, min_samples=1).alias("high"))
    report = detect_look_ahead(by_hand, late_rows(), cuts=20)
    assert report.suspects == {"known": ("high",)}
    # A view's rows say themselves when they were known, and that is when their last input was.
    assert detect_look_ahead(OfflineDriver(VIEW).run, late_rows(), cuts=20).holds


@pytest.mark.parametrize(
    ("feature", "needed"),
    [
        (X_.alias("f"), 0),
        (X_.shift(3).alias("f"), 3),
        (X_.rolling_max(6, min_samples=1).alias("f"), 5),
        (X_.cum_count().alias("f"), None),
    ],
)
def test_the_look_back_is_found_by_measurement(feature: pl.Expr, needed: int | None) -> None:
    assert measure_look_back(own_code(feature), rows()) == needed


def test_the_measured_look_back_of_a_view_is_the_declared_one() -> None:
    assert measure_look_back(OfflineDriver(VIEW).run, rows()) == VIEW.look_back
