"""The service's own log: one JSON object per line on standard error."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from typing import Any, TextIO

from assay.domain.instants import render
from assay.serving.telemetry.tracing import trace_id


class JsonLines(logging.Formatter):
    """A record as one line of JSON: ``time``, ``level``, ``logger``, ``process``, ``message``, what
    was passed as ``extra={"fields": {...}}``, ``trace_id`` of a request that is traced, and the
    traceback of an error.
    """

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "time": render(int(record.created * 1e6) * 1_000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        trace = trace_id()
        if trace is not None:
            document["trace_id"] = trace
        if record.exc_info is not None and record.exc_info[0] is not None:
            document["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(document, ensure_ascii=False, default=str)


class FewASecond(logging.Filter):
    """Lets so many records of a second through, and all errors.

    What a client sends must not fill the disk with warnings about it. The next record that is let
    through says how many were not.
    """

    def __init__(self, most: int = 20) -> None:
        super().__init__()
        self._most = most
        self._second = 0
        self._told = 0
        self._untold = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        second = int(record.created)
        if second != self._second:
            self._second, self._told = second, 0
        if self._told == self._most:
            self._untold += 1
            return False
        self._told += 1
        if self._untold:
            record.fields = {"untold": self._untold}
            self._untold = 0
        return True


def log_to(stream: TextIO = sys.stderr, *, level: str = "info") -> None:
    """Write what the service and its HTTP server log to a stream, as lines of JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.getLogger("uvicorn.error").filters = [FewASecond()]
    for name, least in (("assay", level), ("uvicorn", "warning")):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(least.upper())
