"""Who asked for what and was refused or let through: one chained line per event.

Each line names the hash of the one before it, as the registry's log does, so an edit, a cut in the
middle and a changed order are found; that its end was cut off is found by signed heads, which the
people whose commands are let through leave behind. Texts are cut to a length, and none of them ever
holds a token, a signature or a key.

A file that has become large is put aside under the number of its last event, and the chain goes on
in a new one: ``access_events.jsonl``, ``access_events.000000081234.jsonl``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.domain.clock import Clock
from assay.domain.instants import Instant, parse, render
from assay.errors import Tampered
from assay.registry.keyring import KeyRing
from assay.registry.log import LogProblem, SignedHeads
from assay.storage.files import append_line, drop_torn_tail, sync_directory
from assay.storage.locks import FileLock

_GENESIS = "0" * 64
_LONGEST = 300
_TAIL = 16_384  # longer than any line
LARGEST_FILE = 16 * 2**20


_ISSUED = re.compile(r"by (.*?)(?:, until (\S+))?")


def issued_words(by: str, until: Instant) -> str:
    """The detail of an event about a token that was issued."""
    return f"by {by}, until {render(until)}"


def until_of(detail: str) -> tuple[str, Instant | None]:
    """By whom a token was issued, and until when it counts; None where that was not yet written."""
    found = _ISSUED.fullmatch(detail)
    if found is None:
        return detail, None
    return found[1], None if found[2] is None else parse(found[2])


@dataclass(frozen=True, slots=True)
class AccessEvent:
    """One event. ``code`` is the reason of a refusal, "" when it was let through.

    ``place`` is where a caller asked from of whom nothing else is known; ``count`` is how many
    events alike one line stands for.
    """

    event: str
    subject: str
    action: str
    resource: str = ""
    code: str = ""
    detail: str = ""
    request_id: str = ""
    place: str = ""
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            name: _plain(getattr(self, name))
            for name in ("event", "subject", "action", "resource", "code", "detail", "request_id")
        }
        if self.place:
            document["place"] = _plain(self.place)
        if self.count != 1:
            document["count"] = self.count
        return document


class AccessLog:
    """``access_events.jsonl``, appended to durably by any number of processes.

    Parameters
    ----------
    largest: bytes from which on a file is put aside.
    """

    def __init__(self, path: Path, clock: Clock, *, largest: int = LARGEST_FILE) -> None:
        self.path = path
        self.heads = SignedHeads(path.with_name("access_heads"), path.name)
        self._clock = clock
        self._largest = largest

    def record(self, event: AccessEvent) -> None:
        """Append one event; it is on the disk when this returns."""
        with self._lock():
            drop_torn_tail(self.path)
            seq, previous = self._head()
            body = {
                **event.to_json(),
                "seq": seq + 1,
                "at": render(self._clock.now()),
                "previous": previous,
            }
            line = canonical_bytes({**body, "hash": sha256_hex(canonical_bytes(body))})
            append_line(self.path, line)
            if self.path.stat().st_size >= self._largest:
                self.path.rename(
                    self.path.with_name(f"{self.path.stem}.{seq + 1:012d}{self.path.suffix}")
                )
                sync_directory(self.path.parent)

    def sign(self, keyring: KeyRing, signer: str) -> None:
        """Keep a signed record of how far it has come.

        Raises
        ------
        Unavailable: no key of the signer that may sign heads is here.
        """
        with self._lock():
            seq, digest = self._head()
            if seq:
                self.heads.sign(seq, digest, keyring, signer)

    def files(self) -> list[Path]:
        """Every file of it, oldest first."""
        aside = self.path.parent.glob(f"{self.path.stem}.{'[0-9]' * 12}{self.path.suffix}")
        return [*sorted(aside), *([self.path] if self.path.exists() else [])]

    def events(self) -> list[dict[str, Any]]:
        """Every event, oldest first, the chain checked on the way.

        Raises
        ------
        Tampered: a line was changed, removed or moved; names its number.
        """
        return list(self._walk())

    def verify(self, keyring: KeyRing) -> tuple[list[LogProblem], list[str]]:
        """What is wrong with it: its chain, and what signed heads say; and notes about those."""
        problems: list[LogProblem] = []
        notes: list[str] = []
        hashes = {0: _GENESIS}
        try:
            for event in self._walk():
                hashes[event["seq"]] = event["hash"]
        except Tampered as error:
            return [LogProblem(0, f"record of access: {error.message}")], notes
        self.heads.compare(hashes, keyring, problems, notes)
        return problems, notes

    def _walk(self) -> Iterator[dict[str, Any]]:
        seq, previous = 0, _GENESIS
        for path in self.files():
            # An unfinished last line is none: its writer died, or is writing now.
            for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
                seq += 1
                document = _read(line, f"line {number} of {path}")
                if (document["seq"], document["previous"]) != (seq, previous):
                    raise Tampered(f"line {number} of {path} does not follow the one before it")
                previous = document["hash"]
                yield document

    def _lock(self) -> FileLock:
        return FileLock(self.path.with_name(self.path.name + ".lock"))

    def _head(self) -> tuple[int, str]:
        files = [path for path in self.files() if path.stat().st_size]
        if not files:
            return 0, _GENESIS
        with files[-1].open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - _TAIL))
            lines = handle.read().splitlines()
        try:
            last = _read(lines[-1], f"the last line of {files[-1]}")
        except Tampered as error:
            # Whoever damages this file must not keep anybody from withdrawing a model at night.
            raise Tampered(
                error.message,
                hint=f"keep it as evidence: mv {self.path} {self.path}.damaged; the next command "
                "begins a new one",
            ) from None
        return last["seq"], last["hash"]


def _read(line: bytes, where: str) -> dict[str, Any]:
    try:
        document = dict(json.loads(line))
        stated = document.pop("hash")
        if sha256_hex(canonical_bytes(document)) != stated:
            raise Tampered(f"{where} was changed: it has not the hash that it states")
        return {**document, "hash": stated}
    except (ValueError, KeyError, TypeError) as error:
        raise Tampered(f"{where} cannot be read: {error}") from None


def _plain(text: str) -> str:
    # A lone surrogate, which a request can bring, has no bytes to be written as.
    return text[:_LONGEST].encode("utf-8", "replace").decode("utf-8")
