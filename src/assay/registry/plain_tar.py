"""Tar archives of versions: plain files with short names, and nothing that has to be interpreted.

:func:`pack` writes one and :func:`unpack` reads one of a stranger; whoever moves versions uses
these two.

The standard library's reader also understands extended headers, sparse files and links. Each is
read before it can be refused, and a few kilobytes of them can take its whole stack, or minutes.
An archive of a version needs none of them, so any other member than a plain file ends the reading.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import BinaryIO, Final

MAX_FILES: Final = 256

_BLOCK = 512
_PLAIN = (b"0", b"\0")
_OCTAL = re.compile(rb" *([0-7]{1,11})[ \0]*")


def pack(handle: BinaryIO, files: Mapping[str, bytes]) -> None:
    """Write files in their order, undated: equal files give equal bytes."""
    with tarfile.open(fileobj=handle, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o444
            archive.addfile(member, BytesIO(data))


def unpack(handle: BinaryIO, belongs: Callable[[str], bool], expected: str) -> dict[str, bytes]:
    """The files of an archive by name; it is read no further than the first that does not belong.

    Parameters
    ----------
    belongs: whether a file of that name may be in it. expected: the same in words.

    Raises
    ------
    ValueError: as :func:`plain_files`; or a name is foreign, stands twice, or is one too many.
    """
    files: dict[str, bytes] = {}
    for name, data in plain_files(handle):
        if len(files) == MAX_FILES:
            raise ValueError(f"it has more than {MAX_FILES} files")
        if not belongs(name):
            raise ValueError(f"{name[:80]!r} does not belong there: expected {expected}")
        if name in files:
            raise ValueError(f"{name!r} stands twice")
        files[name] = data
    return files


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
