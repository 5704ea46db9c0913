"""Tokens that stopped counting before their time, one line each; read again when the file changes.

A line names one token, or a user: then every token that was issued to them up to that moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from assay.access.denials import AccessDenied, Denial
from assay.access.token_keys import file_state
from assay.access.tokens import Claims
from assay.domain.canonical import canonical_bytes
from assay.domain.instants import NANOS_PER_SECOND, Instant, parse, render
from assay.errors import AssayError, ContractViolation, Tampered
from assay.storage.files import append_line, drop_torn_tail
from assay.storage.locks import FileLock


@dataclass(frozen=True, slots=True)
class Revocation:
    """One line: ``token_id`` or ``subject``, since when, by whom and why."""

    at: Instant
    by: str
    reason: str
    token_id: str | None = None
    subject: str | None = None

    def __post_init__(self) -> None:
        if (self.token_id is None) == (self.subject is None):
            raise ContractViolation("a revocation names one token or one user: expected either")
        if not self.reason.strip():
            raise ContractViolation("a revocation needs a reason: expected a sentence")

    def to_json(self) -> dict[str, Any]:
        return {
            "at": render(self.at),
            "by": self.by,
            "reason": self.reason,
            "token_id": self.token_id,
            "subject": self.subject,
        }


_Listed: TypeAlias = tuple[dict[str, Revocation], dict[str, Revocation]]


class Revocations:
    """The list in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Exchanged whole: of two threads that read at once, none sees one's state beside the
        # other's list.
        self._known: tuple[tuple[int, int, int] | None, _Listed] = (None, ({}, {}))

    def state(self) -> tuple[int, int, int]:
        """Changes whenever the list does."""
        return file_state(self._path)

    def add(self, revocation: Revocation) -> None:
        """Revoke durably; it counts when this returns."""
        with FileLock(self._path.with_name(self._path.name + ".lock")):
            drop_torn_tail(self._path)
            append_line(self._path, canonical_bytes(revocation.to_json()))

    def listed(self) -> tuple[Revocation, ...]:
        """The latest of each token and of each user; raises Tampered as :meth:`check` does."""
        tokens, subjects = self._read()
        return (*tokens.values(), *subjects.values())

    def check(self, claims: Claims) -> None:
        """Refuse a token that is revoked.

        Raises
        ------
        AccessDenied: it is. Tampered: the list cannot be read; nobody is let in then.
        """
        tokens, subjects = self._read()
        found = tokens.get(claims.token_id)
        by_user = subjects.get(claims.subject)
        # To the second, like the token: one of the same second may have been there before.
        if by_user is not None and claims.issued_at * NANOS_PER_SECOND <= by_user.at:
            found = by_user
        if found is not None:
            raise AccessDenied(
                Denial.REVOKED, f"the token was revoked by {found.by}: {found.reason}"
            )

    def _read(self) -> _Listed:
        """The latest of each token and of each user."""
        state, (known, listed) = self.state(), self._known
        if state == known:
            return listed
        data = self._path.read_bytes() if state != (0, 0, 0) else b""
        # A last line without its end was never acknowledged.
        lines = data[: data.rfind(b"\n") + 1].splitlines()
        tokens: dict[str, Revocation] = {}
        subjects: dict[str, Revocation] = {}
        for number, line in enumerate(lines, start=1):
            try:
                document = json.loads(line)
                made = Revocation(**{**document, "at": parse(document["at"])})
            except (ValueError, KeyError, TypeError, AssayError) as error:
                raise Tampered(f"line {number} of {self._path} cannot be read: {error}") from None
            if made.token_id is not None:
                tokens[made.token_id] = made
            elif made.subject is not None:
                subjects[made.subject] = made
        self._known = (state, (tokens, subjects))
        return tokens, subjects
