"""Events are written in a thread of its own: nobody waits, nothing is lost without a word."""

import logging

import pytest

from assay.access import AccessEvent, AccessLog, RecordWriter, RepeatedRefusals
from assay.access.record_writer import NOT_WRITTEN
from assay.access.repeated import WRITTEN
from assay.storage.locks import FileLock
from assay.testing.clocks import FixedClock
from assay.testing.waiting import until

T0 = 1_700_000_000_000_000_000


class Kept:
    """A record of access, and what writes into it."""

    def __init__(self, folder, **options):
        self.log = AccessLog(folder / "access.jsonl", FixedClock(T0))
        refusals = RepeatedRefusals(self.log, FixedClock(T0))
        self.writer = RecordWriter(self.log, refusals, **options)

    def lock(self):
        return FileLock(self.log.path.with_name(self.log.path.name + ".lock"))


def refused(number, subject=""):
    return AccessEvent("refused", subject, "POST", "/kill", "no_token", "", f"r{number}")


def test_what_is_written_is_there_in_its_order_when_it_stops(tmp_path):
    kept = Kept(tmp_path)
    for number in range(WRITTEN + 5):
        kept.writer.write(refused(number), "10.0.0.1")
        kept.writer.write(refused(number, "jane"), "10.0.0.1")
    kept.writer.stop()
    events = kept.log.events()
    known = [e["request_id"] for e in events if e["subject"] == "jane"]
    assert known == [f"r{number}" for number in range(WRITTEN + 5)]
    strangers = [e for e in events if not e["subject"]]
    assert [e.get("count", 1) for e in strangers] == [1] * WRITTEN + [5]
    assert {e["place"] for e in strangers} == {"10.0.0.1"}


def test_it_stops_without_having_begun_and_begins_again_after_it(tmp_path):
    kept = Kept(tmp_path)
    kept.writer.stop()
    for number in range(2):
        kept.writer.write(refused(number, "jane"), "")
        kept.writer.stop()
    assert len(kept.log.events()) == 2


def test_more_than_can_wait_is_counted_and_the_number_written(tmp_path):
    kept = Kept(tmp_path, most=3)
    with kept.lock():
        for number in range(50):
            kept.writer.write(refused(number, "jane"), "")
    kept.writer.stop()
    events = kept.log.events()
    assert sum(e.get("count", 1) for e in events) == 50
    assert [e["code"] for e in events].count(NOT_WRITTEN) == 1
    assert 1 <= len(events) - 1 <= 2  # one may have been taken before the others came


def test_what_was_done_is_written_however_much_was_refused(tmp_path):
    kept = Kept(tmp_path)
    with kept.lock():
        for number in range(1_000):
            kept.writer.write(refused(number), f"10.0.{number // 100}.{number % 100}")
        kept.writer.write(AccessEvent("done", "ops", "reload", request_id="a deed"), "")
    kept.writer.stop()
    assert "a deed" in [e["request_id"] for e in kept.log.events()]


def test_a_number_that_cannot_be_written_is_written_later(tmp_path, caplog, monkeypatch):
    kept = Kept(tmp_path, most=2)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "assay.access"):
        with kept.lock():
            for number in range(40):
                kept.writer.write(refused(number, "jane"), "")
            patch.setattr("assay.access.access_log.append_line", full)
        until(lambda: "events that were not waited for" in caplog.text)
    kept.writer.write(refused(40, "jane"), "")
    kept.writer.stop()
    events = kept.log.events()
    (lost,) = [e["count"] for e in events if e["code"] == NOT_WRITTEN]
    assert 38 <= lost <= 39  # one may have been taken before the others came


def test_a_thread_that_cannot_begin_is_begun_with_the_next_event(tmp_path, monkeypatch):
    kept = Kept(tmp_path)

    def none(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("assay.access.record_writer.Thread.start", none)
        kept.writer.write(refused(1, "jane"), "")
    kept.writer.write(refused(2, "jane"), "")
    kept.writer.stop()
    events = kept.log.events()
    assert [(e["request_id"], e.get("count", 1)) for e in events] == [("r2", 1), ("", 1)]


def test_a_disk_that_refuses_is_told_to_the_log_and_tried_again(tmp_path, caplog, monkeypatch):
    kept = Kept(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "assay.access"):
        patch.setattr("assay.access.access_log.append_line", full)
        kept.writer.write(refused(1, "jane"), "")
        until(lambda: "No space left" in caplog.text)
    assert "'subject': 'jane'" in caplog.text
    kept.writer.write(refused(2, "jane"), "")
    kept.writer.stop()
    assert [e["request_id"] for e in kept.log.events()] == ["r2"]


@pytest.mark.parametrize("everything", [False, True])
def test_counts_are_not_kept_back_by_what_nobody_repeats(tmp_path, everything, monkeypatch):
    monkeypatch.setattr("assay.access.record_writer.WINDOW_SECONDS", 60 if everything else 0.01)
    clock = FixedClock(T0)
    log = AccessLog(tmp_path / "access.jsonl", clock)
    writer = RecordWriter(log, RepeatedRefusals(log, clock))
    for number in range(WRITTEN + 3):
        writer.write(refused(number), "10.0.0.1")
    until(lambda: log.path.exists() and len(log.events()) == WRITTEN)
    if everything:
        writer.stop()
    else:
        clock.advance(61 * 10**9)
    until(lambda: sum(e.get("count", 1) for e in log.events()) == WRITTEN + 3)
    writer.stop()
