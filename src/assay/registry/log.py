"""The registry's log: one line per event, each bound to the one before it by its hash.

An entry's hash is the SHA-256 of its canonical line without the hash; the line names the previous
entry's hash. So an edit, a cut in the middle and a changed order are found by walking the file,
and the walk says where. A chain cannot see that its own end was cut off: signed heads (entry
number and hash) are kept apart for that, see :meth:`EventLog.sign_head`.

Times never go back: an entry is stamped with the later of the clock and the previous entry's time,
so the order of entries is the order of times even when a machine's clock is set back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.domain.instants import Instant, parse, render
from assay.errors import AssayError, Tampered
from assay.registry.keyring import LOG_HEAD, KeyRing
from assay.registry.lifecycle import EventOutcome, EventType
from assay.registry.signing import Envelope, Statement
from assay.storage.files import append_line, write_atomic

GENESIS = "0" * 64
"""What the first entry names as the hash before it."""

_TAIL_BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class LogHead:
    """The end of the log: the last entry's number and hash, and the file's size behind it."""

    seq: int
    hash: str
    at: Instant
    offset: int

    def to_json(self) -> dict[str, Any]:
        return {"seq": self.seq, "hash": self.hash}


EMPTY = LogHead(0, GENESIS, 0, 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One event. ``from_version`` is what was in production, ``to_version`` what it is about."""

    seq: int
    at: Instant
    type: EventType
    model: str
    from_version: str | None
    to_version: str | None
    initiated_by: str
    outcome: EventOutcome
    reason: str
    evidence: Mapping[str, Any]
    previous: str
    hash: str = ""

    def to_json(self) -> dict[str, Any]:
        """The entry as the audit shows it; ``timestamp`` is ISO 8601 to the nanosecond."""
        return {**self._body(), "hash": self.hash}

    def _body(self) -> dict[str, Any]:
        return {
            "seq": self.seq,
            "timestamp": render(self.at),
            "type": str(self.type),
            "model": self.model,
            "from_version": self.from_version,
            "to_version": self.to_version,
            "initiated_by": self.initiated_by,
            "outcome": str(self.outcome),
            "reason": self.reason,
            "evidence": dict(self.evidence),
            "previous": self.previous,
        }

    def sealed(self) -> Entry:
        """The same entry with its hash."""
        return replace(self, hash=sha256_hex(canonical_bytes(self._body())))

    def to_line(self) -> bytes:
        """The entry's line in the log, without the line break."""
        return canonical_bytes(self.to_json())

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Read one line; a line that does not carry its own hash is refused."""
        try:
            document = json.loads(line)
            stated = document["hash"]
            # The hash covers the line's bytes without the hash itself. Removing it from the
            # bytes proves more than encoding the parsed document again, and costs a tenth.
            body = line.replace(b'"hash":"%b",' % stated.encode("ascii"), b"", 1)
            if sha256_hex(body) != stated:
                raise Tampered("its content does not have the hash that it states")
            return cls(
                seq=document["seq"],
                at=parse(document["timestamp"]),
                type=EventType(document["type"]),
                model=document["model"],
                from_version=document["from_version"],
                to_version=document["to_version"],
                initiated_by=document["initiated_by"],
                outcome=EventOutcome(document["outcome"]),
                reason=document["reason"],
                evidence=document["evidence"],
                previous=document["previous"],
                hash=stated,
            )
        except Tampered:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, AssayError) as error:
            raise Tampered(f"it cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class LogProblem:
    """Where the log is broken (line, counted from 1; 0 for the log as a whole) and how."""

    line: int
    detail: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.detail}" if self.line else self.detail

    def to_json(self) -> dict[str, Any]:
        return {"line": self.line, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class LogReport:
    """What a walk over the whole log found."""

    entries: int
    head: LogHead
    signed_up_to: int
    problems: tuple[LogProblem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "entries": self.entries,
            "head": self.head.to_json(),
            "signed_up_to": self.signed_up_to,
            "problems": [problem.to_json() for problem in self.problems],
        }


class ChainedFile:
    """A file of chained entries, one per line.

    One writer at a time: every method that writes expects the caller to hold the registry's lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_torn(self) -> bool:
        """Whether the last line lacks its line break: a writer died, or is writing now."""
        try:
            with self.path.open("rb") as handle:
                if handle.seek(0, os.SEEK_END) == 0:
                    return False
                handle.seek(-1, os.SEEK_END)
                return handle.read(1) != b"\n"
        except FileNotFoundError:
            return False

    def repair_tail(self) -> bytes:
        """Finish or drop a last line that has no line break; return what was dropped.

        A line that reads as a valid entry lost only its line break: the event was appended in
        full. Anything else was never acknowledged to anyone.
        """
        if not self.is_torn():
            return b""
        with self.path.open("r+b") as handle:
            line, start = _last_line(handle)
            try:
                Entry.from_line(line)
            except Tampered:
                handle.truncate(start)
                dropped = line
            else:
                handle.seek(0, os.SEEK_END)
                handle.write(b"\n")
                dropped = b""
            handle.flush()
            os.fsync(handle.fileno())
            return dropped

    def head(self) -> LogHead:
        """The last entry that ends in a line break, read from the end of the file."""
        try:
            handle = self.path.open("rb")
        except FileNotFoundError:
            return EMPTY
        with handle:
            size = handle.seek(0, os.SEEK_END)
            tail, start = _last_line(handle)
            if tail:  # an unfinished line: the head is the one before it
                size = start
                if size == 0:
                    return EMPTY
            if size == 0:
                return EMPTY
            line, _ = _last_line(handle, size - 1)
        try:
            entry = Entry.from_line(line)
        except Tampered as error:
            raise Tampered(
                f"last entry of {self.path}: {error.message}",
                hint="assay audit verify says where the log is broken",
            ) from None
        return LogHead(entry.seq, entry.hash, entry.at, size)

    def append(self, entry: Entry) -> LogHead:
        """Append a sealed entry durably."""
        append_line(self.path, entry.to_line())
        return LogHead(entry.seq, entry.hash, entry.at, self.path.stat().st_size)

    def extend(self, lines: bytes) -> None:
        """Append whole lines of another chained file durably."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as handle:
            handle.write(lines)
            handle.flush()
            os.fsync(handle.fileno())

    def entries_after(self, head: LogHead) -> Iterator[tuple[Entry, LogHead]]:
        """Entries behind ``head`` with the head that each makes, the chain checked on the way.

        Raises
        ------
        Tampered: an entry does not verify or does not follow the one before it.
        """
        if not self.path.exists():
            return
        last = head
        with self.path.open("rb") as handle:
            handle.seek(head.offset)
            for line in handle:
                if not line.endswith(b"\n"):
                    return
                try:
                    entry = Entry.from_line(line[:-1])
                    if (entry.seq, entry.previous) != (last.seq + 1, last.hash):
                        raise Tampered(f"it does not follow entry {last.seq}")
                except Tampered as error:
                    raise Tampered(
                        f"entry after {last.seq} of {self.path}: {error.message}",
                        hint="assay audit verify says where the log is broken",
                    ) from None
                last = LogHead(entry.seq, entry.hash, entry.at, last.offset + len(line))
                yield entry, last

    def walk(self, hashes: dict[int, str], problems: list[LogProblem]) -> LogHead:
        """Fill ``hashes`` (entry number -> hash) and return the head; problems name their line."""
        head = EMPTY
        expected = 1
        if not self.path.exists():
            return head
        with self.path.open("rb") as handle:
            for number, raw in enumerate(handle, start=1):
                try:
                    if not raw.endswith(b"\n"):
                        raise Tampered("it is unfinished")
                    entry = Entry.from_line(raw[:-1])
                except Tampered as error:
                    problems.append(
                        LogProblem(number, f"entry {expected} was changed: {error.message}")
                    )
                    # The next entry must still name the hash that this one had: what it states.
                    hashes[expected] = _stated_hash(raw)
                    expected += 1
                    continue
                problem = _sequence_problem(entry, expected, hashes, head.at)
                if problem:
                    problems.append(LogProblem(number, problem))
                hashes.setdefault(entry.seq, entry.hash)
                expected = max(expected, entry.seq + 1)
                head = LogHead(entry.seq, entry.hash, entry.at, head.offset + len(raw))
        return head


class EventLog(ChainedFile):
    """The registry's log: ``events.jsonl`` and the folder ``heads/`` beside it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "events.jsonl")
        self.heads_dir = folder / "heads"

    def sign_head(self, head: LogHead, keyring: KeyRing, signer: str) -> None:
        """Keep a signed record of how far the log had come."""
        statement = Statement(LOG_HEAD, {"events.jsonl": head.hash}, head.to_json())
        write_atomic(
            self.heads_dir / f"{head.seq:012d}.json",
            keyring.sign(signer, statement).to_bytes(),
            mode=0o444,
        )

    def verify(self, keyring: KeyRing, known: Iterable[tuple[int, str, str]]) -> LogReport:
        """Walk the whole log and compare it with every head that is known from elsewhere.

        Parameters
        ----------
        known: entry number, its hash, and where that is written, from outside this folder.
        """
        problems: list[LogProblem] = []
        hashes = {0: GENESIS}
        head = self.walk(hashes, problems)
        signed_up_to = 0
        for path in sorted(self.heads_dir.glob("*.json")):
            try:
                made = keyring.verify(Envelope.from_bytes(path.read_bytes()), LOG_HEAD)
                seq, stated = made.statement.predicate["seq"], made.statement.predicate["hash"]
            except (AssayError, KeyError, TypeError) as error:
                text = error.message if isinstance(error, AssayError) else repr(error)
                problems.append(LogProblem(0, f"signed head {path.name}: {text}"))
                continue
            detail = _contradiction(seq, stated, hashes, f"signed head {path.name}")
            if detail:
                problems.append(detail)
            else:
                signed_up_to = max(signed_up_to, seq)
        for seq, stated, where in known:
            detail = _contradiction(seq, stated, hashes, where)
            if detail:
                problems.append(detail)
        return LogReport(len(hashes) - 1, head, signed_up_to, tuple(problems))


