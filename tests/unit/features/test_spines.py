"""A spine comes from Polars, pandas or any Arrow table, and its moments lose no nanosecond."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from assay.domain.instants import from_datetime
from assay.errors import ContractViolation
from assay.features.offline.labels import PriceTable
from assay.features.offline.spines import Spine
from assay.lake.digest import frame_digest

NOW = 1_800_000_000_000_000_001
PLAIN = pl.DataFrame({"instrument": ["B", "A", "B"], "as_of": [NOW, 5, NOW], "size": [0.5, 1, 2]})


def test_a_frame_of_polars_is_taken_as_it_is():
    spine = Spine.of(PLAIN)
    assert spine.frame.equals(PLAIN)
    assert spine.query == {"kind": "explicit", "digest": frame_digest(PLAIN)}


@pytest.mark.parametrize("without_pyarrow", [False, True])
def test_a_frame_of_pandas_gives_the_same_spine(without_pyarrow, monkeypatch):
    pandas = pytest.importorskip("pandas")
    if without_pyarrow:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    frame = pandas.DataFrame(PLAIN.to_dict(as_series=False))
    assert Spine.of(frame).frame.equals(PLAIN)
    times = pandas.to_datetime(PLAIN["as_of"].to_list(), unit="ns", utc=True)
    for zone in ("UTC", "America/New_York"):
        dated = frame.assign(as_of=times.tz_convert(zone))
        assert Spine.of(dated).frame.equals(PLAIN)
    shuffled = frame.set_index(pandas.Index([9, 4, 7]))
    assert Spine.of(shuffled).frame.equals(PLAIN)
    by_moment = dated.set_index("as_of")
    assert Spine.of(by_moment).frame.select(PLAIN.columns).equals(PLAIN)
    assert Spine.of(by_moment).frame.columns == ["as_of", "instrument", "size"]
    named = frame.assign(instrument=frame["instrument"].astype("category"))
    assert Spine.of(named).frame["instrument"].cast(pl.String).to_list() == ["B", "A", "B"]
    nulls = frame.assign(instrument=["B", None, "B"])
    assert Spine.of(nulls).frame["instrument"].to_list() == ["B", None, "B"]


def test_an_arrow_table_gives_the_same_spine():
    arrow = pytest.importorskip("arro3.core")
    assert Spine.of(arrow.Table.from_arrow(PLAIN)).frame.equals(PLAIN)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_timestamps_with_a_zone_become_nanoseconds(unit):
    moment = datetime(2026, 3, 29, 1, 30, tzinfo=ZoneInfo("America/New_York"))
    frame = pl.DataFrame({"instrument": ["A"], "as_of": [moment]})
    typed = frame.with_columns(
        pl.col("as_of").dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit(unit)
    )
    assert Spine.of(typed).frame["as_of"].to_list() == [from_datetime(moment)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pl.DataFrame({"instrument": ["A"]}), "no column 'as_of'"),
        (PLAIN.with_columns(pl.col("as_of").cast(pl.Datetime("ns"))), "without a zone"),
        (PLAIN.with_columns(as_of=pl.Series([1, None, 2])), "1 nulls"),
        (PLAIN.with_columns(as_of=pl.Series([1.0, 2.0, 3.0])), "expected int64 nanoseconds"),
        (PLAIN.with_columns(as_of=pl.lit("2026-01-01")), "expected int64 nanoseconds"),
        (
            PLAIN.with_columns(as_of=pl.lit(datetime(2500, 1, 1, tzinfo=UTC))),
            "outside 1677 to 2262",
        ),
        (
            PLAIN.with_columns(as_of=pl.Series([1, 2, 2**63], dtype=pl.UInt64)),
            "outside 1677 to 2262",
        ),
        ({"instrument": ["A"], "as_of": [1]}, r"type builtins\.dict"),
    ],
)
def test_what_names_no_moments_is_refused(data, message):
    with pytest.raises(ContractViolation, match=message):
        Spine.of(data)


def test_members_need_to_say_who_is_one():
    frame = PLAIN.select("instrument", event_time="as_of", known_time="as_of",
                         source_rank=pl.lit(0), sequence=pl.lit(0), mid="size")  # fmt: skip
    with pytest.raises(ContractViolation, match="no column 'in_universe'"):
        Spine.of_members(PriceTable("silver/market", frame, "s"))
