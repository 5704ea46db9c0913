"""A training set larger than memory has the bits of the one in memory, and is made again."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import polars as pl
import pytest

from assay.errors import (
    ConfigurationError,
    Conflict,
    ContractViolation,
    LookAhead,
    NotFound,
    Tampered,
)
from assay.features import Duration, FeatureView, Sessions, col
from assay.features.offline.labels import ForwardReturn, PriceTable
from assay.features.offline.parquet import ParquetStore
from assay.features.offline.point_in_time import FeatureTable, Knowledge, TimeToLive
from assay.features.offline.stored_table import StoredFeatures, StoredJoin, time_to_live
from assay.features.offline.training_sets import (
    DESCRIPTION_FILE,
    FRAME_FILE,
    SPINE_FILE,
    Spine,
    get_training_set,
    rebuild,
    rewrite,
    write_training_set,
)
from assay.lake import Lake, frame_digest
from assay.testing.clocks import FixedClock
from assay.testing.offline_rows import DAY

END = 130 * DAY


def rows(seed, names):
    """Rows of three instruments over 120 days, most of them corrected up to a week later."""
    generator = random.Random(seed)
    made = []
    for day in range(0, 120, 2 if seed else 1):
        for instrument in "ABC":
            for sequence in range(1 + (generator.random() < 0.6)):
                late = sequence * generator.randrange(1, 8) * DAY
                values = [generator.choice([None, float("nan"), generator.random()]) for _ in names]
                made.append((instrument, day * DAY, day * DAY + late + 9, 0, sequence, *values))
    generator.shuffle(made)
    types = [pl.String, *[pl.Int64] * 4, *[pl.Float64] * len(names)]
    columns = ["instrument", "event_time", "known_time", "source_rank", "sequence", *names]
    return pl.DataFrame(made, schema=dict(zip(columns, types, strict=True)), orient="row")


@pytest.fixture
def store(tmp_path):
    store = ParquetStore(tmp_path / "rows", FixedClock(0))
    for seed, (name, columns) in enumerate({"gold/fast": ["x", "y"], "gold/slow": ["z"]}.items()):
        frame = rows(seed, columns)
        for start in range(0, frame.height, 90):
            store.commit(name, frame[start : start + 90], metadata={"manifest": f"{seed}" * 64})
    return store


@pytest.fixture
def views(store):
    return [
        StoredFeatures.of(store, "gold/fast", ttl=TimeToLive(nanos=DAY // 2)),
        StoredFeatures.of(store, "gold/slow", ttl=TimeToLive(sessions=0)),
    ]


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake", FixedClock(0))


@pytest.fixture
def prices(lake):
    frame = rows(0, []).with_columns(mid=pl.col("event_time") / DAY + 1.0)
    snapshot = lake.table("silver/market").commit(frame)
    return PriceTable("silver/market", frame, snapshot.id)


@pytest.fixture
def spine():
    generator = random.Random(4)
    asked = [(generator.choice("ABCX"), generator.randrange(-DAY, 125 * DAY)) for _ in range(300)]
    frame = pl.DataFrame(asked, schema={"instrument": pl.String, "as_of": pl.Int64}, orient="row")
    return Spine.of(frame.with_row_index("decision"))


@pytest.mark.parametrize("knowledge", Knowledge)
@pytest.mark.parametrize("drop", [False, True])
def test_written_in_stretches_it_is_the_same_bit_for_bit(
    knowledge, drop, views, prices, spine, tmp_path
):
    options = {"prices": prices, "known_at": END, "knowledge": knowledge, "drop_unlabelled": drop}
    in_memory = [view.load() for view in views]
    whole = get_training_set(spine, in_memory, ForwardReturn(2), **options)
    assert get_training_set(spine, views, ForwardReturn(2), **options).digest == whole.digest
    for chunk in (7, 64, 10_000):
        folder = tmp_path / f"{chunk}"
        made = write_training_set(
            spine, views, ForwardReturn(2), folder=folder, chunk_rows=chunk, **options
        )
        assert made.description == whole.description()
        assert (made.rows, made.digest) == (whole.rows, whole.digest)
        assert frame_digest(made.scan().collect()) == whole.digest
        assert json.loads((folder / DESCRIPTION_FILE).read_bytes()) == whole.description()
    if not drop:
        assert whole.frame["decision"].to_list() == list(range(300))
    assert set(whole.stale) == {"gold/fast", "gold/slow"}
    assert min(whole.stale.values()) > 0
    assert sum(whole.dropped.values()) + whole.rows == 300


def test_rows_in_memory_and_in_a_store_stand_side_by_side(views, prices, spine, tmp_path):
    options = {"prices": prices, "known_at": END}
    mixed = [views[0].load(), views[1]]
    one = get_training_set(spine, mixed, **options)
    made = write_training_set(spine, mixed, folder=tmp_path / "set", chunk_rows=50, **options)
    assert made.digest == one.digest == get_training_set(spine, views, **options).digest


@pytest.mark.parametrize("rows_asked", [0, 1, 300])
@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(list("ABCX"))], ids=str)
def test_a_spine_of_any_length_and_kind_of_names_is_written(
    rows_asked, kind, views, spine, tmp_path
):
    frame = spine.frame.head(rows_asked).with_columns(pl.col("instrument").cast(kind))
    asked = Spine.of(frame)
    made = write_training_set(asked, views[:1], folder=tmp_path / "set", known_at=END)
    whole = get_training_set(asked, [views[0].load()], known_at=END)
    assert made.description == whole.description()
    assert made.scan().collect().height == rows_asked


def test_it_is_made_again_from_its_description(store, views, prices, spine, lake, tmp_path):
    made = write_training_set(
        spine, views, ForwardReturn(1), folder=tmp_path / "set", prices=prices, known_at=END
    )
    store.commit("gold/fast", rows(7, ["x", "y"]).with_columns(pl.col("sequence") + 9))
    path = made.folder / DESCRIPTION_FILE
    assert rebuild(path, lake, store=store).description() == made.description
    again = rewrite(path, lake, store=store, folder=tmp_path / "again", chunk_rows=77)
    assert again.description == made.description
    with pytest.raises(NotFound, match=views[0].snapshot_id):
        rebuild(path, lake)
    changed = json.loads(path.read_bytes())
    changed["query"]["tables"][0]["ttl"] = None
    path.write_text(json.dumps(changed))
    with pytest.raises(Tampered, match="digest"):
        rewrite(path, lake, store=store, folder=tmp_path / "third")


def test_the_store_of_another_column_is_refused_when_it_is_made_again(
    store, views, prices, spine, lake, tmp_path
):
    made = write_training_set(spine, views, folder=tmp_path / "set", prices=prices, known_at=END)
    other = ParquetStore(tmp_path / "rows", FixedClock(0), entity="pair")
    with pytest.raises(Conflict, match="entity 'instrument'"):
        rebuild(made.folder / DESCRIPTION_FILE, lake, store=other)


def test_an_error_in_a_stretch_comes_out_as_it_is_and_leaves_no_file(views, spine, store, tmp_path):
    folder = tmp_path / "set"
    with pytest.raises(ConfigurationError, match="needs a calendar"):
        write_training_set(spine, views, folder=folder, known_at=END)
    with pytest.raises(LookAhead):
        write_training_set(spine, views[:1], folder=folder, known_at=5)
    with pytest.raises(ContractViolation, match="at least one"):
        write_training_set(spine, views[:1], folder=folder, known_at=END, chunk_rows=0)
    # A file of the last month of the asked time: rows before it have been written by then.
    for file in (tmp_path / "rows").rglob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Tampered, match=r"\.parquet"):
        write_training_set(spine, views[:1], folder=folder, known_at=END, chunk_rows=10)
    assert not [path for path in folder.rglob("*") if path.name != SPINE_FILE]
    assert not (folder / FRAME_FILE).exists()


def test_a_stored_table_says_what_it_is(store):
    table = StoredFeatures.of(store, "gold/fast", features=["y"])
    assert (table.features, table.manifest_hash, table.entity) == (("y",), "0" * 64, "instrument")
    assert isinstance(table.load(), FeatureTable)
    assert table.load().frame.columns[-1] == "y"
    with pytest.raises(NotFound, match="no column 'z'"):
        StoredFeatures.of(store, "gold/fast", features=["z"])
    with pytest.raises(NotFound, match="is empty"):
        StoredFeatures.of(store, "gold/none")
    store.commit("gold/anonymous", rows(1, ["z"]))
    with pytest.raises(ConfigurationError, match="names no manifest"):
        StoredFeatures.of(store, "gold/anonymous")


def test_a_view_says_how_long_its_rows_live():
    for ttl, expected in (
        (Sessions(3), TimeToLive(sessions=3)),
        (Duration.of(hours=2), TimeToLive(nanos=7_200 * 10**9)),
    ):
        view = FeatureView("fx", "market", "instrument", {"x": col("mid")}, ttl)
        assert time_to_live(view) == expected


def test_partitions_are_read_once_for_a_spine_in_order_of_time(store, views, monkeypatch):
    read = []
    inner = store.read

    def counted(*arguments, **options):
        read.append(options["since"])
        return inner(*arguments, **options)

    monkeypatch.setattr(store, "read", counted)
    frame = pl.DataFrame({"instrument": "A", "as_of": [n * DAY for n in range(3, 120)]})
    join = StoredJoin(views[0], cache=0)
    for start in range(0, frame.height, 10):
        join.rows(frame[start : start + 10])
    # Two partitions alternate where a stretch crosses the end of a month, for late rows.
    months = len(store.snapshot("gold/fast").partitions)
    assert months == len(set(read))
    assert len(read) <= 3 * months


MEMORY = """
import json, resource, sys
from pathlib import Path
import numpy as np
import polars as pl
from assay.features.offline.parquet import ParquetStore
from assay.features.offline.stored_table import StoredFeatures
from assay.features.offline.training_sets import Spine, write_training_set
from assay.testing.clocks import FixedClock

