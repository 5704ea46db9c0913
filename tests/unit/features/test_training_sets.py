"""Training sets cannot look ahead, name what they read, and are rebuilt bit for bit."""

from __future__ import annotations

import json
import math
import random
from functools import partial

import polars as pl
import pytest

from assay.domain.canonical import content_hash
from assay.errors import ConfigurationError, ContractViolation, LookAhead, NotFound, Tampered
from assay.features.offline.labels import ForwardReturn, ForwardVariance, PriceTable
from assay.features.offline.point_in_time import FeatureTable, Knowledge, TimeToLive
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

SESSIONS, STEP, DELAY = 30, 1_000, 100
END = SESSIONS * STEP + DELAY


def market_frame():
    rng = random.Random(3)
    rows = []
    for name in ("USD_AAA", "USD_BBB", "USD_CCC"):
        level = 1.0
        for n in range(SESSIONS):
            level *= math.exp(rng.gauss(0, 0.01))
            member = name != "USD_CCC" and n >= 5
            rows.append((name, n * STEP, n * STEP + DELAY, 0, n, level, member, n))
    schema = {
        "instrument": pl.String,
        "event_time": pl.Int64,
        "known_time": pl.Int64,
        "source_rank": pl.Int32,
        "sequence": pl.Int64,
        "mid": pl.Float64,
        "in_universe": pl.Boolean,
        "session": pl.Int32,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "data", FixedClock(0))


@pytest.fixture
def market(lake):
    snapshot = lake.table("silver/market").commit(market_frame())
    return PriceTable("silver/market", lake.table("silver/market").read(), snapshot.id)


@pytest.fixture
def views(lake, market):
    order = ("instrument", "event_time", "known_time", "source_rank", "sequence")
    move = (pl.col("mid") / pl.col("mid").shift(1)).over("instrument")
    tables = []
    for name, frame in (
        ("gold/fast", market.frame.select(*order, ret_1=move - 1, level="mid")),
        ("gold/slow", market.frame.filter(pl.col("session") % 7 == 0).select(*order, weekly="mid")),
    ):
        snapshot = lake.table(name).commit(frame, metadata={"manifest": name})
        features = tuple(frame.columns[5:])
        ttl = TimeToLive(sessions=4) if name == "gold/slow" else None
        tables.append(FeatureTable(name, frame, features, snapshot.id, content_hash(name), ttl=ttl))
    return tables


def test_one_row_per_member_and_session_with_features_as_known(market, views):
    spine = Spine.of_members(market)
    result = get_training_set(spine, views, ForwardReturn(1), prices=market, known_at=END)
    assert result.rows == 2 * (SESSIONS - 5)
    assert result.features == ("ret_1", "level", "weekly")
    assert result.frame.columns == [
        "instrument", "as_of", "ret_1", "level", "stale.fast", "weekly", "stale.slow",
        "label", "label_start", "label_end", "label_known",
    ]  # fmt: skip
    levels = {(r["instrument"], r["known_time"]): r["mid"] for r in market.frame.to_dicts()}
    for row in result.frame.iter_rows(named=True):
        assert row["level"] == levels[row["instrument"], row["as_of"]]
        assert row["label_start"] is None or row["label_start"] > row["as_of"]
    # A weekly fact may be used for four sessions after its own; two of seven are stale.
    assert result.stale == {"gold/fast": 0, "gold/slow": result.frame["weekly"].null_count()}
    assert result.stale["gold/slow"] == 2 * sum(n % 7 > 4 for n in range(5, SESSIONS))


def test_rows_without_a_known_label_stay_unless_dropped_and_counted(market, views):
    spine = Spine.of_members(market)
    kept = get_training_set(spine, views, ForwardVariance(3), prices=market, known_at=END)
    assert (kept.rows, kept.frame["label"].null_count(), kept.dropped) == (50, 6, {})
    dropped = get_training_set(
        spine, views, ForwardVariance(3), prices=market, known_at=END, drop_unlabelled=True
    )
    assert (dropped.rows, dropped.dropped) == (44, {"unlabelled": 6})


