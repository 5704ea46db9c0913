"""Whether a desk's view and recipe know what they cannot, on its own history and on given rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from assay.bootstrap import open_desk
from assay.errors import ConfigurationError, ContractViolation, NotFound
from assay.orchestration.building import read_source
from assay.orchestration.desk import Desk
from assay.orchestration.leaks import check_view, read_rows, shuffle_labels_of
from assay.orchestration.progress import Silent


@pytest.fixture(scope="module")
def desk(trained: Path) -> Desk:
    return open_desk(trained)


@pytest.fixture(scope="module")
def history(desk: Desk) -> pl.DataFrame:
    return read_source(desk, desk.view("fx_daily"))


def test_a_view_over_its_own_history_and_over_the_same_rows_in_a_file_gives_one_answer(
    desk: Desk, history: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet"
    history.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(path)
    own = check_view(desk, "fx_daily", Silent(), event_times=400, cuts=1)
    given = check_view(desk, "fx_daily", Silent(), event_times=400, cuts=1, data=path)
    assert own.holds
    assert own.to_json() == given.to_json()
    assert {question for question, _ in own.report.checks} == {
        "truncation", "future", "known", "warm-up"
    }  # fmt: skip
    assert own.declared == desk.view("fx_daily").remembered


def test_rows_of_a_file_are_typed_and_sorted_and_their_times_are_read_as_people_write_them(
    desk: Desk, history: pl.DataFrame, tmp_path: Path
) -> None:
    view, few = desk.view("fx_daily"), history.head(50)
    columns = [view.entity, *view.columns]
    text = pl.from_epoch("event_time", "ns").dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("event_time")
    path = tmp_path / "rows.csv"
    few.reverse().select(*columns, text).write_csv(path)
    read = read_rows(path, view)
    wanted = few.select(*columns, "event_time").sort(view.entity, "event_time")
    assert read.select(wanted.columns).equals(wanted)
    assert read["known_time"].equals(read["event_time"])
    assert read["sequence"].to_list() == read["source_rank"].to_list() == [0] * 50


def test_files_that_do_not_fit_the_view_are_refused_in_words(
    desk: Desk, history: pl.DataFrame, tmp_path: Path
) -> None:
    view, path = desk.view("fx_daily"), tmp_path / "rows.parquet"
    few = history.head(50)
    with pytest.raises(NotFound, match="no file"):
        read_rows(path, view)
    with pytest.raises(ConfigurationError, match=r"expected a file \.parquet or \.csv"):
        read_rows(tmp_path / "rows.xlsx", view)
    few.drop("event_time").write_parquet(path)
    with pytest.raises(ContractViolation, match="has no column 'event_time'"):
        read_rows(path, view)
    few.with_columns(pl.col("event_time").cast(pl.Float64)).write_parquet(path)
    with pytest.raises(ContractViolation, match="column event_time is Float64"):
        read_rows(path, view)
    few.with_columns(sequence=pl.lit("a"), mid=pl.lit("b")).write_parquet(path)
    with pytest.raises(ContractViolation, match="column sequence is String"):
        read_rows(path, view)
    few.with_columns(mid=pl.lit("b")).write_parquet(path)
    with pytest.raises(ContractViolation, match="column mid is String, expected numbers"):
        read_rows(path, view)
    pl.concat([few, few.head(1)]).write_parquet(path)
    with pytest.raises(ContractViolation, match="2 rows share an instrument and an event_time"):
        read_rows(path, view)


def test_the_recipe_of_a_desk_learns_nothing_from_shuffled_labels(desk: Desk) -> None:
    found = shuffle_labels_of(desk, "fx_vol", Silent(), shuffles=1)
    assert found.holds
    assert found.rows > 1_000
