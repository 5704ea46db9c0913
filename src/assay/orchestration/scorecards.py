"""Scorecards of challengers that are kept: one for each record of a shadow, one for each canary.

They lie beside the other reports of a model, as a document and as a page, and go into the evidence
pack of the version that they judged. A pack tells which of them the registry's log speaks of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from assay.domain.canonical import canonical_bytes
from assay.orchestration.desk import Desk
from assay.storage.files import write_atomic

FORMAT: Final = "assay-scorecard/1"
_FOLDER: Final = "scorecards"


@dataclass(frozen=True, slots=True)
class KeptScorecard:
    """A scorecard as it was read once; a running canary's is replaced at each look.

    ``files`` are the document and, where there is one, the page: name and bytes.
    """

    name: str
    files: Mapping[str, bytes]

    @property
    def data(self) -> bytes:
        """The document."""
        return self.files[self.name]


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


def scorecards_of(desk: Desk, name: str, version: str) -> list[KeptScorecard]:
    """A version's scorecards, the oldest first."""
    found = []
    for path in _folder(desk, name).glob("*.json"):
        data = path.read_bytes()
        try:
            document = json.loads(data)
        except ValueError:
            continue  # somebody else's file
        if isinstance(document, dict) and (
            (document.get("format"), document.get("model"), document.get("version"))
            == (FORMAT, name, version)
        ):
            page = path.with_suffix(".html")
            pages = {page.name: page.read_bytes()} if page.is_file() else {}
            card = KeptScorecard(path.name, {path.name: data, **pages})
            found.append((str(document.get("at")), path.name, card))
    return [card for _, _, card in sorted(found, key=lambda one: one[:2])]


def _folder(desk: Desk, name: str) -> Path:
    return desk.layout.root / "reports" / "models" / name / _FOLDER
