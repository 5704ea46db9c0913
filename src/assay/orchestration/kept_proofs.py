"""Parity proofs kept with the lake, so that a later page can show what was proven, and when not.

A proof is about one snapshot of one view. It is kept under the view's name and is valid as long as
that snapshot is the current one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.domain.canonical import canonical_bytes
from assay.features import BuildFingerprint
from assay.orchestration.building import ParityProof
from assay.orchestration.desk import Desk
from assay.storage.files import write_atomic


def keep_proof(desk: Desk, proof: ParityProof) -> Path:
    """Write a proof beside the lake's tables, with the build that computed it; return its path."""
    build = BuildFingerprint.capture()
    document = {
        "format": 1,
        "view": proof.view,
        "manifest": proof.manifest,
        "snapshot": proof.snapshot,
        "report": proof.report.to_json(),
        "build": {"kernel_source": build.kernel_source, "golden": build.golden},
    }
    path = _path(desk, proof.view)
    write_atomic(path, canonical_bytes(document) + b"\n")
    return path


def kept_proof(desk: Desk, view: str, snapshot: str) -> Mapping[str, Any] | None:
    """The kept proof of a view's ``snapshot``; None when there is none, or one of another."""
    try:
        document = json.loads(_path(desk, view).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("snapshot") != snapshot:
        return None
    return document


def _path(desk: Desk, view: str) -> Path:
    return desk.layout.lake / "proofs" / "parity" / f"{view}.json"
