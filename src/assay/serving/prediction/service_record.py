"""What a serving process did, one line per event: loads, failures, kills. Append only."""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.domain.clock import Clock
from assay.domain.instants import render
from assay.errors import AssayError, ContractViolation
from assay.storage.files import append_lines, drop_torn_tail, last_line
from assay.storage.locks import FileLock

_LOG = logging.getLogger("assay.serving")

SIGNATURE: Final = "signature"
_PREVIOUS: Final = "previous"
_GENESIS: Final = "0" * 64
_KEPT: Final = 1_000  # lines
_PATIENCE: Final = 0.25  # seconds
_STATES: Final = frozenset({"started", "loaded", "withdrawn", "reload_refused", "seen", "stopped"})
"""Events that say what is loaded; each names the end of the registry's log as the server saw it."""


class Witness(Protocol):
    """What a service knows of the registry beyond its models, and the key that it signs with."""

    def log_head(self) -> Mapping[str, Any] | None:
        """Number and hash of the log's last entry (``seq``, ``hash``); None when it is unknown."""
        ...

    def sign(self, digest: str) -> Mapping[str, Any] | None:
        """An envelope over the SHA-256 of a line; None where no key is at hand."""
        ...


class ServiceRecord:
    """``artifacts/serving.jsonl``: which bytes answered from when on, and who stopped them.

    The registry says what was meant to be live; this says what was. Each line is on the disk when
    :meth:`append` returns, and names the SHA-256 of the line before it, so that a line which was
    changed, removed or put in between is found. Several processes may append to one file.

    Parameters
    ----------
    process: its number. server: the machine it runs on.
    witness: signs lines and says how far the registry's log had come; None for neither.

    Attributes
    ----------
    trouble: why nothing can be written now; None while it can.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        process: int,
        server: str = "",
        witness: Witness | None = None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._who = {"process": process, "server": server}
        self._witness = witness
        self._mutex = threading.Lock()
        self._head: Mapping[str, Any] | None = None
        self._kept: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self.trouble: str | None = None

    def observe(self) -> None:
        """Write down that the registry's log has gone on since the last line, if it has.

        What happened behind the last load could otherwise be cut off the log unseen.
        """
        head = None if self._witness is None else self._witness.log_head()
        if head is not None and head != self._head:
            self.note("seen")

    def append(self, event: str, **fields: Any) -> None:
        """Write one event with its time and who writes it.

        Raises
        ------
        OSError, Unavailable: it cannot be written now.
        """
        line = self._line(event, fields)
        with self._mutex:
            kept = list(self._kept)
            self._write([*kept, line])
            self._forget(len(kept))

    def note(self, event: str, **fields: Any) -> None:
        """The same for what has happened already and must not be held up by a full disk: a line
        that cannot be written now is kept, and written with the next one or by :meth:`catch_up`.
        """
        self._kept.append(self._line(event, fields))
        self.catch_up()

    def catch_up(self) -> None:
        """Write what is kept, if it can be written without waiting long."""
        if not self._kept or not self._mutex.acquire(timeout=_PATIENCE):
            return
        try:
            kept = list(self._kept)
            self._write(kept, patience=_PATIENCE)
            self._forget(len(kept))
        except (OSError, AssayError) as error:
            if self.trouble is None:
                _LOG.warning("%s cannot be written: %s", self._path, error)
            self.trouble = str(error)
        finally:
            self._mutex.release()

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._kept.popleft()

    def _line(self, event: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        line = {"at": render(self._clock.now()), "event": event, **self._who, **fields}
        if self._witness is not None and event in _STATES:
            line["log_head"] = self._head = self._witness.log_head()
        return line

    def _write(self, lines: Iterable[Mapping[str, Any]], patience: float = 30.0) -> None:
        """Chain, sign and append lines. The caller holds the mutex."""
        with FileLock(self._path.with_name(self._path.name + ".lock"), patience):
            drop_torn_tail(self._path)
            before = last_line(self._path)
            made = []
            for line in lines:
                chained = {**line, _PREVIOUS: sha256_hex(before) if before else _GENESIS}
                if self._witness is not None:
                    chained[SIGNATURE] = self._witness.sign(sha256_hex(canonical_bytes(chained)))
                before = canonical_bytes(chained)
                made.append(before)
            append_lines(self._path, made)
        self.trouble = None


@dataclass(frozen=True, slots=True)
class RecordedLine:
    """One line of the record.

    Attributes
    ----------
    number: in the file, from 1. document: what it says, without its signature.
    signature: the envelope, or None. digest: SHA-256 of what was signed.
    problem: why it cannot be relied on, or None. A line from before lines were chained has none.
    """

    number: int
    document: Mapping[str, Any]
    signature: Mapping[str, Any] | None
    digest: str
    problem: str | None


def read_record(path: Path) -> Iterator[RecordedLine]:
    """The lines of a service's record, each held against the one before. No file: no lines.

    An unfinished last line is none: its writer died, or is writing now.
    """
    if not path.exists():
        return
    previous, chained = _GENESIS, False
    for number, raw in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        line = _read_line(number, raw, previous, chained=chained)
        chained = chained or _PREVIOUS in line.document
        previous = sha256_hex(raw)
        yield line


def _read_line(number: int, raw: bytes, previous: str, *, chained: bool) -> RecordedLine:
    try:
        document = json.loads(raw)
        signature = document.pop(SIGNATURE, None)
        body = canonical_bytes(document)
        whole = canonical_bytes({**document, SIGNATURE: signature})
    except (ValueError, AttributeError, TypeError, RecursionError, ContractViolation):
        return RecordedLine(number, {}, None, "", "it cannot be read")
    problem = None
    named = document.get(_PREVIOUS)
    if named is None and chained:
        problem = "it names no line before it, as all behind the first that does must"
    elif named is not None and named != previous:
        problem = "it does not follow the line before it: one of them was changed, or is gone"
    elif named is not None and raw not in {body, whole}:
        problem = "it is not in the form in which it was written"
    return RecordedLine(number, document, signature, sha256_hex(body), problem)
