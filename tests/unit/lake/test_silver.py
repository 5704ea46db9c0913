"""Silver is typed and sound, and every record of bronze is accepted, repeated or quarantined."""

from __future__ import annotations

import json
import random

import polars as pl
import pytest

from assay.domain.facts import Observation
from assay.domain.order import VersionKey, as_of
from assay.errors import ConfigurationError
from assay.lake.bronze import Bronze
from assay.lake.contracts import RatesContract, Reason
from assay.lake.silver import (
    RATES_SCHEMA,
    as_first_known,
    build_rates,
    by_year,
    latest_as_of,
)
from assay.testing.clocks import FixedClock

DAY = 86_400_000_000_000
HOUR = 3_600_000_000_000
CONTRACT = RatesContract(zone="UTC")
START = 20_000  # days since the epoch: 2024-10-04


def payload(day, rate):
    text = pl.select(pl.lit(day).cast(pl.Date).dt.to_string("%Y-%m-%d")).item()
    return {"date": text, "rate": rate}


def record(day, rate, *, entity="EUR_USD", known=None, sequence=0, raw=None, published=None):
    event = day * DAY + 14 * HOUR
    known = event + 2 * HOUR if known is None else known
    return {
        "source_rank": 0,
        "source": "ecb",
        "entity": entity,
        "event_time": event,
        "known_time": known,
        "published_time": known if published is None else published,
        "ingested_at": 0,
        "sequence": sequence,
        "history": True,
        "payload": json.dumps(payload(day, rate) if raw is None else raw),
    }


def frame(*records):
    return (
        pl.DataFrame(list(records), infer_schema_length=None)
        .with_row_index("position")
        .cast({"position": pl.Int64, "source_rank": pl.Int32})
    )


def build(*records, contract=CONTRACT):
    facts = frame(*records)
    tables = build_rates(facts, contract)
    assert len(tables.rates) + len(tables.quarantine) + tables.repeated == len(facts)
    return tables


def reasons(tables):
    return tables.quarantine["reason"].to_list()


def test_sound_records_become_typed_rows():
    tables = build(record(START, "1.10"), record(START + 1, " 1.11 ", sequence=1))
    assert tables.rates.schema == RATES_SCHEMA
    assert tables.rates["rate"].to_list() == [1.10, 1.11]
    assert tables.quarantine.is_empty()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"date": "soon", "rate": "1.1"}, Reason.UNPARSEABLE_TIME),
        ({"rate": "1.1"}, Reason.UNPARSEABLE_TIME),
        ({"date": "2024-10-05", "rate": "1.1"}, Reason.TIME_MISMATCH),
        ({"date": "2024-10-04"}, Reason.MISSING_VALUE),
        ({"date": "2024-10-04", "rate": None}, Reason.MISSING_VALUE),
        ({"date": "2024-10-04", "rate": True}, Reason.WRONG_TYPE),
        ({"date": "2024-10-04", "rate": "1,1"}, Reason.UNPARSEABLE_NUMBER),
        ({"date": "2024-10-04", "rate": ""}, Reason.UNPARSEABLE_NUMBER),
        ({"date": "2024-10-04", "rate": "NaN"}, Reason.NOT_FINITE),
        ({"date": "2024-10-04", "rate": "1e999"}, Reason.NOT_FINITE),
        ({"date": "2024-10-04", "rate": "0"}, Reason.NOT_POSITIVE),
        ({"date": "2024-10-04", "rate": "-1.1"}, Reason.NOT_POSITIVE),
    ],
)
def test_a_broken_record_is_quarantined_with_its_reason_and_raw_text(raw, reason):
    tables = build(record(START - 1, "1.1"), record(START, "", raw=raw, sequence=1))
    assert len(tables.rates) == 1
    assert reasons(tables) == [reason]
    assert json.loads(tables.quarantine["payload"][0]) == raw
    assert tables.quarantined_by_reason == {str(reason): 1}


def test_a_fact_known_before_it_happened_is_quarantined():
    assert reasons(build(record(START, "1.1", known=0))) == [Reason.TIME_MISMATCH]


def test_two_values_at_one_known_time_are_both_quarantined():
    tables = build(record(START, "1.1"), record(START, "1.2", sequence=1), record(START + 1, "1.1"))
    assert reasons(tables) == [Reason.CONFLICTING_VALUES] * 2
    assert tables.rates["event_time"].to_list() == [(START + 1) * DAY + 14 * HOUR]


def test_one_value_said_twice_at_one_known_time_is_kept_once():
    tables = build(record(START, "1.1"), record(START, "1.10", sequence=1))
    assert (len(tables.rates), tables.repeated) == (1, 1)


def test_a_misplaced_decimal_point_is_quarantined_and_does_not_taint_the_next_row():
    tables = build(*(record(START + n, r, sequence=n) for n, r in enumerate(["1.1", "11", "1.1"])))
    assert reasons(tables) == [Reason.IMPOSSIBLE_JUMP]
    assert tables.rates["rate"].to_list() == [1.1, 1.1]
    assert not tables.rates["extreme"].any()


def test_a_true_extreme_is_flagged_and_kept():
    tables = build(record(START, "1.2010"), record(START + 1, "1.0280", sequence=1))
    assert tables.rates["extreme"].to_list() == [False, True]
    assert tables.quarantine.is_empty()


