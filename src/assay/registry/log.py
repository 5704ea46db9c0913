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
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.domain.instants import Instant, parse, render
from assay.errors import AssayError, Tampered
from assay.registry.keyring import LOG_HEAD, KeyRing, RevokedKey
from assay.registry.lifecycle import EventOutcome, EventType
from assay.registry.signing import Envelope, Statement
from assay.storage.files import write_atomic

GENESIS = "0" * 64
"""What the first entry names as the hash before it."""

REGISTRY_LOG = "events.jsonl"
"""What signed statements call the registry's log."""
_HEAD = re.compile(r"[0-9]{12}(-[0-9a-f]{12})?\.json")
WHOLE_LOG = "audit/log"
"""Stands for the model in entries about the log as a whole; no model can have that name."""


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
    """Where the log is broken (line, counted from 1; 0 for the log as a whole) and how.

    Attributes
    ----------
    lost: log, number and hash of an entry that was there and is not; that can be acknowledged.
    uncovered: whether only heads by a revoked key cover some entries; a new head mends that.
    """

    line: int
    detail: str
    lost: tuple[str, int, str] | None = None
    uncovered: bool = False

    def __str__(self) -> str:
        return f"line {self.line}: {self.detail}" if self.line else self.detail

    def to_json(self) -> dict[str, Any]:
        return {"line": self.line, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class LogReport:
    """What a walk over the whole log found.

    ``notes`` are what a reader should know and what is no fault: signatures by keys that were
    revoked since, losses that were acknowledged (``acknowledged``: log, number, hash).
    """

    entries: int
    head: LogHead
    signed_up_to: int
    problems: tuple[LogProblem, ...]
    notes: tuple[str, ...] = ()
    acknowledged: frozenset[tuple[str, int, str]] = frozenset()

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
            "notes": list(self.notes),
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
    """Signed records of how far a log had come: one file each, apart from the log itself.

    Parameters
    ----------
    log: what the statements call the log, so that a head of one is none of another.
    """

    def __init__(self, folder: Path, log: str = REGISTRY_LOG) -> None:
        self.folder = folder
        self._log = log

    def sign(self, seq: int, digest: str, keyring: KeyRing, signer: str) -> None:
        """Keep a signed record of the entry ``seq`` with the hash ``digest``.

        One that is there is never replaced: it may be what contradicts a log that was cut.
        """
        statement = Statement(LOG_HEAD, {self._log: digest}, {"seq": seq, "hash": digest})
        data = keyring.sign(signer, statement).to_bytes()
        path = self.folder / f"{seq:012d}.json"
        if path.exists() and path.read_bytes() != data:
            path = self.folder / f"{seq:012d}-{sha256_hex(data)[:12]}.json"
        write_atomic(path, data, mode=0o444)

    def verify(
        self, lines: Iterable[bytes], keyring: KeyRing, known: Iterable[tuple[int, str, str]]
    ) -> LogReport:
        """Walk a whole log and compare it with every head that is known from elsewhere.

        Parameters
        ----------
        known: entry number, its hash, and where that is written, from outside this folder.
        """
        problems: list[LogProblem] = []
        notes: list[str] = []
        hashes = {0: GENESIS}
        head = walk(lines, hashes, problems)
        signed_up_to = self.compare(hashes, keyring, problems, notes)
        for seq, stated, where in known:
            detail = contradiction(self._log, seq, stated, hashes, where)
            if detail:
                problems.append(detail)
        return LogReport(len(hashes) - 1, head, signed_up_to, tuple(problems), tuple(notes))

    def latest(self, count: int) -> Iterator[tuple[int, str, Path]]:
        """Number, hash and file of the last heads, as they say themselves: none is verified.

        What cannot be read is left out.
        """
        names = sorted(one.name for one in os.scandir(self.folder)) if self.folder.is_dir() else []
        for name in [name for name in names if _HEAD.fullmatch(name)][-count:]:
            path = self.folder / name
            with suppress(AssayError, OSError):
                envelope = Envelope.from_bytes(path.read_bytes())
                yield *_stated_head(Statement.from_bytes(envelope.body)), path

    def verifies(self, path: Path, keyring: KeyRing) -> bool:
        """Whether a head is one of this log by a key that is trusted, or was until it was revoked.

        Verification names one that is neither.
        """
        try:
            self._read(path.read_bytes(), keyring)
        except (AssayError, OSError):
            return False
        return True

    def compare(
        self,
        hashes: Mapping[int, str],
        keyring: KeyRing,
        problems: list[LogProblem],
        notes: list[str],
    ) -> int:
        """Hold a log (entry number -> hash) against the heads; the last entry that one covers.

        A head by a revoked key is no evidence. Where a later one by a trusted key covers it, that
        is a note; else nobody who is trusted has vouched for those entries, which is a problem.
        """
        revoked: list[tuple[str, int, str, str]] = []
        upto = 0
        for path in sorted(self.folder.glob("*.json")):
            where = f"signed head {path.name}"
            try:
                seq, stated, by = self._read(path.read_bytes(), keyring)
            except AssayError as error:
                problems.append(LogProblem(0, f"{where}: {error.message}"))
                continue
            if by is not None:
                revoked.append((where, seq, stated, by))
                continue
            detail = contradiction(self._log, seq, stated, hashes, where)
            if detail:
                problems.append(detail)
            else:
                upto = max(upto, seq)
        uncovered: dict[str, int] = {}
        for where, seq, stated, by in revoked:
            if seq <= upto:
                continue
            detail = contradiction(self._log, seq, stated, hashes, f"{where} ({by})")
            if detail:
                problems.append(detail)
            else:
                uncovered[by] = max(seq, uncovered.get(by, 0))
        for by, last in uncovered.items():
            problems.append(
                LogProblem(
                    0,
                    f"entries {upto + 1} to {last} of {self._log} are covered only by heads "
                    f"{by}: read them (assay audit show), then run assay audit sign",
                    uncovered=True,
                )
            )
        for by, count in Counter(by for *_, by in revoked).items():
            notes.append(f"{count} heads of {self._log}, {by}, are no evidence")
        return upto

    def _read(self, data: bytes, keyring: KeyRing) -> tuple[int, str, str | None]:
        """Number and hash that a head states, and what is said of its key if it was revoked."""
        by = None
        try:
            made = keyring.verify(Envelope.from_bytes(data), LOG_HEAD)
        except RevokedKey as error:
            made, by = error.made, error.message
        seq, stated = _stated_head(made.statement)
        if dict(made.statement.subjects) != {self._log: stated}:
            raise Tampered(f"it is about {sorted(made.statement.subjects)}, not {self._log}")
        return seq, stated, by


def _stated_head(statement: Statement) -> tuple[int, str]:
    try:
        return int(statement.predicate["seq"]), str(statement.predicate["hash"])
    except (KeyError, TypeError, ValueError) as error:
        raise Tampered(f"it states no entry: {error!r}") from None


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


def contradiction(
    log: str, seq: int, stated: str, hashes: Mapping[int, str], where: str
) -> LogProblem | None:
    """What is wrong with a log (entry number -> hash) of which ``where`` says ``stated``."""
    end, lost = max(hashes), (log, seq, stated)
    if seq > end:
        return LogProblem(0, f"{where} names entry {seq}, but the log ends at {end}: cut off", lost)
    if hashes.get(seq) != stated:
        detail = f"{where} names another entry {seq}: it was replaced or removed"
        return LogProblem(0, detail, lost)
    return None


def _stated_hash(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["hash"])
    except (ValueError, KeyError, TypeError):
        return ""
