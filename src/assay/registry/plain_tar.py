"""Tar archives of strangers: plain files with short names, and nothing that has to be interpreted.

The standard library's reader also understands extended headers, sparse files and links. Each is
read before it can be refused, and a few kilobytes of them can take its whole stack, or minutes.
An archive of a version needs none of them, so any other member than a plain file ends the reading.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO

_BLOCK = 512
_PLAIN = (b"0", b"\0")
_OCTAL = re.compile(rb" *([0-7]{1,11})[ \0]*")


def plain_files(handle: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file, in order; never more bytes than the archive has.

    Raises
    ------
    ValueError: it is no tar, is compressed, ends early, or has a member that is no plain file.
    """
    left = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    while True:
        header = handle.read(_BLOCK)
        left -= len(header)
        if len(header) < _BLOCK:
            raise ValueError("it ends before its end is marked")
        if not any(header):
            return
        name, size = _member(header)
        padded = size + -size % _BLOCK
        if padded > left:
            raise ValueError(f"it ends inside of {name!r}")
        left -= padded
        content = handle.read(padded)
        yield name, content[:size]


def _member(header: bytes) -> tuple[str, int]:
    """Name and size of a plain file, from its header in POSIX.1-1988 (ustar) form."""
    stated = _number(header[148:156])
    if stated != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
        raise ValueError("it is no plain tar: a header's checksum is wrong")
    name = header[:100].partition(b"\0")[0].decode("ascii", "backslashreplace")
    if header[156:157] not in _PLAIN:
        raise ValueError(
            f"{name[:80]!r} is not a plain file: links, folders, devices, sparse files and "
            "extended headers are refused"
        )
    if header[257:263] == b"ustar\0" and any(header[345:500]):
        raise ValueError(f"{name[:80]!r} lies in a folder")
    return name, _number(header[124:136])


def _number(field: bytes) -> int:
    found = _OCTAL.fullmatch(field)
    if found is None:
        raise ValueError("it is no plain tar: a header holds no number where one belongs")
    return int(found[1], 8)
