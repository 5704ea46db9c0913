"""Tables are snapshots: immutable, named by their content, committed whole, checked on request."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest

from assay.errors import Conflict, ContractViolation, NotFound, Tampered
from assay.lake import Lake
from assay.testing.clocks import FixedClock


@pytest.fixture
def clock():
    return FixedClock(1_000)


@pytest.fixture
def lake(tmp_path, clock):
    return Lake(tmp_path / "data", clock)


@pytest.fixture
def table(lake):
    return lake.table("silver/rates")


def frame(*values):
    return pl.DataFrame({"n": values, "text": [f"row {value}" for value in values]})


def files(lake):
    return sorted(path for path in lake.root.rglob("*") if path.is_file())


def test_what_was_committed_is_read_back(table):
    snapshot = table.commit(frame(1, 2, 3), metadata={"manifest": "abc"})
    assert table.read().equals(frame(1, 2, 3))
    assert table.read(columns=["n"]).columns == ["n"]
    assert table.current() == snapshot == table.snapshot(snapshot.id)
    assert (snapshot.rows, dict(snapshot.metadata)) == (3, {"manifest": "abc"})
    assert dict(snapshot.schema) == {"n": "Int64", "text": "String"}


def test_parts_are_read_in_the_order_of_their_names(table):
    table.commit({"2002": frame(3), "2001": frame(1, 2)})
    assert table.read().equals(frame(1, 2, 3))


def test_equal_content_has_an_equal_id_and_adds_nothing(lake, table, tmp_path, clock):
    one = table.commit(frame(1, 2, 3))
    before = {path: path.stat().st_mtime_ns for path in files(lake)}
    chunked = pl.concat([frame(1), frame(2), frame(3)], rechunk=False)
    assert chunked.n_chunks() == 3
    assert table.commit(chunked).id == one.id
    assert {path: path.stat().st_mtime_ns for path in files(lake)} == before
    elsewhere = Lake(tmp_path / "other", clock).table("silver/rates").commit(frame(1, 2, 3))
    assert elsewhere == one


def test_any_difference_gives_another_id(table):
    base = frame(1, 2)
    others = [
        base.with_columns(n=pl.Series([1, 3])),
        base.with_columns(pl.col("n").cast(pl.Int32)),
        base.rename({"n": "m"}),
        base.select("text", "n"),
        base.reverse(),
        base.with_columns(n=pl.Series([1, None])),
    ]
    ids = [table.commit(other).id for other in [base, *others]]
    ids.append(table.commit(base, metadata={"manifest": "x"}).id)
    ids.append(table.commit({"part": base}).id)
    assert len(set(ids)) == len(ids)


def test_old_snapshots_stay_readable(table, clock):
    ids = []
    for n in range(3):
        ids.append(table.commit(frame(*range(n + 1))).id)
        clock.advance(100)
    for n, identifier in enumerate(ids):
        assert table.read(identifier).equals(frame(*range(n + 1)))
    assert [entry.snapshot for entry in table.history()] == ids
    assert table.as_of(1_150).id == ids[1]
    assert table.as_of(9_999).id == ids[2]
    with pytest.raises(NotFound, match="had no snapshot"):
        table.as_of(999)


def test_an_unchanged_part_shares_its_file(table, lake):
    table.commit({"2001": frame(1), "2002": frame(2)})
    table.commit({"2001": frame(1), "2002": frame(2, 3)})
    assert len(list(lake.root.rglob("*.parquet"))) == 3


def test_a_changed_byte_is_found_and_its_file_named(table, lake):
    table.commit(frame(*range(50)))
    (file,) = lake.root.rglob("*.parquet")
    data = file.read_bytes()
    for position in range(0, len(data), 37):
        changed = bytearray(data)
        changed[position] ^= 0x40
        file.write_bytes(changed)
        for read in (table.read, lambda: list(table.stretches(table.current(), rows=10))):
            with pytest.raises(Tampered, match=file.name):
                read()
    file.unlink()
    with pytest.raises(Tampered, match=file.name):
        table.read()


def test_a_changed_list_is_refused(table, lake):
    snapshot = table.commit(frame(1))
    listing = lake.root / "silver" / "rates" / "snapshots" / f"{snapshot.id}.json"
    listing.write_bytes(listing.read_bytes().replace(b'"n"', b'"m"'))
    with pytest.raises(Tampered, match=listing.name):
        table.read()


def test_a_missing_snapshot_is_not_found(table):
    with pytest.raises(NotFound, match="nothing has been committed"):
        table.read()
    assert table.current() is None
    table.commit(frame(1))
    for identifier in ("0" * 64, "../../x", ""):
        with pytest.raises(NotFound, match="no snapshot"):
            table.snapshot(identifier)


def test_a_commit_needs_parts_of_one_schema(table):
    with pytest.raises(ContractViolation, match="at least one part"):
        table.commit({})
    with pytest.raises(ContractViolation, match="part 'b'"):
        table.commit({"a": frame(1), "b": frame(1).rename({"n": "m"})})


def test_parts_that_come_one_by_one_make_the_same_snapshot(table, lake):
    parts = {"2001": frame(1, 2), "2002": frame(3), "2003": frame(4)}
    at_once = table.commit(parts)
    assert lake.table("silver/other").commit(iter(parts.items())).files == at_once.files
    assert lake.table("silver/third").commit(reversed(parts.items())).files == at_once.files


def test_parts_that_stop_coming_leave_the_old_table(table):
    old = table.commit({"2001": frame(1)})

    def parts(last):
        yield "2001", frame(1, 2)
        yield from last

    def fails():
        raise RuntimeError("no more")
        yield

    with pytest.raises(RuntimeError, match="no more"):
        table.commit(parts(fails()))
    with pytest.raises(ContractViolation, match="'2001' comes twice"):
        table.commit(parts([("2001", frame(3))]))
    with pytest.raises(ContractViolation, match="part 'more' has columns"):
        table.commit(parts([("more", frame(3).drop("n"))]))
    assert table.current() == old
    assert table.read().equals(frame(1))


def test_stretches_are_whole_parts_until_there_are_rows_enough(table):
    snapshot = table.commit({"a": frame(1, 2), "b": frame(3), "c": frame(4), "d": frame(5)})
    found = [part["n"].to_list() for part in table.stretches(snapshot, rows=2)]
    assert found == [[1, 2], [3, 4], [5]]
    assert len(list(table.stretches(snapshot, rows=1))) == 4
    assert len(list(table.stretches(snapshot, rows=100))) == 1


@pytest.mark.parametrize("name", ["rates", "silver/", "silver/../x", "Silver/rates", "silver/a/b"])
def test_a_malformed_table_name_is_refused(name, lake):
    with pytest.raises(NotFound, match="expected <layer>/<name>"):
        lake.table(name)


def test_a_wrong_layer_is_refused_with_the_nearest(lake):
    with pytest.raises(NotFound, match="did you mean 'silver'"):
        lake.table("sliver/rates")


def test_the_lake_lists_its_tables(lake):
    for name in ("silver/rates", "gold/fx", "quarantine/rates"):
        lake.table(name).commit(frame(1))
    assert lake.tables() == ["gold/fx", "quarantine/rates", "silver/rates"]


KILLED = """
import os, signal, sys
from pathlib import Path
import polars as pl
from assay.lake import Lake
from assay.testing.clocks import FixedClock

