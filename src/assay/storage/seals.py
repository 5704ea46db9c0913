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
    data = path.read_bytes() if path.exists() else b""
    entries = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            entry: dict[str, Any] = json.loads(line)
            found = entry.pop(_CHECK)
        except (ValueError, AttributeError, KeyError):
            raise Tampered(f"{path}: line {number} is unreadable") from None
        if found != _check(entry) or line != sealed_line(entry):
            raise Tampered(f"{path}: line {number} has changed since it was written")
        entries.append(entry)
    return entries


def _check(entry: Mapping[str, Any]) -> str:
    return sha256_hex(canonical_bytes(dict(entry)))[:_DIGITS]
