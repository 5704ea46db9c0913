"""The registry's log: one line per event, each bound to the one before it by its hash.

Where the lines are kept is another matter: a file (:mod:`~assay.registry.chained_file`) or a table.

An entry's hash is the SHA-256 of its canonical line without the hash; the line names the previous
entry's hash. So an edit, a cut in the middle and a changed order are found by walking the file,
and the walk says where. A chain cannot see that its own end was cut off: signed heads (entry
number and hash) are kept apart for that, see :class:`SignedHeads`.

Times never go back: an entry is stamped with the later of the clock and the previous entry's time,
so the order of entries is the order of times even when a machine's clock is set back.
"""

from __future__ import annotations

import json
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
from assay.storage.files import write_atomic

GENESIS = "0" * 64
"""What the first entry names as the hash before it."""


@dataclass(frozen=True, slots=True)
class LogHead:
    """The end of the log: its last entry, and the size of all lines up to and with it."""

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


def chained(lines: Iterable[bytes], head: LogHead, where: str) -> Iterator[tuple[Entry, LogHead]]:
    """Entries of whole lines behind ``head`` with the head that each makes, the chain checked.

    An unfinished last line ends it.

    Parameters
    ----------
    lines: with their line breaks, as a file gives them.
    where: names the log in errors.

    Raises
    ------
    Tampered: an entry does not verify or does not follow the one before it.
    """
    last = head
    for line in lines:
        if not line.endswith(b"\n"):
            return
        try:
            entry = Entry.from_line(line[:-1])
            if (entry.seq, entry.previous) != (last.seq + 1, last.hash):
                raise Tampered(f"it does not follow entry {last.seq}")
        except Tampered as error:
            raise Tampered(
                f"entry after {last.seq} of {where}: {error.message}",
                hint="assay audit verify says where the log is broken",
            ) from None
        last = LogHead(entry.seq, entry.hash, entry.at, last.offset + len(line))
        yield entry, last


def walk(lines: Iterable[bytes], hashes: dict[int, str], problems: list[LogProblem]) -> LogHead:
    """Fill ``hashes`` (entry number -> hash) and return the head; problems name their line."""
    head = EMPTY
    expected = 1
    for number, raw in enumerate(lines, start=1):
        try:
            if not raw.endswith(b"\n"):
                raise Tampered("it is unfinished")
            entry = Entry.from_line(raw[:-1])
        except Tampered as error:
            problems.append(LogProblem(number, f"entry {expected} was changed: {error.message}"))
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


class SignedHeads:
    """Signed records of how far the log had come: one file each, apart from the log itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sign(self, head: LogHead, keyring: KeyRing, signer: str) -> None:
        """Keep a signed record of ``head``."""
        statement = Statement(LOG_HEAD, {"events.jsonl": head.hash}, head.to_json())
        write_atomic(
            self.folder / f"{head.seq:012d}.json",
            keyring.sign(signer, statement).to_bytes(),
            mode=0o444,
        )

    def verify(
        self, lines: Iterable[bytes], keyring: KeyRing, known: Iterable[tuple[int, str, str]]
    ) -> LogReport:
        """Walk a whole log and compare it with every head that is known from elsewhere.

        Parameters
        ----------
        known: entry number, its hash, and where that is written, from outside this folder.
        """
        problems: list[LogProblem] = []
        hashes = {0: GENESIS}
        head = walk(lines, hashes, problems)
        signed_up_to = 0
        for path in sorted(self.folder.glob("*.json")):
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
