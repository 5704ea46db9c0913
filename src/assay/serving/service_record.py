"""What a serving process did, one line per event: loads, failures, kills. Append only."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.domain.clock import Clock
from assay.domain.instants import render
from assay.errors import ContractViolation
from assay.storage.files import append_line, drop_torn_tail, last_line
from assay.storage.locks import FileLock

SIGNATURE: Final = "signature"
_PREVIOUS: Final = "previous"
_GENESIS: Final = "0" * 64
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

    def observe(self) -> None:
        """Write down that the registry's log has gone on since the last line, if it has.

        What happened behind the last load could otherwise be cut off the log unseen.
        """
        head = None if self._witness is None else self._witness.log_head()
        if head is not None and head != self._head:
            self.append("seen")

    def append(self, event: str, **fields: Any) -> None:
        """Write one event with its time and who writes it."""
        line = {"at": render(self._clock.now()), "event": event, **self._who, **fields}
        witness = self._witness
        if witness is not None and event in _STATES:
            line["log_head"] = self._head = witness.log_head()
        with self._mutex, FileLock(self._path.with_name(self._path.name + ".lock")):
            drop_torn_tail(self._path)
            before = last_line(self._path)
            line[_PREVIOUS] = sha256_hex(before) if before else _GENESIS
            if witness is not None:
                line[SIGNATURE] = witness.sign(sha256_hex(canonical_bytes(line)))
            append_line(self._path, canonical_bytes(line))


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
