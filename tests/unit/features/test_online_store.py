"""Staleness at the moment of reading, and what the SQLite store does with damage and threads."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest

from assay.errors import (
    ConfigurationError,
    IncompatibleVersion,
    Tampered,
    Unavailable,
)
from assay.features import Duration, FeatureView, Sessions, col
from assay.features.offline.sessions import SessionCalendar
from assay.features.online import MemoryStore, SqliteStore, read_as_of, sqlite
from assay.features.online.store import RowMemory, pack_row
from assay.testing.online_store import stored_row

FEATURES = {"mid": col("mid"), "ret_1": col("mid").simple_return(1)}


def view_with(ttl):
    return FeatureView("fx", "market", "instrument", FEATURES, ttl)


def filled(*rows):
    store = MemoryStore()
    store.write("fx", rows)
    return store


def test_a_row_as_old_as_its_time_to_live_is_fresh_and_one_nanosecond_later_it_is_stale():
    store = filled(stored_row("A", 100, 105))
    view = view_with(Duration(50))
    for moment, stale in [(105, False), (150, False), (151, True)]:
        (found,) = read_as_of(store, view, ["A"], moment)
        assert (found.age, found.stale, found.sessions) == (moment - 100, stale, None)
        assert found.row == stored_row("A", 100, 105)


def test_a_row_is_stale_when_more_sessions_have_passed_than_it_lives():
    store = filled(stored_row("A", 100, 105), stored_row("B", 130))
    calendar = SessionCalendar(np.array([90, 100, 110, 120, 130], dtype=np.int64))
    view = view_with(Sessions(2))
    found = {
        moment: [
            None if item is None else (item.sessions, item.stale)
            for item in read_as_of(store, view, ["B", "A", "?"], moment, calendar=calendar)
        ]
        for moment in (109, 110, 120, 130)
    }
    assert found == {
        109: [None, (0, False), None],
        110: [None, (1, False), None],
        120: [None, (2, False), None],
        130: [(0, False), (3, True), None],
    }
    with pytest.raises(ConfigurationError, match="2 sessions needs a calendar"):
        read_as_of(store, view, ["A"], 120)


def test_a_row_that_was_not_known_yet_gives_way_to_the_one_before():
    store = filled(stored_row("A", 100), stored_row("A", 100, 140), stored_row("A", 130, 170))
    view = view_with(Duration(1_000))
    times = [(99, None), (100, 100), (139, 100), (140, 140), (169, 140), (170, 170)]
    for moment, known in times:
        (found,) = read_as_of(store, view, ["A"], moment)
        assert (found.row.known_time if found else None) == known


def change(path, place, value):
    with sqlite3.connect(path) as connection:
        (data,) = connection.execute("SELECT packed FROM online_rows").fetchone()
        damaged = bytearray(data)
        damaged[place] ^= value
        connection.execute("UPDATE online_rows SET packed = ?", (bytes(damaged),))
    connection.close()


def test_a_stored_row_with_one_changed_bit_is_not_served(tmp_path):
    path = tmp_path / "online.db"
    store = SqliteStore(path)
    store.write("fx", [stored_row()])
    size = 72 + 16
    for place in (4, 8, 30, 41, 72, size - 1):
        change(path, place, 1)
        with pytest.raises(Tampered, match="checksum"):
            store.read("fx", ["A"])
        with pytest.raises(Tampered):
            store.read("fx", ["A", "A"])  # and the transaction of the read is over:
        change(path, place, 1)
        assert store.read("fx", ["A", "A"]) == [stored_row(), stored_row()]
    change(path, 0, 2)
    with pytest.raises(IncompatibleVersion, match="layout 3"):
        store.read("fx", ["A"])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE online_rows SET packed = x'0100'")
    connection.close()
    with pytest.raises(Tampered, match="cut short"):
        store.history("fx", "A")
    store.close()


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "online.db"
    path.write_bytes(b"rates" * 1_000)
    with pytest.raises(Tampered, match=r"online\.db"):
        SqliteStore(path)


def test_a_closed_store_says_so_in_every_thread(tmp_path):
    store = SqliteStore(tmp_path / "online.db")
    store.write("fx", [stored_row()])
    assert store.read("fx", ["A"]) == [stored_row()]
    answers = []

    def ask():
        answers.append(store.read("fx", ["A"]))
        asked.set()
        closed.wait()
        try:
            store.read("fx", ["A"])
        except Unavailable as error:
            answers.append(str(error))

    asked, closed = threading.Event(), threading.Event()
    thread = threading.Thread(target=ask)
    thread.start()
    asked.wait()
    store.close()
    closed.set()
    thread.join()
    assert answers[0] == [stored_row()]
    assert "is closed" in answers[1]
    for call in (lambda: store.read("fx", ["A"]), lambda: store.write("fx", [stored_row()])):
        with pytest.raises(Unavailable, match="is closed"):
            call()


def test_a_reader_does_not_keep_the_log_of_writes_from_being_folded_in(tmp_path):
    path = tmp_path / "online.db"
    store = SqliteStore(path, max_versions=10_000)
    store.write("fx", [stored_row()])
    values = tuple(range(500))
    wal = path.with_name("online.db-wal")
    largest = 0
    for batch in range(14):
        assert store.read("fx", ["A"]) != [None]
        assert store.read("fx", ["A", "B"])[1] is None
        store.write("fx", [stored_row("A", 2 + n, values=values) for n in
                           range(batch * 100, batch * 100 + 100)])  # fmt: skip
        largest = max(largest, wal.stat().st_size)
    assert largest > 2_000_000
    assert wal.stat().st_size < largest
    store.close()


def test_reading_a_store_does_not_load_the_compiler():
    code = "import sys, assay.features.online, assay.testing.clocks; print('numba' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_what_is_written_between_the_queries_of_one_read_is_not_seen(tmp_path, monkeypatch):
    store, writer = (SqliteStore(tmp_path / "online.db") for _ in range(2))
    views = ("a", "b", "c")
    for view in views:
        store.write(view, [stored_row("A", 1)])
    newest = sqlite._newest
    written = []

    def between(connection, view, *rest):
        found = newest(connection, view, *rest)
        if view not in written:
            written.append(view)
            for other in views:
                writer.write(other, [stored_row("A", 1 + len(written))])
        return found

    monkeypatch.setattr(sqlite, "_newest", between)
    found = store.read_views({view: ["A", "B"] for view in views})
    assert written == list(views)
    assert found == {view: [stored_row("A", 1), None] for view in views}
    assert store.read("b", ["A"]) == [stored_row("A", 4)]
    for one in (store, writer):
        one.close()


def test_a_row_that_is_read_again_is_the_same_object_until_its_bytes_change(tmp_path):
    store, writer = (SqliteStore(tmp_path / "online.db") for _ in range(2))
    writer.write("fx", [stored_row("A", 1), stored_row("A", 2)])
    writer.write("other", [stored_row("A", 1)])
    (first,) = store.read("fx", ["A"])
    assert store.read("fx", ["A"])[0] is first
    assert not first.values.flags.writeable
    assert store.read("fx", ["A"], 1) == [stored_row("A", 1)]
    assert store.read("other", ["A"]) == [stored_row("A", 1)]
    writer.write("fx", [stored_row("A", 3)])
    assert store.read("fx", ["A"]) == [stored_row("A", 3)]
    with sqlite3.connect(tmp_path / "online.db") as connection:
        (packed,) = connection.execute(
            "SELECT packed FROM online_rows WHERE view = 'fx' AND event_time = 3"
        ).fetchone()
        changed = packed[:-1] + bytes([packed[-1] ^ 1])
        connection.execute(
            "UPDATE online_rows SET packed = ? WHERE view = 'fx' AND event_time = 3", (changed,)
        )
    connection.close()
    with pytest.raises(Tampered):
        store.read("fx", ["A"])
    for one in (store, writer):
        one.close()


def test_rows_that_are_remembered_are_bounded():
    memory = RowMemory()
    packed = pack_row("fx", stored_row("A", 1))
    first = memory.unpack("fx", "E0", packed)
    for number in range(1, 10_000):
        memory.unpack("fx", f"E{number}", packed)
    assert memory.unpack("fx", "E0", packed) is first
    memory.unpack("fx", "one more", packed)
    assert memory.unpack("fx", "E0", packed) is not first