syncs, left = os.fsync, int(sys.argv[2])
def fsync(descriptor):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    syncs(descriptor)
os.fsync = fsync
Lake(Path(sys.argv[1]), FixedClock(5)).table("silver/rates").commit(
    {"a": pl.DataFrame({"n": [1]}), "b": pl.DataFrame({"n": [2]})})
"""


def test_a_commit_killed_at_any_step_leaves_the_old_table_or_the_new_one(lake, table):
    old = table.commit({"a": pl.DataFrame({"n": [1]})})
    seen = set()
    for step in range(1, 20, 2):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(lake.root), str(step)], check=False
        )
        rows = table.read()["n"].to_list()
        assert rows in ([1], [1, 2])
        seen.add(len(rows))
        if done.returncode == 0:
            break
        assert done.returncode == -9
    assert (seen, done.returncode) == ({1, 2}, 0)
    assert table.read(old.id)["n"].to_list() == [1]


def test_a_revision_leaves_the_other_parts_alone(table, lake):
    base = table.commit({"a": frame(1), "b": frame(2), "c": frame(3)})
    names = {path.name for path in lake.root.rglob("*.parquet")}
    made = table.revise(base, {"b": frame(4), "d": frame(5)}, without=["c"], metadata={"m": "x"})
    assert table.read().equals(frame(1, 4, 5))
    assert table.read(base).equals(frame(1, 2, 3))
    assert names < {path.name for path in lake.root.rglob("*.parquet")}
    assert made == table.commit(
        {"a": frame(1), "b": frame(4), "d": frame(5)}, metadata={"m": "x"}
    )  # fmt: skip
    assert table.revise(made, {}, metadata={"m": "y"}).rows == 3
    assert table.read().equals(frame(1, 4, 5))


def test_a_revision_of_what_is_no_longer_current_is_refused(table):
    first = table.revise(None, {"a": frame(1)})
    table.revise(first, {"b": frame(2)})
    for base in (None, first):
        with pytest.raises(Conflict, match="expected"):
            table.revise(base, {"c": frame(3)})
    assert table.read().equals(frame(1, 2))


def test_a_revision_keeps_one_schema_and_one_part(table):
    base = table.commit({"a": frame(1)})
    with pytest.raises(ContractViolation, match="has columns"):
        table.revise(base, {"b": frame(1).rename({"n": "m"})})
    with pytest.raises(ContractViolation, match="must leave one part"):
        table.revise(base, {}, without=["a"])
    assert table.revise(base, {"a": frame(1).rename({"n": "m"})}).rows == 1


def test_a_changed_byte_in_the_history_or_the_pointer_is_named(table, lake):
    table.commit(frame(1))
    table.commit(frame(2))
    for name in ("history.ndjson", "current"):
        path = lake.root / "silver/rates" / name
        data = path.read_bytes()
        for place in range(len(data)):
            changed = bytearray(data)
            changed[place] ^= 1
            path.write_bytes(changed)
            with pytest.raises(Tampered, match=name):
                table.history()
        path.write_bytes(data)
    assert len(table.history()) == 2


def test_a_snapshot_whose_writer_died_before_the_pointer_never_was_current(table, lake, clock):
    one = table.commit(frame(1))
    path = lake.root / "silver/rates/current"
    pointer = path.read_bytes()
    table.commit(frame(2))
    path.write_bytes(pointer)  # as if the second writer had died just before
    assert [entry.snapshot for entry in table.history()] == [one.id]
    clock.advance(10)
    two = table.commit(frame(3))
    assert [entry.snapshot for entry in table.history()] == [one.id, two.id]
