"""The join's edges: unsorted input, missing entities, ambiguous tables, wrong columns."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from assay.errors import ConfigurationError, ContractViolation, LookAhead
from assay.features.offline.point_in_time import FeatureTable, TimeToLive, as_of_join
from assay.features.offline.sessions import SessionCalendar


def table(*rows, ttl=None, features=("x",), name="gold/fx"):
    frame = pl.DataFrame(
        rows,
        schema={
            "instrument": pl.String,
            "event_time": pl.Int64,
            "known_time": pl.Int64,
            "source_rank": pl.Int32,
            "sequence": pl.Int64,
            "x": pl.Float64,
        },
        orient="row",
    )
    return FeatureTable(name, frame, features, "s", "m", ttl=ttl)


def spine(*rows):
    return pl.DataFrame(rows, schema={"instrument": pl.String, "as_of": pl.Int64}, orient="row")


def test_rows_keep_their_place_and_their_other_columns():
    asked = spine(("B", 9), ("A", 5), ("B", 9), ("A", 1))
    asked = asked.with_columns(tag=pl.Series(["w", "x", "y", "z"]))
    joined = as_of_join(asked, table(("A", 2, 3, 0, 0, 1.0), ("B", 4, 6, 0, 0, 2.0)))
    assert joined.columns == ["instrument", "as_of", "tag", "x", "stale.fx"]
    assert joined["x"].to_list() == [2.0, 1.0, 2.0, None]
    assert joined.select(asked.columns).equals(asked)


def test_a_fact_is_not_used_before_it_is_known():
    rows = table(("A", 10, 20, 0, 0, 1.0))
    joined = as_of_join(spine(("A", 19), ("A", 20)), rows)
    assert joined["x"].to_list() == [None, 1.0]


def test_a_correction_of_an_older_event_does_not_hide_a_newer_one():
    rows = table(("A", 1, 1, 0, 0, 1.0), ("A", 5, 5, 0, 1, 5.0), ("A", 1, 9, 0, 2, 1.5))
    joined = as_of_join(spine(("A", 3), ("A", 6), ("A", 10)), rows)
    assert joined["x"].to_list() == [1.0, 5.0, 5.0]


def test_ties_are_broken_by_rank_and_then_sequence():
    rows = table(("A", 1, 2, 1, 0, 10.0), ("A", 1, 2, 0, 9, 9.0), ("A", 1, 2, 1, 1, 11.0))
    assert as_of_join(spine(("A", 2)), rows)["x"].to_list() == [11.0]


def test_nanoseconds_are_kept_apart():
    now = 1_800_000_000_000_000_001
    rows = table(("A", now, now, 0, 0, 1.0), ("A", now + 1, now + 1, 0, 0, 2.0))
    joined = as_of_join(spine(("A", now - 1), ("A", now), ("A", now + 1)), rows)
    assert joined["x"].to_list() == [None, 1.0, 2.0]


def test_null_and_nan_features_are_answers_and_are_passed_on():
    rows = table(("A", 1, 1, 0, 0, 1.0), ("A", 2, 2, 0, 0, None), ("A", 3, 3, 0, 0, float("nan")))
    got = as_of_join(spine(("A", 1), ("A", 2), ("A", 3)), rows)["x"].to_list()
    assert got[:2] == [1.0, None]
    assert np.isnan(got[2])


def test_empty_sides_give_nulls_or_nothing():
    assert as_of_join(spine(("A", 1)), table())["x"].to_list() == [None]
    assert len(as_of_join(spine(), table(("A", 1, 1, 0, 0, 1.0)))) == 0
    assert as_of_join(spine((None, 1)), table(("A", 1, 1, 0, 0, 1.0)))["x"].to_list() == [None]


def test_exact_repeats_in_the_table_are_harmless():
    row = ("A", 1, 1, 0, 0, 1.0)
    assert as_of_join(spine(("A", 1)), table(row, row))["x"].to_list() == [1.0]


def test_two_answers_at_one_position_of_the_order_are_refused():
    rows = table(("A", 1, 1, 0, 0, 1.0), ("A", 1, 1, 0, 0, 2.0))
    with pytest.raises(ContractViolation, match=r"\('A', 1, 1, 0, 0\)"):
        as_of_join(spine(("A", 1)), rows)


def test_staleness_is_judged_at_the_moment_of_the_row():
    rows = table(("A", 100, 120, 0, 0, 1.0), ttl=TimeToLive(nanos=50))
    joined = as_of_join(spine(("A", 110), ("A", 150), ("A", 151)), rows)
    assert joined["x"].to_list() == [None, 1.0, None]
    assert joined["stale.fx"].to_list() == [False, False, True]


def test_sessions_without_a_calendar_are_refused():
    rows = table(("A", 1, 1, 0, 0, 1.0), ttl=TimeToLive(sessions=1))
    with pytest.raises(ConfigurationError, match="needs a calendar"):
        as_of_join(spine(("A", 1)), rows)


@pytest.mark.parametrize("settings", [{}, {"nanos": 1, "sessions": 1}, {"nanos": -1}])
def test_a_time_to_live_is_one_duration(settings):
    with pytest.raises(ConfigurationError, match="time to live"):
        TimeToLive(**settings)


def test_asking_after_the_cut_off_is_look_ahead():
    with pytest.raises(LookAhead, match="1 rows ask"):
        as_of_join(spine(("A", 5), ("A", 6)), table(("A", 1, 1, 0, 0, 1.0)), known_at=5)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (pl.DataFrame({"as_of": [1]}), "no column 'instrument'"),
        (pl.DataFrame({"instrument": ["A"]}), "no column 'as_of'"),
        (pl.DataFrame({"instrument": ["A"], "as_of": [1.5]}), "expected int64"),
        (pl.DataFrame({"instrument": ["A", "A"], "as_of": [1, None]}), "no nulls"),
        (
            pl.DataFrame({"instrument": ["A"], "as_of": [1], "x": [1]}),
            "'x' of table gold/fx exists",
        ),
    ],
)
def test_a_malformed_spine_is_refused(asked, message):
    with pytest.raises(ContractViolation, match=message):
        as_of_join(asked, table(("A", 1, 1, 0, 0, 1.0)))


def test_a_malformed_table_is_refused():
    frame = table(("A", 1, 1, 0, 0, 1.0)).frame
    with pytest.raises(ContractViolation, match="no column 'y'"):
        FeatureTable("gold/fx", frame, ("y",), "s", "m")
    nulls = frame.with_columns(known_time=pl.lit(None, dtype=pl.Int64))
    with pytest.raises(ContractViolation, match="known_time holds nulls"):
        FeatureTable("gold/fx", nulls, ("x",), "s", "m")
    with pytest.raises(ContractViolation, match="event_time is Float64"):
        FeatureTable("gold/fx", frame.cast({"event_time": pl.Float64}), ("x",), "s", "m")


def test_sessions_are_counted_in_half_open_intervals():
    calendar = SessionCalendar(np.array([10, 20, 30]))
    after, upto = np.array([9, 10, 10, 30, 40]), np.array([10, 10, 20, 50, 50])
    assert calendar.count_between(after, upto).tolist() == [1, 0, 1, 0, 0]
    assert calendar.number_at(np.array([9, 10, 11])).tolist() == [-1, 0, 0]
    assert calendar.number_after(np.array([9, 10, 30])).tolist() == [0, 1, 3]
    for times in (np.array([1, 1]), np.array([2, 1]), np.array([1.0])):
        with pytest.raises(ContractViolation, match="session times"):
            SessionCalendar(times)
