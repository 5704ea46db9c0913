"""What a request says about itself before its body is read: who asks, how long they wait."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import count

import msgspec

from assay.serving.rejections import (
    DEADLINE_EXCEEDED,
    INVALID_HEADER,
    OVER_CAPACITY,
    Rejected,
)
from assay.serving.requests.asgi import Scope

MANIFEST_HEADER = b"x-assay-manifest"
REQUEST_ID = b"x-request-id"
DEADLINE_HEADER = b"x-deadline-ms"
ARRIVED = "assay.arrived"
"""Key of a scope: when the request's head was read, on the server's ticks."""
REFUSED = "assay.refused"
"""Key of a scope: how many requests were under way when this one was too many."""

_ID = re.compile(rb"[!-~]{1,128}")
_MILLISECONDS = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,6})?")


class Head(msgspec.Struct, frozen=True, gc=False):
    """The part of a request that its headers say.

    Attributes
    ----------
    id: the caller's, or one made here. kind: the content type as it was sent.
    manifest: the feature manifest that the caller has in mind.
    arrived, deadline: on the server's ticks.
    headers: every header by its lower-case name; the last one counts.
    """

    id: bytes
    kind: bytes
    manifest: str | None
    arrived: int
    deadline: int
    headers: dict[bytes, bytes]


class Reception:
    """Reads heads.

    Parameters
    ----------
    instance: begins the ids that are made here; no other process has the same.
    deadline_ms: how long a request may take at most; a caller may ask for less.
    ticks: nanoseconds on a clock that never goes back, the one that stamps arrivals.
    """

    def __init__(self, instance: str, *, deadline_ms: float, ticks: Callable[[], int]) -> None:
        self.deadline_ms = deadline_ms
        self._allowed = round(deadline_ms * 1e6)
        self._ticks = ticks
        self._prefix = instance.encode("ascii") + b"-%x"
        self._numbers = count(1)

    def read(self, scope: Scope) -> Head:
        """The head of a request; does not raise. An id of another form is replaced by one of ours.

        Where a deadline cannot be read, it lies before the arrival; see :meth:`check_deadline`.
        """
        return self.read_headers(scope["headers"], scope.get(ARRIVED) or self._ticks())

    def read_headers(self, pairs: Iterable[tuple[bytes, bytes]], arrived: int) -> Head:
        """:meth:`read` for headers by their lower-case names, and the moment they came."""
        headers = dict(pairs)
        given = headers.get(REQUEST_ID)
        manifest = headers.get(MANIFEST_HEADER)
        allowed = self._allowed
        asked = headers.get(DEADLINE_HEADER)
        if asked is not None:
            known = _MILLISECONDS.fullmatch(asked)
            allowed = (min(allowed, round(float(asked) * 1e6)) if known else 0) or -1
        return Head(
            given if given is not None and _ID.fullmatch(given) else self.new_id(),
            headers.get(b"content-type", b""),
            None if manifest is None else manifest.decode("latin-1"),
            arrived,
            arrived + allowed,
            headers,
        )

    def new_id(self) -> bytes:
        """An identifier that no other request of any process has."""
        return self._prefix % next(self._numbers)

    def admit(self, scope: Scope, head: Head) -> None:
        """Refuse a request that is too many, or whose deadline cannot be read.

        Raises
        ------
        Rejected: says which.
        """
        if REFUSED in scope:
            found, allowed = scope[REFUSED]
            raise Rejected(
                OVER_CAPACITY,
                f"{found} requests are under way in this process: expected at most {allowed}",
                found=found,
                expected=allowed,
                hint="send it again after a while, or ask for several instruments at once",
            )
        self.check_deadline(head)

    def check_deadline(self, head: Head) -> None:
        """Refuse a deadline that cannot be read.

        Raises
        ------
        Rejected: it is no number above 0.
        """
        if head.deadline < head.arrived:
            text = head.headers[DEADLINE_HEADER][:80].decode("latin-1")
            raise Rejected(
                INVALID_HEADER,
                f"X-Deadline-Ms is {text!r}: expected milliseconds, such as 50",
                found=text,
                expected="a number above 0",
            )

    def in_time(self, head: Head) -> None:
        """Refuse to answer after the deadline: what comes late was decided without.

        Raises
        ------
        Rejected: the deadline is over.
        """
        now = self._ticks()
        if now > head.deadline:
            raise self.too_late(head, now)

    def too_late(self, head: Head, now: int | None = None) -> Rejected:
        """The refusal of a request whose deadline is over."""
        allowed = (head.deadline - head.arrived) / 1e6
        taken = ((self._ticks() if now is None else now) - head.arrived) / 1e6
        return Rejected(
            DEADLINE_EXCEEDED,
            f"no answer within {allowed:g} ms; {taken:.0f} ms have passed",
            found=round(taken, 3),
            expected=allowed,
            hint="GET /health tells which dependency is slow",
        )

    def left(self, head: Head) -> float:
        """Seconds until the deadline."""
        return (head.deadline - self._ticks()) / 1e9
