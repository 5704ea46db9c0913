"""Names of keys, and the place of a row in the total order as bytes that sort as it does.

Everything about one view carries one hash tag, ``{namespace:view}``, so that a cluster keeps it on
one node and one script may touch all of it. Names of views are percent-encoded there: a brace in a
name would end the tag.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from urllib.parse import quote

from assay.domain.instants import MAX_INSTANT, MIN_INSTANT, Instant
from assay.domain.order import VersionKey

_SIGN = 1 << 63
_MOMENT = struct.Struct(">Q")
_PLACE = struct.Struct(">4Q")
PLACE_SIZE = _PLACE.size


def moment_bytes(moment: Instant) -> bytes:
    """Eight bytes, big endian with the sign bit flipped: they sort as the moments do.

    A Lua number is a double and loses the last digits of a moment in nanoseconds.
    """
    return _MOMENT.pack(min(max(moment, MIN_INSTANT), MAX_INSTANT) + _SIGN)


def place_bytes(key: VersionKey) -> bytes:
    """The 32 bytes of a place in the total order; sorting them is sorting the places."""
    event_time, known_time, source_rank, sequence = key
    return _PLACE.pack(
        event_time + _SIGN, known_time + _SIGN, source_rank + _SIGN, sequence + _SIGN
    )


def views_key(namespace: str) -> bytes:
    """The set of the names of all views that were ever written."""
    return f"{{{quote(namespace, safe='')}}}views".encode()


@dataclass(frozen=True, slots=True)
class ViewKeys:
    """The keys of one view.

    Attributes
    ----------
    tag: what all of them begin with.
    marker: exists while any row of the view does.
    nothing: never exists; scripts rehearse their writes on it.
    newest, earlier: prefixes of the keys of an entity: its newest row, packed, and a sorted set of
        the rows before that one.
    """

    tag: bytes
    marker: bytes
    nothing: bytes
    newest: bytes
    earlier: bytes

    @classmethod
    def of(cls, namespace: str, view: str) -> ViewKeys:
        """The keys of a view.

        Raises
        ------
        UnicodeEncodeError: a name has no UTF-8 form, so no row can have been stored under it.
        """
        tag = f"{{{quote(namespace, safe='')}:{quote(view, safe='')}}}"
        names = ("", "view", "nothing", "newest:", "earlier:")
        return cls(*(f"{tag}{name}".encode() for name in names))
