"""The comparison of two tables against the same questions asked row by row in plain Python."""

from __future__ import annotations

import math
import struct

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from assay.domain.order import VersionKey, as_of
from assay.features import FeatureView, Sessions, col
from assay.features.online import MemoryStore, StoredRow
from assay.features.parity import Horizon, check_answers, compare

VALUES = st.one_of(
    st.none(), st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf]), st.floats(-10, 10)
)
KEYS = st.tuples(st.sampled_from(["A", "B"]), st.integers(0, 4))
TABLES = st.dictionaries(KEYS, st.tuples(VALUES, VALUES), max_size=10)
Table = dict[tuple[str, int], tuple[float | None, float | None]]


def frame(table: Table) -> pl.DataFrame:
    schema = {"e": pl.String, "event_time": pl.Int64, "a": pl.Float64, "b": pl.Float64}
    return pl.DataFrame(
        [(*key, *values) for key, values in table.items()], schema=schema, orient="row"
    )


def bits(value: float | None) -> bytes | None:
    return None if value is None else struct.pack("<d", value)


def steps(x: float, y: float) -> int:
    """Floats from one number to another, by the integers that their bits are."""

    def place(value: float) -> int:
        (word,) = struct.unpack("<q", struct.pack("<d", value))
        return word if word >= 0 else -(2**63) - word

    return abs(place(x) - place(y))


def missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


@given(TABLES, TABLES)
def test_counts_distances_and_names_are_those_of_a_loop_over_rows(one: Table, two: Table) -> None:
    report = compare(frame(one), frame(two), keys=("e", "event_time"), shown=100)
    common = sorted(one.keys() & two.keys())
    assert report.missing_keys == tuple(sorted(one.keys() - two.keys()))
    assert report.extra_keys == tuple(sorted(two.keys() - one.keys()))
    assert (report.missing, report.extra) == (len(one) - len(common), len(two) - len(common))
    differing = set()
    for number, feature in enumerate(report.features):
        pairs = [(one[key][number], two[key][number]) for key in common]
        unequal = [(x, y) for x, y in pairs if bits(x) != bits(y)]
        differing |= {key for key, (x, y) in zip(common, pairs, strict=True) if bits(x) != bits(y)}
        numbers = [(x, y) for x, y in unequal if not missing(x) and not missing(y)]
        assert feature.compared == len(common)
        assert feature.equal == len(pairs) - len(unequal)
        assert feature.one_missing == sum(missing(x) != missing(y) for x, y in unequal)
        assert feature.nan_against_null == sum(
            missing(x) and missing(y) and (x is None) != (y is None) for x, y in unequal
        )
        assert feature.largest_ulp == max((steps(x, y) for x, y in numbers), default=0)  # type: ignore[arg-type]
    assert {found.key for found in report.differences} == differing
    assert report.holds == (bool(common) and one.keys() == two.keys() and not differing)
    again = compare(frame(two), frame(one), keys=("e", "event_time"), shown=100)
    assert (again.missing, again.extra) == (report.extra, report.missing)
    assert again.bitwise_equal == report.bitwise_equal


VIEW = FeatureView(name="v", source="s", entity="e", ttl=Sessions(3), features={"a": col("x")})
VERSIONS = st.sets(
    st.tuples(st.sampled_from(["A", "B"]), st.integers(0, 6), st.integers(0, 6), st.integers(0, 1)),
    max_size=14,
)


@given(VERSIONS, VERSIONS, st.integers(0, 6))
def test_answers_are_right_exactly_where_the_rule_of_versions_gives_them(
    known: set[tuple[str, int, int, int]], kept: set[tuple[str, int, int, int]], since: int
) -> None:
    def rows(versions: set[tuple[str, int, int, int]]) -> pl.DataFrame:
        schema = {"e": pl.String, "event_time": pl.Int64, "known_time": pl.Int64,
                  "source_rank": pl.Int64, "sequence": pl.Int64}  # fmt: skip
        return pl.DataFrame([(*one, 0) for one in sorted(versions)], schema=schema, orient="row")

    store = MemoryStore()
    store.write("v", [StoredRow(*one, 0, "ab" * 32, np.array([1.0])) for one in sorted(kept)])
    found = check_answers(VIEW, store, rows(known), Horizon(since), shown=1000)
    entities = sorted({one[0] for one in known})
    moments = sorted(
        {
            moment
            for _, event, at, _ in known
            if event >= since
            for moment in (max(event, at) - 1, max(event, at))
        }
    )

    def inside(versions: set[tuple[str, int, int, int]], entity: str, moment: int) -> object:
        keys = [VersionKey(*one[1:], 0) for one in versions if one[0] == entity]
        best = as_of(keys, moment)
        return None if best is None or best.event_time < since else best

    wrong = {
        (entity, moment)
        for moment in moments
        for entity in entities
        if inside(known, entity, moment) != inside(kept, entity, moment)
    }
    assert {(one.entity, one.moment) for one in found.first} == wrong
    assert (found.wrong == 0) == (not wrong)