def test_facts_known_after_the_cut_off_leave_no_trace(market, views):
    cut = 20 * STEP + DELAY
    spine = Spine.of_members(market, end=cut + 1)
    whole = get_training_set(spine, views, ForwardReturn(2), prices=market, known_at=cut)
    cut_tables = [
        FeatureTable(
            t.name, t.frame.filter(pl.col("known_time") <= cut), t.features,
            t.snapshot_id, t.manifest_hash, ttl=t.ttl,
        )
        for t in views
    ]  # fmt: skip
    cut_market = PriceTable(
        market.name, market.frame.filter(pl.col("known_time") <= cut), market.snapshot_id
    )
    early = get_training_set(spine, cut_tables, ForwardReturn(2), prices=cut_market, known_at=cut)
    assert early.digest == whole.digest
    with pytest.raises(LookAhead):
        get_training_set(Spine.of_members(market), views, prices=market, known_at=cut)


def test_members_are_bounded_and_a_correction_is_no_second_decision(market):
    late = market.frame.head(8).tail(1).with_columns(known_time=pl.lit(END, dtype=pl.Int64))
    corrected = PriceTable(market.name, pl.concat([market.frame, late]), "x")
    assert Spine.of_members(corrected).frame.equals(Spine.of_members(market).frame)
    bounded = Spine.of_members(market, start=10 * STEP, end=12 * STEP)
    assert bounded.frame["as_of"].unique().sort().to_list() == [
        10 * STEP + DELAY,
        11 * STEP + DELAY,
    ]


def test_as_corrected_shows_the_correction_and_as_known_does_not(lake, market, views):
    table = views[0]
    fix = table.frame.filter(instrument="USD_AAA", event_time=10 * STEP).with_columns(
        known_time=pl.lit(END - 1, dtype=pl.Int64), sequence=pl.lit(99, dtype=pl.Int64), level=9.0
    )
    revised = FeatureTable(table.name, pl.concat([table.frame, fix]), table.features, "s", "m")
    spine = Spine.of(pl.DataFrame({"instrument": ["USD_AAA"], "as_of": [10 * STEP + DELAY]}))
    seen = {
        mode: get_training_set(spine, [revised], known_at=END, knowledge=mode).frame["level"][0]
        for mode in Knowledge
    }
    original = table.frame.filter(instrument="USD_AAA", event_time=10 * STEP)["level"][0]
    assert seen == {Knowledge.AS_KNOWN: original, Knowledge.AS_CORRECTED: 9.0}


@pytest.mark.parametrize("explicit", [False, True])
def test_a_saved_set_is_rebuilt_bit_for_bit(explicit, lake, market, views, tmp_path):
    spine = Spine.of_members(market, start=3 * STEP)
    if explicit:
        spine = Spine.of(spine.frame.reverse().with_columns(weight=pl.lit(0.5)))
    made = get_training_set(
        spine, views, ForwardReturn(2, delay=1), prices=market, known_at=END, drop_unlabelled=True
    )
    path = made.save(tmp_path / "set")
    # The lake moves on; the snapshots that the description names stay.
    lake.table("silver/market").commit(market_frame().head(3))
    lake.table("gold/fast").commit(views[0].frame.head(1))
    again = rebuild(path, lake)
    assert (
        again.digest
        == made.digest
        == frame_digest(pl.read_parquet(path.parent / "training_set.parquet"))
    )
    assert again.description() == made.description() == json.loads(path.read_bytes())
    assert made.snapshots == {
        "gold/fast": views[0].snapshot_id,
        "gold/slow": views[1].snapshot_id,
        "silver/market": market.snapshot_id,
    }
    assert (path.parent / SPINE_FILE).exists() == explicit
    if not explicit:
        assert rebuild(made.description(), lake).digest == made.digest


