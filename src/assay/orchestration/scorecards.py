"""Scorecards of challengers that are kept: one for each record of a shadow, one for each canary.

They lie beside the other reports of a model, as a document and as a page, and go into the evidence
pack of the version that they judged. A pack tells which of them the registry's log speaks of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from assay.domain.canonical import canonical_bytes
from assay.orchestration.desk import Desk
from assay.storage.files import write_atomic

FORMAT: Final = "assay-scorecard/1"
_FOLDER: Final = "scorecards"


def keep_scorecard(
    desk: Desk, name: str, stem: str, document: Mapping[str, Any], page: str
) -> Path:
    """Write a scorecard as ``STEM.json`` and ``STEM.html``; the path of the document.

    Parameters
    ----------
    document: at least ``kind`` (``shadow`` or ``canary``), ``version`` and ``at``.
    """
    folder = _folder(desk, name)
    write_atomic(folder / f"{stem}.html", page.encode())
    path = folder / f"{stem}.json"
    write_atomic(path, canonical_bytes({"format": FORMAT, "model": name, **document}) + b"\n")
    return path


def scorecards_of(desk: Desk, name: str, version: str) -> list[Path]:
    """The documents of a version's scorecards, the oldest first."""
    found = []
    for path in _folder(desk, name).glob("*.json"):
        try:
            document = json.loads(path.read_bytes())
        except ValueError:
            continue  # somebody else's file
        if isinstance(document, dict) and (
            (document.get("format"), document.get("model"), document.get("version"))
            == (FORMAT, name, version)
        ):
            found.append((str(document.get("at")), path))
    return [path for _, path in sorted(found)]


def _folder(desk: Desk, name: str) -> Path:
    return desk.layout.root / "reports" / "models" / name / _FOLDER
