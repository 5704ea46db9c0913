"""A log of sealed lines notices every changed byte, and forgives a line that a crash cut off."""

from __future__ import annotations

import pytest

from assay.errors import Tampered
from assay.storage.seals import sealed_line, sealed_lines

ENTRIES = [{"snapshot": "ab", "committed_at": 5}, {"snapshot": "é", "committed_at": -1}]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "log.ndjson"
    path.write_bytes(b"".join(sealed_line(entry) + b"\n" for entry in ENTRIES))
    return path


def test_entries_come_back(path, tmp_path):
    assert sealed_lines(path) == ENTRIES
    assert sealed_lines(tmp_path / "none") == []


def test_every_changed_byte_is_noticed(path):
    data = path.read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(Tampered, match=r"log\.ndjson: line \d has changed"):
            sealed_lines(path)


def test_an_unfinished_last_line_is_no_entry(path):
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for length in range(first, len(data)):
        path.write_bytes(data[:length])
        assert sealed_lines(path) == ENTRIES[:1]
