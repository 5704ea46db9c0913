"""What lies on the disk: only what changed is written, and other readers can open it."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest

from assay.adapters.delta import DeltaStore
from assay.adapters.delta.log import PARTITION
from assay.errors import Conflict, ContractViolation, Tampered
from assay.features.offline.parquet import ROWS, ParquetStore
from assay.features.offline.partitions import Period, bounds, by_partition
from assay.lake import Lake
from assay.testing.clocks import FixedClock
from assay.testing.offline_rows import DAY, TABLE, batch, row, table_of

STORES = [ParquetStore, DeltaStore]


def parquet_files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}


@pytest.mark.parametrize("kind", STORES)
def test_a_commit_writes_one_file_for_each_partition_that_gets_rows(kind, tmp_path):
    store = kind(tmp_path, FixedClock(0))
    store.commit(TABLE, table_of(*(row("A", n * 31 * DAY) for n in range(12))))
    before = parquet_files(tmp_path)
    assert len(before) == 12
    store.commit(TABLE, table_of(row("B", 0), row("B", 340 * DAY), row("A", 31 * DAY)))
    after = parquet_files(tmp_path)
    assert before.items() < after.items()
    assert len(after) == 14
    assert store.compact(TABLE) == 2
    assert after.items() < parquet_files(tmp_path).items()
    assert len(parquet_files(tmp_path)) == 16


@pytest.mark.parametrize("kind", STORES)
def test_years_are_another_partition_and_another_id(kind, tmp_path):
    rows = table_of(row("A", 0), row("A", 40 * DAY), row("A", 400 * DAY))
    months = kind(tmp_path / "months", FixedClock(0)).commit(TABLE, rows)
    years = kind(tmp_path / "years", FixedClock(0), period="year").commit(TABLE, rows)
    assert [one.name for one in years.partitions] == ["1970", "1971"]
    assert [one.name for one in months.partitions] == ["1970-01", "1970-02", "1971-02"]
    assert months.id != years.id
    with pytest.raises(Conflict, match="period='year'"):
        kind(tmp_path / "years", FixedClock(0)).read(TABLE)
    with pytest.raises(Conflict, match="entity='instrument'"):
        kind(tmp_path / "months", FixedClock(0), entity="pair").read(TABLE)


def test_both_stores_give_the_same_rows_the_same_id(tmp_path):
    ids = []
    for kind in STORES:
        store = kind(tmp_path / kind.__name__, FixedClock(0))
        ids.append([store.commit(TABLE, batch(n), metadata={"m": "x"}).id for n in range(4)])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 4


@pytest.mark.parametrize("period", Period)
def test_every_moment_lies_in_the_bounds_of_its_partition(period):
    ends = [-(2**63), 2**63 - 1, -1, 0, 1_709_251_199_999_999_999, 1_709_251_200_000_000_000]
    parts = by_partition(table_of(*(row("A", moment) for moment in ends)), period)
    assert list(parts) == sorted(parts)
    for name, part in parts.items():
        first, last = bounds(name)
        assert part["event_time"].is_between(first, last).all()
    assert sum(part.height for part in parts.values()) == len(ends)


def test_the_lake_sees_the_rows_of_the_embedded_store(tmp_path):
    store = ParquetStore(tmp_path, FixedClock(0))
    store.commit(TABLE, batch(1), metadata={"manifest": "m"})
    table = Lake(tmp_path, FixedClock(0)).table(TABLE)
    assert table.read().sort("instrument").equals(store.read(TABLE).sort("instrument"))
    assert table.current().metadata["manifest"] == "m"
    with pytest.raises(ContractViolation, match="store's own"):
        store.commit(TABLE, batch(1), metadata={ROWS: "x"})


def test_a_table_that_other_code_committed_is_refused_and_left_alone(tmp_path):
    table = Lake(tmp_path, FixedClock(0)).table(TABLE)
    foreign = table.commit(batch(1))
    store = ParquetStore(tmp_path, FixedClock(0))
    for call in (store.read, store.history, store.verify, store.compact):
        with pytest.raises(Conflict, match="was not written by this store"):
            call(TABLE)
    with pytest.raises(Conflict, match="was not written by this store"):
        store.commit(TABLE, batch(2))
    assert store.tables() == ()
    assert table.current() == foreign


def test_another_reader_of_delta_sees_every_version(tmp_path):
    store = DeltaStore(tmp_path, FixedClock(0))
    made = [store.commit(TABLE, batch(n)) for n in range(3)]
    truth = [store.read(TABLE, one.id) for one in made]
    store.compact(TABLE)
    path = str(tmp_path / TABLE)
    keys = truth[0].columns[:5]
    for one, rows in zip(made, truth, strict=True):
        found = pl.read_delta(path, version=store.version(TABLE, one.id))
        assert found.drop(PARTITION).sort(keys).equals(rows)
        assert found[PARTITION].unique().to_list() == ["1970-01"]
    assert pl.read_delta(path).drop(PARTITION).sort(keys).equals(truth[-1])
    assert store.version(TABLE) == 3


def test_a_version_that_something_else_wrote_is_refused(tmp_path):
    store = DeltaStore(tmp_path, FixedClock(0))
    store.commit(TABLE, batch(1))
    rows = pl.read_delta(str(tmp_path / TABLE))
    rows.head(1).with_columns(instrument=pl.lit("Z")).write_delta(
        str(tmp_path / TABLE), mode="append"
    )
    for call in (store.read, store.verify, store.history):
        with pytest.raises(Conflict, match="version 1 of Delta table"):
            call(TABLE)
    with pytest.raises(Conflict, match="version 1 of Delta table"):
        store.commit(TABLE, batch(2))


def test_a_commit_whose_check_is_missing_is_taken_in_by_the_next_writer(tmp_path):
    store = DeltaStore(tmp_path, FixedClock(0))
    checks = tmp_path / TABLE / ".assay/checks.ndjson"
    store.commit(TABLE, batch(1))
    one = checks.read_bytes()
    made = store.commit(TABLE, batch(2))
    checks.write_bytes(one)  # as if the writer had died before its last line
    again = DeltaStore(tmp_path, FixedClock(0))
    assert again.snapshot(TABLE) == made
    again.commit(TABLE, batch(3))
    assert checks.read_bytes().count(b"\n") == 3
    checks.write_bytes(one)
    with pytest.raises(Tampered, match="1 lines for 3 commits"):
        again.read(TABLE)


def test_a_file_that_delta_lists_and_the_record_does_not_is_refused(tmp_path):
    store = DeltaStore(tmp_path, FixedClock(0))
    store.commit(TABLE, batch(1))
    (log,) = (tmp_path / TABLE / "_delta_log").glob("*.json")
    data = log.read_bytes()
    lines = data.splitlines()
    (added,) = (line for line in lines if line.startswith(b'{"add"'))
    (tmp_path / TABLE / ".assay/checks.ndjson").unlink()  # so that only the comparison is left
    log.write_bytes(b"\n".join(line for line in lines if line != added))
    with pytest.raises(Tampered, match="other files than its record says"):
        store.read(TABLE)
    log.write_bytes(data.replace(b"committed_at", b"committed_as"))
    with pytest.raises(Tampered, match="record of version 0"):
        store.read(TABLE)
    log.write_bytes(data.replace(b'\\"rows\\"', b"rows").replace(b"gold", b"mold"))
    with pytest.raises(Tampered):
        store.read(TABLE)


def test_columns_of_the_delta_store_itself_are_refused(tmp_path):
    rows = batch(1).with_columns(pl.lit("x").alias(PARTITION))
    with pytest.raises(ContractViolation, match=PARTITION):
        DeltaStore(tmp_path, FixedClock(0)).commit(TABLE, rows)


def test_without_the_client_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['deltalake'] = None\n"
        "from assay.errors import Unavailable\n"
        "try:\n    import assay.adapters.delta\n"
        "except Unavailable as error:\n    print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'assay[delta]'" in found.stdout


def test_the_embedded_store_does_not_load_the_client():
    code = "import sys, assay.features.offline.training_sets, assay.features.offline.parquet\n"
    code += "print('deltalake' in sys.modules, 'pandas' in sys.modules, 'pyarrow' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False"] * 3
