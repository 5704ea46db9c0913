"""The fixture, in a suite of somebody else's."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

SUITE = """
import numpy as np
import polars as pl
from assay.features import FeatureView, Sessions, col

times = np.arange(40, dtype=np.int64) * 10
rows = pl.DataFrame({
    "entity": ["A"] * 40, "event_time": times, "known_time": times,
    "source_rank": np.zeros(40, np.int64), "sequence": np.arange(40), "x": np.sqrt(times + 1.0),
})

def test_view(assert_no_look_ahead):
    view = FeatureView("v", "s", "entity", {"f": col("x").rolling_mean(3)}, Sessions(1))
    report = assert_no_look_ahead(view, rows)
    assert {question for question, _ in report.checks} == {
        "truncation", "future", "known", "warm-up"
    }

def test_honest(assert_no_look_ahead):
    assert_no_look_ahead(lambda frame: frame.with_columns(f=pl.col("x").shift(1)), rows)

def test_leak(assert_no_look_ahead):
    assert_no_look_ahead(lambda frame: frame.with_columns(f=pl.col("x").shift(-1)), rows)

def test_rows_that_come_and_go(assert_no_look_ahead):
    assert_no_look_ahead(lambda frame: frame.tail(30), rows)
"""


def test_the_fixture_fails_a_test_whose_feature_knows_the_future_and_says_where(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest('pytest_plugins = ["assay.testing.look_ahead"]')
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess("-q")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*values know what was not there yet*",
            "*truncation, cut at 1970-01-01T*: f of A at 1970-01-01T*Z was * and became None*",
            "*values know what was not there yet*",
            "*truncation, cut at *: * rows went, * came, *",
        ]
    )
