"""The note that every change of a view's schema needs, in ``docs/changelog/features.md``."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from assay.domain.canonical import sha256_hex
from assay.errors import Refused

_ENTRY = re.compile(r"^[-*] +(.*(?:\n+ +\S.*)*)", re.MULTILINE)


def notes_about(path: Path, view: str) -> tuple[str, ...]:
    """Digests of the entries of a list that name the view as code, in the order of the page."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return ()
    entries = (" ".join(found.split()) for found in _ENTRY.findall(text))
    return tuple(sha256_hex(entry.encode()) for entry in entries if f"`{view}`" in entry)


def require_note(path: Path, view: str, known: Collection[str]) -> tuple[str, ...]:
    """Digests of the notes about a view, one of which must be a new one.

    Parameters
    ----------
    known: digests of the notes that were there when the view changed last.

    Raises
    ------
    Refused: there is no note about the view that is not among them.
    """
    notes = notes_about(path, view)
    if any(note not in known for note in notes):
        return notes
    new = "a new entry" if known else "an entry"
    raise Refused(
        f"{path} says nothing {'new ' if known else ''}about view {view}: expected {new} that "
        "names it",
        hint=f"- `{view}`: what changed, and why",
    )
