"""Bronze keeps every version of every fact once, for ever, in the order of storing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.domain.facts import Observation
from assay.errors import ContractViolation, Tampered
from assay.lake.bronze import SCHEMA, Bronze
from assay.testing.clocks import FixedClock

HOUR = 3_600_000_000_000
NOW = 1_000 * HOUR


class Pull:
    """A source that says what it was given."""

    def __init__(self, observations, name="ecb", rank=3):
        self.name, self.rank, self._observations = name, rank, observations

    def observations(self):
        return iter(self._observations)


def fact(value, event=10 * HOUR, known=None, entity="EUR_USD"):
    return Observation(entity, event, event + HOUR if known is None else known, {"rate": value})


@pytest.fixture
def clock():
    return FixedClock(NOW)


@pytest.fixture
def bronze(tmp_path, clock):
    return Bronze(tmp_path / "bronze", clock)


def values(frame):
    return [json.loads(text)["rate"] for text in frame["payload"]]


def test_a_record_keeps_everything_and_its_payload_byte_for_byte(bronze):
    payload = {"b": 'quote " and ,"payload":{}', "a": "ü\u2028\n", "c": 1.5, "d": None, "e": True}
    bronze.ingest(Pull([Observation('odd "name', 5, 7, payload)]), tolerance=0)
    frame = bronze.read()
    assert frame.schema == SCHEMA
    row = frame.row(0, named=True)
    assert json.loads(row.pop("payload")) == payload
    assert row == {
        "position": 0,
        "source_rank": 3,
        "source": "ecb",
        "entity": 'odd "name',
        "event_time": 5,
        "known_time": 7,
        "published_time": 7,
        "ingested_at": NOW,
        "sequence": 0,
        "history": True,
    }


def test_segments_are_compressed_lines_under_source_and_day_of_arrival(bronze, tmp_path):
    bronze.ingest(Pull([fact("1"), fact("2", event=20 * HOUR)]))
    (segment,) = (tmp_path / "bronze").glob("*/*/*")
    assert segment.relative_to(tmp_path).as_posix() == (
        "bronze/ecb/1970-02-11/000000000000.ndjson.zst"
    )
    text = zstandard.ZstdDecompressor().decompressobj().decompress(segment.read_bytes())
    assert [json.loads(line)["payload"]["rate"] for line in text.splitlines()] == ["1", "2"]


def test_the_same_pull_twice_adds_nothing(bronze, tmp_path, clock):
    pull = Pull([fact(str(n), event=n * HOUR, entity=f"E{n % 3}") for n in range(100)])
    first = bronze.ingest(pull, batch_size=7)
    assert (first.read, first.added, first.duplicates) == (100, 100, 0)
    for again in (bronze, Bronze(tmp_path / "bronze", clock)):
        report = again.ingest(pull, batch_size=11)
        assert (report.read, report.added, report.duplicates) == (100, 0, 100)
    assert bronze.position == 100
    assert bronze.read()["position"].to_list() == list(range(100))


def test_a_b_a_are_three_versions_each_known_later(bronze, clock):
    for value in "ABA":
        bronze.ingest(Pull([fact(value)]))
        clock.advance(HOUR)
    frame = bronze.read()
    assert values(frame) == ["A", "B", "A"]
    assert frame["known_time"].to_list() == [11 * HOUR, NOW + HOUR, NOW + 2 * HOUR]
    assert frame["sequence"].to_list() == [0, 1, 2]
    assert frame["history"].to_list() == [True, False, False]


def test_revisions_are_known_later_even_when_the_clock_stands_still(bronze):
    for value in "ABAB":
        bronze.ingest(Pull([fact(value, event=NOW, known=NOW)]))
    known = bronze.read()["known_time"].to_list()
    assert known == sorted(set(known))


def test_live_facts_are_known_from_arrival_and_history_from_the_rule(bronze):
    facts = [
        fact("early", event=NOW - HOUR, known=NOW + HOUR),
        fact("live", event=NOW - 3 * HOUR, known=NOW - 2 * HOUR),
        fact("old", event=NOW - 9 * HOUR, known=NOW - 8 * HOUR),
    ]
    report = bronze.ingest(Pull(facts), tolerance=4 * HOUR)
    frame = bronze.read()
    assert frame["known_time"].to_list() == [NOW + HOUR, NOW, NOW - 8 * HOUR]
    assert frame["history"].to_list() == [False, False, True]
    assert report.history == 1


def test_vintages_within_one_pull_keep_their_own_known_times(bronze):
    vintages = [fact("A", known=20 * HOUR), fact("B", known=30 * HOUR), fact("A", known=40 * HOUR)]
    for _ in range(2):
        bronze.ingest(Pull(vintages))
    frame = bronze.read()
    assert values(frame) == ["A", "B", "A"]
    assert frame["known_time"].to_list() == [20 * HOUR, 30 * HOUR, 40 * HOUR]


def test_a_source_that_contradicts_itself_is_stored_with_both_sides_at_one_time(bronze):
    report = bronze.ingest(Pull([fact("A"), fact("B")]))
    frame = bronze.read()
    assert values(frame) == ["A", "B"]
    assert frame["known_time"].n_unique() == 1
    assert (report.added, report.conflicts) == (2, 1)


def test_a_contradiction_of_a_known_fact_leaves_the_past_as_it_was(bronze, clock):
    bronze.ingest(Pull([fact("A")]))
    clock.advance(HOUR)
    report = bronze.ingest(Pull([fact("A"), fact("B")]))
    frame = bronze.read()
    assert values(frame) == ["A", "A", "B"]
    assert frame["known_time"].to_list() == [11 * HOUR, NOW + HOUR, NOW + HOUR]
    assert (report.conflicts, report.restated, report.added) == (1, 1, 2)


def test_a_source_that_settles_its_contradiction_is_believed(bronze, clock):
    bronze.ingest(Pull([fact("A"), fact("B")]))
    clock.advance(HOUR)
    report = bronze.ingest(Pull([fact("B")]))
    assert values(bronze.read()) == ["A", "B", "B"]
    assert (report.added, report.restated) == (1, 1)
    assert bronze.ingest(Pull([fact("B")])).added == 0


def test_positions_say_what_came_later_than_a_mark(bronze):
    bronze.ingest(Pull([fact("1")]))
    mark = bronze.position
    bronze.ingest(Pull([fact("old", event=HOUR)], name="other"))
    bronze.ingest(Pull([fact("2", event=50 * HOUR)]))
    assert values(bronze.read(after=mark)) == ["old", "2"]
    assert values(bronze.read("ecb", after=mark)) == ["2"]
    assert bronze.read(after=bronze.position).schema == SCHEMA


def test_two_writers_of_one_source_never_store_a_fact_twice(tmp_path, clock):
    one, other = (Bronze(tmp_path / "bronze", clock) for _ in range(2))
    facts = [fact(str(n), event=n * HOUR) for n in range(30)]
    one.ingest(Pull(facts[:10]))
    other.ingest(Pull(facts[:20]))
    one.ingest(Pull(facts))
    frame = other.read()
    assert values(frame) == [str(n) for n in range(30)]
    assert frame["sequence"].to_list() == list(range(30))


def test_a_torn_commit_does_not_exist_and_is_cleared_away(bronze, tmp_path):
    root = tmp_path / "bronze"
    bronze.ingest(Pull([fact("1")]))
    orphan = root / "ecb" / "1970-02-11" / "000000000001.ndjson.zst"
    orphan.write_bytes(b"half a segm")
    with (root / "commits.ndjson").open("ab") as log:
        log.write(b'{"first":1,"cou')
    assert values(bronze.read()) == ["1"]
    bronze.ingest(Pull([fact("2", event=20 * HOUR)]))
    assert values(bronze.read()) == ["1", "2"]
    orphan.with_name("left.tmp").write_bytes(b"")
    bronze.ingest(Pull([fact("2", event=20 * HOUR)]))
    assert len(list(root.glob("*/*/*"))) == 2


def test_a_changed_or_missing_segment_is_named(bronze, tmp_path):
    bronze.ingest(Pull([fact("1")]))
    (segment,) = (tmp_path / "bronze").glob("*/*/*")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with pytest.raises(Tampered, match=segment.name):
        bronze.read()
    segment.unlink()
    with pytest.raises(Tampered, match=segment.name):
        bronze.read()


def test_a_damaged_log_is_refused(bronze, tmp_path):
    bronze.ingest(Pull([fact("1"), fact("2", event=HOUR)]), batch_size=1)
    log = tmp_path / "bronze" / "commits.ndjson"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[1])
    with pytest.raises(Tampered, match="starts at fact 1, expected 0"):
        bronze.read()
    log.write_bytes(b"nonsense\n" + lines[1])
    with pytest.raises(Tampered, match="line 1 is unreadable"):
        bronze.read()


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (Observation("E", 2**63, 0, {}), "int64"),
        (Observation("E", 0, -(2**63) - 1, {}), "int64"),
        (Observation("E", 0, 0, {"x": float("nan")}), "x is nan"),
        (Observation("E", 0, 0, {"x": 10**30}), "expected an int64"),
        (Observation("E", 0, 0, {"x": [1]}), "x is list"),
        (Observation("E", 0, 0, {1: "x"}), "name 1 is int"),
        (Observation("E", 0, 0, {"x": "\ud800"}), "UTF-8"),
    ],
)
def test_what_has_no_record_is_refused_and_named(observation, message, bronze):
    with pytest.raises(ContractViolation, match=message):
        bronze.ingest(Pull([observation]))
    assert bronze.position == 0


def test_after_a_refusal_the_rest_can_still_be_stored(bronze):
    good = [fact(str(n), event=n * HOUR) for n in range(4)]
    with pytest.raises(ContractViolation):
        bronze.ingest(Pull([*good, Observation("E", 0, 0, {"x": [1]})]), batch_size=3)
    assert bronze.position == 3
    assert bronze.ingest(Pull(good)).added == 1


@pytest.mark.parametrize("name", ["", "ECB", "../ecb", "a/b", "1st"])
def test_a_source_name_that_is_no_folder_is_refused(name, bronze):
    with pytest.raises(ContractViolation, match="source name"):
        bronze.ingest(Pull([], name=name))


observations = st.builds(
    lambda entity, event, delay, value: Observation(entity, event, event + delay, {"v": value}),
    st.sampled_from("XY"),
    st.sampled_from([10, 20]),
    st.sampled_from([0, 1, 2]),
    st.sampled_from("ABC"),
)
ordered_pulls = st.lists(
    st.lists(observations, max_size=6).map(lambda pull: sorted(pull, key=lambda o: o.known_time)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(ordered_pulls, st.integers(1, 5), st.sampled_from([0, 3, 1_000]))
def test_any_pull_repeated_adds_nothing_and_loses_nothing(pulls, batch_size, tolerance):
    with TemporaryDirectory() as folder:
        clock = FixedClock(12)
        bronze = Bronze(Path(folder), clock)
        for pull in pulls:
            before = bronze.read()
            report = bronze.ingest(Pull(pull), batch_size=batch_size, tolerance=tolerance)
            after = bronze.read()
            assert report.read + report.restated == report.added + report.duplicates
            assert after.head(len(before)).equals(before)
            stored = set(after.select("entity", "event_time", "payload").iter_rows())
            for item in pull:
                assert (
                    item.entity,
                    item.event_time,
                    json.dumps(item.payload).replace(" ", ""),
                ) in (stored)
            clock.advance(5)
            for again in (bronze, Bronze(Path(folder), clock)):
                assert again.ingest(Pull(pull), tolerance=tolerance).added == 0
        numbers = Counter(bronze.read().select("entity", "sequence").iter_rows())
        assert set(numbers.values()) <= {1}
        assert (
            (bronze.read().select(pl.col("known_time") >= pl.col("published_time")))
            .to_series()
            .all()
        )