def test_after_a_long_gap_any_level_is_believed():
    tables = build(record(START, "290"), record(START + 3_341, "12.5", sequence=1))
    assert tables.rates["extreme"].to_list() == [False, False]


def test_a_lasting_new_level_is_believed_after_the_gap():
    rates = ["1.1", *["1100000"] * 20]
    tables = build(*(record(START + n, r, sequence=n) for n, r in enumerate(rates)))
    assert reasons(tables) == [Reason.IMPOSSIBLE_JUMP] * 14
    assert tables.rates["rate"].to_list()[-1] == 1_100_000


def test_a_version_is_compared_with_what_was_known_at_its_time():
    later = (START + 30) * DAY
    tables = build(
        record(START, "100"),
        record(START, "1.1", sequence=1, known=later),  # a correction, impossible against nothing
        record(START + 1, "101", sequence=2),
        record(START + 1, "1.2", sequence=3, known=later + 1),
    )
    # The row of the second day is judged against 100, its correction against 1.1.
    assert tables.quarantine.is_empty()
    assert tables.rates["extreme"].to_list() == [False, False, False, False]


def test_every_version_is_kept_and_resolved_by_the_total_order():
    rng = random.Random(5)
    rows = []
    for day in range(6):
        known = (START + day) * DAY + 16 * HOUR
        for _ in range(rng.randint(1, 4)):
            rows.append(
                record(START + day, f"1.{rng.randint(10, 19)}", known=known, sequence=len(rows))
            )
            known += rng.randint(1, 3) * DAY
    rng.shuffle(rows)
    rates = build(*rows).rates
    for moment in range(START * DAY, (START + 12) * DAY, DAY // 2):
        got = latest_as_of(rates, moment)
        for event in rates["event_time"].unique():
            keys = [
                VersionKey(*key)
                for key in rates.filter(event_time=event)
                .select("event_time", "known_time", "source_rank", "sequence")
                .iter_rows()
            ]
            expected = as_of(keys, moment)
            found = got.filter(event_time=event)
            assert found["sequence"].to_list() == ([expected.sequence] if expected else [])


def test_as_first_known_is_what_each_fact_was_when_it_appeared():
    first = (START + 1) * DAY
    rates = build(
        record(START, "1.1", known=first, sequence=3),
        record(START, "1.2", known=first + DAY, sequence=4),
        record(START, "1.3", known=first + 2 * DAY, sequence=5),
        record(START + 1, "1.4", known=first + 3 * DAY, sequence=1),
    ).rates.sample(fraction=1.0, shuffle=True, seed=3)
    found = as_first_known(rates)
    assert found["rate"].to_list() == [1.1, 1.4]
    for event, known, rate in found.select("event_time", "known_time", "rate").iter_rows():
        then = latest_as_of(rates, known).filter(event_time=event)
        assert then["rate"].to_list() == [rate]
        assert latest_as_of(rates, known - 1).filter(event_time=event).is_empty()


def test_reading_numbers_gives_the_bits_that_python_reads():
    rng = random.Random(1)
    texts = [repr(rng.uniform(0.1, 1e6)) for _ in range(300)]
    texts += [f"{rng.uniform(0.1, 1e5):.{rng.randint(0, 25)}f}" for _ in range(300)]
    tables = build(*(record(START, text, entity=f"E{n}") for n, text in enumerate(texts)))
    expected = {f"E{n}": float(text) for n, text in enumerate(texts)}
    assert dict(tables.rates.select("entity", "rate").iter_rows()) == expected


def test_bronze_to_silver_end_to_end_with_a_revision(tmp_path):
    clock = FixedClock((START + 5) * DAY)
    bronze = Bronze(tmp_path, clock)

    class Source:
        name, rank = "ecb", 0

        def __init__(self, rate):
            self.rate = rate

        def observations(self):
            event = START * DAY + 14 * HOUR
            yield Observation("EUR_USD", event, event + 2 * HOUR, payload(START, self.rate))

    for rate in ("1.10", "1.12"):
        bronze.ingest(Source(rate))
        clock.advance(DAY)
    rates = build_rates(bronze.read(), CONTRACT).rates
    assert rates["rate"].to_list() == [1.10, 1.12]
    assert latest_as_of(rates, (START + 5) * DAY)["rate"].to_list() == [1.10]
    assert latest_as_of(rates)["rate"].to_list() == [1.12]


def test_parts_by_year_hold_every_row_once():
    rates = build(*(record(START + 40 * n, "1.1", sequence=n) for n in range(20))).rates
    parts = by_year(rates)
    assert list(parts) == ["2024", "2025", "2026"]
    assert pl.concat(parts.values()).sort("event_time").equals(rates)
    assert list(by_year(rates.clear())) == ["empty"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"extreme_mvoe": 0.1}, "did you mean 'extreme_move'"),
        ({"extreme_move": "big"}, "expected float"),
        ({"extreme_move": 0.0}, "extreme_move"),
        ({"extreme_move": 2.0, "impossible_move": 1.0}, "extreme_move"),
        ({"gap_days": -1}, "gap_days"),
        ({"zone": "Frankfurt"}, "Europe/Berlin"),
    ],
)
def test_a_wrong_contract_is_refused_with_the_key(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        RatesContract.from_mapping(settings)
