"""A report in the desk's folder: JSON, Markdown and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from assay.domain.canonical import canonical_bytes
from assay.domain.instants import render
from assay.orchestration.desk import Desk
from assay.orchestration.parity.following import Following, markdown_of
from assay.orchestration.parity.page import render_following
from assay.storage.files import write_atomic

FOLDER: Final = Path("reports/online_following")


@dataclass(frozen=True, slots=True)
class Written:
    """Where a report lies."""

    json: Path
    markdown: Path
    page: Path


def write_following(desk: Desk, following: Following) -> Written:
    """Write the three files; an earlier report of the same day is replaced."""
    stem = desk.layout.root / FOLDER / render(following.at)[:10]
    written = Written(*(stem.with_suffix(suffix) for suffix in (".json", ".md", ".html")))
    write_atomic(written.json, canonical_bytes(following.to_json()) + b"\n")
    write_atomic(written.markdown, markdown_of(following).encode())
    write_atomic(written.page, render_following(following).encode())
    return written
