"""Lines of a log that know when one of their bytes has changed.

::

    {"check":"<16 hexadecimal digits>","committed_at":5,"snapshot":"..."}

The check is the beginning of the SHA-256 of the line without it: enough against a failing disk.
Against a person who rewrites the line and its check there are chains and signatures, elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from assay.domain.canonical import canonical_bytes, sha256_hex
from assay.errors import Tampered

_CHECK: Final = "check"
_DIGITS: Final = 16


def sealed_line(entry: Mapping[str, Any]) -> bytes:
    """The line for ``entry``, without its line break."""
    return canonical_bytes({**entry, _CHECK: _check(entry)})


def sealed_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a log of sealed lines; an unfinished last line is none. No file: no entries.

    Raises
    ------
    Tampered: a line is not the one that was written; names the file and the line.
    """
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    entries = []
    for number, line in enumerate(lines[:-1], start=1):
        entry = _entry(line)
        if entry is None:
            raise Tampered(f"{path}: line {number} has changed since it was written")
        entries.append(entry)
    # A whole entry and then another byte than a line break is no line that a crash cut off.
    if _entry(lines[-1][:-1]) is not None:
        raise Tampered(f"{path}: line {len(lines)} has changed since it was written")
    return entries


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry: dict[str, Any] = json.loads(line)
        del entry[_CHECK]
        return entry if line == sealed_line(entry) else None
    except (ValueError, TypeError, KeyError):
        return None


def _check(entry: Mapping[str, Any]) -> str:
    return sha256_hex(canonical_bytes(dict(entry)))[:_DIGITS]
