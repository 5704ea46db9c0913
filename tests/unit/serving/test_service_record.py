"""A service's record is a chain: what was changed, removed or put in between is found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from assay.serving.prediction.service_record import ServiceRecord, read_record
from assay.storage.files import last_line
from assay.testing.clocks import FixedClock


def write(path: Path, events: int) -> list[bytes]:
    clock = FixedClock(0)
    record = ServiceRecord(path, clock, process=7, server="one")
    for number in range(events):
        clock.advance(10**9)
        record.append("loaded", model="fx_vol", version=f"1.{number}.0", digest="é")
    return path.read_bytes().splitlines(keepends=True)


def wrong(path: Path) -> list[int]:
    return [line.number for line in read_record(path) if line.problem is not None]


def test_each_line_names_the_bytes_of_the_one_before(tmp_path: Path) -> None:
    lines = write(tmp_path / "record.jsonl", 4)
    named = [json.loads(line)["previous"] for line in lines]
    assert named[0] == "0" * 64
    assert named[1:] == [hashlib.sha256(line.rstrip(b"\n")).hexdigest() for line in lines[:-1]]
    assert wrong(tmp_path / "record.jsonl") == []


def test_an_edit_a_removal_and_an_insertion_are_found_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    lines = write(path, 5)
    for change, found in (
        ([*lines[:1], lines[1].replace(b"1.1.0", b"9.9.9"), *lines[2:]], [3]),
        ([*lines[:2], *lines[3:]], [3]),
        ([*lines[:3], lines[0], *lines[3:]], [4, 5]),
        ([lines[1], lines[0], *lines[2:]], [1, 2, 3]),
        ([*lines[:4], lines[4].replace(b",", b", ", 1)], [5]),
        ([*lines[:2], b"{}\n", *lines[2:]], [3, 4]),
        ([*lines[:2], b"nonsense\n", *lines[2:]], [3, 4]),
        ([*lines[:2], b"[1]\n", *lines[2:]], [3, 4]),
    ):
        path.write_bytes(b"".join(change))
        assert wrong(path) == found


def test_lines_from_before_there_was_a_chain_are_read_and_held_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    path.write_bytes(b'{"at": "2026-01-01T00:00:00Z", "event": "started", "process": 7}\n' * 2)
    write(path, 2)
    assert wrong(path) == []
    path.write_bytes(path.read_bytes().replace(b"2026-01-01", b"2026-01-02", 2))
    assert wrong(path) == [3]


def test_a_torn_line_is_no_line_and_the_chain_goes_on_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    write(path, 2)
    with path.open("ab") as handle:
        handle.write(b'{"at":"2026')
    assert wrong(path) == []
    write(path, 1)
    assert wrong(path) == []
    assert len(list(read_record(path))) == 3
    assert list(read_record(tmp_path / "none.jsonl")) == []


@pytest.mark.parametrize(
    ("content", "last"),
    [
        (b"", b""),
        (b"torn", b""),
        (b"a\n", b"a"),
        (b"a\nb\n", b"b"),
        (b"a\nb\nto", b"b"),
        (b"a\n\n", b""),
        (b"x" * 200_000 + b"\n" + b"y" * 150_000 + b"\n", b"y" * 150_000),
    ],
)
def test_the_last_line_is_the_last_whole_one(tmp_path: Path, content: bytes, last: bytes) -> None:
    path = tmp_path / "lines"
    assert last_line(path) == b""
    path.write_bytes(content)
    assert last_line(path) == last
