"""Moments in time: int64 nanoseconds since 1970-01-01T00:00:00Z.

Inside Assay a moment is a plain ``int`` (alias :data:`Instant`). Time-zone-aware datetimes exist
only at the edges; a naive datetime is refused because it does not say which moment it means.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeAlias

from assay.errors import ContractViolation

Instant: TypeAlias = int
"""Nanoseconds since the epoch, UTC. Fits int64 for the years 1677 to 2262."""

NANOS_PER_SECOND = 1_000_000_000
MIN_INSTANT: Instant = -(2**63)
MAX_INSTANT: Instant = 2**63 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"(?P<head>\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?)?)"
    r"(?:\.(?P<fraction>\d{1,9}))?"
    r"(?P<zone>Z|z|[+-]\d{2}:?\d{2})?"
)


def from_datetime(moment: datetime) -> Instant:
    """Nanoseconds since the epoch of a time-zone-aware datetime.

    Raises
    ------
    ContractViolation: the datetime is naive.
    """
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ContractViolation(
            f"naive datetime {moment.isoformat()}: expected one with a time zone",
            hint="attach a zone, for example datetime(..., tzinfo=UTC)",
        )
    delta = moment - _EPOCH
    # Integers throughout: float seconds cannot hold nanoseconds of this century.
    return (delta.days * 86_400 + delta.seconds) * NANOS_PER_SECOND + delta.microseconds * 1_000


def to_datetime(instant: Instant) -> datetime:
    """The UTC datetime of an instant, rounded down to microseconds."""
    return _EPOCH + timedelta(microseconds=instant // 1_000)


def parse(text: str) -> Instant:
    """Read an ISO 8601 moment with a zone, to the nanosecond.

    A bare date means midnight UTC; anything else without a zone is refused.

    >>> parse("1970-01-01T00:00:01.000000002Z")
    1000000002
    """
    match = _ISO.fullmatch(text.strip())
    if match is None:
        raise ContractViolation(
            f"unreadable time {text!r}: expected ISO 8601 such as 2026-01-15T10:30Z"
        )
    head, zone = match["head"].replace(" ", "T"), match["zone"]
    if len(head) == len("2026-01-15"):
        head += "T00:00"
        zone = zone or "Z"
    if zone is None:
        raise ContractViolation(
            f"time without a zone {text!r}: expected for example {text.strip()}Z"
        )
    try:
        whole = datetime.fromisoformat(head + ("+00:00" if zone in "Zz" else zone))
    except ValueError as error:
        raise ContractViolation(f"unreadable time {text!r}: {error}") from None
    instant = from_datetime(whole) + int((match["fraction"] or "").ljust(9, "0"))
    if not MIN_INSTANT <= instant <= MAX_INSTANT:
        raise ContractViolation(f"time {text!r}: expected one of the years 1678 to 2261")
    return instant


def render(instant: Instant) -> str:
    """ISO 8601 in UTC; nanoseconds appear only when they are not zero.

    >>> render(1000000002)
    '1970-01-01T00:00:01.000000002Z'
    """
    seconds, nanos = divmod(instant, NANOS_PER_SECOND)
    whole = _whole_second(seconds)
    return f"{whole}.{nanos:09d}Z" if nanos else f"{whole}Z"


# A service's moments are all different, and most of them lie in the same second.
@lru_cache(maxsize=1024)
def _whole_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]
