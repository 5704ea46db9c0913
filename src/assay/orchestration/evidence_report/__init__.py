"""One page about one version, for whoever has to answer for letting it trade.

1. :mod:`~assay.orchestration.evidence_report.gathering` measures the series behind the recorded
   evidence again: equity, rolling ratios, splits, reliability, and reads what is recorded.
2. :mod:`~assay.orchestration.evidence_report.pictures` draws them.
3. :mod:`~assay.orchestration.evidence_report.page` puts them beside the gates, the controls and
   what was not tested, and why.

The same desk and version give the same page, byte for byte.
"""

from __future__ import annotations

from pathlib import Path

from assay.orchestration.desk import Desk
from assay.orchestration.evidence_report.gathering import EvidenceSheet, gather_evidence
from assay.orchestration.evidence_report.page import render_evidence
from assay.storage.files import write_atomic

__all__ = ["EvidenceSheet", "gather_evidence", "render_evidence", "write_evidence_report"]


def write_evidence_report(
    desk: Desk,
    name: str,
    version: str,
    *,
    path: Path | None = None,
) -> Path:
    """Write a version's page (default ``reports/models/<name>/evidence-<version>.html``).

    Raises
    ------
    NotFound: no such version.
    """
    sheet = gather_evidence(desk, name, version)
    folder = desk.layout.root / "reports" / "models" / name
    target = path or folder / f"evidence-{sheet.version.record.version}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, render_evidence(sheet).encode("utf-8"))
    return target