@pytest.mark.parametrize("way", ["save", "write"])
def test_a_description_never_stands_beside_another_frame(way, market, views, tmp_path, monkeypatch):
    spine = Spine.of_members(market)
    folder = tmp_path / "set"
    get_training_set(spine, views, prices=market, known_at=END).save(folder)

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("assay.features.offline.training_sets._describe_in", die)
    other = get_training_set(spine, views[:1], prices=market, known_at=END)
    write = partial(
        write_training_set, spine, views[:1], prices=market, known_at=END, folder=folder
    )
    with pytest.raises(KeyboardInterrupt):
        other.save(folder) if way == "save" else write()
    assert "weekly" not in pl.read_parquet_schema(folder / FRAME_FILE)
    assert not (folder / DESCRIPTION_FILE).exists()


def test_a_set_that_comes_out_different_leaves_the_recorded_one(lake, market, views, tmp_path):
    spine = Spine.of(Spine.of_members(market).frame)
    folder = tmp_path / "set"
    path = get_training_set(spine, views, prices=market, known_at=END).save(folder)
    document = json.loads(path.read_bytes())
    path.write_bytes(json.dumps(document | {"digest": "0" * 64}).encode())
    before = {one.name: one.read_bytes() for one in folder.iterdir()}
    with pytest.raises(Tampered, match="expected 0000"):
        rewrite(path, lake, folder=folder)
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == before


def test_any_change_to_what_was_read_is_noticed(lake, market, views, tmp_path):
    spine = Spine.of(Spine.of_members(market).frame)
    path = get_training_set(spine, views, known_at=END, prices=market).save(tmp_path)
    description = path.read_bytes()
    path.write_bytes(description.replace(b'"sessions":4', b'"sessions":5'))
    with pytest.raises(Tampered, match="digest"):
        rebuild(path, lake)
    path.write_bytes(description[:-5])
    with pytest.raises(Tampered, match=DESCRIPTION_FILE):
        rebuild(path, lake)
    path.write_bytes(description)
    spine.frame.reverse().write_parquet(tmp_path / SPINE_FILE)
    with pytest.raises(Tampered, match=SPINE_FILE):
        rebuild(path, lake)
    spine.frame.write_parquet(tmp_path / SPINE_FILE)
    assert rebuild(path, lake).rows == 50
    file = next((lake.root / "gold" / "fast" / "files").iterdir())
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(Tampered, match=file.name):
        rebuild(path, lake)
    with pytest.raises(ConfigurationError, match="explicit spine"):
        rebuild(json.loads(description), lake)


def test_a_lake_without_the_snapshot_says_so(market, views, tmp_path):
    made = get_training_set(Spine.of_members(market), views, known_at=END, prices=market)
    with pytest.raises(NotFound, match=market.snapshot_id):
        rebuild(made.description(), Lake(tmp_path / "empty", FixedClock(0)))


def test_what_a_query_needs_is_asked_for(market, views):
    spine = Spine.of_members(market)
    with pytest.raises(ConfigurationError, match="a label needs prices"):
        get_training_set(spine, views[:1], ForwardReturn(1), known_at=END)
    with pytest.raises(ConfigurationError, match="needs a calendar"):
        get_training_set(spine, views, known_at=END)
    with pytest.raises(ContractViolation, match="'ret_1' of table gold/fast exists"):
        get_training_set(spine, [views[0], views[0]], known_at=END)


def test_the_manifest_hash_is_that_of_the_set_of_views(market, views):
    spine = Spine.of_members(market)
    one, other, single = (
        get_training_set(spine, chosen, known_at=END, prices=market).manifest_hash
        for chosen in (views, views[::-1], views[:1])
    )
    assert one == other == content_hash(sorted(view.manifest_hash for view in views))
    assert single == content_hash([views[0].manifest_hash])