folder, count, width = Path(sys.argv[1]), int(sys.argv[2]), 48
day = 86_400 * 10**9
generator = np.random.default_rng(1)
store = ParquetStore(folder / "rows", FixedClock(0))
for month in range(6):
    events = month * 31 * day + np.sort(generator.integers(0, 31 * day, 3_000))
    store.commit("gold/x", pl.DataFrame({
        "instrument": generator.choice(["A", "B", "C"], len(events)), "event_time": events,
        "known_time": events + 5, "source_rank": 0, "sequence": np.arange(len(events)),
        **{f"f{n}": generator.standard_normal(len(events)) for n in range(width)},
    }), metadata={"manifest": "m"})
spine = Spine.of(pl.DataFrame({
    "instrument": generator.choice(["A", "B", "C"], count),
    "as_of": np.sort(generator.integers(0, 186 * day, count)),
}))
table = StoredFeatures.of(store, "gold/x")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unit = 1 if sys.platform == "darwin" else 1024
before = peak()
made = write_training_set(spine, [table], known_at=400 * day, folder=folder / "set",
                          chunk_rows=8_192)
print(json.dumps([made.rows, (peak() - before) * unit, count * width * 8]))
"""


def grown(folder, count):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(folder), str(count)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made, growth, size = json.loads(done.stdout)
    assert made == count
    return growth, size


def test_writing_needs_less_memory_than_the_result(tmp_path):
    growth, size = grown(tmp_path, 500_000)
    assert growth < 0.75 * size


@pytest.mark.long
def test_writing_needs_a_fraction_of_the_memory_of_a_large_result(tmp_path):
    growth, size = grown(tmp_path, 3_000_000)
    assert growth < 0.25 * size
