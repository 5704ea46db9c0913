"""The service's own log: one JSON object per line, whatever is told."""

from __future__ import annotations

import io
import json
import logging
import os

import pytest

from assay.domain.instants import parse
from assay.serving.telemetry.json_logs import FewASecond, log_to


@pytest.fixture
def stream() -> io.StringIO:
    """What is written while a test runs; the loggers are as before afterwards."""
    return io.StringIO()


def test_every_line_is_an_object_with_its_fields_and_its_traceback(stream: io.StringIO) -> None:
    loggers = [logging.getLogger(name) for name in ("assay", "uvicorn")]
    before = [(one.handlers, one.propagate, one.level) for one in loggers]
    log_to(stream)
    try:
        log = logging.getLogger("assay.serving")
        log.info("two\nlines %s", "of text", extra={"fields": {"request_id": "r1", "ms": 0.5}})
        log.debug("not told")
        logging.getLogger("uvicorn.error").info("not told")
        try:
            raise ZeroDivisionError("why")
        except ZeroDivisionError:
            log.exception("a defect")
    finally:
        logging.getLogger("uvicorn.error").filters.clear()
        for one, (handlers, propagate, level) in zip(loggers, before, strict=True):
            one.handlers, one.propagate = handlers, propagate
            one.setLevel(level)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["message"], first["request_id"], first["ms"]) == ("two\nlines of text", "r1", 0.5)
    assert (first["level"], first["logger"], first["process"]) == (
        "info", "assay.serving", os.getpid(),
    )  # fmt: skip
    assert parse(first["time"]) > 0
    assert "ZeroDivisionError: why" in second["traceback"]


def test_warnings_are_bounded_by_the_second_and_what_was_left_out_is_told() -> None:
    few = FewASecond(most=3)

    def passes(at: float, level: int = logging.WARNING) -> logging.LogRecord | None:
        record = logging.LogRecord("uvicorn.error", level, "", 0, "bad", (), None)
        record.created = at
        return record if few.filter(record) else None

    assert [passes(10.0 + n / 10) is not None for n in range(5)] == [True, True, True, False, False]
    assert passes(10.9, logging.ERROR) is not None
    after = passes(11.0)
    assert after is not None
    assert after.fields == {"untold": 2}
    assert not hasattr(passes(11.1), "fields")