def _sequence_problem(
    entry: Entry, expected: int, hashes: Mapping[int, str], at: Instant
) -> str | None:
    if entry.seq > expected:
        gone = f"{expected}" if entry.seq == expected + 1 else f"{expected} to {entry.seq - 1}"
        return f"entry {entry.seq} stands where entry {gone} should: missing or moved"
    if entry.seq < expected:
        return f"entry {entry.seq} stands where entry {expected} should: repeated or moved"
    if entry.previous != hashes[entry.seq - 1]:
        return f"entry {entry.seq} does not follow the entry before it: one of them was replaced"
    if entry.at < at:
        return f"entry {entry.seq} is dated before the entry before it"
    return None


def _contradiction(
    seq: int, stated: str, hashes: Mapping[int, str], where: str
) -> LogProblem | None:
    end = max(hashes)
    if seq > end:
        return LogProblem(0, f"{where} names entry {seq}, but the log ends at {end}: cut off")
    if hashes.get(seq) != stated:
        return LogProblem(0, f"{where} names another entry {seq}: it was replaced or removed")
    return None


def _stated_hash(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["hash"])
    except (ValueError, KeyError, TypeError):
        return ""


def _last_line(handle: Any, end: int | None = None) -> tuple[bytes, int]:
    """The bytes between the last line break before ``end`` and ``end``, and where they start."""
    position = handle.seek(0, os.SEEK_END) if end is None else end
    stop, start = position, 0
    while position > 0:
        block = max(0, position - _TAIL_BLOCK)
        handle.seek(block)
        found = handle.read(position - block).rfind(b"\n")
        if found >= 0:
            start = block + found + 1
            break
        position = block
    handle.seek(start)
    return handle.read(stop - start), start
