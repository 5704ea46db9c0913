"""Who asked for what and was refused or let through: one chained line per event.

Each line names the hash of the one before it, as the registry's log does, so an edit, a cut in the
middle and a changed order are found. Texts are cut to a length, and none of them ever holds a
token, a signature or a key.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.domain.clock import Clock
from assay.domain.instants import Instant, parse, render
from assay.errors import Tampered
from assay.storage.files import append_line, drop_torn_tail
from assay.storage.locks import FileLock

_GENESIS = "0" * 64
_LONGEST = 300
_TAIL = 16_384  # longer than any line


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
    """One event. ``code`` is the reason of a refusal, "" when it was let through."""

    event: str
    subject: str
    action: str
    resource: str = ""
    code: str = ""
    detail: str = ""
    request_id: str = ""

    def to_json(self) -> dict[str, str]:
        return {
            name: _plain(getattr(self, name))
            for name in ("event", "subject", "action", "resource", "code", "detail", "request_id")
        }


class AccessLog:
    """``access_events.jsonl``, appended to durably by any number of processes."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock

    def record(self, event: AccessEvent) -> None:
        """Append one event; it is on the disk when this returns."""
        with FileLock(self.path.with_name(self.path.name + ".lock")):
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

    def events(self) -> list[dict[str, Any]]:
        """Every event, oldest first, the chain checked on the way.

        Raises
        ------
        Tampered: a line was changed, removed or moved; names its number.
        """
        previous, found = _GENESIS, []
        if not self.path.exists():
            return []
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            document = _read(line, f"line {number} of {self.path}")
            if (document["seq"], document["previous"]) != (number, previous):
                raise Tampered(f"line {number} of {self.path} does not follow the one before it")
            previous = document["hash"]
            found.append(document)
        return found

    def _head(self) -> tuple[int, str]:
        try:
            with self.path.open("rb") as handle:
                size = handle.seek(0, os.SEEK_END)
                handle.seek(max(0, size - _TAIL))
                lines = handle.read().splitlines()
        except FileNotFoundError:
            return 0, _GENESIS
        if not lines:
            return 0, _GENESIS
        try:
            last = _read(lines[-1], f"the last line of {self.path}")
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
